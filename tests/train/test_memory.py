"""The memory estimate: each piece of the formula, and what makes it larger or smaller."""

from dataclasses import replace

import pytest

from tests.support.tiny import make_tiny
from train.config import SftConfig
from train.dataset import Encoded
from train.methods.tuner import Setting
from train.model.base_model import elements_of
from train.model.memory import (
    ALLOCATOR_OVERHEAD,
    TRANSIENT_FRACTION,
    Batch,
    Shape,
    activations,
    estimate,
    figures,
    largest,
    parameters_of,
    per_token,
    shape_of,
)
from train.model.student import load
from train.tuners.lora import Lora
from train.tuners.partial import Partial
from train.tuners.prefix import Prefix
from train.tuners.prompt import PromptTuner

GPT = Shape(
    layers=12, hidden=768, heads=12, key_value_heads=12, head_size=64, feed_forward=4 * 768,
    gated=False, vocabulary=50_257,
)  # fmt: skip
BATCH = Batch(8, 100, 80)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(make_tiny(tmp_path_factory.mktemp("base") / "tiny"))


def tuned(base, **options):
    model, tokenizer = load(base)
    return Lora(**{"rank": 4, "dropout": 0.0, **options}).attach(model, Setting(tokenizer, [], 1))


def test_a_layer_of_the_papers_shape_keeps_what_the_paper_counts():
    """34 bytes per element at 16 bits, two of them dropout masks, and 5 a s / h of attention
    scores less their mask and the scores themselves (equation 1)."""
    assert 2 * per_token(GPT, 100) == (34 - 2) * 768
    eager = replace(GPT, eager=True)
    assert 2 * (per_token(eager, 100) - per_token(GPT, 100)) == 4 * 12 * 100


def test_grouped_queries_gates_and_dropout_are_counted():
    llama = replace(GPT, key_value_heads=4, gated=True)
    assert per_token(llama, 1) - per_token(GPT, 1) == 2 * 4 * 768
    flash = replace(llama, flash=True)
    assert per_token(flash, 1) - per_token(llama, 1) == -2 * 8 * 64
    assert per_token(replace(GPT, trained=False), 1) - per_token(GPT, 1) == -6 * 768
    assert per_token(replace(GPT, adapted=768.0), 1) - per_token(GPT, 1) == 2 * 768


def test_checkpointing_keeps_the_inputs_of_layers_and_one_layer():
    whole = activations(GPT, BATCH, checkpointing=False)
    assert whole == 12 * 800 * per_token(GPT, 100)
    kept = activations(GPT, BATCH, checkpointing=True)
    assert kept == 12 * 800 * 768 + 800 * per_token(GPT, 100)


def test_the_shape_is_read_from_the_model(base):
    model, _ = load(base)
    assert shape_of(model) == Shape(
        layers=2, hidden=32, heads=2, key_value_heads=2, head_size=16, feed_forward=64, gated=True,
        vocabulary=model.config.vocab_size,
    )  # fmt: skip
    assert shape_of(tuned(base, dropout=0.1)).adapted == 6 * 32 + 64


@pytest.mark.parametrize(
    ("layers", "frozen"),
    [("last:1", 1), ("0", 0), ("head", 2), ("last:1, head", 1), ("embed_tokens", 0)],
)
def test_layers_below_the_first_trained_one_keep_nothing(base, layers, frozen):
    model, tokenizer = load(base)
    shape = shape_of(Partial(layers=layers).attach(model, Setting(tokenizer, [], 1)))
    assert shape.frozen == frozen
    assert activations(shape, BATCH, False) == (2 - frozen) * 800 * per_token(shape, 100)
    whole = replace(shape, frozen=0)
    assert activations(shape, BATCH, True) == activations(whole, BATCH, True)


def test_a_local_teacher_is_counted_by_its_files(base):
    model, _ = load(base)
    assert elements_of(base) == sum(p.numel() for p in model.parameters())
    config = SftConfig(batch_size=4, max_length=64)
    settings = {"gradient_checkpointing": False, "bf16": False, "use_cpu": True}
    alone, beside = (
        figures(model, [encoded(10, 5)], config, settings, True, 0, teacher_base=teacher)[
            "memory_estimate"
        ]
        for teacher in (None, base)
    )
    assert (alone["teacher"], beside["teacher"]) == (0, 4 * elements_of(base))
    assert beside["total"] == alone["total"] + beside["teacher"]


