import json
import math
from types import SimpleNamespace

import pytest
from pydantic import ValidationError
from safetensors.torch import load_file

from tests.support.tiny import make_tiny
from train.config import EarlyStopping, SftConfig, steps_of
from train.loop.callbacks import TrainingCallbacks
from train.loop.checkpoints import last_step
from train.loop.sft import TrainingHooks, train_student
from train.model.device import require_a_gpu_each
from train.model.inference import Generator
from train.tuners.lora import Lora
from warehouse.errors import AssetError, MissingExtraError, TrainingError


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
def result(base, tmp_path_factory):
    steps = []
    out = tmp_path_factory.mktemp("students") / "one"
    result = train_student(base, Lora(dropout=0.0), ROWS, CONFIG, out, steps.append)
    return result, steps


def test_a_fitted_student_says_what_it_was_taught(base, result):
    result, _ = result
    (before,) = Generator(base).answer([ROWS[0]["prompt"]], 12)
    (after,) = Generator(base, result.path).answer([ROWS[0]["prompt"]], 12)
    assert before.text != "The heart"
    assert (after.text, after.finish_reason) == ("The heart", "stop")


def test_every_step_is_in_the_loss_curve_and_the_progress(result):
    result, steps = result
    assert [step.done for step in steps] == list(range(1, 37))
    assert {step.total for step in steps} == {steps_of(len(ROWS), CONFIG)} == {36}
    assert all(step.tokens_per_s > 0 and step.memory > 1e6 for step in steps)
    assert [entry["step"] for entry in result.losses] == list(range(1, 37))
    assert result.losses[-1]["loss"] < result.losses[0]["loss"] / 3
    assert max(entry["learning_rate"] for entry in result.losses) == pytest.approx(2e-2)


