"""Self-Instruct: a pool that grows by what is unlike it, and instances for what joined."""

import json
import re
from pathlib import Path

import pytest

from datagen.conformance import FakeTeacher, check_recipe, run_recipe
from datagen.recipe import Example
from datagen.recipes.self_instruct import FRUITLESS_ROUNDS, SelfInstruct
from warehouse import catalog
from warehouse.errors import DataError, PlanError

WORDS = [
    "river",
    "castle",
    "honey",
    "violin",
    "desert",
    "train",
    "pepper",
    "window",
    "glacier",
    "tailor",
    "orchard",
    "comet",
    "saddle",
    "anchor",
    "lantern",
    "beetle",
    "marble",
    "candle",
    "garden",
    "hammer",
    "island",
    "jacket",
    "kettle",
    "ladder",
    "mirror",
    "needle",
    "ocean",
    "pillow",
]
SEEDS = [f"Tell me about the {a} and the {b} in one sentence" for a, b in zip(WORDS, WORDS[9:], strict=False)]  # fmt: skip


def invented(messages, number: int) -> list[str]:
    """Instructions that depend on the call, unlike each other."""
    text = messages[-1]["content"]
    key = sum(ord(char) * (place % 97 + 1) for place, char in enumerate(text))
    letters = "abcdefghijklmnopqrstuvwxyz"

    def word(n: int) -> str:
        n = n * 7919 + key
        return "".join(letters[(n >> (3 * k)) % 26] for k in range(5))

    return [" ".join(word(11 * place + n) for n in range(6)) for place in range(number)]


def say(messages) -> str:
    text = messages[-1]["content"]
    if "new tasks" in text or "新任务" in text:
        number = int(re.search(r"(?:Write|再写) (\d+)", text)[1])
        return json.dumps({"instructions": invented(messages, number)})
    if "is_classification" in text:
        instruction = text.splitlines()[0]
        kinds = {
            "is_classification": "a" in instruction[-8:],
            "needs_input": "e" in instruction[-8:],
        }
        return json.dumps(kinds)
    if "key labels" in text or "键 labels" in text:
        return json.dumps({"labels": ["yes", "no"]})
    return f"<{text[-30:]}>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = [json.dumps({"prompt": prompt, "reference": "Well."}) for prompt in SEEDS]
    (tmp_path / "seeds.jsonl").write_text("\n".join(lines))
    return tmp_path


def recipe(**options) -> SelfInstruct:
    return SelfInstruct(
        **{"seed_tasks": "seeds.jsonl", "max_calls": 500, "round_size": 3} | options
    )


def samples(made: SelfInstruct, folder: Path, reply=say, rounds: int = 2):
    outcomes = run_recipe(made, folder, FakeTeacher(reply), rounds=rounds)
    assert all(outcome.is_finished for outcome in outcomes), outcomes[0].fault
    return [sample for outcome in outcomes for sample in outcome.samples]


@pytest.mark.parametrize("options", [{}, {"language": "zh"}, {"instructions_per_call": 1}])
def test_it_keeps_the_contract(folder, options):
    check_recipe(recipe(**options), folder, say)


def test_the_pool_begins_with_each_seed_task_once(folder):
    with (folder / "seeds.jsonl").open("a") as stream:
        stream.write("\n" + json.dumps({"prompt": SEEDS[0]}))
    pool = recipe().begin(folder)
    assert [example.facts["instruction"] for example in pool] == SEEDS
    assert pool[0].completion == "Well."


def member(text: str, number: int) -> Example:
    facts = {"instruction": text, "round": 0, "task": f"0.0.{number}"}
    return Example([{"role": "user", "content": text}], "x", facts=facts)


def test_a_call_shows_six_human_tasks_and_two_made_ones(folder):
    made = recipe(round_size=20)
    human = list(made.begin(folder))
    first = made.next_round(0, human)
    assert len(first) == 20
    assert all(len(seed.value["shown"]) == 8 == len(set(seed.value["shown"])) for seed in first)
    pool = [*human, *(member(text, n) for n, text in enumerate(["one", "two", "three", "one"]))]
    for seed in made.next_round(1, pool):
        shown = seed.value["shown"]
        ours = [text for text in shown if text in ("one", "two", "three")]
        assert len(shown) == 8 and len(ours) == 2 == len(set(ours))
    assert len({tuple(seed.value["shown"]) for seed in made.next_round(1, pool)}) == 20
    [seed, *_] = made.next_round(1, [*human[:3], member("one", 0)])
    assert len(seed.value["shown"]) == 4  # a small pool is shown as a whole


