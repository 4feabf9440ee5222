"""Score whether the completion is found in the passage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from quality.scoring.lexical_support import (
    Evidence,
    Over,
    echo_verdict,
    split,
    verdict,
)
from quality.scoring.scorer import Scorer, Verdict
from quality.text.negation import LANGUAGES
from warehouse.records import Sample


@dataclass
class Grounded(Scorer):
    """Support by the passage: 1.0 if the completion stands in it, else less, claim by claim.

    Lexical groundedness, the cheapest of the checks in the FActScore family (Min et al.,
    2023). A short answer has 1.0 if it is a span of the passage (case, punctuation, hyphens
    and the form of numbers and dates aside), else the share of its words that are found. A
    longer completion is cut into claims; a claim's support is the share of its content words
    and pairs of them that the passage has. A number, date or name that is not in the passage,
    or a negation on one side only, caps a claim's support below 0.5, and `why` names it.
    Paraphrase is not accepted, so this is precise and misses some good answers. Words are compared
    in any language, by characters in Chinese and Japanese. Negations are known in its `languages`,
    in others a single word or a whole sentence of the passage counts in full and it abstains on
    all else, since words there may bear endings and particles. It abstains, too, where a longer
    span without a verb stands in a denied clause. Stop words and number words are English.

    An answer whose telling words all stand in the question that asks for a word has 0.0: "waves"
    to "What kind of waves are sound waves?". Questions for yes or no and those that offer their
    answers ("hot or cold?") are left alone.
    """

    version: ClassVar[str] = "5"
    judges_answers: ClassVar[bool] = True
    scale: ClassVar[tuple[float, float] | None] = (0.0, 1.0)
    needs: ClassVar[str] = "passage"
    higher_is_better: ClassVar[bool | None] = True
    languages: ClassVar[tuple[str, ...]] = LANGUAGES
    labels: ClassVar[tuple[str, ...]] = ("worst", "mean")

    over: Over = "worst"
    """The value is that of the "worst" claim, or the "mean" over the claims."""

    def score_batch(self, samples: Sequence[Sample]) -> Iterator[Verdict]:
        """Support in 0..1; abstains where there is no passage or no completion."""
        ready: dict[str, Evidence] = {}
        for sample in samples:
            parts, answer = split(sample.completion)
            evidence = ready.get(sample.passage or "")
            if evidence is None:
                evidence = ready[sample.passage or ""] = Evidence(sample.passage or "")
            if not evidence.known:
                yield Verdict(None, "no passage")
            elif not parts:
                yield Verdict(None, "no completion")
            else:
                found = verdict(evidence.supports(parts, answer), self.over)
                yield echo_verdict(found, sample.completion, sample.question)
