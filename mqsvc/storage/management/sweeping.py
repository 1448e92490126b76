"""What the sweeps of all management stores agree on."""

from __future__ import annotations

MAX_SWEPT = 500
"""Subscriptions that one sweep removes at most under a lease, and expired ones."""

ENDED = 0
"""The end of a lease that is not renewed any more.

First nobody can renew it, then its subscriptions are deleted in pieces, and at last the
lease itself.
"""
