"""Whatever the policy, the scores and the humans say, a benchmark item is never kept."""

from hypothesis import given
from hypothesis import strategies as st

from quality.tasks.benchmark import item_of
from tests.quality.test_gate import gate, human, sample, score
from tests.support.held_out import hold_out
from warehouse.inputs.rows import Row
from warehouse.text.words import split_form

TEXT = st.text(min_size=1, max_size=30).filter(split_form)


def row(question, passage):
    return Row(question, [{"role": "user", "content": question}], ["x"], passage)


@given(
    question=TEXT,
    passage=TEXT,
    other=TEXT,
    value=st.floats(allow_nan=True) | st.none(),
    bound=st.floats(0, 1),
    lenient=st.booleans(),
    accepted=st.booleans(),
)
def test_never_kept(question, passage, other, value, bound, lenient, accepted):
    held_out = hold_out([("custom", item_of(row(question, passage)))])
    policy = {"grounded_min": bound, "keep_abstained": lenient}
    by_question = sample(question=f" {question.upper()} ", passage=other)
    by_passage = sample(question=other, passage=passage)
    for one in (by_question, by_passage):
        if one is by_question and split_form(one.question) != split_form(question):
            continue  # upper case is not always undone
        said = [score(one, "grounded", value), *([human(one, 1.0)] if accepted else [])]
        (choice,) = gate([one], said, held_out, **policy)
        assert not choice.kept
        assert choice.reason.startswith("held_out: ")
