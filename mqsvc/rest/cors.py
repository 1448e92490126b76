"""Cross-origin resource sharing: which pages of other sites may use the API.

The protocol is that of the Fetch standard, https://fetch.spec.whatwg.org/#http-cors-protocol;
rest.md 1.4 says what the answers hold.
"""

from __future__ import annotations

from attrs import frozen
from twisted.web.iweb import IRequest

from mqsvc.rest.call import header

ANY = "*"

METHODS = "GET,PUT,POST,DELETE,PATCH,HEAD"

REQUEST_HEADERS = (
    *("Client-ID", "Content-Type", "X-Project-ID", "X-Auth-Token", "X-Roles"),
    *("URL-Signature", "URL-Expires", "URL-Methods", "URL-Paths", "EXTRA-SPEC"),
    *("X-Identity-Status", "X-Service-Catalog", "X-User-Id", "X-Tenant-Id"),
    *("X-OpenStack-Request-ID", "X-Trace-Info", "X-Trace-HMAC"),
)
"""What pages may send: what the API reads, and what rest.md 1.4 lists."""

ANSWER_HEADERS = (
    *("X-Auth-Token", "X-Subject-Token", "X-Service-Token"),
    *("X-OpenStack-Request-ID", "Location", "Retry-After"),
)
"""What pages may see."""


@frozen
class CORS:
    """Sets the headers that let a page see an answer.

    :ivar allowed_origin: of pages that may call, or :data:`ANY`.
    :ivar max_age: seconds that a browser may remember what it was allowed.
    :ivar allow_headers: beside :data:`REQUEST_HEADERS`.
    :ivar expose_headers: beside :data:`ANSWER_HEADERS`.
    """

    allowed_origin: tuple[str, ...] = ()
    allow_credentials: bool = True
    max_age: int = 3600
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()

    def apply(self, request: IRequest) -> bool:
        """Set the headers for a request of a page, if it may call.

        :return: whether the request was a preflight and is answered with them.
        """
        if not self.allowed_origin:
            return False
        request.responseHeaders.addRawHeader("vary", "Origin")
        origin = header(request, "Origin")
        if origin is None or not self._set_origin(request, origin):
            return False
        asked = header(request, "Access-Control-Request-Method")
        if request.method == b"OPTIONS" and asked is not None:
            self._set_preflight(request)
            return True
        exposed = ",".join((*ANSWER_HEADERS, *self.expose_headers))
        request.setHeader("Access-Control-Expose-Headers", exposed)
        return False

    def _set_origin(self, request: IRequest, origin: str) -> bool:
        allowed = self.allowed_origin
        # Some client may send "*" itself, which is no origin.
        if origin != ANY and origin in allowed:
            request.setHeader("Access-Control-Allow-Origin", origin)
            if self.allow_credentials:
                request.setHeader("Access-Control-Allow-Credentials", "true")
            return True
        if ANY in allowed:
            request.setHeader("Access-Control-Allow-Origin", ANY)
            return True
        return False

    def _set_preflight(self, request: IRequest) -> None:
        for name, value in (
            ("Access-Control-Allow-Methods", METHODS),
            (
                "Access-Control-Allow-Headers",
                ",".join((*REQUEST_HEADERS, *self.allow_headers)),
            ),
            ("Access-Control-Max-Age", str(self.max_age)),
        ):
            request.setHeader(name, value)
