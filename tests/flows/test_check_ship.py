"""`distill check` says before paying whether the plan has the items that its `[ship]` needs."""

from tests.support.cli import distill
from tests.support.plans import scripted, write_plan


def test_check_warns_of_too_few_items_and_of_a_gate_that_asks_no_interval(tmp_path):
    plan = write_plan(tmp_path, scripted(tmp_path / "asked.log"), prompts=8, held_out=12)
    asked = 'ship={conditions = ["student >= base + 0.10", "student >= base - 0.9"]}'
    done = distill(tmp_path, "check", str(plan), "--set", asked)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith(("ship ", "warning "))]
    assert lines[:2] == [
        "warning   'student >= base + 0.10' on custom needs about 487 items if the student is truly "
        "20.0 points better than base; there are 12, too few",
        "ship      'student >= base - 0.9' on custom needs about 10 items if the student is truly as "
        "good as base; there are 12",
    ]
    assert lines[2].startswith("ship      assumed: ") and len(lines) == 3
    seeds = ("--set", "train.seeds=2")
    done = distill(tmp_path, "check", str(plan), "--set", asked, *seeds)
    assert (
        "warning   'student >= base + 0.10' on custom: no number of items is enough with 2 training "
        "seeds whose scores have a standard deviation of 3.0 points; with train.seeds = 4 it needs "
        "about 703 items" in done.stdout
    )
    assert "the scores of the 2 training seeds have a standard deviation" in done.stdout
    loose = asked.replace("}", ", certain = false}")
    done = distill(tmp_path, "check", str(plan), "--set", loose)
    assert "warning   ship.certain = false: the measured value alone decides" in done.stdout
    loose = loose.replace("0.10", "0.99")
    done = distill(tmp_path, "check", str(plan), "--set", loose)
    assert (
        "warning   'student >= base + 0.99' on custom can be met only if base scores at most 1.0 %"
        in done.stdout
    )
    absurd = 'ship={conditions = ["student <= base"]}'
    done = distill(tmp_path, "check", str(plan), "--set", absurd)
    assert done.returncode == 2 and "write 'student >= base'" in done.stderr
    assert not (tmp_path / "asked.log").exists()
