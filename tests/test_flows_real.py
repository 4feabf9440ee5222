"""The default plan, made small: the real SmolLM2 as teacher and as base, real SciQ."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from warehouse import assets
from warehouse.errors import AssetError

PLAN = Path(__file__).parents[1] / "distill" / "plans" / "sciq.toml"
SMALL = [
    "datagen.recipe.0.limit=12",
    "datagen.recipe.0.examples=2",
    "train.epochs=1",
    "train.batch_size=4",
    "evaluate.benchmarks.0.limit=4",
    "evaluate.max_new_tokens=8",
]


def test_a_dozen_prompts_and_a_few_steps(tmp_path):
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed (extra: embedded)")
    try:
        assets.path("smollm2-135m-instruct")
        assets.path("sciq")
    except AssetError as error:
        pytest.skip(str(error))
    sets = [word for one in SMALL for word in ("--set", one)]
    command = [sys.executable, "-m", "flows.cli", "run", str(PLAN), "--json", *sets]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=580, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["calls_made"] == 16
    assert 0 < result["kept"] <= 12
    assert {name: metrics["n"] for name, metrics in result["contestants"].items()} == {
        "teacher": 4,
        "base": 4,
        "student": 4,
    }
    report = json.loads(Path(result["report_path"]).with_suffix(".json").read_text())
    losses = [step["loss"] for step in report["losses"]]
    assert all(0 < loss < 20 for loss in losses)
    assert report["audit"]["supervised_tokens"] > 0
