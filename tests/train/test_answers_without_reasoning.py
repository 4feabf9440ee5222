"""What a local model answers is graded and trained on without its reasoning."""

from types import SimpleNamespace

import pytest

from tests.support.tiny import make_tokenizer
from train.model.inference import Generator

MARKS = ["[THINK]", "[/THINK]"]


@pytest.fixture(scope="module")
def generator():
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": MARKS})
    config = SimpleNamespace(max_position_embeddings=128)
    ends = SimpleNamespace(eos_token_id=[tokenizer.eos_token_id])
    model = SimpleNamespace(config=config, generation_config=ends)
    return Generator("base", loaded=(model, tokenizer))


@pytest.mark.parametrize(
    ("generated", "opened", "answer", "reasoning", "finish_reason"),
    [
        ("The heart<|im_end|>", "", "The heart", None, "stop"),
        ("The hea", "", "The hea", None, "length"),
        ("<think>\n\n</think>\n\nThe heart<|im_end|>", "", "The heart", None, "stop"),
        ("<think>Blood</think>The heart<|im_end|>", "", "The heart", "Blood", "stop"),
        ("Blood</think>The heart<|im_end|>", "<think>\n", "The heart", "Blood", "stop"),
        ("Blood", "<think>\n", "", "Blood", "length"),
        ("The heart<|im_end|>", "<think>\n", "The heart", None, "stop"),
        ("[THINK]Blood[/THINK]The heart<|im_end|>", "", "The heart", "Blood", "stop"),
        ("The <|pad|>heart<|im_end|>", "", "The heart", None, "stop"),
    ],
)
def test_an_answer_is_read_as_a_reply_is(
    generator, generated, opened, answer, reasoning, finish_reason
):
    ids = generator.tokenizer(generated, add_special_tokens=False)["input_ids"]
    assert generator._answer_of(ids, opened) == (answer, reasoning, finish_reason)
