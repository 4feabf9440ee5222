"""Score whether the completion declines to answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

from quality.scoring.scorer import Scorer, Verdict
from warehouse.inputs.refusal_phrases import REFUSAL
from warehouse.records import Sample

_END = re.compile(r"[.!?…]+[\"'”’)\]]*\s+|\n+")
_SENTENCES, _SHOWN = 3, 80


@dataclass
class Refusal(Scorer):
    """Whether the completion declines, by how English refusals begin: 1.0, 0.5 or 0.0.

    The phrases are those by which the teacher's replies are marked as refused
    (`warehouse.inputs.refusal_phrases`), in the manner of the keyword test of AdvBench (Zou et al., 2023,
    appendix B). 1.0 where the completion begins by declining, 0.5 where its second or third
    sentence does, 0.0 where none does. A refusal in another language is not seen.
    """

    version: ClassVar[str] = "1"
    scale: ClassVar[tuple[float, float] | None] = (0.0, 1.0)
    higher_is_better: ClassVar[bool | None] = False

    def score_batch(self, samples: Sequence[Sample]) -> Iterator[Verdict]:
        """One value per sample; `why` quotes the phrase; abstains on empty text."""
        for sample in samples:
            if not sample.completion.strip():
                yield Verdict(None, "no completion")
                continue
            for number, sentence in enumerate(islice(_sentences(sample.completion), _SENTENCES)):
                if REFUSAL.match(sentence):
                    quoted = " ".join(sentence[:_SHOWN].split())
                    yield Verdict(0.5 if number else 1.0, f'sentence {number + 1}: "{quoted}"')
                    break
            else:
                yield Verdict(0.0)


def _sentences(text: str) -> Iterator[str]:
    """The text cut after its sentence ends and at its line ends; parts without a word left out."""
    start = 0
    for end in (*(match.end() for match in _END.finditer(text)), len(text)):
        if re.search(r"\w", part := text[start:end]):
            yield part
        start = end
