"""Find the JSON in a reply, and write the schema by which it is requested."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import BaseModel

_FENCE = re.compile(r"```[\w-]*\s*\n?(.*?)```", re.DOTALL)
_HALF = re.compile(r"[\ud800-\udfff]")


def _refuse(constant: str) -> Any:
    raise ValueError(f"it holds {constant}, which is no JSON")


_DECODER = json.JSONDecoder(strict=False, parse_constant=_refuse)
"""A line break within a text is what models write; what no database holds is refused."""


def find_json(text: str) -> Any:
    """The JSON value of a reply, also from a code fence or with words around it.

    Raises:
        ValueError: there is none; the message says what was found.
    """
    for candidate in (text, *_FENCE.findall(text)):
        try:
            return _whole(_DECODER.decode(candidate.strip()))
        except (ValueError, RecursionError):
            continue
    start = re.search(r"[{\[]", text)
    if start is None:
        raise ValueError("it holds no JSON")
    try:
        value, _ = _DECODER.raw_decode(text, start.start())
    except RecursionError:
        raise ValueError("the JSON is nested too deep") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"the JSON is faulty at character {error.pos}: {error.msg}") from None
    return _whole(value)


def _whole(value: Any) -> Any:
    """The value, if a database can hold its texts.

    Raises:
        ValueError: half a character is in it, as an escape such as \\ud83d alone.
    """
    if _HALF.search(json.dumps(value, ensure_ascii=False)):
        raise ValueError("it holds half a character")
    return value


def strict_schema(model: type[BaseModel]) -> dict[str, Any]:
    """A pydantic model as `response_format`, in the form that strict servers demand.

    Every property is required and no other is allowed, as OpenAI's structured outputs ask for. It
    is part of call ids: a field that is renamed or described otherwise asks again.
    """
    schema = model.model_json_schema()
    _close(schema)
    name = re.sub(r"\W", "_", model.__name__)
    return {
        "type": "json_schema",
        "json_schema": {"name": name, "schema": schema, "strict": True},
    }


def _close(node: Any) -> None:
    if isinstance(node, dict):
        if node.get("type") == "object" and "properties" in node:
            node["additionalProperties"] = False
            node["required"] = list(node["properties"])
        node.pop("default", None)
        if isinstance(node.get("title"), str):
            del node["title"]
        for value in node.values():
            _close(value)
    elif isinstance(node, list):
        for value in node:
            _close(value)


def refuses_schema(error: str) -> bool:
    """Whether a server's words say that it does not take a `response_format`."""
    said = error.casefold().replace("_", " ")
    return any(word in said for word in ("response format", "schema", "grammar"))
