"""Turn samples into rows of the forms that trainers and hubs read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flows.data.sources import public_source
from warehouse.inputs.message_forms import as_share_gpt
from warehouse.records import Choice, Message, Sample
from warehouse.tool_calls import call_message

FORMS = ("chat", "prompt-completion", "sharegpt", "alpaca", "parquet", "datasets")
"""Forms of an export; the last two hold chats with everything that is known of them."""

Row = dict[str, Any]


@dataclass(frozen=True)
class ExportedSample:
    """A sample with what the gate made of it, its scores by scorer, and where its seed is from."""

    sample: Sample
    choice: Choice
    scores: dict[str, float | None]
    source: str | None
    """File or data set with row, page and headings; None where it is not recorded."""

    @property
    def messages(self) -> list[Message]:
        """The conversation as a trainer wants it: what is asked, then the reply."""
        asked = self.sample.messages
        calls = (self.sample.facts or {}).get("tool_calls")
        if calls:  # then the completion is their JSON
            return [*asked, call_message(calls, asked)]
        return [*asked, {"role": "assistant", "content": self.sample.completion}]

    @property
    def tools(self) -> list[dict[str, Any]] | None:
        """JSON schemas of the tools that may be called, where there are any."""
        tools = (self.sample.facts or {}).get("tools")
        return tools if isinstance(tools, list) and tools else None


def rows_of(form: str, samples: Sequence[ExportedSample], with_choices: bool) -> list[Row | None]:
    """A row for each sample; None where the form cannot hold it.

    Args:
        form: One of `FORMS`.
        samples: What is exported.
        with_choices: Whether each row says if the gate kept it, and why.
    """
    is_whole = form in ("parquet", "datasets")
    scorers = sorted({name for each in samples for name in each.scores})
    has_tools = any(each.tools for each in samples)
    rows: list[Row | None] = []
    for each in samples:
        row = _BODIES[form](each)
        if row is None:
            rows.append(None)
            continue
        if has_tools and form != "alpaca":
            row["tools"] = _tools(each, as_text=form == "sharegpt" or is_whole)
        rows.append({**row, **_facts(each, scorers, with_choices, is_whole)})
    return rows


def _tools(each: ExportedSample, as_text: bool) -> Any:
    """The tools; in ShareGPT and in tables JSON text, since each schema has its own keys."""
    tools = each.tools or []
    return json.dumps(tools, ensure_ascii=False) if as_text else tools


def _facts(each: ExportedSample, scorers: Sequence[str], with_choices: bool, is_whole: bool) -> Row:
    """The columns beside the conversation."""
    sample, choice = each.sample, each.choice
    facts: Row = {"id": sample.sample_id, "recipe": sample.recipe}
    if scorers:
        facts["scores"] = {name: each.scores.get(name) for name in scorers}
    if with_choices:
        facts |= {
            "status": sample.status,
            "kept": choice.kept,
            "reason": _reason(each),
            "reasons": choice.reasons,
        }
    if sample.reference or is_whole:
        facts["reference"] = sample.reference
    if sample.passage or is_whole:
        facts["passage"] = sample.passage
        facts["source"] = public_source(each.source) if each.source else None
    if is_whole:
        shown = ("tools", "tool_calls")
        more = {key: value for key, value in (sample.facts or {}).items() if key not in shown}
        facts |= {
            "question": sample.question,
            "call_ids": sample.call_ids,
            "facts": json.dumps(more, ensure_ascii=False, default=str) if more else None,
        }
    return facts


def _reason(each: ExportedSample) -> str:
    """The gate's first reason; where it is the status, with what the recipe said of it."""
    why = each.sample.status_reason
    reason = each.choice.reason
    return f"{reason} ({why})" if why and reason.startswith("status: ") else reason


def _chat(each: ExportedSample) -> Row | None:
    return {"messages": each.messages}


def _prompt_completion(each: ExportedSample) -> Row | None:
    """TRL's conversational form, of which the completion alone is learned."""
    return {"prompt": each.messages[:-1], "completion": each.messages[-1:]}


