"""Pairs from passages: what is asked, what is verified, and what is balanced before asking."""

import json
from collections import Counter

import pytest

from datagen.conformance import FakeTeacher, check_recipe, run_recipe
from datagen.recipes.grounded_qa import _REFERS, GroundedQa
from warehouse.errors import DataError

CITIES = {"Paris": "France", "Rome": "Italy", "Lima": "Peru", "Oslo": "Norway", "Cairo": "Egypt"}


def passage(number: int) -> str:
    city, country = list(CITIES.items())[number % len(CITIES)]
    return f"{city} is the capital of {country}. Route {number} leads there."


@pytest.fixture
def folder(tmp_path):
    rows = [{"passage": passage(n)} for n in range(20)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pairs = [{"prompt": f"What is {n}?", "reference": f"number {n}"} for n in range(10)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    return tmp_path


def text_of(messages) -> str:
    return messages[0]["content"]


def number_in(text: str) -> str:
    return text.split("Route ")[1].split()[0]


def answer(messages) -> str:
    """A right reply to each kind of request."""
    text = text_of(messages)
    if '"facts"' in text:
        facts = [
            {"subject": "Route", "relation": "has", "object": text.split("Route ")[1].split()[0]}
        ]
        return json.dumps({"facts": facts})
    if '"questions"' in text:
        return json.dumps({"questions": ["How old is it?"]})
    place = text.split("Route")[1].strip(" |hasnumber\n").split()[0]
    return json.dumps(
        {"pairs": [{"question": f"Which route is {place}?", "answer": f"route {place}"}]}
    )


def run(folder, say=answer, few=20, **options):
    recipe = GroundedQa(**({"passages": "rows.jsonl"} | options))
    fake = FakeTeacher(say)
    outcomes = run_recipe(recipe, folder, fake, few)
    return [sample for outcome in outcomes for sample in outcome.samples], fake


def pairs(*pairs):
    return lambda messages: json.dumps(
        {"pairs": [{"question": question, "answer": answer} for question, answer in pairs]}
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"book": "closed", "seed_pairs": "pairs.jsonl", "question_types": ["who", "where"]},
        {"unanswerable": 0.5},
        {"context": "extract"},
        {"language": "zh"},
    ],
)
def test_it_does_what_every_recipe_does(folder, options):
    [sample] = check_recipe(GroundedQa(passages="rows.jsonl", **options), folder, answer)
    assert sample.status == "ok" and sample.passage == passage(0)


def test_the_student_sees_the_passage_in_an_open_book_and_the_question_alone_in_a_closed_one(
    folder,
):
    [opened], _ = run(folder, few=1)
    [closed], _ = run(folder, few=1, book="closed")
    question = "Which route is 0?"
    assert opened.messages[0]["content"] == f"{passage(0)}\n\nQuestion: {question}\nAnswer:"
    assert closed.messages == [{"role": "user", "content": question}]
    assert opened.completion == closed.completion == "route 0"
    start, end = opened.facts["answer_span"]
    assert passage(0)[start:end] == "Route 0"


@pytest.mark.parametrize(
    ("question", "reply", "reason"),
    [
        ("Capital of France?", "paris", None),
        ("Capital of France?", "Par", "the answer does not stand in the passage"),
        ("Capital of France?", "Madrid", "the answer does not stand in the passage"),
        ("Capital of France?", " ", "the answer is empty"),
        ("?", "Paris", "the question is empty"),
        ("What does the passage say?", "Paris", "refers to a passage that is not shown"),
        (
            "Which city?",
            "Paris is the capital of France",
            "6 words, more than max_answer_words = 5",
        ),
    ],
)
def test_each_pair_is_verified(folder, question, reply, reason):
    [sample], _ = run(folder, pairs((question, reply)), 1, book="closed", max_answer_words=5)
    assert (sample.status == "ok") is (reason is None)
    assert reason is None or reason in sample.status_reason


def test_an_open_book_may_speak_of_its_passage(folder):
    [sample], _ = run(folder, pairs(("Which city does the text name?", "Paris")), 1)
    assert sample.status == "ok"


@pytest.mark.parametrize(
    "question",
    [
        "According to the passage, who won?", "What does the author think?", "Which is mentioned above?",
        "What is the given text about?", "这段文字说了什么？", "根据上文，谁赢了？", "文中提到了哪座城市？",
        "本文的主题是什么？", "根据短文，他去了哪里？", "作者认为什么重要？",
    ],
)  # fmt: skip
def test_questions_that_point_at_a_passage_are_known(question):
    assert _REFERS.search(question)


