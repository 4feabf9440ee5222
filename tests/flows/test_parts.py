"""Parts from elsewhere in a plan: scored again after an edit, trained elsewhere, listed, written."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from distill.learning.multiprocess import train_in_processes
from distill.learning.objective import TrainingInputs
from distill.plan.plan import load_plan
from flows.cli import app
from flows.stages.training_records import student_id_of
from flows.students.find import find_student
from tests.support.own_parts import write_own_parts, write_own_plan
from tests.support.teaching import sample
from tests.support.tiny import make_tiny
from train.config import SftConfig
from train.export.safetensors import export_adapter
from train.model.inference import Generator
from train.model.student import tuner_of
from warehouse import catalog
from warehouse.db.store import Store
from warehouse.errors import PlanError, StillhouseError, UsageError
from warehouse.records import Choice, Score, Student


@pytest.fixture
def folder(tmp_path):
    return write_own_parts(tmp_path, 6)


def write(folder, scorer="./own_scorer.py", bound="own_scorer_min = 0.5"):
    return write_own_plan(folder, scorer, bound)


def curated(plan, *overrides):
    from flows.stages.curate import curate

    return curate(plan, list(overrides))


def generated(plan):
    from flows.stages.generate import generate

    return generate(plan, [])


def test_an_edited_scorer_scores_again_and_nothing_else_is_paid(folder):
    plan = write(folder)
    assert generated(plan)["calls_made"] == 6
    first = curated(plan)
    store = Store(folder / "stillhouse.duckdb")
    before = store.read(Score)
    assert first["kept"] == len(before) == 6
    assert {one.scorer for one in before} == {"own_scorer"}
    again = curated(plan)
    assert len(store.read(Score)) == 6 and again["selection_id"] == first["selection_id"]
    file = folder / "own_scorer.py"
    file.write_text(file.read_text().replace("min(1.0, self.words / length)", "0.25"))
    with pytest.raises(StillhouseError, match="6x own_scorer below 0.5"):
        curated(plan)
    after = store.read(Score)
    assert len(after) == 12
    assert {one.score_id for one in before} < {one.score_id for one in after}
    kept = curated(plan, "quality.gate.own_scorer_min=0.2")
    assert (kept["kept"], kept["calls_made"]) == (6, 0)
    assert len((folder / "log").read_text().splitlines()) == 6
    assert len(store.read(Score)) == 12


def test_a_gate_bounds_and_ranks_by_the_name_of_the_file(folder):
    plan = write(folder, bound='top_k = 2, rank_by = "own_scorer", recipe.own_recipe.own_scorer_min = 0.1')  # fmt: skip
    generated(plan)
    assert curated(plan)["kept"] == 2
    with pytest.raises(PlanError, match="did you mean 'own_scorer_min'"):
        load_plan(write(folder, bound="own_scorr_min = 0.5"))
    with pytest.raises(PlanError, match="no recipe 'nobody'"):
        load_plan(write(folder, bound="recipe.nobody.own_scorer_min = 0.5"))


def test_a_scorer_with_smaller_as_better_ranks_from_its_good_end(folder):
    file = folder / "own_scorer.py"
    text = file.read_text().replace(
        '    version: ClassVar[str] = "1"\n',
        '    version: ClassVar[str] = "1"\n    higher_is_better: ClassVar[bool] = False\n',
    )
    file.write_text(text.replace("min(1.0, self.words / length)", "float(sample.completion[0] == 'b')"))  # fmt: skip
    plan = write(folder, bound='top_k = 2, rank_by = "own_scorer"')
    generated(plan)
    curated(plan)
    store = Store(folder / "stillhouse.duckdb")
    kept = {one.sample_id for one in store.read(Choice) if one.kept}
    values = {one.sample_id: one.value for one in store.read(Score)}
    assert len(kept) == 2
    assert max(values[one] for one in kept) <= min(v for k, v in values.items() if k not in kept)


def test_a_bound_on_a_part_of_a_package(folder, install_package):
    install_package("bounded-parts", "1.0")
    plan = write(folder, "bounded-parts/brief", '"bounded-parts/brief_min" = 0.5')
    generated(plan)
    assert curated(plan)["kept"] == 6
    (name,) = {one.scorer for one in Store(folder / "stillhouse.duckdb").read(Score)}
    assert name == "bounded-parts/brief"


def test_an_edited_tuner_makes_another_student_and_another_plan(folder):
    make_tiny(folder / "tiny")
    plan = write(folder)

    def ids():
        loaded = load_plan(plan)
        return student_id_of(loaded.training, [sample(0)]), loaded.plan_hash

    first = ids()
    assert ids() == first
    file = folder / "own_tuner.py"
    file.write_text(file.read_text() + "# another\n")
    other = ids()
    assert other[0] != first[0] and other[1] != first[1]


def test_a_tuner_of_a_file_trains_in_a_process_of_its_own_and_is_restored_after_an_edit(folder):
    base = str(make_tiny(folder / "tiny"))
    tuner = catalog.build("tuner", "./own_tuner.py", folder)
    config = SftConfig(epochs=1, batch_size=2, learning_rate=1e-2, max_length=128)
    objective = catalog.build("objective", "sequence")
    inputs = TrainingInputs(base, tuner, [sample(n) for n in range(4)], config, folder / "student")
    (folder / "own_tuner.py").write_text("raise RuntimeError('edited while it trained')\n")
    result = train_in_processes(objective, inputs, alone=True)
    assert len(result.losses) == 2
    assert {file.name for file in result.path.iterdir()} == {
        "own_tuner.py", "trained.safetensors", "tuner.json",
    }  # fmt: skip
    assert catalog.table_of(tuner_of(result.path)) == catalog.table_of(tuner)
    export_adapter(base, result.path, folder / "out")
    assert catalog.table_of(tuner_of(folder / "out")) == catalog.table_of(tuner)
    (answer,) = Generator(base, result.path).answer([sample(0).messages], 3)
    assert answer.completion_tokens


def test_an_edited_objective_makes_another_student_whatever_its_fingerprint_says(folder):
    make_tiny(folder / "tiny")
    plan = write(folder)

    def student_id(note):
        (folder / "own_objective.py").write_text(
            "from dataclasses import dataclass\n"
            "from distill.objectives.sequence import Sequence\n\n\n"
            "@dataclass(frozen=True)\nclass Own(Sequence):\n"
            f'    """{note}"""\n\n    fingerprint = {{"own": 1}}\n'
        )
        loaded = load_plan(plan, ["train.objective=./own_objective.py"])
        return student_id_of(loaded.training, [sample(0)])

    assert student_id("One.") == student_id("One.") != student_id("Two.")


def test_a_contestant_is_asked_in_a_context_of_a_file(folder):
    (folder / "loud.py").write_text(
        "from dataclasses import dataclass\nfrom distill.contexts.plain import Plain\n\n\n"
        "@dataclass(frozen=True)\nclass Loud(Plain):\n"
        '    """Asks in capitals."""\n\n    def build_messages(self, items, sources):\n'
        "        return [[{**m, 'content': m['content'].upper()} for m in item.messages] for item in items]\n"
    )
    plan = write(folder)
    contestant = 'evaluate.contestants=["base+loud"]'
    with pytest.raises(PlanError, match="unknown context"):
        load_plan(plan, [contestant])
    settings = load_plan(plan, [contestant, 'evaluate.contexts=[{use="./loud.py"}]']).evaluate
    items = list(settings.benchmarks[0].items(folder))
    (messages, *_) = settings.context("loud").build_messages(items, None)
    assert messages[0]["content"].startswith("WHAT IS")


def invoke(*words):
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})


def test_list_shows_parts_of_packages_and_of_files(folder, install_package, monkeypatch):
    install_package("listed-parts", "2.0")
    install_package("torn-parts", "3.0", "import no_such_module")
    monkeypatch.chdir(folder)
    listed = invoke("list", "scorer").stdout
    assert "  listed-parts/brief 1.0 for a completion" in listed
    assert "(from listed-parts 2.0)" in listed
    assert "torn-parts/brief cannot be used: " in listed and "no_such_module" in listed
    assert "  toxicity " in listed
    shown = invoke("list", "scorer", "./own_scorer.py").stdout
    assert "words = 10\n      Words that are still short." in shown
    assert "  from own_scorer.py (sha256 " in shown
    assert "from listed-parts 2.0 (sha256 " in invoke("list", "scorer", "listed-parts/brief").stdout


@pytest.mark.parametrize("kind", ["scorer", "recipe", "tuner", "benchmark"])
def test_new_writes_a_part_and_its_test_and_overwrites_nothing(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke("new", kind, "my_part")
    assert done.exit_code == 0, done.output
    assert '"./my_part.py"' in done.stdout
    assert "class MyPart(" in (tmp_path / "my_part.py").read_text()
    scope = {"__file__": str(tmp_path / "test_my_part.py")}
    exec((tmp_path / "test_my_part.py").read_text(), scope)
    scope["test_my_part"](tmp_path)
    for words in (("new", kind, "my_part"), ("new", kind, "a-b"), ("new", kind, "../x"), ("new", "teacher", "x")):  # fmt: skip
        assert isinstance(invoke(*words).exception, StillhouseError), words
    assert "already exists" in str(invoke("new", kind, "my_part").exception)
    taken = catalog.names(kind)[0]
    assert "is the name of another" in str(invoke("new", kind, taken).exception)
    assert not (tmp_path / f"{taken}.py").exists()


def test_the_plan_hash_does_not_change_where_the_project_is_moved(folder, tmp_path_factory):
    plan = write(folder)
    other = tmp_path_factory.mktemp("other") / "project"
    shutil.copytree(folder, other)
    assert load_plan(other / "plan.toml").plan_hash == load_plan(plan).plan_hash
    assert json.dumps(load_plan(plan).as_json()["train"]["tuner"])


@pytest.mark.parametrize(
    ("scorer", "broken", "told"),
    [
        ("./own_scorer.py", "def (", "own_scorer.py"),
        ("./own_scorer.py", "import no_such_module", "no_such_module"),
        ("./own_scores.py", None, "did you mean './own_scorer.py'?"),
    ],
)
def test_a_faulty_file_is_the_only_fault_and_not_its_bound(folder, scorer, broken, told):
    from distill.plan.plan import load_plan

    if broken:
        (folder / "own_scorer.py").write_text(broken)
    name = Path(scorer).stem
    with pytest.raises(StillhouseError) as caught:
        load_plan(write(folder, scorer, f"{name}_min = 0.5"))
    (fault,) = caught.value.faults
    assert told in fault


@pytest.fixture
def stranger(folder):
    """A student's folder from elsewhere, whose tuner leaves a mark where it is run; and the mark."""
    code = (
        folder / "own_tuner.py"
    ).read_text() + f"\nopen({str(folder / 'mark')!r}, 'w').close()\n"
    student = folder / "stranger"
    student.mkdir()
    (student / "own_tuner.py").write_text(code)
    told = {"base": "tiny", "tuner": {"use": "./own_tuner.py"}}
    (student / "tuner.json").write_text(json.dumps(told))
    return student, code


