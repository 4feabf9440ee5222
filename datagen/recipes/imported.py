"""Build samples of replies that were paid for elsewhere; the teacher is not asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from datagen.ask import Ask
from datagen.imported_calls import Turns, imported_call, replies_in, reply_of
from datagen.recipe import Example, Recipe, Seed, each_once
from datagen.reply_status import status_of
from warehouse.catalog import name_of
from warehouse.inputs.conversations import Conversation, ConversationReader, Form
from warehouse.inputs.rows import find_file
from warehouse.records import Prompt, make_id


@dataclass(frozen=True)
class Imported(Recipe):
    """Conversations of a file, with the replies that a named teacher once gave.

    Chats, ShareGPT, Alpaca, prompts with completions, OpenAI batches, and exports of distilabel and
    curator are read. Nothing is asked: each reply is recorded as a call of the teacher
    `import:NAME`, at the cost that is known of it. A row that is malformed is told and left out.
    """

    version: ClassVar[str] = "1"
    calls_per_seed: ClassVar[tuple[int, int]] = (0, 0)

    file: str
    """A file of conversations: JSON, JSON Lines, CSV, Parquet or Excel."""
    teacher: str
    """Who gave the replies; names the teacher in records, reports and cards."""
    format: Form = "auto"
    """The form of its rows; "auto" tells it by their columns."""
    requests: str | None = None
    """The input file of an OpenAI batch, where `file` is its output."""
    turns: Turns = "last"
    """"last": a sample of each conversation's last reply; "all": one of each reply in it."""
    limit: int | None = None
    """Read at most this many conversations."""
    target: int | None = None
    """Stop once so many examples are ok; left out, every conversation is read."""
    max_calls: int | None = None
    """Stop after the replies of so many calls."""

    def __post_init__(self) -> None:
        if not self.teacher.strip():
            raise ValueError("teacher is the name of the model that gave the replies")
        if self.limit is not None and self.limit < 1:
            raise ValueError("limit is 1 or more; leave it out to read every row")

    def reader(self, folder: Path) -> ConversationReader:
        """A reader of the file, which counts what cannot be used.

        Raises:
            DataError: there is no such file.
        """
        requests = find_file(self.requests, folder) if self.requests else None
        return ConversationReader(find_file(self.file, folder), self.format, requests)

    def why_empty(self, folder: Path) -> str | None:
        """No row of the file is a conversation of a known form."""
        reader = self.reader(folder)
        if next(self.conversations(reader), None) is not None:
            return None
        first = f": {reader.faults[0]}" if reader.faults else ""
        return f"{self.file} has no usable conversation{first}"

    def conversations(self, reader: ConversationReader) -> Iterator[Conversation]:
        """The usable conversations, up to `limit`."""
        return islice(reader.read(), self.limit)

    def seeds(self, folder: Path, prepared: dict[str, Any]) -> Iterator[Seed]:
        """A seed for each conversation; one that comes again is one seed."""
        conversations = self.conversations(self.reader(folder))
        found = ((self._prompt(conversation), conversation) for conversation in conversations)
        once = each_once(found, lambda pair: pair[0].prompt_id)
        for order, (prompt, conversation) in enumerate(once):
            yield Seed(asdict(conversation), conversation.source, order, prompt)

    async def make(self, seed: Seed, ask: Ask) -> AsyncIterator[Example]:
        """An example of the last reply, or of each, with the status that any reply would have."""
        conversation = Conversation(**seed.value)
        for part in replies_in(conversation, self.turns):
            call = imported_call(part, self.teacher)
            ask.cite(call)
            status, reason = status_of(reply_of(call), may_call_tools=bool(part.calls))
            facts = {"tools": part.tools, "tool_calls": part.calls, "model": part.model}
            yield Example(
                part.asked,
                call.text.strip(),
                question=_last_question(part),
                reference=part.reference,
                passage=part.passage,
                status=status,
                reason=reason,
                facts={name: fact for name, fact in facts.items() if fact},
            )

    def _prompt(self, conversation: Conversation) -> Prompt:
        """The record of a conversation; where it stands in its file is no part of its id."""
        return Prompt.of(
            recipe=name_of(self),
            recipe_options={
                "teacher": self.teacher,
                "turns": self.turns,
                "conversation": make_id(conversation.messages, conversation.sampling),
            },
            messages=conversation.asked,
            question=_last_question(conversation),
            reference=conversation.reference,
            passage=conversation.passage,
            source=conversation.source,
        )


def _last_question(conversation: Conversation) -> str:
    asked = reversed(conversation.asked)
    return next(str(message["content"]) for message in asked if message["role"] == "user")
