"""One request as a handler sees it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

from twisted.web.iweb import IRequest

from mqsvc.access.identity import Caller, Headers
from mqsvc.messaging.errors import BodyTooLarge, InvalidBody
from mqsvc.messaging.model import Destination
from mqsvc.rest.query import Query
from mqsvc.wire import codec
from mqsvc.wire.http_head import as_text
from mqsvc.wire.http_request import LeanRequest


class Body(Protocol):
    """The body of a request as far as it was kept."""

    size: int
    """Bytes that came."""

    def getvalue(self) -> bytes:
        """Bytes that were kept: all, or none when they were too many."""


class Call:
    """What is known after all checks that do not depend on the operation.

    :ivar caller: who calls; not to be asked for on routes open to everybody.
    :ivar destination: the queue or topic in the path, on routes that have one.
    :ivar arguments: the other variables of the path.
    """

    __slots__ = ("_caller", "_destination", "_query", "_request", "arguments")

    def __init__(
        self,
        request: IRequest,
        caller: Caller | None,
        destination: Destination | None,
        arguments: Mapping[str, str],
    ) -> None:
        self._request = request
        self._caller = caller
        self._destination = destination
        self._query: Query | None = None
        self.arguments = arguments

    @property
    def caller(self) -> Caller:
        """Who calls."""
        if self._caller is None:
            raise AssertionError("this route does not identify its callers")
        return self._caller

    @property
    def destination(self) -> Destination:
        """The queue or topic of the path."""
        if self._destination is None:
            raise AssertionError("this route has no queue or topic in its path")
        return self._destination

    @property
    def path(self) -> str:
        """The path of the destination."""
        return path_of(self.destination)

    @property
    def target(self) -> str:
        """The path as it was asked for, with its query."""
        uri: bytes = self._request.uri
        return "/" + uri.decode("latin-1").lstrip("/")

    @property
    def query(self) -> Query:
        """The query parameters."""
        if self._query is None:
            self._query = Query(self._request.uri.partition(b"?")[2].decode("latin-1"))
        return self._query

    @property
    def content_type(self) -> str:
        """The Content-Type header as sent, or nothing."""
        return header(self._request, "Content-Type") or ""

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return self._body.size

    @property
    def _body(self) -> Body:
        body: Body = self._request.content
        return body

    def document(self) -> Any:
        """The body as JSON: an object or an array; none when it is empty.

        :raise InvalidBody: it is no such thing.
        :raise BodyTooLarge: it was too large to be kept.
        """
        body = self._body
        raw = body.getvalue()
        if body.size > len(raw):
            raise BodyTooLarge(
                f"The body has {body.size} bytes, more than this server takes."
            )
        if not raw:
            return None
        try:
            document = codec.decode(raw)
        except codec.CodecError as error:
            raise InvalidBody(f"Request body could not be parsed: {error}.") from error
        if not isinstance(document, (dict, list)):
            raise InvalidBody("Request body could not be parsed: it is a bare value.")
        return document

    def object(self) -> dict[str, Any] | None:
        """The body as a JSON object; none when it is empty.

        :raise InvalidBody: it is something else.
        """
        document = self.document()
        return None if document is None else _object(document)

    def required_document(self) -> Any:
        """The body as JSON.

        :raise InvalidBody: it is empty or no JSON.
        """
        document = self.document()
        if document is None:
            raise InvalidBody("Request body could not be parsed: it is empty.")
        return document

    def required_object(self) -> dict[str, Any]:
        """The body as a JSON object.

        :raise InvalidBody: it is empty or something else.
        """
        return _object(self.required_document())


def headers_of(request: IRequest) -> Headers:
    """The headers of a request as texts; of several of a name, the last one."""
    return (
        request.head.text
        if isinstance(request, LeanRequest)
        else partial(header, request)
    )


def header(request: IRequest, name: str) -> str | None:
    """One header of a request as text; of several, the last one."""
    value: bytes | None = request.getHeader(name.encode())
    return None if value is None else as_text(value)


def path_of(destination: Destination) -> str:
    """The path of a queue or topic; its name needs no escapes."""
    return f"/v2/{destination.kind}s/{destination.name}"


def _object(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise InvalidBody("Document type not supported.")
    return document
