"""Read finished conversations from files of other tools: chats, ShareGPT, Alpaca, batches, exports.

A conversation ends with a reply. `warehouse.inputs.rows` reads questions that are still to be
asked; here the replies are what is wanted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from warehouse.errors import DataError
from warehouse.inputs.columns import is_missing, text_of
from warehouse.inputs.files import TEXT_CELLS, kind_of, read_records
from warehouse.inputs.message_forms import read_messages, read_share_gpt, text_of_content
from warehouse.records import Message
from warehouse.tool_calls import ToolCall, write_calls

Form = Literal[
    "auto", "chat", "prompt-completion", "sharegpt", "alpaca", "openai-batch", "distilabel", "curator"
]  # fmt: skip
FORMS = (
    "chat", "prompt-completion", "sharegpt", "alpaca", "openai-batch", "distilabel", "curator",
)  # fmt: skip
"""The forms that are read, each told by its columns."""

_REPLIES = ("completion", "response", "generation", "output", "reply")
"""Columns that hold a reply beside what was asked."""
_JSON_CELLS = ("messages", "conversations", "prompt", "completion", "tools", "generic_request")
_SAMPLING = ("temperature", "top_p", "seed", "stop", "response_format")


@dataclass(frozen=True)
class Conversation:
    """A conversation that ends with a reply, and what is known of how the reply was made."""

    messages: list[Message]
    """All of them; the last one is the assistant's: a text, or tool calls."""
    source: str = ""
    """The file, and the line in it."""
    tools: list[dict[str, Any]] | None = None
    """JSON schemas of the tools that could be called."""
    model: str | None = None
    finish_reason: str = "stop"
    reasoning: str | None = None
    prompt_tokens: int = 0
    """0 where it is not known, as below."""
    completion_tokens: int = 0
    cost_usd: float | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    reference: list[str] = field(default_factory=list)
    passage: str | None = None

    @property
    def asked(self) -> list[Message]:
        """What the last reply answers."""
        return self.messages[:-1]

    @property
    def reply(self) -> str:
        """The text of the last reply; of tool calls the JSON that a completion has for them."""
        return write_calls(self.calls) if self.calls else str(self.messages[-1]["content"])

    @property
    def calls(self) -> list[ToolCall]:
        """The tool calls of the last reply."""
        return [dict(call["function"]) for call in self.messages[-1].get("tool_calls") or ()]


class ConversationReader:
    """Reads the conversations of one file; a row that is malformed costs only itself.

    Args:
        path: The file, of any kind that `warehouse.inputs.files` reads.
        form: One of `FORMS`; "auto" tells it by the columns of each row.
        requests: The input file of an OpenAI batch, which has what was asked.
    """

    def __init__(self, path: Path, form: Form = "auto", requests: Path | None = None) -> None:
        self.path, self.form, self.requests = path, form, requests
        self.faults: list[str] = []
        """What is wrong with each row that cannot be used."""
        self.notes: list[str] = []
        """What a reader should know of the file."""
        self.forms: Counter[str] = Counter()
        self.rows = 0
        self.trimmed = 0
        """Conversations after whose last reply something was asked; it is left out."""
        self._bodies: dict[str, Any] = {}

    def read(self) -> Iterator[Conversation]:
        """The conversations, in the order of the file.

        Raises:
            DataError: a file cannot be read at all, or a batch's input file is not named.
        """
        if self.requests is not None:
            self._bodies = _batch_bodies(self.requests, self.faults)
        text_cells = kind_of(self.path) in TEXT_CELLS
        unusable = len(self.faults)  # those of the input file are no rows of this one
        for where, raw in read_records(self.path, self.notes, faults=self.faults):
            self.rows += 1
            try:
                yield from self._conversations(_without_gaps(raw, where, text_cells), where)
            except DataError as error:
                if isinstance(error, _WrongFile):
                    raise
                self.faults.append(str(error))
                unusable += 1
        self.rows += len(self.faults) - unusable  # rows that are no JSON

    def _conversations(self, values: dict[str, Any], where: str) -> list[Conversation]:
        form = _form_of(values, where) if self.form == "auto" else self.form
        found = [
            self._checked(conversation, where)
            for conversation in _READERS[form](values, where, self._bodies)
        ]
        self.forms[form] += 1
        return found

    def _checked(self, conversation: Conversation, where: str) -> Conversation:
        """The conversation up to its last reply.

        Raises:
            DataError: there is no question or no reply, or it is a text beside tool calls.
        """
        messages = list(conversation.messages)
        while messages and messages[-1]["role"] != "assistant":
            messages.pop()
        if not messages:
            raise DataError(f"{where} has no reply: no message is the assistant's")
        self.trimmed += len(messages) < len(conversation.messages)
        has_text = bool(str(messages[-1]["content"]).strip())
        if messages[-1].get("tool_calls") and has_text:
            raise DataError(
                f"{where} ends with a text beside tool calls; a reply is either of them"
            )
        if not messages[-1].get("tool_calls") and not has_text:
            raise DataError(f"{where} has an empty reply")
        first = next(message for message in messages if message["role"] != "system")
        if first["role"] != "user":
            raise DataError(
                f"{where} begins with a message of role '{first['role']}'; after system messages, a "
                "conversation begins with the user's"
            )
        return replace(conversation, messages=messages)


