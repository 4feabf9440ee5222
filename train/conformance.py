"""Check that a tuner does what every one has to do, whoever wrote it.

Each function raises AssertionError that says what is wrong, so that any test runner will do.
`make_tiny` makes a model to try a tuner on, in well under a second and without a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.config import SftConfig
from train.dataset import TrainingRow
from train.loop.sft import TrainerInputs, TrainingHooks, TrainingResult, sft_trainer, train_student
from train.methods.tuner import Tuner
from train.model.student import load

MIXED_CONVERSATIONS = [
    [{"role": "user", "content": text}]
    for text in ("Water?", "Which organ pumps blood through the body? " * 2, "What gas?")
]
"""Conversations of different lengths, so that a batch of them is padded."""

SENTENCES = [
    "What gas do plants take in? Plants take in carbon dioxide and give off oxygen.",
    "Which organ pumps blood through the body? The heart pumps blood.",
    "Water boils at one hundred degrees and freezes at zero.",
    "You are a helpful assistant. Answer in a few words.",
]

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def check_tuner(tuner: Tuner, base: str | Path, folder: Path, steps: int = 2) -> TrainingResult:
    """Train a student for a few steps, and check what every tuner has to hold.

    Args:
        tuner: The tuner.
        base: A small base model: a folder such as `make_tiny` makes, an asset or a hub id.
        folder: An empty folder, for the student.
        steps: Optimiser steps to train.

    Returns:
        The training's result.
    """
    check_tuner_settings(tuner)
    models: list[Any] = []

    def build(inputs: TrainerInputs) -> Any:
        models.append(inputs.model)
        return sft_trainer(inputs)

    rows: list[TrainingRow] = [
        {
            "prompt": [{"role": "user", "content": "Which organ pumps blood?"}],
            "completion": [{"role": "assistant", "content": "The heart"}],
        }
    ] * (2 * steps)
    config = SftConfig(epochs=1, batch_size=2, max_length=256, warmup_ratio=0.0)
    hooks = TrainingHooks(build_trainer=build)
    result = train_student(str(base), tuner, rows, config, folder / "student", hooks=hooks)
    _require(sum("loss" in entry for entry in result.losses) == steps, "steps without a loss")
    check_student(str(base), tuner, result, models[0].eval())
    return result


def check_tuner_settings(tuner: Tuner) -> None:
    """Check what a tuner says of itself; loads no model."""
    _require(bool(tuner.source), "source does not say where the method is published")
    _require(isinstance(tuner.mergeable, bool), "mergeable is not true or false")
    _require(1e-6 <= tuner.learning_rate <= 1, f"learning_rate is {tuner.learning_rate}")
    faults = tuner.faults(SftConfig())
    _require(not faults, f"it refuses the trainer's default options: {'; '.join(faults)}")
    _require(
        tuner.prompt_learning == (tuner.virtual_tokens > 0),
        "prompt_learning and virtual_tokens go together",
    )


def check_student(base: str, tuner: Tuner, result: TrainingResult, trained: Any) -> None:
    """Check a student: that it is restored as it was trained, and can be merged if it says so.

    Args:
        base: The base it was trained on.
        tuner: The tuner that trained it.
        result: What the training returned.
        trained: The model as the training left it.
    """
    endings = {path.suffix for path in result.path.iterdir()} - {".py"}
    _require(endings == {".safetensors", ".json"}, f"a student of other files: {sorted(endings)}")
    _require(result.trainable_parameters > 0, "nothing is trained")
    untrained, tokenizer = load(base)
    before, after = logits_of(untrained, tokenizer), logits_of(trained, tokenizer)
    _require(_distance(before, after) > 0, "the student says what the base says")
    restored, _ = load(base, result.path)
    _require(
        _distance(logits_of(restored, tokenizer), after) < 1e-3,
        "the restored student does not say what the trained model said; see save and restore",
    )
    if tuner.mergeable:
        merged = tuner.merged(restored)
        _require(type(merged) is type(untrained), f"merged into a {type(merged).__name__}")
        _require(
            _distance(logits_of(merged, tokenizer), after) < 1e-2,
            "the merged model does not say what the student said",
        )


def logits_of(model: Any, tokenizer: Any, conversations: Sequence[Any] = ()) -> Any:
    """What a model says at every token of some conversations, asked in one padded batch."""
    import torch

    texts = [
        tokenizer.apply_chat_template(conversation, tokenize=False)
        for conversation in conversations or MIXED_CONVERSATIONS
    ]
    inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    mask = inputs["attention_mask"]
    with torch.inference_mode():
        logits = model.eval()(
            input_ids=inputs["input_ids"].to(model.device),
            attention_mask=mask.to(model.device),
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0).to(model.device),
        ).logits.cpu()
    return logits[:, -mask.shape[1] :][mask.bool()].float()


def make_tiny(folder: Path, seed: int = 0, chat_template: str = CHAT_TEMPLATE) -> Path:
    """Save a tiny random Llama and its tokenizer; the same seed makes the same weights."""
    return save_tiny(folder, make_tokenizer(chat_template), seed)


def make_tokenizer(chat_template: str = CHAT_TEMPLATE) -> Any:
    """A byte-level BPE tokenizer trained on a few sentences."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=["<|pad|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(SENTENCES, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<|pad|>", eos_token="<|im_end|>", bos_token="<|im_start|>"
    )
    tokenizer.chat_template = chat_template
    return tokenizer


def save_tiny(
    folder: Path, tokenizer: Any, seed: int = 0, max_position_embeddings: int = 512
) -> Path:
    """Save a tiny random Llama for a tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=max_position_embeddings,
        initializer_range=0.2,  # so that it can become sure of something
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: Any = LlamaForCausalLM(config)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _distance(left: Any, right: Any) -> float:
    return float((left - right).abs().max())


def _require(holds: bool, fault: str) -> None:
    if not holds:
        raise AssertionError(fault)
