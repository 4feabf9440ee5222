import pytest

from tests.tiny import CHAT_TEMPLATE, make_tokenizer
from train.audit import CUT_OFF, EMPTY, audit, inspect_rows
from warehouse.errors import StageError


def row(question, answer):
    return {
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": answer}],
    }


ROWS = [row(f"What gas do plants take in? {n}", "carbon dioxide") for n in range(40)]


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


def test_figures_are_counted(tokenizer):
    found = audit([*ROWS, ROWS[0], row("Which organ?", " ")], tokenizer, 128)
    assert (found["rows_in"], found["rows_kept"], found["duplicates"]) == (42, 41, 1)
    assert found["rows_dropped"] == {EMPTY: 1}
    assert (found["truncated"], found["missing_end"], found["merged_boundaries"]) == (0, 0, 0)
    assert 41 * 3 <= found["supervised_tokens"] < found["tokens"]
    assert sum(found["lengths"].values()) == 41
    assert len(found["examples"]) == 3


def test_supervised_text_is_the_answer_and_its_end_only(tokenizer):
    example = audit(ROWS, tokenizer, 128)["examples"][0]
    assert example["supervised"] == "carbon dioxide<|im_end|>\n"
    assert example["text"] == (
        "<|im_start|>user\nWhat gas do plants take in? 0<|im_end|>\n"
        "<|im_start|>assistant\ncarbon dioxide<|im_end|>\n"
    )


def test_a_few_cut_off_rows_are_dropped_and_counted(tokenizer):
    found = inspect_rows([*ROWS, row("Water boils. " * 60, "yes")], tokenizer, 128)
    assert found.rows == ROWS
    assert found.figures["rows_dropped"] == {CUT_OFF: 1}
    assert found.figures["truncated_share"] == pytest.approx(1 / 41)


def test_a_partly_truncated_answer_is_counted_and_kept(tokenizer):
    found = audit([*ROWS, row("Water?", "boils at one hundred degrees " * 40)], tokenizer, 128)
    assert (found["rows_kept"], found["truncated"], found["missing_end"]) == (41, 1, 0)


def test_more_than_five_percent_truncated_is_refused(tokenizer):
    long = [row(f"Water? {n}", "boils at one hundred degrees " * 40) for n in range(3)]
    with pytest.raises(StageError, match=r"3 of 43 rows are longer than train.max_length = 128"):
        audit([*ROWS, *long], tokenizer, 128)


@pytest.mark.parametrize("rows", [[row("Water?", "")], [row("Water boils. " * 60, "yes")]])
def test_rows_with_nothing_to_learn_are_refused(tokenizer, rows):
    with pytest.raises(StageError, match="none of 1 rows has a completion to learn from") as caught:
        audit(rows, tokenizer, 64)
    assert "\n" not in str(caught.value)


def test_a_template_that_never_ends_the_turn_is_refused():
    endless = CHAT_TEMPLATE.replace("<|im_end|>", "")
    with pytest.raises(StageError, match="40 of 40 rows are rendered without an end-of-answer"):
        audit(ROWS, make_tokenizer(endless), 128)


def test_a_template_that_asks_otherwise_than_it_trains_is_refused():
    thinking = CHAT_TEMPLATE.replace("assistant\n{% endif", "assistant\n<think>{% endif")
    with pytest.raises(StageError, match="differently in training and in use") as caught:
        audit(ROWS, make_tokenizer(thinking), 128)
    assert "\n" not in str(caught.value)


def test_a_prompt_that_merges_with_the_answer_is_refused():
    glued = CHAT_TEMPLATE.replace("{{ message['role'] }}\n", "{{ message['role'] }} ").replace(
        "assistant\n", "assistant "
    )
    with pytest.raises(StageError, match="joined across prompt and completion"):
        audit([row(f"Which? {n}", "heart") for n in range(3)], make_tokenizer(glued), 128)


def test_other_end_tokens_are_honoured(tokenizer):
    with pytest.raises(StageError, match="without an end-of-answer token"):
        audit(ROWS, tokenizer, 128, end_ids=[tokenizer.pad_token_id])
    assert audit(ROWS, tokenizer, 128, end_ids=[0, tokenizer.eos_token_id])["missing_end"] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": [], "completion": [{"role": "assistant", "content": "x"}]},
        {"prompt": "text", "completion": "text"},
        {"prompt": [{"role": "user", "content": "x"}], "completion": []},
        {"prompt": [{"role": "user"}], "completion": [{"role": "assistant", "content": "x"}]},
    ],
)
def test_malformed_rows_are_named(tokenizer, wrong):
    with pytest.raises(StageError, match="training row 2"):
        audit([ROWS[0], wrong], tokenizer, 128)


def test_no_rows_is_said(tokenizer):
    with pytest.raises(StageError, match="no rows to train on"):
        audit([], tokenizer, 128)
