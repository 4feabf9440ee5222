"""Negative controls: a teacher that gives one answer to all, another item's, a copy or nothing.

Of these, each recipe that verifies its replies keeps nothing but what happens to be right, and counts
why not.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from datagen.conformance import FakeTeacher, Say, run_recipe
from tests.datagen import test_recipe_critique, test_recipe_pearl, test_recipe_tools
from tests.datagen.test_recipe_evol_instruct import is_request, parent_in
from tests.datagen.test_recipe_self_chat import is_user_model
from warehouse import catalog
from warehouse.records import Message, Sample

CITIES = {"Paris": "France", "Rome": "Italy", "Lima": "Peru", "Oslo": "Norway"}
PASSAGES = [f"{city} is the capital of {country}." for city, country in CITIES.items()]
OTHER = dict(zip(CITIES, [*list(CITIES)[1:], "Paris"], strict=True))
"""City -> that of the next item."""
EMPTY = ""


def made(folder: Path, say: Say, rows: list[dict], **table) -> tuple[list[Sample], Counter[str]]:
    """The samples that are kept, and the reasons of all others by their number."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {} if "passages" in table else {"prompts": "rows.jsonl"}
    recipe = catalog.build("recipe", {**source, **table}, folder)
    outcomes = run_recipe(recipe, folder, FakeTeacher(say))
    assert not [outcome.fault for outcome in outcomes if outcome.fault]
    samples = [sample for outcome in outcomes for sample in outcome.samples]
    reasons = Counter(str(s.status_reason) for s in samples if s.status != "ok")
    return [sample for sample in samples if sample.status == "ok"], reasons


def text_of(messages: list[Message]) -> str:
    return "\n".join(str(message["content"]) for message in messages)


def city_in(messages: list[Message]) -> str:
    return next(city for city in CITIES if f"{city} is the capital" in text_of(messages))


def passage_in(messages: list[Message]) -> str:
    return next(passage for passage in PASSAGES if passage in text_of(messages))


def pair(question: str, answer: str) -> str:
    return json.dumps({"pairs": [{"question": question, "answer": answer}]})


@pytest.mark.parametrize("book", ["open", "closed"])
@pytest.mark.parametrize(
    ("say", "kept", "reason"),
    [
        (lambda m: pair("Which city is it?", "Paris"), ["Paris"], "the answer does not stand in the passage"),
        (lambda m: pair("Which city is it?", OTHER[city_in(m)]), [], "the answer does not stand in the passage"),
        (lambda m: pair("Which city is it?", passage_in(m)), [], "the answer is the whole passage"),
        (lambda m: pair(passage_in(m), city_in(m)), [], "the question is the passage again"),
        (lambda m: pair("is the capital of?", "is the capital of"), [], "the answer is the question again"),
        (lambda m: pair(f"{city_in(m)}?", city_in(m)), [], "the answer is the question again"),
        (lambda m: pair("Which city is it?", EMPTY), [], "the answer is empty"),
        (lambda m: m[-1]["content"], [], "no valid reply in 3 tries: it holds no JSON"),
        (lambda m: EMPTY, [], "no valid reply in 2 tries: it holds no JSON"),
    ],
)  # fmt: skip
def test_grounded_qa(tmp_path, book, say, kept, reason):
    rows = [{"passage": passage} for passage in PASSAGES]
    ok, reasons = made(tmp_path, say, rows, use="grounded_qa", passages="rows.jsonl", book=book)
    assert [sample.completion for sample in ok] == kept
    assert sum(reasons.values()) == len(PASSAGES) - len(kept)
    assert reasons[reason] == sum(reasons.values()) or reason.startswith("no valid reply")
    assert all("no valid reply" in why for why in reasons) or reason in reasons


SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "country": {"type": "string"}},
    "required": ["city"],
}


