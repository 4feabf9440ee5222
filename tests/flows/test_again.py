"""Curating again reads what is on record, and only where nothing that decides it changed."""

import json
import random
from contextlib import suppress
from dataclasses import replace

import duckdb
import polars as pl
import pytest

from distill.plan.plan import load_plan
from distill.plan.project import open_store
from flows.stages import curate as stage
from flows.stages import gate_inputs
from flows.stages.curate import curate
from flows.stages.gate_inputs import GateInputs
from flows.stages.generate import generate, load_recorded_samples
from flows.stages.recorded import choose_recorded_samples, settle_recorded_samples
from flows.stages.sample_lists import find_sample_list, listed_ids
from flows.studies.what_if import what_if
from quality.review.decisions import reject
from warehouse.db.store import Store
from warehouse.errors import NothingToDoError
from warehouse.records import Call, Choice, Failure, Sample, SampleList, Score

PLAN = """
name = "again"
warehouse = "w.duckdb"
[teacher]
use = "scripted"
default = "The bridge was built in 1932 by the town."
replies = { "17" = "I am sorry, but I cannot help with that." }
[[datagen.recipe]]
use = "imitation"
prompts = "rows.jsonl"
student_sees_passage = true
[quality]
scorers = [{ use = "grounded" }, { use = "refusal" }]
gate = { grounded_min = 0.3, refusal_max = 0.5 }
duplicates = { near = 0.8 }
[evaluate]
benchmarks = [{ use = "custom", path = "items.jsonl" }]
"""
SAID = "The bridge was built in 1932 by the town."
BUILT = "was built in 19{n:02} by the town of A{n}, which lies at the river."


@pytest.fixture
def plan(tmp_path):
    rows = [
        {
            "prompt": f"Who built bridge number {n}?",
            "passage": SAID if n % 3 == 0 else f"Bridge {n} {BUILT.format(n=n)}",
        }
        for n in range(30)
    ]
    items = [{"prompt": rows[n]["prompt"], "reference": ["the town"]} for n in (3, 5)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, items)))
    (tmp_path / "plan.toml").write_text(PLAN)
    generate(str(tmp_path / "plan.toml"))
    return tmp_path / "plan.toml"


def loaded(path):
    plan = load_plan(path)
    store = open_store(plan)
    return plan, store, load_recorded_samples(plan, store)


def test_the_list_gives_what_reading_every_reply_gives(plan):
    settings, store, listed = loaded(plan)
    assert find_sample_list(settings, store) is not None
    with duckdb.connect(str(store.path)) as db:
        db.execute("DELETE FROM sample_lists")
    _, _, read = loaded(plan)
    assert find_sample_list(settings, store) is None
    assert list(listed.edited.ids) == list(read.edited.ids)
    assert (listed.prompts, listed.calls, listed.samples) == (30, 30, 30)
    assert (read.prompts, read.calls, read.samples) == (30, 30, 30)
    assert listed.recipes == read.recipes


def test_a_curate_keeps_the_list_where_there_is_none(plan):
    settings, store, _ = loaded(plan)
    with duckdb.connect(str(store.path)) as db:
        db.execute("DELETE FROM sample_lists")
    curate(str(plan))
    assert find_sample_list(settings, store) is not None


def test_a_list_is_not_read_once_something_changed(plan):
    settings, store, before = loaded(plan)
    rows = plan.parent / "rows.jsonl"
    text = rows.read_text()
    rows.write_text(text + "\n" + json.dumps({"prompt": "Who built the tower?", "passage": "A."}))
    assert find_sample_list(settings, store) is None
    rows.write_text(text)
    assert find_sample_list(settings, store) is not None
    for other in (["datagen.sampling.temperature=0.9"], ["datagen.sampling.seed=7"]):
        assert find_sample_list(load_plan(plan, other), store) is None, other
    [known] = store.read(SampleList)
    last = listed_ids(store, known)[-1]
    with duckdb.connect(str(store.path)) as db:
        db.execute("CREATE TABLE aside AS SELECT * FROM samples WHERE sample_id = ?", [last])
        db.execute("DELETE FROM samples WHERE sample_id = ?", [last])
    assert find_sample_list(settings, store) is None  # a sample that the warehouse lacks
    with duckdb.connect(str(store.path)) as db:
        db.execute("INSERT INTO samples SELECT * FROM aside")
        db.execute("DROP TABLE aside")
    assert find_sample_list(settings, store) is not None
    [call, *_] = store.read(Call)
    store.insert([replace(call, call_id="f" * 32)])
    assert find_sample_list(settings, store) is None
    assert list(loaded(plan)[2].edited.ids) == list(before.edited.ids)


