"""Many contestants before the same items: asked once, shown with their coverage, held to [ship]."""

from __future__ import annotations

import json
import math
import re
import string
from pathlib import Path

import pytest

from tests.support.cli import distill
from tests.support.fakes import FakeOpenai, Fault
from tests.support.plans import rows, scripted, write_plan, write_rows
from warehouse.db.store import Store
from warehouse.records import Answer, RunAnswer, Student

SEVEN = ["teacher", "base", "base+fewshot", "base+knn", "base+retrieval", "student", "other"]


def settings(url, contestants=SEVEN):
    return {
        "evaluate.contestants": json.dumps(contestants),
        "evaluate.contexts": '[{use = "retrieval", documents = ["docs"], k = 1}, {use = "fewshot", k = 2}]',
        "evaluate.endpoints": f'{{other = {{use = "openai_chat", model = "fake", base_url = "{url}", '
        'api_key_env = "FAKE_KEY", input_usd_per_million = 1000, output_usd_per_million = 1000}}',
        "evaluate.off_task": '[{use = "custom", path = "outside.jsonl", name = "zoo"}]',
        "evaluate.usd_per_hour": "1.0",
        "evaluate.robustness": '{perturbations = ["typos", "injection"], limit = 4}',
    }


def words(changes):
    return [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]


def half(messages):
    """Refuses every second question, by its number."""
    text = messages[-1]["content"].rpartition("?")[0].split()[-1]
    return Fault(400, '{"error": {"message": "no"}}') if int(text) % 2 else None


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("contest")
    write_plan(folder, scripted(folder / "asked.log"))
    write_rows(folder / "outside.jsonl", rows(2000, 6))
    (folder / "docs").mkdir()
    (folder / "docs" / "zoo.md").write_text("The otter with number 1000 is said to be brown.")
    with (
        pytest.MonkeyPatch.context() as patch,
        FakeOpenai(lambda messages: "is brown.", fault_for=half) as server,
    ):
        patch.setenv("FAKE_KEY", "k")
        changes = settings(server.base_url)
        done = distill(folder, "run", "plan.toml", *words(changes), "--json")
        assert done.returncode == 0, done.stderr
        asked = server.asked
        again = distill(folder, "run", "plan.toml", *words(changes), "--json")
        assert again.returncode == 0, again.stderr
        assert server.asked == asked  # what was answered, and what was refused for good
        yield folder, changes, json.loads(done.stdout), json.loads(again.stdout)


def test_all_are_asked_and_none_twice(run):
    folder, _, first, again = run
    assert list(first["benchmarks"]) == ["custom", "zoo"]
    assert set(first["contestants"]) == set(SEVEN)
    assert again["calls_made"] == 0
    assert again["benchmarks"] == first["benchmarks"]
    store = Store(folder / "w.duckdb")
    entries = store.read(RunAnswer, "run_id = ?", [first["run_id"]])
    disturbed = 2 * 2 * 4  # two contestants, two perturbations, four items
    assert len(entries) == 6 * (12 + 6) + (6 + 3) + disturbed
    same = [entry.answer_id for entry in entries]  # no passage was found: what base was asked
    assert len(store.read(Answer)) == len(set(same)) < len(same)


def test_who_failed_on_half_is_compared_on_what_both_answered(run):
    _folder, _, first, _ = run
    report = json.loads(Path(first["report_path"]).with_suffix(".json").read_text())
    found = report["evaluation"]["comparisons"][0]
    other = next(one for one in found["standings"] if one["contestant"] == "other")
    assert (other["n"], other["graded"], other["failed"]) == (12, 6, 6)
    pair = next(one for one in found["differences"] if one["right"] == "other")
    assert (pair["left"], pair["n"]) == ("student", 6)
    assert found["common"] == 6
    notes = " ".join(found["notes"])
    assert "other failed on 6 of 12 items" in notes
    assert "all contestants were graded on 6 of 12 items" in notes
    assert report["evaluation"]["comparisons"][1]["role"] == "off_task"


def test_the_report_tells_costs_robustness_and_what_each_saw(run):
    _folder, _, first, _ = run
    report = json.loads(Path(first["report_path"]).with_suffix(".json").read_text())
    evaluation = report["evaluation"]
    costs = {(e["benchmark"], e["contestant"]): e for e in evaluation["economics"]}
    other = costs["custom", "other"]
    assert other["priced_by"] == "tokens" and other["usd_per_1000"] > 0
    assert costs["custom", "student"]["priced_by"] == "machine time"
    recorded = Store(_folder / "w.duckdb").read(Answer)
    by_machine = [a for a in recorded if "call_id" not in a.settings]
    firsts = {a.details["batch"] for a in by_machine}
    assert firsts <= {a.answer_id for a in by_machine} and len(firsts) < len(by_machine)
    assert costs["custom", "student"]["batches"] < 5
    cost = evaluation["cost"]
    assert cost["total_usd"] > first["cost"]["hours"] > 0 and cost["missing"] == ""
    assert cost["usd_per_1000"] == costs["custom", "student"]["usd_per_1000"]
    others = {name for name in SEVEN if not name.startswith("student")}
    assert {line["against"] for line in evaluation["break_even"]} == others
    forms = {(line["perturbation"], line["contestant"]) for line in evaluation["robustness"]}
    assert forms == {(p, c) for p in ("typos", "injection") for c in ("base", "student")}
    assert len(report["protocol"]) == len(SEVEN)
    assert any(line.startswith("base+knn: ") and "nearest" in line for line in report["protocol"])
    assert {line["contestant"] for line in evaluation["calibration"]} >= {"base", "student"}