class _WrongFile(DataError):
    """A fault of the whole file, not of a row."""


def _without_gaps(raw: Any, where: str, text_cells: bool) -> dict[str, Any]:
    """A record without its empty columns; lists that stand as JSON in a text cell are read."""
    if not isinstance(raw, Mapping):
        raise DataError(f"{where} is not an object")
    values = {key: value for key, value in raw.items() if not is_missing(value) or value == ""}
    for name in _JSON_CELLS if text_cells else ("tools", "generic_request"):
        text = values.get(name)
        if isinstance(text, str) and text.lstrip()[:1] in ("[", "{"):
            try:
                values[name] = json.loads(text)
            except ValueError:
                continue  # then it is a text, and not a list
    return values


def _form_of(values: Mapping[str, Any], where: str) -> str:
    """The form of a record, by its columns.

    Raises:
        DataError: it is none that is known.
    """
    has_reply = any(name in values for name in _REPLIES)
    if "custom_id" in values and ("response" in values or "error" in values):
        return "openai-batch"
    if "generic_request" in values:
        return "curator"
    if "distilabel_metadata" in values or (
        "generation" in values and {"instruction", "model_name"} & values.keys()
    ):
        return "distilabel"
    if "conversations" in values:
        return "sharegpt"
    if "messages" in values:
        return "chat"
    if "prompt" in values and has_reply:
        return "prompt-completion"
    if "instruction" in values and {"output", "response"} & values.keys():
        return "alpaca"
    has = ", ".join(f"'{name}'" for name in values)
    raise DataError(
        f"{where} is in no form that is known; it has {has[:200] or 'no columns'} (known: "
        f"{', '.join(FORMS)}; each has what was asked and the reply)"
    )


_Bodies = Mapping[str, Any]


def _chat(values: Mapping[str, Any], where: str, bodies: _Bodies) -> list[Conversation]:
    """OpenAI's messages; a reply may stand in a column of its own after them."""
    messages = read_messages(values.get("messages"), where)
    name = next((name for name in _REPLIES if isinstance(values.get(name), str)), None)
    if name and messages[-1]["role"] in ("user", "tool"):
        messages.append({"role": "assistant", "content": values[name]})
    return [_conversation(values, messages, where)]


def _prompt_completion(
    values: Mapping[str, Any], where: str, bodies: _Bodies
) -> list[Conversation]:
    """TRL's prompt and completion, each a text or a list of messages."""
    prompt = values.get("prompt")
    name = next((name for name in _REPLIES if name in values), "completion")
    completion = values.get(name)
    if isinstance(prompt, str):
        prompt = [*_system_of(values), {"role": "user", "content": prompt}]
    if isinstance(completion, str):
        completion = [{"role": "assistant", "content": completion}]
    messages = [*read_messages(prompt, where, "prompt"), *read_messages(completion, where, name)]
    return [_conversation(values, messages, where)]


def _share_gpt(values: Mapping[str, Any], where: str, bodies: _Bodies) -> list[Conversation]:
    messages = [*_system_of(values), *read_share_gpt(values.get("conversations"), where)]
    return [_conversation(values, messages, where)]


def _alpaca(values: Mapping[str, Any], where: str, bodies: _Bodies) -> list[Conversation]:
    """Instruction, input and output, with system and history where there are any."""
    messages = _system_of(values)
    history = values.get("history") or []
    if not isinstance(history, list) or not all(
        isinstance(turn, list | tuple) and len(turn) == 2 for turn in history
    ):
        raise DataError(f"{where}: 'history' is a list of [question, answer]")
    for question, answer in history:
        messages.append({"role": "user", "content": _text(question, "history", where)})
        messages.append({"role": "assistant", "content": _text(answer, "history", where)})
    parts = [_text(values.get(name, ""), name, where) for name in ("instruction", "input")]
    asked = "\n\n".join(part for part in parts if part.strip())
    if not asked:
        raise DataError(f"{where} has an empty 'instruction'")
    name = "output" if "output" in values else "response"
    reply = _text(values.get(name, ""), name, where)
    messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": reply}]
    return [_conversation(values, messages, where, is_alpaca=True)]