def test_a_refusal_for_good_ends_a_list(plan):
    settings, store, _ = loaded(plan)
    store.insert([Failure("r", "generate", "s", "refused", permanent=True)])
    assert find_sample_list(settings, store) is None


@pytest.mark.parametrize(
    "recipe",
    [
        'use = "reasoning"\nprompts = "rows.jsonl"\nk = 2\ncheck = "agreement"',
        'use = "./own.py:Own"\nprompts = "rows.jsonl"',
        'use = "imitation"\nprompts = "rows.jsonl"\ntarget = 5',
    ],
)
def test_other_recipes_are_replayed(plan, recipe):
    (plan.parent / "own.py").write_text(
        '"""As imitation."""\n\nfrom dataclasses import dataclass\n\nfrom datagen.recipes.imitation import Imitation\n\n\n@dataclass(frozen=True)\n'
        'class Own(Imitation):\n    """As imitation."""\n'
    )
    head, _, rest = PLAN.partition("[[datagen.recipe]]")
    text = f"{head}[[datagen.recipe]]\n{recipe}\n{rest[rest.index('[quality]') :]}"
    plan.write_text(text)
    hot = ["datagen.sampling.temperature=0.8"]
    with suppress(NothingToDoError):  # replies of which nothing can be made are replies
        generate(str(plan), hot)
    settings = load_plan(plan, hot)
    store = open_store(settings)
    assert find_sample_list(settings, store) is None


def test_a_selection_is_chosen_once(plan, monkeypatch):
    first = curate(str(plan))
    assert 0 < first["kept"] < first["samples"]
    with monkeypatch.context() as patch:
        patch.setattr(gate_inputs, "HeldOut", None)  # nobody looks anything up
        patch.setattr(stage, "choose", None)
        again = curate(str(plan))
    same = ("selection_id", "samples", "kept", "reasons")
    assert {key: again[key] for key in same} == {key: first[key] for key in same}
    other = curate(str(plan), ["quality.gate.grounded_min=0.9"])
    assert other["selection_id"] != first["selection_id"]


def test_choices_without_scores_are_made_anew(plan):
    """A scorer that failed leaves samples unscored; once they have a score the gate chooses again."""
    first = curate(str(plan))
    settings = load_plan(plan)
    store = open_store(settings)
    with duckdb.connect(str(store.path)) as db:
        db.execute(
            "UPDATE choices SET kept = false, reasons = '[\"grounded: not scored\"]', reason = 'grounded: not scored'"
        )
    again = curate(str(plan))
    assert (again["selection_id"], again["kept"]) == (first["selection_id"], first["kept"])
    with duckdb.connect(str(store.path), read_only=True) as db:
        kept = db.execute("SELECT count(*) FROM choices WHERE kept").fetchone()
        everything = db.execute("SELECT count(*) FROM choices").fetchone()
    assert (kept, everything) == ((first["kept"],), (first["samples"],))


def test_what_if_with_recorded_matches_is_what_curate_then_keeps(plan):
    curate(str(plan))
    then = what_if(str(plan), [], ["gate.grounded_min=0.6"])
    real = curate(str(plan), ["quality.gate.grounded_min=0.6"])
    assert then["kept_then"] == real["kept"]
    dropped = {why: n for why, n in real["reasons"].items() if why != "kept"}
    assert then["reasons_then"] == dropped
    assert any(why.startswith("held_out") for why in dropped)


def test_what_was_kept_gives_row_for_row_what_looking_anew_gives(plan, monkeypatch):
    curate(str(plan))
    settings, store, _ = loaded(plan)
    settled = settle_recorded_samples(settings, store)
    chance, reasons = random.Random(4), set()
    for _ in range(12):
        changes = [
            f"quality.gate.grounded_min={chance.choice([0.1, 0.5, 0.9, 1.0])}",
            f"quality.gate.refusal_max={chance.choice([0.0, 0.5, 1.0])}",
        ]
        if chance.random() < 0.3:
            changes.append(f"quality.gate.max_words={chance.choice([8, 9])}")
        other = load_plan(plan, changes)
        nowhere = GateInputs(Store(plan.parent / "none.duckdb"), "again")
        anew = choose_recorded_samples(other, settled, nowhere)
        with monkeypatch.context() as patch:
            for name in ("HeldOut", "items_of", "scores_of"):
                patch.setattr(gate_inputs, name, None)
            kept = choose_recorded_samples(other, settled, with_details=False)
        for column in ("sample_id", "kept", "reason", "reasons"):
            assert kept.choice_rows[column].equals(anew.choice_rows[column]), (changes, column)
        reasons |= set(kept.choice_rows["reason"])
    assert {"kept", "more than 8 words", "grounded below 1", "held_out: question"} <= reasons


