"""The door to the bus for all that is not the stages' own consumer."""
