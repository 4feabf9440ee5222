"""Labels by vote, bound to the user's list."""

import json
from pathlib import Path

import pytest

from datagen.conformance import FakeTeacher, check_recipe, run_recipe
from datagen.recipes.classify import Classify
from datagen.teacher import Reply
from warehouse import catalog
from warehouse.errors import DataError, PlanError
from warehouse.inputs.rows import read_rows

LABELS = {"spam": "unsolicited advertising", "ham": "wanted mail", "bill": "asks for money owed"}
ROWS = [{"prompt": f"Buy {n} pills now!", "reference": "spam"} for n in range(8)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, ROWS)
    return tmp_path


def write(folder: Path, rows: list[dict]) -> None:
    (folder / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))


def labelled(label: str, reason: str = "It sells pills.") -> str:
    return json.dumps({"reason": reason, "label": label})


class Voting(FakeTeacher):
    """Gives one reply for each draw."""

    def __init__(self, *texts: str) -> None:
        super().__init__(lambda messages: "")
        self.texts = texts

    async def stream(self, requests, budget=None):
        while (request := await requests.next()) is not None:
            self.asked.append(request)
            yield Reply(request, self.texts[(request.sampling.seed or 0) % len(self.texts)])


def voted(folder, *texts, **options):
    """The example of the first row, with one draw for each text."""
    fake = Voting(*texts)
    recipe = Classify("rows.jsonl", labels=LABELS, k=len(texts), **options)
    [outcome] = run_recipe(recipe, folder, fake, few=1)
    assert outcome.fault is None
    [sample] = outcome.samples
    return sample, fake


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"k": 3, "completion": "reasoned", "student_sees": "descriptions"},
        {"abstain": True, "student_sees": "text"},
        {"labels": ["spam", "ham"], "k": 4},
    ],
)
def test_it_does_what_every_recipe_does(folder, options):
    recipe = Classify("rows.jsonl", **{"labels": LABELS, **options})
    (sample,) = check_recipe(recipe, folder, [labelled("spam")])
    assert sample.status == "ok" and sample.reference == ["spam"]
    assert sample.facts["agreement"] == 1.0 and sample.facts["reason"] == "It sells pills."


def test_the_label_is_bound_by_a_schema_with_the_reason_first(folder):
    sample, fake = voted(folder, labelled("spam"), abstain=True)
    schema = fake.asked[0].sampling.response_format["json_schema"]["schema"]
    assert list(schema["properties"]) == ["reason", "label"]
    assert schema["properties"]["label"]["enum"] == ["bill", "ham", "spam", "none of these"]
    asked = fake.asked[0].messages[0]["content"]
    assert "- bill: asks for money owed" in asked and "none of these: no label fits" in asked
    assert sample.completion == "spam"


def test_most_draws_decide_and_their_share_is_the_confidence(folder):
    sample, fake = voted(folder, labelled("ham", "a"), labelled("spam", "b"), labelled("spam", "c"))
    assert (sample.completion, sample.status) == ("spam", "ok")
    assert sample.facts == {
        "votes": {"ham": 1, "spam": 2}, "agreement": 2 / 3, "reason": "b",
    }  # fmt: skip
    assert len(fake.asked) == 3
    sample, _ = voted(folder, labelled("ham"), labelled("spam"))
    assert sample.status == "invalid" and sample.status_reason.startswith("no majority: 2 answers")
    three = [labelled("ham"), labelled("spam"), labelled("spam")]
    sample, _ = voted(folder, *three, min_agreement=0.7)
    assert sample.status_reason == "2 of 3 draws agree, fewer than min_agreement = 0.7"


def test_a_draw_that_does_not_parse_is_no_vote(folder):
    sample, fake = voted(folder, "spam, I think", labelled("spam"), labelled("spam"))
    assert sample.completion == "spam" and sample.facts["agreement"] == 2 / 3
    assert len(fake.asked) == 2 + 2  # greedy decoding would repeat the same fault
    sample, _ = voted(folder, labelled("junk"), labelled("spam", "  "))
    assert sample.status == "invalid" and sample.facts["votes"] == {}
    assert "label: 'junk' is not one of" in sample.status_reason
    assert sample.completion == labelled("junk")


def test_abstaining_is_invalid_and_counted(folder):
    texts = [labelled("none of these")] * 2 + [labelled("spam")]
    sample, _ = voted(folder, *texts, abstain=True)
    assert sample.status == "invalid"
    assert sample.status_reason == "abstained: 2 of 3 draws say that no label fits"
    assert sample.facts["votes"] == {"none of these": 2, "spam": 1}


