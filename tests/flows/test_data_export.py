"""Data sets for trainers and hubs: every form holds the same conversations, whole or not at all."""

from __future__ import annotations

import json
import re
import shutil

import polars as pl
import pytest

from tests.flows.test_data_import import chat
from tests.support.cli import KEY, distill
from tests.support.documents import pdf_bytes
from tests.support.plans import GROUNDED, rows, scripted, write_rows
from tests.support.tiny import make_tiny
from tests.warehouse.test_conversations import REPLY, TOOLS, WITH_CALL
from warehouse.db.store import Store
from warehouse.inputs.conversations import ConversationReader
from warehouse.records import Sample

PLAN = """
name = "shown"
warehouse = "w.duckdb"
{teacher}
[datagen]
sampling = {{ max_tokens = 16 }}
{recipe}"""
USES = '[[datagen.recipe]]\nuse = "imported"\nfile = "chats.jsonl"\nteacher = "gpt-4o"\n'


def write(folder, recipe):
    teacher = scripted(folder / "asked.log")
    (folder / "plan.toml").write_text(PLAN.format(teacher=teacher, recipe=recipe))


@pytest.fixture(scope="module")
def curated(tmp_path_factory):
    """A plan whose gate has dropped one of thirty samples."""
    folder = tmp_path_factory.mktemp("exports")
    made = rows(0, 30)
    made[7] |= {"prompt": "It is brown. Is it?", "passage": "The viper lives by the river."}
    write_rows(folder / "prompts.jsonl", made)
    write(folder, GROUNDED)
    for verb in ("generate", "curate"):
        done = distill(folder, verb, "plan.toml")
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def conversations(tmp_path):
    """A plan that imports a plain chat, a long one with a system message, and two with tools."""
    found = [
        chat("Hi", "Hello."),
        chat("Hi", "Hello.", "And?", "So.", system="Be brief."),
        {"messages": WITH_CALL, "tools": TOOLS},
        {
            "messages": [*WITH_CALL[:1], {"role": "user", "content": "Look!"}, WITH_CALL[2]],
            "tools": TOOLS,
        },
    ]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    write(tmp_path, USES)
    assert distill(tmp_path, "curate", "plan.toml").returncode == 0
    return tmp_path


