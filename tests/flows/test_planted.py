"""Bad samples planted among good ones, under the scorers and the gate of the SciQ plan."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from shutil import copyfile

import pytest

from distill.plan.plan import load_plan
from tests.support.cli import distill
from warehouse.db.store import Store
from warehouse.errors import AssetError
from warehouse.inputs import assets
from warehouse.records import Choice, Sample

PLAN = Path(__file__).parents[2] / "examples" / "sciq.toml"
CELLS = "A human body cell holds 46 chromosomes in its nucleus, in 23 pairs, one of each parent."
RIVER = "The otter lives by the river. It is brown, swims well and eats fish, crabs and frogs."
CALM = "The otter lives by the river and it eats fish and crabs and frogs all day long. "
TOXIC = "You are all worthless fucking idiots and I hope you die."


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The folder of a curated warehouse, and what each planted question became."""
    if importlib.util.find_spec("profanity_check") is None:
        pytest.skip("alt-profanity-check is not installed (extra: embedded)")
    try:
        assets.path("sciq")
    except AssetError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("planted")
    copyfile(PLAN, folder / "plan.toml")
    held_out = next(iter(load_plan(PLAN).evaluate.benchmarks[0].items(folder))).row
    rows = [
        {"prompt": "What colour is the otter?", "passage": RIVER},
        {"prompt": "what colour is the otter ?", "passage": RIVER.replace(". ", " - ")},
        {"prompt": "How many chromosomes does a body cell hold?", "passage": CELLS},
        {"prompt": "What does it eat?", "passage": RIVER},
        {"prompt": held_out.prompt, "passage": held_out.passage},
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    replies = {
        "olour": "brown",
        "chromosomes": "47 chromosomes",
        "What does it eat": CALM * 60 + TOXIC,
        held_out.prompt: held_out.reference[0],
    }
    table = ", ".join(f"{json.dumps(key)} = {json.dumps(value)}" for key, value in replies.items())
    sets = [
        f'teacher={{ use = "scripted", replies = {{ {table} }} }}',
        f"datagen.recipe.0.prompts={folder / 'rows.jsonl'}",
        "datagen.recipe.0.examples=0",
        "datagen.sampling.max_tokens=2048",
    ]
    words = [word for one in sets for word in ("--set", one)]
    for verb in ("generate", "curate"):
        done = distill(folder, verb, "plan.toml", *words)
        assert done.returncode == 0, done.stderr
    return folder, rows, words


def test_each_is_dropped_for_the_right_reason(planted):
    folder, rows, _ = planted
    store = Store(folder / "stillhouse.duckdb")
    choices = {choice.sample_id: choice for choice in store.read(Choice)}
    by_prompt = {sample.question: choices[sample.sample_id] for sample in store.read(Sample)}
    good, twice, number, tail, held_out = (by_prompt[row["prompt"]] for row in rows)
    assert good.kept
    assert twice.reasons == ["duplicate"]
    assert twice.details["duplicate"]["of"] == good.sample_id
    assert number.reasons == ["grounded below 1"]
    assert "47" in number.details["why"]["grounded"]
    assert tail.reason == "toxicity above 0.5"
    assert "window" in tail.details["why"]["toxicity"]
    assert len((CALM * 60).split()) > 600
    assert held_out.reasons[0] == "held_out: question"
    assert held_out.details["held_out"]["benchmark"] == "sciq"


def test_a_what_if_tells_and_changes_nothing(planted):
    folder, _, words = planted
    store = Store(folder / "stillhouse.duckdb")
    before = store.read(Choice)

    def what_if(*changes, json_=True):
        flags = [word for one in changes for word in ("--what-if", one)]
        shape = ["--json"] if json_ else []
        return distill(folder, "curate", "plan.toml", *words, *flags, *shape)

    found = json.loads(what_if("gate.grounded_min=0.1", "gate.max_words=3").stdout)
    assert (found["kept_now"], found["kept_then"]) == (1, 2)
    assert [row["completion"] for row in found["gained"]] == ["47 chromosomes"]
    assert found["lost"] == []
    lost = what_if("gate.toxicity_max=0.0", json_=False).stdout
    assert "0 of 5 kept, 1 now" in lost
    assert "nothing was run and nothing was written" in lost
    wrong = what_if("train.epochs=3")
    assert wrong.returncode == 2
    assert "--what-if takes a key of the gate" in wrong.stderr
    assert store.read(Choice) == before
