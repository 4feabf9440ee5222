"""Rewordings of prompts and answers, kept where rules and the teacher say that they mean the same."""

import json
import re
from pathlib import Path

import pytest

from datagen.conformance import FakeTeacher, check_recipe, run_recipe
from datagen.recipes.paraphrase import Paraphrase
from warehouse import catalog
from warehouse.errors import PlanError

ROW = {"prompt": "What gas do plants take in?", "reference": "carbon dioxide"}
GOOD = [
    "Which gas is taken up by plants?",
    "Plants absorb a gas: name it.",
    "Name what leaves breathe.",
]


def user(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def teacher_of(rewordings, is_same=lambda first, second: True) -> FakeTeacher:
    def say(messages):
        text = messages[0]["content"]
        if "is_same" in text:
            pair = re.findall(r"^(?:Question|Answer) [AB]: (.*)$", text, re.MULTILINE)
            return json.dumps({"is_same": is_same(*pair) if len(pair) == 2 else True})
        if "rewordings" in text:
            return json.dumps({"rewordings": rewordings})
        return "Carbon dioxide, says the teacher."

    return FakeTeacher(say)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, [{**ROW, "prompt": f"{ROW['prompt']} {n}"} for n in range(6)])
    return tmp_path


def write(folder: Path, rows: list[dict]) -> None:
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))


def recipe(**options) -> Paraphrase:
    return Paraphrase(**{"prompts": "rows.jsonl"} | options)


def first(folder: Path, teacher: FakeTeacher, row: dict = ROW, **options):
    write(folder, [row])
    [outcome] = run_recipe(recipe(**options), folder, teacher)
    assert outcome.is_finished, outcome.fault
    return outcome.samples


def valid(messages) -> str:
    """Rewordings that keep the number of the question."""
    text = messages[0]["content"]
    if "is_same" in text:
        return '{"is_same": true}'
    if "rewordings" in text:
        lines = text.splitlines()
        asked = next(line for line in lines if line.startswith("What gas"))
        number = asked.split()[-1] if "carbon dioxide" not in text else ""
        return json.dumps({"rewordings": [f"{text} {number}".strip() for text in GOOD]})
    return "carbon dioxide"


@pytest.mark.parametrize("options", [{}, {"what": "answer"}, {"language": "zh"}])
def test_it_keeps_the_contract(folder, options):
    check_recipe(recipe(**options), folder, valid)


def test_rewordings_of_a_prompt_keep_the_row_s_reference(folder):
    teacher = teacher_of(GOOD)
    samples = first(folder, teacher)
    assert [s.messages for s in samples] == [user(text) for text in GOOD]
    assert {(s.status, s.completion, tuple(s.reference)) for s in samples} == {
        ("ok", "carbon dioxide", ("carbon dioxide",))
    }
    assert [s.question for s in samples] == GOOD
    assert samples[0].facts == {"original": ROW["prompt"]}
    assert len(teacher.asked) == 1 + 3 * 2


def test_without_a_reference_the_teacher_answers_the_original_last(folder):
    teacher = teacher_of(GOOD)
    samples = first(folder, teacher, {"prompt": ROW["prompt"]})
    assert {s.completion for s in samples} == {"Carbon dioxide, says the teacher."}
    assert teacher.asked[-1].messages == user(ROW["prompt"]) and len(teacher.asked) == 8


def test_where_no_rewording_is_kept_no_answer_is_asked_for(folder):
    teacher = teacher_of([ROW["prompt"]] * 3)
    samples = first(folder, teacher, {"prompt": ROW["prompt"]})
    assert {s.status_reason for s in samples} == {"the rewording is the original again"}
    assert len(teacher.asked) == 1


def test_an_answer_that_was_refused_is_no_completion(folder):
    refusing = FakeTeacher(
        lambda m: (
            valid([{"content": m[0]["content"] + "\nWhat gas x"}])
            if "JSON" in m[0]["content"]
            else "I cannot help with that."
        )
    )
    samples = first(folder, refusing, {"prompt": "Why is it so?"})
    assert {s.status for s in samples} <= {"refused", "invalid"}
    refused = [s for s in samples if s.status == "refused"]
    assert refused and refused[0].status_reason.startswith("the answer to the original: ")


def test_the_meaning_is_asked_about_in_both_directions(folder):
    asked = []

    def is_same(one, other):
        asked.append((one, other))
        return one == ROW["prompt"] or other != ROW["prompt"] or GOOD[1] != one

    samples = first(folder, teacher_of(GOOD, is_same))
    assert [s.status for s in samples] == ["ok", "invalid", "ok"]
    assert samples[1].status_reason == "the rewording means something else, says the teacher"
    assert asked == [
        pair for text in GOOD for pair in ((ROW["prompt"], text), (text, ROW["prompt"]))
    ]


def test_the_second_direction_is_not_asked_after_a_no(folder):
    teacher = teacher_of(GOOD, lambda one, other: False)
    assert {s.status for s in first(folder, teacher)} == {"invalid"}
    assert len(teacher.asked) == 1 + 3


