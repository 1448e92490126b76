"""Ways of signals to other processes; see docs/architecture.rst."""
