"""The review without its page: what is shown, what is written."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from distill.plan.plan import load_plan
from flows.review.session import Decision
from quality.review.decisions import accept, decisions, reject
from tests.support.plans import rows, write_rows
from tests.support.reviewing import PLAN, names, session_of, store, write_world
from warehouse.errors import NothingToDoError
from warehouse.records import Choice, Run, Sample, Score


@pytest.fixture
def world(tmp_path):
    path, samples = write_world(tmp_path)
    return tmp_path, path, samples


# What is shown


def test_the_uncertain_ones_come_first_and_all_is_told_of_them(world):
    folder, path, samples = world
    session = session_of(folder, path)
    # 0.4 fails, 0.6 and 0.9 pass: the bound divides at 0.5
    assert names(session)[0] == samples[3].sample_id
    assert names(session)[3] == samples[0].sample_id
    first, last = session.view(0), session.view(3)
    assert first["scores"] == [
        {"name": "grounded", "value": None, "bound": "at least 0.5", "state": "abstained", "why": "no passage"}
    ]  # fmt: skip
    assert (first["kept"], first["reasons"]) == (False, ["grounded below 0.5"])
    assert (last["kept"], last["scores"][0]["state"]) == (True, "pass")
    assert last["question"] == "What colour is otter 0?" and "river" in last["passage"]
    assert last["decision"] is None


def test_the_duplicate_that_was_met_is_told(world):
    folder, path, samples = world
    met = {"duplicate": {"of": "abc", "similarity": 0.95}, "why": {"grounded": "no span"}}
    plan = load_plan(path)
    made_by = (plan.name, plan.plan_hash, plan.as_json())
    run = Run("x", *made_by, "completed", None, {}, {"selection_id": "d"})
    one = Choice("d", samples[1].sample_id, False, "near duplicate", ["near duplicate"], met)
    store(folder).insert([run, one])
    assert session_of(folder, path).view(0)["details"] == ["duplicate: of abc, similarity 0.95"]


def test_which_and_how_many_can_be_said(world):
    folder, path, samples = world
    assert set(names(session_of(folder, path, only="kept"))) == {
        samples[0].sample_id,
        samples[2].sample_id,
    }
    assert len(names(session_of(folder, path, only="dropped"))) == 2
    assert len(names(session_of(folder, path, limit=3))) == 3
    store(folder).insert([accept(samples[3])])
    assert samples[3].sample_id not in names(session_of(folder, path))
    assert names(session_of(folder, path, only="all"))[-1] == samples[3].sample_id


def test_nothing_to_review_is_told_in_one_line(world, tmp_path_factory):
    folder, path, samples = world
    store(folder).insert([reject(sample) for sample in samples])
    with pytest.raises(NothingToDoError, match="none of 4 samples is undecided"):
        session_of(folder, path)
    empty = tmp_path_factory.mktemp("empty")
    (empty / "plan.toml").write_text(PLAN)
    write_rows(empty / "prompts.jsonl", rows(0, 2))
    with pytest.raises(NothingToDoError, match="run `distill curate PLAN` first"):
        session_of(empty, empty / "plan.toml")


def test_the_newest_selection_is_shown(world):
    folder, path, samples = world
    plan = load_plan(path)
    later = Run(
        "later", plan.name, plan.plan_hash, plan.as_json(), "completed", None, {},
        {"verb": "run", "selection_id": "another"}, datetime(2026, 1, 2, tzinfo=UTC),
    )  # fmt: skip
    store(folder).insert([later, Choice("another", samples[1].sample_id, True, "kept", [])])
    assert names(session_of(folder, path)) == [samples[1].sample_id]


def test_a_plan_that_changed_elsewhere_still_finds_its_samples(world):
    folder, path, samples = world
    path.write_text(path.read_text() + '[train]\nbase = "nowhere"\n')
    session = session_of(folder, path)
    assert set(names(session)) == {sample.sample_id for sample in samples}


def test_what_another_gate_chose_is_not_shown(world):
    folder, path, _ = world
    path.write_text(path.read_text().replace("grounded_min = 0.5", "grounded_min = 0.7"))
    with pytest.raises(NothingToDoError, match="is not what its samples were curated with"):
        session_of(folder, path)


def test_accepting_a_refusal_makes_it_an_answer_that_can_be_trained_on(world):
    folder, path, samples = world
    refused = replace(samples[0], sample_id="refused", status="refused", status_reason="declines")
    choice = Choice("selection", "refused", False, "status: refused", ["status: refused"])
    store(folder).insert([refused, choice])
    session = session_of(folder, path)
    assert names(session)[-1] == "refused"
    assert session.view(4)["status"] == "refused: declines"
    told = session.decide(Decision(sample_id="refused", verdict="accept"))
    assert told["decision"]["verdict"] == "accepted"
    (new,) = [
        s for s in store(folder).read(Sample) if s.sample_id not in {"refused", *names(session)}
    ]
    assert (new.status, new.completion) == ("ok", refused.completion)
    assert decisions(session.human)[new.sample_id].value == 1.0


def test_scores_of_other_options_are_not_shown(world):
    folder, path, samples = world
    other = Score("x", samples[0].sample_id, "grounded", "0", "rule", {}, 0.0, None)
    store(folder).insert([other])
    session = session_of(folder, path, only="all")
    views = [session.view(number) for number in range(4)]
    assert [v["scores"][0]["value"] for v in views if v["sample_id"] == samples[0].sample_id] == [
        0.9
    ]


# What is written


def test_decisions_are_written_and_outlast_the_session(world):
    folder, path, samples = world
    session = session_of(folder, path)
    a, b, c, d = (sample.sample_id for sample in samples)
    session.decide(Decision(sample_id=a, verdict="accept", comment="good"))
    session.decide(Decision(sample_id=b, verdict="reject"))
    told = session.decide(Decision(sample_id=c, verdict="edit", text="dark black"))
    assert told["decision"] == {"verdict": "edited", "comment": "", "text": "dark black"}
    session.decide(Decision(sample_id=d, verdict="accept"))
    told = session.decide(Decision(sample_id=d, verdict="undo"))
    assert told["decision"] is None and told["decided"].count(True) == 3
    assert session.made == 3
    found = decisions(store(folder).read(Score))
    assert {key: found[key].value for key in (a, b, c)} == {a: 1.0, b: 0.0, c: 0.0}
    assert d not in found
    assert found[a].why == "good"
    (edited,) = store(folder).by_ids(Sample, "sample_id", [found[c].details["edited_to"]])
    assert edited.completion == "dark black" and found[edited.sample_id].value == 1.0
    again = session_of(folder, path, only="all")
    view = next(v for v in map(again.view, range(4)) if v["sample_id"] == c)
    assert view["decision"]["text"] == "dark black"
    assert again.made == 0


def test_undo_brings_back_what_was_decided_before(world):
    folder, path, samples = world
    store(folder).insert([reject(samples[0])])
    session = session_of(folder, path, only="all")
    one = samples[0].sample_id
    session.decide(Decision(sample_id=one, verdict="accept"))
    told = session.decide(Decision(sample_id=one, verdict="undo"))
    assert told["decision"]["verdict"] == "rejected"
    assert session.made == 0


def test_an_edit_is_what_the_next_curate_starts_from(world):
    """`read_hand` reads decisions and edits from the store as this session writes them."""
    from quality.review.decisions import with_edits

    folder, path, samples = world
    session = session_of(folder, path)
    session.decide(Decision(sample_id=samples[0].sample_id, verdict="edit", text="umber"))
    human = store(folder).read(Score, "scorer = 'human'")
    ids = [s.details["edited_to"] for s in human if "edited_to" in s.details]
    edits = {s.sample_id: s for s in store(folder).by_ids(Sample, "sample_id", ids)}
    first, *_ = with_edits([s.sample_id for s in samples], human, edits)
    assert edits[first].completion == "umber"


def test_another_process_can_write_between_decisions(world):
    folder, path, samples = world
    session = session_of(folder, path)
    code = (
        "import sys; from pathlib import Path; from warehouse.db.store import Store\n"
        "from warehouse.records import Failure\n"
        "Store(Path(sys.argv[1])).insert([Failure('r', 'curate', 's', 'e', False)])"
    )
    session.decide(Decision(sample_id=samples[0].sample_id, verdict="accept"))
    done = subprocess.run(
        [sys.executable, "-c", code, str(store(folder).path)], capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    session.decide(Decision(sample_id=samples[1].sample_id, verdict="accept"))
    assert len(decisions(store(folder).read(Score))) == 2