@pytest.mark.parametrize(
    ("say", "kept", "reason"),
    [
        (lambda m: {"city": "Paris", "country": "France"}, 1, "not in the passage: city, country"),
        (lambda m: {"city": OTHER[city_in(m)]}, 0, "not in the passage: city"),
        (lambda m: {"city": passage_in(m)}, 0, "the whole passage again: city"),
        (lambda m: {"city": city_in(m), "country": passage_in(m)}, 0, "the whole passage again: country"),
        (lambda m: m[-1]["content"], 0, "it holds no JSON"),
        (lambda m: EMPTY, 0, "it holds no JSON"),
    ],
)  # fmt: skip
def test_extract(tmp_path, say, kept, reason):
    def reply(messages):
        value = say(messages)
        return value if isinstance(value, str) else json.dumps(value)

    rows = [{"passage": passage} for passage in PASSAGES]
    ok, reasons = made(tmp_path, reply, rows, use="extract", passages="rows.jsonl", schema=SCHEMA)
    assert [sample.passage for sample in ok] == PASSAGES[:kept]
    assert sum(reasons.values()) == len(PASSAGES) - kept
    assert all(reason in why or ("JSON" in reason and "no valid reply" in why) for why in reasons)


SUMS = [{"prompt": f"What is {n} + {n}?", "reference": str(2 * n)} for n in range(1, 7)]


def sum_in(messages: list[Message]) -> int:
    return 2 * int(re.findall(r"What is (\d+)", text_of(messages))[-1])


@pytest.mark.parametrize("check", ["reference", "numeric"])
@pytest.mark.parametrize(
    ("say", "kept", "reason"),
    [
        (lambda m: "I think.\nAnswer: 4", ["What is 2 + 2?"], "the answer is "),
        (lambda m: f"I think.\nAnswer: {sum_in(m) + 2}", [], "the answer is "),
        (lambda m: m[-1]["content"], [], "no answer is announced by 'Answer:'"),
        (text_of, [], ""),
        (lambda m: EMPTY, [], "the reply is empty"),
    ],
)
def test_reasoning(tmp_path, check, say, kept, reason):
    ok, reasons = made(tmp_path, say, SUMS, use="reasoning", k=2, check=check)
    assert [sample.question for sample in ok] == kept
    assert sum(reasons.values()) == len(SUMS) - len(kept)  # each text once
    assert all(why.startswith(reason) for why in reasons)


TEXTS = [{"prompt": f"I bought {n} pills, and all of them were bad."} for n in range(6)]
LABELS = ["bill", "ham", "spam"]


def first_label(messages: list[Message]) -> str:
    return min(LABELS, key=messages[0]["content"].index)


def vote(label: str, reason: str = "So it is.") -> str:
    return json.dumps({"reason": reason, "label": label})


@pytest.mark.parametrize(
    ("say", "reason"),
    [
        (lambda m: vote(first_label(m)), "no majority: 3 answers have 1 of 3 draws each"),
        (lambda m: vote("other"), "no valid reply in "),
        (lambda m: vote("spam", re.search(r"I bought .* bad\.", text_of(m))[0]), "the reason is the text again"),
        (lambda m: vote("spam", EMPTY), "no valid reply in "),
        (lambda m: m[-1]["content"], "no valid reply in "),
        (lambda m: EMPTY, "no valid reply in "),
    ],
)  # fmt: skip
def test_classify(tmp_path, say, reason):
    ok, reasons = made(tmp_path, say, TEXTS, use="classify", labels=LABELS, k=3)
    assert ok == [] and sum(reasons.values()) == len(TEXTS)
    assert all(why.startswith(reason) for why in reasons)


GASES = [
    {"prompt": f"What gas do the {n} plants take in?", "passage": "Plants take in carbon dioxide."}
    for n in range(2, 6)
]


def rewording(text_for) -> Say:
    """Rewords by a function of the number asked about; finds each meaning the same."""

    def say(messages: list[Message]) -> str:
        text = messages[0]["content"]
        if "is_same" in text:
            return '{"is_same": true}'
        if "rewordings" in text:
            number = int(re.search(r"What gas do the (\d)", text)[1])
            return json.dumps({"rewordings": [text_for(number)]})
        return "Carbon dioxide."

    return say


@pytest.mark.parametrize(
    ("text_for", "kept", "reason"),
    [
        (lambda n: "Which gas is absorbed by 3 of them?", 1, "the rewording changes a fact: the number "),
        (lambda n: f"Which gas is absorbed by {n + 1} of them?", 0, "the rewording changes a fact: the number "),
        (lambda n: f"What gas do the {n} plants take in?", 0, "the rewording is the original again"),
        (lambda n: "Plants take in carbon dioxide!", 0, "the rewording is the passage"),
        (lambda n: EMPTY, 0, "the rewording has no word"),
    ],
)  # fmt: skip
def test_paraphrase_of_prompts_without_a_judge_that_ever_says_no(tmp_path, text_for, kept, reason):
    ok, reasons = made(tmp_path, rewording(text_for), GASES, use="paraphrase", k=1)
    assert len(ok) == kept and sum(reasons.values()) == len(GASES) - kept
    assert all(why.startswith(reason) for why in reasons)


