"""Send the `openai` client's requests with aiohttp, and read whole replies.

The client's own layers cost more than the network does, so what never changes is done once
and nothing is streamed; measured in `docs/log.md`. Every request of a teacher goes this way, those
of `distill check` too: one place for proxies, certificates, redirects and the bound on a reply's size.
"""

from __future__ import annotations

import os
import ssl
import urllib.request
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx2

from datagen.openai.addresses import is_loopback
from warehouse.errors import TeacherUnusable

CONNECT_S = 10.0
LARGEST_REPLY = 64 * 2**20
"""Bytes of a reply, unpacked; a larger one is not read to its end."""
LARGEST_FILE = 2**30
"""Bytes of a file that is downloaded, such as the output of a batch."""
MOST_REDIRECTS = 5
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Environment variables that name the certificates to trust in place of the system's."""
_ANYWHERE = {"accept", "content-type", "content-length", "user-agent"}
"""Headers that may go to another origin after a redirect: all others may hold a secret."""
_REDIRECTS = {301, 302, 303, 307, 308}
_PACKED = (b"content-encoding", b"content-length", b"transfer-encoding")


class ReplyTooLarge(aiohttp.ClientError):
    """The reply has more bytes than `LARGEST_REPLY`."""


class WholeReplies(httpx2.AsyncBaseTransport):
    """Sends with one aiohttp session and reads each reply to its end, within one time limit."""

    def __init__(self, connections: int, timeout_s: float) -> None:
        self._connections = connections
        self._proxies: dict[httpx2.Origin, str | None] = {}
        self._timeout = aiohttp.ClientTimeout(timeout_s, sock_connect=min(CONNECT_S, timeout_s))
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises httpx2's errors; aiohttp's own is their cause."""
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=self._connections, ssl=trusted_certificates())
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar()
            )
        try:
            return await self._send(self._session, request)
        except TimeoutError as error:
            raise httpx2.ReadTimeout(str(error), request=request) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: a URL or header
            raise httpx2.ReadError(str(error), request=request) from error

    async def _send(
        self, session: aiohttp.ClientSession, request: httpx2.Request
    ) -> httpx2.Response:
        """Send a request, and again where a redirect keeps its method (RFC 9110, 15.4).

        What is sent stays with its origin: only a GET goes on to another one, without headers that
        may hold a secret, and nothing goes from https to http.
        """
        url, headers = request.url, request.headers
        if "accept-encoding" in headers:  # aiohttp unpacks, so it says what it can unpack
            headers = headers.copy()
            del headers["accept-encoding"]
        for redirects in range(MOST_REDIRECTS + 1):
            async with session.request(
                request.method,
                str(url),
                headers=headers,
                data=_body(request),
                allow_redirects=False,
                proxy=self._proxy(url),
            ) as response:
                content = await _read(response, request)
            location = response.headers.get("Location")
            keeps_method = response.status in (307, 308) or request.method == "GET"
            if (
                response.status not in _REDIRECTS
                or not location
                or not keeps_method
                or redirects == MOST_REDIRECTS
            ):
                break
            target = url.join(location)
            is_open = url.scheme == "https" and target.scheme == "http"
            if target.scheme not in ("http", "https") or is_open:
                break
            if target.origin != url.origin:
                if request.method != "GET":
                    break  # the body holds prompts, and secrets of extra_body
                headers = httpx2.Headers(
                    [(name, value) for name, value in headers.items() if name in _ANYWHERE]
                )
            url = target
        return httpx2.Response(
            response.status,
            headers=_unpacked(response.raw_headers),
            content=content,
            request=request,
            extensions={} if url is request.url else {"redirected_to": url},
        )

    def _proxy(self, url: httpx2.URL) -> str | None:
        if (origin := url.origin) not in self._proxies:
            self._proxies[origin] = proxy_for(str(url))
        return self._proxies[origin]

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


class HttpClient(httpx2.AsyncClient):
    """Builds a request without work whose result never changes: the URL is parsed once, and the
    headers, which the `openai` client gives whole, are not merged again."""

    def __init__(self, connections: int, timeout_s: float) -> None:
        transport = WholeReplies(connections, timeout_s)
        super().__init__(
            transport=transport, timeout=timeout_s, follow_redirects=False, trust_env=False
        )

    def build_request(self, method: str, url: Any, **options: Any) -> httpx2.Request:
        """As the base class, where there is more than headers and bytes."""
        content, headers, timeout = (
            options.pop(k, None) for k in ("content", "headers", "timeout")
        )
        if not isinstance(content, bytes) or any(options.values()):
            options |= {"content": content, "headers": headers, "timeout": timeout}
            return super().build_request(method, url, **options)
        return httpx2.Request(method, _parsed(str(url)), headers=headers, content=content)


def proxy_for(url: str) -> str | None:
    """The proxy of HTTP_PROXY, HTTPS_PROXY or ALL_PROXY for an address, less those of NO_PROXY.

    An address of this machine goes through a proxy only where the proxy is on this machine too:
    no other could reach it.
    """
    address = urlsplit(url)
    netloc, host = address.netloc.rpartition("@")[2], address.hostname or ""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(netloc):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    parts = urlsplit(proxy)
    if is_loopback(host) and not is_loopback(parts.hostname or ""):
        return None
    if parts.scheme not in ("http", "https"):
        raise TeacherUnusable(
            f"the proxy for {address.scheme}://{netloc} is a {parts.scheme} proxy, and only HTTP proxies can "
            "be used; set HTTPS_PROXY and HTTP_PROXY to the address of an HTTP proxy, or name the "
            "host in NO_PROXY"
        )
    return proxy


def trusted_certificates() -> Any:
    """The certificates of the system, or those that environment variables name in their place.

    Raises:
        TeacherUnusable: a variable names no file or folder of certificates.
    """
    named = {name: os.environ[name] for name in CERTIFICATES if os.environ.get(name)}
    if not named:
        return httpx2.create_ssl_context(trust_env=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for name, path in named.items():
        try:
            if os.path.isdir(path):
                context.load_verify_locations(capath=path)
            else:
                context.load_verify_locations(cafile=path)
        except OSError as error:  # ssl's own error is one too
            raise TeacherUnusable(
                f"{name} = {path} holds no certificates that can be read "
                f"({error.strerror or type(error).__name__}); correct it or unset it"
            ) from None
    return context


def _unpacked(headers: Any) -> Any:
    """The headers of a reply as it is after unpacking."""
    if any(name.lower() == b"content-encoding" for name, _ in headers):
        return [(name, value) for name, value in headers if name.lower() not in _PACKED]
    return headers


async def _read(response: aiohttp.ClientResponse, request: httpx2.Request) -> bytes:
    """The body of a reply, up to its bound."""
    bound = LARGEST_FILE if "/files/" in request.url.path else LARGEST_REPLY
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > bound:
            response.close()
            raise ReplyTooLarge(f"a reply of more than {bound / 2**20:.0f} MB")
        parts.append(part)
    return b"".join(parts)


def _body(request: httpx2.Request) -> Any:
    try:
        return request.content or None
    except httpx2.RequestNotRead:  # a file on its way up, as parts of a form
        return request.stream


@lru_cache(maxsize=256)
def _parsed(url: str) -> httpx2.URL:
    return httpx2.URL(url)
