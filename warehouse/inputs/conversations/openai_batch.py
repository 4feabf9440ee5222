"""Read the output of an OpenAI batch, joined with its input file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from warehouse.errors import DataError
from warehouse.inputs.conversations.conversation import Conversation
from warehouse.inputs.conversations.fields import (
    object_of,
    optional_text,
    sampling_of,
    token_count,
    tools_of,
)
from warehouse.inputs.files import read_records
from warehouse.inputs.message_forms import read_messages


class WrongFileError(DataError):
    """A fault of the whole file, not of a row."""


def read_openai_batch(
    values: Mapping[str, Any], where: str, bodies: Mapping[str, Any]
) -> list[Conversation]:
    """A line of a batch's output file, with the request of the same `custom_id`."""
    if not bodies:
        raise WrongFileError(
            f"{where} is the output of an OpenAI batch, which has the replies alone; name the batch's "
            'input file with --requests (in a plan: requests = "FILE")'
        )
    key = str(values.get("custom_id"))
    body = bodies.get(key)
    if body is None:
        raise DataError(f"{where}: the input file has no usable request with custom_id '{key}'")
    response = values.get("response")
    answer = response.get("body") if isinstance(response, Mapping) else None
    status = response.get("status_code", 200) if isinstance(response, Mapping) else None
    if values.get("error") or status != 200 or not isinstance(answer, Mapping):
        fault = values.get("error") or object_of(answer).get("error") or f"status {status}"
        message = fault.get("message", fault) if isinstance(fault, Mapping) else fault
        raise DataError(f"{where}: the request failed ({str(message)[:200]})")
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        raise DataError(f"{where} is no chat completion: its body has no 'choices'")
    asked = read_messages(body.get("messages"), f"{where}, its request")
    usage = object_of(answer.get("usage"))
    found = []
    for choice in choices:
        message = choice.get("message") if isinstance(choice, Mapping) else None
        if not isinstance(message, Mapping):
            raise DataError(f"{where}: a choice has no 'message'")
        replied = read_messages([{"role": "assistant", **message}], where)
        found.append(
            Conversation(
                messages=[*asked, *replied],
                source=where,
                tools=tools_of(body, where),
                model=optional_text(answer.get("model") or body.get("model")),
                finish_reason=str(choice.get("finish_reason") or "stop"),
                reasoning=optional_text(
                    message.get("reasoning_content") or message.get("reasoning")
                ),
                prompt_tokens=token_count(usage.get("prompt_tokens")),
                completion_tokens=token_count(usage.get("completion_tokens")) // len(choices),
                sampling=sampling_of(body),
            )
        )
    return found


def read_request_bodies(path: Path, faults: list[str]) -> dict[str, Any]:
    """The requests of a batch's input file, by their custom ids.

    Raises:
        DataError: the file has none.
    """
    bodies = {
        str(raw.get("custom_id")): raw.get("body")
        for _, raw in read_records(path, [], faults=faults)
        if isinstance(raw, Mapping) and isinstance(raw.get("body"), Mapping)
    }
    if not bodies:
        raise DataError(
            f"{path.name} is not the input file of an OpenAI batch; its lines have custom_id and body"
        )
    return bodies
