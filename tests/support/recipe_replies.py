"""A small case of each recipe: its files, its options, and a teacher that answers each of its steps.

The teacher of a case is a function of the messages alone, so any server or fake can play it.
"""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datagen.conformance import FakeTeacher, Say, run_recipe
from tests.datagen import (
    test_recipe_classify,
    test_recipe_critique,
    test_recipe_evol_instruct,
    test_recipe_explain,
    test_recipe_extract,
    test_recipe_grounded_qa,
    test_recipe_paraphrase,
    test_recipe_pearl,
    test_recipe_persona,
    test_recipe_reasoning,
    test_recipe_self_chat,
    test_recipe_self_instruct,
    test_recipe_tools,
)
from tests.support.plans import rows
from warehouse import catalog
from warehouse.records import Message, make_id

REFUSAL = "I cannot help with that."
MALFORMED = ('{"pairs": [{"question": ', "", "Sure, here is what you asked for.", REFUSAL)
"""Broken JSON, nothing, prose, a refusal."""


@dataclass(frozen=True)
class RecipeCase:
    """What a recipe needs to run."""

    options: str
    """Of the recipe's table in a plan."""
    say: Say
    """A valid reply to each of its steps."""
    files: dict[str, Any] = field(default_factory=dict)
    """What stands in the plan's folder; rows for names in .jsonl, else text or JSON."""

    def write_files(self, folder: Path) -> None:
        """Write the files."""
        for name, content in self.files.items():
            if name.endswith(".jsonl"):
                content = "".join(json.dumps(row) + "\n" for row in content)
            text = content if isinstance(content, str) else json.dumps(content)
            (folder / name).write_text(text)