def test_of_other_scores_or_samples_nothing_kept_is_read(plan):
    curate(str(plan))
    settings, store, _ = loaded(plan)
    [sample, *_] = settle_recorded_samples(settings, store).samples.all()
    before = what_if(str(plan), [], ["gate.grounded_min=0.6"])
    with duckdb.connect(str(store.path)) as db:
        db.execute(
            "DELETE FROM scores WHERE scorer = 'grounded' AND sample_id = ?", [sample.sample_id]
        )
    after = what_if(str(plan), [], ["gate.grounded_min=0.6"])
    assert after["reasons_now"]["grounded: not scored"] == 1
    assert "grounded: not scored" not in before["reasons_now"]
    rows = plan.parent / "rows.jsonl"
    rows.write_text("\n".join(rows.read_text().splitlines()[:-5]))
    generate(str(plan))
    assert what_if(str(plan), [], ["gate.grounded_min=0.6"])["samples"] == before["samples"] - 5


@pytest.mark.parametrize("value", [0.25, float("inf"), float("-inf"), float("nan"), None])
def test_scores_are_kept_whatever_their_value(value):
    found = pl.DataFrame(
        {
            "row": pl.Series([2, 0], dtype=pl.UInt32),
            "value": [value, 0.5],
            "why": ["because", None],
            "label": [value, None],
        },
        schema_overrides={"value": pl.Float64, "label": pl.Float64},
    )
    kept = json.loads(json.dumps(gate_inputs._scores_as_json(found, 4, ["label"]), allow_nan=False))
    given = gate_inputs._scores_from_json(kept)
    silent = value is None or value != value
    number = None if silent else value
    assert given.select("row", "value", "label", "why").rows() == [
        (0, 0.5, None, None),
        (2, number, number, "because" if silent else None),
    ]


def test_other_items_and_decisions_make_another_selection(plan):
    """What decides a choice is in the selection's id: nothing on record is taken for it."""
    first = curate(str(plan))
    items = plan.parent / "items.jsonl"
    items.write_text(
        items.read_text() + "\n" + json.dumps({"prompt": "Who built bridge number 9?"})
    )
    more = curate(str(plan))
    assert more["selection_id"] != first["selection_id"]
    assert more["kept"] == first["kept"] - 1
    _, store, recorded = loaded(plan)
    kept = store.read(Choice, "selection_id = ? AND kept", [more["selection_id"]])
    [sample] = store.by_ids(Sample, "sample_id", [kept[0].sample_id])
    store.insert([reject(sample)])
    after = curate(str(plan))
    assert after["selection_id"] != more["selection_id"]
    assert after["kept"] == more["kept"] - 1
    assert len(recorded.edited) == after["samples"]


ODD = '''
"""A scorer whose details cannot be stored for one sample."""

from dataclasses import dataclass

from quality.scoring.scorer import Scorer, Verdict


@dataclass
class Odd(Scorer):
    """Characters."""

    version = "1"

    def score_batch(self, samples):
        for sample in samples:
            odd = "number 17?" in sample.question
            yield Verdict(float(len(sample.completion)), details={"of": {1}} if odd else None)
'''


@pytest.mark.parametrize("engine", ["local", "process"])
def test_a_score_that_cannot_be_stored_costs_no_other(plan, engine, monkeypatch):
    monkeypatch.setattr(stage, "SCORED_AT_ONCE", 8)
    (plan.parent / "odd.py").write_text(ODD)
    plan.write_text(
        PLAN.replace('{ use = "refusal" }]', '{ use = "refusal" }, { use = "./odd.py:Odd" }]')
    )
    told = curate(str(plan), [f"run.engine={engine}", "run.workers=1"])
    assert told["failures"] == 1
    _, store, recorded = loaded(plan)
    assert len(store.read(Score, "scorer LIKE '%Odd%' OR scorer LIKE '%odd%'")) == 29
    assert len(store.read(Score, "scorer = 'refusal'")) == len(recorded.edited)
    [failure] = store.read(Failure, "stage = 'curate'")
    assert "its score cannot be stored" in failure.error


def test_scores_are_stored_while_others_are_made(plan, monkeypatch):
    """A model may take minutes for a shard, and a kill costs what is not stored."""
    monkeypatch.setattr(stage, "SCORED_AT_ONCE", 8)
    stored = []
    insert = Store.insert_frame

    def noting(self, kind, rows):
        stored.append((kind, len(rows)))
        return insert(self, kind, rows)

    monkeypatch.setattr(Store, "insert_frame", noting)
    monkeypatch.setattr(stage, "STORED_EVERY_S", 0.0)
    curate(str(plan))
    assert [rows for kind, rows in stored if kind is Score] == [16, 16, 16, 12]
