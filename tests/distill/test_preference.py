import math
import re
from dataclasses import replace

import pytest

from distill.learning.multiprocess import train_in_processes
from distill.learning.objective import TrainingInputs, rows_of, train_on_rows
from distill.objectives.preference import REPLIES, Preference
from distill.report.training_section import summarize_audit
from tests.support.teaching import model_of, row, sample
from tests.support.tiny import make_tiny
from train.config import EarlyStopping, SftConfig
from train.dataset import encode
from train.loop.callbacks import StopAfterAudit, TrainingCallbacks
from train.model.inference import Generator
from train.tuners.lora import Lora
from warehouse import catalog
from warehouse.errors import AssetError, MissingExtraError, TrainingError

pytestmark = pytest.mark.trains
CONFIG = SftConfig(epochs=3, batch_size=4, learning_rate=1e-2, max_length=128)
SAMPLES = [sample(n) for n in range(8)]
LORA = Lora(dropout=0.0)
SHORT = Preference(max_new_tokens=8, beta=0.3)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(make_tiny(tmp_path_factory.mktemp("base") / "tiny"))


@pytest.fixture(scope="module")
def rejected(base):
    """What the untuned student says."""
    said = Generator(base).answer([one.messages for one in SAMPLES], SHORT.max_new_tokens)
    return [answer.text for answer in sorted(said, key=lambda answer: answer.index)]


def curve(result):
    return [entry["loss"] for entry in result.losses if "loss" in entry]


def log_ratios(base, student, texts):
    """How much likelier a student finds each text than its base, in nats."""
    rows = [(one.messages, text) for one, text in zip(SAMPLES, texts, strict=True)]
    before, after = Generator(base).likelihood(rows), Generator(base, student).likelihood(rows)
    return [new[0] - old[0] for new, old in zip(after, before, strict=True)]


def dpo_loss(base, student, rejected, beta):
    """Rafailov et al. 2023, equation 7, by hand."""
    chosen = log_ratios(base, student, [one.completion for one in SAMPLES])
    others = log_ratios(base, student, rejected)
    margins = [beta * (one - other) for one, other in zip(chosen, others, strict=True)]
    return sum(math.log1p(math.exp(-margin)) for margin in margins) / len(margins)


@pytest.fixture(scope="module")
def learned(base, tmp_path_factory):
    out = tmp_path_factory.mktemp("students") / "s"
    steps = []
    return SHORT.train(TrainingInputs(base, LORA, SAMPLES, CONFIG, out), steps.append), steps


def test_the_teachers_answer_becomes_likelier_than_the_students_own(base, learned, rejected):
    result, steps = learned
    chosen = log_ratios(base, result.path, [one.completion for one in SAMPLES])
    others = log_ratios(base, result.path, rejected)
    assert all(one - other > 1 for one, other in zip(chosen, others, strict=True))
    assert curve(result)[-1] < curve(result)[0] / 3
    assert curve(result)[0] == pytest.approx(math.log(2), abs=1e-5)
    assert [step.done for step in steps] == [1, 2, 3, 4, 5, 6]
    assert all(set(entry) == {"step", "loss", "learning_rate"} for entry in result.losses)
    assert result.audit["rows_kept"] == 8
    assert result.audit["preference"]["pairs"] == 8


def test_only_the_student_is_left(learned):
    result, _ = learned
    assert [path.name for path in result.path.parent.iterdir()] == ["s"]
    assert not [path for path in result.path.iterdir() if path.is_dir()]  # no second adapter


@pytest.mark.parametrize(
    "table",
    [
        {"use": "lora", "dropout": 0.0},
        {"use": "full"},
        {"use": "partial"},
        {"use": "adapter", "width": 8},
        {"use": "prompt", "length": 4},
        {"use": "prefix", "length": 4},
    ],
    ids=lambda table: table["use"],
)
def test_the_reference_is_the_untuned_base_whatever_the_tuner_starts_from(
    table, base, rejected, tmp_path
):
    config = CONFIG.model_copy(update={"epochs": 1, "batch_size": 8, "learning_rate": 1e-9})
    tuner = catalog.build("tuner", table)
    result = SHORT.train(TrainingInputs(base, tuner, SAMPLES, config, tmp_path / "s"))
    (loss,) = curve(result)
    assert loss == pytest.approx(dpo_loss(base, result.path, rejected, SHORT.beta), rel=1e-3)
    assert (loss == pytest.approx(math.log(2), abs=1e-4)) == (not tuner.prompt_learning)


