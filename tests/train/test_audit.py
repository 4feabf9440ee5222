import pytest

from tests.support.teaching import inspect_rows
from tests.support.tiny import CHAT_TEMPLATE, make_tokenizer
from train.audit.audit import CONTROL, CUT_OFF, DIFFERING, EMPTY, audit_rows, refusal
from train.audit.held_out_overlap import HeldOutTexts
from warehouse.errors import DataError, NothingToDoError, TrainingError


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
    found = inspect_rows([*ROWS, ROWS[0], row("Which organ?", " ")], tokenizer, 128).figures
    assert (found["rows_in"], found["rows_kept"], found["duplicates"]) == (42, 41, 1)
    assert found["rows_dropped"] == {EMPTY: 1}
    assert (found["truncated"], found["missing_end"], found["merged_boundaries"]) == (0, 0, 0)
    assert 41 * 3 <= found["supervised_tokens"] < found["tokens"]
    assert sum(found["lengths"].values()) == 41
    assert len(found["examples"]) == 3


def test_texts_that_hold_control_tokens_are_dropped_and_counted():
    tokenizer = make_tokenizer(CHAT_TEMPLATE + "{# <think> #}")
    tokenizer.add_tokens(["<think>", "Q1"])
    bad = [row("What ends a turn? <|im_end|>", "that"), row("Why?", "<think>hm"), row("Q1", "yes")]
    found = inspect_rows([*ROWS, *bad], tokenizer, 128).figures
    assert (found["rows_kept"], found["rows_dropped"]) == (41, {CONTROL: 2})


def test_supervised_text_is_the_answer_and_its_end_only(tokenizer):
    example = inspect_rows(ROWS, tokenizer, 128).figures["examples"][0]
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
    found = inspect_rows(
        [*ROWS, row("Water?", "boils at one hundred degrees " * 40)], tokenizer, 128
    ).figures
    assert (found["rows_kept"], found["truncated"], found["missing_end"]) == (41, 1, 0)


def test_more_than_five_percent_truncated_is_refused(tokenizer):
    long = [row(f"Water? {n}", "boils at one hundred degrees " * 40) for n in range(3)]
    with pytest.raises(TrainingError, match=r"3 of 43 rows are longer than train.max_length = 128"):
        inspect_rows([*ROWS, *long], tokenizer, 128)


@pytest.mark.parametrize("rows", [[row("Water?", "")], [row("Water boils. " * 60, "yes")]])
def test_rows_with_nothing_to_learn_are_refused(tokenizer, rows):
    with pytest.raises(
        TrainingError, match="none of 1 row has a completion to learn from"
    ) as caught:
        inspect_rows(rows, tokenizer, 64)
    assert "\n" not in str(caught.value)


def test_a_template_that_never_ends_the_turn_is_refused():
    endless = CHAT_TEMPLATE.replace("<|im_end|>", "")
    with pytest.raises(TrainingError, match="40 of 40 rows are rendered without an end-of-answer"):
        inspect_rows(ROWS, make_tokenizer(endless), 128)


def test_a_template_that_asks_otherwise_than_it_trains_is_refused():
    thinking = CHAT_TEMPLATE.replace("assistant\n{% endif", "assistant\n<think>{% endif")
    with pytest.raises(TrainingError, match="differently in training and in use") as caught:
        inspect_rows(ROWS, make_tokenizer(thinking), 128)
    assert "\n" not in str(caught.value)


def test_a_prompt_that_merges_with_the_answer_is_refused():
    glued = CHAT_TEMPLATE.replace("{{ message['role'] }}\n", "{{ message['role'] }} ").replace(
        "assistant\n", "assistant "
    )
    with pytest.raises(TrainingError, match="joined across prompt and completion"):
        inspect_rows([row(f"Which? {n}", "heart") for n in range(3)], make_tokenizer(glued), 128)


def test_other_end_tokens_are_honoured(tokenizer):
    with pytest.raises(TrainingError, match="without an end-of-answer token"):
        inspect_rows(ROWS, tokenizer, 128, end_ids=[tokenizer.pad_token_id])
    assert (
        inspect_rows(ROWS, tokenizer, 128, end_ids=[0, tokenizer.eos_token_id]).figures[
            "missing_end"
        ]
        == 0
    )


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
    with pytest.raises(DataError, match="training row 2"):
        inspect_rows([ROWS[0], wrong], tokenizer, 128)


def test_no_rows_is_said(tokenizer):
    with pytest.raises(NothingToDoError, match="no rows to train on"):
        inspect_rows([], tokenizer, 128)


THINKING = CHAT_TEMPLATE.replace("assistant\n{% endif", "assistant\n<think>{% endif")
ENDLESS = CHAT_TEMPLATE.replace("<|im_end|>", "")


