"""The REST suite over other stores: messages and catalog on MongoDB.

And on the other HTTP server: tests/test_twisted_web.py runs what is not run there.
"""

from __future__ import annotations

from tests.matrix import Combination, rest_tests

COMBINATION = Combination.named("mongodb+mongodb")

globals().update(
    rest_tests(COMBINATION, __name__, settings=["http_server=twisted.web"])
)
