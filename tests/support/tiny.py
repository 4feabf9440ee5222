"""A tiny random Llama with a real tokenizer and chat template, made in well under a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from train.conformance import CHAT_TEMPLATE, make_tiny, make_tokenizer, save_tiny

__all__ = [
    "CHAT_TEMPLATE",
    "HERMES",
    "make_byte_tokenizer",
    "make_encoder",
    "make_servable",
    "make_tiny",
    "make_tokenizer",
]


HERMES = (
    "{% if tools %}<|im_start|>system\nTools:{% for tool in tools %}\n{{ tool['function'] | tojson }}"
    "{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}"
    "{% if m['role'] == 'tool' %}<|im_start|>user\n<tool_response>\n{{ m['content'] }}\n</tool_response>"
    "{% else %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
    "{% for call in m.tool_calls or [] %}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n'
    "</tool_call>{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Tools, calls and results written as Hermes and Qwen do."""


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
        save_tiny(folder, tokenizer, seed, max_position_embeddings=2048)
    )
    with torch.no_grad():
        model.lm_head.weight[3 : 3 + 256] = 0.0  # never the largest
    model.save_pretrained(folder)
    return folder


def make_encoder(folder: Path, words: list[str]) -> Path:
    """A sentence-transformers model with random weights, which knows these words and letters."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import BertConfig, BertModel, BertTokenizerFast

    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *words,
        *"abcdefghijklmnopqrstuvwxyz",
    ]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=16).save_pretrained(
        folder / "bert"
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=16, max_position_embeddings=16, initializer_range=0.5,
        )  # fmt: skip
        BertModel(config).save_pretrained(folder / "bert")
    reader = Transformer(str(folder / "bert"), max_seq_length=16)
    model = SentenceTransformer(modules=[reader, Pooling(16)], device="cpu")
    model.save(str(folder / "whole"), create_model_card=False)
    return folder / "whole"
