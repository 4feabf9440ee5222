"""The plan: all faults at once, each with a hint; overrides; a stable hash."""

from pathlib import Path

import pytest

from distill.plan.plan import Plan, load_plan
from warehouse.catalog import name_of
from warehouse.errors import PlanError

SMALL = """
name = "small"
[teacher]
use = "scripted"
[[datagen.recipe]]
use = "imitation"
prompts = "prompts.jsonl"
"""


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "plan.toml"
    file.write_text(text)
    return file


def faults_of(tmp_path: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(PlanError) as caught:
        load_plan(write(tmp_path, text))
    return caught.value.faults


def test_a_small_plan_has_defaults_for_the_rest(tmp_path):
    plan = load_plan(write(tmp_path, SMALL))
    assert plan.train is None
    assert plan.warehouse == "stillhouse.duckdb"
    assert plan.evaluate.contestants == ["teacher", "base", "student"]


def test_unknown_keys_and_wrong_types_are_refused_together(tmp_path):
    faults = faults_of(
        tmp_path,
        SMALL.replace("prompts =", "promts =")
        + '[train]\nbase = "x"\nepocs = 2\nbatch_size = "8"\n[evaluate]\nbenchmark = []\n',
    )
    told = "\n".join(faults)
    assert "did you mean 'prompts'?" in told
    assert "train.epocs: unknown key (did you mean 'epochs'?)" in told
    assert "train.batch_size" in told
    assert "did you mean 'benchmarks'?" in told


def test_an_unknown_part_names_the_nearest(tmp_path):
    (fault,) = faults_of(tmp_path, SMALL.replace('"scripted"', '"scriptd"'))
    assert "did you mean 'scripted'?" in fault


def test_an_unknown_sampling_key_is_refused(tmp_path):
    text = SMALL + "[datagen.sampling]\nmax_token = 3\n"
    (fault,) = faults_of(tmp_path, text)
    assert "did you mean 'max_tokens'?" in fault


def test_missing_sections_are_named(tmp_path):
    told = "\n".join(faults_of(tmp_path, 'name = "x"\n'))
    assert "teacher: missing" in told
    assert "datagen: missing" in told


@pytest.mark.parametrize("text", ["name = ", "\xff\xfe"])
def test_what_is_not_toml_is_one_clear_line(tmp_path, text):
    with pytest.raises(PlanError, match="is not TOML"):
        load_plan(write(tmp_path, text))


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(PlanError, match="distill init"):
        load_plan(tmp_path / "nowhere.toml")


def test_overrides_reach_into_tables_and_lists(tmp_path):
    file = write(tmp_path, SMALL + '[train]\nbase = "x"\n')
    plan = load_plan(
        file, ["train.epochs=5", "datagen.recipe.0.limit=7", "train.tuner.use=lora", "name=other"]
    )
    assert plan.train is not None
    assert plan.train.epochs == 5
    assert plan.datagen.recipe[0].limit == 7
    assert plan.name == "other"


@pytest.mark.parametrize("override", ["train", "=3", "datagen.recipe.9.limit=1", "name.x.y=1"])
def test_an_override_that_fits_nowhere_is_refused(tmp_path, override):
    with pytest.raises(PlanError):
        load_plan(write(tmp_path, SMALL), [override])


def test_the_hash_ignores_key_order_and_written_out_defaults(tmp_path):
    one = load_plan(write(tmp_path, SMALL)).plan_hash
    spelled = 'warehouse = "stillhouse.duckdb"\n' + SMALL
    assert load_plan(write(tmp_path, spelled)).plan_hash == one
    assert load_plan(write(tmp_path, SMALL), ["name=b"]).plan_hash != one


def test_another_part_beside_the_old_ones_options_says_how_to_get_its_defaults(tmp_path):
    plan = write(tmp_path, SMALL + '[train]\nbase = "x"\ntuner = { use = "lora", rank = 4 }\n')
    with pytest.raises(PlanError) as caught:
        load_plan(plan, ["train.tuner.use='ia3'"])
    unknown, hint = caught.value.faults
    assert unknown.startswith("train.tuner.rank: unknown option of tuner 'ia3'")
    assert hint.endswith("to use another with its defaults: --set train.tuner=ia3")
    assert name_of(load_plan(plan, ["train.tuner=ia3"]).training.tuner) == "ia3"
    with pytest.raises(PlanError) as caught:  # a misspelt option of the part that is there
        load_plan(plan, ["train.tuner.rnk=8"])
    assert len(caught.value.faults) == 1
    with pytest.raises(PlanError) as caught:
        load_plan(plan, ["datagen.recipe.0.use=nosuch"])
    assert len(caught.value.faults) == 1


def test_a_plan_knows_how_its_file_is_typed(tmp_path, monkeypatch):
    write(tmp_path, SMALL)
    monkeypatch.chdir(tmp_path)
    assert load_plan("plan.toml").command("train --audit") == "distill train --audit plan.toml"
    assert (
        Plan.model_validate(load_plan("plan.toml").as_json()).command("train")
        == "distill train PLAN"
    )
