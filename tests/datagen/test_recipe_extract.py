"""JSON by the user's schema: its forms, and which values have to stand in the passage."""

import json

import pytest

from datagen.conformance import FakeTeacher, check_recipe, run_recipe
from datagen.recipes.extract import Extract
from warehouse.catalog import build, table_of
from warehouse.errors import DataError, PlanError

PASSAGE = "On 3 May 2021 Acme Ltd. sold two pumps to Blue Lake AG for 900 euros."
SCHEMA = {
    "type": "object",
    "properties": {
        "seller": {"type": "string"},
        "kind": {"enum": ["invoice", "offer"]},
        "items": {
            "type": "array",
            "items": {"type": "object", "properties": {"name": {"type": "string"}}},
        },
    },
    "required": ["seller"],
}
GOOD = {"seller": "ACME Ltd", "kind": "invoice", "items": [{"name": "pumps"}]}
MODELS = '''
from datetime import date
from enum import Enum
from pydantic import BaseModel, field_validator

class Kind(str, Enum):
    SALE = "sale"
    GIFT = "gift"

class Item(BaseModel):
    name: str

class Deal(BaseModel):
    """A deal."""
    seller: str
    day: date
    kind: Kind
    items: list[Item] = []

    @field_validator("seller")
    @classmethod
    def not_the_buyer(cls, value: str) -> str:
        if "Blue" in value:
            raise ValueError("the seller is not the buyer")
        return value
'''
DEAL = {"seller": "Acme Ltd.", "day": "2021-05-03", "kind": "sale", "items": [{"name": "pumps"}]}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"passage": PASSAGE}))
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    (tmp_path / "models.py").write_text(MODELS)
    return tmp_path


def recipe(**options):
    return Extract(**({"passages": "rows.jsonl", "schema": SCHEMA} | options))


def run(folder, *replies, **options):
    """The only sample, and what was asked; replies in turn, the last one for ever."""
    waiting = [reply if isinstance(reply, str) else json.dumps(reply, ensure_ascii=False) for reply in replies]  # fmt: skip

    def say(messages):
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    fake = FakeTeacher(say)
    [outcome] = run_recipe(recipe(**options), folder, fake)
    [sample] = outcome.samples
    return sample, fake.asked


