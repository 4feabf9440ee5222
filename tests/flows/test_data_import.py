"""Replies from elsewhere: recorded as calls and samples, used like all others, never asked again."""

from __future__ import annotations

import json

import pytest

from tests.support.cli import distill
from tests.support.plans import rows, scripted, write_plan
from warehouse.db.store import Store
from warehouse.records import Call, Choice, Prompt, Run, Sample, Score, Student

PLAN = """
name = "imports"
warehouse = "w.duckdb"
[teacher]
use = "scripted"
default = "blue"
log = "asked.log"
[datagen]
sampling = {{ temperature = 0.5, max_tokens = 64 }}
{recipe}"""
ASKS = '[[datagen.recipe]]\nuse = "imitation"\nprompts = "prompts.jsonl"\n'
USES = '[[datagen.recipe]]\nuse = "imported"\nfile = "chats.jsonl"\nteacher = "gpt-4o"\n'


def chat(question, *turns, **more):
    """A ShareGPT row."""
    values = [question, *turns]
    said = [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(values)]
    return {"conversations": said, **more}


CHATS = [
    chat("What colour is an otter?", "Brown.", system="Be brief."),
    chat("Hi", "Hello.", "What colour is a heron?", "Grey."),
    chat("And a newt?", "I cannot help with that."),
]


def write(folder, *found, recipe=ASKS, name="chats.jsonl"):
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in found))
    (folder / "plan.toml").write_text(PLAN.format(recipe=recipe))
    (folder / "prompts.jsonl").write_text(
        "".join(json.dumps({"prompt": f"What colour is {n}?"}) + "\n" for n in range(3))
    )
    return Store(folder / "w.duckdb")


