"""Render a base's chat template from its files, without loading the model or its tokenizer.

It is for checks before a run, which import no torch; training and answers use the tokenizer's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from warehouse.records import Message

_GENERATION = re.compile(r"{%-?\s*(?:end)?generation\s*-?%}")
_OPEN_THOUGHT = re.compile(r"(?i)(?:<think(?:ing)?>|<reasoning>|\[think\]|◁think▷)\s*$")


@dataclass(frozen=True)
class ChatTemplate:
    """A Jinja template, and the special tokens that it may name."""

    source: str
    tokens: dict[str, str]

    @classmethod
    def in_folder(cls, folder: Path) -> ChatTemplate | None:
        """The template in a base's folder; None where there is none."""
        config = read_json(folder / "tokenizer_config.json")
        own = folder / "chat_template.jinja"
        source = own.read_text(encoding="utf-8") if own.is_file() else config.get("chat_template")
        if isinstance(source, list):  # several by name, of which the default is used
            source = {named["name"]: named["template"] for named in source}.get("default")
        tokens = {
            name: value["content"] if isinstance(value, dict) else value
            for name, value in config.items()
            if name.endswith("_token") and isinstance(value, str | dict)
        }
        return cls(source, tokens) if source else None

    def render(
        self,
        messages: Sequence[Message],
        for_generation: bool = True,
        tools: Sequence[dict[str, Any]] | None = None,
    ) -> str:
        """The text of a conversation, up to where the answer begins with `for_generation`.

        Raises:
            jinja2.TemplateError: the template takes no such conversation.
        """
        text: str = self._compiled.render(
            messages=list(messages),
            tools=list(tools) if tools else None,
            add_generation_prompt=for_generation,
            **self.tokens,
        )
        return text

    @cached_property
    def _compiled(self) -> Any:
        """As transformers compiles it."""
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        def refuse(message: str) -> None:
            raise TemplateError(message)

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = lambda value, **options: json.dumps(
            value, ensure_ascii=False, **options
        )
        environment.globals["raise_exception"] = refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        return environment.from_string(_GENERATION.sub("", self.source))


def opens_a_thought(prompt: str) -> bool:
    """Whether a rendered prompt ends within a think block that the answer has to close."""
    return _OPEN_THOUGHT.search(prompt) is not None


def read_json(file: Path) -> dict[str, Any]:
    """An object in a JSON file; empty where there is no such file, or nothing that can be read."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