@pytest.mark.parametrize(
    ("rewording", "why"),
    [
        ("what gas do plants take in", "the rewording is the original again"),
        ("What gas do the plants take in?", "too similar to the original or to an earlier one"),
        (GOOD[0] + "!", "too similar to the original or to an earlier one"),
        ("Which gas is absorbed by 3 plants?", "changes a fact: the number 3 is new"),
        ("Which gas is absorbed in Norway?", "changes a fact: the name 'Norway' is new"),
        ("Which gas never leaves a plant?", "changes a fact: a negation is new"),
        (" ?", "the rewording has no word"),
        ("Plants?", "over 3 times as long as the original, or as short"),
        ("Which gas " + "that is taken up " * 4 + "by plants?", "over 3 times as long"),
        ("Do plants take in Carbon Dioxide?", "the rewording of the prompt has the answer in it"),
    ],
)
def test_rules_drop_a_rewording_before_the_teacher_is_asked(folder, rewording, why):
    teacher = teacher_of([GOOD[0], rewording])
    kept, dropped = first(folder, teacher, k=2)
    assert kept.status == "ok" and dropped.status == "invalid" and why in dropped.status_reason
    assert len(teacher.asked) == 1 + 2 and dropped.question == rewording.strip()


def test_an_answer_that_the_prompt_names_may_be_in_its_rewording(folder):
    row = {"prompt": "Is a spider or a bee an insect?", "reference": "a bee"}
    teacher = teacher_of(["Which one belongs to the insects, a bee or a spider?"])
    assert first(folder, teacher, row, k=1)[0].status == "ok"


def test_how_similar_a_rewording_may_be_is_an_option(folder):
    close = "What gas do the plants take in?"
    assert first(folder, teacher_of([close]), k=1, max_similarity=1.0)[0].status == "ok"


def test_an_answer_is_reworded_and_the_question_stays(folder):
    row = {
        "prompt": "Why is the sky red?",
        "reference": "Blue light is scattered, red light stays.",
    }
    teacher = teacher_of(["The red light is left over, as the blue light goes aside."])
    [sample] = first(folder, teacher, row, what="answer", k=1)
    assert sample.messages == user(row["prompt"]) and sample.status == "ok"
    assert sample.completion == "The red light is left over, as the blue light goes aside."
    assert sample.facts == {"original": row["reference"]} and sample.reference == [row["reference"]]
    assert "Answer:\nBlue light is scattered" in teacher.asked[0].messages[0]["content"]
    assert "Answer A: Blue light" in teacher.asked[1].messages[0]["content"]
    assert "Answer B: Blue light" in teacher.asked[2].messages[0]["content"]


def test_an_answer_that_is_missing_is_the_teacher_s(folder):
    teacher = teacher_of(["CO2 it is, for all we know."])
    [sample] = first(folder, teacher, {"prompt": ROW["prompt"]}, what="answer", k=1)
    assert sample.facts == {"original": "Carbon dioxide, says the teacher."}
    assert sample.status == "invalid"  # "CO2" is new
    assert teacher.asked[0].messages == user(ROW["prompt"])


def test_too_few_rewordings_and_an_unclear_verdict_are_invalid(folder):
    samples = first(folder, teacher_of(GOOD[:2]))
    assert samples[0].status == "invalid" and "too short" in samples[0].status_reason
    unclear = FakeTeacher(
        lambda m: "maybe" if "is_same" in m[0]["content"] else json.dumps({"rewordings": GOOD})
    )
    samples = first(folder, unclear)
    assert all(s.status_reason.startswith("no verdict on its meaning: ") for s in samples)


def test_a_passage_stays_with_the_question(folder):
    row = {**ROW, "passage": "Plants take in carbon dioxide."}
    teacher = teacher_of(GOOD[:1])
    [sample] = first(folder, teacher, row, k=1)
    assert sample.passage == row["passage"]
    assert sample.messages == user(f"{row['passage']}\n\nQuestion: {GOOD[0]}\nAnswer:")
    assert all("Plants take in carbon" in r.messages[0]["content"] for r in teacher.asked)


def test_chinese_words_around_chinese_rows(folder):
    teacher = teacher_of(["哪座城市是中国的首都所在地？"])
    row = {"prompt": "中国的首都是哪里？", "reference": "北京"}
    [sample] = first(folder, teacher, row, k=1, language="zh")
    assert (
        sample.status == "ok"
        and "请把这个问题换 1 种说法" in teacher.asked[0].messages[0]["content"]
    )


def test_a_user_s_words(folder):
    (folder / "my.j2").write_text(
        '{% extends "paraphrase.en.j2" %}'
        '{% block prompt %}Say {{ text }} in {{ number }} ways. {"rewordings": []}{% endblock %}'
    )
    teacher = teacher_of(GOOD)
    first(folder, teacher, template="my.j2")
    assert teacher.asked[0].messages[0]["content"].startswith(f"Say {ROW['prompt']} in 3 ways.")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k": 0}, "k is 1 or more"),
        ({"max_similarity": 0.0}, "max_similarity is above 0"),
        ({"what": "passage"}, "'prompt' or 'answer'"),
        ({"limit": 0}, "limit is 1 or more"),
        ({"columns": {"x": "y"}}, "'x' is none of them"),
    ],
)
def test_wrong_options_are_faults_of_the_plan(options, said):
    with pytest.raises(PlanError) as error:
        catalog.build("recipe", {"use": "paraphrase", "prompts": "p.jsonl", **options})
    assert said in " ".join(error.value.faults)