def test_the_folder_holds_safetensors_and_nothing_pickled(result):
    result, _ = result
    names = {path.name for path in result.path.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    assert [path.name for path in result.path.parent.iterdir()] == ["one"]


def test_the_adapter_names_the_base_of_the_plan(base, result):
    described = json.loads((result[0].path / "adapter_config.json").read_text())
    assert described["base_model_name_or_path"] == base


def test_what_was_trained_is_on_record(result):
    result, _ = result
    assert result.audit["trainable_parameters"] == result.trainable_parameters > 0
    assert result.audit["rows_kept"] == len(ROWS)
    assert {"torch", "trl", "peft", "transformers"} <= set(result.versions)
    assert result.seconds > 0


@pytest.mark.parametrize(
    ("schedule", "warm_up", "rates"),
    [
        ("linear", 0.3, [1 / 3, 2 / 3, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
        ("linear", 0.1, [1, *(n / 8 for n in range(8, 0, -1))]),
        ("linear", 0.0, [n / 9 for n in range(9, 0, -1)]),
        ("linear", 0.95, [n / 9 for n in range(1, 10)]),
        ("constant", 0.3, [1.0] * 9),
    ],
    ids=["linear", "one-step", "no-warm-up", "warm-up-alone", "constant"],
)
def test_no_step_is_taken_at_rate_zero(base, tmp_path, schedule, warm_up, rates):
    options = {"epochs": 3, "schedule": schedule, "warmup_ratio": warm_up, "learning_rate": 1e-3}
    config = CONFIG.model_copy(update=options)
    result = train_student(base, Lora(dropout=0.0), ROWS, config, tmp_path / "s")
    assert [one["learning_rate"] * 1e3 for one in result.losses] == pytest.approx(rates)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_a_training_of_one_step_is_at_the_full_rate(base, tmp_path, schedule):
    options = {"epochs": 1, "batch_size": len(ROWS), "schedule": schedule, "learning_rate": 1e-3}
    config = CONFIG.model_copy(update={**options, "warmup_ratio": 0.05})
    result = train_student(base, Lora(dropout=0.0), ROWS, config, tmp_path / "s")
    assert [one["learning_rate"] for one in result.losses] == [1e-3]
    weights = load_file(str(result.path / "adapter_model.safetensors"))
    assert any(weights[name].any() for name in weights if "lora_B" in name)


def test_a_resumed_training_goes_on_at_the_rate_where_it_was(base, tmp_path):
    config = CONFIG.model_copy(update={"epochs": 3, "warmup_ratio": 0.5, "save_steps": 2})

    def kill(step):
        if step.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_student(base, Lora(dropout=0.0), ROWS, config, tmp_path / "s", kill)
    again = train_student(base, Lora(dropout=0.0), ROWS, config, tmp_path / "s")
    whole = train_student(base, Lora(dropout=0.0), ROWS, config, tmp_path / "whole")
    assert [one["learning_rate"] for one in again.losses] == pytest.approx(
        [one["learning_rate"] for one in whole.losses]
    )


def test_the_same_seed_gives_the_same_losses(base, result, tmp_path):
    again = train_student(base, Lora(dropout=0.0), ROWS, CONFIG, tmp_path / "again")
    assert again.losses == result[0].losses
    one_epoch = {"epochs": 1, "seed": 7}
    other = train_student(
        base, Lora(dropout=0.0), ROWS, CONFIG.model_copy(update=one_epoch), tmp_path / "other"
    )
    assert other.losses[0]["loss"] != again.losses[0]["loss"]


def test_a_killed_training_leaves_checkpoints_only_and_goes_on_to_the_same_loss(
    base, result, tmp_path
):
    config = CONFIG.model_copy(update={"save_steps": 5})

    def kill(step):
        if step.done == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_student(base, Lora(dropout=0.0), ROWS, config, tmp_path / "s", kill)
    assert [path.name for path in tmp_path.iterdir()] == ["s.work"]
    steps = []
    again = train_student(base, Lora(dropout=0.0), ROWS, config, tmp_path / "s", steps.append)
    assert steps[0].done == 11
    assert again.losses == result[0].losses
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_checkpoints_of_something_else_are_not_gone_on_from(base, tmp_path):
    def kill(step):
        if step.done == 6:
            raise KeyboardInterrupt

    config = CONFIG.model_copy(update={"save_steps": 5})
    with pytest.raises(KeyboardInterrupt):
        train_student(base, Lora(dropout=0.0), ROWS, config, tmp_path / "s", kill)
    steps = []
    other = config.model_copy(update={"epochs": 1})
    train_student(base, Lora(dropout=0.0), ROWS, other, tmp_path / "s", steps.append)
    assert [step.done for step in steps] == [1, 2, 3]


def test_early_stopping_keeps_the_best_and_looks_at_rows_it_does_not_train_on(base, tmp_path):
    config = CONFIG.model_copy(
        update={"epochs": 40, "early_stopping": EarlyStopping(share=0.25, patience=2, steps=4)}
    )
    words = ["heart", "blood", "zero", "water", "gas", "oxygen", "plants", "body", "degrees"]
    rows = [row(f"Which is {n}?", word) for n, word in enumerate(words)]
    rows += [row(f"Which is {n + 9}?", " ".join(words[n : n + 3])) for n in range(3)]
    steps = []
    result = train_student(base, Lora(dropout=0.0), rows, config, tmp_path / "s", steps.append)
    looks = [entry["held_out_loss"] for entry in result.losses if "held_out_loss" in entry]
    assert result.audit["held_out_rows"] == 3
    assert steps[-1].done < steps[-1].total == 40 * 3
    assert min(looks) not in looks[-2:]


def test_a_trainer_that_sees_other_rows_than_the_audit_is_caught(base, tmp_path, monkeypatch):
    from train.loop import trainer

    class LosesARow(trainer.CompletionTrainer):
        def __init__(self, **arguments):
            super().__init__(**arguments)
            self.train_dataset = self.train_dataset.select(range(len(ROWS) - 1))

    monkeypatch.setattr(trainer, "CompletionTrainer", LosesARow)
    with pytest.raises(TrainingError, match="the trainer sees 11 rows"):
        train_student(base, Lora(), ROWS, CONFIG, tmp_path / "s")


def test_a_loss_that_is_not_finite_is_an_error(base, tmp_path):
    wild = SftConfig(epochs=3, batch_size=4, learning_rate=1e38, max_grad_norm=1e30, max_length=128)
    steps = []
    with pytest.raises(TrainingError, match=r"training diverged.*lower train.learning_rate"):
        train_student(base, Lora(alpha=10**30), ROWS, wild, tmp_path / "s", steps.append)
    assert list(tmp_path.iterdir()) == []
    assert len(steps) < steps[-1].total == 9  # it ends where the loss is lost
    assert [math.isfinite(step.loss) for step in steps].index(False) == len(steps) - 1


def test_packing_without_an_attention_that_keeps_rows_apart_is_refused(base, tmp_path):
    packed = CONFIG.model_copy(update={"packing": True})
    with pytest.raises(MissingExtraError, match=r"packing needs FlashAttention.*attends by 'sdpa'"):
        train_student(base, Lora(), ROWS, packed, tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


def test_a_lost_row_is_caught_also_where_some_are_held_out(base, tmp_path, monkeypatch):
    from train.loop import trainer

    class LosesARow(trainer.CompletionTrainer):
        def __init__(self, **arguments):
            super().__init__(**arguments)
            self.train_dataset = self.train_dataset.select(range(len(self.train_dataset) - 1))

    monkeypatch.setattr(trainer, "CompletionTrainer", LosesARow)
    config = CONFIG.model_copy(update={"early_stopping": EarlyStopping(share=0.25)})
    with pytest.raises(TrainingError, match="the trainer sees 11 rows"):
        train_student(base, Lora(), ROWS, config, tmp_path / "s")


def test_a_folder_in_use_is_not_overwritten(base, tmp_path):
    (tmp_path / "s").mkdir()
    with pytest.raises(TrainingError, match="already exists"):
        train_student(base, Lora(), ROWS, CONFIG, tmp_path / "s")


def test_the_rate_that_holds_decides_what_a_student_becomes():
    assert SftConfig().fingerprint(1e-3) != SftConfig().fingerprint(2e-4)
    set_ = SftConfig(learning_rate=1e-3)
    assert set_.fingerprint(2e-4) == set_.fingerprint(1e-3) == SftConfig().fingerprint(1e-3)
    for same in (
        SftConfig(save_steps=1, track="tensorboard"),
        SftConfig(processes=2),
        SftConfig(allow=["truncated"]),
    ):
        assert same.fingerprint(1e-3) == SftConfig().fingerprint(1e-3)


def test_packed_rows_are_not_shared_by_processes():
    with pytest.raises(ValidationError, match="packed rows cannot be shared"):
        SftConfig(packing=True, processes=2)


def test_one_process_takes_one_gpu_of_several():
    from train.loop.trainer import TunedTrainer

    class Given:
        def __init__(self, **kwargs):
            self.args = kwargs["args"]

    class Trainer(TunedTrainer, Given):
        pass

    for there, taken in ((0, 0), (1, 1), (4, 1)):
        args = SimpleNamespace(n_gpu=there, _n_gpu=there)
        assert Trainer(tuner=Lora(), args=args).args._n_gpu == taken


def test_as_many_processes_as_there_are_gpus(monkeypatch):
    import torch

    require_a_gpu_each(2)  # on a CPU they share its cores
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    require_a_gpu_each(1)
    with pytest.raises(
        TrainingError, match=r"processes = 2, but this machine has 1 GPU, .* 1 to 1"
    ):
        require_a_gpu_each(2)


def test_a_gpu_without_memory_enough_is_one_line_and_what_was_trained_is_kept(
    base, tmp_path, monkeypatch
):
    import torch

    def out_of_memory(self, model, step):
        if step == 30:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(Lora, "after_step", out_of_memory)
        with pytest.raises(TrainingError, match=r"does not fit into the GPU's memory; free some"):
            train_student(base, Lora(), ROWS, CONFIG, tmp_path / "s")
    steps = []
    train_student(base, Lora(), ROWS, CONFIG, tmp_path / "s", TrainingCallbacks(step=steps.append))
    assert steps[0].resumed and steps[0].done == 25  # from the last checkpoint


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


@pytest.mark.parametrize(
    ("error", "kept"), [(AssetError("not reachable"), True), (TrainingError("diverged"), False)]
)
def test_steps_are_kept_where_the_same_call_may_go_well_later(base, tmp_path, error, kept):
    """What could not be downloaded may be there tomorrow; what diverged would diverge again."""
    config = CONFIG.model_copy(update={"epochs": 2, "save_steps": 2})

    def kill(step):
        if step.done == 3:
            raise KeyboardInterrupt

    def build(job):
        raise error

    out = tmp_path / "s"
    with pytest.raises(KeyboardInterrupt):
        train_student(base, Lora(dropout=0.0), ROWS, config, out, kill)
    assert last_step(out) == 2
    hooks = TrainingHooks(build_trainer=build)
    with pytest.raises(type(error)):
        train_student(base, Lora(dropout=0.0), ROWS, config, out, hooks=hooks)
    assert last_step(out) == (2 if kept else None)
