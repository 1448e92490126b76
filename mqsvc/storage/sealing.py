"""Bodies under lock and key: AES-256-GCM, and the text that is stored.

A sealed body is ``!1:KEY:TEXT``: the version of this form, the id of the key, and
nonce, cipher text and tag in Base64. No JSON text begins like that, and all
of it is ASCII, which every store keeps as it is.
"""

from __future__ import annotations

import os
import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Mapping, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mqsvc.storage.errors import StoreOpenError

RandomBytes = Callable[[int], bytes]
"""Like :func:`os.urandom`: so many bytes that nobody can foresee."""

MARK = b"!"
"""What a sealed body begins with."""

KEY_BYTES = 32

_NONCE_BYTES = 12
_VERSION = b"!1:"
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}\Z")


class CannotUnseal(Exception):
    """A sealed body that cannot be read; the text says why, and not what it is."""


class Keys:
    """The keys of a server: the first one seals, each one unseals what it sealed.

    :param keys: by their ids, in their order; 32 bytes each.
    :param random_bytes: where nonces come from.
    """

    def __init__(
        self, keys: Mapping[str, bytes], random_bytes: RandomBytes = os.urandom
    ) -> None:
        self._ciphers = {key_id.encode(): AESGCM(key) for key_id, key in keys.items()}
        self._random_bytes = random_bytes
        self._first = next(iter(self._ciphers.items()), None)

    @property
    def can_seal(self) -> bool:
        """Whether there is any key."""
        return self._first is not None

    def seal(self, project: str, body: bytes) -> bytes:
        """What is stored in place of a body of a project.

        :raise RuntimeError: there is no key; see :attr:`can_seal`.
        """
        if self._first is None:
            raise RuntimeError("a body can be sealed only where there is a key")
        key_id, cipher = self._first
        nonce = self._random_bytes(_NONCE_BYTES)
        sealed = nonce + cipher.encrypt(nonce, body, _bound_to(project))
        return b"%b%b:%b" % (_VERSION, key_id, b2a_base64(sealed, newline=False))

    def unseal(self, project: str, text: bytes) -> bytes:
        """The body in a text that begins with :data:`MARK`.

        :raise CannotUnseal: the key is not there, or does not fit.
        """
        key_id, _, encoded = text.removeprefix(_VERSION).partition(b":")
        cipher = self._ciphers.get(key_id) if text.startswith(_VERSION) else None
        if cipher is None:
            raise CannotUnseal(f"there is no key {_shown(key_id)!r}")
        try:
            sealed = a2b_base64(encoded, strict_mode=True)
            nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            return cipher.decrypt(nonce, rest, _bound_to(project))
        except (InvalidTag, ValueError) as error:
            raise CannotUnseal(
                f"it is damaged, or was not sealed with this key {_shown(key_id)!r}"
            ) from error


def parse_keys(texts: Sequence[str]) -> Keys:
    """Keys written as ``ID:BASE64``.

    :raise StoreOpenError: one is malformed; the text shows nothing of it.
    """
    keys: dict[str, bytes] = {}
    for number, text in enumerate(texts, 1):
        key_id, _, encoded = text.partition(":")
        key = _decoded(encoded)
        if not _KEY_ID.match(key_id) or len(key) != KEY_BYTES:
            raise StoreOpenError(
                f"encryption.keys: entry {number}: expected ID:KEY, the id of up to 32 "
                "letters, digits, '_' and '-', the key 32 bytes in Base64, as "
                "'openssl rand -base64 32' writes them"
            )
        if key_id in keys:
            raise StoreOpenError(
                f"encryption.keys: entry {number}: another key has the same id; give "
                "each key its own"
            )
        keys[key_id] = key
    return Keys(keys)


def _decoded(encoded: str) -> bytes:
    try:
        return a2b_base64(encoded, strict_mode=True)
    except ValueError:
        return b""


def _bound_to(project: str) -> bytes:
    """What a sealed body is good for: dead letters change queues, never projects."""
    return b"mqsvc body:" + project.encode(errors="surrogatepass")


def _shown(key_id: bytes) -> str:
    """The id of a key for the log; what is none is not repeated."""
    text = key_id.decode("ascii", "replace")
    return text if _KEY_ID.match(text) else "?"
