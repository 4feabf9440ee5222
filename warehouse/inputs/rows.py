"""Load question rows from an asset or a user's file, and split off the held-out ones.

A row is what every recipe starts from and every benchmark asks. The split is a stable
hash of the normalised passage (of the question where there is none), so a passage is
wholly on one side, in any order, on any machine, on any day.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from warehouse.errors import DataError
from warehouse.inputs import assets
from warehouse.inputs.refusal_phrases import normalise
from warehouse.records import Message, make_id

Split = Literal["all", "train", "held_out"]


@dataclass(frozen=True)
class Row:
    """One question: `prompt` text or chat `messages`, reference answers, an optional passage.

    `choices` are what may be answered and `category` is its subject, where there are any.
    """

    prompt: str
    messages: list[Message]
    reference: list[str] = field(default_factory=list)
    passage: str | None = None
    source: str = ""
    choices: tuple[str, ...] = ()
    category: str | None = None

    @property
    def row_id(self) -> str:
        """Hash of question and passage."""
        return make_id("row", self.messages, self.passage)

    @property
    def split_key(self) -> str:
        """What the split hashes: the passage, or the question where there is none."""
        return normalise(self.passage or self.prompt)


def is_held_out(key: str, holdout: float) -> bool:
    """Whether a split key falls in the held-out share (0..1)."""
    bucket = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    return bucket < holdout


def question_messages(row: Row, passage: bool = True) -> list[Message]:
    """How a row is put to a reader: its passage before the last user message, if wanted."""
    messages = [dict(message) for message in row.messages]
    if passage and row.passage:
        last = messages[-1]
        last["content"] = f"{row.passage}\n\nQuestion: {last['content']}\nAnswer:"
    return messages


def read_rows(
    source: str, folder: Path, split: Split = "all", holdout: float = 0.0
) -> Iterator[Row]:
    """Rows of an asset (by name) or of a JSONL, CSV or Parquet file.

    A file's rows have `prompt` or `messages`, and optionally `reference` (text or list),
    `aliases` (further right answers), `passage`, `choices` (a list) and `category`; a list in
    a CSV file is written in JSON. A relative path starts at `folder`, else at the working
    directory.

    Raises:
        DataError: the file is missing, empty or malformed; the line is named.
        AssetError: the asset could not be downloaded.
    """
    if source in assets.names("data"):
        rows: Iterator[Row] = (
            _row(raw, f"{source}:{n}") for n, raw in enumerate(assets.rows(source))
        )
    else:
        rows = _file_rows(_find(source, folder))
    for row in rows:
        if split == "all" or is_held_out(row.split_key, holdout) == (split == "held_out"):
            yield row


def _find(source: str, folder: Path) -> Path:
    for path in (folder / source, Path(source)):
        if path.is_file():
            return path
    known = ", ".join(assets.names("data"))
    raise DataError(
        f"no data file '{source}' (looked in {folder} and the working directory; "
        f"data sets known by name: {known})"
    )


def _file_rows(path: Path) -> Iterator[Row]:
    count = 0
    for where, raw in _raw_rows(path):
        count += 1
        yield _row(raw, where)
    if not count:
        raise DataError(f"{path} has no rows; give at least one row with 'prompt' or 'messages'")


def _raw_rows(path: Path) -> Iterator[tuple[str, Any]]:
    kind = path.suffix.lower()
    if kind in (".jsonl", ".ndjson"):
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    where = f"{path.name} line {number}"
                    try:
                        raw = json.loads(line)
                        if b"\\ud" in line or b"\\uD" in line:
                            json.dumps(raw, ensure_ascii=False).encode()
                    except UnicodeEncodeError:
                        raise DataError(
                            f"{where} has half a character (an unpaired surrogate); correct the text"
                        ) from None
                    except ValueError as error:
                        raise DataError(
                            f"{where} is not JSON ({error}); one object per line is expected"
                        ) from None
                    yield where, raw
    elif kind in (".csv", ".parquet"):
        import polars as pl

        try:
            table = (
                pl.read_csv(path, infer_schema=False) if kind == ".csv" else pl.read_parquet(path)
            )
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(f"{path.name} cannot be read as {kind[1:].upper()}: {reason}") from None
        offset = 2 if kind == ".csv" else 1
        for number, raw in enumerate(table.iter_rows(named=True), start=offset):
            yield f"{path.name} row {number}", _with_lists(raw) if kind == ".csv" else raw
    else:
        raise DataError(f"{path.name}: unknown kind of file; allowed: .jsonl, .csv, .parquet")


def _with_lists(raw: dict[str, Any]) -> dict[str, Any]:
    """A row of CSV; where a list may stand, a cell that is one in JSON is read as one."""
    read = dict(raw)
    for column in ("reference", "aliases", "choices"):
        if str(read.get(column) or "").lstrip().startswith("["):
            with suppress(ValueError):
                read[column] = json.loads(read[column])
    return read


def _row(raw: Any, where: str) -> Row:
    if not isinstance(raw, dict):
        raise DataError(f"{where} is not an object with 'prompt' or 'messages'")
    prompt, messages = raw.get("prompt"), raw.get("messages")
    if isinstance(prompt, str) and prompt.strip() and messages is None:
        messages = [{"role": "user", "content": prompt}]
    elif isinstance(messages, list) and messages and prompt is None:
        if (
            not all(
                isinstance(m, dict)
                and m.get("role") in ("system", "user", "assistant")
                and isinstance(m.get("content"), str)
                for m in messages
            )
            or messages[-1]["role"] != "user"
        ):
            raise DataError(
                f"{where}: 'messages' is a list of {{role, content}} with roles system, user, "
                "assistant, and ends with a user message"
            )
        prompt = messages[-1]["content"]
    else:
        has = ", ".join(f"'{name}'" for name in raw) or "nothing"
        raise DataError(
            f"{where} needs a non-empty text 'prompt' or a list 'messages', not both; it has {has}"
        )
    passage, category = raw.get("passage"), raw.get("category")
    reference = _texts(raw, "reference", where)
    reference += [text for text in _texts(raw, "aliases", where) if text not in reference]
    choices = tuple(_texts(raw, "choices", where))
    if len(choices) == 1:
        raise DataError(f"{where}: 'choices' is a list of two texts or more")
    if passage is not None and not isinstance(passage, str):
        raise DataError(f"{where}: 'passage' is a text")
    if category is not None and not isinstance(category, (str, int)):
        raise DataError(f"{where}: 'category' is a text")
    category = None if category in (None, "") else str(category)
    return Row(prompt, messages, reference, passage or None, where, choices, category)


def _texts(raw: dict[str, Any], column: str, where: str) -> list[str]:
    value = raw.get(column)
    if value is None or value == "":
        return []
    if isinstance(value, (str, int, float)):
        return [str(value)]
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise DataError(f"{where}: '{column}' is a text or a list of texts")
    return list(value)
