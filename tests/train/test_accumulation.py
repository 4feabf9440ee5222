"""Eight rows at once, or one at a time accumulated: the same student."""

import pytest

from tests.support.tiny import make_tiny
from train.config import SftConfig
from train.loop.sft import train_student
from train.tuners.lora import Lora

ANSWERS = ("The heart", "Plants take in carbon dioxide and give off oxygen.", "zero degrees")


def test_batch_of_one_accumulated_eight_times_equals_batch_of_eight(tmp_path):
    import torch
    from safetensors.torch import load_file

    base = str(make_tiny(tmp_path / "tiny"))
    rows = [
        {
            "prompt": [{"role": "user", "content": "Which organ? " * (1 + n % 4)}],
            "completion": [{"role": "assistant", "content": ANSWERS[n % 3]}],
        }
        for n in range(32)
    ]

    def trained(name, batch, accumulation):
        config = SftConfig(
            epochs=2, batch_size=batch, gradient_accumulation=accumulation, max_length=128
        )
        result = train_student(base, Lora(rank=4, dropout=0.0), rows, config, tmp_path / name)
        weights = load_file(result.path / "adapter_model.safetensors")
        flat = torch.cat([weights[key].flatten() for key in sorted(weights)])
        return [entry["loss"] for entry in result.losses], flat

    losses, weights = trained("whole", 8, 1)
    losses_one, weights_one = trained("accumulated", 1, 8)
    assert len(losses) == len(losses_one) == 8
    apart = [abs(a - b) for a, b in zip(losses, losses_one, strict=True)]
    assert max(apart) < 1e-3
    assert sum(apart) / len(apart) < 3e-4

    start = train_student(
        base, Lora(rank=4, dropout=0.0), rows, _standing_still(), tmp_path / "start"
    )
    begun = load_file(start.path / "adapter_model.safetensors")
    moved = (weights - torch.cat([begun[key].flatten() for key in sorted(begun)])).abs()
    apart_weights = (weights - weights_one).abs()
    assert moved.max() > 3e-3
    assert apart_weights.max() < 1e-3
    assert apart_weights.mean() < 0.01 * moved.mean()


def _standing_still():
    return SftConfig(epochs=1, batch_size=8, learning_rate=1e-12, max_length=128)


def test_the_comparison_can_fail(tmp_path):
    base = str(make_tiny(tmp_path / "tiny"))
    rows = [
        {
            "prompt": [{"role": "user", "content": f"Which organ? {n}"}],
            "completion": [{"role": "assistant", "content": ANSWERS[n % 3]}],
        }
        for n in range(16)
    ]
    first = {}
    for batch in (8, 4):
        config = SftConfig(epochs=1, batch_size=batch, max_length=128)
        result = train_student(base, Lora(rank=4, dropout=0.0), rows, config, tmp_path / str(batch))
        first[batch] = result.losses[0]["loss"]
    assert first[8] != pytest.approx(first[4], abs=1e-3)
