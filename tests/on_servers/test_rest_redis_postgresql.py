"""The REST suite over other stores: messages on Redis, catalog in PostgreSQL."""

from __future__ import annotations

from tests.matrix import Combination, rest_tests

globals().update(rest_tests(Combination.named("redis+postgresql"), __name__))