@pytest.mark.parametrize("schema", [SCHEMA, "schema.json", "./models.py:Deal"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_it_does_what_every_recipe_does(folder, schema, language):
    reply = DEAL if isinstance(schema, str) and ".py" in schema else GOOD
    [sample] = check_recipe(recipe(schema=schema, language=language), folder, [json.dumps(reply)])
    assert sample.status == "ok" and sample.passage == PASSAGE
    assert json.loads(sample.completion) == reply


def test_values_have_their_characters_in_the_passage(folder):
    sample, asked = run(folder, GOOD)
    spans = {path: PASSAGE[start:end] for path, (start, end) in sample.facts["spans"].items()}
    assert spans == {"seller": "Acme Ltd", "items.0.name": "pumps"}
    assert sample.facts["not_in_passage"] == {}
    assert asked[0].sampling.response_format["json_schema"]["schema"] == SCHEMA
    assert sample.messages[0]["content"] == f"{PASSAGE}\n\nExtract the data of this text as JSON."


def test_a_value_that_was_made_up_is_answered_with_its_path(folder):
    made_up = {"seller": "Acme Ltd", "items": [{"name": "pumps"}, {"name": "valves"}]}
    sample, asked = run(folder, made_up, GOOD)
    assert (sample.status, len(asked)) == ("ok", 2)
    assert (
        'items.1.name: "valves" does not stand in the passage' in asked[1].messages[-1]["content"]
    )
    sample, asked = run(folder, made_up)
    assert (sample.status, len(asked)) == ("invalid", 2)
    assert sample.status_reason == "not in the passage: items.name"
    assert sample.facts == {"not_in_passage": {"items.1.name": "valves"}}
    assert json.loads(sample.completion) == made_up
    sample, _ = run(folder, made_up, "no JSON")  # the reason is that of the last reply
    assert sample.status_reason == "no valid reply in 3 tries: it holds no JSON"


def test_which_values_are_verified(folder):
    made_up = {"seller": "Acme Ltd", "items": [{"name": "valves"}]}
    sample, _ = run(folder, made_up, verify="none")
    assert sample.status == "ok" and sample.facts["not_in_passage"] == {"items.0.name": "valves"}
    sample, _ = run(folder, made_up, verify="listed", listed=["seller"])
    assert sample.status == "ok"
    for path in ("items.name", "items"):
        sample, _ = run(folder, made_up, verify="listed", listed=[path])
        assert sample.status == "invalid" and sample.status_reason.endswith("items.name")


def test_an_empty_text_says_nothing_and_needs_no_place(folder):
    sample, _ = run(folder, {"seller": "", "items": []})
    assert sample.status == "ok" and sample.facts == {"spans": {}, "not_in_passage": {}}


def test_the_schema_is_validated(folder):
    sample, asked = run(folder, {"items": []}, GOOD)
    assert sample.status == "ok" and "'seller' is a required property" in asked[1].messages[-1]["content"]  # fmt: skip
    sample, _ = run(folder, "no JSON at all")
    assert (sample.status, sample.completion) == ("invalid", "no JSON at all")


def test_a_pydantic_model_validates_by_its_own_code(folder):
    sample, asked = run(folder, DEAL | {"seller": "Blue Lake AG"}, DEAL, schema="./models.py:Deal")
    assert "the seller is not the buyer" in asked[1].messages[-1]["content"]
    assert json.loads(sample.completion) == DEAL  # dates and enums need no place
    assert sample.facts["spans"].keys() == {"seller", "items.0.name"}
    with pytest.raises(PlanError, match="models.py defines 2 classes of a pydantic model"):
        run(folder, DEAL, schema="./models.py")
    with pytest.raises(PlanError, match="defines no class 'Invoice'"):
        run(folder, DEAL, schema="./models.py:Invoice")
    with pytest.raises(PlanError, match="no such file"):
        run(folder, DEAL, schema="./none.py:Deal")


def test_an_edit_of_the_schema_s_file_is_no_mistake_of_the_recipe(folder):
    for schema, file in (("schema.json", "schema.json"), ("./models.py:Deal", "models.py")):
        assert [path.name for path in recipe(schema=schema).input_files(folder)] == [file]
    assert recipe().input_files(folder) == []


def test_chinese_values_are_located(folder):
    (folder / "rows.jsonl").write_text(json.dumps({"passage": "李白是唐代诗人，生于碎叶城。"}))
    schema = {"type": "object", "properties": {"人物": {"type": "string"}}}
    sample, asked = run(folder, {"人物": "李白"}, schema=schema, language="zh", show_schema=True)
    assert (sample.status, sample.completion) == ("ok", '{"人物": "李白"}')
    assert "请按照下面的 JSON schema" in asked[0].messages[0]["content"]
    assert '"人物"' in sample.messages[0]["content"]
    sample, _ = run(folder, {"人物": "杜甫"}, schema=schema, language="zh")
    assert sample.status_reason == "not in the passage: 人物"


def test_your_own_wording(folder):
    (folder / "my.j2").write_text(
        '{% extends "extract.en.j2" %}{% block student %}Deal? {{ passage }}{% endblock %}'
    )
    sample, _ = run(folder, GOOD, template="my.j2")
    assert sample.messages == [{"role": "user", "content": f"Deal? {PASSAGE}"}]


def test_a_schema_stands_in_a_plan_as_a_table(folder):
    part = build("recipe", {"use": "extract", "passages": "rows.jsonl", "schema": SCHEMA}, folder)
    assert table_of(part)["schema"] == SCHEMA


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"schema": {"type": "array"}}, 'it describes an object; give type = "object"'),
        ({"schema": {"type": "object"}}, "it has no properties"),
        ({"schema": {"type": "object", "properties": {"a": {"type": "txt"}}}}, "properties.a.type: 'txt' is not"),
        ({"schema": {"type": "object", "properties": {"a": {"$ref": "http://x"}}}}, "a \\$ref points into"),
        ({"schema": "schema.toml"}, 'schema is a table, a file "schema.json", or'),
        ({"verify": "listed"}, 'verify = "listed" and the paths in listed go together'),
        ({"listed": ["seller"]}, 'verify = "listed" and the paths in listed go together'),
    ],
)  # fmt: skip
def test_wrong_options_are_one_line(options, said):
    with pytest.raises(ValueError, match=said):
        recipe(**options)


def test_faults_of_files_are_one_line(folder):
    with pytest.raises(DataError, match="schema none.json cannot be read: No such file"):
        run(folder, GOOD, schema="none.json")
    (folder / "schema.json").write_text("{")
    with pytest.raises(DataError, match="schema schema.json is not JSON"):
        run(folder, GOOD, schema="schema.json")
    (folder / "schema.json").write_text("[]")
    with pytest.raises(DataError, match="schema schema.json: it describes an object"):
        run(folder, GOOD, schema="schema.json")
    with pytest.raises(DataError, match=r"no path 'items.nam' \(did you mean 'items.name'"):
        run(folder, GOOD, verify="listed", listed=["items.nam"])


def test_paths_follow_references(folder):
    run(folder, DEAL, schema="./models.py:Deal", verify="listed", listed=["items.name"])
