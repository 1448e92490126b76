"""Drivers of the message store (the pools)."""