def test_a_student_from_elsewhere_runs_no_code_of_its_own(folder, stranger):
    student, _ = stranger
    for plan in (None, write(folder)):  # the plan's tuner is another file of the same name
        with pytest.raises(UsageError, match=r"code of its own \(\./own_tuner\.py.*was not run"):
            find_student(plan, student=str(student), warehouse=str(folder / "none.duckdb"))
    assert not (folder / "mark").exists()


def test_a_plan_with_the_same_file_vouches_for_a_student_from_elsewhere(folder, stranger):
    student, code = stranger
    (folder / "own_tuner.py").write_text(code)
    found = find_student(write(folder), student=str(student))
    assert catalog.name_of(found.tuner) == "own_tuner"
    assert (folder / "mark").exists()  # so the mark does tell whether it was run


def test_a_recorded_student_runs_the_code_it_was_recorded_with_and_no_other(folder, stranger):
    student, code = stranger
    origin = f"sha256:{hashlib.sha256(code.encode()).hexdigest()}"
    record = Student(
        student_id="1a2b", base="tiny", tuner={"use": "own_tuner", "origin": origin}, objective={},
        selection_id="s", config={}, seed=1, path="stranger", losses=[], audit={}, versions={},
        seconds=1.0, run_id="r",
    )  # fmt: skip
    warehouse = folder / "w.duckdb"
    Store(warehouse).insert([record])
    for named in ("1a2b", str(student)):
        assert find_student(None, student=named, warehouse=str(warehouse)).record is not None
    (folder / "mark").unlink()
    (student / "own_tuner.py").write_text(code + "# changed since\n")
    for named in ("1a2b", str(student)):
        with pytest.raises(UsageError, match="was not run"):
            find_student(None, student=named, warehouse=str(warehouse))
    assert not (folder / "mark").exists()
