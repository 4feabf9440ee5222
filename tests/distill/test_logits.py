import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from distill.learning.multiprocess import train_in_processes
from distill.learning.objective import TrainingInputs
from distill.objectives import logits
from distill.objectives.logits import Logits
from distill.objectives.sequence import Sequence
from tests.support.teaching import (
    distance,
    logits_of,
    make_stranger,
    make_teacher,
    model_of,
    sample,
    stored,
)
from tests.support.tiny import make_tiny
from train.config import EarlyStopping, SftConfig
from train.tuners.lora import Lora
from warehouse import catalog
from warehouse.errors import MissingExtraError, ModelError, PlanError, TrainingError

pytestmark = pytest.mark.trains
CONFIG = SftConfig(epochs=8, batch_size=4, learning_rate=2e-2, max_length=128)
SAMPLES = [sample(n) for n in range(12)]
LORA = Lora(dropout=0.0)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(make_tiny(tmp_path_factory.mktemp("base") / "tiny"))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return make_teacher(tmp_path_factory.mktemp("teacher"))


def logprobs(teacher, k, by_number=False):
    return {one.sample_id: stored(teacher, one, k, by_number) for one in SAMPLES}


def material(base, out, config=CONFIG, **more):
    return TrainingInputs(base, LORA, SAMPLES, config, out, **more)


def curve(result):
    return [entry["loss"] for entry in result.losses if "loss" in entry]


@pytest.fixture(scope="module")
def learned(base, teacher, tmp_path_factory):
    """A student of the stored top 20."""
    out = tmp_path_factory.mktemp("students") / "s"
    return Logits().train(material(base, out, logprobs=logprobs(teacher, 20)))


@pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl", "jsd"])
def test_a_local_teacher_is_approached(kind, base, teacher, tmp_path):
    objective = Logits(teacher=teacher, divergence=kind)
    result = objective.train(material(base, tmp_path / "s"))
    before = distance(kind, teacher, base, None, SAMPLES)
    after = distance(kind, teacher, base, result.path, SAMPLES)
    assert result.losses[0]["loss"] == pytest.approx(before, rel=0.2)  # of the first four rows
    assert after < 0.75 * before
    assert result.audit["rows_kept"] == 12
    assert all(set(entry) == {"step", "loss", "learning_rate"} for entry in result.losses)


def test_the_stored_top_of_its_distribution_suffices(base, teacher, learned):
    before, after = (
        distance("forward_kl", teacher, base, student, SAMPLES, end=False)
        for student in (None, learned.path)
    )
    assert after < 0.8 * before
    figures = learned.audit["stored_logprobs"]
    assert figures["rows"] == 12
    assert figures["rows_without_logprobs"] == figures["tokens_without_logprobs"] == 0
    assert 0.1 < figures["mean_mass_known"] < 1


@pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl", "jsd"])
def test_a_stored_whole_vocabulary_is_the_local_teacher(kind, base, teacher, tmp_path):
    config = CONFIG.model_copy(update={"epochs": 2})
    whole = logprobs(teacher, len(model_of(teacher)[1]), by_number=True)
    kept = Logits(divergence=kind).train(material(base, tmp_path / "a", config, logprobs=whole))
    local = Logits(divergence=kind, teacher=teacher).train(material(base, tmp_path / "b", config))
    assert curve(kept) == pytest.approx(curve(local), rel=1e-3, abs=1e-3)
    assert kept.audit["stored_logprobs"]["mean_mass_known"] == pytest.approx(1.0, abs=1e-3)


def test_the_loss_is_the_mean_over_supervised_positions_and_no_others(base, teacher, tmp_path):
    config = CONFIG.model_copy(update={"epochs": 1, "batch_size": 12})
    result = Logits(teacher=teacher).train(material(base, tmp_path / "s", config))
    (loss,) = curve(result)
    assert loss == pytest.approx(distance("forward_kl", teacher, base, None, SAMPLES), rel=1e-4)


def test_memory_is_bounded_by_chunks_and_the_loss_is_the_same(base, teacher, tmp_path, monkeypatch):
    config = CONFIG.model_copy(update={"epochs": 2})
    whole = Logits(teacher=teacher).train(material(base, tmp_path / "a", config))
    monkeypatch.setattr(logits, "CHUNK", 7)
    parts = Logits(teacher=teacher).train(material(base, tmp_path / "b", config))
    assert curve(parts) == pytest.approx(curve(whole), rel=1e-5)


