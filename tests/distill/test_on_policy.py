import pytest

from distill.learning.objective import TrainingInputs
from distill.objectives.on_policy import OnPolicy
from tests.support.teaching import distance, make_stranger, sample
from tests.support.tiny import make_tiny
from train.config import EarlyStopping, SftConfig
from train.model.student import load
from train.tuners.lora import Lora
from warehouse import catalog
from warehouse.errors import MissingExtraError, ModelError

pytestmark = pytest.mark.trains
CONFIG = SftConfig(epochs=6, batch_size=4, learning_rate=2e-2, max_length=128)
SAMPLES = [sample(n) for n in range(10)]
LORA = Lora(dropout=0.0)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(make_tiny(tmp_path_factory.mktemp("base") / "tiny"))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return str(make_tiny(tmp_path_factory.mktemp("teacher") / "tiny", seed=1))


def curve(result):
    return [entry["loss"] for entry in result.losses if "loss" in entry]


@pytest.fixture(scope="module")
def learned(base, teacher, tmp_path_factory):
    out = tmp_path_factory.mktemp("students") / "s"
    steps = []
    objective = OnPolicy(teacher=teacher, beta=0.0, max_new_tokens=12)
    return objective.train(TrainingInputs(base, LORA, SAMPLES, CONFIG, out), steps.append), steps


def test_the_teacher_is_approached(base, teacher, learned):
    result, _ = learned
    losses = curve(result)
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])  # on what the student itself says
    before = distance("forward_kl", teacher, base, None, SAMPLES)
    assert distance("forward_kl", teacher, base, result.path, SAMPLES) < 0.85 * before


def test_the_last_batch_is_filled_up_so_that_no_row_is_left_out(learned):
    result, steps = learned
    assert [step.done for step in steps] == list(range(1, 6 * 3 + 1))  # 10 rows in batches of 4
    assert {step.total for step in steps} == {18}
    assert all(step.tokens_per_s > 0 for step in steps)
    assert all(set(entry) == {"step", "loss", "learning_rate"} for entry in result.losses)
    assert result.audit["rows_kept"] == 10
    assert [path.name for path in result.path.parent.iterdir()] == ["s"]


@pytest.mark.parametrize("use", ["full", "adapter"])
def test_tuners_of_our_own_learn_too(use, base, teacher, tmp_path):
    tuner = catalog.build("tuner", {"use": use})
    config = CONFIG.model_copy(update={"learning_rate": 1e-2, "batch_size": 5, "epochs": 8})
    objective = OnPolicy(teacher=teacher, max_new_tokens=12)
    losses = curve(objective.train(TrainingInputs(base, tuner, SAMPLES, config, tmp_path / "s")))
    assert sum(losses[-3:]) < sum(losses[:3])


def test_accumulation_and_held_out_prompts(base, teacher, tmp_path):
    stop = EarlyStopping(share=0.2, patience=5, steps=2)
    config = CONFIG.model_copy(
        update={"batch_size": 2, "gradient_accumulation": 2, "early_stopping": stop, "epochs": 2}
    )
    objective = OnPolicy(teacher=teacher, max_new_tokens=8)
    result = objective.train(TrainingInputs(base, LORA, SAMPLES, config, tmp_path / "s"))
    assert len(curve(result)) == 4  # 8 rows, 4 a step, twice
    assert [entry["step"] for entry in result.losses if "held_out_loss" in entry] == [2, 4]
    assert all(0 < loss < 0.7 for loss in curve(result))  # a JSD is below log 2


def test_another_vocabulary_is_found_before_anything_is_loaded(base, tmp_path, monkeypatch):
    stranger = make_stranger(tmp_path / "stranger", monkeypatch)
    monkeypatch.setattr("train.loop.sft.load", lambda *a, **k: pytest.fail("a model was loaded"))
    with pytest.raises(ModelError, match=r"different vocabularies: \d+ of \d+ token ids") as caught:
        OnPolicy(teacher=stranger).train(
            TrainingInputs(base, LORA, SAMPLES, CONFIG, tmp_path / "s")
        )
    assert "\n" not in str(caught.value)


def padded(teacher, by, folder):
    model, tokenizer = load(teacher)
    model.resize_token_embeddings(model.config.vocab_size + by, mean_resizing=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_teacher_with_more_outputs_than_tokens_is_the_same_teacher(base, teacher, tmp_path):
    config = CONFIG.model_copy(update={"epochs": 1})
    losses = [
        curve(
            OnPolicy(teacher=name, max_new_tokens=8).train(
                TrainingInputs(base, LORA, SAMPLES, config, tmp_path / f"s{n}")
            )
        )
        for n, name in enumerate((teacher, padded(teacher, 8, tmp_path / "wide")))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_teacher_with_fewer_outputs_is_refused(base, teacher, tmp_path):
    wide = padded(base, 8, tmp_path / "wide")
    with pytest.raises(ModelError, match=r"the teacher has \d+ outputs, the student \d+"):
        OnPolicy(teacher=teacher).train(TrainingInputs(wide, LORA, SAMPLES, CONFIG, tmp_path / "s"))


def test_an_answer_that_does_not_fit_the_context_is_refused(base, teacher, tmp_path):
    with pytest.raises(ModelError, match=r"lower train\.objective\.max_new_tokens"):
        OnPolicy(teacher=teacher, max_new_tokens=500).train(
            TrainingInputs(base, LORA, SAMPLES, CONFIG, tmp_path / "s")
        )


def test_what_does_not_go_together():
    objective = OnPolicy(teacher="t")
    assert objective.faults(LORA, CONFIG) == []
    (fault,) = objective.faults(LORA, CONFIG.model_copy(update={"packing": True}))
    assert "packing = false" in fault
    for use in ("prompt", "prefix", "p_tuning", "p_tuning_v2"):
        (fault,) = objective.faults(catalog.build("tuner", {"use": use}), CONFIG)
        assert "virtual tokens" in fault


def test_a_trainer_that_moved_is_one_line(base, teacher, tmp_path, monkeypatch):
    import trl

    monkeypatch.setattr(trl, "DistillationTrainer", type("Moved", (), {}))
    with pytest.raises(
        MissingExtraError, match=r"DistillationTrainer differs from that of .*pip install"
    ):
        OnPolicy(teacher=teacher).train(TrainingInputs(base, LORA, SAMPLES, CONFIG, tmp_path / "s"))
