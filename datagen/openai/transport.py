"""Send requests with aiohttp, and read whole replies.

A chat completion goes straight from its JSON to the wire: the layers of a client library would cost
more than the network does; measured in `docs/log.md`. Files and batches go through the `openai`
client, which sends with the same `Wire`. So there is one place for proxies, certificates, redirects
and the bound on a reply's size, whatever is sent.
"""

from __future__ import annotations

import os
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from datagen.openai.addresses import is_loopback
from warehouse.errors import TeacherUnusable

if TYPE_CHECKING:
    import httpx2

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


@dataclass(frozen=True, slots=True)
class WholeReply:
    """An HTTP reply that was read to its end, and unpacked."""

    status: int
    headers: Mapping[str, str]
    """By name, in any letter case."""
    raw_headers: tuple[tuple[bytes, bytes], ...]
    content: bytes
    redirected_to: URL | None = None
    """The address that answered, where it is another one than was asked."""

    @property
    def text(self) -> str:
        """The content as text, in the encoding that its headers name, or UTF-8."""
        _, _, charset = self.headers.get("Content-Type", "").partition("charset=")
        try:
            return self.content.decode(charset.partition(";")[0].strip(' "') or "utf-8", "replace")
        except LookupError:
            return self.content.decode("utf-8", "replace")


class Wire:
    """One aiohttp session, opened by the first request; each reply has one time limit."""

    def __init__(self, connections: int, timeout_s: float) -> None:
        self._connections = connections
        self._proxies: dict[URL, str | None] = {}
        self._timeout = aiohttp.ClientTimeout(timeout_s, sock_connect=min(CONNECT_S, timeout_s))
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self, method: str, url: URL, headers: Mapping[str, str], data: Any = None
    ) -> WholeReply:
        """Send a request, and again where a redirect keeps its method (RFC 9110, 15.4).

        What is sent stays with its origin: only a GET goes on to another one, without headers that
        may hold a secret, and nothing goes from https to http.

        Args:
            method: `GET`, `POST` and so on.
            url: Where to.
            headers: All headers but those of the connection.
            data: The body, in bytes or as a stream of them.

        Raises:
            TimeoutError, aiohttp.ClientError, OSError, ValueError: no reply came; ValueError: the
                address or a header cannot be sent.
            TeacherUnusable: the proxy or the certificates that the environment names are unusable.
        """
        asked, here = url, headers
        for redirects in range(MOST_REDIRECTS + 1):
            async with self._opened().request(
                method,
                url,
                headers=here,
                data=data,
                allow_redirects=False,
                proxy=self._proxy(url),
                ssl=self._trusted if url.scheme == "https" else True,
            ) as response:
                content = await _read(response, url)
            status, location = response.status, response.headers.get("Location")
            if (
                status not in _REDIRECTS
                or not location
                or not (status in (307, 308) or method == "GET")
                or redirects == MOST_REDIRECTS
            ):
                break
            target = url.join(URL(location))
            is_open = url.scheme == "https" and target.scheme == "http"
            if target.scheme not in ("http", "https") or is_open:
                break
            if target.origin() != url.origin():
                if method != "GET":
                    break  # the body holds prompts, and secrets of extra_body
                here = {name: value for name, value in here.items() if name.lower() in _ANYWHERE}
            url = target
        return WholeReply(
            status,
            response.headers,
            response.raw_headers,
            content,
            None if url is asked else url,
        )

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections),
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    @cached_property
    def _trusted(self) -> ssl.SSLContext:
        return trusted_certificates()

    def _proxy(self, url: URL) -> str | None:
        origin = url.origin()
        if origin not in self._proxies:
            self._proxies[origin] = proxy_for(str(url))
        return self._proxies[origin]

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


def http_client(wire: Wire, timeout_s: float) -> httpx2.AsyncClient:
    """What the `openai` client sends with: aiohttp's errors are the causes of httpx2's."""
    import httpx2

    class Transport(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            headers = dict(request.headers)
            headers.pop("accept-encoding", None)  # aiohttp unpacks, and says what it can unpack
            try:
                body: Any = request.content or None
            except httpx2.RequestNotRead:  # a file on its way up, as parts of a form
                body = request.stream
            try:
                reply = await wire.send(request.method, URL(str(request.url)), headers, body)
            except TimeoutError as error:
                raise httpx2.ReadTimeout(str(error), request=request) from error
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise httpx2.ReadError(str(error), request=request) from error
            return httpx2.Response(
                reply.status,
                headers=_unpacked(reply.raw_headers),
                content=reply.content,
                request=request,
                extensions={"redirected_to": reply.redirected_to},
            )

    return httpx2.AsyncClient(
        transport=Transport(), timeout=timeout_s, follow_redirects=False, trust_env=False
    )


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


def trusted_certificates() -> ssl.SSLContext:
    """The certificates of the system, or those that environment variables name in their place.

    Raises:
        TeacherUnusable: a variable names no file or folder of certificates.
    """
    named = {name: os.environ[name] for name in CERTIFICATES if os.environ.get(name)}
    if not named:
        import httpx2

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


async def _read(response: aiohttp.ClientResponse, url: URL) -> bytes:
    """The body of a reply, up to its bound."""
    bound = LARGEST_FILE if "/files/" in url.path else LARGEST_REPLY
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > bound:
            response.close()
            raise ReplyTooLarge(f"a reply of more than {bound / 2**20:.0f} MB")
        parts.append(part)
    return b"".join(parts)
