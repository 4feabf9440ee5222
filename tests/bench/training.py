"""How fast LoRA is trained, as a ratio to TRL's own SFTTrainer in the same run.

python -m tests.bench.training          64 rows of SciQ, batch 8, one epoch, two rounds each
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tests.support.teaching import inspect_rows
from train.config import SftConfig, steps_of
from train.dataset import TrainingRow
from train.loop.sft import TrainerInputs, _settings, sft_trainer
from train.methods.tuner import Setting, Tuner
from train.model.base_model import quiet
from train.model.student import load
from train.tuners.lora import Lora
from warehouse.inputs.rows import question_messages, read_rows

BASE, ROWS, ROUNDS, SEED, LEARNING_RATE = "smollm2-135m-instruct", 64, 2, 0, 1e-3
TUNER = Lora(rank=16, alpha=32, dropout=0.0)
CONFIG = SftConfig(
    epochs=1, batch_size=8, learning_rate=LEARNING_RATE, warmup_ratio=0.0, seed=SEED, save_steps=0
)
PEER = "TRL's defaults but no bf16 on a CPU, a loss per step, no checkpoint, no tracker"


@dataclass(frozen=True)
class Trained:
    """One epoch: seconds, the loss of each step, non-padding and supervised tokens, and the
    weights that each token passes."""

    seconds: float
    losses: list[float]
    tokens: int
    supervised: int
    body: int
    head: int

    @property
    def flops(self) -> int:
        """What has to be computed: 2 per weight and token forward, 2 for the gradient of the
        inputs; the output layer at supervised positions only. The adapter (1-4 %) and attention
        are left out."""
        return 4 * (self.body * self.tokens + self.head * self.supervised)


def make_rows() -> list[TrainingRow]:
    """Passage and question of SciQ with the short answer."""
    return [
        TrainingRow(
            prompt=question_messages(row),
            completion=[{"role": "assistant", "content": row.reference[0]}],
        )
        for row in islice(read_rows("sciq", Path(), "train", 0.3), ROWS)
    ]


def ours(
    rows: list[TrainingRow],
    folder: Path,
    base: str = BASE,
    tuner: Tuner = TUNER,
    config: SftConfig = CONFIG,
) -> Trained:
    """With the trainer of `train.loop.sft.train_student`."""
    from transformers import set_seed

    model, tokenizer = load(base, tuner=tuner, packing=config.packing)
    ends = model.generation_config.eos_token_id
    kept = inspect_rows(rows, tokenizer, config.max_length, ends).rows
    set_seed(config.seed)
    model = tuner.attach(model, Setting(tokenizer, kept, steps_of(len(rows), config)))
    settings = _settings(config, tuner, folder)
    return _timed(sft_trainer(TrainerInputs(model, tokenizer, tuner, kept, [], config, settings)))


def peer(
    rows: list[TrainingRow], folder: Path, base: str = BASE, config: SftConfig = CONFIG
) -> Trained:
    """LoRA with `trl.SFTTrainer`, as it comes."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = load(base)
    gpu = torch.cuda.is_available()
    arguments = SFTConfig(
        output_dir=str(folder),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        learning_rate=LEARNING_RATE,
        seed=config.seed,
        use_cpu=not gpu,
        bf16=gpu and torch.cuda.is_bf16_supported(),
        dataloader_pin_memory=gpu,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    adapter = LoraConfig(
        task_type="CAUSAL_LM", r=TUNER.rank, lora_alpha=TUNER.alpha, target_modules="all-linear"
    )
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list([dict(row) for row in rows]),
        processing_class=tokenizer,
        peft_config=adapter,
    )
    return _timed(trainer)


def _timed(trainer: Any) -> Trained:
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    layers = {
        name: module.weight.numel()
        for name, module in trainer.model.named_modules()
        if type(module).__name__ == "Linear" and "lora_" not in name
    }
    head = trainer.model.get_output_embeddings().weight.numel()
    return Trained(
        seconds=seconds,
        losses=[entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        tokens=sum(len(row["input_ids"]) for row in trainer.train_dataset),
        supervised=sum(label != -100 for row in trainer.train_dataset for label in row["labels"]),
        body=sum(layers.values()) - head,
        head=head,
    )


def peak() -> tuple[float, str]:
    """Most floating point operations per second of a product here, and on what."""
    import torch

    from train.model.fast_matmul import fast_products

    gpu = torch.cuda.is_available()
    size, dtype = (8192, torch.bfloat16) if gpu else (2048, torch.float32)
    one = torch.randn(size, size, device="cuda" if gpu else "cpu", dtype=dtype)
    found = []
    for _ in range(10):
        started = time.perf_counter()
        with fast_products(one.device):
            torch.nn.functional.linear(one, one)
        if gpu:
            torch.cuda.synchronize()
        found.append(2 * size**3 / (time.perf_counter() - started))
    name = torch.cuda.get_device_name() if gpu else torch.cpu.get_capabilities()["cpu_name"]
    return max(found), f"{name}, {str(dtype).removeprefix('torch.')}"


def main() -> None:
    """Print both rates, their ratio, how far the losses lie apart, and the share of the peak."""
    quiet()
    logging.getLogger("trl").setLevel(logging.ERROR)
    rows = make_rows()
    found: dict[str, list[Trained]] = {"ours": [], "trl": []}
    with tempfile.TemporaryDirectory() as home:
        for _ in range(ROUNDS):  # in turn, so that a busy machine slows both
            found["trl"].append(peer(rows, Path(home)))
            found["ours"].append(ours(rows, Path(home)))
    best = {name: min(all_, key=lambda one: one.seconds) for name, all_ in found.items()}
    mine, theirs = best["ours"], best["trl"]
    assert (mine.tokens, mine.supervised) == (theirs.tokens, theirs.supervised)
    last = len(mine.losses) - len(mine.losses) // 3
    end, their_end = (sum(o.losses[last:]) / len(o.losses[last:]) for o in (mine, theirs))
    most, where = peak()
    share, their_share = (one.flops / one.seconds / most for one in (mine, theirs))
    print(
        f"LoRA training of {ROWS} rows ({mine.tokens:,} tokens, {mine.supervised:,} supervised), "
        f"best of {ROUNDS} rounds each, load {os.getloadavg()[0]:.1f}: ours "
        f"{mine.tokens / mine.seconds:.0f} tokens/s, SFTTrainer {theirs.tokens / theirs.seconds:.0f} "
        f"tokens/s ({PEER}), ratio {theirs.seconds / mine.seconds:.2f} (to reach 1.7); mean loss of "
        f"the last third {end:.3f} and {their_end:.3f}, apart {abs(end - their_end):.3f}"
    )
    print(
        f"  of the {most / 1e9:.0f} GFLOP/s of a product on this {where}: ours {share:.0%}, SFTTrainer "
        f"{their_share:.0%}, with 4 x (weights x tokens + output layer x supervised tokens) FLOP"
    )


if __name__ == "__main__":
    main()
