"""The gate: first reason and all reasons; nothing unscored, nothing held out, nothing twice."""

import pytest
from pydantic import ValidationError

from quality.benchmark import item_of
from quality.gate import GatePolicy, HeldOut, choose, selection_id_of
from warehouse.records import Prompt, Sample, Score
from warehouse.rows import Row

NOTHING = HeldOut.of([])


def sample(question="q", completion="eye", passage="The eye is calm.", status="ok", call="c"):
    messages = [{"role": "user", "content": question}]
    prompt = Prompt.of(
        recipe="imitation",
        recipe_options={},
        messages=messages,
        student_messages=messages,
        question=question,
        passage=passage,
    )
    return Sample.of(
        prompt, call_ids=[call], recipe_version="1", completion=completion, status=status
    )


def score(one, scorer, value, why=None):
    return Score(f"{one.sample_id}{scorer}", one.sample_id, scorer, "1", "rule", {}, value, why)


def reasons(one, scores=(), held_out=NOTHING, **policy):
    (choice,) = choose([one], scores, GatePolicy.model_validate(policy), held_out, "s")
    assert choice.kept == (not choice.reasons)
    assert choice.reason == (choice.reasons[0] if choice.reasons else "kept")
    return choice.reasons


def test_thresholds_from_both_sides():
    one = sample()
    assert reasons(one, [score(one, "grounded", 1.0)], grounded_min=1.0) == []
    assert reasons(one, [score(one, "grounded", 0.9)], grounded_min=1.0) == ["grounded below 1"]
    assert reasons(one, [score(one, "toxicity", 0.6)], toxicity_max=0.5) == ["toxicity above 0.5"]


def test_unscored_abstained_and_nan_are_not_kept():
    one = sample()
    assert reasons(one, toxicity_max=0.5) == ["toxicity: not scored"]
    abstained = [score(one, "grounded", None, "no passage")]
    assert reasons(one, abstained, grounded_min=1.0) == ["grounded abstained: no passage"]
    assert reasons(one, [score(one, "grounded", float("nan"))], grounded_min=0.0)
    assert reasons(one, abstained, grounded_min=1.0, keep_abstained=True) == []


def test_all_reasons_are_given_and_the_first_is_the_gravest():
    one = sample(completion="one two three", status="truncated")
    assert reasons(one, grounded_min=1.0, max_words=2) == [
        "status: truncated",
        "more than 2 words",
        "grounded: not scored",
    ]


def test_a_duplicate_is_dropped_and_names_the_first():
    first, second = sample(call="a"), sample(call="b", completion="Eye!")
    kept, dropped = choose([first, second], [], GatePolicy(), NOTHING, "s")
    assert kept.kept
    assert dropped.reason == f"duplicate of {first.sample_id}"


def test_unknown_keys_are_refused_and_known_ones_round_trip():
    policy = GatePolicy.model_validate({"grounded_min": 0.5, "max_words": 3})
    assert GatePolicy.model_validate(policy.model_dump()) == policy
    for bad in ({"groundedmin": 1.0}, {"nobody_max": 0.1}, {"max_words": 0}, {"max_words": "3"}):
        with pytest.raises(ValidationError):
            GatePolicy.model_validate(bad)


def test_the_selection_id_follows_policy_samples_and_held_out_but_not_order():
    policy = GatePolicy()
    row = Row("q", [{"role": "user", "content": "q"}])
    one = selection_id_of(["a", "b"], [{"use": "x"}], policy, NOTHING)
    assert one == selection_id_of(["b", "a"], [{"use": "x"}], policy, NOTHING)
    assert one != selection_id_of(["a"], [{"use": "x"}], policy, NOTHING)
    assert one != selection_id_of(["a", "b"], [{"use": "x"}], policy, HeldOut.of([item_of(row)]))
    assert one != selection_id_of(["a", "b"], [{"use": "x"}], GatePolicy(max_words=1), NOTHING)
