"""Parse raw records into question rows: prompts, chats, ShareGPT, Alpaca, question and answers.

A record's form is told by its columns alone. What no form reads stays with the row, in `extra`.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from warehouse.errors import DataError
from warehouse.inputs.files import parse_json
from warehouse.inputs.question_wording import Language
from warehouse.records import Message, make_id
from warehouse.text.words import split_form

COLUMNS = ("prompt", "messages", "reference", "aliases", "passage", "choices", "category")
"""The columns of a row; a plan's `columns` maps them to those of a file."""

EXTRA_CHARS = 2000
"""A longer value of a column that nobody reads is not kept with the row."""

EXTRA_DEPTH = 50
"""A value with more lists and objects in it is not kept either, however deep they lie."""

_SYNONYMS = {
    "prompt": "query question instruction input user ask request problem text",
    "messages": "chat conversation dialog dialogue turns message",
    "reference": "answer answers output response target label completion gold expected expected_output"
    " solution ground_truth correct_answer answerkey answer_key reply ideal references result chosen",
    "aliases": "alias alternatives answer_aliases",
    "passage": "context contexts document doc article support evidence background source_text",
    "choices": "options candidates endings",
    "category": "subject topic",
}
_SYNONYM_OF = {word: column for column, words in _SYNONYMS.items() for word in words.split()}

_ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "customer"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model", "ai"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
_TOOL_ROLES = ("tool", "function", "function_call", "tool_call", "tool_response", "observation")
_LETTERED = re.compile(r"(?:^|(?<=[\s|;,]))\(?([A-Za-z])[).:]\s*")


@dataclass(frozen=True)
class Row:
    """One question: `prompt` text or chat `messages`, reference answers, an optional passage.

    `choices` are what may be answered and `category` is its subject, where there are any;
    `extra` are the other columns of the user's file, such as an id.
    """

    prompt: str
    messages: list[Message]
    reference: list[str] = field(default_factory=list)
    passage: str | None = None
    source: str = ""
    choices: tuple[str, ...] = ()
    category: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    language: Language = "en"
    """How it is worded; no part of its id."""

    @property
    def row_id(self) -> str:
        """Hash of question and passage."""
        return make_id("row", self.messages, self.passage)

    @property
    def split_key(self) -> str:
        """What the split hashes: the passage, or the question where there is none."""
        return split_form(self.passage or self.prompt)


class _Choices(NamedTuple):
    """The options of a row, and what each is called, where the file says so."""

    texts: list[str]
    labels: list[str]


