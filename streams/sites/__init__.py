"""Pipelines on this machine: bus and store behind them, where they begin, their workers' start."""
