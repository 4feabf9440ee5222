"""Files of other tools: each form gives the same messages, and a faulty row costs only itself."""

from __future__ import annotations

import json

import polars as pl
import pytest

from warehouse.errors import DataError
from warehouse.inputs.conversations import ConversationReader
from warehouse.inputs.message_forms import as_share_gpt, read_messages, read_share_gpt
from warehouse.tool_calls import read_calls

ASKED = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What colour is an otter?"},
]
REPLY = {"role": "assistant", "content": "Brown."}
WHOLE = [*ASKED, REPLY]

TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
CALL = {
    "id": "call_7",
    "type": "function",
    "function": {"name": "look_up", "arguments": {"animal": "otter", "depth": 2}},
}
WITH_CALL = [
    *ASKED,
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "brown", "tool_call_id": "call_7"},
    REPLY,
]


def read(folder, *rows, name="rows.jsonl", form="auto", requests=None):
    """The reader, and the conversations that it gives."""
    text = "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
    (folder / name).write_text(text)
    reader = ConversationReader(folder / name, form, requests)
    return reader, list(reader.read())


FORMS = {
    "chat": {"messages": WHOLE},
    "prompt-completion": {"prompt": ASKED, "completion": [REPLY]},
    "sharegpt": {
        "system": "Be brief.",
        "conversations": [
            {"from": "human", "value": "What colour is an otter?"},
            {"from": "gpt", "value": "Brown."},
        ],
    },
    "alpaca": {
        "system": "Be brief.",
        "instruction": "What colour is an otter?",
        "input": "",
        "output": "Brown.",
    },
    "distilabel": {
        "instruction": "What colour is an otter?",
        "system_prompt": "Be brief.",
        "generation": "Brown.",
        "model_name": "m",
    },
    "curator": {
        "generic_request": {"model": "m", "messages": ASKED},
        "response_message": "Brown.",
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_told_by_its_columns_and_gives_the_same_messages(tmp_path, form):
    reader, [found] = read(tmp_path, FORMS[form])
    assert found.messages == WHOLE
    assert (dict(reader.forms), reader.rows, reader.faults) == ({form: 1}, 1, [])
    _, [named] = read(tmp_path, FORMS[form], form=form)
    assert named == found


def test_a_prompt_and_its_completion_may_be_texts(tmp_path):
    row = {"prompt": "What colour is an otter?", "completion": "Brown.", "system": "Be brief."}
    _, [found] = read(tmp_path, row)
    assert found.messages == WHOLE


def test_alpaca_s_input_and_history_are_turns(tmp_path):
    row = {
        "instruction": "Translate.",
        "input": "Otter",
        "output": "Nutria",
        "history": [["Hi", "Hello"]],
    }
    _, [found] = read(tmp_path, row)
    assert [(m["role"], m["content"]) for m in found.messages] == [
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "Translate.\n\nOtter"),
        ("assistant", "Nutria"),
    ]


def batch_line(key, content="Brown.", **more):
    choice = {"index": 0, "message": {"role": "assistant", "content": content}}
    body = {
        "model": "gpt-4o-2024",
        "choices": [{**choice, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 3},
    }
    return {
        "id": "b",
        "custom_id": key,
        "response": {"status_code": 200, "body": body},
        "error": None,
        **more,
    }


def test_a_batch_is_joined_with_its_input_file(tmp_path):
    body = {"model": "gpt-4o", "messages": ASKED, "temperature": 0.5, "max_tokens": 3}
    requests = tmp_path / "in.jsonl"
    lines = [{"custom_id": key, "method": "POST", "body": body} for key in ("a", "b")]
    requests.write_text("".join(json.dumps(line) + "\n" for line in lines))
    failed = {"status_code": 400, "body": {"error": {"message": "too long"}}}
    reader, [found] = read(
        tmp_path,
        batch_line("a"),
        batch_line("b", response=failed),
        batch_line("c"),
        requests=requests,
    )
    assert found.messages == WHOLE
    assert (found.model, found.finish_reason) == ("gpt-4o-2024", "length")
    assert (found.prompt_tokens, found.completion_tokens) == (20, 3)
    assert found.sampling == {"temperature": 0.5}
    assert reader.faults == [
        "rows.jsonl line 2: the request failed (too long)",
        "rows.jsonl line 3: the input file has no usable request with custom_id 'c'",
    ]


def test_a_batch_without_its_input_file_is_refused_as_a_whole(tmp_path):
    with pytest.raises(DataError, match="--requests"):
        read(tmp_path, batch_line("a"))


def test_distilabel_s_own_record_of_the_messages_goes_before_the_instruction(tmp_path):
    row = {
        "instruction": "What colour is an otter?",
        "generation": ["Brown.", None, "It is brown."],
        "model_name": "m",
        "distilabel_metadata": {
            "raw_input_text_generation_0": ASKED,
            "raw_output_text_generation_0": "Brown.",
            "statistics_text_generation_0": {"input_tokens": [20], "output_tokens": [3]},
        },
    }
    _, found = read(tmp_path, row)
    assert [one.reply for one in found] == ["Brown.", "It is brown."]
    assert all(one.asked == ASKED for one in found)
    assert [(one.prompt_tokens, one.completion_tokens) for one in found] == [(20, 3), (0, 0)]


def test_a_curator_cache_tells_costs_and_failures(tmp_path):
    done = {
        "generic_request": json.dumps({"model": "m", "messages": ASKED}),
        "response_message": {"colour": "brown"},
        "token_usage": {"input": 20, "output": 3},
        "response_cost": 0.25,
    }
    failed = {
        "generic_request": {"model": "m", "messages": ASKED},
        "response_message": None,
        "response_errors": ["rate limit"],
    }
    reader, [found] = read(tmp_path, done, failed)
    assert (found.reply, found.cost_usd, found.prompt_tokens) == ('{"colour": "brown"}', 0.25, 20)
    assert reader.faults == ["rows.jsonl line 2: the request failed (['rate limit'])"]


def test_tool_calls_are_read_from_chats_and_share_gpt(tmp_path):
    _, [chat] = read(tmp_path, {"messages": WITH_CALL, "tools": TOOLS})
    assert (chat.messages, chat.tools) == (WITH_CALL, TOOLS)
    turns = [
        {"from": "human", "value": "What colour is an otter?"},
        {
            "from": "function_call",
            "value": '{"name": "look_up", "arguments": {"animal": "otter", "depth": 2}}',
        },
        {"from": "observation", "value": "brown"},
        {"from": "gpt", "value": "Brown."},
    ]
    row = {"system": "Be brief.", "conversations": turns, "tools": json.dumps(TOOLS)}
    _, [found] = read(tmp_path, row)
    (call,) = found.messages[2]["tool_calls"]
    assert call["function"] == CALL["function"]
    assert found.messages[3] == {"role": "tool", "content": "brown", "tool_call_id": call["id"]}
    assert found.tools == TOOLS


def test_share_gpt_keeps_calls_their_ids_and_the_text_beside_them():
    parallel = [CALL, {**CALL, "id": "call_8"}]
    messages = [
        *ASKED,
        {"role": "assistant", "content": "I look it up.", "tool_calls": parallel},
        {"role": "tool", "content": "brown", "tool_call_id": "call_7", "name": "look_up"},
        {"role": "tool", "content": "grey", "tool_call_id": "call_8"},
        REPLY,
    ]
    turns = as_share_gpt(messages)
    assert [turn["from"] for turn in turns] == [
        "system", "human", "function_call", "observation", "observation", "gpt",
    ]  # fmt: skip
    assert read_share_gpt(turns, "here") == messages


def test_a_conversation_may_end_with_tool_calls(tmp_path):
    written = {
        **CALL,
        "function": {**CALL["function"], "arguments": '{"animal": "otter", "depth": 2}'},
    }
    message = {"role": "assistant", "content": None, "tool_calls": [written]}
    reader, [found] = read(tmp_path, {"messages": [*ASKED, message], "tools": TOOLS})
    assert (reader.faults, found.asked, found.calls) == ([], ASKED, [CALL["function"]])
    assert read_calls(found.reply) == found.calls
    assert found.messages[-1] == WITH_CALL[2]  # its arguments are an object now


def test_what_a_table_fills_in_is_left_out():
    message = {"role": "user", "content": "Hi", "tool_calls": None, "name": None}
    assert read_messages([message], "here") == [{"role": "user", "content": "Hi"}]


def test_parts_of_text_are_joined_and_other_parts_refused():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert read_messages([{"role": "user", "content": parts}], "here")[0]["content"] == "a\nb"
    image = [{"type": "image_url", "image_url": {"url": "x"}}]
    with pytest.raises(DataError, match="type 'image_url'"):
        read_messages([{"role": "user", "content": image}], "here")


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("{bad\n", "is not JSON"),
        ([1], "is not an object"),
        ({"text": "a"}, "in no form that is known; it has 'text'"),
        ({"messages": "a"}, "'messages' is a list"),
        ({"messages": ASKED}, "has no reply"),
        ({"messages": [*ASKED, {"role": "assistant", "content": "  "}]}, "has an empty reply"),
        ({"messages": [{"role": "assistant", "content": "Hi"}]}, "begins with a message of role"),
        ({"messages": [{"role": "wizard", "content": "Hi"}, REPLY]}, "of role 'wizard'"),
        ({"messages": [*ASKED, {**WITH_CALL[2], "content": "So:"}]}, "a text beside tool calls"),
        (
            {"messages": [*ASKED, {**REPLY, "tool_calls": [{"id": "1"}]}]},
            "has a function with name",
        ),
        ({"conversations": [{"from": "function_call", "value": "no"}]}, "is not JSON"),
        ({"instruction": " ", "output": "a"}, "has an empty 'instruction'"),
        ({"instruction": "a", "generation": None, "distilabel_metadata": {}}, "no generation"),
    ],
)
def test_a_faulty_row_is_told_by_its_line_and_the_others_are_read(tmp_path, row, fault):
    reader, found = read(tmp_path, FORMS["chat"], row, FORMS["sharegpt"])
    assert [one.messages for one in found] == [WHOLE, WHOLE]
    (told,) = reader.faults
    assert told.startswith("rows.jsonl line 2") and fault in told
    assert reader.rows == 3


