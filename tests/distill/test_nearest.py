"""Wrong items and the training rows that are nearest to them."""

import pytest

from distill.evaluation.comparison import ItemText
from distill.evaluation.nearest_rows import find_still_wrong
from tests.distill.test_compare import answer
from warehouse.records import Sample, Score


def sample(name, question, completion="yes", passage=None, messages=()):
    return Sample(
        sample_id=name,
        prompt_id=f"p{name}",
        call_ids=[],
        recipe="imitation",
        recipe_version="1",
        messages=list(messages) or [{"role": "user", "content": question}],
        completion=completion,
        question=question,
        reference=[],
        passage=passage,
        status="ok",
        status_reason=None,
    )


def score(name, scorer, value, version="1"):
    return Score(f"{name}-{scorer}-{version}", name, scorer, version, "rule", {}, value, None)


QUESTIONS = [
    "which gas do green plants release at noon",
    "who painted the ceiling of the chapel",
    "how many moons circle planet mars",
    "zebra xylophone",
]
ITEMS = [ItemText(f"i{n:03d}", text, None, [f"ref {n}"]) for n, text in enumerate(QUESTIONS)]
KEPT = [
    sample("a", "how many moons circle planet jupiter", "79"),
    sample("b", "how many moons circle planet mars", "three"),
    sample("c", "which gas do animals breathe", "oxygen"),
    sample("d", "how many rings has a tree", "many"),
    sample("e", "what did the painter of the chapel eat", "bread"),
]


def wrong(grades, kept=KEPT, scores=(), costs=None, items=ITEMS, **options):
    said = [answer("student", n, grade) for n, grade in enumerate(grades)]
    return find_still_wrong(
        "quiz", said, items, "exact_match", kept, scores, costs or {}, **options
    )


def test_the_nearest_row_first_and_the_item_with_a_near_row_first():
    found = wrong([0.0, 0.0, 0.0, 0.0])
    assert [one.item_id for one in found] == ["i002", "i000", "i001", "i003"]
    mars = found[0]
    assert [near.sample_id for near in mars.neighbours] == ["b", "a", "d"]
    assert mars.neighbours[0].similarity == pytest.approx(1.0)
    assert (mars.question, mars.reference) == (QUESTIONS[2], ["ref 2"])
    assert mars.said == "student says 0.0"
    assert mars.neighbours[0].completion == "three"
    for one in found:
        similarities = [near.similarity for near in one.neighbours]
        assert similarities == sorted(similarities, reverse=True)
        assert all(0 < value <= 1 for value in similarities)
    assert found[3].neighbours == []


def test_words_that_no_row_has_count_as_missing():
    """All of the query's known words are in the row, but most of it is not."""
    item = ItemText("i000", "moons quokka wombat numbat dingo", None, [])
    found = wrong([0.0], kept=[sample("a", "moons")], items=[item])
    assert 0 < found[0].neighbours[0].similarity < 0.5


def test_right_half_right_and_ungraded_items_are_not_wrong():
    assert [one.item_id for one in wrong([1.0, 0.5, None, 0.49])] == ["i003"]


def test_scores_and_costs_stand_beside_a_row():
    scores = [
        score("b", "toxicity", 0.9),
        score("b", "grounded", None),
        score("b", "toxicity", 0.1, "2"),
        score("a", "grounded", 1.0),
    ]
    found = wrong([1.0, 1.0, 0.0], scores=scores, costs={"b": 0.25, "a": None})
    b, a, d = found[0].neighbours
    assert b.scores == {"grounded": None, "toxicity": 0.1}
    assert (b.cost_usd, a.cost_usd, d.cost_usd) == (0.25, None, None)
    assert (a.scores, d.scores) == ({"grounded": 1.0}, {})


def test_passages_count_and_a_row_without_question_is_known_by_its_last_message():
    item = ItemText("i000", "What is it?", "The basalt column cools slowly.", [])
    rows = [
        sample("a", "", messages=[{"role": "user", "content": "slowly cools the column"}]),
        sample("b", "What is it?", passage="Basalt column, how it cools slowly"),
    ]
    found = wrong([0.0], kept=rows, items=[item])[0]
    assert [near.sample_id for near in found.neighbours] == ["b", "a"]
    assert found.neighbours[1].question == "slowly cools the column"


def test_few_rows_no_rows_and_limits():
    assert len(wrong([0.0] * 4, k=1)[0].neighbours) == 1
    assert [one.item_id for one in wrong([0.0] * 4, limit=2)] == ["i002", "i000"]
    bare = wrong([0.0] * 2, kept=[])
    assert [(one.item_id, one.neighbours) for one in bare] == [("i000", []), ("i001", [])]
    assert wrong([1.0] * 4) == []
    assert wrong([]) == []


def test_order_repeats_and_other_items_change_nothing():
    said = [answer("student", n, 0.0) for n in range(4)]
    arguments = ("exact_match", KEPT, [], {})
    again = [answer("student", 99, 0.0), *said[::-1], said[0]]
    assert find_still_wrong("quiz", said, ITEMS, *arguments) == find_still_wrong(
        "quiz", again, ITEMS[::-1], "exact_match", KEPT[::-1], [], {}
    )
