"""What is known of a running pipeline: metrics, latencies, traces, objectives, drift."""
