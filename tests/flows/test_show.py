"""Show samples: which scores decided, and which are of other versions."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from quality.review.decisions import accept, reject
from tests.support.cli import distill
from tests.support.plans import GROUNDED, rows, scripted, write_rows
from warehouse.db.store import Store
from warehouse.records import Run, Sample, Score

PLAN = """
name = "shown"
warehouse = "w.duckdb"
{teacher}
{grounded}"""


@pytest.fixture(scope="module")
def curated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shown")
    write_rows(folder / "prompts.jsonl", rows(0, 2))
    (folder / "plan.toml").write_text(
        PLAN.format(teacher=scripted(folder / "log"), grounded=GROUNDED)
    )
    for verb in ("generate", "curate"):
        assert distill(folder, verb, "plan.toml").returncode == 0
    store = Store(folder / "w.duckdb")
    (score, _) = store.read(Score, "true ORDER BY sample_id")
    older = replace(score, score_id="older", version="0", value=0.25)
    loose = replace(score, score_id="loose", options={**score.options, "loose": 1}, value=0.75)
    sample = store.by_ids(Sample, "sample_id", [score.sample_id])[0]
    at = [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2)]
    store.insert([older, loose, reject(sample, at=at[0]), accept(sample, at=at[1])])
    return folder, score


def shown(folder, *words):
    done = distill(folder, "show", *words, "--warehouse", "plan.toml", "--json")
    assert done.returncode == 0, done.stderr
    return {row["sample_id"]: row for row in json.loads(done.stdout)}


def test_the_scores_that_decided_stand_apart_from_those_of_other_versions(curated):
    folder, score = curated
    row = shown(folder, "samples")[score.sample_id]
    assert row["scores"] == "grounded 1.0; human 1.0"
    unused = row["unused_scores"]
    assert "grounded 0.25 [version 0, rule, {" in unused
    assert "grounded 0.75" in unused and "loose" in unused
    assert "human 0.0" in unused and "grounded 1.0" not in unused


def test_a_sample_without_other_scores_has_no_line_for_them(curated):
    folder, score = curated
    done = distill(folder, "show", "samples", "--warehouse", "plan.toml")
    blocks = [block for block in done.stdout.split("\n\n") if block.strip()]
    assert [block.count("unused_scores") for block in blocks if score.sample_id in block] == [1]
    assert [block.count("unused_scores") for block in blocks if score.sample_id not in block] == [0]


def test_of_a_run_that_recorded_no_scorers_only_unequivocal_scores_count_as_used(curated):
    folder, score = curated
    store = Store(folder / "w.duckdb")
    runs = store.read(Run)
    for run in runs:
        summary = {key: value for key, value in run.summary.items() if key != "scorers"}
        store.put_run(replace(run, summary=summary))
    try:
        found = shown(folder, "samples")
    finally:
        for run in runs:
            store.put_run(run)
    assert found[score.sample_id]["scores"] == "human 1.0"
    assert found[score.sample_id]["unused_scores"].count("grounded") == 3
    (other,) = found.keys() - {score.sample_id}
    assert (found[other]["scores"], found[other]["unused_scores"]) == ("grounded 1.0", None)


def test_a_mistyped_name_gets_the_nearest_one(curated):
    folder, _ = curated
    done = distill(folder, "show", "sampels", "--warehouse", "plan.toml")
    assert done.returncode == 2
    assert done.stderr.endswith("(did you mean 'samples'?)\n")
    assert (
        "`distill runs` lists them"
        in distill(folder, "show", "2019", "--warehouse", "plan.toml").stderr
    )


@pytest.fixture(scope="module")
def talks(tmp_path_factory):
    """A plan with samples of two recipes: questions with passages, and imported conversations."""
    folder = tmp_path_factory.mktemp("talks")
    write_rows(folder / "prompts.jsonl", rows(0, 3))
    call = {"name": "look_up", "arguments": {"animal": "Otter"}}
    talk = [
        {"from": "system", "value": "Be\x1b[31m brief."},
        {"from": "human", "value": "How is an Otter?"},
        {"from": "function_call", "value": json.dumps(call)},
        {"from": "observation", "value": "fine"},
        {"from": "gpt", "value": "It is fine. " + 150 * "Really it is. "},
    ]
    refused = [{"from": "human", "value": "Ähm?"}, {"from": "gpt", "value": "I cannot help you."}]
    (folder / "chats.jsonl").write_text(
        "".join(json.dumps({"conversations": turns}) + "\n" for turns in (talk, refused))
    )
    uses = '[[datagen.recipe]]\nuse = "imported"\nfile = "chats.jsonl"\nteacher = "m"\n'
    teacher = scripted(folder / "log").replace('"brown"', '"purple"')
    text = PLAN.format(teacher=teacher, grounded=GROUNDED.replace("[quality]", f"{uses}[quality]"))
    (folder / "plan.toml").write_text(text)
    for verb in ("generate", "curate"):
        assert distill(folder, verb, "plan.toml").returncode == 0
    return folder


def questions(folder, *words):
    """The questions of the samples that are shown."""
    done = distill(folder, "show", "samples", "plan.toml", "--json", *words)
    assert done.returncode == 0, done.stderr
    return [row["question"] for row in json.loads(done.stdout)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--recipe", "imported"), {"How is an Otter?", "Ähm?"}),
        (("--status", "refused"), {"Ähm?"}),
        (("--reason", "DECLINED"), {"Ähm?"}),
        (("--reason", "grounded below"), {"What colour is otter 0?"}),
        (("--text", "oTTER"), {"How is an Otter?", "What colour is otter 0?"}),
        (("--text", "ähm"), {"Ähm?"}),
        (("--text", "lives by the river"), {f"What colour is {n}?" for n in ("otter 0", "heron 1", "badger 2")}),
        (("--text", "really"), {"How is an Otter?"}),
        (("--score", "grounded<0.5"), {"What colour is otter 0?"}),
        (("--score", "grounded>=1", "--only", "kept"), {"What colour is heron 1?", "What colour is badger 2?"}),
        (("--score", "grounded>=1", "--score", "grounded<0.5"), set()),
        (("--recipe", "imported", "--status", "ok"), {"How is an Otter?"}),
    ],
)  # fmt: skip
def test_samples_are_found_by_what_they_are(talks, words, expected):
    assert set(questions(talks, *words)) == expected


def test_a_random_draw_is_the_same_for_a_seed(talks):
    first = questions(talks, "--random", "3")
    assert len(first) == 3 and first == questions(talks, "--random", "3", "--seed", "0")
    draws = {tuple(questions(talks, "--random", "3", "--seed", str(seed))) for seed in range(8)}
    assert len(draws) > 1
    (one,) = questions(talks, "--random", "1", "--recipe", "imported", "--status", "ok")
    assert one == "How is an Otter?"


def test_a_conversation_is_shown_turn_by_turn_and_no_character_acts(talks):
    done = distill(talks, "show", "samples", "plan.toml", "--text", "how is an otter")
    lines = done.stdout.splitlines()
    assert lines[lines.index("system           Be\\u001b[31m brief.") :][:4] == [
        "system           Be\\u001b[31m brief.",
        "user             How is an Otter?",
        'tool call        look_up({"animal": "Otter"})',
        "tool             fine",
    ]
    assert (
        "... (911 characters more; --full shows all)" in done.stdout and "\x1b" not in done.stdout
    )
    full = distill(talks, "show", "samples", "plan.toml", "--text", "how is an otter", "--full")
    assert full.stdout.count("Really it is.") == 150
    assert full.stdout.count("question") == 0  # it stands in the conversation


def test_long_texts_are_wrapped_to_the_terminal_beside_their_names(talks, monkeypatch):
    from rich.console import Console

    from flows.cli import samples

    monkeypatch.setattr(samples, "PIPE_WIDTH", 60)
    assert Console().width  # the width is the pipe's alone
    done = distill(talks, "show", "samples", "plan.toml", "--text", "how is an otter", "--full")
    lines = done.stdout.splitlines()
    place = next(n for n, line in enumerate(lines) if line.startswith("completion"))
    wrapped = [line for line in lines[place:] if line]
    assert len(wrapped) > 30 and max(map(len, wrapped)) <= 60
    assert all(line.startswith(" " * 17) for line in wrapped[1:])
    said = " ".join(line[17:] for line in wrapped)
    assert said == ("It is fine. " + 150 * "Really it is. ").strip()


def test_json_has_messages_and_passages_as_they_are(talks):
    done = distill(talks, "show", "samples", "plan.toml", "--json", "--score", "grounded<0.5")
    (row,) = json.loads(done.stdout)
    assert row["passage"] == rows(0, 1)[0]["passage"]
    assert row["messages"][0]["role"] == "user" and row["passage"] in row["messages"][0]["content"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("samples", "plan.toml", "--recipe", "imitatoin"), "did you mean 'imitation'?"),
        (("samples", "plan.toml", "--status", "okay"), "did you mean 'ok'?"),
        (("samples", "plan.toml", "--score", "grounded"), "--score takes a bound such as"),
        (("samples", "plan.toml", "--score", "ground<1"), "did you mean 'grounded'?"),
        (("samples", "plan.toml", "--only", "best"), "unknown --only 'best'"),
        (("samples", "plan.toml", "--warehouse", "w.duckdb"), "cannot be combined"),
        (("failures", "plan.toml", "--text", "a"), "do not go together with 'failures'"),
    ],
)
def test_a_wrong_condition_is_one_line(talks, words, told):
    done = distill(talks, "show", *words)
    assert done.returncode == 2 and told in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_nothing_that_matches_is_told_with_the_number_of_samples(talks):
    done = distill(talks, "show", "samples", "plan.toml", "--text", "nowhere")
    assert done.stdout == "none of 5 samples matches\n"
