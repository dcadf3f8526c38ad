"""Health: a watchdog over the stages, what they depend on, and endpoints that tell of both."""
