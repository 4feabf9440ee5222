"""The audit: every scorer on its sets, nothing measured or paid for twice, and what could not be."""

import json
from collections import Counter

import pytest

from flows.stages import scorer_audit
from flows.stages.scorer_audit import PAID_LIMIT, audit_scorers, print_audit, stored_measurements
from quality.audit.labelled import LabelledSet, _sample
from quality.scorers.grounded import Grounded
from quality.scorers.self_consistency import SelfConsistency
from quality.scoring.scorer import ScorerContext
from tests.support.plans import GROUNDED
from warehouse.db.store import Store
from warehouse.errors import AssetError
from warehouse.records import AuditScore, Choice, Measurement, Run, Sample, Score

PASSAGE = "The otter is brown. The heron is grey. The newt is green."
PAIRS = [("brown", "pink"), ("grey", "blue"), ("green", "mauve")]


def small(name="animals: colour", version="1", pairs=PAIRS):
    def make():
        for right, wrong in pairs:
            question = f"It is {right}?"
            yield tuple(_sample(question, text, [right], PASSAGE) for text in (right, wrong))

    return LabelledSet(
        name, version, ("grounded", "self_consistency", "judge"), "made [b]by hand", make
    )


@pytest.fixture
def plan(tmp_path, monkeypatch):
    sets = [small()]
    monkeypatch.setattr(
        scorer_audit, "sets_for", lambda name: [one for one in sets if name in one.measures]
    )
    path = tmp_path / "plan.toml"
    path.write_text(
        f"""
name = "small"
warehouse = "{tmp_path / "w.duckdb"}"
[teacher]
use = "scripted"
{GROUNDED}"""
    )
    return path, Store(tmp_path / "w.duckdb"), sets


def test_a_scorer_is_measured_and_kept(plan):
    path, store, _ = plan
    result = audit_scorers(str(path))
    (row,) = result["rows"]
    assert (row["scorer"], row["dataset"], row["n"]) == ("grounded", "animals: colour", 6)
    assert (row["auc"], row["threshold"], row["precision"], row["recall"]) == (1.0, 1.0, 1.0, 1.0)
    assert row["auc_low"] < 1.0
    assert "made [b]by hand" in row["note"]
    (kept,) = store.read(Measurement)
    assert (kept.measurement_id, kept.rows) == (row["measurement_id"], 6)
    assert kept.figures["at_gate"]["precision"] == 1.0
    (run,) = store.read(Run)
    assert (run.state, run.summary["verb"]) == ("completed", "audit")
    json.dumps(result)


def test_an_audit_leaves_the_samples_scores_and_choices_of_the_user_alone(plan):
    path, store, _ = plan
    sample = _sample("Which one is brown?", "the otter", ["otter"], PASSAGE)
    score = Score("s", sample.sample_id, "grounded", "1", "rule", {}, 1.0, None)
    store.insert([sample, score, Choice("c", sample.sample_id, True, "kept", [])])
    views = ("samples_with_scores", "newest_choices", "funnel", "drop_reasons", "failures")

    def state():
        tables = {record: store.read(record) for record in (Sample, Score, Choice)}
        return tables, {view: store.query(f"SELECT * FROM {view}").to_dicts() for view in views}

    before = state()
    audit_scorers(str(path))
    assert state() == before
    assert len(store.read(AuditScore)) == 6


def test_what_is_on_hand_is_not_scored_again(plan, monkeypatch):
    path, store, sets = plan
    first = audit_scorers(str(path))["rows"]
    assert len(store.read(AuditScore)) == 6

    def never(self, samples):
        raise AssertionError("scored again")

    monkeypatch.setattr(Grounded, "score", never)
    assert audit_scorers(str(path))["rows"] == first
    loose = "quality.gate.grounded_min=0.0"
    (row,) = audit_scorers(str(path), [loose])["rows"]  # another bound: from the scores kept
    assert (row["threshold"], row["precision"]) == (0.0, 0.5)
    assert len(store.read(Measurement)) == 2
    sets[0] = small(version="2")
    (row,) = audit_scorers(str(path))["rows"]
    assert row["measurement_id"] not in {one["measurement_id"] for one in first}


def test_measurements_on_hand_are_those_of_the_present_bound(plan):
    from distill.plan.plan import load_plan

    path, store, sets = plan
    loose = ["quality.gate.grounded_min=0.25"]
    audit_scorers(str(path))
    audit_scorers(str(path), loose)
    for overrides, bound in (([], 1.0), (loose, 0.25)):
        section = load_plan(path, overrides).quality
        (one,) = stored_measurements(store, section.scorers, section.gate)
        assert one.figures["threshold"] == bound
    audit_scorers(str(path), limit=4)  # of fewer rows: not shown beside the one of all
    section = load_plan(path).quality
    assert [one.rows for one in stored_measurements(store, section.scorers, section.gate)] == [6]
    sets[0] = small(version="2")
    assert not stored_measurements(store, section.scorers, section.gate)