class RowParser:
    """Parses the records of one source, and counts what it met.

    Args:
        columns: A plan's mapping, column of ours -> column of the file.
        text_cells: Whether cells are texts, in which a list is written in JSON.
    """

    def __init__(self, columns: Mapping[str, str] | None = None, text_cells: bool = False) -> None:
        self.columns = dict(columns or {})
        self.text_cells = text_cells
        self.blank = 0
        self.forms: Counter[str] = Counter()
        self.unread: Counter[str] = Counter()
        self.hints: dict[str, str] = {}
        """Column that nobody reads -> the column of ours that it may be."""
        self.seen: set[str] = set()

    def parse(self, raw: Any, where: str) -> Row | None:
        """The row in a record; None for one that is blank, in a table also where its prompt is.

        Raises:
            DataError: it is of no form that is known, or malformed.
        """
        if not isinstance(raw, dict):
            raise DataError(f"{where} is not an object with 'prompt' or 'messages'")
        self.seen |= raw.keys()
        blank = ("", None) if self.text_cells else (None,)  # in JSON an empty text is meant
        asked = self.columns.get("prompt", "prompt")
        cells = [raw[asked]] if self.text_cells and asked in raw else raw.values()
        if all((v.strip() if isinstance(v, str) else v) in blank for v in cells):
            self.blank += 1
            return None
        given = {key: value for key, value in raw.items() if not _is_missing(value)}
        origin = self._names(given)
        values = {name: given[key] for name, key in origin.items()}
        self._parse_lists(values)
        form = _form_of(values, where)
        row = _row(form.columns, where)
        self.forms[form.name] += 1
        read = {origin[name] for name in form.read}
        extra = {key: value for key, value in given.items() if key and key not in read}
        for key in extra:
            self.unread[key] += 1
            if self.unread[key] == 1 and (near := nearest_column(key, form.columns)):
                self.hints[key] = near
        return replace(row, extra={key: _plain(v) for key, v in extra.items() if _is_small(v)})

    def unmet_columns(self) -> list[str]:
        """Columns that the plan names and no record has had."""
        return sorted(set(self.columns.values()) - self.seen)

    def _names(self, given: Mapping[str, Any]) -> dict[str, str]:
        """Name by which a value is read -> its column in the file: as the plan says, else its own;
        in lower case where the file would have no prompt otherwise."""
        mapped = {ours: theirs for ours, theirs in self.columns.items() if theirs in given}
        taken = set(mapped.values())
        names = {key: key for key in given if key not in taken and key not in self.columns} | mapped
        if not {"prompt", "messages"} & names.keys():
            for key in list(names):
                plain = key.strip().lower()
                if plain in COLUMNS and plain not in names and plain not in self.columns:
                    names[plain] = names.pop(key)
        return names

    def _parse_lists(self, values: dict[str, Any]) -> None:
        lists = ("reference", "aliases") if self.text_cells else ()
        for name in (*lists, "messages", "conversations", "choices", "options", "answers"):
            text = values.get(name)
            if isinstance(text, str) and text.lstrip()[:1] in ("[", "{"):
                with suppress(ValueError, RecursionError):
                    values[name] = parse_json(text)


def nearest_column(name: str, present: Mapping[str, Any]) -> str | None:
    """The column of ours that a column may be meant as, unless the row has that one."""
    word = name.strip().lower().replace(" ", "_").replace("-", "_")
    near = word if word in COLUMNS else _SYNONYM_OF.get(word)
    if near is None:
        close = difflib.get_close_matches(word, [*COLUMNS, *_SYNONYM_OF], n=1, cutoff=0.8)
        near = _SYNONYM_OF.get(close[0], close[0]) if close else None
    if near in ("prompt", "messages") and {"prompt", "messages"} & present.keys():
        return None
    return None if near in present else near


class _Form(NamedTuple):
    """A record in the columns of ours, and the names that were read for it."""

    name: str
    columns: dict[str, Any]
    read: set[str]


def _form_of(values: Mapping[str, Any], where: str) -> _Form:
    """Bring a record into the columns of ours; those that it has itself go before all others.

    Raises:
        DataError: it has no column that says what is asked, or one is malformed.
    """
    own = {name: values[name] for name in COLUMNS if name in values}
    if "prompt" in own or "messages" in own:
        if own.get("messages") and _is_asked_in(own.get("prompt"), own["messages"]):
            del own["prompt"]  # as in UltraChat: the first message once more
            return _Form("messages", own, {*own, "prompt"})
        return _Form("messages" if "messages" in own else "prompt", own, set(own))
    for key in ("conversations", "instruction", "question"):
        if key in values:
            name, columns, read = _READERS[key](values, where)
            return _Form(name, {**columns, **own}, {*read, *own})
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


