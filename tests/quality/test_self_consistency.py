"""Self-consistency: agreement by hand, seeds, one call per batch, abstentions."""

from dataclasses import replace

import pytest

from datagen.teacher import Request, Sampling
from quality.scorers.self_consistency import SelfConsistency
from quality.scoring.scorer import ScorerContext
from tests.support.scoring import FakeAsk, sample
from warehouse.catalog import build
from warehouse.errors import PlanError


def in_turn(*texts):
    """A rule: the first seed gets the first text, and so on; each prompt begins anew."""
    return lambda question: texts[question.seed - 7001]


def score_batch(scorer, teacher, *samples, asked=None):
    if asked is None:
        asked = {one.prompt_id: one.messages for one in samples}
    return list(
        scorer.with_tools(
            ScorerContext(teacher=teacher, prompt_messages=lambda ids: asked)
        ).score_batch(samples)
    )


def test_a_short_answer_gets_the_share_of_replies_that_agree():
    teacher = FakeAsk(in_turn("paris", "The Paris.", "Lyon", "Paris, France"))
    (verdict,) = score_batch(SelfConsistency(k=4), teacher, sample("Paris"))
    assert verdict.value == 0.5 and verdict.why is None
    assert verdict.details["replies"] == 4
    assert verdict.details["agreed"] == [7001, 7002]
    assert verdict.details["labels"]["answer"] == 0.5
    # "paris, france" against "paris": F1 = 2 * 1 / (2 + 1)
    (looser,) = score_batch(SelfConsistency(k=4, agree_f1=0.66), teacher, sample("Paris"))
    assert looser.value == 0.75


def test_an_answer_that_is_only_an_article_is_compared_as_it_stands():
    (verdict,) = score_batch(
        SelfConsistency(k=4), FakeAsk(in_turn("a", "B", "The", "...")), sample("A")
    )
    assert verdict.value == 0.25


def test_a_longer_text_gets_the_mean_support_of_its_sentences_or_the_worst():
    text = "Rome is old. Mars has moons."
    teacher = FakeAsk(in_turn("Rome is old!", "Rome was old, and Mars has moons."))
    scorer = SelfConsistency(k=2, short_words=3)
    (verdict,) = score_batch(scorer, teacher, sample(text))
    # first sentence: (3/3 + 2/3) / 2; second: (0/3 + 3/3) / 2
    assert verdict.details["sentences"] == [pytest.approx(5 / 6, abs=1e-4), 0.5]
    assert verdict.value == pytest.approx((5 / 6 + 0.5) / 2)
    assert verdict.details["labels"]["sentence"] == verdict.value
    assert verdict.details["worst"] == "Mars has moons."
    (worst,) = score_batch(SelfConsistency(k=2, short_words=3, over="worst"), teacher, sample(text))
    assert worst.value == worst.details["labels"]["sentence"] == 0.5


def test_signs_of_scripts_without_spaces_count_as_words():
    teacher = FakeAsk(in_turn("北京是中国的首都", "上海很大"))
    (verdict,) = score_batch(SelfConsistency(k=2, short_words=3), teacher, sample("北京是首都"))
    assert verdict.value == pytest.approx((5 / 5 + 0 / 5) / 2)


def test_all_questions_of_a_batch_go_out_in_one_call_with_k_distinct_seeds():
    teacher = FakeAsk(lambda question: "x")
    samples = [sample("x", question=f"q{number}") for number in range(3)]
    assert [
        v.value for v in score_batch(SelfConsistency(k=4, max_tokens=9), teacher, *samples)
    ] == [1.0] * 3
    assert [len(call) for call in teacher.calls] == [12]
    assert {question.temperature for question in teacher.questions} == {0.8}
    requests = {
        Request.of(
            "t",
            question.messages,
            Sampling(question.temperature, question.max_tokens, seed=question.seed),
        ).call_id
        for question in teacher.questions
    }
    assert len(requests) == 12


def test_samples_of_the_same_messages_share_their_replies():
    teacher = FakeAsk(in_turn("x", "y"))
    other = replace(sample("z"), prompt_id="the same messages with another seed")
    verdicts = score_batch(SelfConsistency(k=2), teacher, sample("x"), other)
    assert [verdict.value for verdict in verdicts] == [0.5, 0.0]
    assert len(teacher.questions) == 2


def test_fewer_than_two_replies_is_no_agreement():
    gone = FakeAsk(in_turn("x", None, "  "))
    assert score_batch(SelfConsistency(k=3), gone, sample("x"))[0].value is None
    assert score_batch(SelfConsistency(k=3), gone, sample("x"))[0].why == "1 of 3 replies came back"
    (verdict,) = score_batch(SelfConsistency(k=3), FakeAsk(in_turn("x", None, "y")), sample("x"))
    assert (verdict.value, verdict.why) == (0.5, "2 of 3 replies came back")


def test_it_asks_nothing_where_it_abstains():
    teacher = FakeAsk(lambda question: "x")
    verdicts = score_batch(SelfConsistency(), teacher, sample(" \n"), sample("x"), asked={})
    assert [verdict.why for verdict in verdicts] == [
        "no completion",
        "the messages that the teacher was asked are not on hand",
    ]
    assert teacher.calls == []


def test_strange_texts_get_a_verdict_each():
    texts = ["", "\x00\x07", "🙂 " * 50, "א" * 400, "half \ud800 a sign. " * 9, "word. " * 170_000]
    teacher = FakeAsk(lambda question: "word \udc00 🙂")
    samples = [sample(text, question=f"q{number}") for number, text in enumerate(texts)]
    verdicts = score_batch(SelfConsistency(k=2), teacher, *samples)
    assert len(verdicts) == len(texts)
    for verdict in verdicts:
        assert verdict.value is None or 0 <= verdict.value <= 1
        str(verdict.details).encode()  # nothing that UTF-8 cannot hold


def test_the_score_follows_the_teacher():
    def score_id(name, **options):
        tools = ScorerContext(teacher=FakeAsk(lambda question: "x", name))
        return SelfConsistency(**options).with_tools(tools).score_id(sample("x"))

    assert len({score_id("a"), score_id("b"), score_id("a", k=3)}) == 3
    with pytest.raises(PlanError, match="needs the plan's teacher"):
        list(SelfConsistency().score([sample("x")]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": 1},
        {"temperature": 0.0},
        {"max_tokens": 0},
        {"short_words": -1},
        {"agree_f1": 0.0},
        {"over": "median"},
    ],
)
def test_wrong_options_are_refused(wrong):
    with pytest.raises(PlanError, match=next(iter(wrong))):
        build("scorer", {"use": "self_consistency", **wrong})