def test_the_weight_of_the_chosen_text_is_added(base, tmp_path):
    config = CONFIG.model_copy(update={"epochs": 1, "batch_size": 8})
    both = Preference(max_new_tokens=8, sft=0.5)
    (loss,) = curve(both.train(TrainingInputs(base, LORA, SAMPLES, config, tmp_path / "s")))
    _, tokenizer = model_of(base)
    rows = [(one.messages, one.completion) for one in SAMPLES]
    total = sum(likelihood for likelihood, _ in Generator(base).likelihood(rows))
    number = sum(
        len(found.input_ids) - found.start for found in (encode(row(s), tokenizer) for s in SAMPLES)
    )
    assert loss == pytest.approx(math.log(2) - 0.5 * total / number, rel=1e-4)


@pytest.mark.parametrize("sft", [0.0, 0.5])
@pytest.mark.parametrize(
    "tuner", [LORA, catalog.build("tuner", {"use": "prompt", "length": 4})], ids=["lora", "prompt"]
)
def test_loss_and_gradient_are_trls_own(base, tmp_path, monkeypatch, sft, tuner):
    import torch
    from trl import DPOTrainer

    from train.methods.own_weights import trained_of

    apart = []
    made = Preference._trainer

    def compared(self, job, base):
        trainer = made(self, job, base)
        learned = trainer.compute_loss
        weights = list(trained_of(trainer.unwrapped).values())

        def compute_loss(model, inputs, **how):
            ours, theirs = (
                learned(model, inputs, **how),
                DPOTrainer._compute_loss(trainer, model, inputs, False),
            )
            slopes = [
                torch.cat([slope.flatten() for slope in torch.autograd.grad(loss, weights)])
                for loss in (ours, theirs)
            ]
            assert slopes[0].abs().max() > 1e-3
            apart.append(
                max(
                    abs(float((ours - theirs).detach())), float((slopes[0] - slopes[1]).abs().max())
                )
            )
            return learned(model, inputs, **how)

        trainer.compute_loss = compute_loss
        return trainer

    monkeypatch.setattr(Preference, "_trainer", compared)
    config = CONFIG.model_copy(update={"epochs": 2, "batch_size": 3, "learning_rate": 1e-3})
    both = Preference(max_new_tokens=8, beta=0.3, sft=sft)
    both.train(TrainingInputs(base, tuner, SAMPLES, config, tmp_path / "s"))
    assert len(apart) == 6
    assert max(apart) < 1e-5


def test_an_uneven_batch_accumulated_gives_what_it_gives_whole(base, tmp_path):
    def losses(**options):
        config = CONFIG.model_copy(update={"epochs": 2, **options})
        name = str(options["batch_size"])
        return curve(SHORT.train(TrainingInputs(base, LORA, SAMPLES[:7], config, tmp_path / name)))

    whole = losses(batch_size=6, gradient_accumulation=1)
    assert losses(batch_size=2, gradient_accumulation=3) == pytest.approx(whole, rel=1e-3)


def test_the_audit_tells_of_the_pairs_before_training_and_estimates_both_texts(base, tmp_path):
    told, drawn = [], []
    callbacks = TrainingCallbacks(
        audited=told.append, drawn=lambda *how_many: drawn.append(how_many)
    )
    config = CONFIG.model_copy(update={"epochs": 1})
    result = SHORT.train(TrainingInputs(base, LORA, SAMPLES, config, tmp_path / "s"), callbacks)
    assert drawn == [(done, 8) for done in range(1, 9)]
    assert told[0]["preference"] == result.audit["preference"]
    (line,) = (text for label, text in summarize_audit(told[0]).lines if label == "pairs")
    assert re.match(r"8 made; the untuned student answered in \d+ s: 0 dropped ", line)
    assert line.endswith("8 cut off at max_new_tokens, 0 truncated at max_length")
    plain = train_on_rows(TrainingInputs(base, LORA, SAMPLES, config, tmp_path / "plain"),
                     rows_of(SAMPLES), callbacks)  # fmt: skip
    pairs, rows = (one.audit["memory_estimate"] for one in (result, plain))
    assert (pairs["rows"], rows["rows"]) == (8, 4)
    assert pairs["activations"] > 1.9 * rows["activations"]


