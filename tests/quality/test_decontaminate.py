"""Decontamination: what gives a held-out item away is found, what is only of its subject is not."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from quality.gate.decontaminate import Decontaminate, digest_of
from quality.gate.dedup import form
from quality.gate.held_out_index import HeldOutItem
from quality.tasks.benchmark import item_of
from tests.support.held_out import hold_out
from warehouse.inputs.rows import Row
from warehouse.records import Prompt, Sample

SHORT = "Which organelle makes most of the energy that a living cell needs to work?"
LONG = (
    "A train leaves the station at noon and travels north along the river until it meets "
    "another train that left the harbour two hours later; which of the two trains has "
    "travelled the greater distance when they meet, and why is that so?"
)
PASSAGE = "Mitochondria are found in nearly all cells. They make ATP by breathing."


def row(question, reference=(), passage=None):
    return Row(question, [{"role": "user", "content": question}], list(reference), passage)


def index(*rows, **options):
    return hold_out([("made", item_of(one)) for one in rows], Decontaminate(**options))


HELD = index(row(SHORT, ["the mitochondrion"], PASSAGE), row(LONG, ["the first train"]))


def kind(question, held_out=HELD, **rest):
    found = held_out.match_text(question, **rest)
    return found and found.kind


def test_the_same_question_or_passage_in_any_writing():
    found = HELD.match_text(f"  {SHORT.upper()}!! ")
    assert found.as_json() == {
        "kind": "question",
        "benchmark": "made",
        "item_id": item_of(row(SHORT, ["x"], PASSAGE)).item_id,
        "share": 1.0,
        "shown": SHORT[:80],
        "shared": ["which", "organelle", "makes", "most", "of"],
    }
    assert kind("What is new?", passage=PASSAGE.lower()) == "passage"
    strict = index(row(SHORT, [], PASSAGE), ngrams=100, share=1.0)
    assert kind(SHORT, strict) == "question"
    assert kind("What is new?", strict, passage=PASSAGE) == "passage"


@example("What is it?", "·", "")
@given(
    st.text(max_size=40).filter(form),
    st.text(max_size=40).filter(form),
    st.text(max_size=9),
)
def test_equal_after_normalisation_always_matches(question, passage, other):
    held_out = index(row(question, ["x"], passage))
    for written in (f" {question} ", unicodedata.normalize("NFD", question), question.upper()):
        if form(written) == form(question):  # upper case is not always undone
            assert kind(written, held_out) == "question"
    assert kind(other, held_out, passage=f"{passage} ") in ("question", "passage")


def test_a_question_quoted_word_for_word_anywhere_in_the_sample():
    quoting = f"A quiz of last year: {SHORT.lower()} Nobody knew."
    for where in ("passage", "completion"):
        assert kind("What was asked in the quiz?", **{where: quoting}) == "quoted"
    assert kind("What was asked?", others=["fine", quoting]) == "quoted"
    assert kind(quoting) == "quoted"
    assert kind("What was asked?", passage=SHORT.replace("organelle", "part")) is None
    few = index(row("What is it?", ["a cell"]))
    assert kind("Who said so?", few, passage="She asked: what is it? A cell.") is None


def test_typos_with_the_same_answer():
    typos = SHORT.replace("organelle", "organele").replace("living", "liveing")
    assert kind(typos, completion="It is the mitochondrion.") == "overlap"
    assert kind(typos, reference=["Mitochondrion"]) == "overlap"
    assert kind(typos, completion="chloroplast") is None
    assert (
        kind(typos, index(row(SHORT, ["x"]), answer=False), completion="chloroplast") == "overlap"
    )
    assert kind(typos, index(row(SHORT)), completion="the mitochondrion") is None
    # An answer is compared as whole words: "art" does not stand in "heart".
    assert kind(typos, index(row(SHORT, ["art"])), completion="the heart") is None


def test_a_long_question_within_another_text():
    cut = LONG.partition(" and why")[0]
    asked = f"Read this with care, think it over twice, and then tell me in your own words. {cut}"
    assert kind(asked, completion="The first train has.") == "overlap"
    assert kind(f"{LONG} Tell.", completion="Neither.") == "quoted"
    # So much of a long one that the answer does not matter.
    assert kind(asked, completion="Neither.") == "overlap"
    edited = LONG.replace("river", "coast").replace("noon", "one")
    assert kind(edited, completion="Neither.") == "overlap"
    half = " ".join(LONG.split()[: len(LONG.split()) // 2])
    assert kind(half, completion="Neither.") is None
    shuffled = " ".join(LONG.split()[::-1])  # the same words, and nothing that is quoted
    assert kind(shuffled, completion="The first train has.") is None


def test_questions_of_one_subject_are_not_the_same():
    held_out = index(
        row("What is the capital of France?", ["Paris"]),
        row("Is the number 17 a prime number greater than ten?", ["yes"]),
        row("Tom has 3 apples and buys 4 more; how many apples does he have now?", ["7"]),
        row("Is a whale really a kind of mammal?", ["yes"]),
    )
    assert kind("What is the capital of Germany?", held_out, completion="Berlin") is None
    assert (
        kind("Is the number 19 a prime number greater than ten?", held_out, completion="yes")
        is None
    )
    other = "Tom has 2 apples and buys 5 more; how many apples does he have now?"
    assert kind(other, held_out, completion="7") is None
    assert kind("Is a bat really a kind of mammal?", held_out, completion="yes") is None
    # A paraphrase of which another thing is the answer.
    asked = "Which organelle stores most of the water that a living plant needs to work?"
    assert kind(asked, completion="the vacuole") is None


@pytest.mark.parametrize(
    ("asked", "typed"),
    [
        ("ما هي العضية التي تنتج معظم الطاقة في الخلية الحية", "ما هي العضيه التي تنتج معظم الطاقة في الخلية الحية"),
        ("细胞里的哪一个部分生产大部分的能量", "细胞里的哪一个部份生产大部分的能量"),
    ],
)  # fmt: skip
def test_other_scripts(asked, typed):
    held_out = index(row(asked, ["الميتوكوندريا", "线粒体"]))
    assert kind(asked + "؟", held_out) == "question"
    assert kind("?", held_out, passage=f"— {asked} —") == "quoted"
    assert (
        kind(typed, held_out, completion="الميتوكوندريا" if asked[0] == "م" else "是线粒体")
        == "overlap"
    )
    assert kind(typed, held_out, completion="no") is None


@pytest.mark.parametrize("text", ["", " \n", "🙂🙃", "\ud800", "\x00\x07", "a" * 1_000_000])
def test_strange_texts_match_nothing_by_accident(text):
    assert kind(text, passage=text, completion=text, reference=[text], others=[text]) is None
    if text == "\ud800":
        return  # no row holds half a character: `read_rows` refuses it
    held_out = index(row(text, [text], text), row(SHORT, [""], ""))
    assert kind("What is new?", held_out) is None
    assert kind("🙁", held_out, passage="🙁") is None
    if text.strip() and text != "\x00\x07":
        assert kind(text, held_out) == "question"


def test_a_sample_is_looked_at_whole():
    messages = [
        {"role": "user", "content": f"Earlier you were asked: {SHORT}"},
        {"role": "assistant", "content": "I was."},
        {"role": "user", "content": "Then go on."},
    ]
    prompt = Prompt.of(recipe="imitation", messages=messages, question="Then go on.")
    sample = Sample.of(prompt, call_ids=["c"], recipe_version="1", completion="No.", status="ok")
    assert HELD.match([sample])[0].kind == "quoted"
    assert hold_out([]).match([sample]) == [None]


PIECES = [
    SHORT,
    LONG,
    PASSAGE,
    *SHORT.split()[:4],
    "the cell",
    "makes most of",
    "two hours later",
    "x",
]


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=6).map(" ".join), max_size=8))
def test_many_samples_at_once_match_as_each_alone(texts):
    samples = []
    for number, text in enumerate([*texts, f"So {LONG}", f"He said: {PASSAGE}"]):
        messages = [{"role": "user", "content": f"Question {number}"}]
        prompt = Prompt.of(recipe="imitation", messages=messages, question=f"Question {number}")
        sample = Sample.of(prompt, call_ids=["c"], recipe_version="1", completion=text, status="ok")
        samples.append(sample)
    together = HELD.match(samples)
    assert together == [HELD.match([sample])[0] for sample in samples]
    assert [found and found.kind for found in together[-2:]] == ["quoted", "quoted"]


@pytest.mark.parametrize(("share", "found"), [(0.6, "overlap"), (0.61, None)])
def test_a_share_at_the_bound_matches(share, found):
    held_out = index(row("Which tall brown tree?", ["oak"]), share=share)  # 3 of 5 words are shared
    assert kind("Which tall brown bush?", held_out, completion="oak") == found


def test_the_digest_is_of_content_and_options_not_of_order():
    def digest(*rows, benchmark="made", **options):
        first, *others = [item_of(one) for one in rows]
        items = [HeldOutItem.of(benchmark, first), *(HeldOutItem.of("made", one) for one in others)]
        return digest_of(items, Decontaminate(**options))

    one, two = row(SHORT, ["x"]), row(LONG)
    assert digest(one, two) == digest(two, one)
    others = {
        digest(one, two),
        digest(one),
        digest(one, two, share=0.5),
        digest(row(SHORT, ["y"]), two),
        digest(one, two, benchmark="other"),
    }
    assert len(others) == 5


@pytest.mark.parametrize("bad", [{"ngrams": 1}, {"share": 0.0}, {"share": 1.5}, {"exact": False}])
def test_options_that_make_no_sense_are_refused(bad):
    with pytest.raises(ValidationError):
        Decontaminate.model_validate(bad)


@given(
    st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=40),
    st.lists(st.sampled_from("abcdefghij")),
    st.integers(0, 40),
    st.integers(0, 40),
)
def test_the_index_misses_no_overlap_that_a_full_comparison_finds(held, other, start, stop):
    """Short questions by their words, and long ones by the runs that are quoted."""
    long = len(held) >= 16
    asked = [*other, *held[start:stop]] if long else other
    second = "b c d e f g h i j"
    held_out = index(row(" ".join(held), ["the cell"]), row(second, ["x"]))
    found = held_out.match_text(" ".join(asked), completion="a cell")
    if long:
        tokens = held_out._tokens(form(" ".join(asked)))
        share = held_out._compare_runs(held_out._index._texts[0], tokens).share
    else:
        share = len(set(held) & set(asked)) / len(set(held) | set(asked))
    if share >= 0.7:
        assert found is not None
    else:
        assert found is None or found.kind != "overlap" or found.shown == second


def test_a_passage_quoted_in_a_longer_text_is_found():
    held_out = index(row(SHORT, ["x"], PASSAGE))
    assert kind("What is new?", held_out, passage=f"Before it. {PASSAGE} And after.") == "quoted"
    assert kind(f"{PASSAGE} What is new?", held_out) == "quoted"
    assert kind("What is new?", held_out, passage=" ".join(PASSAGE.split()[1:])) == "quoted"
    assert kind("What is new?", held_out, passage=" ".join(PASSAGE.split()[:4])) is None
