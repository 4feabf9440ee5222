"""Load question rows from an asset or a user's file, and split off the held-out ones.

A row is what every recipe starts from and every benchmark asks. The split is a stable
hash of the normalised passage (of the question where there is none), so a passage is
wholly on one side, in any order, on any machine, on any day.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from warehouse.errors import DataError
from warehouse.inputs import assets
from warehouse.inputs.columns import COLUMNS
from warehouse.inputs.files import TEXT_CELLS, kind_of, read_records
from warehouse.inputs.hub_rows import is_hub, read_hub
from warehouse.inputs.question_row import Row
from warehouse.inputs.question_wording import WORDINGS, Language
from warehouse.inputs.row_parser import RowParser
from warehouse.records import Message
from warehouse.text.lettered import LETTERS

__all__ = [
    "Row",
    "RowSource",
    "SourceSummary",
    "check_columns",
    "choice_messages",
    "find_file",
    "in_language",
    "is_held_out",
    "question_messages",
    "read_rows",
    "summarize_rows",
]  # fmt: skip

Split = Literal["all", "train", "held_out"]


class RowSource(NamedTuple):
    """Where a part of a plan takes its rows from, and how the plan names their columns."""

    source: str
    columns: Mapping[str, str] | None = None


def is_held_out(key: str, holdout: float) -> bool:
    """Whether a split key falls in the held-out share (0..1)."""
    bucket = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    return bucket < holdout


def in_language(rows: Iterable[Row], language: Language) -> Iterator[Row]:
    """The rows as worded in a language."""
    return (row if row.language == language else replace(row, language=language) for row in rows)


def question_messages(row: Row, passage: bool = True) -> list[Message]:
    """How a row is put to a reader: its passage before the last user message, if wanted."""
    messages = [dict(message) for message in row.messages]
    if passage and row.passage:
        last = messages[-1]
        wording = WORDINGS[row.language]
        question = wording.question.format(last["content"])
        last["content"] = f"{row.passage}\n\n{question}\n{wording.answer}"
    return messages


def choice_messages(row: Row, choices: Sequence[str], passage: bool = True) -> list[Message]:
    """How a question of choice is put: lettered options after it, and that a letter is asked for.

    Raises:
        DataError: there are more options than letters.
    """
    if len(choices) > len(LETTERS):
        raise DataError(f"{row.source}: {len(choices)} choices are more than there are letters")
    options = "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, choices, strict=False))
    messages = question_messages(row, passage=False)
    wording = WORDINGS[row.language]
    messages[-1]["content"] += f"\n{options}\n{wording.choose}"
    if passage and row.passage:
        question = wording.question.format(messages[-1]["content"])
        messages[-1]["content"] = f"{row.passage}\n\n{question}"
    return messages


def check_columns(columns: Mapping[str, str] | None) -> None:
    """Check a plan's `columns`: column of ours -> column of the file.

    Raises:
        ValueError: a key is no column of a row.
    """
    unknown = sorted((columns or {}).keys() - set(COLUMNS))
    if unknown:
        raise ValueError(
            f"columns maps {', '.join(COLUMNS)} to columns of the file; '{unknown[0]}' is none of them"
        )


def read_rows(
    source: str,
    folder: Path,
    split: Split = "all",
    holdout: float = 0.0,
    columns: Mapping[str, str] | None = None,
) -> Iterator[Row]:
    """Rows of an asset (by name), of a file (JSON, JSON Lines, CSV, Parquet or Excel) or of the hub.

    A file's rows have `prompt` or `messages`, and optionally `reference` (text or list),
    `aliases` (further right answers), `passage`, `choices` (a list) and `category`; a list in
    a CSV file is written in JSON. `warehouse.inputs.row_forms` reads further forms. A relative
    path starts at `folder`, else at the working directory.

    Args:
        source: Name of an asset, path of a file, or "hf:org/name" (`warehouse.inputs.hub_rows`).
        folder: Where a relative path starts.
        split: Which rows are wanted.
        holdout: Share of the rows that is held out.
        columns: Column of ours -> column of the file, where it has another name there.

    Raises:
        DataError: the file is missing, empty or malformed; the line is named.
        AssetError: the asset could not be downloaded.
    """
    if source in assets.names("data"):
        parser = RowParser(columns)
        parsed = (parser.parse(raw, f"{source}:{n}") for n, raw in enumerate(assets.rows(source)))
        rows: Iterator[Row] = (row for row in parsed if row is not None)
    elif is_hub(source):
        rows = _parsed_rows(source, read_hub(source), RowParser(columns))
    else:
        path = find_file(source, folder)
        rows = _file_rows(path, RowParser(columns, kind_of(path) in TEXT_CELLS), [])
    for row in rows:
        if split == "all" or is_held_out(row.split_key, holdout) == (split == "held_out"):
            yield row


@dataclass
class SourceSummary:
    """What is in a file of rows; for `distill check`."""

    source: str
    rows: int = 0
    references: int = 0
    passages: int = 0
    choices: int = 0
    duplicates: int = 0
    """Rows whose question and passage came before."""
    blank: int = 0
    forms: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    """Columns that nobody reads; they are kept with the row."""
    notes: list[str] = field(default_factory=list)
    """What a reader should know or correct, one sentence each."""
    long: int = 0
    """Rows that `is_long` was true of."""


def summarize_rows(
    source: RowSource, folder: Path, is_long: Callable[[Row], bool] = lambda row: False
) -> SourceSummary:
    """Read a whole file of rows and count what is in it.

    Raises:
        DataError: the file is missing, empty or malformed; the line is named.
    """
    path = find_file(source.source, folder)
    parser = RowParser(source.columns, kind_of(path) in TEXT_CELLS)
    summary = SourceSummary(source.source)
    seen: set[str] = set()
    for row in _file_rows(path, parser, summary.notes):
        summary.rows += 1
        summary.references += bool(row.reference)
        summary.passages += row.passage is not None
        summary.choices += bool(row.choices)
        summary.duplicates += row.row_id in seen
        summary.long += is_long(row)
        seen.add(row.row_id)
    summary.blank = parser.blank
    summary.forms = list(parser.forms)
    summary.unread = list(parser.unread)
    for column, near in parser.hints.items():
        summary.notes.append(
            f"{source.source}: nobody reads the column '{column}'; did you mean '{near}'? "
            f'(write columns = {{ {near} = "{column}" }})'
        )
    return summary


def find_file(source: str, folder: Path) -> Path:
    """The file of a source, from `folder` or from the working directory.

    Raises:
        DataError: there is none.
    """
    named = Path(source).expanduser()
    for path in (folder / named, named):
        if path.is_file():
            return path
    known = ", ".join(assets.names("data"))
    raise DataError(
        f"no data file '{source}' (looked in {folder} and the working directory; "
        f"data sets known by name: {known})"
    )


def _file_rows(path: Path, parser: RowParser, notes: list[str]) -> Iterator[Row]:
    yield from _parsed_rows(str(path), read_records(path, notes), parser)


def _parsed_rows(name: str, records: Iterator[tuple[str, Any]], parser: RowParser) -> Iterator[Row]:
    count = 0
    for where, raw in records:
        row = parser.parse(raw, where)
        if row is not None:
            count += 1
            yield row
    if not count:
        raise DataError(f"{name} has no rows; give at least one row with 'prompt' or 'messages'")
    if unmet := parser.unmet_columns():
        raise DataError(
            f"{Path(name).name} has no column '{unmet[0]}', which the plan's `columns` names; it has "
            f"{', '.join(sorted(parser.seen))}"
        )
