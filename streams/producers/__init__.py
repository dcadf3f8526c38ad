"""Sources of telemetry: this machine's own sensors, files."""
