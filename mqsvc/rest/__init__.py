"""The HTTP API: one module per resource, all translated to operations."""
