"""Mined actions, plans that are corrected, steps with named results, refinement, long documents."""

import json

import pytest

from datagen.conformance import FakeTeacher, check_recipe, run_recipe
from datagen.recipes.pearl import Pearl
from datagen.wording import Wording
from warehouse.errors import DataError

DOCUMENT = "Ann found a key in the mill. She gave it to Bo. Bo opened the old gate with it."
ROWS = [
    {"prompt": f"{who} did what with the key?", "passage": DOCUMENT, "reference": "gave it to Bo"}
    for who in ("Ann", "Bo")
]
PLAN = [
    {"action": "find", "input": "the key", "result": "key parts"},
    {"action": "TRACE_OBJECT", "input": "owners in key parts", "result": "owners"},
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    return tmp_path


def text_of(messages) -> str:
    return messages[0]["content"]


def kind_of(messages) -> str:
    """Which step of the recipe a request is, in both languages."""
    text = text_of(messages)
    for word in ("actions", "steps", "is_right", "facts"):
        if f'JSON alone: "{word}"' in text or f'JSON："{word}"' in text:
            return word
    return "step" if DOCUMENT in text or "the mill" in text or "subject |" in text or "主体 |" in text else "answer"  # fmt: skip


class Teacher:
    """Replies to each kind of request; a list is replied in turn, the last one for ever."""

    def __init__(self, **replies):
        plan = {"steps": PLAN}
        mined = {"actions": [{"name": "trace object", "description": "follow a thing"}]}
        facts = {"facts": [{"subject": "Ann", "relation": "gave the key to", "object": "Bo"}]}
        right = {"is_right": True, "fault": ""}
        self.replies = {
            "actions": mined, "steps": plan, "facts": facts, "is_right": right,
            "step": "It went on.", "answer": "Ann gave it to Bo.",
        } | replies  # fmt: skip

    def __call__(self, messages) -> str:
        kind = kind_of(messages)
        reply = self.replies[kind]
        if isinstance(reply, list):
            reply = reply.pop(0) if len(reply) > 1 else reply[0]
        return reply if isinstance(reply, str) else json.dumps(reply)


def run(folder, few=1, teacher=None, **options):
    source = {} if "documents" in options else {"prompts": "rows.jsonl"}
    fake = FakeTeacher(teacher or Teacher())
    outcomes = run_recipe(Pearl(**(source | options)), folder, fake, few)
    samples = [sample for outcome in outcomes for sample in outcome.samples]
    kinds = [kind_of(request.messages) for request in fake.asked]
    return samples, [text_of(r.messages) for r in fake.asked], kinds, fake


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"completion": "trace"},
        {"context": "extract"},
        {"self_refine": 1},
        {"language": "zh", "mined_from": 0},
        {"language": "zh", "completion": "trace"},
    ],
)
def test_it_does_what_every_recipe_does(folder, options):
    plan = [{**step, "action": "FIND"} for step in PLAN] if options.get("mined_from") == 0 else PLAN
    say = Teacher(steps={"steps": plan})
    [sample] = check_recipe(Pearl(prompts="rows.jsonl", **options), folder, say)
    assert sample.status == "ok" and sample.passage == DOCUMENT


def test_a_plan_is_executed_step_by_step_with_named_results(folder):
    [sample], asked, kinds, _ = run(
        folder, teacher=Teacher(step=["Ann found it.", "Ann, then Bo."])
    )
    assert kinds == ["actions", "actions", "steps", "step", "step", "answer"]
    first, second, answer = asked[3:]
    assert "Task: FIND (find the parts of the document that are about the input)\nInput: the key" in first  # fmt: skip
    assert DOCUMENT in first and "key parts:" not in first
    assert "key parts: Ann found it." in second and "Task: TRACE_OBJECT (follow a thing)" in second
    assert "key parts: Ann found it.\nowners: Ann, then Bo." in answer and DOCUMENT not in answer
    assert (sample.status, sample.completion) == ("ok", "Ann gave it to Bo.")
    assert sample.facts == {
        "plan": PLAN,
        "results": {"key parts": "Ann found it.", "owners": "Ann, then Bo."},
        "answer": "Ann gave it to Bo.",
        "rounds": 1,
        "is_right": True,
    }
    assert sample.messages[0]["content"] == f"{DOCUMENT}\n\nQuestion: {ROWS[0]['prompt']}\nAnswer:"
    assert sample.reference == ["gave it to Bo"]


