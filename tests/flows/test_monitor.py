"""What is seen of a training: the audit in a terminal, artifacts in Prefect, and their absence."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from flows.runtime import artifacts, progress, training_monitor
from flows.runtime.artifacts import EVERY_S, Artifacts
from flows.runtime.training_monitor import (
    SHOWN,
    Monitor,
    monitored,
    print_audit,
)
from tests.support.reports import HOSTILE, example_audit
from train.loop.callbacks import Step
from train.loop.sft import TrainingResult


def step(done, total=10):
    return Step(done, total, 1.5, 1e-3, 210.0, 10**9)


def shown(figures):
    to = io.StringIO()
    print_audit(figures, Console(file=to, width=100, force_terminal=True))
    return to.getvalue()


def test_the_audit_is_shown_with_its_markup_as_text_and_no_control_characters():
    figures = example_audit()
    figures["examples"] = [{"text": "[bold]a\x1b[2Jb[/bold] yes", "supervised": " yes"}]
    text = shown({**figures, "serving_ends": ["[red]x[/red]"]})
    assert "396 of 400 trained on" in text
    assert "[red]x[/red]" in text
    assert "[bold]a\ufffd[2Jb[/bold]" in text
    assert "\x1b[2J" not in text
    assert "⟦ yes⟧" in text
    assert "150 ≤ 128" in text


def test_a_long_example_shows_its_ends():
    prompt = "a" * SHOWN + "b" * SHOWN
    text = shown({"examples": [{"text": f"{prompt}yes", "supervised": "yes"}]})
    assert f"… {SHOWN:,} characters …" in text
    assert "⟦yes⟧" in text
    assert text.count("a" * 20) < SHOWN / 20


@pytest.fixture
def sent(monkeypatch):
    """Artifacts as they would be sent from within a run, with the clock at hand."""
    found = []
    clock = [0.0]

    def taker(kind):
        def take(*values):
            found.append((kind, *values))
            return "an-id"

        return take

    monkeypatch.setattr(artifacts, "is_in_flow_run", lambda: True)
    monkeypatch.setattr(artifacts.time, "monotonic", lambda: clock[0])
    for kind in ("create_progress", "update_progress", "create_markdown"):
        monkeypatch.setattr(f"prefect.artifacts.{kind}_artifact", taker(kind))
    return found, clock


def test_progress_is_told_now_and_then_and_in_the_end(sent):
    found, clock = sent
    sending = Artifacts("My plan_2")
    for done in range(1, 11):
        sending.step(step(done))
        clock[0] += 0.4 * EVERY_S
    assert [values[:3] for values in found] == [
        ("create_progress", 10.0, "my-plan-2-progress"),
        ("update_progress", "an-id", 40.0),
        ("update_progress", "an-id", 70.0),
        ("update_progress", "an-id", 100.0),
    ]
    assert found[-1][3] == "step 10 of 10, loss 1.500, 210 tok/s"


def test_audit_and_losses_are_one_markdown_with_its_texts_escaped(sent):
    found, _ = sent
    sending = Artifacts("p")
    sending.publish(example_audit(), [])
    sending.publish(example_audit(), [{"step": 1.0, "loss": 2.0}, {"step": 2.0, "loss": 1.0}])
    (_, before, key), (_, after, same) = found
    assert key == same == "p-training"
    assert "No loss was recorded" in before
    assert "Loss 2.000 at step 1, 1.000 at step 2." in after
    assert "| Held-out overlap |" in after
    assert HOSTILE not in after and "<script" not in after


def test_outside_of_a_run_nothing_is_sent(monkeypatch):
    def never(*values):
        raise AssertionError("sent")

    monkeypatch.setattr("prefect.artifacts.create_progress_artifact", never)
    Artifacts("p").step(step(1))


def test_a_server_that_is_gone_is_told_once_and_training_goes_on(monkeypatch):
    """With Prefect's own client, against a port where nobody listens."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    publish = io.StringIO()
    monkeypatch.setattr("flows.runtime.progress.console", Console(file=publish, width=200))
    monkeypatch.setattr(artifacts, "is_in_flow_run", lambda: True)
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        progress.training("fitting lora", 10) as bar,
    ):
        watching = Monitor(bar, Artifacts("p"))
        for done in (1, 10):
            watching.callbacks(step(done))
    assert "10/10 loss" in publish.getvalue()
    assert publish.getvalue().count("Prefect's server accepts no artifacts") == 1


def test_a_training_that_goes_on_says_from_where_and_its_end_is_told_after_the_bar(monkeypatch):
    out = io.StringIO()
    for module in (training_monitor, progress):
        monkeypatch.setattr(module, "console", Console(file=out, width=200))
    with monitored("fitting lora", 6, "p") as watching:
        assert not watching.stop()  # nothing was learned yet
        watching.callbacks(replace(step(1, 6), resumed=True))
        watching.callbacks(replace(step(3, 6), held_out_loss=0.9))
        losses = [{"step": 2, "held_out_loss": 0.8}, {"step": 3, "held_out_loss": 0.9}]
        watching.done(TrainingResult(Path("s"), losses, {"held_out_rows": 2}, 1.0, {}, 1))
        assert not watching.callbacks.stop()
        assert watching.stop()
        assert watching.callbacks.stop()
    lines = out.getvalue().splitlines()
    assert lines[0] == "training resumes at step 1 of 6"
    assert lines[-1].startswith("stopped early at step 3 of 6: held-out loss 0.8 at step 2")
    assert " 3/6 loss 1.500, held-out 0.800" in lines[-2]