def test_cross_entropy_alone_is_sequence(base, teacher, tmp_path):
    config = CONFIG.model_copy(update={"epochs": 2})
    text = Sequence().train(material(base, tmp_path / "a", config))
    same = Logits(cross_entropy=1.0).train(
        material(base, tmp_path / "b", config, logprobs=logprobs(teacher, 3))
    )
    assert curve(same) == pytest.approx(curve(text), rel=1e-5)


def test_the_end_of_the_answer_is_learned_from_the_text(base, teacher, tmp_path):
    import torch

    config = CONFIG.model_copy(update={"epochs": 1, "batch_size": 12})
    alone = material(base, tmp_path / "s", config, logprobs=logprobs(teacher, 5))
    (loss,) = curve(Logits().train(alone))
    total = number = 0.0
    for one in SAMPLES:
        ours, ids, answer = logits_of(*model_of(base), one)
        theirs, _, _ = logits_of(*model_of(teacher), one)
        p, q = (logits.softmax(-1) for logits in (theirs, ours))
        top = p[:answer].topk(5).indices.tolist()
        for n in range(answer):
            texts = [model_of(base)[1].decode([number]) for number in top[n]]
            whole = {m for m, text in zip(top[n], texts, strict=True) if "\ufffd" not in text}
            known = whole | {ids[n]}
            lumps = [
                torch.tensor([*d[n, list(known)], 1 - d[n, list(known)].sum()]) for d in (p, q)
            ]
            total += float((lumps[0] * (lumps[0] / lumps[1]).log()).sum())
        total -= sum(float(q[n, ids[n]].log()) for n in range(answer, len(ids)))
        number += len(ids)
    assert loss == pytest.approx(total / number, rel=1e-3)


def test_accumulation_changes_nothing(base, teacher, tmp_path, learned):
    config = CONFIG.model_copy(update={"batch_size": 2, "gradient_accumulation": 2})
    parts = Logits().train(material(base, tmp_path / "s", config, logprobs=logprobs(teacher, 20)))
    assert curve(parts) == pytest.approx(curve(learned), rel=1e-3)


def test_an_interrupted_training_goes_on_to_the_same_losses(base, teacher, tmp_path, learned):
    config = CONFIG.model_copy(update={"save_steps": 5})
    work = material(base, tmp_path / "s", config, logprobs=logprobs(teacher, 20))

    def kill(step):
        if step.done == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Logits().train(work, kill)
    steps = []
    again = Logits().train(work, steps.append)
    assert steps[0].done == 11
    assert again.losses == learned.losses


def test_checkpoints_of_other_options_are_not_gone_on_from(base, teacher, tmp_path):
    config = CONFIG.model_copy(update={"epochs": 3, "save_steps": 2})
    work = material(base, tmp_path / "s", config)

    def kill(step):
        if step.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Logits(teacher=teacher).train(work, kill)
    steps = []
    Logits(teacher=teacher, temperature=2.0).train(work, steps.append)
    assert steps[0].done == 1


def test_two_processes_do_what_one_does(base, teacher, tmp_path, learned):
    config = CONFIG.model_copy(update={"processes": 2})
    work = material(base, tmp_path / "s", config, logprobs=logprobs(teacher, 20))
    result = train_in_processes(Logits(), work)
    assert curve(result) == pytest.approx(curve(learned), rel=2e-3)
    assert result.audit["stored_logprobs"] == learned.audit["stored_logprobs"]


def test_early_stopping_looks_at_the_same_loss(base, teacher, tmp_path):
    stop = EarlyStopping(share=0.25, patience=2, steps=3)
    config = CONFIG.model_copy(update={"early_stopping": stop})
    whole = logprobs(teacher, 384, by_number=True)
    result = Logits().train(material(base, tmp_path / "s", config, logprobs=whole))
    looks = [entry["held_out_loss"] for entry in result.losses if "held_out_loss" in entry]
    assert result.audit["held_out_rows"] == 3
    assert len(looks) > 2
    everywhere = distance("forward_kl", teacher, base, result.path, SAMPLES)
    assert min(looks) == pytest.approx(everywhere, rel=0.5)