def test_a_trace_holds_plan_results_and_answer(folder):
    [sample], *_ = run(folder, completion="trace", teacher=Teacher(step=["Ann found it.", "Both."]))
    assert sample.completion == (
        "key parts = find(the key)\nAnn found it.\n\nowners = TRACE_OBJECT(owners in key parts)\n"
        "Both.\n\nAnswer: Ann gave it to Bo."
    )


def test_actions_are_mined_in_the_order_of_the_questions(folder):
    def mine(messages):
        who = "Ann" if "Ann did" in text_of(messages) else "Bo"
        found = [
            {"name": f"ask {who}", "description": f"ask {who}"},
            {"name": "Both!", "description": f"as {who} has it"},
            {"name": "find", "description": "something else"},
            {"name": "..", "description": "no name"},
        ]
        return json.dumps({"actions": found})

    def actions(**options):
        def say(messages):
            return mine(messages) if kind_of(messages) == "actions" else Teacher()(messages)

        _, asked, kinds, _ = run(folder, teacher=say, **options)
        plan = asked[kinds.index("steps")]
        return [line for line in plan.split("\n\n")[0].splitlines()[1:]]

    basic = Wording("pearl").text("actions").splitlines()
    assert actions() == [*basic, "ASK_ANN: ask Ann", "BOTH: as Ann has it", "ASK_BO: ask Bo"]
    assert actions(max_actions=6) == [*basic, "ASK_ANN: ask Ann"]
    assert actions(mined_from=1) == [*basic, "ASK_ANN: ask Ann", "BOTH: as Ann has it"]
    (folder / "seeds.jsonl").write_text('{"prompt": "What does Bo do?"}')
    assert actions(seed_questions="seeds.jsonl") == [*basic, "ASK_BO: ask Bo", "BOTH: as Bo has it"]


def test_a_question_from_which_nothing_is_mined_stops_nothing(folder):
    plan = {"steps": [{"action": "FIND", "input": "x", "result": "y"}]}
    [sample], *_ = run(folder, teacher=Teacher(actions="no JSON", steps=plan))
    assert sample.status == "ok"


@pytest.mark.parametrize(
    ("plan", "fault"),
    [
        ("I would look for it.", "it holds no JSON"),
        ({"steps": []}, "List should have at least 1 item"),
        ({"steps": [{**PLAN[0], "action": "Guess"}]}, "step 1: there is no action 'Guess'; the actions are FIND, SUMMARIZE"),
        ({"steps": [PLAN[0], {**PLAN[0], "input": "all else"}]}, "step 2: its result needs a name of its own, not 'key parts'"),
        ({"steps": [{**PLAN[0], "result": " "}]}, "step 1: its result needs a name of its own"),
        ({"steps": [{**PLAN[0], "result": str(n)} for n in range(9)]}, "at most 6 items"),
    ],
)  # fmt: skip
def test_a_faulty_plan_is_answered_with_its_fault(folder, plan, fault):
    [sample], _, kinds, fake = run(folder, teacher=Teacher(steps=[plan, {"steps": PLAN}]))
    assert sample.status == "ok" and kinds.count("steps") == 2
    assert fault in fake.asked[kinds.index("steps") + 1].messages[-1]["content"]
    [sample], _, kinds, _ = run(folder, teacher=Teacher(steps=plan), corrections=0)
    assert sample.status == "invalid" and kinds.count("steps") == 1
    assert sample.status_reason.startswith("no valid reply in 1 try: ")


def test_a_step_that_is_repeated_in_all_its_parts_is_executed_once(folder):
    again = {"action": "Find", "input": " the key", "result": "key parts "}
    plan = {"steps": [PLAN[0], again, PLAN[1], again]}
    [sample], _, kinds, _ = run(folder, teacher=Teacher(steps=plan))
    assert kinds == ["actions", "actions", "steps", "step", "step", "answer"]
    assert sample.status == "ok" and sample.facts["plan"] == PLAN


