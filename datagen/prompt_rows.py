"""Read the rows that a recipe starts from: a data set's training side, or a user's file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from datagen.recipe import Seed
from warehouse.inputs.prompt_sources import PromptSources, read_prompts
from warehouse.inputs.question_wording import Language
from warehouse.inputs.rows import Row, question_messages
from warehouse.records import Message


def rows_to_ask(
    prompts: PromptSources,
    folder: Path,
    columns: Mapping[str, str] | None = None,
    holdout: float | None = None,
    limit: int | None = None,
) -> Iterator[Row]:
    """The rows that are not held out for evaluation, each question with its passage once.

    Args:
        prompts: One source or several, see `warehouse.inputs.prompt_sources`.
        folder: Where a relative path starts.
        columns: Column of ours -> column of the file.
        holdout: Share that is held out; None: the data set's own, 0 for a file.
        limit: At most this many.

    Raises:
        DataError: the file is missing or malformed.
        AssetError: the data set could not be downloaded.
    """
    yield from islice(_once(read_prompts(prompts, folder, None, holdout, columns)), limit)


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
