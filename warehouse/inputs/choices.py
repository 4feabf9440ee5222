"""Read the choices of a question, and find the choice that a reference means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from warehouse.errors import DataError
from warehouse.inputs.columns import is_missing, text_of
from warehouse.text.words import split_form

_LETTERED = re.compile(r"(?:^|(?<=[\s|;,]))\(?([A-Za-z])[).:]\s*")


class Choices(NamedTuple):
    """The options of a row, and what each is called, where the file says so."""

    texts: list[str]
    labels: list[str]


def read_choices(value: Any, where: str) -> Choices:
    """The options: a list, ARC's `{text, label}`, an option by each letter, or "A) x B) y"."""
    texts: Any = value
    labels: Any = []
    if value is None or value == []:
        return Choices([], [])
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
        isinstance(text, str | int | float) and not is_missing(text) for text in texts
    )
    if not known or len(texts) < 2 or len(labels) not in (0, len(texts)):
        raise DataError(f"{where}: 'choices' is a list of two texts or more")
    return Choices([text_of(text) for text in texts], [text_of(label) for label in labels])


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


def resolve_choice(value: Any, choices: Choices, where: str) -> str:
    """The option that a reference means: its text, its label, its letter, or its index from 0.

    A reference that is an option's text, or a capital letter of an option without a label, stays
    as it is. What is none of all this stays too: a benchmark says that it is no option.

    Raises:
        DataError: it may mean two options.
    """
    text = text_of(value)
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