def test_an_earlier_student_answers_under_its_own_name_from_what_is_on_record(run):
    folder, changes, _first, _ = run
    (student,) = Store(folder / "w.duckdb").read(Student)
    name = f"student:{student.student_id[:6]}"
    changed = {**changes, "evaluate.contestants": json.dumps(["base", "student", name])}
    done = distill(folder, "evaluate", "plan.toml", *words(changed), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["calls_made"] == 0
    assert found["contestants"][name] == found["contestants"]["student"]
    assert Path(found["report_path"]).is_file()


def test_without_the_plans_student_there_is_a_report_too(run):
    folder, changes, _, _ = run
    changed = {**changes, "evaluate.contestants": '["base"]'}
    done = distill(folder, "evaluate", "plan.toml", *words(changed), "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(Path(json.loads(done.stdout)["report_path"]).with_suffix(".json").read_text())
    (standing,) = told["evaluation"]["comparisons"][0]["standings"]
    assert standing["contestant"] == "base"
    assert (told["funnel"], told["losses"], told["audit"]) == ([], [], {})
    assert "student" not in told["ids"]


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ("student >= base - 0.9 on custom", 0),
        ("student >= 1.5 on custom", 2),
        ("student >= teacher on custom", 4),
        ("toxicity <= 0.1", 2),
    ],
)
def test_a_student_that_does_not_meet_the_conditions_is_told_by_the_exit_code(run, condition, code):
    folder, changes, _, _ = run
    changed = {**changes, "evaluate.contestants": json.dumps(["teacher", "base", "student"]),
               "ship": f'{{conditions = ["{condition}"]}}'}  # fmt: skip
    done = distill(folder, "evaluate", "plan.toml", *words(changed), "--json")
    assert done.returncode == code, done.stderr
    if code != 2:
        ship = json.loads(done.stdout)["ship"]
        assert ship["ships"] == (code == 0)
        assert (ship["by_chance"] == 1.0) == (code == 0)  # anyone is as good as the base - 0.9
        assert "A student no better than the base would have passed" in ship["chance_sentence"]
    if code == 4:
        assert condition in done.stderr and "does not ship" in done.stderr
        assert "Traceback" not in done.stderr


NUMBERS = """
SELECT e.benchmark, e.contestant, a.item_id, a.text, a.grades
FROM run_answers e JOIN answers a USING (answer_id) WHERE e.run_id = '{}'
"""


def squad(text):
    """SQuAD's normalisation, written down once more."""
    kept = "".join(char for char in text.lower() if char not in string.punctuation)
    return " ".join(word for word in kept.split() if word not in ("a", "an", "the"))


def test_the_reports_numbers_are_those_that_sql_gives(run):
    """Means, paired differences, wins, losses and exact p-values, from the warehouse alone."""
    folder, _, first, _ = run
    report = json.loads(Path(first["report_path"]).with_suffix(".json").read_text())
    done = distill(
        folder, "sql", NUMBERS.format(first["run_id"]), "--warehouse", "w.duckdb", "--json"
    )
    assert done.returncode == 0, done.stderr
    rows_of = {}
    for row in json.loads(done.stdout):
        grades = row["grades"] if isinstance(row["grades"], dict) else json.loads(row["grades"])
        found = rows_of.setdefault((row["benchmark"], row["contestant"]), {})
        found[row["item_id"]] = (row["text"], grades["exact_match"])
    explored = {one["item_id"]: one for one in report["evaluation"]["explored"]}
    for comparison in report["evaluation"]["comparisons"]:
        name = comparison["benchmark"]
        for standing in comparison["standings"]:
            given = rows_of[name, standing["contestant"]]
            for item_id, (text, grade) in given.items():
                right = {squad(one) for one in explored[item_id]["reference"]}
                assert grade == float(squad(text) in right)
            assert standing["graded"] == len(given)
            mean = sum(grade for _, grade in given.values()) / len(given)
            assert standing["metrics"]["exact_match"]["value"] == pytest.approx(mean)
        for pair in comparison["differences"]:
            ours, theirs = rows_of[name, pair["left"]], rows_of[name, pair["right"]]
            gaps = [ours[item][1] - theirs[item][1] for item in ours.keys() & theirs.keys()]
            wins, losses = sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)
            assert (pair["n"], pair["wins"], pair["losses"]) == (len(gaps), wins, losses)
            assert pair["metrics"]["exact_match"]["value"] == pytest.approx(sum(gaps) / len(gaps))
            n, least = wins + losses, min(wins, losses)
            tail = sum(math.comb(n, k) for k in range(least + 1)) / 2**n
            assert pair["p_value"] == pytest.approx(min(1.0, 2 * tail))
    shown = distill(
        folder, "sql", f"SELECT * FROM standings WHERE run_id = '{first['run_id']}'",
        "--warehouse", "w.duckdb", "--json",
    )  # fmt: skip
    means = {
        (r["benchmark"], r["contestant"], r["metric"]): r["mean"] for r in json.loads(shown.stdout)
    }
    for comparison in report["evaluation"]["comparisons"]:
        for standing in comparison["standings"]:
            for metric, at in standing["metrics"].items():
                key = (comparison["benchmark"], standing["contestant"], metric)
                assert means[key] == pytest.approx(at["value"])


