"""Show the passages of documents, and what was left out of them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from flows.cli import output
from warehouse.errors import NothingToDoError, UsageError
from warehouse.inputs.documents import DocumentSource, Passage, ReadDocuments, read_documents
from warehouse.text.words import count_words
from warehouse.wording import format_count

_WIDTH = 96


def show_passages(documents: Sequence[str], limit: int, as_json: bool) -> None:
    """Print the first passages of a plan's recipes or of given documents, then the counts.

    Args:
        documents: A plan, or files, folders and globs from the working directory.
        limit: So many passages of each list of documents.
        as_json: Print all of it as JSON.

    Raises:
        DataError: no document can be read.
        NothingToDoError: the plan's recipes read no documents.
        UsageError: no documents are given.
    """
    if not documents:
        raise UsageError("show passages needs a plan, or documents: `distill show passages docs`")
    found = [read_documents(source, folder) for source, folder in _sources(documents)]
    if as_json:
        output.print_json([_as_json(read, limit) for read in found])
        return
    for read in found:
        for passage in read.passages[:limit]:
            _print_passage(passage)
        left = len(read.passages) - limit
        if left > 0:
            print(f"... and {format_count(left, 'more passage')}; --limit shows more\n")
        for line in read.summary.lines():
            print(output.visible(line))


def _sources(documents: Sequence[str]) -> list[tuple[DocumentSource, Path]]:
    if len(documents) > 1 or Path(documents[0]).suffix != ".toml":
        return [(DocumentSource(tuple(documents)), Path.cwd())]
    from distill.plan.plan import load_plan

    plan = load_plan(Path(documents[0]))
    plan.require("generate")
    sources = [source for recipe in plan.datagen.recipe for source in recipe.document_sources()]
    if not sources:
        raise NothingToDoError(f"no recipe of {documents[0]} reads documents")
    return [(source, plan.folder) for source in dict.fromkeys(sources)]


def _print_passage(passage: Passage) -> None:
    words = format_count(count_words(passage.text), "word")
    place = f"characters {passage.start:,}-{passage.end:,}"
    print(output.visible(f"{passage.source} ({words}, {place})"))
    for line in passage.text.split("\n"):
        for part in textwrap.wrap(line, _WIDTH, replace_whitespace=False) or [""]:
            print(f"    {output.visible(part)}".rstrip())
    print()


def _as_json(read: ReadDocuments, limit: int) -> dict[str, object]:
    summary = read.summary
    return {
        "documents": list(summary.source.patterns),
        "passages": summary.passages,
        "files": [{**vars(file), "dropped": dict(file.dropped)} for file in summary.files],
        "dropped": dict(summary.dropped),
        "in_several_files": {"passages": summary.shared, "copies": summary.copies},
        "skipped": summary.skipped_lines(),
        "shown": [asdict(passage) for passage in read.passages[:limit]],
    }
