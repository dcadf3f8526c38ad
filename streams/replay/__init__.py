"""The past of a topic, beside everything that is live: ranges, reads, tables."""
