"""Grounded: spans count in full, and a small lie in a long text is found and named."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from quality.conformance import sample_of
from quality.scorers.grounded import Grounded
from quality.scoring.lexical_support import CAP, SHOWN, Evidence
from warehouse.records import Score

PASSAGE = (
    "The eye of a hurricane is calm. Iron-deficiency anemia is common, but it is not fatal. "
    "Albert Einstein was born in Ulm on 14 March 1879. The stone weighs 1.5 kg, or 3,000 pounds "
    "of sand, and 50 % of it is water. Dogs chase cats. It is not true that the moon is hot."
)
STRANGE = {
    "empty": "",
    "white space": " \n\t ",
    "control characters": "\x00\x07\x1b[31m",
    "emoji": "🙂 " * 50,
    "right to left": "مرحبا بالعالم " * 20,
    "lone surrogate": "half a \ud83d pair is no letter at all",
    "one megabyte": "the calm river flows past the old mill " * 27_000,
    "many claims": "It has 47 eyes. " * 60_000,
    "one word of a megabyte": "a" * 1_000_000,
    "many numbers": "one two three " * 70_000,
}


def verdict(completion, passage=PASSAGE, **options):
    one = replace(sample_of("x"), completion=completion, passage=passage)
    scorer = Grounded(**options)
    (score,) = scorer.score([one])
    assert isinstance(score, Score), score
    assert score.score_id == scorer.score_id(one)
    return score


@pytest.mark.parametrize(
    "span",
    [
        "The eye", "eye of the hurricane", "iron-deficiency anemia", "Iron Deficiency Anemia.",
        "1.5 kg", "3000 pounds", "three thousand", "fifty percent", "March 14, 1879", "1879",
        "14 March", "\u201cUlm\u201d", "Dogs chase cats.", "anemia is common",
    ],
)  # fmt: skip
def test_a_span_counts_in_full(span):
    found = verdict(span)
    assert (found.value, found.why) == (1.0, None)
    assert found.details["labels"] == {"worst": 1.0, "mean": 1.0}


def test_any_run_of_words_without_a_verb_is_a_span():
    rng = random.Random(0)
    words = [f"w{n}" for n in range(50)]
    passage = " ".join(rng.choice(words) + rng.choice(["", "", ",", "-x", "!"]) for _ in range(400))
    parts = passage.split()
    for _ in range(100):
        first, count = rng.randrange(390), rng.randint(1, 8)
        assert verdict(" ".join(parts[first : first + count]), passage).value == 1.0


@pytest.mark.parametrize(
    ("answer", "least", "most"),
    [("calm eye", 0.5, 0.99), ("penguins", 0, 0), ("eye penguins", 0.2, 0.49), ("thecats", 0, 0)],
)
def test_no_span_is_below_one(answer, least, most):
    found = verdict(answer)
    assert least <= found.value <= most
    assert found.why == "not a span of the passage"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("15 kg", "number 15 is not in the passage"),
        ("47 kg of sand", "number 47 is not in the passage"),
        (
            "The stone weighs 2.5 kg, or 3,000 pounds of sand, and 50 % of it is water.",
            "number 2.5",
        ),
        (
            "The stone weighs 1.5 kg, or 3,000 pounds of sand, and 60 % of it is water.",
            "number 60%",
        ),
        ("Albert Einstein was born in Ulm on 15 March 1879.", "date 1879-03-15 is not in"),
        ("Albert Einstein was born in Paris on 14 March 1879.", "name Paris is not in"),
        ("Albert Einstein was not born in Ulm on 14 March 1879.", "negation: the claim has one"),
        ("Iron-deficiency anemia is fatal.", "negation: the claim has none, the passage has one"),
        ("The moon is hot.", "negation: the claim has none, the passage has one"),
        ("Dogs never chase cats.", "negation: the claim has one, the passage has none"),
    ],
)
def test_a_small_lie_is_capped_and_named(text, why):
    found = verdict(text)
    assert found.value <= CAP < 0.5
    assert why in found.why


@pytest.mark.parametrize(
    "text",
    [
        "Einstein was born on March 14, 1879.",
        "In March 1879 Einstein was born in Ulm.",
        "Einstein was born in Ulm, and on 14 March.",
        "The stone weighs 1.5 kilograms.",
        "Ulm: Albert Einstein was born there.",
        "Half of it, that is 50 percent, is water.",
        "Anemia is common, but iron-deficiency anemia is not fatal.",
    ],
)
def test_what_the_passage_has_is_not_capped_but_below_one(text):
    assert 0.49 < verdict(text).value < 1


def test_who_chases_whom_matters():
    assert verdict("The small Dogs chase cats and then Dogs chase cats once more in the end.").value
    evidence = Evidence(PASSAGE)
    assert evidence.support("Dogs chase cats.").value == 1.0
    assert evidence.support("Cats chase dogs.").value == pytest.approx(3 / 5)  # no pair is there


def test_the_worst_claim_or_the_mean_is_the_value():
    text = "The eye of a hurricane is calm. Penguins swim under the thick ice. Dogs chase cats."
    worst, mean = verdict(text), verdict(text, over="mean")
    assert worst.value == 0.0 and mean.value == pytest.approx(2 / 3)
    assert worst.details == mean.details
    assert worst.details["labels"] == {"worst": 0.0, "mean": mean.value}
    assert 'claim "Penguins swim under the thick ice."' in worst.why
    assert [row["support"] for row in worst.details["claims"]] == [1.0, 0.0, 1.0]
    with_list = verdict("- Dogs chase cats\n- The eye of a hurricane is calm\n- It has 47 eyes")
    assert with_list.value <= CAP and "number 47" in with_list.why


def test_the_details_show_the_least_supported_claims():
    text = "Dogs chase cats. " * 30 + "Penguins swim. " + "Dogs chase cats. " * 30
    found = verdict(text)
    assert len(found.details["claims"]) == SHOWN and found.details["of"] == 61
    assert [row["support"] for row in found.details["claims"]].count(0.0) == 1


def test_paraphrase_is_not_accepted():
    assert verdict("The middle of the storm is quiet and nobody feels any wind in it.").value < 0.5


def test_it_abstains_with_a_reason():
    assert (verdict("eye", None).value, verdict("eye", None).why) == (None, "no passage")
    assert verdict("eye", "... 🙂").why == "no passage"
    for nothing in ("", "...", "🙂", "The"):
        assert (verdict(nothing).value, verdict(nothing).why) == (None, "no completion")


@pytest.mark.parametrize("what", STRANGE)
def test_strange_texts(what):
    found = verdict(STRANGE[what])
    assert (found.value is None) == (
        what in ("empty", "white space", "emoji", "right to left")  # no rules for Arabic
    )
    assert found.value is None or 0 <= found.value <= 1
    assert found.value == 1 or found.why
    json.dumps(found.details, ensure_ascii=False).encode()


def test_strange_passages():
    assert verdict("pair", STRANGE["lone surrogate"]).value == 1.0
    assert verdict("river", STRANGE["one megabyte"]).value == 1.0
    assert verdict(STRANGE["one megabyte"], STRANGE["one megabyte"]).value == 1.0


def test_a_passage_of_a_megabyte_in_many_sentences():
    rng = random.Random(0)
    words = [f"w{n}" for n in range(20_000)]
    made = [" ".join(rng.choices(words, k=8)) + "." for _ in range(10_000)]
    passage = " ".join(text.capitalize() for text in made)
    found = verdict(" ".join(rng.sample(made, 1000)), passage)
    assert found.value == 1.0


def test_a_bad_option_is_refused():
    from warehouse import catalog
    from warehouse.errors import PlanError

    with pytest.raises(PlanError):
        catalog.build("scorer", {"use": "grounded", "over": "best"})


@pytest.mark.parametrize(
    ("question", "answer", "value"),
    [
        ("What is calm in a hurricane?", "a hurricane", 0.0),
        ("What is calm in a hurricane?", "The eye of a hurricane", 1.0),
        ("Is a hurricane calm?", "calm", 1.0),
        ("Which is calm, the eye or Ulm?", "the eye", 1.0),
        ("What do dogs chase?", "dogs", 0.0),
        ("What do dogs chase?", "cats", 1.0),
    ],
)
def test_an_answer_that_echoes_the_question_is_not_grounded(question, answer, value):
    one = replace(sample_of("x"), completion=answer, passage=PASSAGE, question=question)
    (score,) = Grounded().score([one])
    assert score.value == value
    assert (score.why is None) == (value == 1.0)
    if value == 0.0:
        assert score.why.startswith("echoes the question")
        assert score.details["labels"] == {"worst": 0.0, "mean": 0.0}


@pytest.mark.parametrize(
    ("passage", "answer"),
    [
        (PASSAGE, "La fotosintesi avviene nelle foglie verdi"),  # Italian
        (PASSAGE, "волны океана"),
        (PASSAGE, "광합성은 잎에서"),
        ("La luna è un corpo freddo che gira intorno alla nostra terra.", "sole caldo"),
        ("Луна холодная и вращается вокруг нашей земли.", "солнце"),
        ("달은 차갑고 지구 주위를 돈다. 지구는 태양 주위를 돈다.", "태양계"),
        ("🙂 ...", "eye"),
    ],
)
def test_it_abstains_where_its_rules_do_not_know_the_language(passage, answer):
    assert verdict(answer, passage).value is None
