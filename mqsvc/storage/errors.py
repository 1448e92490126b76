"""What can go wrong while a store is opened, before anything is served."""

from __future__ import annotations


class StoreOpenError(Exception):
    """A store cannot be used as configured; the text is one line for the operator."""


class SchemaTooNew(StoreOpenError):
    """The stored data was written by a newer version of the program."""

    def __init__(self, where: str, found: int, known: int) -> None:
        super().__init__(
            f"{where} has schema version {found}, this program knows versions up to "
            f"{known}: start the newer mqsvc that wrote it, or name another store"
        )
