"""Check the columns of a record and make a question row of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from warehouse.errors import DataError
from warehouse.inputs.choices import read_choices, resolve_choice
from warehouse.inputs.columns import is_missing, text_of
from warehouse.inputs.question_wording import Language
from warehouse.records import Message, make_id
from warehouse.text.words import split_form

_ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "customer"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model", "ai"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
_TOOL_ROLES = ("tool", "function", "function_call", "tool_call", "tool_response", "observation")


@dataclass(frozen=True)
class Row:
    """One question: `prompt` text or chat `messages`, reference answers, an optional passage.

    `choices` are what may be answered and `category` is its subject, where there are any;
    `extra` are the other columns of the user's file, such as an id.
    """

    prompt: str
    messages: list[Message]
    reference: list[str] = field(default_factory=list)
    passage: str | None = None
    source: str = ""
    choices: tuple[str, ...] = ()
    category: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    language: Language = "en"
    """How it is worded; no part of its id."""

    @property
    def row_id(self) -> str:
        """Hash of question and passage."""
        return make_id("row", self.messages, self.passage)

    @property
    def split_key(self) -> str:
        """What the split hashes: the passage, or the question where there is none."""
        return split_form(self.passage or self.prompt)


def make_row(columns: Mapping[str, Any], where: str) -> Row:
    """Check the values of a record and make its row.

    Raises:
        DataError: one is malformed.
    """
    prompt, messages = columns.get("prompt"), columns.get("messages")
    answer: list[str] = []
    if isinstance(prompt, list) and messages is None:
        prompt, messages = None, prompt  # as TRL has it
    if isinstance(prompt, str) and prompt.strip() and messages is None:
        messages = [{"role": "user", "content": prompt}]
    elif isinstance(messages, list) and messages and prompt is None:
        messages, answer = _chat(messages, where)
        prompt = messages[-1]["content"]
    else:
        has = ", ".join(f"'{name}'" for name in columns)
        raise DataError(
            f"{where} needs a non-empty text 'prompt' or a list 'messages', not both; it has {has}"
        )
    passage, category = columns.get("passage"), columns.get("category")
    if passage is not None and not isinstance(passage, str):
        raise DataError(f"{where}: 'passage' is a text")
    if category is not None and not isinstance(category, str | int | float):
        raise DataError(f"{where}: 'category' is a text")
    if answer and columns.get("reference") is not None:
        raise DataError(
            f"{where}: 'messages' ends with an assistant message, and there is a 'reference' too; "
            "keep one of them"
        )
    choices = read_choices(columns.get("choices"), where)
    reference = answer
    for name in ("reference", "aliases"):
        for value in _values(columns.get(name), name, where):
            text = resolve_choice(value, choices, where) if choices.texts else text_of(value)
            if text.strip() and (name == "reference" or text not in reference):
                reference.append(text)
    category = None if category in (None, "") else text_of(category)
    return Row(prompt, messages, reference, passage, where, tuple(choices.texts), category)


def _chat(messages: list[Any], where: str) -> tuple[list[Message], list[str]]:
    """A conversation up to its last user message, and the answer after it, if there is one."""
    chat = [_chat_message(message, where) for message in messages]
    answer = [chat.pop()["content"]] if chat[-1]["role"] == "assistant" else []
    if not chat or chat[-1]["role"] != "user":
        raise _not_a_chat(where)
    return chat, answer


def _chat_message(message: Any, where: str) -> Message:
    if not isinstance(message, dict):
        raise _not_a_chat(where)
    role, content = message.get("role"), message.get("content")
    if role in ("system", "user", "assistant") and isinstance(content, str):
        return message  # as it is, since ids hash it
    plain = str(role).lower()
    if plain in _TOOL_ROLES or message.get("tool_calls") or message.get("function_call"):
        raise DataError(
            f"{where} has a tool call (role '{role}'), which cannot be distilled; leave such rows out"
        )
    if plain not in _ROLES:
        raise _not_a_chat(where)
    return {"role": _ROLES[plain], "content": _content(content, where)}


def _content(content: Any, where: str) -> str:
    """The text of a message, whose parts stand on lines of their own."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise _not_a_chat(where)
    texts = []
    for part in content:
        text = part.get("text") if isinstance(part, dict) else part
        if not isinstance(text, str):
            kind = part.get("type", "unknown") if isinstance(part, dict) else "unknown"
            raise DataError(
                f"{where} has a message part of type '{kind}'; only texts can be distilled, so leave "
                "such rows out"
            )
        texts.append(text)
    return "\n".join(texts)


def _not_a_chat(where: str) -> DataError:
    return DataError(
        f"{where}: 'messages' is a list of {{role, content}} with roles system, user, assistant, and "
        "ends with a user message, or with the assistant's answer to it"
    )


def _values(value: Any, name: str, where: str) -> list[Any]:
    """The texts and numbers in a value that is one or a list of them."""
    values = value if isinstance(value, list | tuple) else [value]
    if not all(item is None or isinstance(item, str | int | float) for item in values):
        raise DataError(f"{where}: '{name}' is a text or a list of texts")
    return [item for item in values if not is_missing(item)]
