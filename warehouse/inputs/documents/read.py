"""Read documents as passages, and say of every file what was read, left out and skipped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from warehouse.errors import DataError
from warehouse.inputs.documents.cut import Cutter
from warehouse.inputs.documents.document import Document, UnreadableFile
from warehouse.inputs.documents.extract import READ_KINDS, document_kind, extract, is_document
from warehouse.inputs.documents.find_files import find_files, shown
from warehouse.inputs.documents.lengths import length_counter
from warehouse.inputs.documents.passage import Passage
from warehouse.records import make_id
from warehouse.text.words import count_words
from warehouse.wording import format_count

LENGTH = 120
"""Words or tokens of a passage, where nothing else is said."""
_NAMED = 5


@dataclass(frozen=True)
class DocumentSource:
    """Documents that a part reads, and how it cuts them."""

    patterns: tuple[str, ...]
    """Files, folders or globs, from the plan's folder."""
    length: int | None = LENGTH
    """The most words of a passage, or tokens where there is a `tokenizer`. None: a document is one."""
    column: str = "text"
    """The field of rows that holds their text."""
    tokenizer: str | None = None
    """A tokenizer.json, a folder with one, or the name of a known model."""
    language: str = "en"

    def __post_init__(self) -> None:
        if not self.patterns or not all(self.patterns):
            raise ValueError('documents are files, folders or globs, such as ["docs/**/*.pdf"]')
        if self.length is not None and self.length < 1:
            raise ValueError("words of a passage: 1 or more")


@dataclass
class FileSummary:
    """What came of one file."""

    file: str
    kind: str
    pages: int = 0
    documents: int = 0
    passages: int = 0
    words: int = 0
    """Of its passages."""
    skipped: str | None = None
    """Why it was not read."""
    dropped: Counter[str] = field(default_factory=Counter)
    """What was left out of its text, in the plural -> how often."""
    notes: list[str] = field(default_factory=list)


@dataclass
class DocumentSummary:
    """What came of all files that patterns name; for `distill check` and `show passages`."""

    source: DocumentSource
    files: list[FileSummary] = field(default_factory=list)
    other_kinds: Counter[str] = field(default_factory=Counter)
    """Files in a folder or of a glob that are of no kind that is read, by kind."""
    shared: int = 0
    """Passages whose text stands in several files."""
    copies: int = 0
    """Of these, all but the first of each: recipes ask about a text once."""
    hidden: int = 0
    unread: int = 0
    links: int = 0

    @property
    def read(self) -> list[FileSummary]:
        """The files that have passages."""
        return [file for file in self.files if file.skipped is None]

    @property
    def skipped(self) -> list[FileSummary]:
        """The files that were not read."""
        return [file for file in self.files if file.skipped is not None]

    @property
    def dropped(self) -> Counter[str]:
        """What was left out of the files that were read."""
        return sum((file.dropped for file in self.read), Counter())

    @property
    def passages(self) -> int:
        """How many there are."""
        return sum(file.passages for file in self.read)

    def lines(self) -> list[str]:
        """The whole story, a line each: what was read, left out and skipped."""
        kinds = Counter(file.kind for file in self.read)
        by_kind = ", ".join(f"{number:,} {kind}" for kind, number in sorted(kinds.items()))
        pages = sum(file.pages for file in self.read)
        counts = [
            f"{format_count(len(self.read), 'file')} read ({by_kind})",
            *([format_count(pages, "page")] if pages else []),
            format_count(self.passages, "passage"),
            format_count(sum(file.words for file in self.read), "word"),
        ]
        lines = [f"{', '.join(self.source.patterns)}: {', '.join(counts)}"]
        return [*lines, *self.dropped_lines(), *self.skipped_lines()]

    def dropped_lines(self) -> list[str]:
        """What was left out of the files that were read."""
        left_out = [f"{what}: {number:,}" for what, number in sorted(self.dropped.items())]
        notes = [note for file in self.read for note in file.notes]
        return [
            *([f"left out: {'; '.join(left_out)}"] if left_out else []),
            *self.shared_lines(),
            *notes,
        ]

    def shared_lines(self) -> list[str]:
        """How many passages stand in several files."""
        if not self.shared:
            return []
        stand = "stands" if self.shared == 1 else "stand"
        return [
            f"{format_count(self.shared, 'passage')} {stand} in several files and "
            f"{'is' if self.shared == 1 else 'are'} asked about once; left out: "
            f"{format_count(self.copies, 'copy', 'copies')}"
        ]

    def skipped_lines(self) -> list[str]:
        """What was not read, each file with its reason."""
        lines = [f"skipped: {file.file} {file.skipped}" for file in self.skipped]
        if self.other_kinds:
            kinds = ", ".join(
                kind or "without a suffix" for kind in sorted(self.other_kinds)[:_NAMED]
            )
            number = format_count(self.other_kinds.total(), "file")
            lines.append(f"skipped: {number} of other kinds ({kinds})")
        for count, what in (
            (self.hidden, "hidden files and folders"),
            (self.unread, "folders and links that cannot be opened"),
            (self.links, "links to files that are read under another name"),
        ):
            if count:
                lines.append(f"skipped: {what}: {count:,}")
        return lines