def test_equal_replies_are_dropped_and_counted(base, rejected, tmp_path):
    samples = [sample(0, f" {rejected[0]} "), *SAMPLES[1:]]
    result = SHORT.train(TrainingInputs(base, LORA, samples, CONFIG, tmp_path / "s"))
    assert result.audit["preference"]["pairs"] == 7
    assert result.audit["preference"]["equal_replies"] == 1
    assert result.audit["preference"]["cut_off_replies"] == 8


def test_rejected_replies_that_would_be_truncated_are_refused_and_may_be_allowed(base, tmp_path):
    long = Preference(max_new_tokens=100, beta=0.3)
    config = CONFIG.model_copy(update={"epochs": 1, "max_length": 80})
    told = []
    with pytest.raises(
        TrainingError, match=r"8 of 8 rejected replies are longer than train\.max_length"
    ):
        long.train(
            TrainingInputs(base, LORA, SAMPLES, config, tmp_path / "s"),
            TrainingCallbacks(audited=told.append),
        )
    assert told[0]["refused"].startswith("8 of 8 rejected replies") and told[0]["rows_kept"] == 8
    allowed, drawn = config.model_copy(update={"allow": ["truncated"]}), []
    callbacks = TrainingCallbacks(drawn=lambda *how_many: drawn.append(how_many))
    result = long.train(TrainingInputs(base, LORA, SAMPLES, allowed, tmp_path / "s"), callbacks)
    assert drawn == []  # they were kept
    assert result.audit["preference"]["truncated_rejected"] == 8


def test_what_an_audit_has_drawn_is_there_for_the_training(base, tmp_path):
    def stop(figures):
        raise StopAfterAudit

    drawn = []
    material = TrainingInputs(
        base, LORA, SAMPLES, CONFIG.model_copy(update={"epochs": 1}), tmp_path / "s"
    )
    with pytest.raises(StopAfterAudit):
        SHORT.train(material, TrainingCallbacks(audited=stop))
    SHORT.train(material, TrainingCallbacks(drawn=lambda *how_many: drawn.append(how_many)))
    assert drawn == []
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_rejected_replies_of_a_recipe_are_learned_from_without_asking_the_student(
    base, tmp_path, monkeypatch
):
    def unasked(*_, **__):
        raise AssertionError("the untuned student is not asked")

    drafts = ["a gas", "It is some pump.", "very cold", "leaves", "", "The heart pumps blood."]
    samples = [
        replace(one, facts={"rejected": draft} if draft else None)
        for one, draft in zip(SAMPLES, [*drafts, "", ""], strict=True)
    ]
    with monkeypatch.context() as patched:
        patched.setattr(Generator, "answer", unasked)
        recipe = Preference(beta=0.3, rejected="recipe")
        result = recipe.train(TrainingInputs(base, LORA, samples, CONFIG, tmp_path / "s"))
    figures = result.audit["preference"]
    assert figures == {
        "without_rejected": 3, "pairs": 4, "equal_replies": 1, "truncated_rejected": 0,
    }  # fmt: skip
    (line,) = (text for label, text in summarize_audit(result.audit).lines if label == "pairs")
    assert line.startswith("4 made with the replies that the recipe rejected: 1 dropped")
    assert "3 samples left out for having none" in line
    rows = [(one.messages, one.completion) for one in SAMPLES[:4]]
    others = [(one.messages, draft) for one, draft in zip(SAMPLES, drafts[:4], strict=False)]
    gains = [
        [
            new[0] - old[0]
            for new, old in zip(
                Generator(base, result.path).likelihood(texts),
                Generator(base).likelihood(texts),
                strict=True,
            )
        ]
        for texts in (rows, others)
    ]
    assert all(chosen - draft > 1 for chosen, draft in zip(*gains, strict=True))
    assert curve(result)[0] == pytest.approx(math.log(2), abs=1e-5)