def test_the_shown_tasks_are_in_the_prompt_in_order(folder):
    teacher = FakeTeacher(say)
    run_recipe(recipe(round_size=1), folder, teacher, rounds=1)
    text = teacher.asked[0].messages[-1]["content"]
    shown = re.findall(r"^\d\. (.*)$", text, re.MULTILINE)
    assert len(shown) == 8 and set(shown) <= set(SEEDS)
    assert teacher.asked[0].sampling.response_format["json_schema"]["name"] == "instructions"


def test_only_unlike_instructions_join_the_pool(folder):
    made = recipe()
    pool = [*made.begin(folder), member("name seven rivers of southern europe and asia now", 0)]
    near = member("name seven rivers of southern europe and africa now", 1)
    assert made.admit(near, pool).startswith("the pool has a similar instruction")
    assert recipe(max_similarity=0.95).admit(near, pool) is None
    assert made.admit(member("explain how bees find their way back home", 1), pool) is None


def test_all_labels_of_a_task_join_or_none(folder):
    made = recipe()
    pool = [*made.begin(folder), member("decide whether a word is a verb or a noun", 0)]
    assert made.admit(member("decide whether a word is a verb or a noun", 0), pool) is None
    assert made.admit(member("decide whether a word is a verb or a noun", 1), pool) is not None


def test_a_fixed_reply_fills_the_pool_once_and_the_rounds_end(folder):
    def same(messages):
        text = messages[-1]["content"]
        if "new tasks" in text:
            return json.dumps({"instructions": ["Describe how glass is blown into bottles"]})
        return say(messages)

    made = recipe()
    found = samples(made, folder, same, rounds=2)
    ok = [sample for sample in found if sample.status == "ok"]
    assert {sample.facts["instruction"] for sample in ok} == {
        "Describe how glass is blown into bottles"
    }
    assert all(sample.facts["task"] == "0.0.0" for sample in ok)
    assert all("similar instruction" in s.status_reason for s in found if s.status != "ok")
    pool = [*made.begin(folder), member("describe how glass is blown", 0)]
    assert made.next_round(FRUITLESS_ROUNDS, pool)
    assert made.next_round(FRUITLESS_ROUNDS + 1, pool) == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Tell a joke", "fewer than 4 words"),
        ("word " * 151, "more than 150 words"),
        ("Draw a graph of the rainfall", "asks for more than text ('graph')"),
        ("Open the attached FILE and count its lines", "('file')"),
        ("  ", "fewer than 4 words"),
        ("Name a river. 2. Name a lake. 3. Name a hill.", "is a list of several"),
        (SEEDS[0] + " please", "the call shows a similar instruction"),
    ],
)
def test_what_is_not_fit_is_invalid_and_asks_nothing_more(folder, text, why):
    teacher = FakeTeacher(lambda messages: json.dumps({"instructions": [text]}))
    made = recipe(round_size=1, human_shown=len(SEEDS))
    [outcome] = run_recipe(made, folder, teacher, rounds=1)
    [sample] = outcome.samples
    assert sample.status == "invalid" and why in sample.status_reason
    assert len(teacher.asked) == 1
    assert sample.messages == [{"role": "user", "content": " ".join(text.split())}]


@pytest.mark.parametrize("mark", ["3. ", " 12) ", "- ", "3、"])
def test_the_numbering_of_a_list_is_no_part_of_an_instruction(folder, mark):
    def reply(messages):
        if "new tasks" in messages[-1]["content"]:
            return json.dumps({"instructions": [f"{mark}Describe how glass is blown"]})
        return say(messages)

    [sample] = samples(recipe(round_size=1), folder, reply, rounds=1)[:1]
    assert sample.facts["instruction"] == "Describe how glass is blown"
    number = json.dumps({"instructions": ["3.5 litres of water are to be cooled down"]})
    [sample] = samples(recipe(round_size=1), folder, lambda m: number, rounds=1)
    assert sample.facts["instruction"].startswith("3.5 litres")


def test_a_word_within_another_one_is_no_keyword(folder):
    text = "Describe the profile of a photographer who imagines paragraphs"
    teacher = FakeTeacher(
        lambda m: (
            json.dumps({"instructions": [text]}) if "new tasks" in m[-1]["content"] else say(m)
        )
    )
    [outcome] = run_recipe(recipe(round_size=1), folder, teacher, rounds=1)
    assert outcome.samples[0].status == "ok"


