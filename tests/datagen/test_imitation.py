import json
from dataclasses import replace
from pathlib import Path

import pytest

from datagen.conformance import check_recipe
from datagen.generate import to_call
from datagen.recipes.imitation import Imitation, _is_example
from datagen.teacher import Reply, Request, Sampling
from tests.support.replaying import samples_from
from warehouse import catalog
from warehouse.errors import DataError, PlanError
from warehouse.inputs.prompt_sources import held_out_share
from warehouse.inputs.rows import Row, is_held_out, read_rows

ROWS = [
    {"prompt": f"Q{n}?", "reference": f"word{n}", "passage": f"It is said: word{n} is it."}
    for n in range(20)
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, ROWS)
    return tmp_path


def write(folder: Path, rows: list[dict]) -> None:
    text = "\n".join(json.dumps(row) for row in rows)
    (folder / "rows.jsonl").write_text(text)


def judged(text: str, finish_reason: str = "stop", **options) -> tuple[str, str | None]:
    recipe = Imitation(prompts="rows.jsonl", **options)
    [row] = ROWS[:1]
    from warehouse.inputs.rows import Row

    asked = recipe.ask_row(Row(row["prompt"], [{"role": "user", "content": row["prompt"]}]), Path())
    reply = Reply(Request.of("t", asked.messages, Sampling()), text, finish_reason)
    [sample] = samples_from(recipe, asked, to_call(reply, "t", "r"))
    assert sample.completion == text.strip() and sample.call_ids == [reply.request.call_id]
    return sample.status, sample.status_reason


@pytest.mark.parametrize("options", [{}, {"examples": 2, "n": 3}, {"instruction": "Be brief."}])
def test_it_does_what_every_recipe_does(folder, options):
    (sample,) = check_recipe(Imitation(prompts="rows.jsonl", **options), folder)
    assert (sample.status, sample.completion) == ("ok", "blue")


def test_a_file_is_asked_whole_and_in_order(folder):
    prompts = list(Imitation(prompts="rows.jsonl").ask_all(folder))
    assert [prompt.question for prompt in prompts] == [row["prompt"] for row in ROWS]
    first = prompts[0]
    assert first.messages == first.student_messages
    assert first.messages[0]["content"].startswith("It is said: word0 is it.\n\nQuestion: Q0?")
    assert first.reference == ["word0"] and first.recipe == "imitation"


def test_examples_are_turns_before_the_question_and_are_never_asked(folder):
    recipe = Imitation(prompts="rows.jsonl", examples=3, instruction="Be brief.")
    prompts = list(recipe.ask_all(folder))
    assert len(prompts) == 17
    messages = prompts[0].messages
    assert [m["role"] for m in messages] == ["system"] + ["user", "assistant"] * 3 + ["user"]
    assert messages[0]["content"] == "Be brief."
    for question, answer in zip(messages[1:7:2], messages[2:7:2], strict=True):
        assert f"said: {answer['content']} is" in question["content"]
    shown = {m["content"] for m in messages if m["role"] == "assistant"}
    assert not shown & {prompt.reference[0] for prompt in prompts}
    assert prompts[0].student_messages == messages[-1:]


