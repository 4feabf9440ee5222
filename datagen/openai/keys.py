"""Read keys from the environment, and redact them in what servers send."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterable
from typing import Any

from datagen.openai.addresses import sendable_key
from datagen.teacher import REDACTION
from warehouse.errors import TeacherUnusable

NO_KEY = "not-needed"
SHORTEST_SECRET = 8
"""Characters; what is shorter is a placeholder, and would be found in ordinary words."""


def key_from(name: str | None, env_file: str | None, who: str) -> str:
    """The key in an environment variable, or in the .env file that the user named.

    Raises:
        TeacherUnusable: the variable is not set in either, or holds no key.
    """
    if name is None:
        return NO_KEY
    return sendable_key(value_from(name, env_file, who, "api_key_env"), name, who)


def value_from(name: str, env_file: str | None, who: str, option: str) -> str:
    """The value of an environment variable that an option of the plan names.

    Raises:
        TeacherUnusable: it is set neither in the environment nor in the .env file.
    """
    value = os.environ.get(name)
    if not value and env_file:
        from dotenv import dotenv_values

        value = dotenv_values(env_file).get(name)
    if not value or not value.strip():
        detail = f" and {env_file} does not have it" if env_file else ""
        raise TeacherUnusable(
            f"{who}: environment variable {name} is not set{detail}; export it, or name another "
            f"in {option}"
        )
    return value.strip()


class Redactor:
    """Replaces secrets in what a server sent, longest first, in every way that JSON can write them."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = sorted(_bare(secrets), key=len, reverse=True)
        spelled = ("".join(map(_spellings, secret)) for secret in self._secrets)
        self._pattern = re.compile("|".join(spelled)) if self._secrets else None

    def redact(self, text: str) -> str:
        """A text without secrets."""
        if self._pattern is None or not self._may_hold(text):
            return text
        return self._pattern.sub(REDACTION, text)

    def redact_value(self, value: Any) -> int:
        """Redact the strings and keys in parsed JSON, in place, however deep they stand.

        Strings at the same place in the items of a list are read as one text: servers write a
        text as parts, and its tokens one by one.

        Args:
            value: A list or an object; a text by itself is `redact`'s.

        Returns:
            How often a secret stood in it.
        """
        if self._pattern is None:
            return 0
        redacted = 0
        places: dict[int, list[tuple[Any, Any]]] = {}
        numbers: dict[tuple[int, str | None], int] = {}
        stack = [(value, 0)] if isinstance(value, dict | list) else []
        while stack:
            container, place = stack.pop()
            if isinstance(container, dict):
                redacted += self._redact_keys(container)
                items: Iterable[tuple[Any, Any]] = container.items()
            else:
                items = enumerate(container)
            nested = []
            for key, item in items:
                if isinstance(item, str | dict | list):
                    step = key if isinstance(container, dict) else None
                    number = numbers.setdefault((place, step), len(numbers) + 1)
                    if isinstance(item, str):
                        places.setdefault(number, []).append((container, key))
                    else:
                        nested.append((item, number))
            stack.extend(reversed(nested))
        return redacted + sum(map(self._redact_pieces, places.values()))

    def _redact_keys(self, container: dict[str, Any]) -> int:
        names = {key: self.redact(key) for key in container if self._may_hold(key)}
        if names := {key: name for key, name in names.items() if key != name}:
            items = [(names.get(key, key), item) for key, item in container.items()]
            container.clear()
            container.update(items)
        return len(names)

    def _redact_pieces(self, pieces: list[tuple[Any, Any]]) -> int:
        """Redact a text that stands in pieces; the mark stands where the secret began."""
        assert self._pattern is not None
        text = "".join([container[key] for container, key in pieces])
        if not self._may_hold(text):
            return 0
        spans = [match.span() for match in self._pattern.finditer(text)]
        left, start = deque(spans), 0
        for container, key in pieces:
            at, end = start, start + len(container[key])
            kept = []
            while left and left[0][0] < end:
                first, last = left[0]
                kept += [text[at:first], REDACTION if first >= start else ""]
                at = min(last, end)
                if last > end:  # the next piece goes on with it
                    break
                left.popleft()
            container[key] = "".join([*kept, text[at:end]])
            start = end
        return len(spans)

    def _may_hold(self, text: str) -> bool:
        """Whether the pattern, which is slow, could match."""
        return "\\" in text or any(secret in text for secret in self._secrets)


def _bare(secrets: Iterable[str]) -> set[str]:
    """Secrets without the scheme before them; placeholders are none."""
    found = {
        re.sub(r"^(Bearer|Basic)\s+", "", secret.strip(), flags=re.IGNORECASE) for secret in secrets
    }
    return {secret for secret in found if len(secret) >= SHORTEST_SECRET and secret != NO_KEY}


def _spellings(character: str) -> str:
    """A pattern of a character as it is and as JSON can escape it, also in JSON within JSON."""
    units = character.encode("utf-16-be", "surrogatepass").hex()
    escaped = "".join(rf"\\{{1,4}}u(?i:{units[n : n + 4]})" for n in range(0, len(units), 4))
    plain = re.escape(character)
    if character in '"/':
        plain = rf"\\{{0,4}}{plain}"
    elif character == "\\":
        plain = r"\\{1,4}"
    return f"(?:{plain}|{escaped})"
