"""Contexts: what stands around a question, the same on any day."""

import pytest

from datagen.recipes.imitation import Imitation
from distill.contestants.context import Sources
from quality.conformance import sample_of
from quality.tasks.benchmark import item_of
from tests.support.plans import rows, write_rows
from warehouse import catalog
from warehouse.errors import NothingToDoError
from warehouse.inputs.rows import read_rows


def sample(question, completion):
    return sample_of(completion, question)


KEPT = [
    sample("What colour is the otter?", "brown"),
    sample("Where does the heron nest?", "in trees"),
    sample("What colour is the badger?", "grey"),
    sample("How long do newts live? " + "They are said to live long. " * 20, "ten years"),
    sample("Who hunts the lynx?", "nobody"),
]


@pytest.fixture
def world(tmp_path):
    write_rows(tmp_path / "held_out.jsonl", rows(1000, 3))
    write_rows(tmp_path / "prompts.jsonl", rows(0, 12))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("The otter with number 1000 was seen in the delta.")
    (tmp_path / "docs" / "b.md").write_text("Stones are older than trees.")
    items = [item_of(row) for row in read_rows("held_out.jsonl", tmp_path)]
    recipe = Imitation(prompts="prompts.jsonl", examples=2, instruction="Be brief.")
    return items, Sources(recipe, tmp_path, KEPT)


def build_messages(context, world, **options):
    items, sources = world
    part = catalog.build("context", {"use": context, **options})
    first = part.build_messages(items, sources)
    assert first == part.build_messages(items, sources)
    assert [one[-1]["role"] for one in first] == ["user"] * len(items)
    return first


def said(messages):
    return [message["content"] for message in messages if message["role"] == "assistant"]


def test_plain_is_the_question_alone(world):
    assert build_messages("plain", world) == [item.messages for item in world[0]]


def test_recipe_is_what_the_teacher_was_shown(world):
    items, sources = world
    for messages, item in zip(build_messages("recipe", world), items, strict=True):
        assert messages == sources.recipe.ask_row(item.row, sources.folder).messages
        assert messages[0] == {"role": "system", "content": "Be brief."}
        assert len(said(messages)) == 2


def test_fewshot_shows_the_same_examples_each_time_and_no_long_one(world):
    found = build_messages("fewshot", world, k=3)
    assert len({tuple(said(messages)) for messages in found}) == 1
    assert len(said(found[0])) == 3 and "ten years" not in said(found[0])


def test_fewshot_wants_as_many_as_it_shows(world):
    with pytest.raises(NothingToDoError, match="lower k"):
        build_messages("fewshot", world, k=6)


@pytest.mark.parametrize("by", ["bm25", "jaccard"])
def test_knn_shows_the_nearest_last(world, by):
    items, _sources = world
    found = build_messages("knn", world, k=2, by=by)
    for messages, item in zip(found, items, strict=True):
        assert "colour" in item.row.prompt
        assert set(said(messages)) == {"brown", "grey"}
    otter = next(n for n, item in enumerate(items) if "otter" in item.row.prompt)
    assert said(found[otter])[-1] == "brown"


def test_retrieval_puts_the_passage_before_the_question(world):
    items, _ = world
    found = build_messages("retrieval", world, documents=["docs"], k=1)
    otter = next(n for n, item in enumerate(items) if "otter" in item.row.prompt)
    text = found[otter][-1]["content"]
    assert (
        text
        == f"The otter with number 1000 was seen in the delta.\n\n{items[otter].messages[-1]['content']}"
    )
    assert "Stones" not in str(found)


def test_every_context_says_in_one_phrase_what_it_shows():
    for name in catalog.names("context"):
        options = {"documents": ["docs"]} if name == "retrieval" else {}
        description = catalog.build("context", {"use": name, **options}).description()
        assert "question" in description and "\n" not in description and len(description) < 120
