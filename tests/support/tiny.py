"""A tiny random Llama with a real tokenizer and chat template, made in well under a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


def make_tiny(folder: Path, seed: int = 0, chat_template: str = CHAT_TEMPLATE) -> Path:
    """Save a tiny model and its tokenizer as a safetensors folder; same seed, same weights."""
    return _save(folder, make_tokenizer(chat_template), seed)


def _save(folder: Path, tokenizer: Any, seed: int, max_position_embeddings: int = 512) -> Path:
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


def make_byte_tokenizer(chat_template: str = CHAT_TEMPLATE) -> Any:
    """One token per character: of the few kinds that a GGUF can hold without being known by name."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "<|im_start|>", "<|im_end|>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words += ["\u2581", *(chr(code) for code in range(33, 127))]
    vocabulary = {word: number for number, word in enumerate(words)}
    bpe = Tokenizer(models.BPE(vocabulary, merges=[], unk_token="<unk>", byte_fallback=True))
    bpe.normalizer = normalizers.Replace(" ", "\u2581")
    bpe.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        unk_token="<unk>",
        pad_token="<|im_end|>",
        eos_token="<|im_end|>",
        bos_token="<|im_start|>",
        add_prefix_space=False,
    )
    tokenizer.chat_template = chat_template
    return tokenizer


def make_servable(folder: Path, seed: int = 0, chat_template: str = CHAT_TEMPLATE) -> Path:
    """A tiny model that can be converted to GGUF; it says printable characters only."""
    import torch
    from transformers import LlamaForCausalLM

    tokenizer = make_byte_tokenizer(chat_template)
    model: Any = LlamaForCausalLM.from_pretrained(
        _save(folder, tokenizer, seed, max_position_embeddings=2048)
    )
    with torch.no_grad():
        model.lm_head.weight[3 : 3 + 256] = 0.0  # never the largest
    model.save_pretrained(folder)
    return folder
