import time

import pytest

from warehouse.text.reasoning import find_control_mark, opened_reasoning, split_reasoning

HARMONY = (
    "<|channel|>analysis<|message|>They want a city.<|end|>"
    "<|start|>assistant<|channel|>final<|message|>Oslo<|return|>"
)


@pytest.mark.parametrize(
    ("text", "reasoning"),
    [
        ("<think>\nNorway, so\n</think>\n\nOslo", "Norway, so"),
        ("Norway, so\n</think>\n\nOslo", "Norway, so"),
        ("Norway</think>Oslo", "Norway"),
        ("</think>\n\nOslo", None),
        ("<think>\n\n</think>\n\nOslo", None),
        ("<THINK>Norway</Think>Oslo", "Norway"),
        ("<thinking>Norway</thinking>\nOslo", "Norway"),
        ("<thought>Norway</thought>\nOslo", "Norway"),
        ("<reasoning>Norway</reasoning>\nOslo", "Norway"),
        ("<seed:think>Norway</seed:think>Oslo", "Norway"),
        ("[THINK]Norway[/THINK]Oslo", "Norway"),
        ("[THOUGHTS]Norway[/THOUGHTS]\nOslo", "Norway"),
        ("<scratchpad>Norway</scratchpad>\nOslo", "Norway"),
        ("◁think▷Norway◁/think▷Oslo", "Norway"),
        (
            "<|begin_of_thought|>Norway<|end_of_thought|>\n"
            "<|begin_of_solution|>\nOslo\n<|end_of_solution|>",
            "Norway",
        ),
        (HARMONY, "They want a city."),
        (HARMONY.removeprefix("<|channel|>analysis<|message|>"), "They want a city."),
        ("<|channel|>final<|message|>Oslo", None),
        ("analysisThey want a city.assistantfinalOslo", "They want a city."),
        ("<think>a <think>b</think> c</think>Oslo", "a <think>b</think> c"),
        ("<think>run ```py\nx = 1</think>\nOslo", "run ```py\nx = 1"),
        ("<think>is `</think>` meant?</think>Oslo", "is `</think>` meant?"),
        ("<think>a</think><think>b</think>Oslo", "a\n\nb"),
    ],
)
def test_the_answer_is_what_follows_the_reasoning(text, reasoning):
    assert split_reasoning(text) == ("Oslo", reasoning)


@pytest.mark.parametrize(
    "text",
    [
        "<think>\nstill at",
        "[THINK]still at",
        "<|channel|>analysis<|message|>still at",
        "◁think▷still at",
    ],
)
def test_reasoning_that_was_cut_leaves_no_answer(text):
    assert split_reasoning(text, cut=True) == ("", "still at")


def test_reasoning_between_answers_is_taken_out():
    assert split_reasoning("Sure!\n<think>hm</think>\nOslo") == ("Sure!\nOslo", "hm")
    assert split_reasoning("Oslo.\n<think>\nOr is", cut=True) == ("Oslo.\n", "Or is")


@pytest.mark.parametrize(
    "text",
    [
        "Oslo",
        "The <think> tag begins its reasoning.",
        "The tag </think> ends it.",
        "Write `<think>` before and `</think>` after it.",
        "```xml\n<think>\nhm\n</think>\n```\nSo it looks.",
        "Put it between <think> and </think>.",
        "<answer>\n  <reasoning>because</reasoning>\n</answer>",
        "if a < b and c[0] > d: analysis",
        "analysis of the poem",
        "gpt-oss writes `<|channel|>final<|message|>` first.",
    ],
)
def test_a_text_that_speaks_of_marks_keeps_them(text):
    assert split_reasoning(text) == (text, None)
    assert split_reasoning(text, cut=True) == (text, None)


def test_reading_an_answer_again_changes_nothing():
    for text in (
        HARMONY,
        "a</think>b</think>\nc",
        "<think>x</think> y </think> Z",
        "Sure!\n<think>hm",
    ):
        for cut in (False, True):
            answer, _ = split_reasoning(text, cut)
            assert split_reasoning(answer, cut) == (answer, None)


def test_a_prompt_that_opens_the_reasoning_is_known():
    assert opened_reasoning("<|im_start|>assistant\n<think>\n") == "<think>\n"
    assert opened_reasoning("<|im_start|>assistant\n<think>\n\n</think>\n\n") == ""
    assert opened_reasoning("<|im_start|>assistant\n") == ""


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("Oslo<|im_end|>", "<|im_end|>"),
        ("Oslo</s>", "</s>"),
        ("Oslo [/INST] and", "[/INST]"),
        ("Put it between <think> and </think>.", "</think>"),
        ("Oslo<｜end▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
        ("<<SYS>> be brief", "<<SYS>>"),
        ("Oslo<end_of_turn>", "<end_of_turn>"),
        ("Oslo\n<think>\nor", "<think>"),
        ("Oslo", None),
        ("A model ends with `<|im_end|>`.", None),
        ("```\n<|im_start|>user\n```", None),
        ("Was <s>Bergen</s> Oslo", None),
        ("x <| f |> g, a[0] < 1", None),
        ("The <think> tag begins it.", None),
    ],
)
def test_control_marks_that_are_left_are_found(text, mark):
    assert find_control_mark(text) == mark


@pytest.mark.parametrize(
    "part",
    ["</think> ", "<think>", "<think>\n", "`", "``` `` ` ", "</s>", "<|channel|>", "[/think] `<"],
)
def test_a_megabyte_of_marks_is_read_in_seconds(part):
    text = part * (300_000 // len(part)) + "</think>"
    started = time.perf_counter()
    answer, _ = split_reasoning(text, cut=True)
    find_control_mark(answer)
    assert time.perf_counter() - started < 10
