"""Samples with tool calls are trained through the base's chat template, end to end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distill.learning.objective import TrainingInputs, row_of, rows_of
from distill.objectives.preference import Preference
from distill.objectives.sequence import Sequence
from tests.support.tiny import CHAT_TEMPLATE, HERMES, make_tiny, make_tokenizer
from train.audit.audit import audit_rows, refusal
from train.audit.held_out_overlap import HeldOutTexts
from train.config import SftConfig
from train.dataset import encode, render, token_ids
from train.model.tool_template import tools_fault
from train.tuners.lora import Lora
from warehouse.errors import ModelError, TrainingError
from warehouse.records import Prompt, Sample
from warehouse.tool_calls import (
    call_message,
    read_calls,
    result_messages,
    show_call,
    split_calls,
    text_of,
    write_calls,
)

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}  # fmt: skip
CLOCK = {
    "type": "function",
    "function": {
        "name": "clock",
        "parameters": {"type": "object", "properties": {"zone": {"type": "integer"}}},
    },
}
ASKED = [{"role": "user", "content": "Water?"}]
TIME = [{"role": "user", "content": "What time?"}]
RAIN = [{"name": "weather", "arguments": {"city": "Oslo"}}]
NOON = [{"name": "clock", "arguments": {"zone": 2}}, {"name": "clock", "arguments": {"zone": 3}}]
HERMES_CALL = (
    '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call><|im_end|>\n'
)


def sample(messages, completion, tools=(WEATHER, CLOCK), **facts) -> Sample:
    prompt = Prompt.of(recipe="tools", messages=[], question="")
    return Sample.of(
        prompt, call_ids=["c"], recipe_version="1", completion=completion, status="ok",
        messages=messages, facts={"tools": list(tools), **facts},
    )  # fmt: skip


def called(calls, messages=ASKED) -> Sample:
    return sample(messages, write_calls(calls), tool_calls=calls)


def after(calls, results, messages=ASKED) -> list:
    call = call_message(calls, messages)
    return [*messages, call, *result_messages(call, results)]


SAMPLES = [
    called(RAIN),
    sample(after(RAIN, ['{"sky": "rain"}']), "It rains."),
    called(NOON, TIME),
    sample(after(NOON, ["12", "13"], TIME), "Noon."),
]


def test_calls_are_written_and_read_back():
    text = write_calls(RAIN)
    assert (
        text == '[{"name": "weather", "arguments": {"city": "Oslo"}}]' and read_calls(text) == RAIN
    )
    for faulty in ("", "{}", "[]", '[{"name": 3, "arguments": {}}]', '[{"name": "a"}]', "[1]"):
        with pytest.raises(ValueError, match="it is not"):
            read_calls(faulty)
    message = call_message(NOON, after(RAIN, ["x"]))
    assert [call["id"] for call in message["tool_calls"]] == ["call00002", "call00003"]
    assert text_of(message) == write_calls(NOON) and text_of(ASKED[0]) == "Water?"
    assert [m["tool_call_id"] for m in result_messages(message, ["a", "b"])] == ["call00002", "call00003"]  # fmt: skip


def test_the_completion_is_the_call_as_the_template_writes_it_and_nothing_else():
    tokenizer = make_tokenizer(HERMES)
    encoded = encode(row_of(SAMPLES[0]), tokenizer)
    assert tokenizer.decode(encoded.input_ids[encoded.start :]) == HERMES_CALL
    assert '"city"' in encoded.text[: encoded.text.index("Water?")]
    answer = encode(row_of(SAMPLES[1]), tokenizer)
    assert tokenizer.decode(answer.input_ids[answer.start :]) == "It rains.<|im_end|>\n"
    assert HERMES_CALL in answer.text and '{"sky": "rain"}\n</tool_response>' in answer.text


def test_a_person_s_edit_of_a_call_is_what_is_trained_on():
    edited = replace(SAMPLES[0], completion=SAMPLES[0].completion.replace("Oslo", "Rome"))
    (call,) = row_of(edited)["completion"][0]["tool_calls"]
    assert call["function"]["arguments"] == {"city": "Rome"}
    with pytest.raises(
        TrainingError, match="should call tools, and it is not JSON .*distill review"
    ):
        row_of(replace(SAMPLES[0], completion="weather(Oslo)"))


def test_the_audit_reads_calls_too():
    tokenizer = make_tokenizer(HERMES)
    held_out = HeldOutTexts([("which organ of the body pumps the blood", None)])
    quoting = called(
        [{"name": "weather", "arguments": {"city": "which organ of the body pumps the blood"}}]
    )
    figures = audit_rows(rows_of([*SAMPLES, quoting]), tokenizer, 512, held_out=held_out).figures
    assert figures["rows_kept"] == 5 and figures["held_out_overlap"]["rows"] == 1
    control = called([{"name": "weather", "arguments": {"city": "<|im_end|>"}}])
    figures = audit_rows(rows_of([*SAMPLES, control]), tokenizer, 512).figures
    assert figures["rows_kept"] == 4 and refusal(figures) is None


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        (HERMES, None),
        (CHAT_TEMPLATE, "leaves out the tools"),
        (HERMES.replace("m.tool_calls or []", "[]"), "leaves out tool calls"),
        (HERMES.replace("<tool_response>\n{{ m['content'] }}", ""), "leaves out the results of tools"),
        ("{% if tools %}{{ raise_exception('no tools here') }}{% endif %}", "refuses the tools (no tools here)"),
    ],
)  # fmt: skip
def test_a_template_that_knows_no_tools_is_refused_in_one_line(template, fault):
    tokenizer = make_tokenizer(template)

    def rendered(messages, tools):
        return tokenizer.apply_chat_template(messages, tools=tools, tokenize=False)

    assert tools_fault(rendered) == fault
    if fault:
        with pytest.raises(ModelError) as refused:
            audit_rows(rows_of(SAMPLES), tokenizer, 512)
        assert str(refused.value).startswith(f"the base's chat template {fault}, and 4 of 4 rows")


def test_an_objective_that_asks_the_student_itself_refuses_tools(tmp_path):
    inputs = TrainingInputs("nowhere", Lora(), SAMPLES, SftConfig(), tmp_path / "s")
    with pytest.raises(
        TrainingError, match="4 of 4 samples have tools, and the objective 'preference'"
    ):
        Preference().train(inputs)


@pytest.mark.trains
def test_a_student_learns_to_call_and_to_answer(tmp_path):
    """Beside samples without tools, whose rows have other keys."""
    import torch

    from train.model.student import load

    base = str(make_tiny(tmp_path / "tiny", chat_template=HERMES))
    plain = replace(SAMPLES[1], messages=[{"role": "user", "content": "What gas?"}], completion="air", facts=None)  # fmt: skip
    samples = [*SAMPLES, plain]
    config = SftConfig(epochs=80, batch_size=5, learning_rate=1e-2, max_length=512)
    inputs = TrainingInputs(base, Lora(rank=32, dropout=0.0), samples, config, tmp_path / "student")
    result = Sequence().train(inputs)
    assert result.audit["rows_kept"] == 5
    model, tokenizer = load(base, result.path)
    for one in samples:
        row = row_of(one)
        prompt = token_ids(tokenizer, render(tokenizer, row["prompt"], row.get("tools")))
        wanted = encode(row, tokenizer).input_ids[len(prompt) :]
        reply = model.generate(
            torch.tensor([prompt], device=model.device), max_new_tokens=len(wanted), do_sample=False
        )
        said = tokenizer.decode(reply[0][len(prompt) :])
        assert said.rstrip() == tokenizer.decode(wanted).rstrip()


@pytest.mark.parametrize(
    ("text", "beside", "calls"),
    [
        (HERMES_CALL.removesuffix("<|im_end|>\n"), "", RAIN),
        ('[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Oslo"}, "id": "a"}]', "", RAIN),
        ('{"name": "weather", "parameters": {"city": "Oslo"}}', "", RAIN),
        ('Well. {"name": "weather", "arguments": {"city": "Oslo"}} So.', "Well.  So.", RAIN),
        ("[" * 5000, "[" * 5000, []),
        ('[1, {"name": "weather", "arguments": {}}', "[1,", [{"name": "weather", "arguments": {}}]),
        ('{"name": "weather", "arguments": "Oslo"}', '{"name": "weather", "arguments": "Oslo"}', []),
        ("No call < here.", "No call < here.", []),
    ],
)  # fmt: skip
def test_calls_are_found_in_the_forms_of_several_templates(text, beside, calls):
    assert split_calls(text) == (beside, calls)


def test_a_call_is_shown_as_a_person_reads_it():
    call = {"name": "weather", "arguments": {"city": "Zürich", "days": 2}}
    assert show_call(call) == 'weather(city="Zürich", days=2)'
