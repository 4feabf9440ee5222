"""Names of contestants, and the plan's word on who may answer."""

import pytest

from distill.contestants.contestant import parse_contestant
from distill.plan.plan import load_plan
from distill.plan.preflight import check_evaluation
from tests.support.plans import scripted, write_plan
from warehouse.db.store import Store
from warehouse.errors import DataError, NotFoundError, PlanError


def test_a_name_is_who_and_context():
    one = parse_contestant("student:1a2b+knn")
    assert (one.who, one.student, one.context) == ("student", "1a2b", "knn")
    assert parse_contestant("gpt", ["gpt"]).who == "gpt"
    assert parse_contestant("base").context is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("techer", "did you mean 'teacher'"),
        ("base+nkn", "did you mean 'knn'"),
        ("base:1a2b", "only an earlier student"),
        ("student:", "only an earlier student"),
        ("base+retrieval", "needs documents"),
        ("gpt", "evaluate.endpoints"),
    ],
)
def test_a_wrong_name_is_told(name, message):
    with pytest.raises(ValueError, match=message):
        parse_contestant(name)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('evaluate.contestants=["teacher", "base", "base"]', "duplicate"),
        ('evaluate.contestants=["base+retrieval"]', "needs documents"),
        (
            'evaluate.contexts=[{use = "knn", k = 0}]',
            "k: Input should be greater than or equal to 1",
        ),
        ('evaluate.contexts=[{use = "kn"}]', "did you mean 'knn'"),
        ('evaluate.endpoints={base = {use = "scripted"}}', "endpoint 'base'"),
        ('evaluate.robustness={contestants = ["base+knn"]}', "which is not a contestant"),
        ('evaluate.off_task=[{use = "custom", path = "held_out.jsonl"}]', "duplicate"),
        ('ship={conditions = ["student => base + 0.1"]}', "write >= or <="),
        ("ship={conditions = []}", "at least 1 item"),
    ],
)
def test_a_plan_that_can_not_be_evaluated_is_refused(tmp_path, setting, message):
    plan = write_plan(tmp_path, scripted(tmp_path / "log"))
    with pytest.raises(PlanError, match=message):
        load_plan(plan, [setting])


def test_a_text_stands_for_a_table(tmp_path):
    plan = write_plan(tmp_path, scripted(tmp_path / "log"))
    loaded = load_plan(plan, ['evaluate.benchmarks=["custom:held_out.jsonl", "sciq"]'])
    assert [one.label for one in loaded.evaluate.benchmarks] == ["custom", "sciq"]
    with pytest.raises(PlanError, match="unknown benchmark 'sciqq'"):
        load_plan(plan, ['evaluate.benchmarks=["sciqq"]'])


def test_a_ship_gate_needs_a_student(tmp_path):
    plan = write_plan(tmp_path, scripted(tmp_path / "log"))
    changed = ['ship={conditions = ["student >= base"]}', 'evaluate.contestants=["base"]']
    with pytest.raises(PlanError, match="add 'student'"):
        load_plan(plan, changed).require("run")


def test_questions_are_disturbed_for_those_who_are_contestants_or_not_at_all(tmp_path):
    plan = write_plan(tmp_path, scripted(tmp_path / "log"))
    changed = ["evaluate.robustness={limit = 5}", 'evaluate.contestants=["teacher", "base"]']
    assert load_plan(plan, changed).evaluate.robustness_contestants == ["base"]
    assert load_plan(plan, [*changed, "evaluate.robustness=false"]).evaluate.robustness is None


def test_what_an_evaluation_draws_from_is_looked_for_before_anyone_is_asked(tmp_path):
    plan = write_plan(tmp_path, scripted(tmp_path / "log"))
    store = Store(tmp_path / "w.duckdb")
    documents = 'evaluate.contexts=[{use = "retrieval", documents = ["nowhere/*.md"]}]'
    loaded = load_plan(plan, [documents, 'evaluate.contestants=["base+retrieval"]'])
    with pytest.raises(DataError, match="nowhere"):
        check_evaluation(loaded, store)
    loaded = load_plan(plan, ['evaluate.contestants=["student:1a2b"]'])
    with pytest.raises(NotFoundError, match="no student's id in .* starts with '1a2b'"):
        check_evaluation(loaded, store)
    loaded = load_plan(plan, ['ship={conditions = ["student >= base on custm"]}'])
    with pytest.raises(PlanError, match="no benchmark 'custm' \\(did you mean 'custom'"):
        check_evaluation(loaded, store)
    assert check_evaluation(load_plan(plan), store) == {"custom": 12}
