"""The reference as a WSGI application whose empty answers say that they are empty.

uWSGI's HTTP router closes a connection after an answer without ``Content-Length``, and
the reference sends none with an empty body: without this, most of what would be
measured there is connecting. For uWSGI alone; see ``servers.py``.
"""

from collections.abc import Callable, Iterable
from typing import Any

from zaqar.transport.wsgi.app import application as reference


def application(
    environ: dict[str, Any], start_response: Callable[..., Any]
) -> Iterable[bytes]:
    """Answer as the reference does."""

    def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
        if all(name.lower() != "content-length" for name, _ in headers):
            headers.append(("Content-Length", "0"))
        return start_response(status, headers, *rest)

    return reference(environ, start)
