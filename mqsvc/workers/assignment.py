"""What a supervisor tells a worker when it starts it."""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from typing import BinaryIO

from attrs import field, frozen
from msgspec import structs

from mqsvc.bus.board import Place
from mqsvc.config import Settings
from mqsvc.messaging.quotas import QuotaLimits

CHECK = "check"
"""Instead of its number tells a worker only to look whether it could serve."""


@frozen
class Assignment:
    """Which worker it is, and what it was given.

    :ivar settings: of the whole server; they hold secrets, and so come through a pipe.
    :ivar data_dir: its absolute path.
    :ivar lock: the descriptor that keeps the data directory locked.
    :ivar reactor: the module with the kind of reactor that the operator chose.
    :ivar sockets: by option, the descriptor of the socket that its endpoint bound.
    """

    settings: Settings = field(repr=False)
    data_dir: str
    lock: int
    place: Place
    reactor: str
    sockets: Mapping[str, int] = field(factory=dict)

    def written(self) -> bytes:
        """As it is sent to a worker."""
        return pickle.dumps(self)

    @classmethod
    def read(cls, file: BinaryIO) -> Assignment:
        """What a supervisor sent.

        :raise EOFError: it has gone.
        """
        # Only a supervisor has the other end of the pipe. Options of stages may be of
        # types that JSON and MessagePack would change on the way.
        assignment: Assignment = pickle.load(file)  # noqa: S301
        return assignment

    @property
    def share(self) -> Settings:
        """The settings with what is this worker's part of the quotas."""
        quotas = share_of(self.settings.quotas, self.place.count)
        return structs.replace(self.settings, quotas=quotas)


def share_of(quotas: QuotaLimits, workers: int) -> QuotaLimits:
    """The part of each of so many workers, rounded up, of what each counts itself."""
    return structs.replace(
        quotas,
        messages_per_second=math.ceil(quotas.messages_per_second / workers),
        max_connections=math.ceil(quotas.max_connections / workers),
    )
