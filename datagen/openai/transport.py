"""Send the `openai` client's requests with aiohttp, and read whole replies.

The client's own layers cost more than the network does, so what never changes is done once
and nothing is streamed; measured in `docs/log.md`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import aiohttp
import httpx2

CONNECT_S = 10.0


class WholeReplies(httpx2.AsyncBaseTransport):
    """Sends with one aiohttp session and reads each reply to its end, within one time limit."""

    def __init__(self, connections: int, timeout_s: float) -> None:
        self._connections = connections
        self._timeout = aiohttp.ClientTimeout(timeout_s, sock_connect=min(CONNECT_S, timeout_s))
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises httpx2's errors; aiohttp's own is their cause."""
        if self._session is None:
            ssl = httpx2.create_ssl_context()
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, ssl=ssl),
                timeout=self._timeout,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        try:
            async with self._session.request(
                request.method,
                str(request.url),
                headers=request.headers,
                data=_body(request),
                allow_redirects=False,
            ) as response:
                content = await response.read()
        except TimeoutError as error:
            raise httpx2.ReadTimeout(str(error), request=request) from error
        except (aiohttp.ClientError, OSError) as error:
            raise httpx2.ReadError(str(error), request=request) from error
        return httpx2.Response(
            response.status, headers=response.raw_headers, content=content, request=request
        )

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


class HttpClient(httpx2.AsyncClient):
    """Builds a request without work whose result never changes: the URL is parsed once, and the
    headers, which the `openai` client gives whole, are not merged again."""

    def __init__(self, connections: int, timeout_s: float) -> None:
        transport = WholeReplies(connections, timeout_s)
        super().__init__(transport=transport, timeout=timeout_s, follow_redirects=True)

    def build_request(self, method: str, url: Any, **options: Any) -> httpx2.Request:
        """As the base class, where there is more than headers and bytes."""
        content, headers, timeout = (
            options.pop(k, None) for k in ("content", "headers", "timeout")
        )
        if not isinstance(content, bytes) or any(options.values()):
            options |= {"content": content, "headers": headers, "timeout": timeout}
            return super().build_request(method, url, **options)
        return httpx2.Request(method, _parsed(str(url)), headers=headers, content=content)


def _body(request: httpx2.Request) -> Any:
    try:
        return request.content or None
    except httpx2.RequestNotRead:  # a file on its way up, as parts of a form
        return request.stream


@lru_cache(maxsize=256)
def _parsed(url: str) -> httpx2.URL:
    return httpx2.URL(url)
