"""The door to the bus, for all but the stages' own consumer: options, errors, topics, reads."""
