"""Explain why no connection to an address could be made: name, network, proxy, no server."""

from __future__ import annotations

import errno
from urllib.parse import urlsplit

import aiohttp

from warehouse.errors import TransientError

_UNCONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class NobodyThere(TransientError):
    """The connection could not be made; nothing was sent. The message says what to do."""


def explain_unreachable(cause: BaseException, base_url: str) -> NobodyThere | None:
    """The error for an address that could not be reached; None where the cause is another one."""
    if isinstance(cause, (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError)):
        return _no_proxy(cause, base_url)
    if isinstance(cause, aiohttp.ClientConnectorDNSError):
        return NobodyThere(
            f"the host name of {base_url} is not known; correct base_url, or check the network "
            "and the proxy variables (HTTPS_PROXY)"
        )
    return NobodyThere(_nobody(cause, base_url)) if isinstance(cause, _UNCONNECTED) else None


def _nobody(cause: BaseException, base_url: str) -> str:
    number = getattr(getattr(cause, "os_error", None), "errno", None)
    if isinstance(cause, TimeoutError) or number in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return (
            f"no teacher answers at {base_url}; the host cannot be reached: correct "
            "base_url, or check the network, the firewall and the proxy variables (HTTPS_PROXY)"
        )
    return f"no teacher answers at {base_url}; start the server or correct base_url"


def _no_proxy(cause: BaseException, base_url: str) -> NobodyThere:
    from datagen.openai.transport import proxy_for

    proxy = urlsplit(proxy_for(base_url) or "").netloc.rpartition("@")[2]
    what = f"no connection to {base_url} through the proxy {proxy}"
    if isinstance(cause, aiohttp.ClientHttpProxyError):
        what += f" (HTTP {cause.status})"
    host = urlsplit(base_url).hostname or ""
    around = f", or name {host} in NO_PROXY to go around it"
    return NobodyThere(f"{what}; correct the proxy variables (HTTPS_PROXY, HTTP_PROXY){around}")