def test_what_a_refusal_is_about_is_told_before_it(tokenizer):
    """Looking never refuses; the figures say what the refusal is made of."""
    asked_otherwise = audit_rows(ROWS, make_tokenizer(THINKING), 128).figures
    assert asked_otherwise["differing"] == 40
    assert asked_otherwise["rows_dropped"] == {DIFFERING: 40}
    assert "asked with" in asked_otherwise["difference"]
    endless = audit_rows(ROWS, make_tokenizer(ENDLESS), 128).figures
    assert (endless["missing_end"], endless["ends"]) == (40, {})
    assert endless["serving_ends"] == ["<|im_end|>"]
    fine = audit_rows(ROWS, tokenizer, 128).figures
    assert (fine["differing"], fine["difference"]) == (0, None)
    assert fine["ends"] == {"<|im_end|>": 40}
    assert refusal(fine) is None


def test_what_ends_an_answer_and_where_serving_stops_are_two_figures(tokenizer):
    found = audit_rows(
        ROWS, tokenizer, 128, [tokenizer.pad_token_id, tokenizer.eos_token_id]
    ).figures
    assert found["ends"] == {"<|im_end|>": 40}
    assert found["serving_ends"] == ["<|pad|>", "<|im_end|>"]


@pytest.mark.parametrize(
    ("template", "allowed", "told"),
    [
        (ENDLESS, ["missing_end"], None),
        (ENDLESS, ["truncated"], "without an end-of-answer token"),
        (THINKING, ["missing_end", "truncated", "merged_boundaries"], "40 of 40 rows: the chat"),
    ],
)
def test_the_plan_may_allow_some_faults_and_never_another_prompt(template, allowed, told):
    figures = audit_rows(ROWS, make_tokenizer(template), 128).figures
    said = refusal(figures, allowed)
    assert told in said if told else said is None


def test_nothing_to_learn_from_can_not_be_allowed(tokenizer):
    figures = audit_rows([row("Water boils. " * 60, "yes")], tokenizer, 64).figures
    assert figures["supervised_tokens"] == 0
    everything = ["truncated", "missing_end", "merged_boundaries"]
    assert "has a completion to learn from" in refusal(figures, everything)


def test_truncation_may_be_allowed(tokenizer):
    long = [row(f"Water? {n}", "boils at one hundred degrees " * 40) for n in range(3)]
    assert (
        inspect_rows([*ROWS, *long], tokenizer, 128, allow=["truncated"]).figures["truncated"] == 3
    )


def test_an_example_is_its_prompt_and_its_supervised_end(tokenizer):
    """Also where the supervised span is cut in the middle of a character."""
    example = audit_rows([row("Water?", "🙂🙂")], tokenizer, 30).figures["examples"][0]
    assert example["text"].endswith(example["supervised"])
    assert example["supervised"].startswith("🙂")


PASSAGE = "The otter with number 7 lives by the river and is brown."


@pytest.mark.parametrize(
    ("prompt", "completion", "found"),
    [
        ("what   IS it", "x", "What is it?"),
        ("Tell me: what is it?", "x", None),  # too short to be a quotation
        ("Please say: which organ pumps blood through it?", "x", "Which organ pumps blood through it?"),
        ("Please say: which organ pumps blood", "x", None),
        (f"Read this. {PASSAGE} What colour is it?", "x", PASSAGE),
        ("Say something.", f"I know that {PASSAGE.lower()}", PASSAGE),
        ("Colour?", "brown", None),
        ("你知道水为什么会在一百度时沸腾而在零度时结冰吗请告诉我", "x", "水为什么会在一百度时沸腾而在零度时结冰吗"),
    ],
)  # fmt: skip
def test_a_held_out_item_is_found_in_a_row(prompt, completion, found):
    held_out = HeldOutTexts(
        [
            ("What is it?", None),
            ("Which organ pumps blood through it?", PASSAGE),
            ("水为什么会在一百度时沸腾而在零度时结冰吗", "brown"),
            ("???", None),
        ]
    )
    assert held_out.found_in(row(prompt, completion)) == found


def test_a_held_out_item_among_the_rows_is_refused_whatever_is_allowed(tokenizer):
    held_out = HeldOutTexts([("What gas do plants take in? 7", None), ("Which organ?", None)])
    figures = audit_rows(ROWS, tokenizer, 128, held_out=held_out).figures
    shown = ["What gas do plants take in? 7"]
    assert figures["held_out_overlap"] == {"items": 2, "rows": 1, "shown": shown}
    everything = ["truncated", "missing_end", "merged_boundaries"]
    assert "1 of 40 rows contain a held-out item, such as" in refusal(figures, everything)
    clean = audit_rows(ROWS[:7], tokenizer, 128, held_out=held_out).figures
    assert clean["held_out_overlap"]["rows"] == 0
    assert refusal(clean) is None
