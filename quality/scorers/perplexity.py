"""Score the completion by its perplexity under the student's base model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from quality.scoring.scorer import Likelihood, Scorer, Verdict, need
from warehouse.records import Sample


@dataclass
class Perplexity(Scorer):
    """Perplexity of the completion under the student's base model, after its prompt.

    exp of the mean negative log-likelihood per token (Jelinek et al., 1977), as used to prune
    training data by Marion et al. (2023, When Less is More, section 3). Low is what the base
    already says; very high is often noise. Perplexities under two tokenizers do not compare.
    """

    version: ClassVar[str] = "1"
    scale: ClassVar[tuple[float, float] | None] = (0.0, math.inf)
    higher_is_better: ClassVar[bool | None] = False
    labels: ClassVar[tuple[str, ...]] = ("nats_per_token", "tokens")

    @property
    def model(self) -> str:
        """The base model."""
        return self._likelihood.name

    def check(self) -> None:
        """See that there is a base model."""
        need(self.tools.likelihood, self, "the student's base model; set train.base")

    def score_batch(self, samples: Sequence[Sample]) -> Iterator[Verdict]:
        """One perplexity per sample; abstains on empty text."""
        full = [sample for sample in samples if sample.completion.strip()]
        rows = [(sample.messages, sample.completion) for sample in full]
        read = iter(self._likelihood(rows) if rows else [])
        for sample in samples:
            if not sample.completion.strip():
                yield Verdict(None, "no completion")
                continue
            total, tokens = next(read)
            if not tokens:
                yield Verdict(None, "no token of it fits the model's window")
                continue
            nats = -total / tokens
            labels = {"nats_per_token": nats, "tokens": float(tokens)}
            try:
                yield Verdict(math.exp(nats), None, {"labels": labels})
            except OverflowError:
                yield Verdict(None, f"no finite perplexity: {nats:.0f} nats per token")

    @property
    def _likelihood(self) -> Likelihood:
        likelihood: Likelihood = need(
            self.tools.likelihood, self, "the student's base model; set train.base"
        )
        return likelihood
