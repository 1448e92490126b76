"""Cross-origin resource sharing: which pages of other sites may use the API.

The protocol is that of the Fetch standard, https://fetch.spec.whatwg.org/#http-cors-protocol;
rest.md 1.4 says what the answers hold.
"""

from __future__ import annotations

from attrs import frozen
from msgspec import Struct
from twisted.web.iweb import IRequest

from mqsvc.rest.call import header

ANY = "*"


class CORSOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``cors`` group.

    :ivar allowed_origin: scheme, host and port of pages that may call, or ``*`` for
        all, which then come without credentials; none at all by default.
    :ivar max_age: seconds that a browser may remember what it was allowed.
    """

    allowed_origin: tuple[str, ...] = ()
    allow_credentials: bool = True
    max_age: int = 3600
    allow_methods: tuple[str, ...] = (
        *("GET", "PUT", "POST", "DELETE", "PATCH", "HEAD"),
    )
    allow_headers: tuple[str, ...] = (
        *("Client-ID", "Content-Type", "X-Project-ID", "X-Auth-Token", "X-Roles"),
        *("URL-Signature", "URL-Expires", "URL-Methods", "URL-Paths"),
        *("X-Identity-Status", "X-Service-Catalog", "X-User-Id", "X-Tenant-Id"),
        *("X-OpenStack-Request-ID", "X-Trace-Info", "X-Trace-HMAC", "EXTRA-SPEC"),
    )
    expose_headers: tuple[str, ...] = (
        *("X-Auth-Token", "X-Subject-Token", "X-Service-Token"),
        *("X-OpenStack-Request-ID", "Location", "Retry-After"),
    )


@frozen
class CORS:
    """Sets the headers that let a page see an answer."""

    _options: CORSOptions

    def apply(self, request: IRequest) -> bool:
        """Set the headers for a request of a page, if it may call.

        :return: whether the request was a preflight and is answered with them.
        """
        if not self._options.allowed_origin:
            return False
        request.responseHeaders.addRawHeader("vary", "Origin")
        origin = header(request, "Origin")
        if origin is None or not self._set_origin(request, origin):
            return False
        asked = header(request, "Access-Control-Request-Method")
        if request.method == b"OPTIONS" and asked is not None:
            self._set_preflight(request)
            return True
        exposed = ",".join(self._options.expose_headers)
        request.setHeader("Access-Control-Expose-Headers", exposed)
        return False

    def _set_origin(self, request: IRequest, origin: str) -> bool:
        allowed = self._options.allowed_origin
        if origin in allowed:
            request.setHeader("Access-Control-Allow-Origin", origin)
            if self._options.allow_credentials:
                request.setHeader("Access-Control-Allow-Credentials", "true")
            return True
        if ANY in allowed:
            request.setHeader("Access-Control-Allow-Origin", ANY)
            return True
        return False

    def _set_preflight(self, request: IRequest) -> None:
        options = self._options
        for name, value in (
            ("Access-Control-Allow-Methods", ",".join(options.allow_methods)),
            ("Access-Control-Allow-Headers", ",".join(options.allow_headers)),
            ("Access-Control-Max-Age", str(options.max_age)),
        ):
            request.setHeader(name, value)