def imported(folder, *words, file="chats.jsonl"):
    done = distill(folder, "data", "import", file, "plan.toml", "--json", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def asked(folder):
    log = folder / "asked.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_replies_become_calls_and_samples_of_the_named_teacher(tmp_path):
    store = write(tmp_path, *CHATS)
    result = imported(tmp_path, "--teacher", "gpt-4o")
    assert (result["rows"], result["calls_new"], result["samples"]) == (3, 3, 3)
    assert (result["used_by_plan"], result["malformed"]) == (False, 0)
    assert result["recipe"] == USES.strip()
    calls = {call.text: call for call in store.read(Call)}
    grey = calls["Grey."]
    assert (grey.teacher, grey.cost_usd, grey.stage) == ("import:gpt-4o", None, "generate")
    assert [message["content"] for message in grey.messages] == [
        "Hi", "Hello.", "What colour is a heron?",
    ]  # fmt: skip
    samples = {sample.completion: sample for sample in store.read(Sample)}
    assert samples["Grey."].call_ids == [grey.call_id]
    assert samples["Grey."].messages == grey.messages
    assert samples["Brown."].messages[0] == {"role": "system", "content": "Be brief."}
    assert samples["I cannot help with that."].status == "refused"
    assert {prompt.source for prompt in store.read(Prompt)} == {
        f"chats.jsonl line {n}" for n in (1, 2, 3)
    }
    (run,) = store.read(Run)
    assert (run.state, run.summary["verb"]) == ("completed", "data import")
    assert asked(tmp_path) == 0


def test_an_import_is_made_once_and_knows_when_the_plan_uses_it(tmp_path):
    store = write(tmp_path, *CHATS, recipe=USES)
    assert imported(tmp_path, "--teacher", "gpt-4o")["used_by_plan"] is True
    again = imported(tmp_path, "--teacher", "gpt-4o")
    assert (again["calls"], again["calls_new"], again["samples"]) == (3, 0, 3)
    assert (len(store.read(Call)), len(store.read(Sample)), len(store.read(Run))) == (3, 3, 1)
    other = imported(tmp_path, "--teacher", "gpt-4.1")
    assert (other["calls_new"], other["used_by_plan"]) == (3, False)


def test_a_reply_given_twice_is_imported_once_and_counted(tmp_path):
    again = {**CHATS[0], "id": 7}
    store = write(tmp_path, *CHATS, again, CHATS[1], recipe=USES)
    words = ("data", "import", "chats.jsonl", "plan.toml", "--teacher", "gpt-4o")
    done = distill(tmp_path, *words)
    assert "read           5 rows (sharegpt), 5 usable" in done.stdout
    assert "repeated       2 replies that came before in the file; each is imported" in done.stdout
    assert "calls          3 new\n" in done.stdout
    assert (len(store.read(Call)), len(store.read(Sample))) == (3, 3)
    again = imported(tmp_path, "--teacher", "gpt-4o")
    assert (again["repeated"], again["calls"], again["calls_new"]) == (2, 3, 0)
    done = distill(tmp_path, "data", "import", "chats.jsonl", "plan.toml", "--teacher", "gpt-4o")
    assert "calls          0 new, 3 recorded before, which stay as they are" in done.stdout
    generated = distill(tmp_path, "generate", "plan.toml")
    assert "chats.jsonl: 2 replies came before in the file" in generated.stderr
    assert imported(tmp_path, "--as-plan")["repeated"] == 2


def test_the_same_reply_with_other_counts_is_one_call(tmp_path):
    rows = [
        {"generic_request": {"model": "m", "messages": [{"role": "user", "content": "q"}]},
         "response_message": "Yes.", "token_usage": {"input": 3, "output": tokens}}
        for tokens in (1, 2)
    ]  # fmt: skip
    store = write(tmp_path, *rows)
    first = imported(tmp_path, "--teacher", "m")
    assert (first["calls_new"], first["repeated"]) == (1, 1)
    write(tmp_path, *reversed(rows))
    assert imported(tmp_path, "--teacher", "m")["calls_new"] == 0
    assert len(store.read(Call)) == 1


def test_rows_may_be_moved_and_an_edited_one_is_another_call(tmp_path):
    store = write(tmp_path, *CHATS)
    imported(tmp_path, "--teacher", "m")
    edited = chat("What colour is an otter?", "Dark brown.", system="Be brief.")
    write(tmp_path, *reversed(CHATS), edited)
    result = imported(tmp_path, "--teacher", "m")
    assert (result["calls"], result["calls_new"]) == (4, 1)
    assert len(store.read(Sample)) == 4


def test_a_plan_that_uses_them_needs_no_import_and_asks_nothing(tmp_path):
    store = write(tmp_path, *CHATS, recipe=USES + '[quality]\nscorers = ["refusal"]\n')
    generated = distill(tmp_path, "generate", "plan.toml", "--json")
    assert json.loads(generated.stdout)["calls_made"] == 0
    curated = json.loads(distill(tmp_path, "curate", "plan.toml", "--json").stdout)
    assert (curated["samples"], curated["kept"]) == (3, 2)
    assert asked(tmp_path) == 0
    ids = {call.call_id for call in store.read(Call)}
    assert {key for sample in store.read(Sample) for key in sample.call_ids} == ids
    assert len(store.read(Score)) == len(store.read(Choice)) == 3
    by_verb = {run.summary["verb"]: run.run_id for run in store.read(Run)}
    assert {call.run_id for call in store.read(Call)} == {by_verb["data import"]}


def test_curating_alone_records_the_calls_behind_its_samples(tmp_path):
    store = write(tmp_path, *CHATS, recipe=USES)
    assert distill(tmp_path, "curate", "plan.toml").returncode == 0
    assert len(store.read(Call)) == 3


def test_malformed_rows_are_told_by_line_and_the_rest_goes_on(tmp_path):
    write(tmp_path, CHATS[0], recipe=USES)
    with (tmp_path / "chats.jsonl").open("a") as stream:
        stream.write("{bad\n" + json.dumps({"conversations": []}) + "\n" + json.dumps(CHATS[1]))
    done = distill(tmp_path, "data", "import", "chats.jsonl", "plan.toml", "--teacher", "gpt-4o")
    assert "read           4 rows (sharegpt), 2 usable" in done.stdout
    assert "left out       2 rows:\n  chats.jsonl line 2 is not JSON" in done.stdout
    assert "chats.jsonl line 3: 'conversations' is a list" in done.stdout
    assert "next           distill curate plan.toml" in done.stdout
    generated = distill(tmp_path, "generate", "plan.toml")
    assert "chats.jsonl: 2 of 4 rows cannot be used, first: chats.jsonl line 2" in generated.stderr


def test_each_reply_of_a_conversation_may_be_a_sample(tmp_path):
    store = write(tmp_path, CHATS[1])
    result = imported(tmp_path, "--teacher", "m", "--all-turns")
    assert 'turns = "all"' in result["recipe"]
    samples = {sample.completion: sample for sample in store.read(Sample)}
    assert {text: len(sample.messages) for text, sample in samples.items()} == {
        "Hello.": 1, "Grey.": 3,
    }  # fmt: skip
    assert samples["Hello."].question == "Hi"
    assert samples["Grey."].question == "What colour is a heron?"


def test_a_cost_is_shared_by_tokens_and_is_in_the_ledger(tmp_path):
    rows = [
        {"generic_request": {"model": "m", "messages": [{"role": "user", "content": q}]},
         "response_message": "Yes.", "token_usage": {"input": tokens, "output": 1}}
        for q, tokens in (("a", 9), ("b", 29))
    ]  # fmt: skip
    store = write(tmp_path, *rows)
    imported(tmp_path, "--teacher", "m", "--cost-usd", "4")
    assert sorted(call.cost_usd for call in store.read(Call)) == [1.0, 3.0]
    ledger = distill(tmp_path, "runs", "--cost", "--json", "--warehouse", "plan.toml")
    (line,) = json.loads(ledger.stdout)
    assert (line["teacher"], line["recipe"], line["cost_usd"]) == ("import:m", "imported", 4.0)


def test_reasoning_is_set_apart_and_a_cut_reply_is_truncated(tmp_path):
    row = chat("Why?", "<think>Hm.</think>Because.")
    cut = chat("What?", "It is", finish_reason="length")
    store = write(tmp_path, row, cut)
    imported(tmp_path, "--teacher", "m")
    found = {sample.completion: sample.status for sample in store.read(Sample)}
    assert found == {"Because.": "ok", "It is": "truncated"}
    assert {call.reasoning for call in store.read(Call)} == {"Hm.", None}


def test_as_the_plan_s_own_replies_the_same_prompts_are_not_asked_again(tmp_path):
    found = [chat(f"What colour is {n}?", f"Colour {n}.") for n in (0, 2)]
    store = write(tmp_path, *found, chat("Something else?", "Yes."))
    result = imported(tmp_path, "--as-plan")
    assert (result["calls_new"], result["prompts"], result["answered"]) == (3, 3, 2)
    generated = json.loads(distill(tmp_path, "generate", "plan.toml", "--json").stdout)
    assert (generated["calls_made"], generated["calls_reused"], asked(tmp_path)) == (1, 2, 1)
    texts = sorted(sample.completion for sample in store.read(Sample))
    assert texts == ["Colour 0.", "Colour 2.", "blue"]
    assert imported(tmp_path, "--as-plan")["calls_new"] == 0


def test_several_replies_to_one_prompt_are_its_draws(tmp_path):
    found = [chat("What colour is 0?", text) for text in ("Red.", "Blue.", "Red.")]
    store = write(tmp_path, *found, recipe=ASKS + "n = 3\nlimit = 1\n")
    result = imported(tmp_path, "--as-plan")
    assert (result["calls_new"], result["answered"]) == (2, 2)
    assert distill(tmp_path, "generate", "plan.toml").returncode == 0
    assert asked(tmp_path) == 1
    assert sorted(s.completion for s in store.read(Sample)) == ["Blue.", "Red.", "blue"]


def test_imported_calls_are_in_no_budget(tmp_path):
    rows = [
        {"generic_request": {"model": "m", "messages": [{"role": "user", "content": "q"}]},
         "response_message": "Yes.", "token_usage": {"input": 900_000, "output": 1}}
    ]  # fmt: skip
    write(tmp_path, *rows, recipe=USES + ASKS)
    done = distill(tmp_path, "generate", "plan.toml", "--set", "datagen.budget_tokens=5000")
    assert done.returncode == 0, done.stderr
    assert asked(tmp_path) == 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "name who gave the replies with --teacher NAME"),
        (("--teacher", "m", "--as-plan"), "name who gave the replies with --teacher NAME"),
        (("--teacher", "m", "--format", "sharegtp"), "did you mean 'sharegpt'?"),
        (("--teacher", "m", "--requests", "none.jsonl"), "no file none.jsonl"),
        (("--teacher", " "), "teacher is the name of the model"),
    ],
)
def test_wrong_options_are_one_line(tmp_path, words, told):
    write(tmp_path, *CHATS)
    done = distill(tmp_path, "data", "import", "chats.jsonl", "plan.toml", *words)
    assert done.returncode == 2 and told in done.stderr
    assert not (tmp_path / "w.duckdb").exists()


