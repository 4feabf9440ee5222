"""Align the teacher's stored log-probabilities with the positions of the student's tokens.

A call keeps its tokens as texts: {"tokens": [...], "logprobs": [...], "top": [[[text,
logprob], ...], ...]}. A server may write `token_id:17` in place of a text.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from distill.learning.vocabulary import Vocabulary
from train.audit.audit import TOLERATED
from train.dataset import TrainingRow, encode
from warehouse.errors import TrainingError
from warehouse.tool_calls import text_of
from warehouse.wording import format_count

BY_NUMBER = "token_id:"

OUTSIDE_TOP = -50.0
"""Log-probabilities below are placeholders: servers write -9999 for a token outside the top."""

Distribution = dict[int, float]
"""Token id -> natural log-probability; the remaining mass is on other tokens."""


@dataclass(frozen=True)
class Aligned:
    """The teacher's distributions at the supervised positions of one row; None where it has
    none. `answer` is how many of them stand before the end of the answer; `stored` tells
    whether any log-probabilities were."""

    at: list[Distribution | None]
    answer: int
    stored: bool

    @property
    def missing(self) -> int:
        """Positions of the answer without a distribution."""
        return sum(distribution is None for distribution in self.at[: self.answer])


class Aligner:
    """Brings stored log-probabilities to a student's tokens.

    A position of the student gets the teacher's distribution where both have a token of the
    same text at the same place of the same answer. Where they differ, or after an edit of the
    answer, it gets none.
    """

    def __init__(self, tokenizer: Any, ends: Collection[int]) -> None:
        self._tokenizer, self._ends = tokenizer, set(ends)
        self._vocabulary = Vocabulary(tokenizer)

    def align(
        self, row: TrainingRow, stored: Mapping[str, Any] | None, max_length: int | None = None
    ) -> Aligned:
        """The distributions at a row's supervised positions, truncated as the trainer does."""
        encoded = encode(row, self._tokenizer)
        ids = encoded.input_ids[encoded.start : max_length]
        answer = next((n for n, number in enumerate(ids) if number in self._ends), len(ids))
        if not stored:
            return Aligned([None] * len(ids), answer, stored=False)
        texts = [self._text(token) for token in stored["tokens"]]
        tokens = self._places(ids, texts, text_of(row["completion"][0]))
        distributions = [
            None if token is None else self._distribution(ids[position], stored, token)
            for position, token in enumerate(tokens)
        ]
        return Aligned(distributions, answer, stored=True)

    def _places(self, ids: list[int], texts: list[str], answer: str) -> list[int | None]:
        """For each of the student's tokens the index of the teacher's equal token."""
        reply_text = "".join(texts)
        start = reply_text.rfind(answer)  # reasoning before it may quote it
        if start < 0:  # it was edited, or the texts of some tokens are not whole characters
            start = len(reply_text) - len(reply_text.lstrip())
        theirs: dict[tuple[int, int], int] = {}
        offset = -start
        for number, text in enumerate(texts):
            theirs.setdefault((offset, offset + len(text)), number)
            offset += len(text)
        own = self._vocabulary.pieces(ids)
        shared = _shared(reply_text[start:], "".join(text for _, text in own))
        matches: list[int | None] = [None] * len(ids)
        offset = 0
        for position, text in own:
            end = offset + len(text)
            if position is not None and end <= shared:
                matches[position] = theirs.get((offset, end))
            elif position is not None and offset == len(reply_text) - start:
                # llama.cpp ends with an empty token
                is_end = ids[position] in self._ends
                matches[position] = theirs.get((offset, offset)) if is_end else None
            offset = end
        return matches

    def _distribution(
        self, label: int, stored: Mapping[str, Any], token: int
    ) -> Distribution | None:
        logprob_by_id = {label: float(stored["logprobs"][token])}
        for text, logprob in stored["top"][token] if stored.get("top") else ():
            number = label if text == stored["tokens"][token] else self._id(text)
            if number is not None:
                logprob_by_id.setdefault(number, float(logprob))
        usable = {n: logprob for n, logprob in logprob_by_id.items() if logprob > OUTSIDE_TOP}
        return usable or None

    def _text(self, token: str) -> str:
        number = self._number(token)
        return token if number is None else self._vocabulary.texts[number]

    def _id(self, token: str) -> int | None:
        number = self._number(token)
        return self._vocabulary.id_of(token) if number is None else number

    def _number(self, token: str) -> int | None:
        digits = token.removeprefix(BY_NUMBER)
        if digits == token or not digits.isdecimal() or int(digits) >= len(self._vocabulary.texts):
            return None
        return int(digits)


def _shared(left: str, right: str) -> int:
    """Length of the common prefix of two texts."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(left), len(right)))


def figures_of(rows: Iterable[Aligned]) -> dict[str, Any]:
    """Count rows and answer tokens, those without stored log-probabilities, and rows that do not
    line up; `mean_mass_known` is the teacher's mean probability on the known tokens."""
    names = ("rows", "rows_without_logprobs", "rows_not_lined_up", "tokens")
    figures = dict.fromkeys((*names, "tokens_without_logprobs"), 0)
    mass = 0.0
    for row in rows:
        figures["rows"] += 1
        figures["rows_without_logprobs"] += not row.stored
        figures["rows_not_lined_up"] += row.stored and row.missing > 0
        figures["tokens"] += row.answer
        figures["tokens_without_logprobs"] += row.missing
        for distribution in row.at[: row.answer]:
            mass += min(1.0, sum(map(math.exp, distribution.values()))) if distribution else 0.0
    known_tokens = figures["tokens"] - figures["tokens_without_logprobs"]
    return {**figures, "mean_mass_known": mass / known_tokens if known_tokens else 0.0}


def refuse_misaligned(figures: Mapping[str, Any]) -> None:
    """Refuse samples that were stored without log-probabilities, or in other tokens.

    Raises:
        TrainingError: more than 5 % of the rows or tokens have none.
    """
    rows, without = figures["rows"], figures["rows_without_logprobs"]
    if without > TOLERATED * rows:
        raise TrainingError(
            f"{without} of {format_count(rows, 'sample')} have no stored log-probabilities of the teacher "
            f"({TOLERATED:.0%} is tolerated); set datagen.sampling.top_logprobs = 20 and generate "
            "again (the calls are new and paid for), or give train.objective a local `teacher`"
        )
    tokens, missing = figures["tokens"], figures["tokens_without_logprobs"]
    if missing > TOLERATED * tokens:
        raise TrainingError(
            f"{missing} of {tokens} answer tokens, in {figures['rows_not_lined_up']} of {rows} "
            f"rows, do not line up with the teacher's ({TOLERATED:.0%} is tolerated): it has "
            "another vocabulary; take a base of the teacher's family, or the objective "
            "'sequence', which needs no common vocabulary"
        )
