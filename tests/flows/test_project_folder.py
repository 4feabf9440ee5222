"""A project is a folder: run from anywhere, moved, copied, mounted under another server's name."""

from __future__ import annotations

import hashlib
import json
import re
import shutil

import duckdb
import pytest

from datagen.openai.options import normalized_identity
from flows.students import find
from tests.support.fakes import FakeOpenai
from tests.support.plans import COLOURS, rows, scripted, write_plan, write_rows
from warehouse.db.schema import MIGRATIONS
from warehouse.db.store import Store
from warehouse.errors import PlanError, TrainingError
from warehouse.records import Call, Run, Sample, Student


def flow(plan, *overrides):
    from flows.stages.end_to_end import end_to_end

    return end_to_end(str(plan), list(overrides))


def contents(folder):
    """What a folder's files hold, and when each was last written; Prefect's book aside."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in folder.rglob("*")
        if path.is_file() and ".prefect" not in path.parts
    }  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project with relative paths only, and the result of its run from another folder."""
    folder = tmp_path_factory.mktemp("project") / "mine"
    plan = write_plan(folder, scripted(folder / "asked.log"), prompts=8, held_out=4)
    text = plan.read_text().replace(f"{folder}/w.duckdb", "w.duckdb")
    plan.write_text(
        text.replace(f'log = "{folder}/asked.log"\n', "").replace(f"{folder}/tiny", "tiny")
    )
    assert str(folder) not in plan.read_text()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        yield folder, flow(plan)


@pytest.fixture
def copied(finished, tmp_path):
    folder, result = finished
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy", result


def test_everything_lies_in_the_folder_of_the_plan(finished):
    folder, result = finished
    assert {"w.duckdb", "runs", "students"} <= {path.name for path in folder.iterdir()}
    [student] = Store(folder / "w.duckdb").read(Student)
    assert (student.path, student.base) == (f"students/{student.student_id}", "tiny")
    assert result["student_path"] == str(folder / student.path)


def test_a_copy_asks_nothing_trains_nothing_and_leaves_its_original_alone(
    finished, copied, monkeypatch, tmp_path
):
    folder, first = finished
    copy, _ = copied
    before = contents(folder)
    shutil.move(folder / "students", folder / "away")  # whatever is read is the copy's own
    monkeypatch.chdir(tmp_path)
    try:
        again = flow(copy / "plan.toml")
    finally:
        shutil.move(folder / "away", folder / "students")
    assert (again["calls_made"], again["calls_reused"]) == (0, first["calls_made"])
    assert again["student_id"] == first["student_id"]
    assert again["student_path"] == str(copy / "students" / first["student_id"])
    assert again["contestants"] == first["contestants"]
    assert "trained already" not in str(again)
    assert len(Store(copy / "w.duckdb").read(Student)) == 1
    assert contents(folder) == before


def test_a_student_of_an_older_version_is_found_after_a_move(copied):
    copy, first = copied
    later = "\n".join(sql for version, sql in MIGRATIONS.items() if version > 5)
    with duckdb.connect(str(copy / "w.duckdb")) as db:  # as version 5 wrote it
        db.execute("UPDATE students SET path = '/gone/students/' || student_id")
        db.execute("DROP VIEW ledger")
        for table in re.findall(r"CREATE TABLE (\w+)", later):
            db.execute(f"DROP TABLE {table}")
        for table, column in re.findall(r"ALTER TABLE (\w+) ADD COLUMN (\w+)", later):
            db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        for old, new in re.findall(r"ALTER TABLE (\w+) RENAME TO (\w+)", later):
            db.execute(f"ALTER TABLE {new} RENAME TO {old}")
        db.execute("UPDATE schema_version SET version = 5")
    found = find.find_student(str(copy / "plan.toml"))
    assert found.path == copy / "students" / first["student_id"]


def test_the_student_of_a_plan_is_the_one_its_last_run_trained(copied, monkeypatch):
    copy, first = copied
    computing = "flows.stages.training_records.student_id_of"
    monkeypatch.setattr(computing, None)  # nothing is computed again
    found = find.find_student(str(copy / "plan.toml"))
    assert found.record.student_id == first["student_id"]
    assert found.base == str(copy / "tiny")


def test_a_run_that_did_not_record_its_student_is_looked_up_by_its_samples(copied):
    copy, first = copied
    store = Store(copy / "w.duckdb")
    for run in store.read(Run):
        run.summary.pop("student_id")
        store.put_run(run)
    assert find.find_student(str(copy / "plan.toml")).record.student_id == first["student_id"]


def test_a_warehouse_in_the_working_directory_goes_on_serving(copied, monkeypatch, tmp_path):
    copy, first = copied
    old = tmp_path / "old"
    old.mkdir()
    for name in ("w.duckdb", "students", "tiny"):
        shutil.move(copy / name, old / name)
    monkeypatch.chdir(old)
    again = flow(copy / "plan.toml")
    assert (again["calls_made"], again["student_id"]) == (0, first["student_id"])
    assert not (copy / "w.duckdb").exists()


