"""The REST suite over the stores that ``TEST_STORES`` names, for ``scripts/matrix``."""

from __future__ import annotations

import os

from tests.matrix import Combination, rest_tests

COMBINATION = Combination.named(os.environ["TEST_STORES"])

globals().update(rest_tests(COMBINATION, __name__, without=()))