def malformed_reply(messages: Sequence[Message]) -> str | None:
    """One of `MALFORMED` for a fifth of all conversations, always the same; None for the others.

    Half of them are malformed again when the teacher is told what was wrong.
    """
    asked = list(messages)
    while str(asked[-1]["content"]).startswith("That reply cannot be used"):
        asked = asked[:-2]
    once, always = (int(make_id(conversation)[:8], 16) for conversation in (list(messages), asked))
    if always % 10 == 0:
        return MALFORMED[always // 10 % len(MALFORMED)]
    return MALFORMED[once // 10 % len(MALFORMED)] if once % 10 == 1 else None


def now_and_then_malformed(say: Say) -> Say:
    """A teacher whose replies are as those of `say`, but for a fifth of them."""

    def reply(messages: Sequence[Message]) -> str:
        spoiled = malformed_reply(messages)
        return say(messages) if spoiled is None else spoiled

    return reply


def never(messages: Sequence[Message]) -> str:
    """The teacher of a recipe that asks nothing."""
    raise AssertionError("the recipe asks the teacher")


def _conversation(number: int) -> dict[str, Any]:
    text = MALFORMED[number % len(MALFORMED)] if number % 3 == 0 else f"It is {number}."
    asked = {"role": "user", "content": f"Which number is {number}?"}
    return {"messages": [asked, {"role": "assistant", "content": text}]}


def _documents() -> list[dict[str, Any]]:
    passage = test_recipe_pearl.DOCUMENT
    questions = ["Who found it?", "Who opened what?", "Where was the key?", "Why was it given?"]
    return [
        *test_recipe_pearl.ROWS,
        *({"prompt": question, "passage": passage} for question in questions),
    ]


CASES = {
    "classify": RecipeCase(
        'prompts = "rows.jsonl"\nlabels = ["spam", "ham", "bill"]\nk = 3\nmin_agreement = 0.9',
        lambda messages: test_recipe_classify.labelled("spam"),
        {"rows.jsonl": [{"prompt": f"Buy {n} pills now!"} for n in range(20)]},
    ),
    "critique": RecipeCase(
        'prompts = "rows.jsonl"\nconstitution = ["It is short.", "It is kind."]\nrounds = 2',
        test_recipe_critique.say,
        {"rows.jsonl": test_recipe_critique.ROWS},
    ),
    "evol_instruct": RecipeCase(
        'prompts = "rows.jsonl"\ngenerations = 2',
        test_recipe_evol_instruct.say,
        {"rows.jsonl": [{"prompt": f"Name {n} rivers of Asia"} for n in range(10)]},
    ),
    "explain": RecipeCase(
        'prompts = "rows.jsonl"\nsystems = [{ text = "Explain it.", weight = 2 }, { text = "Why?" }]',
        lambda messages: test_recipe_explain.ANSWER,
        {"rows.jsonl": test_recipe_explain.ROWS[:20]},
    ),
    "extract": RecipeCase(
        'passages = "rows.jsonl"\nschema = "schema.json"',
        lambda messages: json.dumps(test_recipe_extract.GOOD),
        {
            "rows.jsonl": [
                {"passage": f"{test_recipe_extract.PASSAGE} Order {n}."} for n in range(20)
            ],
            "schema.json": test_recipe_extract.SCHEMA,
        },
    ),
    "grounded_qa": RecipeCase(
        'passages = "rows.jsonl"\nseed_pairs = "pairs.jsonl"\ndemonstrations = 2\n'
        'context = "extract"\nunanswerable = 0.25\nquestion_types = ["which", "where"]',
        test_recipe_grounded_qa.answer,
        {
            "rows.jsonl": [{"passage": test_recipe_grounded_qa.passage(n)} for n in range(12)],
            "pairs.jsonl": [{"prompt": f"What is {n}?", "reference": f"{n}"} for n in range(4)],
        },
    ),
    "imitation": RecipeCase(
        'prompts = "rows.jsonl"\nn = 2\ninstruction = "Be brief."',
        lambda messages: "It is brown.",
        {"rows.jsonl": rows(0, 20)},
    ),
    "imported": RecipeCase(
        'file = "old.jsonl"\nteacher = "gpt-4"',
        never,
        {"old.jsonl": [_conversation(number) for number in range(12)]},
    ),
    "paraphrase": RecipeCase(
        'prompts = "rows.jsonl"',
        test_recipe_paraphrase.valid,
        {
            "rows.jsonl": [
                {**test_recipe_paraphrase.ROW, "prompt": f"What gas do plants take in? {n}"}
                for n in range(8)
            ]
        },
    ),
    "pearl": RecipeCase(
        'prompts = "rows.jsonl"\nmined_from = 3\nself_refine = 1\ncompletion = "trace"',
        test_recipe_pearl.Teacher(),
        {"rows.jsonl": _documents()},
    ),
    "persona": RecipeCase(
        'topics = ["cooking", "travel", "tax"]\npersonas = { "a nurse" = 2, "a farmer" = 1 }\n'
        'attributes = { difficulty = ["easy", "hard"] }\nnumber = 12',
        test_recipe_persona.say,
    ),
    "reasoning": RecipeCase(
        'prompts = "rows.jsonl"\ncheck = "numeric"\nk = 2',
        test_recipe_reasoning.right,
        {"rows.jsonl": test_recipe_reasoning.ROWS},
    ),
    "self_chat": RecipeCase(
        'prompts = "rows.jsonl"\nturns = 3\nexamples = "each"\npersonas = ["a nurse", "a cook"]',
        test_recipe_self_chat.Teacher(*test_recipe_self_chat.MORE),
        {"rows.jsonl": [{"prompt": f"What is made of wood {n}?"} for n in range(6)]},
    ),
    "self_instruct": RecipeCase(
        'seed_tasks = "rows.jsonl"\nround_size = 3\ninstructions_per_call = 2\ntarget = 8\n'
        "max_calls = 120",
        test_recipe_self_instruct.say,
        {"rows.jsonl": [{"prompt": p, "reference": "Well."} for p in test_recipe_self_instruct.SEEDS]},
    ),
    "tools": RecipeCase(
        'tools = "tools.json"\ntasks = 16\nno_tool = 0.0',
        test_recipe_tools.Teacher(test_recipe_tools.turn(test_recipe_tools.OSLO)),
        {"tools.json": test_recipe_tools.TOOLS},
    ),
}  # fmt: skip
"""By the recipe's name."""


def case_of(name: str) -> RecipeCase:
    """The case of a recipe.

    Raises:
        AssertionError: it has none.
    """
    assert name in CASES, f"recipe '{name}' has no case; add one to {Path(__file__).name}"
    return CASES[name]


def print_what_recipes_make(folder: Path, waits: int) -> None:
    """Run each recipe against a fake teacher and print the ids of its calls and samples as JSON.

    Args:
        folder: For the files of the cases.
        waits: Draws the waits of the replies, thus the order in which they arrive.
    """
    made = {}
    for name in catalog.names("recipe"):
        case, place = case_of(name), folder / name
        place.mkdir(parents=True)
        case.write_files(place)
        recipe = catalog.build("recipe", {"use": name, **tomllib.loads(case.options)}, place)
        teacher = FakeTeacher(now_and_then_malformed(case.say), waits=random.Random(waits))
        outcomes = run_recipe(recipe, place, teacher)
        faults = [outcome.fault for outcome in outcomes if outcome.fault]
        assert not faults, f"{name}: {faults[0]}"
        calls = {call_id for outcome in outcomes for call_id in outcome.call_ids}
        made[name] = {
            "calls": sorted(calls | {call.call_id for call in teacher.calls.values()}),
            "samples": [sample.sample_id for outcome in outcomes for sample in outcome.samples],
        }
    print(json.dumps(made))
