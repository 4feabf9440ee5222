"""Listen on the loopback and refuse requests meant for another host or sent by a foreign page.

A page in the user's browser can reach every local server. It cannot choose its `Origin`, nor can
a name that was rebound to 127.0.0.1 choose the `Host` of a request, so both are checked.
"""

from __future__ import annotations

import socket

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from warehouse.errors import UsageError

HOST = "127.0.0.1"


def listen(port: int = 0) -> socket.socket:
    """A socket on the loopback that accepts already; 0: any free port.

    Raises:
        UsageError: the port is taken.
    """
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise UsageError(f"port {port} cannot be used ({error}); leave --port out") from None
    listening.listen(128)
    return listening


def is_own_host(headers: Headers, port: int) -> bool:
    """Whether a request names this server by a loopback name and its port."""
    hosts = headers.getlist("host")
    return len(hosts) == 1 and hosts[0] in (f"{HOST}:{port}", f"localhost:{port}")


def is_own_origin(headers: Headers) -> bool:
    """Whether the page that sent a request came from this server; call `is_own_host` first."""
    return headers.getlist("origin") == [f"http://{headers['host']}"]


class LoopbackGuard:
    """Refuse requests and web sockets to another host name, or from a page of another origin.

    Programs that are no browser send no `Origin` and pass: they need the server's own token.
    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self.app = app
        self.port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request or answer it with 403."""
        refused = "" if scope["type"] == "lifespan" else self._refusal(Headers(scope=scope))
        if not refused:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refused})
        else:
            content = orjson.dumps({"exception_message": refused})
            await Response(content, 403, media_type="application/json")(scope, receive, send)

    def _refusal(self, headers: Headers) -> str:
        if not is_own_host(headers, self.port):
            return f"this server is {HOST}:{self.port} only"
        if "origin" in headers and not is_own_origin(headers):
            return "requests come from this server's own pages only"
        return ""
