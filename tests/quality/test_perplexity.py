"""Perplexity: by hand, over a named fake of the base model."""

from __future__ import annotations

import math

import pytest

from quality.conformance import sample_of
from quality.scorers.perplexity import Perplexity
from quality.scoring.scorer import ScorerContext


class FakeBase:
    """A base model by a table: completion -> (sum of log-probabilities, tokens)."""

    name = "fake base"

    def __init__(self, table):
        self.table = table
        self.read = []

    def __call__(self, rows):
        self.read += rows
        return [self.table[completion] for _, completion in rows]


def test_by_hand_in_order_and_one_call_for_all():
    base = FakeBase({"sure": (0.0, 4), "coin": (3 * math.log(0.5), 3)})
    scorer = Perplexity().with_tools(ScorerContext(likelihood=base))
    samples = [sample_of(text) for text in ("coin", "", "sure")]
    coin, empty, sure = scorer.score(samples)
    assert coin.value == pytest.approx(2.0)
    assert coin.details["labels"] == {"nats_per_token": pytest.approx(math.log(2)), "tokens": 3.0}
    assert (empty.value, empty.why) == (None, "no completion")
    assert sure.value == 1.0
    assert {score.model for score in (coin, empty, sure)} == {"fake base"}
    assert base.read == [(samples[0].messages, "coin"), (samples[2].messages, "sure")]


@pytest.mark.parametrize(
    ("read", "why"),
    [((0.0, 0), "no token"), ((-1e6, 1), "no finite"), ((float("nan"), 2), "no number")],
)
def test_what_gives_no_number_abstains(read, why):
    scorer = Perplexity().with_tools(ScorerContext(likelihood=FakeBase({"odd": read})))
    (score,) = scorer.score([sample_of("odd")])
    assert score.value is None
    assert why in score.why


def test_empty_texts_alone_ask_nothing():
    base = FakeBase({})
    scorer = Perplexity().with_tools(ScorerContext(likelihood=base))
    assert [score.value for score in scorer.score([sample_of(" ")])] == [None]
    assert base.read == []