def exported(folder, *words):
    done = distill(folder, "data", "export", "plan.toml", "--json", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def load_rows(*words, cache, **options):
    """What `datasets` reads."""
    from datasets import load_dataset

    return load_dataset(*words, cache_dir=str(cache), **options)


def test_chat_rows_are_what_the_gate_kept_in_the_order_of_their_ids(curated, tmp_path):
    out = tmp_path / "a.jsonl"
    result = exported(curated, "-o", out)
    assert (result["rows"], result["samples"], result["left_out"]) == ({"train": 29}, 30, 0)
    found = lines(out)
    samples = {sample.sample_id: sample for sample in Store(curated / "w.duckdb").read(Sample)}
    assert [row["id"] for row in found] == sorted(row["id"] for row in found)
    for row in found:
        sample = samples[row["id"]]
        assert row["messages"] == [
            *sample.messages,
            {"role": "assistant", "content": sample.completion},
        ]
        assert (row["scores"], row["reference"]) == ({"grounded": 1.0}, sample.reference)
        assert "kept" not in row
    dropped = {sample_id for sample_id in samples if sample_id not in {row["id"] for row in found}}
    assert {samples[key].question for key in dropped} == {"It is brown. Is it?"}


def test_dropped_samples_have_their_reasons_and_all_say_if_they_were_kept(curated, tmp_path):
    exported(curated, "-o", tmp_path / "a.jsonl", "--only", "dropped")
    (row,) = lines(tmp_path / "a.jsonl")
    assert (row["kept"], row["status"], row["reason"]) == (False, "ok", "grounded below 1")
    assert row["reasons"] == ["grounded below 1"] and row["scores"]["grounded"] < 1
    exported(curated, "-o", tmp_path / "b.jsonl", "--all")
    every = lines(tmp_path / "b.jsonl")
    assert [row["kept"] for row in every].count(True) == 29 and len(every) == 30


def test_prompt_and_completion_are_the_two_parts_of_a_conversation(conversations):
    exported(conversations, "--format", "prompt-completion")
    found = lines(conversations / "exports" / "shown.prompt-completion.jsonl")
    by_reply = {row["completion"][0]["content"]: row for row in found}
    assert by_reply["Hello."]["prompt"] == [{"role": "user", "content": "Hi"}]
    assert by_reply["Brown."]["prompt"] == WITH_CALL[:-1]
    assert by_reply["Brown."]["completion"] == [REPLY]
    (call,) = by_reply[""]["completion"][0]["tool_calls"]
    assert call["function"] == WITH_CALL[2]["tool_calls"][0]["function"]
    assert by_reply.keys() == {"Hello.", "So.", "Brown.", ""}


def test_share_gpt_holds_system_messages_turns_and_tools(conversations):
    exported(conversations, "--format", "sharegpt")
    found = lines(conversations / "exports" / "shown.sharegpt.jsonl")
    by_reply = {row["conversations"][-1]["value"]: row for row in found}
    assert by_reply["So."]["system"] == "Be brief."
    assert [turn["from"] for turn in by_reply["So."]["conversations"]] == [
        "human", "gpt", "human", "gpt",
    ]  # fmt: skip
    tools = by_reply["Brown."]
    assert json.loads(tools["tools"]) == TOOLS
    call = json.loads(tools["conversations"][1]["value"])
    assert call == {
        "id": "call_7",
        "name": "look_up",
        "arguments": {"animal": "otter", "depth": 2},
    }
    assert tools["conversations"][2] == {"from": "observation", "value": "brown"}


def test_alpaca_leaves_out_what_it_cannot_hold_and_says_how_many(conversations):
    done = distill(conversations, "data", "export", "plan.toml", "--format", "alpaca")
    assert "left out       2 samples that the form 'alpaca' cannot hold" in done.stdout
    found = {row["output"]: row for row in lines(conversations / "exports" / "shown.alpaca.jsonl")}
    assert found.keys() == {"Hello.", "So."}
    row = found["So."]
    assert (row["instruction"], row["input"], row["system"]) == ("And?", "", "Be brief.")
    assert row["history"] == [["Hi", "Hello."]]


@pytest.mark.parametrize("form", ["chat", "prompt-completion", "sharegpt", "parquet"])
def test_what_is_exported_is_imported_as_the_same_conversations(conversations, form):
    path = exported(conversations, "--format", form)["path"]
    reader = ConversationReader(conversations / path)
    found = {one.reply: one for one in reader.read()}
    assert reader.faults == []
    samples = Store(conversations / "w.duckdb").read(Sample)
    for sample in samples:
        assert found[sample.completion].asked == sample.messages
        assert found[sample.completion].tools == (sample.facts or {}).get("tools")
    assert found["Brown."].messages[-1] == REPLY


@pytest.mark.parametrize("form", ["chat", "prompt-completion", "sharegpt", "alpaca", "parquet"])
def test_datasets_reads_each_file(conversations, tmp_path, form):
    result = exported(conversations, "--format", form)
    kind = "parquet" if form == "parquet" else "json"
    found = load_rows(kind, data_files=result["path"], split="train", cache=tmp_path / "cache")
    assert found.num_rows == result["rows"]["train"]
    column = {
        "prompt-completion": "completion", "sharegpt": "conversations", "alpaca": "output",
    }.get(form, "messages")  # fmt: skip
    assert all(row[column] for row in found)


def test_a_folder_has_splits_and_a_card_that_datasets_reads(curated, tmp_path):
    result = exported(curated, "--format", "datasets", "--holdout", "0.3", "-o", tmp_path / "d")
    found = load_rows(str(tmp_path / "d"), cache=tmp_path / "cache")
    assert {name: part.num_rows for name, part in found.items()} == result["rows"]
    assert set(found) == {"train", "test"} and sum(result["rows"].values()) == 29
    passages = {name: set(part["passage"]) for name, part in found.items()}
    assert not passages["train"] & passages["test"]
    row = found["train"][0]
    assert row["messages"][-1] == {"role": "assistant", "content": row["reference"][0]}
    assert len(row["call_ids"]) == 1 and row["scores"] == {"grounded": 1.0}
    assert row["source"].startswith("prompts.jsonl line ")
    card = (tmp_path / "d" / "README.md").read_text()
    for text in (
        "| prompts.jsonl | 29 |",
        "| imitation | 30 | 29 | 100.0 % | prompts: prompts.jsonl",
        "| scripted | 29 |",
        "The gate kept 29 of 30 samples.",
        "| dropped: grounded below 1 | 1 |",
        "| grounded |",
        "| 29 of 29 | 1 | 1 | 1 | 1 |",
        "The teacher (scripted): its terms of use may forbid",
        "- prompts.jsonl: the licence is not known here",
        "With those behind samples that were dropped there were 30 calls, on 20",
        "for 0.0000 US dollars; what scoring cost is in none",
        "A high score is good.",
        "About 30 % of the rows are meant for the test split.",
        "| sampling | temperature: 0, max\\_tokens: 16",
        "distill data export PLAN --format datasets",
    ):
        assert text in card, text
    info = json.loads((tmp_path / "d" / "dataset_info.json").read_text())
    assert info["d-test"]["file_name"] == "data/test.parquet"
    manifest = json.loads((tmp_path / "d" / "data_export.json").read_text())
    assert set(manifest["sha256"]) == {
        "README.md", "data/test.parquet", "data/train.parquet", "dataset_info.json",
    }  # fmt: skip


def test_samples_that_came_after_the_last_curate_are_counted(curated, tmp_path):
    folder = tmp_path / "grown"
    shutil.copytree(curated, folder)
    rows = (folder / "prompts.jsonl").read_text().splitlines()
    row = json.loads(rows[0])
    more = {**row, "prompt": "Which colour has the last one?", "reference": "green"}
    with (folder / "prompts.jsonl").open("a") as stream:
        stream.write(json.dumps(more) + "\n")
    assert distill(folder, "generate", "plan.toml").returncode == 0
    said = distill(folder, "data", "export", "plan.toml", "-o", tmp_path / "a.jsonl").stdout
    assert "not scored     1 sample, so not kept; run `distill curate plan.toml`" in said
    assert distill(folder, "curate", "plan.toml").returncode == 0
    said = distill(folder, "data", "export", "plan.toml", "-o", tmp_path / "b.jsonl").stdout
    assert "not scored" not in said


def test_what_belongs_together_is_in_one_split(tmp_path):
    found = [chat(f"Hi {n}", f"Hello {n}.", f"What is {n}?", f"It is {n}.") for n in range(40)]
    found += [chat(f"hi, {n}!", f"Good day {n}.") for n in range(40)]  # the same question
    found += [chat(f"Tell me {n}", "Brown.", passage=f"Passage {n % 10}.") for n in range(40)]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    write(tmp_path, USES + 'turns = "all"\n')
    assert distill(tmp_path, "curate", "plan.toml").returncode == 0
    result = exported(tmp_path, "--format", "datasets", "--holdout", "0.3", "-o", tmp_path / "d")
    assert min(result["rows"].values()) > 10
    split_of = {}
    for name in ("train", "test"):
        table = pl.read_parquet(tmp_path / "d" / "data" / f"{name}.parquet")
        for messages, passage in zip(table["messages"], table["passage"], strict=True):
            number = messages[0]["content"].split()[-1].strip("!")
            split_of.setdefault(passage or number, set()).add(name)
    assert len(split_of) > 40 and all(len(names) == 1 for names in split_of.values())


def test_what_the_plan_holds_out_is_no_training_row_unless_all_says_so(tmp_path):
    made = rows(0, 30)
    write_rows(tmp_path / "prompts.jsonl", made)
    write_rows(tmp_path / "held_out.jsonl", [*made[3:8], *rows(1000, 12)])
    evaluate = '[evaluate]\nbenchmarks = [{ use = "custom", path = "held_out.jsonl" }]\n'
    write(tmp_path, GROUNDED + evaluate)
    for verb in ("generate", "curate"):
        done = distill(tmp_path, verb, "plan.toml")
        assert done.returncode == 0, done.stderr
    held = {row["prompt"] for row in made[3:8]}

    def questions(name):
        return set(pl.read_parquet(tmp_path / name / "data").get_column("question").to_list())

    for form in ("chat", "prompt-completion", "sharegpt", "alpaca", "parquet"):
        assert exported(tmp_path, "--format", form)["rows"] == {"train": 25}
    assert not any(prompt in (tmp_path / "exports/shown.chat.jsonl").read_text() for prompt in held)
    exported(tmp_path, "--format", "datasets", "-o", tmp_path / "kept")
    assert not questions("kept") & held
    dropped = exported(tmp_path, "--format", "datasets", "--only", "dropped", "-o", tmp_path / "no")
    assert dropped["rows"] == {"dropped": 5} and dropped["dataset_info"] is None
    assert questions("no") == held
    exported(tmp_path, "--format", "datasets", "--all", "-o", tmp_path / "all")
    assert questions("all") > held
    found = load_rows(str(tmp_path / "all"), cache=tmp_path / "cache")
    assert found["train"].features == found["test"].features
    assert {str(row["reason"]) for part in found.values() for row in part} > {"kept"}


def test_a_card_names_documents_by_their_files_and_what_is_held_out(tmp_path):
    (tmp_path / "docs").mkdir()
    for n in range(30):
        text = "".join(
            f"# Part {m}\n\nThe otter number {n} of part {m} is brown.\n\n" for m in range(3)
        )
        (tmp_path / "docs" / f"a {n:02}.md").write_text(text)
    (tmp_path / "docs" / "b.pdf").write_bytes(
        pdf_bytes([["The brown newt swims."]], [("Newts", 0)])
    )
    write_rows(tmp_path / "held_out.jsonl", rows(1000, 12))
    write(tmp_path, '[[datagen.recipe]]\nuse = "grounded_qa"\ndocuments = ["docs"]\nwords = 8\n'
          '[evaluate]\nbenchmarks = [{ use = "custom", path = "held_out.jsonl" }]\n')  # fmt: skip
    plan = tmp_path / "plan.toml"
    pair = '{"pairs": [{"question": "What colour is it?", "answer": "brown"}]}'
    plan.write_text(plan.read_text().replace("[teacher]\n", f"[teacher]\ndefault = '{pair}'\n"))
    assert distill(tmp_path, "generate", "plan.toml").returncode == 0
    exported(tmp_path, "--all", "--format", "datasets", "-o", tmp_path / "d")
    card = (tmp_path / "d" / "README.md").read_text()
    listed = re.findall(r"^\| (docs/.*) \| \d+ \|$", card, re.MULTILINE)
    assert len(set(listed)) == len(listed) == 20
    assert all(re.fullmatch(r"docs/a \d\d\.md", name) for name in listed)
    assert "| 11 further sources | " in card
    assert "- 31 sources, such as docs/a 00" in card
    assert "The items of custom are for evaluation: no kept sample asks or quotes one." in card


def test_without_a_test_share_all_rows_are_for_training(curated, tmp_path):
    result = exported(curated, "--format", "datasets", "--holdout", "0", "-o", tmp_path / "d")
    assert result["rows"] == {"train": 29}
    assert not (tmp_path / "d" / "data" / "test.parquet").exists()


def test_a_card_holds_no_secret_and_no_path_of_the_machine(tmp_path):
    write_rows(tmp_path / "prompts.jsonl", rows(0, 2))
    asks = '[[datagen.recipe]]\nuse = "imitation"\ninstruction = "Key sk-{}: no."\nprompts = "{}"\n'
    key = "abcdefghij0123456789"
    write(tmp_path, asks.format(key, tmp_path / "prompts.jsonl"))
    assert "looks like a secret" in distill(tmp_path, "data", "export", "plan.toml").stderr
    write(tmp_path, asks.format("short", tmp_path / "prompts.jsonl"))
    assert distill(tmp_path, "generate", "plan.toml").returncode == 0
    exported(tmp_path, "--format", "datasets", "-o", tmp_path / "d")
    card = (tmp_path / "d" / "README.md").read_text()
    assert str(tmp_path) not in card and KEY not in card
    assert "prompts: prompts.jsonl" in card


def test_llama_factory_s_description_names_the_columns_and_other_entries_stay(conversations):
    folder = conversations / "exports"
    folder.mkdir()
    (folder / "dataset_info.json").write_text('{"mine": {"file_name": "mine.json"}}')
    for form in ("chat", "sharegpt", "alpaca", "prompt-completion"):
        exported(conversations, "--format", form)
    info = json.loads((folder / "dataset_info.json").read_text())
    assert info.keys() == {"mine", "shown.chat", "shown.sharegpt", "shown.alpaca"}
    assert info["mine"] == {"file_name": "mine.json"}
    share_gpt, alpaca = info["shown.sharegpt"], info["shown.alpaca"]
    row = lines(folder / share_gpt["file_name"])[0]
    assert set(share_gpt["columns"].values()) <= set(row)
    assert {share_gpt["tags"]["role_tag"], share_gpt["tags"]["content_tag"]} <= set(
        row["conversations"][0]
    )
    roles = {
        share_gpt["tags"][f"{who}_tag"] for who in ("user", "assistant", "observation", "function")
    }
    assert {
        t["from"] for r in lines(folder / "shown.sharegpt.jsonl") for t in r["conversations"]
    } == roles
    assert set(alpaca["columns"].values()) <= set(lines(folder / alpaca["file_name"])[0])
    assert info["shown.chat"]["formatting"] == "openai"  # since there are tool calls
    (folder / "dataset_info.json").write_text("[]")
    done = distill(conversations, "data", "export", "plan.toml", "--force")
    assert done.returncode == 2 and "is no JSON object" in done.stderr


def test_an_existing_path_is_refused_and_force_replaces_exports_alone(curated, tmp_path):
    out, folder = tmp_path / "a.jsonl", tmp_path / "d"
    out.write_text("mine")
    for words in (("-o", out), ("-o", tmp_path), ("-o", tmp_path, "--format", "datasets")):
        done = distill(curated, "data", "export", "plan.toml", *words)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert out.read_text() == "mine"
    exported(curated, "-o", out, "--force")
    assert len(lines(out)) == 29
    exported(curated, "-o", folder, "--format", "datasets")
    (folder / "data" / "old.parquet").write_text("old")
    refused = distill(curated, "data", "export", "plan.toml", "-o", folder, "--format", "datasets")
    assert refused.returncode == 2 and "already exists; replace it with --force" in refused.stderr
    exported(curated, "-o", folder, "--format", "datasets", "--force")
    assert not (folder / "data" / "old.parquet").exists()
    assert [path.name for path in tmp_path.iterdir() if ".part-" in path.name] == []


@pytest.mark.parametrize("form", ["chat", "datasets"])
def test_what_fails_on_the_way_leaves_nothing(curated, tmp_path, monkeypatch, form):
    def fail(*args, **options):
        raise OSError(28, "No space left on device", "a file")

    monkeypatch.setattr("flows.data.export._write_rows", fail)
    monkeypatch.setattr("flows.data.export.write_tables", fail)
    done = distill(curated, "data", "export", "plan.toml", "--format", form, "-o", tmp_path / "x")
    assert done.returncode == 2 and "No space left on device" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_wrong_words_and_nothing_to_export_are_one_line(curated, tmp_path):
    for words, told in (
        (("--format", "sharegtp"), "did you mean 'sharegpt'?"),
        (("--only", "best"), "unknown --only 'best'"),
        (("--all", "--only", "kept"), "cannot be combined"),
    ):
        done = distill(curated, "data", "export", "plan.toml", *words)
        assert done.returncode == 2 and told in done.stderr, words
    unanswered = {"prompt": "What is it?", "passage": "Nobody knows."}  # an empty, invalid reply
    write_rows(tmp_path / "prompts.jsonl", [*rows(0, 2), unanswered])
    write(tmp_path, GROUNDED)
    done = distill(tmp_path, "data", "export", "plan.toml")
    assert done.returncode == 2 and "run `distill generate plan.toml` first" in done.stderr
    assert distill(tmp_path, "generate", "plan.toml").returncode == 0
    done = distill(tmp_path, "data", "export", "plan.toml")
    assert done.returncode == 2 and "is scored yet; run `distill curate plan.toml`" in done.stderr
    assert exported(tmp_path, "--all")["rows"] == {"train": 3}


def test_exporting_asks_nothing_and_writes_nothing_to_the_warehouse(curated, tmp_path):
    log = (curated / "asked.log").read_text()
    before = (curated / "w.duckdb").read_bytes()
    exported(curated, "-o", tmp_path / "a.jsonl")
    assert (curated / "asked.log").read_text() == log
    assert (curated / "w.duckdb").read_bytes() == before


def test_a_table_has_all_that_is_known_of_a_sample(conversations):
    exported(conversations, "--format", "parquet")
    table = pl.read_parquet(conversations / "exports" / "shown.parquet")
    assert {"messages", "tools", "id", "recipe", "question", "call_ids"} <= set(table.columns)
    tools = dict(zip(table["question"], table["tools"], strict=True))
    assert json.loads(tools["What colour is an otter?"]) == TOOLS and json.loads(tools["Hi"]) == []


@pytest.mark.trains
@pytest.mark.parametrize("form", ["chat", "prompt-completion"])
def test_plain_trl_trains_on_an_export(curated, tmp_path, form):
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    out = tmp_path / "a.jsonl"
    exported(curated, "--format", form, "-o", out)
    base = str(make_tiny(tmp_path / "tiny"))
    found = load_rows("json", data_files=str(out), split="train", cache=tmp_path / "cache")
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base),
        processing_class=AutoTokenizer.from_pretrained(base),
        train_dataset=found,
        args=SFTConfig(
            output_dir=str(tmp_path / "out"),
            max_steps=2,
            per_device_train_batch_size=4,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            bf16=False,
        ),
    )
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    result = trainer.train()
    assert result.global_step == 2 and 0 < result.training_loss < 20
    assert any((before[name] != value).any() for name, value in trainer.model.named_parameters())
