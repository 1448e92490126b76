"""The model of a message store passes the suite that it is to judge drivers with."""

from __future__ import annotations

from itertools import count

from twisted.trial.unittest import TestCase

from mqsvc.storage.ids import format_id
from tests.storage.contract import START, make_store_tests
from tests.storage.model import ModelAsStore, ModelStore


class ModelPlaces:
    """Models by path, for as long as the tests run."""

    def __init__(self) -> None:
        self._models: dict[str, ModelStore] = {}

    def open_store(self, testcase: TestCase, path: str | None = None) -> ModelAsStore:
        """A store over the model that is kept at the path."""
        if path is None:
            return ModelAsStore(new_model())
        return ModelAsStore(self._models.setdefault(path, new_model()))


def new_model() -> ModelStore:
    """An empty model that numbers messages and claims by itself."""
    messages, claims = count(START * 1000), count(1)
    return ModelStore(
        lambda: format_id(next(messages), 0), lambda: format_id(0, next(claims))
    )


globals().update(make_store_tests("Model", ModelPlaces().open_store))
