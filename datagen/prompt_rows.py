"""Read the rows that a recipe starts from: a data set's training side, or a user's file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from datagen.recipe import Seed
from warehouse.inputs import assets
from warehouse.inputs.question_wording import Language
from warehouse.inputs.rows import Row, RowSource, check_columns, question_messages, read_rows
from warehouse.records import Message


def check_row_options(
    columns: Mapping[str, str] | None, holdout: float | None, limit: int | None
) -> None:
    """Check the options of a recipe that reads rows.

    Raises:
        ValueError: one is out of its bounds.
    """
    check_columns(columns)
    if holdout is not None and not 0 <= holdout < 1:
        raise ValueError("holdout is a share from 0 up to, not including, 1")
    if limit is not None and limit < 1:
        raise ValueError("limit is 1 or more; leave it out to take every row")


def training_rows(
    prompts: str,
    folder: Path,
    columns: Mapping[str, str] | None = None,
    holdout: float | None = None,
    limit: int | None = None,
) -> Iterator[Row]:
    """The rows that are not held out for evaluation, each question with its passage once.

    Args:
        prompts: A data set's name, or a file.
        folder: Where a relative path starts.
        columns: Column of ours -> column of the file.
        holdout: Share that is held out; None: the data set's own, 0 for a file.
        limit: At most this many.

    Raises:
        DataError: the file is missing or malformed.
        AssetError: the data set could not be downloaded.
    """
    if holdout is None:
        holdout = assets.entry(prompts).holdout if prompts in assets.names("data") else 0.0
    rows = read_rows(prompts, folder, "train" if holdout else "all", holdout, columns)
    yield from islice(_once(rows), limit)


def row_source(prompts: str, columns: Mapping[str, str] | None) -> list[RowSource]:
    """The user's file of rows, for `Recipe.row_sources`; nothing where they are a data set's."""
    return [] if prompts in assets.names("data") else [RowSource(prompts, columns)]


def seeds_of_rows(rows: Iterator[Row]) -> Iterator[Seed]:
    """A seed for each row: its messages, reference and passage."""
    for order, row in enumerate(rows):
        value = {"messages": row.messages, "reference": row.reference, "passage": row.passage}
        yield Seed(value, row.source, order)


def messages_of_seed(seed: Seed, language: str = "en", prompt: str | None = None) -> list[Message]:
    """What a row's question is shown as, with its passage; `prompt` stands for its last message."""
    messages = [dict(message) for message in seed.value["messages"]]
    if prompt is not None:
        messages[-1]["content"] = prompt
    worded: Language = "zh" if language == "zh" else "en"
    passage = seed.value["passage"]
    row = Row(messages[-1]["content"], messages, passage=passage, language=worded)
    return question_messages(row)


def prompt_of_seed(seed: Seed) -> str:
    """The last message of a row, without its passage."""
    return str(seed.value["messages"][-1]["content"])


def _once(rows: Iterator[Row]) -> Iterator[Row]:
    seen: set[bytes] = set()
    for row in rows:
        key = bytes.fromhex(row.row_id)
        if key not in seen:
            seen.add(key)
            yield row