def test_a_plan_of_the_package_is_no_project(tmp_path, monkeypatch):
    from pathlib import Path

    import distill
    from flows.cli.options import refuse_shipped_plan

    with pytest.raises(PlanError, match=r"copy it with `distill init subjects/plan\.toml`"):
        refuse_shipped_plan(Path(distill.__file__).parent / "plans" / "subjects.toml")
    refuse_shipped_plan(tmp_path / "plan.toml")


PLAN = """
name = "mine"
warehouse = "w.duckdb"
teacher = {{ use = "openai_chat", model = "m", base_url = "{url}" }}
[[datagen.recipe]]
use = "imitation"
prompts = "prompts.jsonl"
"""


def test_another_spelling_of_the_server_is_the_same_teacher(tmp_path):
    from flows.stages.generate import generate

    write_rows(tmp_path / "prompts.jsonl", rows(0, 6))
    plan = tmp_path / "plan.toml"
    with FakeOpenai(lambda messages: COLOURS[0]) as server:
        spellings = [
            server.base_url,
            server.base_url.replace("127.0.0.1", "LOCALHOST") + "/",
            server.base_url.replace("http://", "HTTP://"),
        ]
        made = []
        for url in spellings:
            plan.write_text(PLAN.format(url=url))
            made.append(generate(str(plan))["calls_made"])
    assert made == [6, 0, 0]
    assert len(Store(tmp_path / "w.duckdb").teachers()) == 1


def test_replies_under_two_spellings_of_the_server_serve_together(tmp_path):
    from flows.stages.generate import generate

    here, there = tmp_path / "here", tmp_path / "there"
    with FakeOpenai(lambda messages: COLOURS[0]) as server:
        other = server.base_url.replace("127.0.0.1", "localhost")
        for folder, url, start in ((here, server.base_url, 0), (there, other, 3)):
            folder.mkdir()
            write_rows(folder / "prompts.jsonl", rows(start, 3))
            (folder / "plan.toml").write_text(PLAN.format(url=url))
            assert generate(str(folder / "plan.toml"))["calls_made"] == 3
        store, second = Store(here / "w.duckdb"), Store(there / "w.duckdb")
        samples = {one.sample_id for one in [*store.read(Sample), *second.read(Sample)]}
        store.insert(second.read(Call))  # as versions left it that told the spellings apart
        write_rows(here / "prompts.jsonl", rows(0, 6))
        for url in (server.base_url, other):
            (here / "plan.toml").write_text(PLAN.format(url=url))
            result = generate(str(here / "plan.toml"))
            assert (result["calls_made"], result["calls_reused"], result["samples"]) == (0, 6, 6)
    assert {one.sample_id for one in store.read(Sample)} == samples


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("m@http://localhost:8000/v1", "m@http://127.0.0.1:8000/v1/", True),
        ("m@http://[::1]:8000/v1", "m@http://LocalHost:8000/v1", True),
        ("m@https://api.x.com/v1", "m@HTTPS://API.x.com:443/v1", True),
        ("m@http://h/v1", "m@http://h:80/v1", True),
        ('m@http://h/v1 {"a":"HTTP://B/"}', 'm@http://h:80/v1/ {"a":"HTTP://B/"}', True),
        ("m@http://localhost:8000/v1", "m@http://localhost:8001/v1", False),
        ("m@http://h/v1", "m@http://h/V1", False),
        ("M@http://h/v1", "m@http://h/v1", False),
        ("m@http://h/v1", "m@https://h/v1", False),
        ("m@http://h/v1", 'm@http://h/v1 {"top_k":1}', False),
        ("house teacher", "house  teacher", False),
        ("m@http://h:port/v1", "m@http://h:other/v1", False),
    ],
)
def test_which_addresses_are_one(one, other, same):
    assert (normalized_identity(one) == normalized_identity(other)) == same


def test_the_report_of_a_copy_is_its_own(copied, monkeypatch, capsys):
    copy, first = copied
    from flows import cli

    for words, last in (
        (["report"], copy / "runs" / first["run_id"] / "report.html"),
        (["runs", "--json"], None),
    ):
        monkeypatch.setattr("sys.argv", ["distill", *words, "--warehouse", str(copy / "plan.toml")])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out = capsys.readouterr().out
        assert end.value.code == 0
        if last:
            assert out.strip() == str(last)
        else:
            [row] = json.loads(out)
            assert row["report_path"] == str(copy / "runs" / first["run_id"] / "report.html")


def test_a_training_that_fails_makes_no_student_of_the_plan(copied, monkeypatch):
    copy, first = copied
    from flows.stages import train as stage

    def fail(*_):
        raise TrainingError("diverged")

    monkeypatch.setattr(stage, "train_in_processes", fail)
    shutil.rmtree(copy / "students")
    with pytest.raises(TrainingError):
        stage.train(str(copy / "plan.toml"))
    before, last = Store(copy / "w.duckdb").read(Run)
    assert (before.summary["student_id"], last.state) == (first["student_id"], "failed")
    assert "student_id" not in last.summary
