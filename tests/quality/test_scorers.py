"""Every scorer that needs no model: one verdict per sample, whatever the text is."""

from __future__ import annotations

import pytest

from quality.conformance import STRANGE_TEXTS, check_scorer, sample_of
from quality.scorers.language import Language
from quality.scorers.perplexity import Perplexity
from quality.scorers.pii import Pii
from quality.scorers.refusal import Refusal
from quality.scorers.style import Style
from quality.scorers.toxicity import Toxicity
from warehouse.errors import PlanError

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
    by_name = dict(zip(STRANGE_TEXTS, check_scorer(scorer), strict=True))
    assert by_name["empty"].value is None and by_name["white space"].value is None
    assert by_name["one megabyte"].value is not None


def test_a_scorer_without_its_tool_says_so_in_one_line():
    with pytest.raises(PlanError, match="'perplexity' needs the student's base model"):
        list(Perplexity().score([sample_of("x")]))
