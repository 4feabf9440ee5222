"""What has to be right on a GPU, each as a function of the device; on a CPU it runs as well.

Every function raises AssertionError where it is not right, and returns what it measured in words.
The device is the one that the product takes by itself: run with CUDA_VISIBLE_DEVICES="" for a CPU.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from distill.learning.objective import TrainingInputs
from quality.conformance import sample_of
from tests.bench.toxicity import make_checkpoint
from tests.gpu.worlds import TINY, make_base, make_rows
from train.config import SftConfig
from train.conformance import logits_of
from train.loop.callbacks import Step, TrainingCallbacks
from train.loop.sft import TrainingResult, train_student
from train.methods.tuner import Tuner
from train.model.device import device, has_bfloat16, has_flash_attention
from train.model.inference import Generator
from train.model.student import load
from train.tuners.full import Full
from train.tuners.lora import Lora
from train.tuners.prefix import Prefix
from warehouse.errors import Stopped

TUNERS: dict[str, Tuner] = {
    "lora": Lora(rank=4, alpha=8, dropout=0.0),
    "prefix": Prefix(),
    "full": Full(),
}
"""The ways to train that are checked."""


class NotHere(Exception):
    """This machine lacks what a check needs; the message names it."""


def require_device(where: str) -> None:
    """See that the product takes this device, "cpu" or "cuda".

    Raises:
        NotHere: it takes another one.
    """
    if not device().startswith(where):
        raise NotHere(f"no GPU here: the device is {device()}" if where == "cuda" else device())


def trains(where: str, tuner: str, folder: Path, packing: bool = False) -> str:
    """A student of each tuner learns its rows, is finite, and answers after it is loaded again.

    In bfloat16 on a GPU that has it, in float32 on a CPU.

    Raises:
        NotHere: `packing` without FlashAttention.
    """
    require_device(where)
    if packing and not has_flash_attention():
        raise NotHere("packing needs FlashAttention beside a GPU")
    base = make_base(folder / "base", TINY)
    config = SftConfig(
        epochs=6, batch_size=4, max_length=128, save_steps=0, packing=packing, warmup_ratio=0.0
    )
    result = train_student(base, TUNERS[tuner], make_rows(16), config, folder / "student")
    first, last = result.losses[0]["loss"], result.losses[-1]["loss"]
    assert last < first, f"the loss rose from {first:.3f} to {last:.3f}"
    model, tokenizer = load(base, result.path)
    assert logits_of(model, tokenizer).isfinite().all()
    return f"loss {first:.3f} to {last:.3f}"


def without_flash_attention(where: str, tuner: str, folder: Path) -> str:
    """The loss without FlashAttention is near the one with it, where there is any."""
    require_device(where)
    if not has_flash_attention():
        raise NotHere("FlashAttention beside a GPU is needed for this comparison")
    base = make_base(folder / "base", TINY)
    config = SftConfig(epochs=2, batch_size=4, max_length=128, save_steps=0)
    found = []
    for name, flash in (("with", True), ("without", False)):
        with mock.patch("train.model.student.has_flash_attention", lambda flash=flash: flash):
            result = train_student(base, TUNERS[tuner], make_rows(16), config, folder / name)
        found.append(result.losses[-1]["loss"])
    assert abs(found[0] - found[1]) < 0.05 * found[1], found
    return f"loss {found[0]:.4f} with, {found[1]:.4f} without"


def exact(where: str, folder: Path) -> str:
    """Logits in float32 are those of a CPU that reads each conversation alone, without padding."""
    require_device(where)
    import torch

    base = make_base(folder / "base", TINY)
    model, tokenizer = load(base, exact=True)
    conversations = [list(row["prompt"]) for row in make_rows(6)]
    with _full_float32():
        here = logits_of(model, tokenizer, conversations)
        alone = torch.cat([logits_of(model.cpu(), tokenizer, [one]) for one in conversations])
    apart = float((here - alone).abs().max())
    assert apart < 1e-3, f"logits differ by {apart:.1e}"
    return f"logits differ by {apart:.1e}"


def trains_exactly(where: str, tuner: str, folder: Path) -> str:
    """In float32 a student has the losses of one that is trained in a process without a GPU."""
    require_device(where)
    from distill.learning.multiprocess import train_in_processes
    from distill.objectives.sequence import Sequence

    base = make_base(folder / "base", TINY)
    config = SftConfig(epochs=2, batch_size=4, max_length=128, save_steps=0, learning_rate=1e-3)
    here, there = (
        _inputs(base, TUNERS[tuner], config, folder / name) for name in ("here", "there")
    )
    with _full_float32(), _no_bfloat16():
        found = train_in_processes(Sequence(), here)
    with mock.patch.dict(os.environ, {"CUDA_VISIBLE_DEVICES": ""}):
        on_cpu = train_in_processes(Sequence(), there, alone=True)
    apart = _largest_difference(found, on_cpu)
    assert apart < 1e-3, f"losses differ by {apart:.1e}"
    return f"losses differ from a CPU's by {apart:.1e}"


def resumes(where: str, folder: Path) -> str:
    """A training that was stopped goes on to the losses of one that was not."""
    require_device(where)
    base = make_base(folder / "base", TINY)
    config = SftConfig(epochs=2, batch_size=4, max_length=128, save_steps=2)
    rows, tuner = make_rows(16), Lora(rank=4, alpha=8, dropout=0.1)
    whole = train_student(base, tuner, rows, config, folder / "whole")
    seen: list[Step] = []
    callbacks = TrainingCallbacks(step=seen.append, stop=lambda: len(seen) >= 3)
    try:
        train_student(base, tuner, rows, config, folder / "halves", callbacks)
    except Stopped:
        pass
    else:
        raise AssertionError("the training did not stop")
    resumed = train_student(base, tuner, rows, config, folder / "halves")
    apart = _largest_difference(whole, resumed)
    assert apart < (1e-5 if where == "cpu" else 1e-2), f"losses differ by {apart:.1e}"
    return f"losses differ by {apart:.1e}"


def shares_a_batch(where: str, folder: Path) -> str:
    """Two processes, one per GPU, learn what one learns.

    Raises:
        NotHere: there is a single GPU.
    """
    require_device(where)
    import torch

    from distill.learning.multiprocess import train_in_processes
    from distill.objectives.sequence import Sequence

    if where == "cuda" and torch.cuda.device_count() < 2:
        raise NotHere("a second GPU is needed: each process takes one")
    base = make_base(folder / "base", TINY)
    found = []
    for processes in (1, 2):
        config = SftConfig(
            epochs=2, batch_size=4, max_length=128, save_steps=0, processes=processes
        )
        inputs = _inputs(base, TUNERS["lora"], config, folder / str(processes))
        found.append(train_in_processes(Sequence(), inputs))
    apart = _largest_difference(*found)
    assert apart < (2e-3 if where == "cpu" else 2e-2), f"losses differ by {apart:.1e}"
    return f"losses differ by {apart:.1e}"


def detoxify_scores(where: str, folder: Path) -> str:
    """Detoxify in bfloat16 scores as it does in float32 on a CPU, to two hundredths."""
    require_device(where)
    from detoxify import Detoxify

    from quality.scorers.toxicity import Toxicity

    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
             "intermediate_size": 64, "initializer_range": 0.3}  # fmt: skip
    words = ("good", "bad", "day", "##s", "night", "eye")
    folder.mkdir(parents=True, exist_ok=True)
    file = make_checkpoint(folder, words, ("toxic", "insult"), **shape)
    texts = ["good day", "bad bad night", "eye " * 30, "bad eyes good nights"]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    scorer = Toxicity(checkpoint=str(file), checkpoint_config=str(file.parent), sha256=digest)
    with mock.patch.dict(os.environ, {"STILLHOUSE_CACHE": str(folder / "cache")}):
        samples = [replace(sample_of("x"), completion=text) for text in texts]
        found = [score.value for score in scorer.score(samples)]
    plain = Detoxify(checkpoint=str(file), huggingface_config_path=str(file.parent))
    theirs = plain.predict(texts)["toxicity"]
    apart = max(abs(one - other) for one, other in zip(found, theirs, strict=True))
    assert apart < (1e-5 if where == "cpu" else 2e-2), f"scores differ by {apart:.1e}"
    return f"scores differ by {apart:.1e}"


def generates(where: str, folder: Path) -> str:
    """Batched answers are those of transformers' `generate` for each prompt alone.

    In float32 all of them; in bfloat16, whose ties fall either way, at least four fifths.
    """
    require_device(where)
    base = make_base(folder / "base", TINY)
    conversations = [list(row["prompt"]) for row in make_rows(10)]
    generator = Generator(base)
    ours = sorted(generator.answer(conversations, 12), key=lambda one: one.index)
    theirs = [plainly_generated(generator, conversation, 12) for conversation in conversations]
    same = sum(one.text.strip() == text for one, text in zip(ours, theirs, strict=True))
    least = len(theirs) if not has_bfloat16() else 0.8 * len(theirs)
    assert same >= least, f"{same} of {len(theirs)} answers are the same"
    return f"{same} of {len(theirs)} answers are the same"


def plainly_generated(generator: Generator, conversation: Any, new_tokens: int) -> str:
    """What transformers' `generate` answers to one conversation."""
    import torch

    from train.dataset import render

    model, tokenizer = generator.model, generator.tokenizer
    inputs = tokenizer(
        render(tokenizer, conversation), return_tensors="pt", add_special_tokens=False
    ).to(model.device)
    with torch.inference_mode():
        ids = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=new_tokens,
        )
    new = ids[0, inputs["input_ids"].shape[1] :]
    text: str = tokenizer.decode(new, skip_special_tokens=True)
    return text.strip()


def _inputs(base: str, tuner: Tuner, config: SftConfig, out: Path) -> TrainingInputs:
    samples = [sample_of("The heart", f"Which organ? {number}") for number in range(10)]
    return TrainingInputs(base, tuner, samples, config, out)


def _largest_difference(one: TrainingResult, other: TrainingResult) -> float:
    steps = zip(one.losses, other.losses, strict=True)
    return max(abs(left["loss"] - right["loss"]) for left, right in steps)


@contextmanager
def _full_float32() -> Iterator[None]:
    """Products in float32 without TF32."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def _no_bfloat16() -> Iterator[None]:
    no = mock.Mock(return_value=False)
    with (
        mock.patch("train.loop.sft.has_bfloat16", no),
        mock.patch("train.model.student.has_bfloat16", no),
        mock.patch("train.model.device.has_bfloat16", no),
    ):
        yield