@pytest.mark.parametrize(
    ("replies", "status", "reason"),
    [
        ({"step": ["Fine.", ""]}, "invalid", "step 2 (TRACE_OBJECT): the reply is empty"),
        ({"step": "I cannot help with that."}, "refused", "step 1 (FIND): the teacher declined to answer"),
        ({"answer": "I'm sorry, but I can't answer that."}, "refused", "the teacher declined to answer"),
    ],
)  # fmt: skip
def test_a_step_without_a_result_ends_the_seed_with_its_reason(folder, replies, status, reason):
    [sample], *_ = run(folder, teacher=Teacher(**replies))
    assert (sample.status, sample.status_reason) == (status, reason)
    assert sample.facts["plan"] == PLAN


OTHER = [{"action": "LIST", "input": "gifts", "result": "gifts"}]


def test_refinement_goes_on_until_the_answer_holds_the_reference(folder):
    def answers(*texts):
        plans = [{"steps": PLAN}, {"steps": OTHER}]
        return Teacher(answer=list(texts), step=list("abcdefghij"), steps=plans)

    [sample], asked, kinds, _ = run(folder, teacher=answers("Nothing.", "Ann GAVE it to Bo."), self_refine=3)  # fmt: skip
    assert (sample.facts["rounds"], sample.facts["is_right"]) == (2, True)
    assert kinds.count("steps") == 2 and "is_right" not in kinds
    again = asked[len(asked) - 1 - kinds[::-1].index("steps")]
    assert "An earlier plan:\nkey parts = find(the key)" in again
    assert "Its answer: Nothing.\nWhat was wrong: The answer was not the right one." in again
    assert "gave it to Bo" not in again  # the reference is not shown
    [sample], _, kinds, _ = run(
        folder, teacher=answers("Nothing.", "Nothing at all."), self_refine=1
    )
    assert (sample.status, sample.facts["is_right"], kinds.count("steps")) == ("ok", False, 2)


def test_without_a_reference_the_teacher_judges(tmp_path):
    (tmp_path / "a.txt").write_text(DOCUMENT)
    verdicts = [{"is_right": False, "fault": "look for Bo"}, {"is_right": True, "fault": ""}]
    options = {"documents": "a.txt", "questions": ["Who has the key?"], "self_refine": 5}
    plans = [{"steps": PLAN}, {"steps": OTHER}]
    say = Teacher(is_right=verdicts, answer=["Ann.", "Bo."], steps=plans)
    [sample], asked, kinds, _ = run(tmp_path, teacher=say, **options)
    assert (sample.completion, sample.facts["rounds"]) == ("Bo.", 2)
    assert kinds.count("is_right") == 2 and any("What was wrong: look for Bo" in each for each in asked)  # fmt: skip
    wrong = Teacher(is_right={"is_right": False, "fault": ""})
    [sample], _, kinds, _ = run(tmp_path, teacher=wrong, **options)  # the plan stays the same
    assert (sample.facts["rounds"], kinds.count("steps"), kinds.count("is_right")) == (2, 2, 1)
    [sample], _, kinds, _ = run(tmp_path, teacher=Teacher(is_right="yes"), **options)
    assert (sample.status, sample.facts["rounds"]) == ("ok", 1)
    assert sample.facts["no_verdict"].startswith("no valid reply in ")


def test_a_document_that_is_too_long_is_invalid_and_never_cut(folder):
    [sample], _, kinds, _ = run(folder, max_document_tokens=20)
    assert set(kinds) == {"actions"} and sample.status == "invalid"
    assert sample.status_reason == "the document has about 24 tokens, more than max_document_tokens = 20"  # fmt: skip
    [sample], *_ = run(folder, max_document_tokens=24)
    assert sample.status == "ok"


def test_each_question_is_asked_of_each_whole_document(tmp_path):
    words = " ".join(f"word{n}" for n in range(3000))
    (tmp_path / "a.txt").write_text(words)
    (tmp_path / "b.txt").write_text(DOCUMENT)
    recipe = Pearl(documents="*.txt", questions=["Who?", "Why?"])
    values = [seed.value for seed in recipe.seeds(tmp_path, {})]
    assert [(value["document"][:5], value["question"]) for value in values] == [
        ("word0", "Who?"), ("word0", "Why?"), ("Ann f", "Who?"), ("Ann f", "Why?"),
    ]  # fmt: skip
    assert values[0]["document"] == words


