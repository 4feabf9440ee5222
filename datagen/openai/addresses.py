"""Split and join the addresses of servers, and check keys and headers before they are sent."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from warehouse.errors import TeacherUnusable

_SENDABLE = re.compile(r"[!-~]+")
"""Printable ASCII without blanks: what a key may be made of."""
_HEADER = re.compile(r"[ -~\t]*")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def split_query(base_url: str) -> tuple[str, str]:
    """An address without its query, and the query with its question mark, as of Azure's
    `?api-version=`; it belongs behind every path."""
    root, mark, query = base_url.partition("?")
    query = query.partition("#")[0]
    return root.partition("#")[0].rstrip("/"), f"{mark}{query}" if query else ""


def query_of(base_url: str) -> dict[str, str]:
    """The query of an address, by name."""
    return dict(parse_qsl(split_query(base_url)[1].removeprefix("?"), keep_blank_values=True))


def lacks_version(base_url: str) -> bool:
    """Whether the path of an address has no part such as /v1 or /v1beta."""
    return not re.search(r"/v\d+\w*(/|$)|/openai(/|$)|/api(/|$)", urlsplit(base_url).path)


def api_root(url: str) -> str | None:
    """The `base_url` behind the address of a request; None where it is no such address."""
    match = re.fullmatch(
        r"(https?://.+)/(?:chat/completions|models|files|batches)/?(\?[^#]*)?(?:#.*)?", url
    )
    return f"{match[1]}{match[2] or ''}" if match else None


def sendable_key(key: str, name: str, who: str) -> str:
    """A key without the blanks and line ends around it.

    Raises:
        TeacherUnusable: a blank, a line end or a letter beyond ASCII is inside; names the
            variable, never the key.
    """
    key = key.strip()
    if not _SENDABLE.fullmatch(key):
        raise TeacherUnusable(
            f"{who}: environment variable {name} does not hold a key: there is a blank, a line end or "
            "a character beyond ASCII inside; set it to the key alone"
        )
    return key


def sendable_headers(headers: Mapping[str, str], who: str) -> dict[str, str]:
    """Headers without the blanks around their values.

    Raises:
        TeacherUnusable: a name or a value cannot be sent; names the header, never its value.
    """
    stripped = {name.strip(): str(value).strip() for name, value in headers.items()}
    for name, value in stripped.items():
        if not _SENDABLE.fullmatch(name) or not _HEADER.fullmatch(value):
            raise TeacherUnusable(
                f"{who}: header {name!r} cannot be sent: it holds a line end or a character beyond "
                "ASCII; correct headers in the plan"
            )
    return stripped