def test_examples_do_not_depend_on_the_order_of_the_file(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    write(other, ROWS[::-1])
    recipe = Imitation(prompts="rows.jsonl", examples=4)
    one, two = (next(recipe.ask_all(where)).messages[:-1] for where in (folder, other))
    assert one == two


def test_only_short_references_in_short_passages_are_examples(tmp_path):
    write(
        tmp_path,
        [
            {"prompt": "long reference", "reference": "a b c d", "passage": "a b c d"},
            {"prompt": "not in passage", "reference": "cat", "passage": "concatenate"},
            {"prompt": "long passage", "reference": "x", "passage": "x " * 150},
            {"prompt": "no reference", "passage": "x"},
            {"prompt": "fit", "reference": "The Cat", "passage": "See the cat."},
            {"prompt": "no passage", "reference": "yes"},
        ],
    )
    recipe = Imitation(prompts="rows.jsonl", examples=2)
    asked = [prompt.question for prompt in recipe.ask_all(tmp_path)]
    assert asked == ["long reference", "not in passage", "long passage", "no reference"]
    with pytest.raises(DataError, match="has 2 rows fit for worked examples.*examples = 3"):
        list(Imitation(prompts="rows.jsonl", examples=3).ask_all(tmp_path))


def test_a_row_is_not_its_own_worked_example(folder):
    recipe = Imitation(prompts="rows.jsonl", examples=2)
    for row in read_rows("rows.jsonl", folder):
        said = [
            m["content"] for m in recipe.ask_row(row, folder).messages if m["role"] == "assistant"
        ]
        assert row.reference[0] not in said


def test_the_held_out_share_is_never_asked_nor_shown(folder):
    recipe = Imitation(prompts="rows.jsonl", holdout=0.5, examples=2)
    held = {row.prompt for row in read_rows("rows.jsonl", folder, "held_out", 0.5)}
    prompts = list(recipe.ask_all(folder))
    text = json.dumps([prompt.messages for prompt in prompts])
    assert held and prompts and not any(f"Question: {question}" in text for question in held)
    assert not any(is_held_out(row.split_key, 0.5) for row in recipe._examples(folder))
    everything = Imitation(prompts="rows.jsonl", holdout=0.5, split="all")
    assert len(list(everything.ask_all(folder))) == 20


def test_a_known_data_set_is_asked_on_its_train_side():
    rows = Imitation(prompts="sciq")._rows(Path())
    assert not any(is_held_out(row.split_key, 0.3) for row in rows)
    assert held_out_share("sciq", None) == 0.3 and held_out_share("sciq", 0.1) == 0.1


MIXTURE = [{"path": "rows.jsonl", "weight": 3}, {"path": "other.jsonl", "columns": {"prompt": "q"}}]


def test_a_mixture_is_asked_in_the_order_of_its_weights_and_never_what_is_held_out(folder):
    (folder / "other.jsonl").write_text("".join(f'{{"q": "Other {n}?"}}\n' for n in range(20)))
    recipe = catalog.build("recipe", {"use": "imitation", "prompts": MIXTURE, "limit": 12})
    asked = [prompt.question for prompt in recipe.ask_all(folder)]
    assert sum(question.startswith("Other") for question in asked) == 3
    assert [q.startswith("Other") for q in asked[:4]] == [False, False, True, False]
    assert [source.source for source in recipe.row_sources()] == ["rows.jsonl", "other.jsonl"]
    held = Imitation(prompts=MIXTURE, holdout=0.5)
    asked = {prompt.question for prompt in held.ask_all(folder)}
    for source in MIXTURE:
        kept_back = read_rows(source["path"], folder, "held_out", 0.5, source.get("columns"))
        assert not asked & {row.prompt for row in kept_back}
    check_recipe(recipe, folder)


@pytest.mark.parametrize(
    ("prompts", "told"),
    [
        ([], "name at least one"),
        ([{"path": "a.jsonl", "weight": 0}], "the weight of 'a.jsonl' is above 0, not 0"),
        ([{"path": "a.jsonl", "share": 2}], "prompts"),
        ("hf:squad", "is no data set of the hub; write hf:org/name"),
        ([{"path": "a.jsonl", "columns": {"promt": "x"}}], "'promt' is none of them"),
    ],
)
def test_a_faulty_mixture_is_refused(prompts, told):
    with pytest.raises(PlanError) as refused:
        catalog.build("recipe", {"use": "imitation", "prompts": prompts})
    assert told in " ".join(refused.value.faults)


def test_limit_and_hidden_passage(folder):
    recipe = Imitation(prompts="rows.jsonl", limit=2, student_sees_passage=False)
    prompts = list(recipe.ask_all(folder))
    assert [prompt.student_messages for prompt in prompts] == [
        [{"role": "user", "content": "Q0?"}],
        [{"role": "user", "content": "Q1?"}],
    ]
    assert "word0 is it" in prompts[0].messages[-1]["content"]


@pytest.mark.parametrize(
    ("text", "finish_reason", "status"),
    [
        (" water \n", "stop", "ok"),
        ("  ", "stop", "invalid"),
        ("I'm sorry, but I can't help with that.", "stop", "refused"),
        ("I cannot answer this.", "length", "refused"),
        ("As an AI language model, I have no view.", "stop", "refused"),
        ("partly", "content_filter", "refused"),
        ("The answer is that the", "length", "truncated"),
        ("I can see that plants need light.", "stop", "ok"),
        ("Sorrel is a plant.", "stop", "ok"),
        ("Sorry, I do not know.", "stop", "refused"),
    ],
)
def test_statuses(text, finish_reason, status):
    assert judged(text, finish_reason)[0] == status


def test_a_long_answer_is_invalid_with_the_reason():
    assert judged("one two three", max_answer_words=3) == ("ok", None)
    assert judged("one two three four", max_answer_words=3) == (
        "invalid",
        "4 words, more than max_answer_words = 3",
    )


@pytest.mark.parametrize(
    "options",
    [{"holdout": 1.0}, {"split": "train"}, {"limit": 0}, {"examples": -1}, {"max_answer_words": 0}],
)
def test_wrong_options_are_faults_of_the_plan(options):
    with pytest.raises(PlanError):
        catalog.build("recipe", {"use": "imitation", "prompts": "rows.jsonl", **options})
    assert catalog.build("recipe", {"use": "imitation", "prompts": "x.jsonl"}).limit is None


def test_the_worked_examples_of_an_english_plan_are_chosen_as_ever():
    """They are part of prompts, and so of call ids: other ones would be paid for again."""
    chinese = Row("北京是哪国的首都？", [], ["中国"], "北京是中国的首都。")
    assert not _is_example(chinese)
    assert _is_example(replace(chinese, language="zh"))
