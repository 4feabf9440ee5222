"""Bring a record into the columns of a row: prompts, chats, ShareGPT, Alpaca, question and answers.

A record's form is told by its columns alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from warehouse.errors import DataError
from warehouse.inputs.columns import COLUMNS, nearest_column
from warehouse.records import Message


class RecordForm(NamedTuple):
    """A record in the columns of ours, and the names that were read for it."""

    name: str
    columns: dict[str, Any]
    read: set[str]


def read_form(values: Mapping[str, Any], where: str) -> RecordForm:
    """Bring a record into the columns of ours; those that it has itself go before all others.

    Raises:
        DataError: it has no column that says what is asked, or one is malformed.
    """
    own = {name: values[name] for name in COLUMNS if name in values}
    if "prompt" in own or "messages" in own:
        if own.get("messages") and _is_asked_in(own.get("prompt"), own["messages"]):
            del own["prompt"]  # as in UltraChat: the first message once more
            return RecordForm("messages", own, {*own, "prompt"})
        return RecordForm("messages" if "messages" in own else "prompt", own, set(own))
    for key in ("conversations", "instruction", "question"):
        if key in values:
            name, columns, read = _READERS[key](values, where)
            return RecordForm(name, {**columns, **own}, {*read, *own})
    has = ", ".join(f"'{name}'" for name in values)
    near = [name for name in values if nearest_column(name, own) in ("prompt", "messages")]
    hint = (
        f'; did you mean columns = {{ prompt = "{near[0]}" }}?'
        if near
        else (
            '; where its columns have other names, map them in the plan: columns = { prompt = "..." }'
        )
    )
    raise DataError(
        f"{where} needs a non-empty text 'prompt' or a list 'messages', not both; "
        f"it has {has[:300]}{hint}"
    )


_Read = tuple[str, dict[str, Any], set[str]]


def _share_gpt(values: Mapping[str, Any], where: str) -> _Read:
    turns = values["conversations"]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise DataError(f"{where}: 'conversations' is a list of {{from, value}}")
    messages = [
        {
            "role": turn.get("from", turn.get("role")),
            "content": turn.get("value", turn.get("content", turn.get("text"))),
        }
        for turn in turns
    ]
    return "ShareGPT", *_with_system(values, messages, {"conversations"})


def _instruction(values: Mapping[str, Any], where: str) -> _Read:
    """Alpaca's instruction, input and output; Dolly's instruction, context and response."""
    parts = [_text_in(values, name, where) for name in ("instruction", "input")]
    messages: list[Any] = []
    history = values.get("history", [])
    if not isinstance(history, list) or not all(
        isinstance(turn, list | tuple) and len(turn) == 2 for turn in history
    ):
        raise DataError(f"{where}: 'history' is a list of [question, answer]")
    for question, answer in history:
        messages += [_message("user", question), _message("assistant", answer)]
    messages.append(_message("user", "\n\n".join(part for part in parts if part.strip())))
    read = {"instruction", "input", "history"} & values.keys()
    output = next((name for name in ("output", "response") if name in values), None)
    columns, read = _with_system(values, messages, read)
    name = "Alpaca"
    if output:
        columns["reference"] = values[output]
        read.add(output)
    if output == "response" and isinstance(values.get("context"), str):
        name, columns["passage"] = "Dolly", values["context"]
        read.add("context")
    if not columns["messages"][-1]["content"].strip():
        raise DataError(f"{where} has an empty 'instruction'; write what is asked")
    return name, columns, read


def _question(values: Mapping[str, Any], where: str) -> _Read:
    """A question with its answer, answers or answer key, as SQuAD, ARC and MMLU have them."""
    columns: dict[str, Any] = {"prompt": values["question"]}
    read = {"question"}
    for name, others in (
        ("reference", ("answers", "answer", "answerKey")),
        ("choices", ("options",)),
        ("passage", ("context",)),
    ):
        known = next((other for other in others if other in values), None)
        if known and name not in values and (name != "passage" or isinstance(values[known], str)):
            columns[name] = values[known]
            read.add(known)
    answers = columns.get("reference")
    if isinstance(answers, dict):
        columns["aliases"] = answers.get("aliases")
        answers = answers.get("text", answers.get("value"))
    if isinstance(answers, list):
        answers = [each.get("text", each) if isinstance(each, dict) else each for each in answers]
    if isinstance(answers, list) and all(isinstance(answer, str) for answer in answers):
        answers = list(dict.fromkeys(answers))  # SQuAD has one of each annotator
    columns["reference"] = answers
    return "question and answers", columns, read


_READERS = {"conversations": _share_gpt, "instruction": _instruction, "question": _question}


def _with_system(
    values: Mapping[str, Any], messages: list[Any], read: set[str]
) -> tuple[dict[str, Any], set[str]]:
    system = values.get("system")
    if isinstance(system, str):
        messages, read = [_message("system", system), *messages], read | {"system"}
    return {"messages": messages}, read


def _message(role: str, content: Any) -> Message:
    return {"role": role, "content": content}


def _is_asked_in(prompt: Any, messages: Any) -> bool:
    return (
        isinstance(prompt, str)
        and isinstance(messages, list)
        and any(
            isinstance(message, dict) and message.get("content") == prompt for message in messages
        )
    )


def _text_in(values: Mapping[str, Any], name: str, where: str) -> str:
    value = values.get(name, "")
    if not isinstance(value, str):
        raise DataError(f"{where}: '{name}' is a text")
    return value
