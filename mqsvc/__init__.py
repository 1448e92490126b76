"""mqsvc: a multi-tenant messaging service with an HTTP API."""

__version__ = "0.1.0"
