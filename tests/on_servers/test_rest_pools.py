"""The REST suite over other stores: two pools."""

from __future__ import annotations

from tests.matrix import Combination, rest_tests

globals().update(rest_tests(Combination.named("sqlite+sqlite+pooled"), __name__))