def test_the_queries_of_the_docs_give_the_reports_numbers_and_answers(run):
    """Each `distill sql` of docs/evaluation.md, with this run's id and benchmark."""
    folder, _, first, again = run
    assert first["run_id"] != again["run_id"]  # so the runs share their answers
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    queries = re.findall(r"^\$ distill sql \"(.+)\" --warehouse plan\.toml$", page, re.MULTILINE)
    assert len(queries) == 2

    def rows_of(query, run_id):
        query = re.sub(r"run_id = '[^']+'", f"run_id = '{run_id}'", query)
        done = distill(folder, "sql", query, "--warehouse", "plan.toml", "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    report = json.loads(Path(again["report_path"]).with_suffix(".json").read_text())
    scores = {
        (comparison["benchmark"], standing["contestant"]): (
            standing["graded"],
            pytest.approx(standing["metrics"]["exact_match"]["value"]),
        )
        for comparison in report["evaluation"]["comparisons"]
        for standing in comparison["standings"]
    }
    given = rows_of(queries[0], again["run_id"])
    means = {(r["benchmark"], r["contestant"]): (r["graded"], r["mean"]) for r in given}
    assert {key: mean for key, mean in means.items() if " / " not in key[0]} == scores
    whole = queries[1].replace(" LIMIT 2", "")
    joined = rows_of(whole, again["run_id"])
    answers = Store(folder / "w.duckdb").read(Answer)
    texts = {(a.item_id[:8], a.contestant, a.text, a.grades["exact_match"]) for a in answers}
    assert {(r["item"], r["contestant"], r["text"], r["exact_match"]) for r in joined} <= texts
    for who in ("student", "teacher"):
        mine = [r["exact_match"] for r in joined if r["contestant"] == who]
        counts = [means[key] for key in means if key[1] == who]
        assert len(mine) == sum(graded for graded, _ in counts)
    assert rows_of(whole, "no-run") == []


def test_two_runs_are_compared_item_by_item(run):
    folder, changes, first, _ = run
    changed = {**changes, "evaluate.contestants": '["base", "student"]', "train.epochs": "2"}
    done = distill(folder, "run", "plan.toml", *words(changed), "--json")
    assert done.returncode == 0, done.stderr
    second = json.loads(done.stdout)
    told = distill(folder, "report", first["run_id"], second["run_id"], "--warehouse", "w.duckdb")
    assert told.returncode == 0, told.stderr
    assert (
        "custom: no clear difference between the students" in told.stdout
        and "B minus A" in told.stdout
    )
    page = Path(told.stdout.split()[-1]).read_text()
    assert "train.epochs" in page and "student of A" in page and "<script" not in page
    assert "  train.epochs: 1 -> 2" in told.stdout.splitlines()
    again = distill(folder, "report", first["run_id"], first["run_id"], "--warehouse", "w.duckdb")
    assert again.returncode == 0, again.stderr
    same, plan, where = again.stdout.splitlines()
    assert same.startswith("Both runs evaluate the same student, ")
    assert plan == "Both runs use the same plan." and where.startswith("report ")
    assert "Paired difference" not in Path(where.split()[-1]).read_text()
    _of_another_version(folder / "w.duckdb", second["run_id"])
    told = distill(folder, "report", first["run_id"], second["run_id"], "--warehouse", "w.duckdb")
    told_words = " ".join(told.stdout.split())
    expected = r"custom is of version [^1 ]\S* in A and of 1 in B: asked or graded otherwise"
    assert re.search(expected, told_words)
    alone = distill(folder, "report", first["run_id"], "nobody", "--warehouse", "w.duckdb")
    assert alone.returncode == 2 and "no run 'nobody'" in alone.stderr


def _of_another_version(path, run_id):
    """Makes the student's answers of a run look like those to an older version."""
    import duckdb

    with duckdb.connect(str(path)) as db:
        db.execute(
            "UPDATE answers SET benchmark_version = '1' WHERE benchmark = 'custom' AND answer_id IN "
            "(SELECT answer_id FROM run_answers WHERE run_id = ? AND contestant = 'student')",
            [run_id],
        )
