"""Build benchmarks from question rows: held-out ones are asked, others are worked examples."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quality.tasks.benchmark import Benchmark, Item, each_once, item_of
from warehouse.errors import DataError
from warehouse.inputs import assets
from warehouse.inputs.rows import Row, choice_messages, is_held_out
from warehouse.records import Message, make_id
from warehouse.text.lettered import right_letters
from warehouse.wording import format_count

_EXAMPLE_CHARS = 600  # a longer question is a worked example only where there are no shorter ones


@dataclass
class Questions(Benchmark):
    """Rows in a fixed order, each held out or free to be shown as a worked example."""

    limit: int | None = None
    """At most so many items."""
    shots: int = 0
    """Worked examples before each question, from rows that are not held out."""

    @abstractmethod
    def rows(self, folder: Path) -> Iterable[tuple[Row, bool]]:
        """All rows, and whether each is held out; the held-out ones in the order they are asked."""

    def item(self, row: Row) -> Item:
        """A row as an item without worked examples: of choice where it has choices."""
        return choice_item(row) if row.choices else item_of(row)

    def kin(self, row: Row) -> str | None:
        """Worked examples for a row are of its kin; all are one kin, if not told otherwise."""
        return None

    def items(self, folder: Path) -> Iterator[Item]:
        """Held-out items in a fixed order, each once.

        Raises:
            AssetError: the data could not be downloaded.
            DataError: too few rows are fit for worked examples.
        """
        held: list[Row] = []
        spare: defaultdict[str | None, list[Row]] = defaultdict(list)
        for row, is_held in self.rows(folder):
            if is_held:
                held.append(row)
            elif row.reference:
                spare[self.kin(row)].append(row)
        messages_by_passage: dict[str | None, list[Message]] = {}
        used_ids = {row.row_id for row in held}  # MMLU has some questions in two splits
        for kin in {self.kin(row) for row in held} if self.shots else ():
            messages_by_passage[kin] = self._examples(
                [row for row in spare[kin] if row.row_id not in used_ids]
            )
        items = [self.item(row) for row in held]
        self.repeated = len(items) - len({item.item_id for item in items})
        for item in each_once(items, self.limit):
            if self.shots:
                messages = [*messages_by_passage[self.kin(item.row)], *item.messages]
                item = replace(item, messages=messages)
            yield item

    def _examples(self, rows: Sequence[Row]) -> list[Message]:
        """The first rows with a short question, as turns of user and assistant."""
        turns: list[list[Message]] = []
        for item in sorted((self.item(row) for row in rows), key=_is_long)[: self.shots]:
            turns.append([*item.messages, {"role": "assistant", "content": right_answer(item)}])
        if len(turns) < self.shots:
            raise DataError(
                f"{self.shots} worked examples are wanted, but only {format_count(len(turns), 'row')} that are not "
                "held out have a reference; lower `shots` or `holdout`"
            )
        return [message for turn in turns for message in turn]


def split(rows: Iterable[Row], asset: str) -> list[tuple[Row, bool]]:
    """Rows by their hash, and whether each falls in the asset's held-out share."""
    share = assets.entry(asset).holdout
    return [
        (row, is_held_out(row.split_key, share)) for row in sorted(rows, key=lambda row: row.row_id)
    ]


def choice_item(row: Row, passage: bool = True, shuffle: bool = False) -> Item:
    """A row as an item of choice: question, lettered options, and that a letter is asked for.

    Shuffled options stand in the order of a hash of question and option, so that the right one
    is at no fixed place.

    Raises:
        DataError: there are more options than letters.
    """
    choices = row.choices
    if shuffle:
        choices = tuple(sorted(choices, key=lambda text: _digest(row.row_id, text)))
    messages = choice_messages(row, choices, passage)
    item_id = make_id("choice", row.row_id, choices)
    return Item(item_id, row, messages, choices, row.category)


def keyed_row(raw: dict[str, Any], source: str) -> Row:
    """A row whose options have labels of their own and whose answer is one of these labels."""
    options = dict(zip(raw["choices"]["label"], raw["choices"]["text"], strict=True))
    messages = [{"role": "user", "content": raw["prompt"]}]
    right = [options[raw["answer"]]]
    return Row(raw["prompt"], messages, right, source=source, choices=tuple(options.values()))


def right_answer(item: Item) -> str:
    """What a worked example answers: the letter of the right option, else the first reference."""
    if item.choices:
        return (right_letters(item.choices, item.row.reference) or item.row.reference)[0]
    return item.row.reference[0]


def _is_long(item: Item) -> bool:
    return len(item.messages[-1]["content"]) > _EXAMPLE_CHARS


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "replace")).hexdigest()
