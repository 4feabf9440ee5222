"""Read rows of a distilabel data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from warehouse.errors import DataError
from warehouse.inputs.conversations.conversation import Conversation
from warehouse.inputs.conversations.fields import optional_text, token_count
from warehouse.inputs.message_forms import read_messages


def read_distilabel(values: Mapping[str, Any], where: str) -> list[Conversation]:
    """A row of a distilabel `Distiset`: instruction or messages, and one generation or several.

    The messages that were really sent stand in `distilabel_metadata`, where they were kept.
    """
    generations = values.get("generation")
    several = generations if isinstance(generations, list) else [generations]
    texts = [text for text in several if isinstance(text, str)]
    if not texts:
        raise DataError(f"{where} has no generation; the task failed on it")
    metadata = values.get("distilabel_metadata")
    facts = metadata if isinstance(metadata, Mapping) else {}
    inputs = [facts[name] for name in facts if str(name).startswith("raw_input_")]
    usages = [facts[name] for name in facts if str(name).startswith("statistics_")]
    if len(inputs) == 1 and isinstance(inputs[0], list) and inputs[0]:
        asked = read_messages(inputs[0], where, "raw_input")
    elif isinstance(values.get("messages"), list):
        asked = read_messages(values["messages"], where)
    elif isinstance(values.get("instruction"), str) and values["instruction"].strip():
        system = values.get("system_prompt")
        asked = (
            [{"role": "system", "content": system}] if isinstance(system, str) and system else []
        )
        asked.append({"role": "user", "content": values["instruction"]})
    else:
        raise DataError(f"{where} has neither 'instruction' nor 'messages'")
    usage = usages[0] if len(usages) == 1 and isinstance(usages[0], Mapping) else {}
    return [
        Conversation(
            messages=[*asked, {"role": "assistant", "content": text}],
            source=where,
            model=optional_text(values.get("model_name")),
            prompt_tokens=token_count(_nth(usage.get("input_tokens"), number)),
            completion_tokens=token_count(_nth(usage.get("output_tokens"), number)),
        )
        for number, text in enumerate(texts)
    ]


def _nth(value: Any, number: int) -> Any:
    if isinstance(value, list):
        return value[number] if number < len(value) else None
    return value