def test_samples_without_stored_log_probabilities_are_refused(base, teacher, tmp_path):
    some = logprobs(teacher, 5)
    for one in SAMPLES[:3]:
        del some[one.sample_id]
    work = material(base, tmp_path / "s", logprobs=some)
    with pytest.raises(TrainingError, match=r"3 of 12 .*datagen\.sampling\.top_logprobs") as caught:
        Logits().train(work)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_one_sample_of_many_without_them_is_counted_and_learns_from_its_text(
    base, teacher, tmp_path
):
    many = [sample(n) for n in range(24)]
    some = {one.sample_id: stored(teacher, one, 5) for one in many[1:]}
    config = CONFIG.model_copy(update={"epochs": 1})
    result = Logits().train(TrainingInputs(base, LORA, many, config, tmp_path / "s", logprobs=some))
    figures = result.audit["stored_logprobs"]
    assert (figures["rows"], figures["rows_without_logprobs"]) == (24, 1)


def test_another_vocabulary_is_found_before_anything_is_loaded(base, tmp_path, monkeypatch):
    stranger = make_stranger(tmp_path / "stranger", monkeypatch)
    monkeypatch.setattr("train.loop.sft.load", lambda *a, **k: pytest.fail("a model was loaded"))
    with pytest.raises(ModelError, match=r"different vocabularies: \d+ of \d+ token ids") as caught:
        Logits(teacher=stranger).train(material(base, tmp_path / "s"))
    assert "\n" not in str(caught.value)
    assert "'sequence'" in str(caught.value)


def test_stored_tokens_of_another_vocabulary_are_refused(base, tmp_path, monkeypatch):
    stranger = make_stranger(tmp_path / "stranger", monkeypatch)
    work = material(base, tmp_path / "s", logprobs=logprobs(stranger, 5))
    with pytest.raises(TrainingError, match="do not line up with the teacher's"):
        Logits().train(work)


def test_the_audit_refuses_first(base, teacher, tmp_path):
    config = CONFIG.model_copy(update={"max_length": 24})
    with pytest.raises(TrainingError, match=r"raise .*max_length|raise it"):
        Logits().train(material(base, tmp_path / "s", config))


def test_refusals_are_never_trained_on(tmp_path, base):
    refused = [replace(SAMPLES[0], status="refused")]
    with pytest.raises(TrainingError, match="'refused'"):
        Logits().train(TrainingInputs(base, LORA, refused, CONFIG, tmp_path / "s"))


def test_what_it_needs_and_what_does_not_go_together():
    assert Logits().needs_logprobs
    assert not Logits(teacher="t").needs_logprobs
    assert Logits().faults(LORA, CONFIG) == []
    packed = CONFIG.model_copy(update={"packing": True})
    assert any("packing = false" in fault for fault in Logits().faults(LORA, packed))
    with pytest.raises(PlanError) as caught:
        catalog.build("objective", {"use": "logits", "temperature": 2.0})
    assert any("local `teacher`" in fault for fault in caught.value.faults)
    assert catalog.build("objective", {"use": "logits", "teacher": "t", "temperature": 2.0})


def test_the_content_of_a_local_teacher_decides(teacher, tmp_path):
    named = {"use": "logits", "teacher": teacher}
    objective = catalog.build("objective", named)
    other = catalog.build("objective", {**named, "teacher": str(make_tiny(tmp_path / "t", seed=2))})
    assert objective.fingerprint != other.fingerprint
    assert json.dumps(objective.fingerprint)
    assert Logits().fingerprint == catalog.table_of(Logits())


def test_a_trainer_that_moved_is_one_line(monkeypatch, base, tmp_path, teacher):
    import trl

    monkeypatch.setattr(trl, "SFTConfig", lambda **given: SimpleNamespace(**given, n_gpu=0))
    monkeypatch.setattr("train.loop.trainer.SFTTrainer.__init__", lambda self: None, raising=True)
    with pytest.raises(MissingExtraError, match=r"SFTTrainer differs from that of trl 1\.16\.0"):
        Logits(teacher=teacher).train(material(base, tmp_path / "s"))
