"""Answers of a batch are those of `model.generate`, row by row."""

from itertools import combinations

import pytest

from tests.support.tiny import make_tiny
from train.methods.tuner import Setting
from train.model.inference import Generator
from train.model.student import load
from warehouse.errors import ModelError

PAD, NOWHERE = 0, 10_000
SHAPE = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.3,
    "max_position_embeddings": 128,
}  # fmt: skip


def made(family, **more):
    """A random model of a family; what it says varies and does not end by itself."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    config = AutoConfig.for_model(family, **{**SHAPE, **more})
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(config).eval()
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=[NOWHERE], pad_token_id=PAD
    )
    return model


def prompts(shared):
    import random

    chance = random.Random(0)
    start = [chance.randrange(1, 60) for _ in range(shared)]
    return [start + [chance.randrange(1, 60) for _ in range(n)] for n in (1, 9, 3, 14, 9, 2, 5)]


def alone(model, prompt, new):
    import torch

    output = model.generate(
        input_ids=torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=new,
    )
    said = output[0, len(prompt) :].tolist()
    ends = model.generation_config.eos_token_id
    return said[: next((n for n, token in enumerate(said, 1) if token in ends), None)]


def telling_ends(model, asked, new):
    """Two tokens that end some answers early, some late and some not at all."""
    model.generation_config.eos_token_id = [NOWHERE]
    said = [alone(model, prompt, new) for prompt in asked]
    for ends in combinations(sorted({token for tokens in said for token in tokens}), 2):
        lengths = {
            next((n for n, token in enumerate(tokens, 1) if token in ends), None) for tokens in said
        }
        if None in lengths and len(lengths) > 3:
            model.generation_config.eos_token_id = list(ends)
            return ends
    raise AssertionError("this model says too little that differs")


FAMILIES = [
    ("llama", {}),
    ("llama", {"attn_implementation": "eager"}),
    ("qwen3", {}),
    ("gpt2", {"n_positions": 128, "n_embd": 32, "n_layer": 2, "n_head": 4}),
    (
        "gemma2",
        {"sliding_window": 8, "tie_word_embeddings": False},
    ),  # its layers keep a window: left to model.generate
]


@pytest.mark.parametrize("shared", [0, 12])
@pytest.mark.parametrize(("family", "more"), FAMILIES)
def test_a_batch_says_row_by_row_what_generate_says(family, more, shared):
    from train.model.generation import greedy

    model, asked = made(family, **more), prompts(shared)
    ends = telling_ends(model, asked, 10)
    wanted = [alone(model, prompt, 10) for prompt in asked]
    assert len({len(said) for said in wanted}) > 2
    assert greedy(model, asked, 10, ends, PAD) == wanted


def test_which_models_are_decoded_here():
    from train.model.generation import _keeps_keys_and_values

    found = [_keeps_keys_and_values(made(family, **more)) for family, more in FAMILIES]
    assert found == [True, True, True, True, False]


def test_the_shared_start_is_read_once_and_ended_rows_leave():
    from train.model.generation import greedy

    model, asked = made("llama"), prompts(12)
    ends = telling_ends(model, asked, 10)
    lengths = [len(alone(model, prompt, 10)) for prompt in asked]
    seen = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    greedy(model, asked, 10, ends, PAD)
    steps = [(sum(length > step for length in lengths), 1) for step in range(1, max(lengths))]
    assert seen == [(1, 12), (7, 14), *steps]
    assert len({rows for rows, _ in steps}) > 2


def test_a_prompt_that_is_the_start_of_all_others_keeps_a_token_of_its_own():
    from train.model.generation import greedy

    model = made("llama")
    asked = [[*range(1, 20)], [*range(1, 11)], [*range(1, 14)], [*range(1, 20)]]
    wanted = [alone(model, prompt, 6) for prompt in asked]
    assert greedy(model, asked, 6, [NOWHERE], PAD) == wanted
    assert greedy(model, asked[1:2], 6, [NOWHERE], PAD) == wanted[1:2]


@pytest.mark.parametrize("name", ["lora", "prompt", "prefix", "p_tuning", "adapter"])
def test_a_tuned_model_says_row_by_row_what_its_own_generate_says(name, tmp_path):
    import torch

    from train.model.generation import greedy
    from warehouse import catalog

    tuner = catalog.build("tuner", {"use": name})
    model, tokenizer = load(str(make_tiny(tmp_path / "tiny")), tuner=tuner)
    row = {
        "prompt": [{"role": "user", "content": "Which organ? " * 8}],
        "completion": [{"role": "assistant", "content": "The heart"}],
    }
    model = tuner.attach(model, Setting(tokenizer, [row] * 4, 4))
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.eval()
    asked = [tokenizer("Water? " * n)["input_ids"] for n in (1, 4, 2)]
    ends = model.generation_config.eos_token_id
    wanted = [alone(model, prompt, 8) for prompt in asked]
    assert greedy(model, asked, 8, ends, tokenizer.pad_token_id) == wanted


def test_rows_at_once_fit_into_memory_in_batches_of_like_size(monkeypatch):
    from train.model import generation

    model = made("llama")
    taken = generation.row_bytes(model, 100)
    assert taken == 100 * (2 * 2 * 2 * 8 + 4 * 32 + 2 * 4 * 8 + 3 * 64) * 4 + 2 * 4 * 64
    monkeypatch.setattr(generation, "memory_there", lambda: 8 * 1000 * taken)
    assert [generation.rows_at_once(model, 100, rows) for rows in (1, 64, 65, 100, 130)] == [
        1, 64, 33, 50, 44,
    ]  # fmt: skip
    monkeypatch.setattr(generation, "memory_there", lambda: 8 * 10 * taken)
    assert generation.rows_at_once(model, 100, 64) == 10
    assert generation.rows_at_once(model, 50, 64) == 16
    monkeypatch.setattr(generation, "memory_there", lambda: 0)
    assert generation.rows_at_once(model, 100, 64) == 1


def test_a_batch_that_finds_no_memory_is_halved(tmp_path, monkeypatch):
    import torch

    from train.model import generation

    reader = Generator(str(make_tiny(tmp_path / "tiny")))
    asked = [[{"role": "user", "content": "Water? " * n}] for n in range(1, 8)]
    wanted = list(reader.answer(asked, 4))
    greedy, tried, room = generation.greedy, [], 2

    def cramped(model, prompts, *rest):
        tried.append(len(prompts))
        if len(prompts) > room:
            raise torch.OutOfMemoryError("no memory")
        return greedy(model, prompts, *rest)

    monkeypatch.setattr(generation, "greedy", cramped)
    steps = []
    found = list(reader.answer(asked, 4, advance=steps.append))
    assert [(one.index, one.text) for one in found] == [(one.index, one.text) for one in wanted]
    assert tried == [7, 3, 1, *[1] * 6]
    assert steps == [1] * 7
    room = 0
    with pytest.raises(
        ModelError, match=r"conversation 6, of \d+ tokens with its answer, does not"
    ):
        list(reader.answer(asked, 4))
