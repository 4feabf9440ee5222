"""Whatever the policy and the scores, a benchmark item is never kept."""

from hypothesis import given
from hypothesis import strategies as st

from quality.benchmark import item_of
from quality.gate import GatePolicy, HeldOut, choose
from tests.test_quality_gate import sample, score
from warehouse.rows import Row, normalise

TEXT = st.text(min_size=1, max_size=30).filter(normalise)


def row(question, passage):
    return Row(question, [{"role": "user", "content": question}], ["x"], passage)


@given(
    question=TEXT,
    passage=TEXT,
    other=TEXT,
    value=st.floats(allow_nan=True) | st.none(),
    bound=st.floats(0, 1),
    lenient=st.booleans(),
)
def test_never_kept(question, passage, other, value, bound, lenient):
    held_out = HeldOut.of([item_of(row(question, passage))])
    policy = GatePolicy.model_validate({"grounded_min": bound, "keep_abstained": lenient})
    by_question = sample(question=f" {question.upper()} ", passage=other)
    by_passage = sample(question=other, passage=passage)
    if normalise(by_question.question) == normalise(question):  # upper case is not always undone
        (choice,) = choose(
            [by_question], [score(by_question, "grounded", value)], policy, held_out, "s"
        )
        assert not choice.kept
        assert choice.reason == "held_out: question"
    (choice,) = choose([by_passage], [score(by_passage, "grounded", value)], policy, held_out, "s")
    assert not choice.kept
    assert choice.reason.startswith("held_out")
