"""The REST suite over other stores: messages and catalog on MongoDB."""

from __future__ import annotations

from tests.matrix import Combination, rest_tests

globals().update(rest_tests(Combination.named("mongodb+mongodb"), __name__))
