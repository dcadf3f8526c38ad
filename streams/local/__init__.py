"""Services on this machine: the embedded bus and store, and a durable local Kafka."""