@pytest.mark.parametrize(
    "question",
    [
        "Who was the author of Hamlet?", "What is a passage in music?", "What does the text of the law forbid?",
        "日本文化起源于哪里？", "中文中的声调有几个？", "根据文献记载，他生于哪一年？", "该材料的熔点是多少？",
        "基本内容有哪些？", "《红楼梦》的作者是谁？",
    ],
)  # fmt: skip
def test_other_questions_are_left_alone(question):
    assert not _REFERS.search(question)


def test_chinese_answers_and_words(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"passage": "北京是中国的首都。"}')
    say = pairs(("中国的首都是哪里？", "北京"), ("中国的首都是哪里？", "北京"), ("在哪？", "南京"))
    samples, fake = run(tmp_path, say, passages="a.jsonl", pairs=3, language="zh")
    assert [sample.status for sample in samples] == ["ok", "invalid", "invalid"]
    assert samples[0].messages[0]["content"].endswith("问题：中国的首都是哪里？\n回答：")
    assert samples[1].status_reason == "the question came before for this passage"
    assert "请写出 3 个不同的可以用上面的文字回答的问题" in text_of(fake.asked[0].messages)


def test_fewer_pairs_than_asked_for_are_told(folder):
    samples, fake = run(folder, pairs(("Capital of France?", "Paris")), 1, pairs=3)
    assert [sample.status for sample in samples] == ["ok", "invalid"]
    assert samples[1].status_reason == "the teacher wrote 1 of 3 pairs"
    assert fake.asked[0].sampling.response_format["json_schema"]["schema"]["properties"]["pairs"][
        "maxItems"
    ] == 3  # fmt: skip


def test_question_types_and_unanswerable_ones_are_balanced_before_asking(folder):
    options = {"question_types": ["who", "where"], "unanswerable": 0.2, "pairs": 1}
    recipe = GroundedQa(passages="rows.jsonl", **options)
    values = [seed.value for seed in recipe.seeds(folder, {})]
    kinds = Counter((value["types"][0], "unanswerable" in value) for value in values)
    assert kinds == {("who", False): 8, ("where", False): 8, ("who", True): 2, ("where", True): 2}


def test_a_document_that_is_added_asks_for_nothing_else(tmp_path):
    for name in "bd":
        text = " ".join(f"{name}{n}" for n in range(200))
        (tmp_path / f"{name}.txt").write_text(text)
    recipe = GroundedQa(documents=".", words=20, unanswerable=0.3, question_types=["x", "y", "z"])
    before = {seed.seed_id for seed in recipe.seeds(tmp_path, {})}
    (tmp_path / "a.txt").write_text("A new document.")
    after = {seed.seed_id for seed in recipe.seeds(tmp_path, {})}
    assert len(before) == 20 and before < after and len(after) == 21


def test_an_unanswerable_question_is_answered_by_saying_so(folder):
    for language, words in (("en", "The text does not say."), ("zh", "文中没有说明。")):
        [sample], _ = run(folder, few=1, unanswerable=1.0, language=language)
        assert (sample.status, sample.completion, sample.reference) == ("ok", words, [words])
        assert sample.question == "How old is it?" and sample.facts == {"unanswerable": True}


def test_demonstrations_are_drawn_anew_for_each_passage(folder):
    _, fake = run(folder, seed_pairs="pairs.jsonl", demonstrations=5)
    shown = [
        frozenset(
            n for n in range(10) if f"What is {n}?\nAnswer: number {n}\n" in text_of(r.messages)
        )
        for r in fake.asked
    ]
    assert all(len(each) == 5 for each in shown) and len(set(shown)) > 10
    _, again = run(folder, seed_pairs="pairs.jsonl", demonstrations=5)
    assert set(again.calls) == set(fake.calls)


def test_a_demonstration_with_a_passage_is_a_turn_before_the_question(folder):
    pair = {
        "prompt": "Legs of a spider?",
        "reference": "eight",
        "passage": "Spiders have eight legs.",
    }
    (folder / "pairs.jsonl").write_text(json.dumps(pair))
    _, fake = run(folder, lambda messages: answer(messages[2:]), 1, seed_pairs="pairs.jsonl", demonstrations=1)  # fmt: skip
    shown, reply, asked = fake.asked[0].messages
    assert shown["content"].replace("Spiders have eight legs.", passage(0)) == asked["content"]
    assert reply["role"] == "assistant" and json.loads(reply["content"]) == {
        "pairs": [{"question": "Legs of a spider?", "answer": "eight"}]
    }


