"""Recognize secrets in a plan, and refer to them by the environment variable that holds them.

A plan is copied into the warehouse, reports and Prefect, so no secret may stand in it. Where one is
needed, the plan says `{ env = "NAME" }`, and the value is read when a request is sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import ConfigDict

MASK = "***"

RANDOM_CHANGES = 0.25
"""Changes between digits, small and capital letters per character: keys of 20 characters have 0.4
on average, and names of models such as `mixtral8x7b-instruct-v0.1` under 0.2."""

ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_KNOWN_KEY = re.compile(
    r"\b(?:"
    r"sk-(?=[\w-]*\d)[\w-]{16,}|[sr]k_(?:live|test)_\w{16,}|AIza[\w-]{30,}|gh[pousr]_\w{20,}"
    r"|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_\w{20,}|xox[a-z]-[\w-]{10,}|gsk_\w{20,}"
    r"|xai-\w{20,}|nvapi-[\w-]{20,}|pplx-\w{20,}|r8_\w{20,}|A[KS]IA[0-9A-Z]{16}"
    r"|eyJ[\w-]{10,}\.[\w-]{10,}"
    r")|-----BEGIN [A-Z ]*PRIVATE KEY|\b(?:Bearer|Basic) [\w.~+/=-]{16,}"
)
"""Keys whose form tells them apart from any other text."""

_KEY_PREFIX = re.compile(
    r"(?:sk-|[sr]k_|AIza|gh[pousr]_|github_pat_|glpat-|hf_|xox[a-z]-|gsk_|xai-|nvapi-|pplx-|r8_|eyJ)"
    r"\S{6,}|A[KS]IA[0-9A-Z]{16}|(?:Bearer|Basic)\s+\S+",
    re.IGNORECASE,
)
"""How keys begin; enough where a key may stand, and too little elsewhere."""

_SECRET_NAME = re.compile(
    r"(?:^|[_-])(?:key|token|auth|authorization|session|signature|credentials?|cookie|jwt)$"
    r"|authorization|api[_-]?key|passw|secret|(?:access|auth|id)[_-]?token",
    re.IGNORECASE,
)
"""Names of HTTP headers and body fields that carry secrets."""

_BODY_NAME = re.compile(
    r"^(?:key|token|auth|session)$|authorization|api[_-]?key|passw|secret|credential"
    r"|(?:access|auth)[_-]?(?:key|token)",
    re.IGNORECASE,
)
"""The same, less names that other fields of a request have: `stop_token`, `cache_key`."""

_HASH_NAME = re.compile(r"revision|commit|sha|hash|digest|checksum", re.IGNORECASE)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_USER_INFO = re.compile(r"(\bhttps?://)[^\s/?#@]+@", re.IGNORECASE)
_QUERY = re.compile(r"[?&]([^=&#\s]+)=([^&#\s]+)")


@dataclass(frozen=True)
class EnvReference:
    """A value that is read from an environment variable when it is needed."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", use_attribute_docstrings=True
    )

    env: str
    """The name of the environment variable."""

    def __post_init__(self) -> None:
        if not ENV_NAME.fullmatch(self.env) or is_key(self.env):
            raise ValueError(
                "env is the name of an environment variable (letters, digits and underscores), "
                "not the secret itself"
            )


def reference_in(value: Any) -> EnvReference | None:
    """The reference that a value of free-form JSON is, as `{"env": "NAME"}`, or None."""
    if isinstance(value, EnvReference):
        return value
    is_reference = isinstance(value, Mapping) and list(value) == ["env"]
    name = value["env"] if is_reference else None
    return EnvReference(name) if isinstance(name, str) and ENV_NAME.fullmatch(name) else None


