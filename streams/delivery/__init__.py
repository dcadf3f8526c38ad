"""Delivery: ordered lanes per partition, checkpoint protocol, dead letter, retry."""
