"""Build and render training rows: a prompt and its completion as chat messages.

The text a student is trained on is its own chat template's text, and the part before
the completion is to the letter what it is asked with later. `encode` holds that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

from warehouse.errors import DataError, ModelError, NothingToDoError
from warehouse.records import Message


class TrainingRow(TypedDict):
    """One training example, in the form TRL calls conversational prompt-completion."""

    prompt: list[Message]
    completion: list[Message]
    tools: NotRequired[list[dict[str, Any]]]
    """The tools that may be called, as JSON schemas; for the chat template."""


@dataclass(frozen=True)
class Encoded:
    """One row as the trainer sees it, before truncation.

    `start` is the position of the first supervised token; `merged` tells that the
    tokenizer joined the end of the prompt with the start of the completion.
    """

    text: str
    input_ids: list[int]
    start: int
    merged: bool


def render(
    tokenizer: Any, messages: Sequence[Message], tools: Sequence[dict[str, Any]] | None = None
) -> str:
    """The text a model is asked with: the chat template, up to where the answer begins.

    Raises:
        ModelError: the template takes no such conversation.
    """
    return _rendered(tokenizer, messages, tools, for_generation=True)


def _rendered(
    tokenizer: Any,
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]] | None,
    for_generation: bool,
) -> str:
    from jinja2 import TemplateError

    options = {"tools": list(tools)} if tools else {}
    try:
        text: str = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=for_generation, **options
        )
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        raise ModelError(
            f"the base's chat template refuses a conversation of {roles}: {error}; leave out what "
            "it does not take, or use another base"
        ) from None
    return text


def token_ids(tokenizer: Any, text: str) -> list[int]:
    """Tokens of a rendered text; the template has put the special tokens there already."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def control_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    """Finds what the tokenizer reads as control tokens wherever it stands in a text.

    These are its special tokens, and added ones that its chat template writes, such as `<think>`.
    A text that quotes one (a passage about chat templates, an attack) would end or begin a turn.
    """
    template = str(tokenizer.chat_template or "")
    texts = set(tokenizer.all_special_tokens)
    for token in tokenizer.added_tokens_decoder.values():
        if token.special or (token.content.strip() and token.content in template):
            texts.add(token.content)
    names = sorted(filter(str.strip, texts), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, names))) if names else None


def encode(row: TrainingRow, tokenizer: Any) -> Encoded:
    """Render and tokenise one row.

    Raises:
        ModelError: the prompt as asked is not the beginning of the text as trained.
    """
    tools = row.get("tools")
    prompt_text = render(tokenizer, row["prompt"], tools)
    text = _rendered(tokenizer, [*row["prompt"], *row["completion"]], tools, for_generation=False)
    if not text.startswith(prompt_text):
        raise ModelError(
            "the chat template renders a prompt differently in training and in use "
            f"(asked with ...{prompt_text[-40:]!r}, trained on {text[: len(prompt_text) + 20][-60:]!r}); "
            "use a base whose template with a generation prompt is a prefix of the full text"
        )
    prompt_ids, ids = token_ids(tokenizer, prompt_text), token_ids(tokenizer, text)
    start = 0
    while start < min(len(prompt_ids), len(ids)) and prompt_ids[start] == ids[start]:
        start += 1
    return Encoded(text, ids, start, merged=start < len(prompt_ids))


def check_rows(rows: Sequence[TrainingRow]) -> None:
    """Refuse rows that are not a prompt ending with the user or a tool, and one assistant completion.

    Raises:
        DataError: a row is malformed; the message names the first.
        NothingToDoError: there are no rows.
    """
    if not rows:
        raise NothingToDoError("no rows to train on; loosen the gate or generate more samples")
    for number, row in enumerate(rows, start=1):
        prompt, completion = row.get("prompt"), row.get("completion")
        if (
            not _roles(prompt)
            or _roles(prompt)[-1] not in ("user", "tool")
            or _roles(completion) != ["assistant"]
        ):
            raise DataError(
                f"training row {number}: 'prompt' is a list of chat messages that ends with a user "
                "or tool message, 'completion' a list of one assistant message"
            )


def _roles(messages: Any) -> list[str]:
    if not isinstance(messages, list):
        return []
    if not all(isinstance(m, dict) and isinstance(m.get("content"), str) for m in messages):
        return []
    return [str(message.get("role")) for message in messages]