def test_a_file_without_a_usable_row_is_one_line(tmp_path):
    write(tmp_path, {"text": "a"})
    done = distill(tmp_path, "data", "import", "chats.jsonl", "plan.toml", "--teacher", "m")
    assert done.returncode == 2
    assert (
        "no row of chats.jsonl can be used; first: chats.jsonl line 1 is in no form" in done.stderr
    )
    missing = distill(tmp_path, "data", "import", "no.jsonl", "plan.toml", "--teacher", "m")
    assert missing.returncode == 2 and "no file no.jsonl" in missing.stderr


@pytest.mark.trains
def test_a_share_gpt_file_becomes_a_student_without_a_call(tmp_path):
    plan = write_plan(tmp_path, scripted(tmp_path / "asked.log"), prompts=1)
    found = [chat(row["prompt"], row["reference"], passage=row["passage"]) for row in rows(0, 24)]
    found.append(chat("What colour is the moon?", "Nobody knows.", passage="The moon is grey."))
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    text = plan.read_text()
    asks = '[[datagen.recipe]]\nuse = "imitation"\nprompts = "prompts.jsonl"\n'
    assert asks in text
    plan.write_text(text.replace(asks, USES))
    result = imported(tmp_path, "--teacher", "gpt-4o")
    assert result["used_by_plan"] is True
    trained = distill(tmp_path, "train", "plan.toml", "--json")
    assert trained.returncode == 0, trained.stderr
    store = Store(tmp_path / "w.duckdb")
    (student,) = store.read(Student)
    assert json.loads(trained.stdout)["student_id"] == student.student_id
    assert student.audit["rows_kept"] == 24  # without the one whose answer is not in its passage
    assert asked(tmp_path) == 0
    assert {call.teacher for call in store.read(Call)} == {"import:gpt-4o"}
