"""Every objective through a plan: what a teacher's calls keep is learned from, and what does not
go together is refused before anything is spent."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from distill.plan.plan import load_plan
from tests.flows.test_teacher import colour
from tests.support.cli import distill
from tests.support.fakes import FakeOpenai
from tests.support.plans import scripted, write_plan
from tests.support.teaching import make_stranger, make_teacher, sample, stored
from tests.support.tiny import make_tiny
from warehouse.db.store import Store
from warehouse.errors import ModelError, PlanError
from warehouse.records import Call, Sample, Student

STORED = ("--set", "train.objective={use='logits'}", "--set", "datagen.sampling.top_logprobs=6")


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """A plan whose samples are on hand, and a flow that fits a student to them."""
    from flows.stages.generate import generate
    from flows.stages.train import train

    folder = tmp_path_factory.mktemp("objectives")
    plan = write_plan(folder, scripted(folder / "asked.log"))
    generate(str(plan), [])
    return folder, plan, lambda *overrides: train(str(plan), list(overrides))


def student(folder, result):
    (made,) = Store(folder / "w.duckdb").read(Student, "student_id = ?", [result["student_id"]])
    return made


def with_logprobs(teacher):
    """Replies of a server that also tells what else its teacher might have said."""

    def say(messages):
        text = colour(messages)
        told = stored(teacher, replace(sample(0, text), messages=messages), k=6)
        content = [
            {
                "token": token,
                "logprob": logprob,
                "bytes": None,
                "top_logprobs": [{"token": t, "logprob": value, "bytes": None} for t, value in top],
            }
            for token, logprob, top in zip(*told.values(), strict=True)
        ]
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop",
            "logprobs": {"content": content},
        }
        return {"choices": [choice]}

    return say


def endpoint(server):
    return (
        'teacher = { use = "openai_chat", model = "m", '
        f'base_url = "{server.base_url}", api_key_env = "MY_KEY" }}'
    )


def test_a_whole_run_learns_from_the_log_probabilities_of_a_server(tmp_path):
    with FakeOpenai(with_logprobs(make_teacher(tmp_path))) as server:
        plan = write_plan(tmp_path, endpoint(server))
        done = distill(tmp_path, "run", str(plan), "--json", *STORED)
        assert done.returncode == 0, done.stderr
        assert [body.get("top_logprobs") for body in server.bodies].count(6) == 24
    result = json.loads(done.stdout)
    made = student(tmp_path, result)
    assert made.objective["use"] == "logits"
    assert made.audit["stored_logprobs"]["rows"] == result["kept"] == 24
    assert made.audit["stored_logprobs"]["tokens_without_logprobs"] == 0
    calls = Store(tmp_path / "w.duckdb").read(Call, "stage = 'generate'")
    assert all(call.logprobs and len(call.logprobs["top"][0]) == 6 for call in calls)
    assert "Stored logprobs" in (tmp_path / result["report_path"]).read_text()


def test_a_server_that_gives_none_is_told_before_training(tmp_path):
    with FakeOpenai(colour) as server:
        plan = write_plan(tmp_path, endpoint(server))
        done = distill(tmp_path, "run", str(plan), *STORED)
    assert done.returncode == 2
    assert "24 of 24 samples have no stored log-probabilities" in done.stderr
    assert "datagen.sampling.top_logprobs" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_audit_is_seen_also_where_the_objective_refuses(generated):
    folder, _, _ = generated
    done = distill(
        folder, "train", "plan.toml", "--audit",
        "--set", "train.objective={use='preference'}", "--set", "train.max_length=110",
    )  # fmt: skip
    assert done.returncode == 2
    assert "rejected replies are longer than train.max_length" in done.stderr.splitlines()[-1]
    assert "What the trainer sees" in done.stdout


def test_each_objective_with_a_local_teacher_makes_a_student_of_its_own(generated, tmp_path):
    folder, _, fit = generated
    teacher = make_tiny(tmp_path / "teacher", seed=1)
    made = {}
    for table in (
        f"{{use='logits', teacher='{teacher}'}}",
        f"{{use='on_policy', teacher='{teacher}', max_new_tokens=8}}",
        "{use='preference', max_new_tokens=8}",
        "{use='sequence'}",
    ):
        result = fit(f"train.objective={table}")
        assert result["trained"]
        one = student(folder, result)
        made[one.objective["use"]] = one
        assert [entry["step"] for entry in one.losses] == [1, 2, 3]
        assert one.audit["rows_kept"] == 24
        assert not fit(f"train.objective={table}")["trained"]
    assert len({one.student_id for one in made.values()}) == 4
    assert made["preference"].audit["preference"]["pairs"] == 24


def test_another_teacher_in_the_same_folder_is_another_student(generated, tmp_path):
    _, _, fit = generated
    teacher = make_tiny(tmp_path / "teacher", seed=1)
    override = f"train.objective={{use='logits', teacher='{teacher}'}}"
    first = fit(override)
    make_tiny(tmp_path / "teacher", seed=2)
    assert fit(override)["student_id"] != first["student_id"]


def test_a_teacher_of_another_vocabulary_is_told_before_the_plans_teacher_is_asked(
    tmp_path, monkeypatch
):
    from flows.stages.end_to_end import end_to_end

    log = tmp_path / "asked.log"
    plan = write_plan(tmp_path, scripted(log))
    stranger = make_stranger(tmp_path / "stranger", monkeypatch)
    with pytest.raises(ModelError, match="different vocabularies"):
        end_to_end(str(plan), [f"train.objective={{use='on_policy', teacher='{stranger}'}}"])
    assert not log.exists()


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["train.objective={use='logits'}"], "datagen.sampling.top_logprobs = 20"),
        (["train.objective={use='logits', temperature=2.0}"], "local `teacher`"),
        (["train.objective={use='on_policy'}"], "teacher: "),
        (["train.objective={use='logits', teacher='t'}", "train.packing=true"], "packing = false"),
        (
            ["train.objective={use='on_policy', teacher='t'}", "train.packing=true"],
            "packing = false",
        ),
        (["train.objective={use='preference'}", "train.packing=true"], "packing = false"),
        (
            ["train.objective={use='on_policy', teacher='t'}", "train.tuner={use='prompt'}"],
            "virtual tokens",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_by_the_plan(overrides, why, generated):
    _, plan, _ = generated
    with pytest.raises(PlanError) as caught:
        load_plan(plan, overrides).require("generate")
    assert why in str(caught.value)


def test_check_refuses_it_too(generated):
    folder, plan, _ = generated
    together = ("train.objective={use='on_policy', teacher='t'}", "train.tuner={use='prefix'}")
    words = [word for override in together for word in ("--set", override)]
    done = distill(folder, "check", str(plan), *words)
    assert done.returncode == 2
    assert "objective 'on_policy'" in done.stderr
    done = distill(folder, "check", str(plan), "--set", "train.objective={use='logits'}")
    assert done.returncode == 2
    assert "datagen.sampling.top_logprobs = 20" in done.stderr


def test_the_drafts_of_a_critique_are_the_rejected_replies_of_a_student(tmp_path):
    """A draft that names the colour alone, and revisions that are another one for half of them."""
    from flows.stages.generate import generate
    from flows.stages.train import train

    teacher = (
        '[teacher]\nuse = "scripted"\ndefault = "It is a river animal."\n'
        'replies = { "Check your last answer" = "It is too short.", "is brown." = "brown", "is grey." = "grey" }\n'
    )
    plan = write_plan(tmp_path, teacher)
    recipe = "{use='critique', prompts='prompts.jsonl', constitution=['Be clear.']}"
    overrides = [
        f"datagen.recipe=[{recipe}]",
        "quality.scorers=[]",
        "quality.gate={}",
        "train.objective={use='preference', rejected='recipe'}",
    ]
    made = generate(str(plan), overrides)
    assert made["calls_made"] > 24
    result = train(str(plan), overrides)
    kept = Store(tmp_path / "w.duckdb").read(Sample)
    with_draft = [one for one in kept if (one.facts or {}).get("rejected")]
    assert {one.facts["rejected"] for one in with_draft} == {"brown", "grey"}
    figures = student(tmp_path, result).audit["preference"]
    assert figures["pairs"] == len(with_draft) > 0
    assert figures["without_rejected"] == len(kept) - len(with_draft) > 0