def _row(columns: Mapping[str, Any], where: str) -> Row:
    """Check the values of a record and make its row.

    Raises:
        DataError: one is malformed.
    """
    prompt, messages = columns.get("prompt"), columns.get("messages")
    answer: list[str] = []
    if isinstance(prompt, list) and messages is None:
        prompt, messages = None, prompt  # as TRL has it
    if isinstance(prompt, str) and prompt.strip() and messages is None:
        messages = [{"role": "user", "content": prompt}]
    elif isinstance(messages, list) and messages and prompt is None:
        messages, answer = _chat(messages, where)
        prompt = messages[-1]["content"]
    else:
        has = ", ".join(f"'{name}'" for name in columns)
        raise DataError(
            f"{where} needs a non-empty text 'prompt' or a list 'messages', not both; it has {has}"
        )
    passage, category = columns.get("passage"), columns.get("category")
    if passage is not None and not isinstance(passage, str):
        raise DataError(f"{where}: 'passage' is a text")
    if category is not None and not isinstance(category, str | int | float):
        raise DataError(f"{where}: 'category' is a text")
    if answer and columns.get("reference") is not None:
        raise DataError(
            f"{where}: 'messages' ends with an assistant message, and there is a 'reference' too; "
            "keep one of them"
        )
    choices = _choices(columns.get("choices"), where)
    reference = answer
    for name in ("reference", "aliases"):
        for value in _values(columns.get(name), name, where):
            text = _chosen(value, choices, where) if choices.texts else _text(value)
            if text.strip() and (name == "reference" or text not in reference):
                reference.append(text)
    category = None if category in (None, "") else _text(category)
    return Row(prompt, messages, reference, passage, where, tuple(choices.texts), category)


def _chat(messages: list[Any], where: str) -> tuple[list[Message], list[str]]:
    """A conversation up to its last user message, and the answer after it, if there is one."""
    chat = [_chat_message(message, where) for message in messages]
    answer = [chat.pop()["content"]] if chat[-1]["role"] == "assistant" else []
    if not chat or chat[-1]["role"] != "user":
        raise _not_a_chat(where)
    return chat, answer


def _chat_message(message: Any, where: str) -> Message:
    if not isinstance(message, dict):
        raise _not_a_chat(where)
    role, content = message.get("role"), message.get("content")
    if role in ("system", "user", "assistant") and isinstance(content, str):
        return message  # as it is, since ids hash it
    plain = str(role).lower()
    if plain in _TOOL_ROLES or message.get("tool_calls") or message.get("function_call"):
        raise DataError(
            f"{where} has a tool call (role '{role}'), which cannot be distilled; leave such rows out"
        )
    if plain not in _ROLES:
        raise _not_a_chat(where)
    return {"role": _ROLES[plain], "content": _content(content, where)}


def _content(content: Any, where: str) -> str:
    """The text of a message, whose parts stand on lines of their own."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise _not_a_chat(where)
    texts = []
    for part in content:
        text = part.get("text") if isinstance(part, dict) else part
        if not isinstance(text, str):
            kind = part.get("type", "unknown") if isinstance(part, dict) else "unknown"
            raise DataError(
                f"{where} has a message part of type '{kind}'; only texts can be distilled, so leave "
                "such rows out"
            )
        texts.append(text)
    return "\n".join(texts)


def _not_a_chat(where: str) -> DataError:
    return DataError(
        f"{where}: 'messages' is a list of {{role, content}} with roles system, user, assistant, and "
        "ends with a user message, or with the assistant's answer to it"
    )


def _values(value: Any, name: str, where: str) -> list[Any]:
    """The texts and numbers in a value that is one or a list of them."""
    values = value if isinstance(value, list | tuple) else [value]
    if not all(item is None or isinstance(item, str | int | float) for item in values):
        raise DataError(f"{where}: '{name}' is a text or a list of texts")
    return [item for item in values if not _is_missing(item)]


def _text(value: Any) -> str:
    """A text or number as a text; a whole number has no point, however it is stored."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)


def _text_in(values: Mapping[str, Any], name: str, where: str) -> str:
    value = values.get(name, "")
    if not isinstance(value, str):
        raise DataError(f"{where}: '{name}' is a text")
    return value


