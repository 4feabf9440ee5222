"""Human decisions, the order of looking, and agreement: all by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from quality.review.agreement import Reading, agreements, readings
from quality.review.decisions import (
    accept,
    agreement,
    decisions,
    edit,
    hidden,
    queue,
    reject,
    with_edits,
    withdraw,
)
from warehouse.records import Choice, Prompt, Sample, Score

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(minute):
    return START + timedelta(minutes=minute)


def sample(name, completion="grey", recipe="imitation", status="ok"):
    prompt = Prompt.of(
        recipe=recipe,
        messages=[{"role": "user", "content": name}],
        question=name,
    )
    made = Sample.of(
        prompt, call_ids=["c"], recipe_version="1", completion=completion, status=status
    )
    return replace(made, sample_id=name)


def score(of, value, scorer="grounded", why=None, **details):
    options = {}
    score_id = Score.id_of(of.sample_id, scorer, "1", "rule", options)
    return Score(score_id, of.sample_id, scorer, "1", "rule", options, value, why, details or None)


def choice(of, *reasons):
    return Choice("s", of.sample_id, not reasons, reasons[0] if reasons else "kept", list(reasons))


def order(samples, scores, bounds, choices=()):
    return [one.sample_id for one in queue(samples, scores, bounds, choices)]


A, B, C, D = (sample(name) for name in "abcd")


# Decisions


def test_a_decision_is_a_score_of_its_own_row():
    first, second = accept(A, "fine", at(0)), reject(A, at=at(1))
    assert (first.scorer, first.version, first.model, first.options) == ("human", "1", "human", {})
    assert (first.value, first.why) == (1.0, "fine")
    assert (second.value, second.why) == (0.0, None)
    assert first.details["decided_at"] == "2026-01-01T00:00:00.000000+00:00"
    assert first.score_id != second.score_id != accept(A, at=at(2)).score_id


def test_the_latest_decision_counts_whatever_the_order_of_the_rows():
    rows = [reject(A, at=at(2)), accept(A, at=at(1)), accept(B, at=at(0)), score(A, 0.3)]
    assert {key: one.value for key, one in decisions(rows).items()} == {"a": 0.0, "b": 1.0}


def test_times_of_other_zones_are_compared_as_moments():
    from datetime import timezone

    east = timezone(timedelta(hours=9))
    later, sooner = accept(A, at=at(5)), reject(A, at=at(1).astimezone(east))
    assert decisions([later, sooner])["a"].value == 1.0


def test_a_withdrawn_decision_gives_way_to_the_one_before():
    first, second = accept(A, at=at(0)), reject(A, at=at(1))
    undone = withdraw(second, at(2))
    assert undone.value is None
    assert decisions([first, second, undone])["a"] == first
    assert decisions([first, second, undone, withdraw(first, at(3))]) == {}


# Edits


def test_an_edit_leads_from_the_old_sample_to_a_new_one():
    old = sample("a", "gray", status="truncated")
    new, (left, taken) = edit(old, "grey", "spelling", at(0))
    assert new.completion == "grey" and new.status == "ok" and new.recipe_version == "1+edited"
    assert (left.sample_id, left.value, left.details["edited_to"]) == ("a", 0.0, new.sample_id)
    assert (taken.sample_id, taken.value, taken.details["edit_of"]) == (new.sample_id, 1.0, "a")
    assert left.why == "edited: spelling"
    assert new.sample_id == edit(old, "grey")[0].sample_id != edit(old, "brown")[0].sample_id
    assert edit(new, "brown")[0].recipe_version == "1+edited"


def test_an_edit_that_changes_nothing_is_an_acceptance():
    same, scores = edit(A, A.completion, at=at(0))
    assert same is A
    assert [one.value for one in scores] == [1.0]


@pytest.mark.parametrize(("text", "told"), [(" \n", "reject the sample"), ("\ud83d", "surrogate")])
def test_an_edit_that_can_not_be_kept_is_refused(text, told):
    with pytest.raises(ValueError, match=told):
        edit(A, text)


def edited(samples, scores, edits):
    """The samples that take the place of these, where the warehouse has those edits."""
    known = {one.sample_id: one for one in samples} | edits
    return [known[one] for one in with_edits([s.sample_id for s in samples], scores, edits)]


def test_edited_samples_take_the_place_of_the_old_ones():
    once, first = edit(A, "brown", at=at(0))
    twice, second = edit(once, "tawny", at=at(1))
    again, third = edit(A, "white", at=at(2))
    made = {one.sample_id: one for one in (once, twice, again)}
    assert edited([A, B], first, made) == [once, B]
    assert edited([A, B], [*first, *second], made) == [twice, B]
    assert edited([A, B], [*first, *second, *third], made) == [again, B]
    assert edited([A, B], [*first, withdraw(first[0], at(3))], made) == [A, B]
    assert edited([A, B], [*first, accept(A, at=at(3))], made) == [A, B]
    assert edited([A, B], first, {}) == [A, B]


def test_edits_that_go_in_a_circle_end():
    once, first = edit(A, "brown", at=at(0))
    back = replace(
        first[0], sample_id=once.sample_id, details={**first[0].details, "edited_to": "a"}
    )
    assert edited([A], [first[0], back], {once.sample_id: once, "a": A}) == [once]


def test_two_samples_edited_to_one_are_one():
    once, first = edit(A, "brown", at=at(0))
    other = replace(first[0], sample_id="b")
    assert edited([A, B], [first[0], other], {once.sample_id: once}) == [once]


# Readings


def test_every_bound_is_read_as_the_gate_reads_it():
    scores = [
        score(A, 0.8),
        score(A, 0.1, "toxicity", labels={"insult": 0.4, "threat": float("nan")}),
        score(A, 3.0, "perplexity"),
        accept(A),
    ]
    bounds = {
        "grounded_min": 0.8,
        "toxicity.insult_max": 0.3,
        "toxicity.threat_max": 0.3,
        "pii_max": 0.0,
    }
    found = {one.name: one.state for one in readings([A], scores, bounds)["a"]}
    assert found == {
        "grounded": "pass",
        "toxicity.insult": "fail",
        "toxicity.threat": "abstained",
        "pii": "not scored",
        "perplexity": "no bound",
        "toxicity": "no bound",
    }


def test_bounds_of_a_recipe_go_to_its_samples():
    other = sample("x", recipe="evolve")
    bounds = {"imitation": {"grounded_min": 0.5}, "evolve": {"grounded_min": 0.9}}
    found = readings([A, other], [score(A, 0.7), score(other, 0.7)], bounds.__getitem__)
    assert [found[key][0].state for key in ("a", "x")] == ["pass", "fail"]


# The order


def test_nearest_to_the_bound_comes_first_and_abstained_before_it():
    scores = [score(A, 0.1), score(B, 0.55), score(C, None, why="no passage"), score(D, 0.8)]
    # pass 0.55 and 0.8, fail 0.1: the bound divides at 0.325; distances 0.225, 0.225, -, 0.475
    assert order([A, B, C, D], scores, {"grounded_min": 0.5}) == ["c", "a", "b", "d"]


def test_the_nearest_of_several_bounds_counts_on_one_scale():
    scores = [
        *(score(one, value) for one, value in ((A, 0.0), (B, 1.0), (C, 0.9))),
        *(score(one, value, "perplexity") for one, value in ((A, 10.0), (B, 100.0), (C, 52.0))),
    ]
    bounds = {"grounded_min": 0.1, "perplexity_max": 50.0}
    # places between it and the bound, of three: grounded .5 1.5 .5; perplexity .5 1.5 .5
    assert order([B, A, C], scores, bounds) == ["a", "c", "b"]


def test_a_scorer_of_two_values_makes_no_end_more_uncertain():
    scores = [
        *(score(one, value) for one, value in ((A, 1.0), (B, 0.0), (C, 1.0))),
        *(score(one, value, "toxicity") for one, value in ((A, 0.0), (B, 0.12), (C, 0.19))),
    ]
    bounds = {"grounded_min": 1.0, "toxicity_max": 0.2}
    assert order([A, B, C], scores, bounds) == ["c", "b", "a"]


def test_a_score_that_is_the_same_for_all_says_nothing():
    scores = [score(A, 1.0), score(B, 1.0), score(B, 0.1, "toxicity"), score(A, 0.4, "toxicity")]
    assert order([A, B], scores, {"grounded_min": 1.0, "toxicity_max": 0.5}) == ["a", "b"]
    assert order([B, A], [], {}) == ["a", "b"]


def test_decided_samples_come_last_and_held_out_ones_before_them():
    scores = [score(A, None), score(B, None), score(C, 0.9), score(D, 0.1), accept(A)]
    chosen = [choice(A), choice(B, "held_out: item"), choice(C), choice(D, "grounded below 0.5")]
    assert order([A, B, C, D], scores, {"grounded_min": 0.5}, chosen) == ["c", "d", "b", "a"]


# Agreement


def test_agreement_kappa_and_auc_by_hand():
    samples = [sample(f"s{n}") for n in range(10)]
    values = [0.9, 0.8, 0.7, 0.6, 0.55, 0.4, 0.3, 0.2, 0.1, None]
    wanted = [1, 1, 1, 1, 0, 1, 0, 0, 0, 1]
    scores = [score(one, value) for one, value in zip(samples, values, strict=True)]
    human = [(accept if yes else reject)(one) for one, yes in zip(samples, wanted, strict=True)]
    (found,) = agreement(samples, [*scores, *human], {"grounded_min": 0.5})
    # 4 both yes, 3 both no, 1 scorer alone, 1 human alone
    assert (found["key"], found["n"], found["abstained"]) == ("grounded_min", 9, 1)
    assert found["agreement"] == pytest.approx(7 / 9)
    chance = (5 / 9) ** 2 + (4 / 9) ** 2
    assert found["kappa"] == pytest.approx((7 / 9 - chance) / (1 - chance))
    # of 5 x 4 pairs one is upside down: 0.4 (wanted) below 0.55 (not wanted)
    assert found["roc_auc"] == pytest.approx(19 / 20)
    assert found["low"] < 7 / 9 < found["high"]


def test_auc_of_a_score_that_is_good_when_low_is_turned_round():
    scores = [score(A, 0.1, "toxicity"), score(B, 0.9, "toxicity"), accept(A), reject(B)]
    (found,) = agreement([A, B], scores, {"toxicity_max": 0.5})
    assert (found["roc_auc"], found["kappa"], found["agreement"]) == (1.0, 1.0, 1.0)


def test_what_can_not_be_told_is_none():
    (found,) = agreement([A], [score(A, 0.9), accept(A)], {"grounded_min": 0.5})
    assert (found["n"], found["agreement"]) == (1, 1.0)
    assert found["kappa"] is None and found["roc_auc"] is None
    assert agreement([A], [score(A, 0.9)], {"grounded_min": 0.5}) == []
    assert agreement([A], [score(A, None), accept(A)], {"grounded_min": 0.5}) == []


def test_an_edited_sample_counts_as_rejected():
    _, human = edit(A, "brown")
    found = agreements({"a": [Reading("grounded_min", 0.5, 0.9, None)]}, decisions(human))
    assert found[0].agreement == 0.0


def test_hidden_characters_are_named():
    assert hidden("plain\n\ttext, 👩‍👩‍👧 and می‌خواهم") == []
    assert hidden("a\u202eb\u202ec\x07") == [
        "U+0007 control × 1",
        "U+202E RIGHT-TO-LEFT OVERRIDE × 2",
    ]
