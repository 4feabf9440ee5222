"""Define the benchmark interface: held-out items, and how an answer to one is graded."""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from warehouse.catalog import name_of
from warehouse.inputs.rows import Row, RowSource, question_messages
from warehouse.records import Message
from warehouse.text.normalize import contains_answer, exact_match, token_f1

TEXT_METRICS = ("exact_match", "f1", "contains")

_NOT_TOLD = (
    "limit",
    "path",
    "name",
    "include_path",
    "columns",
)  # options that make no other benchmark


@dataclass(frozen=True)
class Item:
    """One held-out question. `messages` is how everyone is asked it."""

    item_id: str
    row: Row
    messages: list[Message]
    """The benchmark's own worked examples, then the question."""
    choices: tuple[str, ...] = ()
    """The options as they are shown, for items of choice."""
    category: str | None = None
    """Its subject or kind, where the benchmark has several."""

    @property
    def passage(self) -> str | None:
        """Its passage, where the messages show it; a closed-book benchmark keeps it back."""
        passage = " ".join((self.row.passage or "").split())
        shown = " ".join(" ".join(message["content"] for message in self.messages).split())
        return self.row.passage if passage and passage in shown else None


@dataclass(frozen=True)
class Grade:
    """Metric -> value in 0..1, or None with the reason of the abstention.

    `details` is what it rests on: for choices and classes what was `said` (None where nothing
    could be read from the answer) and what is `right`.
    """

    values: dict[str, float | None]
    abstained: str | None = None
    details: dict[str, Any] | None = None


class Benchmark(ABC):
    """One file in quality/benchmarks; dataclass fields are its options.

    Wording, worked examples and stop texts belong to the version.
    """

    version: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]  # the first one is the headline
    higher_is_better: ClassVar[bool] = True  # of the headline
    content: ClassVar[str | None] = None  # the metric that tells content from form
    stop: ClassVar[tuple[str, ...]] = ()  # an answer is read up to the first of these

    def __post_init__(self) -> None:
        limit = getattr(self, "limit", None)
        if limit is not None and limit < 1:
            raise ValueError("limit is 1 or more; leave it out for all items")
        if getattr(self, "shots", 0) < 0:
            raise ValueError("shots is 0 or more")

    @property
    def max_new_tokens(self) -> int | None:
        """The benchmark's own limit on an answer, in tokens; None for no other than the plan's."""
        return None

    repeated = 0  # rows that were left out since an item is the same; known once items are read

    @property
    def note(self) -> str | None:
        """What a reader must know of how it is graded here; None where there is nothing."""
        return None

    @property
    def label(self) -> str:
        """Its name, and the options that make another benchmark of it than the default one."""
        return " ".join([name_of(self), *self.settings])

    @property
    def settings(self) -> list[str]:
        """The options that make another benchmark of it than the default one."""
        settings = []
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if field.init and field.name not in _NOT_TOLD and value != _default(field):
                text = value if isinstance(value, str) else json.dumps(value)
                settings.append(f"{field.name}={text}")
        return settings

    @abstractmethod
    def items(self, folder: Path) -> Iterator[Item]:
        """Held-out items in a fixed order, each once; `folder` is where relative paths start."""

    def row_sources(self) -> list[RowSource]:
        """The user's files of rows that it reads, for `distill check`; none by default."""
        return []

    @abstractmethod
    def grade(self, item: Item, answer: str) -> Grade:
        """Grade one answer as it was read; never raises for a strange text."""

    def read(self, answer: str) -> str:
        """The part of an answer that is graded: up to the first stop text."""
        return cut(answer.lstrip(), self.stop) if self.stop else answer

    def grade_all(self, items: Sequence[Item], answers: Sequence[str]) -> list[Grade]:
        """Read and grade the answers, one to each item."""
        return [
            self.grade(item, self.read(answer)) for item, answer in zip(items, answers, strict=True)
        ]


def _default(field: dataclasses.Field[Any]) -> Any:
    factory = field.default_factory
    return field.default if factory is dataclasses.MISSING else factory()


def cut(text: str, stops: Sequence[str]) -> str:
    """The text up to the first stop text in it."""
    places = [place for stop in stops if stop and (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text


def each_once(items: Iterable[Item], limit: int | None) -> Iterator[Item]:
    """The items without those whose id came before, `limit` at most."""
    seen: set[str] = set()
    fresh = (item for item in items if not (item.item_id in seen or seen.add(item.item_id)))  # type: ignore[func-returns-value]
    return islice(fresh, limit)


def item_of(row: Row, passage: bool = True) -> Item:
    """A row as an item that is answered in words."""
    return Item(row.row_id, row, question_messages(row, passage), category=row.category)


def grade_text(reference: list[str], answer: str) -> Grade:
    """The three text metrics, the best over the references; abstains where there is none."""
    if not reference:
        return Grade(dict.fromkeys(TEXT_METRICS), "no reference answer")
    graders = (exact_match, token_f1, contains_answer)
    return Grade(
        {
            metric: max(grader(answer, wanted) for wanted in reference)
            for metric, grader in zip(TEXT_METRICS, graders, strict=True)
        }
    )
