"""Drivers of the management store (the catalog)."""