@pytest.mark.parametrize("what", ["prompt", "answer"])
@pytest.mark.parametrize("copied", [lambda row: row["prompt"], lambda row: row["passage"]])
def test_paraphrase_where_the_answer_is_a_copy(tmp_path, what, copied):
    def say(messages):
        text = messages[0]["content"]
        if "JSON" in text:
            return rewording(lambda n: f"Name whatever {n} of them absorb, please.")(messages)
        return copied(next(row for row in GASES if row["prompt"] in text))

    ok, reasons = made(tmp_path, say, GASES, use="paraphrase", k=1, what=what)
    why = "the answer to the original: it is the question or the passage again"
    assert ok == [] and reasons == {why: len(GASES)}


def test_paraphrase_of_answers_into_the_question(tmp_path):
    rows = [{**row, "reference": "It is carbon dioxide, of course."} for row in GASES]
    copying = rewording(lambda n: f"What gas do the {n} plants take in?")
    ok, reasons = made(tmp_path, copying, rows, use="paraphrase", k=1, what="answer")
    assert ok == [] and reasons == {"the rewording is the question or the passage": len(rows)}


RIVERS = [{"prompt": f"Name {n} rivers of Asia"} for n in range(4)]


def evolving(prompt_for, answer_to=lambda prompt: f"These: the Indus, for {prompt}") -> Say:
    def say(messages: list[Message]) -> str:
        text = messages[0]["content"]
        if "adds_something" in text:
            return '{"adds_something": true}'
        return prompt_for(parent_in(text)) if is_request(text) else answer_to(text)

    return say


@pytest.mark.parametrize(
    ("say", "reason"),
    [
        (evolving(lambda parent: parent), "the evolved prompt: it is its parent again"),
        (lambda m: m[-1]["content"], "the evolved prompt: it repeats words of the request"),
        (evolving(lambda parent: EMPTY), "the evolved prompt: the reply is empty"),
        (evolving(lambda parent: f"{parent} again", lambda prompt: prompt), "the answer is the prompt again"),
        (evolving(lambda parent: f"{parent} again", lambda prompt: EMPTY), "the reply is empty"),
        (evolving(lambda parent: f"{parent} again", lambda prompt: "I am sorry."), ""),
        (lambda m: '{"adds_something": false}' if "adds_something" in text_of(m) else "Name a lake",
         "the evolved prompt adds nothing to its parent, says the teacher"),
    ],
)  # fmt: skip
def test_evol_instruct(tmp_path, say, reason):
    ok, reasons = made(tmp_path, say, RIVERS, use="evol_instruct", generations=2)
    assert ok == [] and sum(reasons.values()) == 2 * len(RIVERS)
    assert all(why.startswith(reason) for why in reasons)


def test_evol_instruct_with_one_evolution_for_all_keeps_it_once_for_each_prompt(tmp_path):
    say = evolving(lambda parent: "Name the longest lake of the world")
    ok, reasons = made(tmp_path, say, RIVERS, use="evol_instruct", generations=3)
    assert [sample.facts["generation"] for sample in ok] == [1] * len(RIVERS)
    assert reasons == {"the evolved prompt: it is its parent again": 2 * len(RIVERS)}


@pytest.mark.parametrize(
    ("revision", "reason"),
    [
        ("It should be short and kind.", "revision 1: it repeats the critique or a principle"),
        ("That is far too long.", "revision 1: it repeats the critique or a principle"),
        ("Why is the sky blue?", "the answer is the question or the passage again"),
        ("The sky scatters blue light.", "the answer is the question or the passage again"),
        (EMPTY, "revision 1: the reply is empty"),
    ],
)
def test_critique(tmp_path, revision, reason):
    replies = {"draft": "Because.", "critique": "That is far too long.", "revise": revision}
    row = {"prompt": "Why is the sky blue?", "passage": "The sky scatters blue light."}
    ok, reasons = made(
        tmp_path, lambda m: replies[test_recipe_critique.step_of(m)], [row],
        use="critique", constitution=["It should be short and kind."],
    )  # fmt: skip
    assert ok == [] and reasons == {reason: 1}