def test_chinese_keywords_are_found_within_a_sentence(folder):
    reply = json.dumps({"instructions": ["请描述这张图片里的人物在做什么"]})
    found = samples(recipe(round_size=1, language="zh"), folder, lambda m: reply, rounds=1)
    assert found[0].status_reason == "the instruction asks for more than text ('图片')"


def scripted(kind: dict, labels=("spam", "no spam")):
    def reply(messages):
        text = messages[0]["content"]
        if "new tasks" in text:
            return json.dumps({"instructions": ["Decide whether the mail is spam"]})
        if "is_classification" in text:
            return json.dumps(kind)
        if "key labels" in text or "键 labels" in text:
            return json.dumps({"labels": list(labels)})
        if "right answer is" in text:
            return f"Mail for {text.split(chr(34))[1]}"
        if "example of the input" in text:
            return "Win money now!"
        return f"Answer to {text!r}"

    return reply


def test_classification_is_answered_output_first(folder):
    teacher = FakeTeacher(scripted({"is_classification": True, "needs_input": True}))
    [outcome] = run_recipe(recipe(round_size=1), folder, teacher, rounds=1)
    assert [(s.messages[0]["content"], s.completion) for s in outcome.samples] == [
        ("Decide whether the mail is spam\n\nMail for spam", "spam"),
        ("Decide whether the mail is spam\n\nMail for no spam", "no spam"),
    ]
    assert outcome.samples[0].facts["labels"] == ["spam", "no spam"]
    assert len(teacher.asked) == 5


def test_other_tasks_get_an_input_first_where_they_need_one(folder):
    teacher = FakeTeacher(scripted({"is_classification": False, "needs_input": True}))
    [outcome] = run_recipe(recipe(round_size=1), folder, teacher, rounds=1)
    [sample] = outcome.samples
    task = "Decide whether the mail is spam\n\nWin money now!"
    assert sample.messages == [{"role": "user", "content": task}]
    assert sample.completion == f"Answer to {task!r}"
    assert teacher.asked[-1].messages == sample.messages  # it is asked as the student will be
    without = samples(
        recipe(round_size=1), folder,
        scripted({"is_classification": False, "needs_input": False}), rounds=1,
    )  # fmt: skip
    assert without[0].messages[0]["content"] == "Decide whether the mail is spam"
    assert without[0].facts["kind"] == "generation"


def test_labels_that_are_one_label_are_asked_for_again_and_given_up(folder):
    kind = {"is_classification": True, "needs_input": False}
    found = samples(recipe(round_size=1), folder, scripted(kind, ("yes", " Yes")), rounds=1)
    assert found[0].status == "invalid"
    assert "each is a text of its own" in found[0].status_reason


def test_a_user_s_words(folder):
    (folder / "my.j2").write_text(
        '{% extends "self_instruct.en.j2" %}'
        "{% block instructions %}Invent {{ number }}, not like {{ shown | join('; ') }}{% endblock %}"
        "{% block excluded %}glass{% endblock %}"
    )
    reply = json.dumps({"instructions": ["Describe how glass is blown into bottles"]})
    teacher = FakeTeacher(lambda messages: reply)
    [outcome] = run_recipe(recipe(round_size=1, template="my.j2"), folder, teacher, rounds=1)
    assert teacher.asked[0].messages[-1]["content"].startswith("Invent 4, not like Tell me about")
    assert "('glass')" in outcome.samples[0].status_reason
    assert {path.name for path in recipe(template="my.j2").input_files(folder)} == {
        "my.j2",
        "seeds.jsonl",
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"round_size": 0}, "round_size is 1 or more"),
        ({"instructions_per_call": 0}, "instructions_per_call is 1 or more"),
        ({"human_shown": 0}, "human_shown is 1 or more"),
        ({"made_shown": -1}, "made_shown is 0 or more"),
        ({"max_similarity": 0.0}, "max_similarity is above 0"),
        ({"max_labels": 1}, "max_labels is 2 or more"),
        ({"max_calls": None}, "give target .examples. or max_calls"),
        ({"columns": {"x": "y"}}, "'x' is none of them"),
    ],
)
def test_wrong_options_are_faults_of_the_plan(options, said):
    table = {"use": "self_instruct", "seed_tasks": "s.jsonl", "max_calls": 9, **options}
    with pytest.raises(PlanError) as error:
        catalog.build("recipe", table)
    assert re.search(said, " ".join(error.value.faults))


def test_a_language_without_words_is_one_line(folder):
    with pytest.raises(DataError, match=r"no words in 'eo' \(en, zh are there\)"):
        samples(recipe(language="eo"), folder, rounds=1)
