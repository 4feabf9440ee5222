import json

import pytest
from pydantic import ValidationError

from tests.tiny import make_tiny
from train.sft import SftConfig, fit, steps_of
from train.student import Reader
from train.tuners.lora import Lora
from warehouse.errors import StageError


def row(question, answer):
    return {
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": answer}],
    }


ROWS = [row(f"Which organ pumps blood? {n % 3}", "The heart") for n in range(12)]
CONFIG = SftConfig(epochs=12, batch_size=4, learning_rate=2e-2, max_length=128)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(make_tiny(tmp_path_factory.mktemp("base") / "tiny"))


@pytest.fixture(scope="module")
def fitted(base, tmp_path_factory):
    steps = []
    out = tmp_path_factory.mktemp("students") / "one"
    result = fit(base, Lora(dropout=0.0), ROWS, CONFIG, out, steps.append)
    return result, steps


def test_a_fitted_student_says_what_it_was_taught(base, fitted):
    result, _ = fitted
    (before,) = Reader(base).answer([ROWS[0]["prompt"]], 12)
    (after,) = Reader(base, result.path).answer([ROWS[0]["prompt"]], 12)
    assert before.text != "The heart"
    assert (after.text, after.finish_reason) == ("The heart", "stop")


def test_every_step_is_in_the_loss_curve_and_the_progress(fitted):
    result, steps = fitted
    assert steps == [1] * steps_of(len(ROWS), CONFIG) == [1] * 36
    assert [entry["step"] for entry in result.losses] == list(range(1, 37))
    assert result.losses[-1]["loss"] < result.losses[0]["loss"] / 3
    assert max(entry["learning_rate"] for entry in result.losses) == pytest.approx(2e-2)


def test_the_folder_holds_safetensors_and_nothing_pickled(fitted):
    result, _ = fitted
    names = {path.name for path in result.path.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    assert [path.name for path in result.path.parent.iterdir()] == ["one"]


def test_the_adapter_names_the_base_of_the_plan(base, fitted):
    described = json.loads((fitted[0].path / "adapter_config.json").read_text())
    assert described["base_model_name_or_path"] == base


def test_what_was_trained_is_on_record(fitted):
    result, _ = fitted
    assert result.audit["trainable_parameters"] == result.trainable_parameters > 0
    assert result.audit["rows_kept"] == len(ROWS)
    assert {"torch", "trl", "peft", "transformers"} <= set(result.versions)
    assert result.seconds > 0


def test_the_same_seed_gives_the_same_losses(base, fitted, tmp_path):
    again = fit(base, Lora(dropout=0.0), ROWS, CONFIG, tmp_path / "again")
    assert again.losses == fitted[0].losses
    one_epoch = {"epochs": 1, "seed": 7}
    other = fit(
        base, Lora(dropout=0.0), ROWS, CONFIG.model_copy(update=one_epoch), tmp_path / "other"
    )
    assert other.losses[0]["loss"] != again.losses[0]["loss"]


def test_a_killed_training_leaves_nothing(base, tmp_path):
    def kill(step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(base, Lora(), ROWS, CONFIG, tmp_path / "s", kill)
    assert list(tmp_path.iterdir()) == []


def test_a_trainer_that_sees_other_rows_than_the_audit_is_caught(base, tmp_path, monkeypatch):
    from train import sft

    right = sft._trainer

    def loses_a_row(*args):
        trainer = right(*args)
        trainer.train_dataset = trainer.train_dataset.select(range(len(ROWS) - 1))
        return trainer

    monkeypatch.setattr(sft, "_trainer", loses_a_row)
    with pytest.raises(StageError, match="the trainer sees 11 rows"):
        fit(base, Lora(), ROWS, CONFIG, tmp_path / "s")


def test_a_loss_that_is_not_finite_is_an_error(base, tmp_path):
    wild = SftConfig(epochs=3, batch_size=4, learning_rate=1e38, max_grad_norm=1e30, max_length=128)
    with pytest.raises(StageError, match=r"training diverged.*lower train.learning_rate"):
        fit(base, Lora(alpha=10**30), ROWS, wild, tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_not_overwritten(base, tmp_path):
    (tmp_path / "s").mkdir()
    with pytest.raises(StageError, match="exists already"):
        fit(base, Lora(), ROWS, CONFIG, tmp_path / "s")


def test_options_are_strict():
    for wrong in ({"epochs": "2"}, {"epoch": 2}, {"batch_size": 0}, {"warmup_ratio": 1.0}):
        with pytest.raises(ValidationError):
            SftConfig(**wrong)


@pytest.mark.parametrize(
    ("rows", "batch", "accumulation", "steps"), [(16, 8, 1, 4), (17, 8, 1, 6), (17, 2, 4, 6)]
)
def test_steps(rows, batch, accumulation, steps):
    config = SftConfig(epochs=2, batch_size=batch, gradient_accumulation=accumulation)
    assert steps_of(rows, config) == steps