@pytest.mark.parametrize("completion", ["answer", "trace"])
@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ({"answer": test_recipe_pearl.DOCUMENT}, "the answer is the document or the question again"),
        ({"answer": "Ann did what with the key?"}, "the answer is the document or the question again"),
        ({"answer": EMPTY}, "the reply is empty"),
        ({"step": EMPTY}, "step 1 (FIND): the reply is empty"),
        ({"steps": EMPTY}, "no valid reply in "),
    ],
)  # fmt: skip
def test_pearl(tmp_path, completion, replies, reason):
    say, rows = test_recipe_pearl.Teacher(**replies), test_recipe_pearl.ROWS[:1]
    ok, reasons = made(tmp_path, say, rows, use="pearl", completion=completion)
    [why] = reasons
    assert ok == [] and why.startswith(reason)


@pytest.mark.parametrize(("answer", "is_right"), [("He gave it to Bo.", True), ("To Ann.", False)])
def test_pearl_says_which_of_its_answers_hold_the_reference(tmp_path, answer, is_right):
    say = test_recipe_pearl.Teacher(answer=answer)
    ok, _ = made(tmp_path, say, test_recipe_pearl.ROWS, use="pearl", self_refine=1)
    assert [sample.facts["is_right"] for sample in ok] == [is_right] * 2


ERRANDS = [{"prompt": f"What is the weather in {city} today?"} for city in CITIES]


@pytest.mark.parametrize(
    ("say", "reason"),
    [
        (lambda m: test_recipe_tools.turn(test_recipe_tools.OSLO) if m[0]["role"] == "system" else '{"sky": "rain"}',
         "no valid reply in "),
        (lambda m: test_recipe_tools.turn(answer=m[-1]["content"]), "the answer is the request again"),
        (lambda m: test_recipe_tools.turn(answer=EMPTY), "no valid reply in "),
        (lambda m: test_recipe_tools.turn(("wind", {})), "no valid reply in "),
        (lambda m: m[-1]["content"], "no valid reply in "),
        (lambda m: EMPTY, "no valid reply in "),
    ],
)  # fmt: skip
def test_tools(tmp_path, say, reason):
    ok, reasons = made(tmp_path, say, ERRANDS, use="tools", tools=test_recipe_tools.TOOLS)
    assert ok == [] and sum(reasons.values()) == len(ERRANDS)
    assert all(why.startswith(reason) for why in reasons)


OPENERS = [{"prompt": f"What is {city} known for?"} for city in CITIES]


def user_turn(text: str, done: bool = False) -> str:
    return json.dumps({"message": text, "done": done})


@pytest.mark.parametrize(
    ("say", "kept", "reason"),
    [
        (lambda m: user_turn("And why?") if is_user_model(m) else "It is old.",
         1, "the assistant's turn repeats an earlier one"),
        (lambda m: user_turn(m[-1]["content"]) if is_user_model(m) else f"It is old, {len(m)}.",
         1, "the reply repeats what was said of the one before"),
        (lambda m: user_turn(EMPTY) if is_user_model(m) else "It is old.", 1, "no valid reply in "),
        (lambda m: user_turn("And why?") if is_user_model(m) else m[-1]["content"], 0, "the assistant repeats the user"),
        (lambda m: EMPTY, 0, "the reply is empty"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("examples", ["each", "last"])
def test_self_chat(tmp_path, examples, say, kept, reason):
    ok, reasons = made(tmp_path, say, OPENERS, use="self_chat", turns=3, examples=examples)
    number = kept * len(OPENERS) if examples == "each" else 0  # a slip spoils the last turn
    assert len(ok) == number and sum(reasons.values()) == len(OPENERS)
    assert all(why.startswith(reason) for why in reasons)


def test_self_chat_whose_user_is_always_done_ends_after_the_first_answer(tmp_path):
    def say(messages):
        return user_turn("Bye.", done=True) if is_user_model(messages) else "It is old."

    ok, reasons = made(tmp_path, say, OPENERS, use="self_chat", turns=5)
    assert [sample.facts["ended_by"] for sample in ok] == ["user"] * len(OPENERS) and not reasons
    assert all(len(sample.messages) == 1 for sample in ok)
