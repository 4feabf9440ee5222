"""The gate: first reason and all reasons; nothing unscored, nothing held out, nothing twice."""

import json

import polars as pl
import pytest
from pydantic import ValidationError

from quality.gate.candidates import Candidates, rows_of
from quality.gate.choose import SCORES, choose, selection_id_of
from quality.gate.decontaminate import Decontaminate, digest_of
from quality.gate.held_out_index import HeldOutItem
from quality.gate.policy import Duplicates, GatePolicy
from quality.tasks.benchmark import item_of
from tests.support.held_out import hold_out
from warehouse.inputs.rows import Row
from warehouse.records import Choice, Prompt, Sample, Score

NOTHING = hold_out([])
NO_ITEMS = digest_of([], Decontaminate())
APART = Duplicates(near=None)


def sample(
    question="q",
    completion="eye",
    passage="The eye is calm.",
    status="ok",
    call="c",
    recipe="imitation",
):
    prompt = Prompt.of(
        recipe=recipe,
        messages=[{"role": "user", "content": question}],
        question=question,
        passage=passage,
    )
    return Sample.of(
        prompt, call_ids=[call], recipe_version="1", completion=completion, status=status
    )


def score(one, scorer, value, why=None, **labels):
    return Score(
        f"{one.sample_id}{scorer}",
        one.sample_id,
        scorer,
        "1",
        "rule",
        {},
        value,
        why,
        {"labels": labels} if labels else None,
    )


def human(one, value, number=1):
    when = {"decided_at": f"2026-01-01T00:00:0{number}+00:00"}
    return Score(f"h{one.sample_id}{number}", one.sample_id, "human", "1", "human", {}, value, None, when)  # fmt: skip


def gate(samples, scores=(), held_out=NOTHING, duplicates=APART, **policy):
    rows = rows_of(samples, held_out.match(samples))
    own = [frame_of_scores(one, n, scores) for n, one in enumerate(samples)]
    found = choose(
        Candidates.of(rows, duplicates.near),
        pl.concat(own),
        [score for score in scores if score.scorer == "human"],
        GatePolicy.model_validate(policy),
        duplicates,
        {"toxicity": False},
    )
    return [
        Choice("s", *row[:4], json.loads(row[4]) if row[4] else None) for row in found.iter_rows()
    ]


def frame_of_scores(one, row, scores):
    """The scores of a sample and their labels, as `choose` takes them."""
    found = []
    for score in scores:
        if score.sample_id == one.sample_id and score.scorer != "human":
            found.append((row, score.scorer, score.value, score.why))
            for name, value in (score.details or {}).get("labels", {}).items():
                found.append((row, f"{score.scorer}.{name}", value, score.why))
    return pl.DataFrame(found, schema=SCORES, orient="row")


def reasons(one, scores=(), held_out=NOTHING, **policy):
    (choice,) = gate([one], scores, held_out, **policy)
    assert choice.kept == (not choice.reasons)
    assert choice.reason == (choice.reasons[0] if choice.reasons else "kept")
    return choice.reasons


def test_bounds_from_both_sides():
    one = sample()
    assert reasons(one, [score(one, "grounded", 1.0)], grounded_min=1.0) == []
    assert reasons(one, [score(one, "grounded", 0.9)], grounded_min=1.0) == ["grounded below 1"]
    assert reasons(one, [score(one, "toxicity", 0.6)], toxicity_max=0.5) == ["toxicity above 0.5"]
    assert reasons(one, [score(one, "toxicity", 0.5)], toxicity_max=0.5) == []


def test_a_bound_on_a_label():
    one = sample()
    scores = [score(one, "toxicity", 0.1, insult=0.7, threat=0.0)]
    given = {"toxicity": {"insult_max": 0.5, "threat_max": 0.5}}
    assert reasons(one, scores, **given) == ["toxicity.insult above 0.5"]
    policy = GatePolicy.model_validate(given)
    assert policy.thresholds == {"toxicity.insult_max": 0.5, "toxicity.threat_max": 0.5}
    assert GatePolicy.model_validate(policy.model_dump()) == policy


