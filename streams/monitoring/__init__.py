"""Alerts and dashboards for Prometheus and Grafana, made from the metric catalogue."""