def _share_gpt(each: ExportedSample) -> Row | None:
    messages = each.messages
    has_system = messages[0]["role"] == "system"
    system = messages[0]["content"] if has_system else ""
    return {"conversations": as_share_gpt(messages[has_system:]), "system": system}


def _alpaca(each: ExportedSample) -> Row | None:
    """Instruction, output, system and history; None where there are tool calls or odd turns."""
    messages = each.messages
    has_system = messages[0]["role"] == "system"
    turns = messages[has_system:]
    roles = [message["role"] for message in turns]
    plain = roles == ["user", "assistant"] * (len(turns) // 2) and len(turns) >= 2
    if each.tools or not plain or any(message.get("tool_calls") for message in turns):
        return None
    texts = [message["content"] for message in turns]
    return {
        "instruction": texts[-2],
        "input": "",
        "output": texts[-1],
        "system": messages[0]["content"] if has_system else "",
        "history": [list(pair) for pair in zip(texts[0:-2:2], texts[1:-2:2], strict=True)],
    }


def _table(each: ExportedSample) -> Row | None:
    """The chat for a table, whose cells of a column are all of one type: arguments are JSON text."""
    messages = []
    for message in each.messages:
        row: Row = {"role": message["role"], "content": message["content"]}
        if message.get("tool_calls"):
            row["tool_calls"] = [_call_row(call) for call in message["tool_calls"]]
        for name in ("tool_call_id", "name"):
            if message.get(name):
                row[name] = str(message[name])
        messages.append(row)
    return {"messages": messages}


def _call_row(call: Mapping[str, Any]) -> Row:
    function = call.get("function") or {}
    arguments = function.get("arguments", {})
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {
        "id": str(call.get("id") or ""),
        "type": str(call.get("type") or "function"),
        "function": {"name": str(function.get("name") or ""), "arguments": text},
    }


_BODIES: dict[str, Callable[[ExportedSample], Row | None]] = {
    "chat": _chat,
    "prompt-completion": _prompt_completion,
    "sharegpt": _share_gpt,
    "alpaca": _alpaca,
    "parquet": _table,
    "datasets": _table,
}


def alternates(each: ExportedSample) -> bool:
    """Whether user (or tool) and assistant take turns, as LLaMA-Factory requires of a row."""
    roles = [message["role"] for message in each.messages if message["role"] != "system"]
    return all((role in ("user", "tool")) == (place % 2 == 0) for place, role in enumerate(roles))


def describe_for_llama_factory(
    form: str, file_name: str, samples: Sequence[ExportedSample]
) -> Row | None:
    """The entry of a file in LLaMA-Factory's `dataset_info.json`; None where it reads no such form."""
    columns: Row
    has_tools = any(each.tools for each in samples)
    has_calls = any(message.get("tool_calls") for each in samples for message in each.messages)
    if form == "alpaca":
        columns = {
            "prompt": "instruction", "query": "input", "response": "output", "system": "system",
            "history": "history",
        }  # fmt: skip
        return {"file_name": file_name, "formatting": "alpaca", "columns": columns}
    if form == "sharegpt":
        columns = {"messages": "conversations", "system": "system"}
        tags = {
            "role_tag": "from", "content_tag": "value", "user_tag": "human",
            "assistant_tag": "gpt", "observation_tag": "observation",
            "function_tag": "function_call", "system_tag": "system",
        }  # fmt: skip
        formatting = "sharegpt"
    elif form in ("chat", "parquet", "datasets"):
        columns = {"messages": "messages"}
        tags = {
            "role_tag": "role", "content_tag": "content", "user_tag": "user",
            "assistant_tag": "assistant", "observation_tag": "tool", "function_tag": "function",
            "system_tag": "system",
        }  # fmt: skip
        formatting = "openai" if has_calls else "sharegpt"
    else:
        return None
    if has_tools:
        columns["tools"] = "tools"
    return {"file_name": file_name, "formatting": formatting, "columns": columns, "tags": tags}
