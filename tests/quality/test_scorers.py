"""Every scorer that needs no model: one verdict per sample, whatever the text is."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from quality.scorers.language import Language
from quality.scorers.perplexity import Perplexity
from quality.scorers.pii import Pii
from quality.scorers.refusal import Refusal
from quality.scorers.style import Style
from quality.scorers.toxicity import Toxicity
from tests.bench.toxicity import sample_of
from warehouse.errors import PlanError
from warehouse.records import Score

STRANGE = {
    "empty": "",
    "white space": " \n\t ",
    "control characters": "\x00\x07\x1b[31m",
    "emoji": "🙂 " * 50,
    "right to left": "مرحبا بالعالم " * 20,
    "bidi marks": "\u202egnorw\u202c says the text that you read here",
    "lone surrogate": "half a \ud83d pair is no letter at all",
    "one megabyte": "the calm river flows past the old mill " * 27_000,
    "one word of a megabyte": "a" * 1_000_000,
}
SCORERS = {
    "language": Language(),
    "pii": Pii(redact=True),
    "refusal": Refusal(),
    "style": Style(),
    "toxicity": Toxicity(embedded=True),
}


@pytest.mark.parametrize("name", SCORERS)
def test_a_scorer_survives_strange_texts(name):
    if name == "toxicity":
        pytest.importorskip("profanity_check", reason="extra: embedded")
    if name == "pii":
        pytest.importorskip("presidio_analyzer", reason="extra: pii")
    scorer = SCORERS[name]
    samples = [replace(sample_of("x"), completion=text) for text in STRANGE.values()]
    scores = list(scorer.score(samples))
    for what, sample, score in zip(STRANGE, samples, scores, strict=True):
        assert isinstance(score, Score), (what, score)
        assert score.score_id == scorer.score_id(sample)
        assert (score.value is None) <= bool(score.why), what
        assert set((score.details or {}).get("labels", {})) <= set(scorer.labels), what
        json.dumps(score.details)
    by_name = dict(zip(STRANGE, scores, strict=True))
    assert by_name["empty"].value is None and by_name["white space"].value is None
    assert by_name["one megabyte"].value is not None


def test_a_scorer_without_its_tool_says_so_in_one_line():
    with pytest.raises(PlanError, match="'perplexity' needs the student's base model"):
        list(Perplexity().score([sample_of("x")]))
