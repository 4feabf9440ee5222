"""Score whether the completion is found in the user's documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

from quality.models.bm25 import Hit, Index
from quality.scoring.lexical_support import Evidence, Over, echo_verdict, split, verdict
from quality.scoring.scorer import Scorer, Verdict
from quality.text.negation import LANGUAGES
from warehouse.inputs.documents import Passage, check_window, read_passages
from warehouse.records import Sample, make_id


@dataclass
class Retrieved(Scorer):
    """Support by the documents' passages that BM25 finds for the question and the completion.

    Retrieve, then verify, as in FEVER (Thorne et al., 2018) and FActScore (Min et al., 2023);
    BM25 is that of Robertson and Zaragoza (2009). Each claim counts with the passage that
    supports it best, judged by its words as `grounded` does: paraphrase is not accepted, and an answer that only
    echoes the question has 0.0.
    """

    version: ClassVar[str] = "4"
    judges_answers: ClassVar[bool] = True
    scale: ClassVar[tuple[float, float] | None] = (0.0, 1.0)
    higher_is_better: ClassVar[bool | None] = True
    languages: ClassVar[tuple[str, ...]] = LANGUAGES
    labels: ClassVar[tuple[str, ...]] = ("worst", "mean")

    documents: list[str] = field(default_factory=list)
    """Files, folders or globs, relative to the plan; PDF and its like where a pattern names them."""
    k: int = 5
    """So many passages are retrieved."""
    words: int = 120
    """Words in a passage."""
    overlap: int = 30
    """Words of a passage that also begin the next one."""
    over: Over = "worst"
    """The value is that of the "worst" claim, or the "mean" over the claims."""

    def __post_init__(self) -> None:
        if not self.documents:
            raise ValueError('retrieved needs documents, such as ["docs/**/*.md"]')
        if self.k < 1:
            raise ValueError("k is at least 1")
        check_window(self.words, self.overlap)

    @property
    def model(self) -> str:
        """BM25 over these very passages: scores change when a document does."""
        return f"bm25 over {make_id([passage.passage_id for passage in self._passages])[:16]}"

    def check(self) -> None:
        """See that there are documents, and that they can be read."""
        len(self._passages)

    def score_batch(self, samples: Sequence[Sample]) -> Iterator[Verdict]:
        """Support in 0..1; abstains where nothing is retrieved or there is no completion."""
        queries = [f"{sample.question}\n{sample.completion}" for sample in samples]
        ready: dict[int, Evidence] = {}
        for sample, hits in zip(samples, self._index.search(queries, self.k), strict=True):
            parts, answer = split(sample.completion)
            if not parts:
                yield Verdict(None, "no completion")
            elif not hits:
                yield Verdict(None, "nothing retrieved: no document has a word of it")
            else:
                for hit in hits:
                    if hit.position not in ready:
                        ready[hit.position] = Evidence(self._passages[hit.position].text)
                found = self._judge(parts, answer, hits, ready)
                yield echo_verdict(found, sample.completion, sample.question)

    def _judge(
        self,
        parts: list[str],
        answer: bool,
        hits: list[Hit],
        ready: dict[int, Evidence],
    ) -> Verdict:
        columns = [ready[hit.position].supports(parts, answer) for hit in hits]
        passages_found = [self._passages[hit.position] for hit in hits]
        rows = list(zip(*columns, strict=True))
        best = [max(range(len(row)), key=lambda n: row[n].value) for row in rows]
        supports = [row[n] for row, n in zip(rows, best, strict=True)]
        result = verdict(
            supports,
            self.over,
            source=[passages_found[n].source for n in best],
        )
        if result.value is None:
            return result
        passages = [
            {"passage_id": passage.passage_id, "source": passage.source, "score": hit.score}
            for passage, hit in zip(passages_found, hits, strict=True)
        ]
        return replace(result, details={**(result.details or {}), "passages": passages})

    @cached_property
    def _passages(self) -> list[Passage]:
        return read_passages(self.documents, self.tools.folder, self.words, self.overlap)

    @cached_property
    def _index(self) -> Index:
        return Index([passage.text for passage in self._passages])
