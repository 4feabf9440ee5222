"""Read tools as JSON schemas, and validate calls against them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warehouse.canonical_json import canonical
from warehouse.errors import DataError
from warehouse.inputs.files import parse_json, read_records
from warehouse.inputs.rows import find_file
from warehouse.tool_calls import ToolCall

_ANYTHING: dict[str, Any] = {"type": "object", "properties": {}}
_FAULTS = 3
MOST_CALLS = 4
"""Calls of one turn."""


@dataclass(frozen=True)
class Tool:
    """One tool, in the form of OpenAI's function tools."""

    schema: dict[str, Any]
    """{"type": "function", "function": {"name", "description", "parameters", "return"}}"""

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.schema["function"]["name"])

    @property
    def description(self) -> str:
        """What it does."""
        return str(self.schema["function"].get("description", ""))

    @property
    def parameters(self) -> dict[str, Any]:
        """The JSON schema of its arguments; others than it names are not allowed."""
        parameters = self.schema["function"].get("parameters") or _ANYTHING
        return {"additionalProperties": False, **parameters}

    @property
    def returned(self) -> dict[str, Any] | None:
        """The JSON schema of its result, where it declares one as `return`."""
        schema = self.schema["function"].get("return")
        return schema if isinstance(schema, dict) else None

    def shown(self) -> dict[str, str]:
        """What a prompt says of it."""
        parameters = self.schema["function"].get("parameters") or _ANYTHING
        return {
            "name": self.name,
            "description": self.description,
            "parameters": json.dumps(parameters, ensure_ascii=False),
        }


def parse_tools(value: Any, where: str) -> list[Tool]:
    """Check tools that a user wrote.

    Raises:
        ValueError: one is no function with a valid schema, or a name comes twice.
    """
    if not isinstance(value, list) or not value:
        raise ValueError(f"{where} is a list of tools, at least one")
    tools: list[Tool] = []
    for number, schema in enumerate(value, start=1):
        function = schema.get("function", schema) if isinstance(schema, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not isinstance(name, str) or not name.strip():
            raise ValueError(
                f'{where}, tool {number} is not {{"type": "function", "function": {{"name": ..., '
                '"description": ..., "parameters": {...}}}'
            )
        tool = Tool({"type": "function", "function": function})
        for key in ("parameters", "return"):
            if key in function:
                _check_schema(function[key], f"{where}, tool '{name}', {key}")
        if name in (other.name for other in tools):
            raise ValueError(f"{where} has two tools '{name}'; rename one")
        tools.append(tool)
    return tools


def read_tools(tools: str | Sequence[Mapping[str, Any]], folder: Path) -> list[Tool]:
    """The tools of a plan: written in it, or a JSON file's list.

    Raises:
        DataError: the file is missing or malformed.
    """
    if not isinstance(tools, str):
        return parse_tools(list(tools), "tools")
    path = find_file(tools, folder)
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
        if isinstance(value, dict) and "tools" in value:
            value = value["tools"]
        return parse_tools(value, path.name)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path.name} cannot be read as tools: {error}") from None


def read_results(path: str, folder: Path) -> dict[str, str]:
    """Recorded results by `call_key`, from a file of rows with name, arguments and result.

    Raises:
        DataError: the file is missing or malformed; the line is named.
    """
    results: dict[str, str] = {}
    for where, row in read_records(find_file(path, folder), []):
        values = row if isinstance(row, dict) else {}
        name, arguments = values.get("name"), values.get("arguments")
        if isinstance(arguments, str):  # as a table and as OpenAI's API have them
            try:
                arguments = parse_json(arguments)
            except ValueError:
                arguments = None
        if not isinstance(name, str) or not isinstance(arguments, dict) or "result" not in values:
            raise DataError(
                f"{where} is no recorded result; it has a text 'name', an object 'arguments' and a "
                "'result'"
            )
        results.setdefault(call_key({"name": name, "arguments": arguments}), as_text(values["result"]))  # fmt: skip
    return results


def call_key(call: Mapping[str, Any]) -> str:
    """What a call is known by: its name and arguments, in any order."""
    return canonical([call["name"], call["arguments"]])


def as_text(result: Any) -> str:
    """A result as the content of a message: a text as it is, else JSON."""
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)


def step_schema(tools: Sequence[Tool]) -> dict[str, Any]:
    """The JSON schema of a turn: calls of these tools, or an answer."""
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": tool.name}, "arguments": tool.parameters},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    return {
        "type": "object",
        "properties": {
            "calls": {"type": "array", "items": {"anyOf": calls}, "maxItems": MOST_CALLS},
            "answer": {"type": "string"},
        },
        "required": ["calls", "answer"],
        "additionalProperties": False,
    }


def read_step(value: Any, tools: Sequence[Tool]) -> tuple[list[ToolCall], str]:
    """The calls and the answer of a turn; with calls there is no answer.

    Raises:
        ValueError: a call is invalid, or there is neither; worded for the teacher.
    """
    if not isinstance(value, dict):
        raise ValueError('reply with an object: {"calls": [...], "answer": "..."}')
    calls, answer = value.get("calls") or [], value.get("answer") or ""
    if not isinstance(calls, list) or not isinstance(answer, str):
        raise ValueError("calls is a list, answer is a text")
    if not calls and not answer.strip():
        raise ValueError("give calls or an answer; both are empty")
    for call in calls:
        if fault := call_fault(call, tools):
            raise ValueError(fault)
    if len(calls) > MOST_CALLS:
        raise ValueError(f"{len(calls)} calls at once; make at most {MOST_CALLS} in a turn")
    distinct: dict[str, ToolCall] = {}  # the same call twice in a turn is made once
    for call in calls:
        plain: ToolCall = {"name": call["name"], "arguments": call["arguments"]}
        distinct.setdefault(call_key(plain), plain)
    return list(distinct.values()), "" if distinct else answer.strip()


def call_fault(call: Any, tools: Sequence[Tool]) -> str | None:
    """What is wrong with a call; None where it is valid."""
    from jsonschema import Draft202012Validator

    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return 'a call is {"name": ..., "arguments": {...}}'
    tool = next((tool for tool in tools if tool.name == call["name"]), None)
    if tool is None:
        names = ", ".join(tool.name for tool in tools)
        return f"there is no tool '{call['name']}'; tools: {names}"
    faults = sorted(
        Draft202012Validator(tool.parameters).iter_errors(call.get("arguments", {})),
        key=lambda fault: [str(step) for step in fault.path],
    )
    if "arguments" not in call:
        return f"the call of {tool.name} has no arguments; give an object, which may be empty"
    if not faults:
        return None
    told = (
        f"{'.'.join(map(str, fault.path)) or 'arguments'}: {fault.message}"
        for fault in faults[:_FAULTS]
    )
    return f"the call of {tool.name} is invalid: {'; '.join(told)}"


def _check_schema(schema: Any, where: str) -> None:
    from jsonschema import Draft202012Validator, SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"{where} is no JSON schema: {error.message}") from None
    if not isinstance(schema, dict):
        raise ValueError(f"{where} is an object")