def test_every_part_of_the_estimate(base):
    model = tuned(base)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    held = sum(p.numel() for p in model.parameters()) + sum(b.numel() for b in model.buffers())
    found = estimate(model, BATCH, checkpointing=False, autocast=False)
    assert found.weights == 4 * held
    assert found.gradients == 4 * trained
    assert found.optimizer == 2 * found.gradients
    assert found.activations == 4 * activations(shape_of(model), BATCH, False)
    assert found.logits == 3 * 4 * 80 * model.config.vocab_size
    share = TRANSIENT_FRACTION * (found.activations + found.logits)
    assert found.passing == round(share + ALLOCATOR_OVERHEAD * 4 * parameters_of(model))
    assert found.process == 0
    parts = (found.weights, found.gradients, found.optimizer, found.activations, found.logits)
    assert found.total == found.as_json()["total"] == sum(parts) + found.passing
    assert estimate(model, BATCH, False, False, process=77).total == found.total + 77
    half = estimate(model, BATCH, checkpointing=False, autocast=True)
    assert half.activations == found.activations / 2
    assert half.weights == found.weights


def test_virtual_tokens_make_rows_longer_unless_they_are_keys_and_values(base):
    def of(tuner):
        model, tokenizer = load(base)
        row = {
            "prompt": [{"role": "user", "content": "Which organ?"}],
            "completion": [{"role": "assistant", "content": "The heart"}],
        }
        tuned = tuner.attach(model, Setting(tokenizer, [row], 1))
        shape = shape_of(tuned)
        assert not shape.trained
        return shape.virtual, estimate(tuned, BATCH, False, False).length

    assert of(PromptTuner(length=4)) == (4, 104)
    assert of(Prefix(length=4)) == (0, 100)


def test_more_rows_and_longer_ones_take_more_and_checkpointing_less(base):
    model = tuned(base)

    def total(rows=8, length=100, checkpointing=False):
        return estimate(model, Batch(rows, length, 10), checkpointing, False).total

    assert total(rows=1) < total(rows=4) < total() < total(length=200)
    assert total(checkpointing=True) < total()
    larger = tuned(base, rank=16)
    assert (
        estimate(larger, BATCH, False, False).gradients
        == 4 * estimate(model, BATCH, False, False).gradients
    )


def encoded(length, start):
    return Encoded("", [0] * length, start, False)


def test_the_largest_batch_is_of_the_longest_rows():
    rows = [encoded(10, 8), encoded(40, 30), encoded(30, 5), encoded(20, 1)]
    assert largest(rows, 2, 1024, logits=True) == Batch(2, 40, 25 + 19)
    assert largest(rows, 2, 32, logits=True) == Batch(2, 32, 25 + 19)
    assert largest(rows, 2, 20, logits=True) == Batch(2, 20, 15 + 19)
    assert largest(rows, 2, 1024, logits=False) == Batch(2, 40, 0)
    assert largest(rows, 8, 1024, logits=True).rows == 4


def test_what_an_audit_is_told(base):
    model = tuned(base)
    settings = {"gradient_checkpointing": True, "bf16": False, "use_cpu": True}
    config = SftConfig(batch_size=4, processes=2, max_length=64)
    found = figures(model, [encoded(100, 60)] * 6, config, settings, logits=True, before=5)
    assert found["parameters"] == parameters_of(model) == sum(p.numel() for p in model.parameters())
    told = found["memory_estimate"]
    assert (told["rows"], told["length"], told["checkpointing"]) == (2, 64, True)
    assert told["process"] == found["memory_before"] == 5
    assert found["memory_there"] > 1e9
    pairs = figures(model, [encoded(100, 60)] * 6, config, settings, True, 5, sequences_per_row=2)
    pairs = pairs["memory_estimate"]
    assert (pairs["rows"], pairs["logits"]) == (4, 2 * told["logits"])
    packed = config.model_copy(update={"packing": True})
    found = figures(model, [encoded(10, 5)], packed, settings, False, 0)["memory_estimate"]
    assert (found["rows"], found["length"], found["logits"]) == (2, 64, 0)


def test_a_model_that_does_not_tell_its_shape_gets_no_estimate(base):
    model, _ = load(base)
    model.config.num_hidden_layers = 0
    assert shape_of(model) is None
    assert estimate(model, BATCH, False, False) is None
