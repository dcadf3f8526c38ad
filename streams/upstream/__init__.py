"""Summaries and the contract of what may leave a site."""