def test_samples_without_a_rejected_reply_are_refused_before_the_base_is_loaded(tmp_path):
    recipe = Preference(rejected="recipe")
    with pytest.raises(TrainingError, match="none of 8 samples has a rejected reply"):
        recipe.train(TrainingInputs("no such base", LORA, SAMPLES, CONFIG, tmp_path / "s"))


def test_the_new_option_changes_no_student_that_does_not_use_it():
    assert "rejected" not in Preference().fingerprint
    assert Preference(rejected="recipe").fingerprint["rejected"] == "recipe"


def test_where_all_replies_are_equal_there_is_nothing_to_prefer(base, rejected, tmp_path):
    samples = [sample(n, text) for n, text in enumerate(rejected)]
    with pytest.raises(TrainingError, match="in all of 8 rows, so there is nothing to prefer"):
        SHORT.train(TrainingInputs(base, LORA, samples, CONFIG, tmp_path / "s"))
    assert list(tmp_path.iterdir()) == []


def test_replies_are_drawn_once_also_over_an_interrupt(base, learned, tmp_path, monkeypatch):
    drawn = []
    answer = Generator.answer

    def counted(self, conversations, *args, **kwargs):
        drawn.append(len(conversations))
        return answer(self, conversations, *args, **kwargs)

    monkeypatch.setattr(Generator, "answer", counted)
    config = CONFIG.model_copy(update={"save_steps": 2})
    work = TrainingInputs(base, LORA, SAMPLES, config, tmp_path / "s")

    def kill(step):
        if step.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SHORT.train(work, kill)
    assert (tmp_path / f"s{REPLIES}").is_file()
    steps = []
    again = SHORT.train(work, steps.append)
    assert drawn == [8]
    assert steps[0].done == 3
    assert curve(again) == pytest.approx(curve(learned[0]), rel=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_two_processes_share_the_drawing_and_do_what_one_does(base, learned, tmp_path):
    config = CONFIG.model_copy(update={"processes": 2})
    material, drawn = TrainingInputs(base, LORA, SAMPLES, config, tmp_path / "s"), []
    callbacks = TrainingCallbacks(drawn=lambda *how_many: drawn.append(how_many))
    result = train_in_processes(SHORT, material, callbacks)
    assert drawn == [(1, 4), (2, 4), (3, 4), (4, 4)]  # of the first one's share
    assert curve(result) == pytest.approx(curve(learned[0]), rel=1e-2, abs=1e-4)
    told = ({**one.audit["preference"], "seconds": 0} for one in (result, learned[0]))
    assert next(told) == next(told)


def test_early_stopping_looks_at_pairs_that_are_not_trained_on(base, tmp_path):
    stop = EarlyStopping(share=0.25, patience=2, steps=1)
    config = CONFIG.model_copy(update={"early_stopping": stop})
    result = SHORT.train(TrainingInputs(base, LORA, SAMPLES, config, tmp_path / "s"))
    looks = [entry["held_out_loss"] for entry in result.losses if "held_out_loss" in entry]
    assert len(looks) > 2
    assert looks[-1] < looks[0]


def test_packing_does_not_go_with_pairs():
    assert SHORT.faults(LORA, CONFIG) == []
    (fault,) = SHORT.faults(LORA, CONFIG.model_copy(update={"packing": True}))
    assert "packing = false" in fault


def test_a_trainer_that_moved_is_one_line(base, tmp_path, monkeypatch):
    import trl

    monkeypatch.setattr(trl, "DPOTrainer", type("Moved", (), {}))
    with pytest.raises(
        MissingExtraError, match=r"DPOTrainer differs from that of trl 1\.16\.0"
    ) as caught:
        SHORT.train(TrainingInputs(base, LORA, SAMPLES, CONFIG, tmp_path / "s"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "kept"), [(AssetError("not reachable"), True), (TrainingError("diverged"), False)]
)
def test_drawn_replies_are_kept_where_the_same_call_may_go_well_later(
    base, tmp_path, monkeypatch, error, kept
):
    def fail(*_):
        raise error

    monkeypatch.setattr(Preference, "_trainer", fail)
    with pytest.raises(type(error)):
        SHORT.train(TrainingInputs(base, LORA, SAMPLES, CONFIG, tmp_path / "s"))
    assert (tmp_path / f"s{REPLIES}").is_file() == kept