def test_a_limit_takes_as_many_good_as_bad(plan):
    path, store, _ = plan
    (row,) = audit_scorers(str(path), limit=4)["rows"]
    assert row["n"] == 4
    assert store.read(Measurement)[0].figures["positives"] == 2


def test_what_can_not_be_measured_says_why(plan):
    path, store, sets = plan

    def gone():
        raise AssetError("asset 'x' could not be downloaded")

    sets.insert(0, LabelledSet("gone", "1", ("grounded",), "", gone))
    scorers = 'quality.scorers=[{use="grounded"},{use="refusal"},{use="judge"}]'
    rows = audit_scorers(str(path), [scorers])["rows"]
    told = {(row["scorer"], row["dataset"]): row for row in rows}
    assert told["grounded", "gone"]["note"] == "not measured: asset 'x' could not be downloaded"
    assert told["grounded", "animals: colour"]["auc"] == 1.0
    assert "no labelled data" in told["refusal", None]["note"]
    assert told["judge", None]["note"].startswith("not measured: ")
    assert len(store.read(Measurement)) == 1


def test_a_failing_row_costs_neither_the_others_nor_the_next_try(plan, monkeypatch):
    path, store, _ = plan
    score_batch = Grounded.score_batch

    def fails_on_pink(self, samples):
        if any(sample.completion == "pink" for sample in samples):
            raise RuntimeError("boom")
        return score_batch(self, samples)

    monkeypatch.setattr(Grounded, "score_batch", fails_on_pink)
    (row,) = audit_scorers(str(path))["rows"]
    assert (row["n"], row["abstained"], row["auc"]) == (6, 1, 1.0)
    assert "it failed on 1 sample" in row["note"]
    assert not store.read(Measurement)
    monkeypatch.setattr(Grounded, "score_batch", score_batch)
    (row,) = audit_scorers(str(path))["rows"]
    assert row["abstained"] == 0
    assert len(store.read(Measurement)) == 1


class KnowsColours:
    """A teacher that says the colour the question names."""

    name = "knows colours"

    def __init__(self):
        self.asked = []

    def __call__(self, questions):
        self.asked += [question.messages[-1]["content"] for question in questions]
        return [text.split("?")[0].split()[-1] for text in self.asked[-len(questions) :]]


def test_a_scorer_that_asks_is_measured_on_few_where_it_may_cost(plan, monkeypatch):
    path, _, sets = plan
    colours = [(f"brown{n}", f"pink{n}") for n in range(PAID_LIMIT)]
    sets[0] = small(pairs=colours)
    teacher = KnowsColours()
    scorer = SelfConsistency(k=2).with_tools(ScorerContext(teacher=teacher))
    monkeypatch.setattr(scorer_audit, "prepare_scorers", lambda work: [scorer])
    monkeypatch.setattr(SelfConsistency, "asks", "")  # though it does not say that it asks
    (row,) = audit_scorers(str(path))["rows"]
    assert "needs the plan's teacher" in row["note"]
    monkeypatch.setattr(SelfConsistency, "asks", "teacher")
    (row,) = audit_scorers(str(path))["rows"]
    assert "it asks the teacher, which may cost" in row["note"]
    assert not teacher.asked
    (row,) = audit_scorers(str(path), paid=True)["rows"]
    assert (row["n"], row["abstained"], row["auc"]) == (PAID_LIMIT, 0, 1.0)
    assert set(Counter(teacher.asked).values()) == {2}
    asked = len(teacher.asked)
    audit_scorers(str(path), paid=True)
    assert len(teacher.asked) == asked


def test_an_interrupted_audit_names_the_command_that_resumes_it(plan, monkeypatch):
    from warehouse.errors import Stopped

    def interrupt(self, samples):
        raise KeyboardInterrupt

    path, _, _ = plan
    monkeypatch.setattr(Grounded, "score", interrupt)
    with pytest.raises(Stopped, match=r"resume with: distill curate \S+plan.toml --audit$"):
        audit_scorers(str(path))


def test_the_table_shows_texts_as_they_are(plan, capsys):
    path, _, _ = plan
    scorers = 'quality.scorers=[{use="grounded"},{use="refusal"}]'
    print_audit(audit_scorers(str(path), [scorers]))
    out = capsys.readouterr().out
    assert "animals: colour" in out
    assert "1.000 (" in out
    assert "made [b]by hand" in out
    assert "refusal: not measured" in out
