"""Where queues and messages are kept: interfaces and drivers."""