def _choices(value: Any, where: str) -> _Choices:
    """The options: a list, ARC's `{text, label}`, an option by each letter, or "A) x B) y"."""
    texts: Any = value
    labels: Any = []
    if value is None or value == []:
        return _Choices([], [])
    if isinstance(value, str):
        labels, texts = _lettered(value)
    elif isinstance(value, dict):
        texts, labels = value.get("text"), value.get("label", [])
        if not isinstance(texts, list):
            labels, texts = list(value), list(value.values())
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        texts = [item.get("text") for item in value]
        labels = [item.get("label") for item in value]
    known = isinstance(texts, list) and all(
        isinstance(text, str | int | float) and not _is_missing(text) for text in texts
    )
    if not known or len(texts) < 2 or len(labels) not in (0, len(texts)):
        raise DataError(f"{where}: 'choices' is a list of two texts or more")
    return _Choices([_text(text) for text in texts], [_text(label) for label in labels])


def _lettered(text: str) -> tuple[list[str], list[str]]:
    """Letters and texts of options in one text, each after its letter or on a line of its own."""
    marks = list(_LETTERED.finditer(text))
    letters = [mark[1].upper() for mark in marks]
    if len(marks) > 1 and letters == [chr(ord("A") + n) for n in range(len(marks))]:
        ends = [mark.start() for mark in marks[1:]] + [len(text)]
        texts = [text[mark.end() : end] for mark, end in zip(marks, ends, strict=True)]
        return letters, [option.strip(" \t\r\n|;,") for option in texts]
    lines = [line.strip() for line in re.split(r"\n|\|", text) if line.strip()]
    return [], lines


def _chosen(value: Any, choices: _Choices, where: str) -> str:
    """The option that a reference means: its text, its label, its letter, or its index from 0.

    A reference that is an option's text, or a capital letter of an option without a label, stays
    as it is. What is none of all this stays too: a benchmark says that it is no option.

    Raises:
        DataError: it may mean two options.
    """
    text = _text(value)
    texts, labels = choices
    by_text = (
        [n for n, option in enumerate(texts) if option == text]
        or [n for n, option in enumerate(texts) if split_form(option) == split_form(text) != ""]
        or [n for n, option in enumerate(texts) if _LETTERED.sub("", option, count=1) == text]
    )
    bare = text.strip(" ().:[]")
    by_name = [n for n, label in enumerate(labels) if label.casefold() == bare.casefold()]
    if not by_name and len(bare) == 1 and bare.isascii() and bare.isalpha() and not labels:
        by_name = [n for n in range(len(texts)) if n == ord(bare.upper()) - ord("A")]
    if not by_name and not labels and bare.isdecimal() and len(bare) < 4:
        by_name = [n for n in range(len(texts)) if n == int(bare)]
        if not by_name and not by_text and int(bare) == len(texts):
            raise DataError(
                f"{where}: reference {text} is no choice, since choices are counted from 0; write the "
                "choice's text or letter"
            )
    is_exact = isinstance(value, str) and text in texts
    if is_exact or (text in _letters_of(texts) and not labels):
        return text
    meant = {*by_text[:1], *by_name}
    if len(meant) > 1:
        raise DataError(
            f"{where}: reference '{text}' may be the choice '{texts[by_text[0]]}' or "
            f"'{texts[by_name[0]]}'; write the choice's whole text"
        )
    return texts[meant.pop()] if meant else text


def _letters_of(texts: Sequence[str]) -> list[str]:
    return [chr(ord("A") + n) for n in range(min(len(texts), 26))]


def _is_missing(value: Any) -> bool:
    """Whether a cell holds no value: null, an empty text, NaN."""
    if isinstance(value, float):
        return not math.isfinite(value)
    return value is None or value == ""


def _is_small(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= EXTRA_CHARS
    try:
        text = json.dumps(value, default=str)
    except (ValueError, TypeError, RecursionError):
        return False
    return len(text) <= EXTRA_CHARS and text.count("[") + text.count("{") <= EXTRA_DEPTH


def _plain(value: Any) -> Any:
    """A value as JSON has it; a date or a decimal is its text."""
    return parse_json(json.dumps(value, default=str, ensure_ascii=False))
