"""Bars: within the line, the time gone before the time left, and no rate where nothing came."""

from __future__ import annotations

import errno
import io
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from datagen.spending.limits import Budget
from flows.runtime import progress
from train.loop.callbacks import Step

END = r"0:00:00, 0:00:00 left"


@pytest.fixture(params=[80, 130])
def told(request, monkeypatch):
    """The console's width, and the lines that it was told."""
    out = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=out, width=request.param))
    return request.param, lambda: out.getvalue().splitlines()


def reply(error=None):
    usage = SimpleNamespace(prompt_tokens=300, completion_tokens=100)
    return SimpleNamespace(error=error, cost_usd=0.25, usage=usage)


def test_a_training_ends_in_one_line_also_where_it_stops_early(told):
    width, lines = told
    with progress.training("fitting p_tuning_v2", 1000) as bar:
        bar.step(Step(1, 1000, 1.25, 1e-3, 0.0, 2 * 10**9, resumed=True))
        bar.step(Step(500, 1000, 1.25, 1e-3, 21_000.0, 2 * 10**9, held_out_loss=0.8))
    (line,) = lines()
    assert line.endswith(END)
    assert len(line) <= width
    assert " 500/1000 loss 1.250" in line
    wide = "loss 1.250, held-out 0.800, lr 1.0e-03, 21,000 tok/s, 2.0 GB"
    assert (wide in line) == (width == 130)


def test_answers_that_are_drawn_first_have_the_line_until_the_first_step(told):
    width, lines = told
    with progress.training("fitting lora", 4) as bar:
        for done in range(1, 9):
            bar.drawn(done, 8)
    (line,) = lines()
    assert "8/8" in line
    assert "answers of the untuned student" in line
    assert len(line) <= width
    with progress.training("fitting lora", 4) as bar:
        bar.drawn(8, 8)
        bar.step(Step(1, 4, 1.25, 1e-3, 0.0, 2 * 10**9))
    assert " 1/4 loss 1.250" in lines()[-1]
    assert "untuned" not in lines()[-1]


def test_where_everything_was_reused_there_is_no_rate(told):
    width, lines = told
    with progress.meter("asking the teacher", 2400) as meter:
        meter.skip(2400, 2400)
    (line,) = lines()
    assert "2400/2400 2400 reused" in line
    assert "/s" not in line
    assert line.endswith(END)
    assert len(line) <= width


def test_what_failed_and_what_it_cost_is_shown_before_rates(told):
    width, lines = told
    with progress.meter("asking the teacher", 4) as meter:
        for error in (None, "x", None, None):
            meter.replied(reply(error), Budget())
    (line,) = lines()
    assert "4/4 1 failed, $" in line
    assert ("tok/s" in line) == (width == 130)
    assert len(line) <= width


def test_a_long_label_is_cut_and_the_rest_is_whole(told):
    width, lines = told
    with progress.bar("student:0123456789abcdef+retrieval: trivia_qa", 1200) as advance:
        advance(1200)
    (line,) = lines()
    assert line.startswith("student:0123456789abcdef+re… ")
    assert "1200/1200" in line
    assert line.endswith(END)
    assert len(line) <= width


def test_as_many_parts_as_fit():
    assert progress.fitting(["ab", "cd", "e"], 6) == "ab, cd"
    assert progress.fitting(["ab", "cd", "e"], 1) == ""
    assert progress.fitting([], 9) == ""


def test_a_terminal_that_is_gone_does_not_end_what_draws_on_it(monkeypatch):
    left = []

    class Gone:
        def write(self, text):
            raise OSError(errno.EIO, "Input/output error")

        def flush(self):
            raise OSError(errno.EIO, "Input/output error")

    class Full(Gone):
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(progress, "leave_closed_terminal", lambda: left.append(True))
    monkeypatch.setattr(sys, "stderr", Gone())
    stderr = progress._Stderr()
    assert stderr.write("bar") == 3 and left == [True]
    stderr.flush()
    monkeypatch.setattr(sys, "stderr", Full())
    with pytest.raises(OSError, match="No space"):
        stderr.write("bar")
