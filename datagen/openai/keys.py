"""Read keys from the environment, and redact them in what servers send."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator

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
    """Replaces secrets in what a server sent, longest first."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = sorted(_spellings(secrets), key=len, reverse=True)

    def redact(self, text: str) -> str:
        """A text without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, REDACTION)
        return text

    def redact_body(self, content: bytes) -> tuple[bytes, int]:
        """A body without secrets, and how often one stood in it."""
        redacted = 0
        for secret in self._secrets:
            if number := content.count(secret.encode()):
                content = content.replace(secret.encode(), REDACTION.encode())
                redacted += number
        return content, redacted


def _spellings(secrets: Iterable[str]) -> Iterator[str]:
    """Secrets as they may come back: without the scheme before them, and as JSON writes them."""
    for secret in secrets:
        bare = re.sub(r"^(Bearer|Basic)\s+", "", secret.strip(), flags=re.IGNORECASE)
        if len(bare) >= SHORTEST_SECRET and bare != NO_KEY:
            escaped = json.dumps(bare)[1:-1]
            yield from dict.fromkeys((bare, escaped, escaped.replace("/", r"\/")))