@dataclass(frozen=True)
class ReadDocuments:
    """The passages of documents, and what came of the files."""

    passages: tuple[Passage, ...]
    summary: DocumentSummary


def read_documents(source: DocumentSource, folder: Path) -> ReadDocuments:
    """The passages of documents, in the order of the files' names.

    A file that cannot be read is skipped with its reason. A passage's id hashes its file's name
    and its text, so that files that come or go change nothing about the others. What stands twice
    in a file is one passage.

    Args:
        source: The documents, and how they are cut.
        folder: The plan's folder.

    Raises:
        AssetError, DataError: there is no such file or tokenizer, or no file has a passage.
        MissingExtraError: the library for a format is not installed.
    """
    found = find_files(source.patterns, folder, is_document, READ_KINDS)
    states = tuple(
        (path, stat.st_mtime_ns, stat.st_size) for path in found.files if (stat := path.stat())
    )
    read = _read(source, folder, states)
    summary = replace(
        read.summary,
        other_kinds=Counter(path.suffix.lower() for path in found.unknown),
        hidden=len(found.hidden),
        unread=len(found.unread),
        links=found.repeated,
    )
    if not read.passages:
        raise DataError(
            f"the documents {', '.join(source.patterns)} hold no words; "
            + "; ".join(summary.skipped_lines()[:_NAMED])
        )
    return ReadDocuments(read.passages, summary)


@lru_cache(maxsize=4)
def _read(
    source: DocumentSource, folder: Path, states: tuple[tuple[Path, int, int], ...]
) -> ReadDocuments:
    """Read and cut files once in a process, while they stay as they are: PDF takes its time."""
    count = length_counter(source.tokenizer, folder)
    summary = DocumentSummary(source)
    passages: list[Passage] = []
    for path, _, _ in states:
        file = FileSummary(shown(path, folder), document_kind(path))
        summary.files.append(file)
        try:
            extraction = extract(path, file.file, source.column)
        except UnreadableFile as error:
            file.skipped = str(error)
            continue
        file.pages, file.dropped, file.notes = (
            extraction.pages,
            extraction.dropped,
            extraction.notes,
        )
        file.documents = len(extraction.documents)
        cutter = Cutter(source.length, count, source.language)
        seen: set[str] = set()
        for document in extraction.documents:
            for passage in _passages(document, file.file, cutter):
                if passage.passage_id in seen:
                    file.dropped["repeated passages"] += 1
                    continue
                seen.add(passage.passage_id)
                passages.append(passage)
                file.words += count_words(passage.text)
        file.passages = len(seen)
        if cutter.cut_blocks:
            what = format_count(cutter.cut_blocks, "table or code block", "tables or code blocks")
            file.notes.append(f"{file.file}: {what} too long for one passage, cut between lines")
        if not seen:
            file.skipped = "has no words in it"
    files = Counter(passage.text for passage in passages)
    summary.shared = sum(number > 1 for number in files.values())
    summary.copies = sum(files.values()) - len(files)
    return ReadDocuments(tuple(passages), summary)


def _passages(document: Document, file: str, cutter: Cutter) -> list[Passage]:
    found = []
    for stretch in cutter.cut(document):
        text = document.text[stretch.start : stretch.end]
        page, last = document.page_at(stretch.start), document.page_at(stretch.end - 1)
        places = [
            " ".join(part for part in (file, document.row) if part),
            *([f"page {page}" if page == last else f"pages {page}-{last}"] if page else []),
            *([f"'{stretch.heading}'"] if stretch.heading else []),
        ]
        found.append(
            Passage(
                make_id("passage of a document", file, text),
                text,
                ", ".join(places),
                file,
                page,
                last,
                stretch.heading,
                stretch.start,
                stretch.end,
            )
        )
    return found