def test_a_recipe_has_bounds_of_its_own():
    one = sample()
    policy = {
        "grounded_min": 1.0,
        "recipe": {"imitation": {"grounded_min": 0.5, "toxicity_max": 0.2}},
    }
    scores = [score(one, "grounded", 0.6), score(one, "toxicity", 0.3)]
    assert reasons(one, scores, **policy) == ["toxicity above 0.2"]
    assert reasons(one, [score(one, "grounded", 0.4), scores[1]], **policy) == [
        "grounded below 0.5",
        "toxicity above 0.2",
    ]
    other = sample(recipe="another")
    assert reasons(other, [score(other, "grounded", 0.6)], **policy) == ["grounded below 1"]


def test_unscored_abstained_and_nan_are_not_kept_unless_the_policy_says_so():
    one = sample()
    assert reasons(one, toxicity_max=0.5) == ["toxicity: not scored"]
    assert reasons(one, toxicity_max=0.5, keep_abstained=True) == ["toxicity: not scored"]
    abstained = [score(one, "grounded", None, "no passage")]
    assert reasons(one, abstained, grounded_min=1.0) == ["grounded abstained: no passage"]
    assert reasons(one, [score(one, "grounded", float("nan"))], grounded_min=0.0)
    assert reasons(one, abstained, grounded_min=1.0, keep_abstained=True) == []
    assert reasons(one, abstained, grounded_min=1.0, keep_abstained=["grounded"]) == []
    assert reasons(one, abstained, grounded_min=1.0, keep_abstained=["toxicity"])


def test_all_reasons_are_given_and_the_first_is_the_gravest():
    one = sample(completion="one two three", status="truncated")
    bad = [score(one, "toxicity", 0.9, "window 2 of 3")]
    assert reasons(one, bad, grounded_min=1.0, toxicity_max=0.5, max_words=2) == [
        "status: truncated",
        "grounded: not scored",
        "toxicity above 0.5",
        "more than 2 words",
    ]
    (choice,) = gate([one], bad, toxicity_max=0.5)
    assert choice.details == {"why": {"toxicity": "window 2 of 3"}}
    assert reasons(one, keep_truncated=True) == []


def test_a_human_decides_but_never_for_a_held_out_item():
    one = sample()
    low = score(one, "grounded", 0.0)
    assert reasons(one, [low, human(one, 1.0)], grounded_min=1.0) == []
    assert reasons(one, [score(one, "grounded", 1.0), human(one, 0.0)], grounded_min=1.0) == [
        "human: rejected"
    ]
    mind_changed = [human(one, 0.0, 1), human(one, 1.0, 2)]
    assert reasons(one, mind_changed) == []
    row = Row("q", [{"role": "user", "content": "q"}])
    held_out = hold_out([("sciq", item_of(row))])
    assert reasons(one, mind_changed, held_out) == ["held_out: question"]
    (choice,) = gate([one], [], held_out)
    assert choice.details["held_out"]["benchmark"] == "sciq"


def test_a_duplicate_is_dropped_and_names_the_first_of_those_left():
    bad, first = sample(call="0", status="refused"), sample(call="a")
    second = sample(call="b", completion="Eye!")
    dropped, kept, twice = gate([bad, first, second])
    assert dropped.reasons == ["status: refused"]
    assert kept.kept
    assert twice.reason == "duplicate"
    assert twice.details["duplicate"] == {"of": first.sample_id, "similarity": 1.0}


