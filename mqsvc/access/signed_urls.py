"""Pre-signed URLs: access to some paths of a queue without a token (rest.md 2.3)."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from attrs import frozen

from mqsvc.access.identity import Headers, project_of
from mqsvc.messaging.errors import InvalidBody, InvalidRequest, UnknownRoute
from mqsvc.messaging.model import Destination

_FORMAT = "%Y-%m-%dT%H:%M:%S"
_DAY = timedelta(days=1)
_SHAREABLE = ("messages", "subscriptions", "claims")
_KEYS = {"paths", "methods", "expires"}
_METHOD = re.compile(r"[A-Za-z]+\Z")

_SEPARATOR = frozenset("\\")
"""What would let a part of the signed text be taken for the next one."""


def sign(
    secret: str,
    paths: Iterable[str],
    methods: Iterable[str],
    project: str | None,
    expires: str,
) -> str:
    """The signature of a grant: HMAC-SHA256 in lower-case hexadecimal.

    :param expires: UTC as ``YYYY-MM-DDTHH:MM:SS``.
    """
    # The separator is a backslash and an n, two characters, as clients expect.
    signed = r"\n".join(
        (",".join(sorted(paths)), ",".join(sorted(methods)), str(project), expires)
    )
    return hmac.digest(secret.encode(), signed.encode(), "sha256").hex()


@frozen
class Grant:
    """What a signature allows, and the signature."""

    paths: list[str]
    methods: list[str]
    project: str
    expires: str
    signature: str


@frozen
class SignedUrls:
    """Issues and checks signatures.

    :param secret: the key; without one nothing is issued and no signature holds.
    """

    _secret: str | None

    def share(self, destination: Destination, document: Any, now: int) -> Grant:
        """Sign access to a queue.

        :param document: ``paths``, ``methods`` and ``expires``, all optional.
        :param now: milliseconds since the epoch.
        :raise InvalidRequest: it asks for what cannot be granted, or no secret is
            configured.
        """
        if not isinstance(document, Mapping):
            raise InvalidBody("The body must be a dict (a JSON object).")
        if self._secret is None:
            raise InvalidRequest("This server signs no URLs: it has no secret key.")
        if unknown := set(document) - _KEYS:
            raise InvalidRequest(f"Unknown keys: {', '.join(sorted(unknown))}.")
        paths = _paths(document, f"/v2/queues/{destination.name}")
        methods = _methods(document)
        expires = _expiry(document.get("expires"), _moment(now)).strftime(_FORMAT)
        project = destination.project
        signature = sign(self._secret, paths, methods, project, expires)
        return Grant(paths, methods, project, expires, signature)

    def check(self, headers: Headers, method: str, path: str, now: int) -> None:
        """Let a signed request pass.

        :param path: the path of the request, decoded.
        :param now: milliseconds since the epoch.
        :raise UnknownRoute: for every failure, so that nothing can be learnt from it.
        """
        signature = headers("URL-Signature") or ""
        paths = (headers("URL-Paths") or "").split(",")
        methods = (headers("URL-Methods") or "").split(",")
        try:
            expires = _parse(headers("URL-Expires"))
        except ValueError:
            raise UnknownRoute from None
        granted = (
            self._secret is not None
            and not _SEPARATOR.intersection("".join((*paths, *methods)))
            and method in methods
            and any(path == p or path.startswith(f"{p}/") for p in paths if p)
            and expires > _moment(now)
            and _same(
                sign(
                    self._secret,
                    paths,
                    methods,
                    project_of(headers),
                    expires.strftime(_FORMAT),
                ),
                signature,
            )
        )
        if not granted:
            raise UnknownRoute


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _moment(now: int) -> datetime:
    return datetime.fromtimestamp(now // 1000, UTC)


def _names(document: Mapping[str, Any], key: str, default: str) -> list[str]:
    names = document.get(key)
    if names is None or names == []:
        return [default]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidBody(f"'{key}' must be an array of strings.")
    return names


def _paths(document: Mapping[str, Any], base: str) -> list[str]:
    names = _names(document, "paths", "messages")
    if not set(names) <= set(_SHAREABLE):
        raise InvalidRequest(
            f"Paths must be supported in the list {', '.join(_SHAREABLE)}."
        )
    return [f"{base}/{name}" for name in sorted(names)]


def _methods(document: Mapping[str, Any]) -> list[str]:
    methods = _names(document, "methods", "GET")
    if not all(map(_METHOD.match, methods)):
        raise InvalidRequest("'methods' must be HTTP methods, such as GET.")
    return sorted(methods)


def _expiry(value: Any, now: datetime) -> datetime:
    if value is None:
        return now + _DAY
    try:
        expires = _parse(value)
    except ValueError:
        raise InvalidBody("'expires' must be an ISO 8601 date or date-time.") from None
    if expires < now:
        raise InvalidRequest("'expires' is in the past.")
    return expires


def _parse(value: Any) -> datetime:
    """ISO 8601 to UTC in whole seconds; digits alone are no date here.

    :raise ValueError: it is something else.
    """
    if not isinstance(value, str) or value.isdigit():
        raise ValueError(value)
    try:
        moment = datetime.fromisoformat(value.strip())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC).replace(microsecond=0)
    except OverflowError as error:
        raise ValueError(value) from error
