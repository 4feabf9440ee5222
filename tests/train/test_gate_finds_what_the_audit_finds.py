"""What the audit would stop a training for, the gate has dropped before."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from quality.tasks.benchmark import item_of
from tests.quality.test_gate import sample
from tests.support.held_out import hold_out
from train.audit.held_out_overlap import HeldOutTexts
from warehouse.inputs.rows import Row

WORDS = (
    "Which",
    "organ",
    "pumps",
    "blood?",
    "it",
    "水为什么会在一百度时沸腾而在零度时结冰",
    "?",
    "7",
)
TEXT = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)


@given(question=TEXT, passage=st.none() | TEXT, asked=TEXT, said=TEXT, before=st.none() | TEXT)
def test_the_gate_finds_it_too(question, passage, asked, said, before):
    row = Row(question, [{"role": "user", "content": question}], ["x"], passage)
    prompt = [{"role": "user", "content": text} for text in (before, asked) if text]
    of_audit = HeldOutTexts([(question, passage)]).found_in(
        {"prompt": prompt, "completion": [{"role": "assistant", "content": said}]}
    )
    if of_audit is None:
        return
    one = replace(sample(question=asked), messages=prompt, completion=said)
    assert hold_out([("custom", item_of(row))]).match([one]) != [None]


def test_there_is_something_to_find():
    quoted = "Which organ pumps blood through it?"
    row = {"prompt": [{"role": "user", "content": f"Say: {quoted}"}], "completion": []}
    assert HeldOutTexts([(quoted, None)]).found_in(row) == quoted