def _openai_batch(values: Mapping[str, Any], where: str, bodies: _Bodies) -> list[Conversation]:
    """A line of a batch's output file, with the request of the same `custom_id`."""
    if not bodies:
        raise _WrongFile(
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
        fault = values.get("error") or (answer or {}).get("error") or f"status {status}"
        message = fault.get("message", fault) if isinstance(fault, Mapping) else fault
        raise DataError(f"{where}: the request failed ({str(message)[:200]})")
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        raise DataError(f"{where} is no chat completion: its body has no 'choices'")
    asked = read_messages(body.get("messages"), f"{where}, its request")
    usage = answer.get("usage") or {}
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
                tools=_tools(body, where),
                model=_optional_text(answer.get("model") or body.get("model")),
                finish_reason=str(choice.get("finish_reason") or "stop"),
                reasoning=_optional_text(
                    message.get("reasoning_content") or message.get("reasoning")
                ),
                prompt_tokens=_count(usage.get("prompt_tokens")),
                completion_tokens=_count(usage.get("completion_tokens")) // len(choices),
                sampling={name: body[name] for name in _SAMPLING if body.get(name) is not None},
            )
        )
    return found


def _batch_bodies(path: Path, faults: list[str]) -> dict[str, Any]:
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


def _distilabel(values: Mapping[str, Any], where: str, bodies: _Bodies) -> list[Conversation]:
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
            model=_optional_text(values.get("model_name")),
            prompt_tokens=_count(_nth(usage.get("input_tokens"), number)),
            completion_tokens=_count(_nth(usage.get("output_tokens"), number)),
        )
        for number, text in enumerate(texts)
    ]


def _curator(values: Mapping[str, Any], where: str, bodies: _Bodies) -> list[Conversation]:
    """A line of a curator cache (`responses_*.jsonl`); its datasets have prompt and response."""
    request = values.get("generic_request")
    if not isinstance(request, Mapping):
        raise DataError(f"{where}: 'generic_request' is an object with 'messages'")
    reply = values.get("response_message")
    if isinstance(reply, Mapping):
        reply = json.dumps(reply, ensure_ascii=False)
    if not isinstance(reply, str):
        errors = values.get("response_errors") or ["no response_message"]
        raise DataError(f"{where}: the request failed ({str(errors)[:200]})")
    usage = values.get("token_usage") or {}
    options = request.get("generation_params") or {}
    cost = values.get("response_cost")
    asked = read_messages(request.get("messages"), where)
    return [
        Conversation(
            messages=[*asked, {"role": "assistant", "content": reply}],
            source=where,
            model=_optional_text(request.get("model")),
            finish_reason=str(values.get("finish_reason") or "stop"),
            prompt_tokens=_count(usage.get("input", usage.get("prompt_tokens"))),
            completion_tokens=_count(usage.get("output", usage.get("completion_tokens"))),
            cost_usd=float(cost) if isinstance(cost, int | float) else None,
            sampling={name: options[name] for name in _SAMPLING if options.get(name) is not None},
        )
    ]


_READERS = {
    "chat": _chat,
    "prompt-completion": _prompt_completion,
    "sharegpt": _share_gpt,
    "alpaca": _alpaca,
    "openai-batch": _openai_batch,
    "distilabel": _distilabel,
    "curator": _curator,
}


def _conversation(
    values: Mapping[str, Any], messages: list[Message], where: str, is_alpaca: bool = False
) -> Conversation:
    """A conversation with what our own exports and similar files say beside the messages."""
    reference = values.get("reference")
    several = reference if isinstance(reference, list) else [reference]
    passage = values.get("passage")
    return Conversation(
        messages=messages,
        source=where,
        tools=_tools(values, where),
        model=_optional_text(values.get("model") or values.get("model_name")),
        finish_reason=str(values.get("finish_reason") or "stop"),
        reference=[text_of(item) for item in several if isinstance(item, str | int | float)],
        passage=passage if isinstance(passage, str) and passage.strip() else None,
    )


def _system_of(values: Mapping[str, Any]) -> list[Message]:
    system = values.get("system")
    is_text = isinstance(system, str) and system.strip()
    return [{"role": "system", "content": system}] if is_text else []


def _tools(values: Mapping[str, Any], where: str) -> list[dict[str, Any]] | None:
    tools = values.get("tools")
    if not tools:
        return None
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise DataError(f"{where}: 'tools' is a list of JSON schemas")
    return [dict(tool) for tool in tools]


def _text(value: Any, name: str, where: str) -> str:
    return text_of_content(value, f"{where}: '{name}'")


def _optional_text(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and value > 0 else 0


def _nth(value: Any, number: int) -> Any:
    if isinstance(value, list):
        return value[number] if number < len(value) else None
    return value
