"""Read finished conversations from files of other tools: chats, ShareGPT, Alpaca, batches, exports.

A conversation ends with a reply. `warehouse.inputs.rows` reads questions that are still to be
asked; here the replies are what is wanted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from warehouse.errors import DataError
from warehouse.inputs.columns import is_missing
from warehouse.inputs.conversations.alpaca import read_alpaca
from warehouse.inputs.conversations.chat import read_chat, read_prompt_completion
from warehouse.inputs.conversations.conversation import Conversation
from warehouse.inputs.conversations.curator import read_curator
from warehouse.inputs.conversations.distilabel import read_distilabel
from warehouse.inputs.conversations.fields import REPLY_COLUMNS
from warehouse.inputs.conversations.openai_batch import (
    WrongFileError,
    read_openai_batch,
    read_request_bodies,
)
from warehouse.inputs.conversations.share_gpt import read_share_gpt_row
from warehouse.inputs.files import TEXT_CELLS, kind_of, read_records

Form = Literal[
    "auto", "chat", "prompt-completion", "sharegpt", "alpaca", "openai-batch", "distilabel", "curator"
]  # fmt: skip
FORMS = get_args(Form)[1:]
"""The forms that are read, each told by its columns."""

_JSON_CELLS = ("messages", "conversations", "prompt", "completion", "tools", "generic_request")
_READERS: dict[str, Callable[[Mapping[str, Any], str], list[Conversation]]] = {
    "chat": read_chat,
    "prompt-completion": read_prompt_completion,
    "sharegpt": read_share_gpt_row,
    "alpaca": read_alpaca,
    "distilabel": read_distilabel,
    "curator": read_curator,
}
"""Form -> reader of a row; the rows of a batch need its input file too."""


class ConversationReader:
    """Reads the conversations of one file; a row that is malformed costs only itself.

    Args:
        path: The file, of any kind that `warehouse.inputs.files` reads.
        form: One of `FORMS`; "auto" tells it by the columns of each row.
        requests: The input file of an OpenAI batch, which has what was asked.
    """

    def __init__(self, path: Path, form: Form = "auto", requests: Path | None = None) -> None:
        self.path, self.form, self.requests = path, form, requests
        self.faults: list[str] = []
        """What is wrong with each row that cannot be used."""
        self.notes: list[str] = []
        """What a reader should know of the file."""
        self.forms: Counter[str] = Counter()
        self.rows = 0
        self.trimmed = 0
        """Conversations after whose last reply something was asked; it is left out."""
        self._bodies: dict[str, Any] = {}

    def read(self) -> Iterator[Conversation]:
        """The conversations, in the order of the file.

        Raises:
            DataError: a file cannot be read at all, or a batch's input file is not named.
        """
        if self.requests is not None:
            self._bodies = read_request_bodies(self.requests, self.faults)
        text_cells = kind_of(self.path) in TEXT_CELLS
        unusable = len(self.faults)  # those of the input file are no rows of this one
        for where, raw in read_records(self.path, self.notes, faults=self.faults):
            self.rows += 1
            try:
                yield from self._conversations(_without_gaps(raw, where, text_cells), where)
            except DataError as error:
                if isinstance(error, WrongFileError):
                    raise
                self.faults.append(str(error))
                unusable += 1
        self.rows += len(self.faults) - unusable  # rows that are no JSON

    def _conversations(self, values: dict[str, Any], where: str) -> list[Conversation]:
        form = _form_of(values, where) if self.form == "auto" else self.form
        if form == "openai-batch":
            read = read_openai_batch(values, where, self._bodies)
        else:
            read = _READERS[form](values, where)
        found = [self._checked(conversation, where) for conversation in read]
        self.forms[form] += 1
        return found

    def _checked(self, conversation: Conversation, where: str) -> Conversation:
        """The conversation up to its last reply.

        Raises:
            DataError: there is no question or no reply, or it is a text beside tool calls.
        """
        messages = list(conversation.messages)
        while messages and messages[-1]["role"] != "assistant":
            messages.pop()
        if not messages:
            raise DataError(f"{where} has no reply: no message is the assistant's")
        self.trimmed += len(messages) < len(conversation.messages)
        has_text = bool(str(messages[-1]["content"]).strip())
        if messages[-1].get("tool_calls") and has_text:
            raise DataError(
                f"{where} ends with a text beside tool calls; a reply is either of them"
            )
        if not messages[-1].get("tool_calls") and not has_text:
            raise DataError(f"{where} has an empty reply")
        first = next(message for message in messages if message["role"] != "system")
        if first["role"] != "user":
            raise DataError(
                f"{where} begins with a message of role '{first['role']}'; after system messages, a "
                "conversation begins with the user's"
            )
        return replace(conversation, messages=messages)


def _without_gaps(raw: Any, where: str, text_cells: bool) -> dict[str, Any]:
    """A record without its empty columns; lists that stand as JSON in a text cell are read."""
    if not isinstance(raw, Mapping):
        raise DataError(f"{where} is not an object")
    values = {key: value for key, value in raw.items() if not is_missing(value) or value == ""}
    for name in _JSON_CELLS if text_cells else ("tools", "generic_request"):
        text = values.get(name)
        if isinstance(text, str) and text.lstrip()[:1] in ("[", "{"):
            try:
                values[name] = json.loads(text)
            except ValueError:
                continue  # then it is a text, and not a list
    return values


def _form_of(values: Mapping[str, Any], where: str) -> str:
    """The form of a record, by its columns.

    Raises:
        DataError: it is none that is known.
    """
    has_reply = any(name in values for name in REPLY_COLUMNS)
    if "custom_id" in values and ("response" in values or "error" in values):
        return "openai-batch"
    if "generic_request" in values:
        return "curator"
    if "distilabel_metadata" in values or (
        "generation" in values and {"instruction", "model_name"} & values.keys()
    ):
        return "distilabel"
    if "conversations" in values:
        return "sharegpt"
    if "messages" in values:
        return "chat"
    if "prompt" in values and has_reply:
        return "prompt-completion"
    if "instruction" in values and {"output", "response"} & values.keys():
        return "alpaca"
    has = ", ".join(f"'{name}'" for name in values)
    raise DataError(
        f"{where} is in no form that is known; it has {has[:200] or 'no columns'} (known: "
        f"{', '.join(FORMS)}; each has what was asked and the reply)"
    )