def test_a_near_duplicate_is_dropped_where_it_is_looked_for():
    text = "The powerhouse of the cell, which makes its energy by breathing, is the mitochondrion"
    first = sample("Which organelle makes energy?", text, call="a")
    second = sample("Which organelle makes energy?", text + " today", call="b")
    assert [c.kept for c in gate([first, second])] == [True, True]
    kept, dropped = gate([first, second], duplicates=Duplicates(near=0.8))
    assert kept.kept
    assert dropped.reason == "near duplicate"
    assert 0.8 <= dropped.details["duplicate"]["similarity"] < 1


def test_the_best_by_a_scorer_and_its_good_end():
    several = [sample(f"q{n}", call=str(n)) for n in range(4)]
    grounded = [score(one, "grounded", value) for one, value in zip(several, (0.1, 0.9, 0.5, None), strict=True)]  # fmt: skip
    kept = gate(several, grounded, top_k=2, rank_by="grounded")
    assert [choice.kept for choice in kept] == [False, True, True, False]
    assert kept[0].reason == "not among the best 2 by grounded"
    toxic = [score(one, "toxicity", value) for one, value in zip(several, (0.1, 0.9, 0.5, None), strict=True)]  # fmt: skip
    kept = gate(several, toxic, top_k=2, rank_by="toxicity")
    assert [choice.kept for choice in kept] == [True, False, True, False]


def test_evenly_over_labels_and_what_covers_best():
    answers = ["yes"] * 6 + ["no"] * 2
    several = [sample(f"q{n}", answer, call=str(n)) for n, answer in enumerate(answers)]
    kept = gate(several, top_k=4, balance_by="completion")
    chosen = [answer for answer, choice in zip(answers, kept, strict=True) if choice.kept]
    assert sorted(chosen) == ["no", "no", "yes", "yes"]
    asked = ["What is a cell?", "What is a cell now?", "Who wrote Hamlet in London?"]
    several = [sample(question, f"a{n}", call=str(n)) for n, question in enumerate(asked)]
    kept = gate(several, top_k=2, diverse=True)
    assert sum(choice.kept for choice in kept) == 2
    assert kept[2].kept


@pytest.mark.parametrize(
    "bad",
    [
        {"groundedmin": 1.0},
        {"nobody_max": 0.1},
        {"max_words": 0},
        {"max_words": "3"},
        {"toxicity": {"nonsense_max": 0.1}},
        {"recipe": {"nobody": {"grounded_min": 1.0}}},
        {"recipe": {"imitation": {"grounded": 1.0}}},
        {"top_k": 3},
        {"rank_by": "grounded"},
        {"top_k": 3, "rank_by": "nobody"},
        {"top_k": 3, "diverse": True, "balance_by": "recipe"},
        {"keep_abstained": ["nobody"]},
    ],
)
def test_what_makes_no_sense_is_refused(bad):
    with pytest.raises(ValidationError):
        GatePolicy.model_validate(bad)


def test_known_keys_round_trip():
    policy = GatePolicy.model_validate(
        {"grounded_min": 0.5, "max_words": 3, "recipe": {"imitation": {"toxicity_max": 0.1}}}
    )
    assert GatePolicy.model_validate(policy.model_dump()) == policy
    assert policy.bounds("imitation") == {"grounded_min": 0.5, "toxicity_max": 0.1}


def test_the_selection_id_follows_all_that_decides():
    policy, row = GatePolicy(), Row("q", [{"role": "user", "content": "q"}])
    a = sample(call="a")
    scorers = [{"use": "x"}]

    def made(samples="ab", policy=policy, duplicates=APART, held_out=NO_ITEMS, decided=()):
        return selection_id_of(samples, scorers, policy, duplicates, held_out, decided)

    one = made()
    others = {
        made("ba"),  # of equal ones the first stays
        made(policy=GatePolicy(max_words=1)),
        made(duplicates=Duplicates(near=0.5)),
        made(held_out=digest_of([HeldOutItem.of("x", item_of(row))], Decontaminate())),
        made(held_out=digest_of([], Decontaminate(share=0.5))),
        made(decided=[human(a, 1.0)]),
    }
    assert len(others - {one}) == 6
