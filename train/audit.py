"""What the trainer will really see, counted before it trains.

A trainer drops rows whose completion is cut off, trains happily on nothing, and never
mentions that an answer does not end. This says so, and refuses where it matters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from train.dataset import Encoded, Row, check_rows, encode
from warehouse.errors import StageError

TOLERATED = 0.05
"""Largest share of rows that may be truncated, lack their end, or merge at the boundary."""

SHOWN = 3
"""Rendered examples that are kept in an audit."""

EMPTY = "empty completion"
CUT_OFF = "no completion token within max_length"


@dataclass(frozen=True)
class Audited:
    """The rows that can be trained on, in order, and the `figures` about all of them."""

    rows: list[Row]
    figures: dict[str, Any]


def audit(
    rows: Sequence[Row],
    tokenizer: Any,
    max_length: int,
    end_ids: Collection[int] | None = None,
) -> dict[str, Any]:
    """Count what a trainer sees of these rows; see `inspect_rows`.

    Raises:
        StageError: training on these rows would teach something other than intended.
    """
    return inspect_rows(rows, tokenizer, max_length, end_ids).figures


def inspect_rows(
    rows: Sequence[Row],
    tokenizer: Any,
    max_length: int,
    end_ids: Collection[int] | None = None,
    allow: Collection[str] = (),
) -> Audited:
    """Render and tokenise every row, and refuse what would train badly.

    `end_ids` are the tokens that end an answer (default: the tokenizer's). Figures:
    rows_in, rows_kept, rows_dropped (reason -> count), tokens, supervised_tokens,
    truncated, truncated_share, missing_end, merged_boundaries, duplicates, lengths
    (power-of-two upper bound -> rows), examples (text and supervised text).

    Raises:
        StageError: malformed rows, none left, a prompt rendered differently in use, or
            more than 5 % truncated, without an end, or with a merged boundary, unless
            `allow` names that ("truncated", "missing_end", "merged_boundaries").
    """
    check_rows(rows)
    ends = set(end_ids) if end_ids is not None else {tokenizer.eos_token_id}
    kept: list[Row] = []
    used: list[Encoded] = []
    dropped: Counter[str] = Counter()
    lengths: Counter[int] = Counter()
    truncated = 0
    for row in rows:
        if not row["completion"][0]["content"].strip():
            dropped[EMPTY] += 1
            continue
        encoded = encode(row, tokenizer)
        length = len(encoded.input_ids)
        lengths[1 << max(0, length - 1).bit_length()] += 1
        truncated += length > max_length
        if encoded.start >= min(length, max_length):
            dropped[CUT_OFF] += 1
            continue
        kept.append(row)
        used.append(encoded)
    seen = Counter(encoded.text for encoded in used)
    longest = max(lengths, default=0)
    figures: dict[str, Any] = {
        "rows_in": len(rows),
        "rows_kept": len(kept),
        "rows_dropped": dict(dropped),
        "tokens": sum(min(len(e.input_ids), max_length) for e in used),
        "supervised_tokens": sum(len(_supervised(e, max_length)) for e in used),
        "max_length": max_length,
        "truncated": truncated,
        "truncated_share": truncated / len(rows),
        "missing_end": sum(not _ends(e, tokenizer, ends) for e in used),
        "merged_boundaries": sum(e.merged for e in used),
        "duplicates": sum(seen.values()) - len(seen),
        "lengths": {str(bound): lengths[bound] for bound in sorted(lengths)},
        "examples": [_example(e, tokenizer, max_length) for e in used[:SHOWN]],
    }
    if not kept:
        raise StageError(
            f"none of {len(rows)} rows has a completion to learn from "
            f"({_counts(dropped)}); raise train.max_length (now {max_length}; the longest row has "
            f"up to {longest} tokens) or mend the completions"
        )
    faults = {
        "truncated": (
            len(rows),
            f"longer than train.max_length = {max_length} and would be truncated",
            f"raise it (the longest row has up to {longest} tokens) or drop the long samples",
        ),
        "missing_end": (
            len(used),
            "rendered without an end-of-answer token, so the student would not learn to stop",
            "use a base whose chat template closes the assistant's turn",
        ),
        "merged_boundaries": (
            len(used),
            "joined across prompt and completion by the tokenizer, unlike in use",
            "use a base whose generation prompt ends on a token boundary",
        ),
    }
    for name, (total, what, instead) in faults.items():
        if name not in allow and figures[name] > TOLERATED * total:
            raise StageError(
                f"{figures[name]} of {total} rows are {what} ({TOLERATED:.0%} is tolerated); "
                f"{instead}, or set train.allow = ['{name}']"
            )
    return Audited(kept, figures)


def _supervised(encoded: Encoded, max_length: int) -> list[int]:
    return encoded.input_ids[encoded.start : max_length]


def _ends(encoded: Encoded, tokenizer: Any, ends: set[int]) -> bool:
    """Whether the whole answer ends with an end token, blank text after it aside."""
    answer = encoded.input_ids[encoded.start :]
    for position in range(len(answer) - 1, -1, -1):
        if answer[position] in ends:
            return True
        if tokenizer.decode([answer[position]]).strip():
            return False
    return False


def _example(encoded: Encoded, tokenizer: Any, max_length: int) -> dict[str, str]:
    return {
        "text": tokenizer.decode(encoded.input_ids[:max_length]),
        "supervised": tokenizer.decode(_supervised(encoded, max_length)),
    }


def _counts(dropped: Counter[str]) -> str:
    return ", ".join(f"{reason}: {count}" for reason, count in dropped.items())