def references_in(value: Any) -> Iterator[EnvReference]:
    """Every reference in free-form JSON."""
    if reference := reference_in(value):
        yield reference
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from references_in(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from references_in(inner)


def resolve(value: Any, read: Callable[[str], str]) -> Any:
    """Free-form JSON with each reference replaced by what `read` finds under its name."""
    if reference := reference_in(value):
        return read(reference.env)
    if isinstance(value, Mapping):
        return {key: resolve(inner, read) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [resolve(inner, read) for inner in value]
    return value


def is_secret_header(name: str) -> bool:
    """Whether a header of this name carries a secret."""
    return bool(_SECRET_NAME.search(name))


def is_key(text: str) -> bool:
    """Whether a text is a key by its beginning, or as random as one."""
    return bool(_KEY_PREFIX.fullmatch(text.strip())) or _is_random(text.strip())


def mask(text: str) -> str:
    """A text that users see, without the keys and URL credentials that it may quote."""
    return _KNOWN_KEY.sub(MASK, _USER_INFO.sub(rf"\1{MASK}@", text))


def literal_secrets(plan: Mapping[str, Any]) -> list[str]:
    """One line for each secret that stands in a plan, saying where and how to write it instead.

    The lines do not quote the secrets.

    Args:
        plan: The plan as it was read from its file, before anything is built from it.
    """
    return [
        f"{'.'.join(path)}: {fault}" for path, text in _texts(plan) if (fault := _fault(path, text))
    ]


def _texts(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, (*path, str(key)))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _texts(inner, (*path, str(number)))


def _fault(path: tuple[str, ...], text: str) -> str | None:
    """What is wrong with a text at a place of the plan."""
    name = next((step for step in reversed(path) if not step.isdigit()), "")
    if _is_variable(path, name):
        if ENV_NAME.fullmatch(text) and not is_key(text):
            return None
        return (
            f"{name} is the name of an environment variable, and this is none or looks like the "
            f'key itself; export the key as MY_KEY and write {name} = "MY_KEY"'
        )
    if "headers" in path[:-1]:
        is_secret = is_secret_header(name) or is_key(text) or bool(_UUID.fullmatch(text.strip()))
    elif "extra_body" in path[:-1]:
        is_named = bool(_BODY_NAME.search(name))
        is_secret = is_named or (is_key(text) and not _HASH_NAME.search(name))
    else:
        is_secret = False
    if _USER_INFO.search(text):
        return (
            "the address contains a user name or password; write it without them, and headers = "
            '{ Authorization = { env = "MY_AUTH" } }, where MY_AUTH holds "Basic " and '
            "user:password in base64"
        )
    if text.lower().startswith(("http://", "https://")):
        is_secret |= any(
            _BODY_NAME.search(field) or is_key(value) for field, value in _QUERY.findall(text)
        )
        if is_secret:
            return (
                "the address contains a key; write it without it, and the key as a header: "
                'headers = { X-Api-Key = { env = "MY_KEY" } }'
            )
    if text and (is_secret or _KNOWN_KEY.search(text)):
        return (
            "this looks like a secret, and a plan is copied into records and reports; export it as "
            f'MY_SECRET and write {name} = {{ env = "MY_SECRET" }}'
            + ("" if {"headers", "extra_body"} & {*path} else ", in headers or extra_body")
        )
    return None


def _is_variable(path: tuple[str, ...], name: str) -> bool:
    return name == "api_key_env" or (
        name == "env" and bool({"headers", "extra_body"} & {*path[:-1]})
    )


def _is_random(text: str) -> bool:
    """Whether a text of 20 characters or more looks drawn at random, and not written by a person.

    Names of models and versions are long and mixed, too, but within their parts they seldom change
    between digits, small and capital letters; random text does at every second character.
    """
    if len(text) < 20 or not re.fullmatch(r"[\w.~+/=:-]+", text) or _UUID.fullmatch(text):
        return False
    changes = len(re.findall(r"(?=\d[A-Za-z]|[A-Za-z]\d|[a-z][A-Z])", text))
    return changes / len(text) >= RANDOM_CHANGES
