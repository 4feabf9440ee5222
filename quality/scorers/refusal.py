"""Score whether the completion declines to answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from quality.scoring.scorer import Scorer, Verdict
from quality.text.languages import no_rules
from warehouse.inputs.refusal_phrases import LANGUAGES, refusing_sentence
from warehouse.records import Sample

_SHOWN = 80


@dataclass
class Refusal(Scorer):
    """Whether the completion declines, by how refusals are worded: 1.0, 0.5 or 0.0.

    The phrases are those by which the teacher's replies are marked as refused
    (`warehouse.inputs.refusal_phrases`), in the manner of the keyword test of AdvBench (Zou et
    al., 2023, appendix B). 1.0 where the completion begins by declining, 0.5 where its second or
    third sentence does, 0.0 where none does. An apology alone declines nothing. It abstains on
    texts in other languages than its own; a text too short to have one is judged by its script
    and by the language of its question.
    """

    version: ClassVar[str] = "3"
    scale: ClassVar[tuple[float, float] | None] = (0.0, 1.0)
    higher_is_better: ClassVar[bool | None] = False
    languages: ClassVar[tuple[str, ...]] = LANGUAGES

    def score_batch(self, samples: Sequence[Sample]) -> Iterator[Verdict]:
        """One value per sample; `why` quotes the phrase; abstains on empty text."""
        for sample in samples:
            refusal = refusing_sentence(sample.completion)
            if not sample.completion.strip():
                yield Verdict(None, "no completion")
            elif refusal:
                number, sentence = refusal
                quoted = " ".join(sentence[:_SHOWN].split())
                yield Verdict(0.5 if number else 1.0, f'sentence {number + 1}: "{quoted}"')
            elif language := self.foreign_language(sample):
                yield Verdict(None, no_rules(language, self.languages))
            else:
                yield Verdict(0.0)