def _mangled(value, places, junk):
    """The value with junk at every place in it, one after the other."""
    yield junk
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()  # fmt: skip
    for key, inner in items:
        for other in _mangled(inner, places, junk):
            copy = value.copy()
            copy[key] = other
            yield copy


@pytest.mark.parametrize(
    "junk", [None, "x", "", 5, -1.5, float("inf"), True, [], ["x"], {}, {"x": 1}]
)
@pytest.mark.parametrize("form", [*FORMS, "openai-batch"])
def test_whatever_stands_in_a_field_costs_its_row_alone(tmp_path, form, junk):
    row = {
        "curator": {
            **FORMS["curator"], "token_usage": {"input": 2}, "response_cost": 0.5,
            "response_errors": ["x"],
            "generic_request": {"model": "m", "messages": ASKED, "generation_params": {"seed": 1}},
        },
        "distilabel": {
            **FORMS["distilabel"], "generation": ["Brown."],
            "distilabel_metadata": {
                "raw_input_x": ASKED, "statistics_x": {"input_tokens": [1], "output_tokens": [2]},
            },
        },
        "alpaca": {**FORMS["alpaca"], "history": [["a", "b"]], "tools": TOOLS, "reference": ["a"]},
        "chat": {"messages": WITH_CALL, "tools": TOOLS, "finish_reason": "stop", "passage": "x"},
        "openai-batch": batch_line("a"),
    }.get(form) or FORMS[form]  # fmt: skip
    requests = tmp_path / "in.jsonl"
    body = {"model": "m", "messages": ASKED, "tools": TOOLS, "temperature": 0.5}
    requests.write_text(json.dumps({"custom_id": "a", "body": body}))
    rows = list(_mangled(row, (), junk))
    pl_rows = [json.dumps(one).replace("Infinity", "1e999") + "\n" for one in rows]
    reader, found = read(
        tmp_path, *pl_rows, json.dumps(row) + "\n", form=form,
        requests=requests if form == "openai-batch" else None,
    )  # fmt: skip
    assert found[-1].reply == "Brown."
    assert reader.rows == len(rows) + 1
    assert all(fault.startswith("rows.jsonl line ") for fault in reader.faults)


def test_a_question_after_the_last_reply_is_left_out_and_counted(tmp_path):
    reader, [found] = read(tmp_path, {"messages": [*WHOLE, {"role": "user", "content": "And?"}]})
    assert (found.messages, reader.trimmed) == (WHOLE, 1)


def test_tables_hold_conversations_too(tmp_path):
    pl.DataFrame([{"messages": WHOLE}, {"messages": WHOLE}]).write_parquet(tmp_path / "a.parquet")
    found = list(ConversationReader(tmp_path / "a.parquet").read())
    assert [one.messages for one in found] == [WHOLE, WHOLE]
    csv = pl.DataFrame([{"messages": json.dumps(WHOLE)}])
    csv.write_csv(tmp_path / "a.csv")
    assert [one.messages for one in ConversationReader(tmp_path / "a.csv").read()] == [WHOLE]


def test_a_form_that_is_named_is_the_only_one_that_is_read(tmp_path):
    reader, found = read(tmp_path, FORMS["alpaca"], FORMS["chat"], form="chat")
    assert len(found) == 1
    assert reader.faults == ["rows.jsonl line 1: 'messages' is a list of {role, content}"]
