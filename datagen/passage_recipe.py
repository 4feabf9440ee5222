"""Read the passages that a recipe starts from: documents, data sets and files of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from datagen.worded_recipe import WordedRecipe
from warehouse.errors import DataError
from warehouse.inputs import assets
from warehouse.inputs.documents.read import read_documents
from warehouse.inputs.files import read_records
from warehouse.inputs.prompt_sources import held_out_share
from warehouse.inputs.question_wording import LANGUAGES
from warehouse.inputs.rows import Row, find_file, is_held_out, question_messages, read_rows
from warehouse.records import Message, make_id
from warehouse.text.words import split_form

Context = Literal["passage", "extract"]
"""What the teacher is shown: the passage, or the facts that it extracted from it before."""


class NumberedPassage(NamedTuple):
    """A passage and its number, by which what is asked of passages is balanced."""

    text: str
    source: str
    number: int
    """Numbers of neighbours follow each other. A document that is added changes no other's."""


def open_book_messages(question: str, passage: str, language: str) -> list[Message]:
    """What a student sees of a question with its passage.

    In a language without a wording of ours, no words are put around the two.
    """
    if language not in LANGUAGES:
        return [{"role": "user", "content": f"{passage}\n\n{question}"}]
    asked: list[Message] = [{"role": "user", "content": question}]
    return question_messages(Row(question, asked, passage=passage, language=language))


@dataclass(frozen=True, kw_only=True)
class PassageRecipe(WordedRecipe):
    """A recipe with a seed for each passage of `documents` or `passages`."""

    documents: str | list[str] | None = None
    """Files, folders or globs of documents, such as ["docs/**/*.md"]; they are cut into passages."""
    passages: str | None = None
    """In place of documents: a data set's name, or a file of rows with passages."""
    column: str = "passage"
    """The column of that file with the passage."""
    holdout: float | None = None
    """Share of `passages` kept for evaluation and never asked, 0..1. Unset: the data set's own."""
    words: int = 120
    """The most words of a passage cut from documents; characters in Chinese and Japanese."""
    limit: int | None = None
    """Ask about at most this many passages."""

    def __post_init__(self) -> None:
        if (self.documents is None) == (self.passages is None):
            raise ValueError("give documents or passages, one of them")
        if self.holdout is not None and not 0 <= self.holdout < 1:
            raise ValueError("holdout is a share from 0 up to, not including, 1")
        if self.holdout and self.documents is not None:
            raise ValueError(
                "holdout is for passages; keep documents for evaluation in other files"
            )
        if self.limit is not None and self.limit < 1:
            raise ValueError("limit is 1 or more; leave it out to ask about every passage")
        if self.words < 1:
            raise ValueError("words is 1 or more")

    def read_passages(self, folder: Path) -> Iterator[NumberedPassage]:
        """The passages in their order, each once, up to `limit`.

        Raises:
            DataError: a file is missing or malformed, or has no passage.
        """
        seen: set[str] = set()
        numbers: dict[str, int] = {}
        for text, source, group in self._all(folder):
            key = make_id("passage", text)
            if key in seen:
                continue
            if len(seen) == self.limit:
                return
            seen.add(key)
            if group not in numbers:  # a document starts anywhere, but always at the same number
                numbers[group] = int(key[:8], 16) if group else 0
            yield NumberedPassage(text, source, numbers[group])
            numbers[group] += 1

    def _all(self, folder: Path) -> Iterator[tuple[str, str, str]]:
        """(passage, where it stands, the document that it is of)."""
        if self.documents is not None:
            for passage in read_documents(self.document_sources()[0], folder).passages:
                yield passage.text, passage.source, passage.file
            return
        assert self.passages is not None
        is_asset = self.passages in assets.names("data")
        held_out = held_out_share(self.passages, self.holdout)
        number = 0
        for text, source in self._asset() if is_asset else self._file(folder):
            number += 1
            if not is_held_out(split_form(text), held_out):
                yield text, source, ""
        if not number:
            raise DataError(f"{self.passages} has no passages; give at least one row with one")

    def _asset(self) -> Iterator[tuple[str, str]]:
        assert self.passages is not None
        for row in read_rows(self.passages, Path()):
            if row.passage is None:
                raise DataError(f"data set '{self.passages}' has no passages; name another one")
            yield row.passage, row.source

    def _file(self, folder: Path) -> Iterator[tuple[str, str]]:
        assert self.passages is not None
        for where, row in read_records(find_file(self.passages, folder), []):
            text = row.get(self.column) if isinstance(row, dict) else None
            if not isinstance(text, str) or not text.strip():
                raise DataError(
                    f"{where} has no text '{self.column}'; name the column of the passages, "
                    'column = "..."'
                )
            yield text, where
