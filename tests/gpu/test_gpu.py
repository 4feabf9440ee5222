"""The checks of `make gpu` on the device that is here; what needs a GPU is skipped without one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest

from tests.gpu import checks, speeds, wheels, worlds
from tests.gpu.__main__ import entry, version_notes

WHERE = ["cpu", "cuda"]
ROOT = Path(__file__).resolve().parents[2]


def shown(check, where, *words, **options):
    """Run a check, or skip it where its hardware is missing."""
    import torch

    if where == "cpu" and torch.cuda.is_available():
        pytest.skip("a GPU is here, which the product takes: set CUDA_VISIBLE_DEVICES=''")
    try:
        return check(where, *words, **options)
    except checks.NotHere as reason:  # each names the GPU that is missing: see tests/conftest.py
        pytest.skip(str(reason))


@pytest.mark.trains
@pytest.mark.parametrize("tuner", checks.TUNERS)
@pytest.mark.parametrize("where", WHERE)
def test_students_learn(where, tuner, tmp_path):
    assert "loss" in shown(checks.trains, where, tuner, tmp_path)


@pytest.mark.trains
@pytest.mark.parametrize("where", WHERE)
def test_packed_rows_are_learned(where, tmp_path):
    shown(checks.trains, where, "lora", tmp_path, packing=True)


@pytest.mark.trains
@pytest.mark.parametrize("where", WHERE)
def test_flash_attention_changes_little(where, tmp_path):
    shown(checks.without_flash_attention, where, "lora", tmp_path)


@pytest.mark.trains
@pytest.mark.parametrize("where", WHERE)
def test_float32_is_a_cpus(where, tmp_path):
    shown(checks.exact, where, tmp_path / "logits")
    shown(checks.trains_exactly, where, "lora", tmp_path / "losses")


@pytest.mark.trains
@pytest.mark.parametrize("where", WHERE)
def test_a_training_resumes(where, tmp_path):
    shown(checks.resumes, where, tmp_path)


@pytest.mark.slow
@pytest.mark.trains
@pytest.mark.parametrize("where", WHERE)
def test_processes_share_a_batch(where, tmp_path):
    shown(checks.shares_a_batch, where, tmp_path)


@pytest.mark.parametrize("where", WHERE)
def test_detoxify_scores(where, tmp_path):
    shown(checks.detoxify_scores, where, tmp_path)


@pytest.mark.parametrize("where", WHERE)
def test_answers_are_those_of_generate(where, tmp_path):
    shown(checks.generates, where, tmp_path)


@pytest.mark.trains
@pytest.mark.parametrize("where", WHERE)
def test_speeds_are_measured(where, tmp_path):
    lora = checks.TUNERS["lora"]
    told = shown(
        speeds.training_speed, where, "lora", lora, worlds.TINY, tmp_path, against_peer=True
    )
    assert "tokens/s" in told and "times SFTTrainer's rate" in told
    told = shown(speeds.generation_speed, where, worlds.TINY, tmp_path)
    assert "times generate's rate" in told


@pytest.mark.parametrize(
    ("card", "tflops"),
    [
        ("NVIDIA H200", 989),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA A10", 125),
        ("NVIDIA B300", None),
        ("NVIDIA A1000", None),
    ],
)
def test_the_peak_is_that_of_the_card(card, tflops):
    peak = speeds.peak_of(card)
    assert peak == (None if tflops is None else tflops * 1e12)


def test_flops_are_those_of_the_papers_appendix():
    from tests.bench.training import Trained

    trained = Trained(seconds=1.0, losses=[], tokens=1000, supervised=10, body=90, head=10)
    shape = worlds.Shape(layers=2, hidden=8)
    # 6 N + 12 L (H Q) T for each of 1,000 tokens, with ten rows of 100 tokens
    assert speeds.model_flops(trained, shape, 10, frozen=False) == 1000 * (
        6 * 100 + 12 * 2 * 8 * 100
    )
    assert speeds.model_flops(trained, shape, 10, frozen=True) == 1000 * (4 * 100 + 8 * 2 * 8 * 100)


def test_other_versions_are_told(monkeypatch):
    pins = wheels.pinned()
    assert {"torch", "transformers", "trl"} <= set(pins)
    monkeypatch.setattr("tests.gpu.__main__.version", lambda name: "0.1")
    assert f"note: trl 0.1 here, tested with {pins['trl']}" in list(version_notes())


def test_the_entry_of_the_log_names_the_card():
    text = entry("NVIDIA X", [("resume", "equal | near")], ["note: torch differs"])
    assert text.startswith("## ") and "on NVIDIA X" in text
    assert "| resume | equal / near |" in text and "- note: torch differs" in text


LOADED = """
import json, sys
from importlib.metadata import packages_distributions
import tests.gpu.checks, tests.gpu.speeds, train.loop.trainer, train.loop.events, train.audit.audit
import datasets, detoxify, peft, distill.learning.multiprocess, distill.objectives.sequence
import quality.scorers.toxicity
from trl import SFTConfig, SFTTrainer
owners = packages_distributions()
print(json.dumps(sorted({n for m in list(sys.modules) for n in owners.get(m.partition(".")[0], ())})))
"""


def test_what_make_gpu_looks_for_is_all_that_the_checks_load():
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, cwd=ROOT, check=True
    )
    loaded = {plain(name) for name in json.loads(done.stdout)} - {"stillhouse"}
    known = {plain(name) for name in (*wheels.NEEDED, *wheels.IMAGES_OWN)}
    images = [required(name) for name in wheels.IMAGES_OWN]
    optional = loaded - known - set().union(*images)
    hard = {need for name in wheels.NEEDED for need in required(name) if need in optional}
    assert not hard, f"add to NEEDED: {sorted(hard)}"


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def required(name):
    """What a package requires of itself, without its extras."""
    needs = requires(name) or []
    return {plain(re.split(r"[\s<>=!~;\[(]", need)[0]) for need in needs if "extra ==" not in need}


def test_wheels_are_asked_for_in_the_tested_versions():
    words = wheels.command("there", ["trl", "unheard-of"])
    assert f"trl=={wheels.pinned()['trl']}" in words and "unheard-of" in words
    assert "--no-deps" in words and "manylinux_2_28_x86_64" in words
    assert not set(wheels.NEEDED) & set(wheels.IMAGES_OWN)