def test_each_draw_sees_the_labels_in_another_order(folder):
    fake = FakeTeacher(lambda messages: labelled("spam"))
    run_recipe(Classify("rows.jsonl", labels=LABELS, k=3), folder, fake)
    orders = {}
    for request in fake.asked:
        text = request.messages[0]["content"]
        order = tuple(sorted(LABELS, key=lambda name: text.index(f"- {name}:")))
        orders.setdefault(text.split("Text:")[1], []).append(order)
    assert len(orders) == 8
    for three in orders.values():
        for place in range(3):
            assert {order[place] for order in three} == set(LABELS)
    assert len({three[0] for three in orders.values()}) > 1  # no text begins as all others do


@pytest.mark.parametrize(
    ("sees", "shown"),
    [
        ("text", "Buy 0 pills now!"),
        ("names", "Buy 0 pills now!\n\nWhich label fits this text?\n- spam\n- ham\n- bill"),
        (
            "descriptions",
            "Buy 0 pills now!\n\nWhich label fits this text?\n- spam: unsolicited advertising\n"
            "- ham: wanted mail\n- bill: asks for money owed",
        ),
    ],
)
def test_what_the_student_sees(folder, sees, shown):
    sample, _ = voted(folder, labelled("spam"), student_sees=sees, completion="reasoned")
    assert sample.messages == [{"role": "user", "content": shown}]
    assert sample.completion == "It sells pills.\nLabel: spam"


def test_passages_are_labelled_once_each(tmp_path):
    rows = [{"prompt": f"Q{n}?", "passage": f"Passage {n // 2}"} for n in range(6)]
    write(tmp_path, [*rows, {"prompt": "No passage?"}])
    fake = FakeTeacher(lambda messages: labelled("ham"))
    recipe = Classify("rows.jsonl", labels=LABELS, text="passage")
    samples = [s for o in run_recipe(recipe, tmp_path, fake) for s in o.samples]
    assert [s.status_reason for s in samples] == [None] * 3 + ["the row has no passage to label"]
    assert [s.messages[0]["content"].split("\n")[0] for s in samples[:3]] == [
        f"Passage {n}" for n in range(3)
    ]
    assert len(fake.asked) == 3


def test_held_out_rows_are_never_asked(folder):
    held = [row.prompt for row in read_rows("rows.jsonl", folder, "held_out", 0.5)]
    fake = FakeTeacher(lambda messages: labelled("ham"))
    run_recipe(Classify("rows.jsonl", labels=LABELS, holdout=0.5), folder, fake)
    text = json.dumps([request.messages for request in fake.asked])
    assert held and fake.asked and not any(question in text for question in held)


def test_chinese_wording_and_a_template_of_the_user(folder):
    recipe = Classify("rows.jsonl", labels=["广告", "来信"], language="zh", abstain=True)
    (sample,) = check_recipe(recipe, folder, [labelled("广告")])
    assert "哪个标签符合这段文本" in sample.messages[0]["content"]
    assert "- 以上都不是：没有合适的标签" in next(recipe.ask_all(folder)).messages[0]["content"]
    (folder / "my.j2").write_text(
        '{% extends "classify.en.j2" %}{% block student %}Mail: {{ text }}{% endblock %}'
    )
    recipe = Classify("rows.jsonl", labels=LABELS, template="my.j2")
    (sample,) = check_recipe(recipe, folder, [labelled("spam")])
    assert sample.messages[0]["content"] == "Mail: Buy 0 pills now!"


def test_an_option_that_asks_nothing_else_asks_nothing_again(folder):
    fake = FakeTeacher(lambda messages: labelled("spam"))
    run_recipe(Classify("rows.jsonl", labels=LABELS, k=2), folder, fake)
    changed = {"min_agreement": 0.9, "completion": "reasoned", "student_sees": "text"}
    turned = dict(reversed(LABELS.items()))
    run_recipe(Classify("rows.jsonl", labels=turned, k=2, **changed), folder, fake)
    assert len(fake.asked) == 16


def test_a_label_that_means_abstaining_is_refused(folder):
    recipe = Classify("rows.jsonl", labels=["spam", "none of these"], abstain=True)
    with pytest.raises(DataError, match="is also what an abstaining teacher says"):
        list(recipe.ask_all(folder))


def test_only_draws_with_the_same_order_need_a_temperature():
    assert [Classify("x", labels=LABELS, k=k).draws for k in (1, 3, 4)] == [1, 1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ["spam"]}, "labels are two or more"),
        ({}, "labels are two or more"),
        ({"labels": ["a", " "]}, "none of them empty"),
        ({"labels": ["Spam", "spam"]}, "label 'spam' is given twice"),
        ({"labels": ["a", "b"], "student_sees": "descriptions"}, "needs labels = {"),
        ({"labels": ["a", "b"], "k": 0}, "k is 1 or more"),
        ({"labels": ["a", "b"], "min_agreement": -1}, "min_agreement is a share"),
    ],
)
def test_a_wrong_option_is_one_line(options, message):
    with pytest.raises(PlanError) as error:
        catalog.build("recipe", {"use": "classify", "prompts": "rows.jsonl", **options})
    assert message in error.value.faults[0]
