"""A training ends early at the weights it tells, and on demand with a checkpoint to go on from."""

from __future__ import annotations

import pytest

from tests.support.tiny import make_tiny
from tests.train.test_sft import CONFIG, ROWS, row
from train.config import EarlyStopping
from train.loop.callbacks import TrainingCallbacks, best_eval, evals_since
from train.loop.checkpoints import last_step
from train.loop.sft import TrainingHooks, sft_trainer, train_student
from train.tuners.lora import Lora
from warehouse.errors import Stopped

WORDS = ["heart", "blood", "zero", "water", "gas", "oxygen", "plants", "body", "degrees"]
VARIED = [row(f"Which is {n}?", word) for n, word in enumerate(WORDS)]
VARIED += [row(f"Which is {n + 9}?", " ".join(WORDS[n : n + 3])) for n in range(3)]
EARLY = CONFIG.model_copy(
    update={"epochs": 40, "early_stopping": EarlyStopping(share=0.25, patience=2, steps=4)}
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(make_tiny(tmp_path_factory.mktemp("base") / "tiny"))


@pytest.fixture(scope="module")
def early(base, tmp_path_factory):
    """A training that stopped early, the trainer that did it, and what its watch was told."""
    trainers, steps = [], []

    def build(job):
        trainers.append(sft_trainer(job))
        return trainers[-1]

    out = tmp_path_factory.mktemp("early") / "s"
    result = train_student(
        base,
        Lora(dropout=0.0),
        VARIED,
        EARLY,
        out,
        TrainingCallbacks(steps.append),
        hooks=TrainingHooks(build_trainer=build),
    )
    return result, trainers[0], tuple(steps)


def test_the_weights_of_the_best_look_are_kept(early):
    from peft import get_peft_model_state_dict
    from safetensors.torch import load_file

    result, trainer, steps = early
    step, loss = best_eval(result.losses)
    looks = {at["step"]: at["held_out_loss"] for at in result.losses if "held_out_loss" in at}
    assert loss == looks[step] == min(looks.values()) < looks[max(looks)]
    assert max(looks) == step + 8 == steps[-1].done < steps[-1].total
    assert trainer.evaluate()["eval_loss"] == pytest.approx(loss, rel=1e-5)
    written = load_file(str(result.path / "adapter_model.safetensors"))
    held = get_peft_model_state_dict(trainer.unwrapped)
    assert written.keys() == held.keys()
    assert all((written[name] == held[name]).all() for name in held)


def test_a_look_is_told_with_the_step_that_it_came_after(early):
    result, _, steps = early
    told = {step.done: step.held_out_loss for step in steps}  # the later of two
    looks = {int(at["step"]): at["held_out_loss"] for at in result.losses if "held_out_loss" in at}
    assert {step: told[step] for step in looks} == looks
    assert told[1] is None and told[5] == looks[4]
    assert not any(step.resumed for step in steps)


def stopped_at(number, steps):
    def step(told):
        steps.append(told)

    return TrainingCallbacks(step, stop=lambda: bool(steps) and steps[-1].done + 1 == number)


def test_a_training_that_is_stopped_goes_on_to_the_same_losses(base, tmp_path):
    config = CONFIG.model_copy(update={"save_steps": 0})
    whole = train_student(base, Lora(), ROWS, config, tmp_path / "whole")
    steps = []
    out = tmp_path / "s"
    with pytest.raises(Stopped, match=r"^stopped at step 5 of 36; a checkpoint is kept$"):
        train_student(base, Lora(), ROWS, config, out, stopped_at(5, steps))
    assert [step.done for step in steps] == [1, 2, 3, 4, 5]
    assert not out.exists() and last_step(out) == 5
    steps = []
    again = train_student(base, Lora(), ROWS, config, out, stopped_at(None, steps))
    assert [(step.done, step.resumed) for step in steps[:2]] == [(5, True), (6, False)]
    assert steps[0].loss == again.losses[4]["loss"]
    assert again.losses == whole.losses
    assert last_step(out) is None


def test_a_training_that_is_stopped_at_its_last_step_is_done(base, tmp_path):
    assert train_student(
        base, Lora(), ROWS, CONFIG, tmp_path / "s", stopped_at(36, [])
    ).path.is_dir()


def test_patience_is_counted_on_where_training_was_stopped(base, early, tmp_path):
    result, _, _ = early
    after_one = best_eval(result.losses)[0] + 5  # one look without a lower loss
    with pytest.raises(Stopped):
        train_student(
            base, Lora(dropout=0.0), VARIED, EARLY, tmp_path / "s", stopped_at(after_one, [])
        )
    steps = []
    again = train_student(
        base, Lora(dropout=0.0), VARIED, EARLY, tmp_path / "s", TrainingCallbacks(steps.append)
    )
    assert again.losses == result.losses
    assert steps[0].resumed and steps[0].held_out_loss is not None


def test_the_first_of_equal_looks_is_the_best():
    losses = [{"step": n, "held_out_loss": loss} for n, loss in ((2, 0.9), (4, 0.7), (6, 0.7))]
    losses.insert(1, {"step": 3, "loss": 0.1})
    assert best_eval(losses) == (4, 0.7)
    assert evals_since(losses, 4) == 1
    assert best_eval([{"step": 1, "loss": 2.0}]) is None
