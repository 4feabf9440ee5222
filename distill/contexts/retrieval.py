"""Put passages of the user's documents before each question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from distill.contestants.context import Context, Sources, before_question
from quality.models.bm25 import Index
from quality.tasks.benchmark import Item
from warehouse.inputs.documents import check_window, read_passages
from warehouse.records import Message


@dataclass(frozen=True)
class Retrieval(Context):
    """The k passages of your documents that match the question best (Lewis et al., 2020).

    Found by BM25; facts without training, paid for with every answer.
    """

    searches = True

    documents: list[str]
    """Files, folders or globs, relative to the plan; PDF and its like where a pattern names them."""
    k: Annotated[int, Field(ge=1)] = 2
    """Passages."""
    words: int = 120
    """Longest passage in words."""
    overlap: int = 30
    """Words of a passage that are also in the next one."""

    def __post_init__(self) -> None:
        check_window(self.words, self.overlap)

    def ready(self, sources: Sources) -> None:
        """Read the documents."""
        read_passages(self.documents, sources.folder, self.words, self.overlap)

    def build_messages(self, items: Sequence[Item], sources: Sources) -> list[list[Message]]:
        """The passages, the best first, then the item's messages.

        Raises:
            DataError: the documents cannot be read.
        """
        passages = read_passages(self.documents, sources.folder, self.words, self.overlap)
        index = Index([passage.text for passage in passages])
        hits = index.search([item.row.prompt for item in items], self.k)
        return [
            before_question(
                item.messages, "\n\n".join(passages[hit.position].text for hit in results)
            )
            if results
            else item.messages
            for item, results in zip(items, hits, strict=True)
        ]

    def description(self) -> str:
        """How many passages."""
        return f"up to {self.k} passages of {', '.join(self.documents)}, then the question"