def test_an_extract_takes_the_place_of_the_passage(folder):
    def say(messages):
        if '"facts"' in text_of(messages):
            facts = [
                {"subject": "Paris", "relation": "is capital of", "object": "France"},
                {"subject": "Paris", "relation": "is in", "object": "Texas"},
            ]
            return json.dumps({"facts": facts})
        return json.dumps({"pairs": [{"question": "Capital of France?", "answer": "Paris"}]})

    [sample], fake = run(folder, say, 1, context="extract")
    asked = text_of(fake.asked[1].messages)
    assert "Facts (subject | relation | object):\nParis | is capital of | France\n" in asked
    assert "Texas" not in asked and passage(0) not in asked
    assert sample.status == "ok" and sample.facts["extract"] == "Paris | is capital of | France"
    assert passage(0) in sample.messages[0]["content"]


def test_an_extract_of_which_nothing_stands_in_the_passage_is_invalid(folder):
    facts = {"facts": [{"subject": "a", "relation": "b", "object": "c"}]}
    [sample], fake = run(folder, lambda messages: json.dumps(facts), 1, context="extract")
    assert (sample.status, len(fake.asked)) == ("invalid", 1)
    assert sample.status_reason == "none of the 1 extracted facts stands in the passage"


@pytest.mark.parametrize("reply", ["no JSON", '{"pairs": []}', '{"pairs": [{"question": "Why?"}]}'])
def test_a_malformed_reply_is_an_invalid_sample(folder, reply):
    [sample], _ = run(folder, lambda messages: reply, 1)
    assert (sample.status, sample.completion) == ("invalid", reply)
    assert sample.status_reason.startswith("no valid reply in ")


def test_held_out_passages_are_not_asked_about(folder):
    kept = {seed.value["passage"] for seed in GroundedQa(passages="rows.jsonl", holdout=0.5).seeds(folder, {})}  # fmt: skip
    assert 0 < len(kept) < 20


def test_your_own_wording(folder):
    (folder / "my.j2").write_text(
        '{% extends "grounded_qa.en.j2" %}{% block ask %}Quiz on {{ text }}: "pairs"{% endblock %}'
    )
    _, fake = run(folder, few=1, template="my.j2")
    assert text_of(fake.asked[0].messages) == f'Quiz on {passage(0)}: "pairs"'
    (folder / "de.j2").write_text('{% block ask %}Frag etwas zu: {{ text }} "pairs"{% endblock %}')
    [sample], fake = run(folder, few=1, template="de.j2", language="de")
    assert text_of(fake.asked[0].messages).startswith("Frag etwas zu: Paris")
    assert sample.messages[0]["content"] == f"{passage(0)}\n\nWhich route is 0?"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"passages": None}, "give documents or passages, one of them"),
        ({"documents": "."}, "give documents or passages, one of them"),
        ({"pairs": 0}, "pairs is 1 or more"),
        ({"demonstrations": -1}, "demonstrations is 0 or more"),
        ({"unanswerable": 1.1}, "unanswerable is a share from 0 to 1"),
        ({"unanswerable": 0.1, "book": "closed"}, 'unanswerable needs book = "open"'),
        ({"question_types": []}, "question_types is a list of texts"),
        ({"question_types": ["who", " "]}, "question_types is a list of texts"),
        ({"max_answer_words": 0}, "max_answer_words is 1 or more"),
        ({"holdout": 1.0}, "holdout is a share"),
        ({"passages": None, "documents": ".", "holdout": 0.2}, "holdout is for passages"),
        ({"limit": 0}, "limit is 1 or more"),
        ({"words": 0}, "words is 1 or more"),
    ],
)
def test_wrong_options_are_one_line(options, said):
    with pytest.raises(ValueError, match=said):
        GroundedQa(**({"passages": "rows.jsonl"} | options))


def test_faults_of_files_are_one_line(folder):
    with pytest.raises(DataError, match=r"rows.jsonl line 1 has no text 'text'; name the column"):
        list(GroundedQa(passages="rows.jsonl", column="text").seeds(folder, {}))
    with pytest.raises(DataError, match="has 10 pairs, fewer than demonstrations = 11"):
        run(folder, seed_pairs="pairs.jsonl", demonstrations=11)
    (folder / "bare.jsonl").write_text('{"prompt": "Why?"}')
    with pytest.raises(DataError, match="bare.jsonl line 1 has no answer"):
        run(folder, seed_pairs="bare.jsonl", demonstrations=1)