def test_a_long_document_is_extracted_in_pieces(tmp_path):
    pieces = [" ".join(["filler"] * 290 + [f"Ann{n} met Bo{n}."]) for n in range(3)]
    (tmp_path / "a.txt").write_text(" ".join(pieces))

    def say(messages):
        if kind_of(messages) == "facts":
            number = next((n for n in range(3) if f"Ann{n}" in text_of(messages)), None)
            facts = [{"subject": f"Ann{number}", "relation": "met", "object": f"Bo{number}"}]
            return json.dumps({"facts": facts if number != 1 else []})
        return Teacher()(messages)

    [sample], asked, kinds, _ = run(
        tmp_path, teacher=say, documents="a.txt", questions=["Who met?"], context="extract"
    )
    assert kinds.count("facts") == 3 and sample.status == "ok"
    assert sample.facts["extract"] == "Ann0 | met | Bo0\nAnn2 | met | Bo2"
    assert sample.facts["pieces_left_out"] == 1
    step = asked[kinds.index("step")]
    assert step.startswith(
        "Facts of the document (subject | relation | object):\nAnn0 | met | Bo0\n"
    )
    assert "filler" not in step and "filler" in sample.messages[0]["content"]


def test_chinese_words(tmp_path):
    (tmp_path / "a.txt").write_text("the mill 小明把钥匙给了小红。")
    plan = {"steps": [{"action": "FIND", "input": "钥匙", "result": "线索"}]}
    [sample], asked, kinds, _ = run(
        tmp_path, documents="a.txt", questions=["钥匙在谁手里？"], language="zh",
        teacher=Teacher(steps=plan, step="给了小红", answer="小红"), completion="trace",
    )  # fmt: skip
    assert "任务：FIND（找出文档中与输入有关的部分）" in asked[kinds.index("step")]
    assert sample.completion == "线索 = FIND（钥匙）\n给了小红\n\n答案：小红"
    assert sample.messages[0]["content"].endswith("问题：钥匙在谁手里？\n回答：")


def test_your_own_wording(folder):
    (folder / "my.j2").write_text(
        '{% extends "pearl.en.j2" %}{% block actions %}READ: read all of it{% endblock %}'
    )
    plan = {"steps": [{"action": "read", "input": "it", "result": "all"}]}
    [sample], asked, kinds, _ = run(folder, teacher=Teacher(steps=plan), template="my.j2", mined_from=0)  # fmt: skip
    assert sample.status == "ok" and kinds == ["steps", "step", "answer"]
    assert "READ: read all of it\n\nQuestion" in asked[0] and "FIND" not in asked[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "give prompts, or documents with questions"),
        ({"prompts": "a.jsonl", "documents": "."}, "give prompts, or documents with questions"),
        ({"documents": "."}, "documents and questions go together"),
        ({"prompts": "a.jsonl", "questions": ["Who?"]}, "documents and questions go together"),
        ({"documents": ".", "questions": ["Who?"], "holdout": 0.2}, "holdout is for prompts"),
        ({"prompts": "a.jsonl", "holdout": 1.0}, "holdout is a share"),
        ({"prompts": "a.jsonl", "columns": {"x": "y"}}, "'x' is none of them"),
        ({"prompts": "a.jsonl", "limit": 0}, "limit is 1 or more"),
        ({"prompts": "a.jsonl", "max_steps": 0}, "max_steps is 1 or more"),
        ({"prompts": "a.jsonl", "max_document_tokens": 0}, "max_document_tokens is 1 or more"),
        ({"prompts": "a.jsonl", "corrections": -1}, "corrections is 0 or more"),
        ({"prompts": "a.jsonl", "self_refine": -1}, "self_refine is 0 or more"),
    ],
)
def test_wrong_options_are_one_line(options, said):
    with pytest.raises(ValueError, match=said):
        Pearl(**options)


def test_a_row_without_a_document_is_one_line(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "Who?"}')
    with pytest.raises(
        DataError, match="rows.jsonl line 1 has no document; give a column 'passage'"
    ):
        list(Pearl(prompts="rows.jsonl").seeds(tmp_path, {}))


def test_the_calls_of_a_seed_are_bounded():
    recipe = Pearl(prompts="rows.jsonl", max_steps=4, corrections=1)
    assert recipe.calls_expected == (0, 2 + 4 + 1)
    refined = Pearl(prompts="rows.jsonl", max_steps=4, corrections=1, self_refine=1)
    assert refined.calls_expected == (0, 7 + 3 + 7)
