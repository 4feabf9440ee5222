"""The loss from the supervised positions alone is TRL's own loss, and so are its gradients."""

import pytest

from tests.support.teaching import inspect_rows
from tests.support.tiny import make_tiny
from train.config import SftConfig
from train.loop.sft import TrainerInputs, _settings, sft_trainer
from train.methods.tuner import Setting
from train.model.student import load
from train.tuners.lora import Lora

ANSWERS = ("The heart", "Plants take in carbon dioxide and give off oxygen.", "zero degrees")


@pytest.mark.parametrize("count", [None, 40])
def test_loss_and_gradients_are_those_of_trl(tmp_path, count):
    import torch
    from trl import SFTTrainer

    rows = [
        {
            "prompt": [{"role": "user", "content": "Which organ? " * (1 + n % 5)}],
            "completion": [{"role": "assistant", "content": ANSWERS[n % 3]}],
        }
        for n in range(16)
    ]
    model, tokenizer = load(str(make_tiny(tmp_path / "tiny")))
    config = SftConfig(batch_size=8, max_length=128)
    tuner = Lora(rank=4, dropout=0.0)
    kept = inspect_rows(rows, tokenizer, 128, model.generation_config.eos_token_id).rows
    torch.manual_seed(0)
    model = tuner.attach(model, Setting(tokenizer, kept, 4))
    for name, weight in model.named_parameters():
        if "lora_B" in name:  # zero at first, so that lora_A would have no gradient
            torch.nn.init.normal_(weight, std=0.1)
    settings = _settings(config, tuner, tmp_path / "t")
    trainer = sft_trainer(TrainerInputs(model, tokenizer, tuner, kept, [], config, settings))
    trainer.current_gradient_accumulation_steps = 1
    if torch.cuda.is_available():
        pytest.skip("on a GPU the loss is TRL's own")
    for batch in trainer.get_train_dataloader():
        found = []
        for compute in (type(trainer).compute_loss, SFTTrainer.compute_loss):
            model.zero_grad()
            loss = compute(trainer, trainer.model, dict(batch), num_items_in_batch=count)
            loss.backward()
            grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
            found.append((loss.item(), grads))
        (ours, our_grads), (theirs, their_grads) = found
        assert ours == pytest.approx(theirs, rel=1e-5)
        assert len(our_grads) == len(their_grads) > 0
        assert max(float(g.abs().max()) for g in our_grads) > 1e-4
        for one, other in zip(our_grads, their_grads, strict=True):
            assert torch.allclose(one, other, rtol=1e-3, atol=1e-6)
