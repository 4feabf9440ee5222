"""Audit what the trainer will see, before it trains.

A trainer silently drops rows whose completion is truncated, and trains on none, or on answers
that do not end. The audit reports such rows, and refuses too many of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from train.audit.held_out_overlap import HeldOutTexts
from train.dataset import Encoded, TrainingRow, check_rows, control_tokens, encode
from train.model.tool_template import INSTEAD, tokenizer_tools_fault
from warehouse.errors import ModelError
from warehouse.tool_calls import text_of
from warehouse.wording import format_count

TOLERATED = 0.05
"""Largest share of rows that may be truncated, lack their end, or merge at the boundary."""

SHOWN = 3
"""Rendered examples that are kept in an audit."""

EMPTY = "empty completion"
CUT_OFF = "no completion token within max_length"
DIFFERING = "prompt rendered differently in use"
CONTROL = "a text holds a control token of the base"


@dataclass(frozen=True)
class RowAudit:
    """The rows that can be trained on, in order, as `encoded`, and `figures` about all rows."""

    rows: list[TrainingRow]
    figures: dict[str, Any]
    encoded: list[Encoded]


def audit_rows(
    rows: Sequence[TrainingRow],
    tokenizer: Any,
    max_length: int,
    end_ids: Collection[int] | None = None,
    held_out: HeldOutTexts | None = None,
) -> RowAudit:
    """Render and tokenise every row.

    `end_ids` are the tokens that end an answer (default: the tokenizer's). Figures:
    rows_in, rows_kept, rows_dropped (reason -> count), tokens, supervised_tokens, max_length,
    longest, truncated, truncated_share, missing_end, ends (token that ends an answer -> rows),
    serving_ends (tokens at which serving stops), merged_boundaries, differing (rows whose
    prompt is rendered otherwise in use) and difference (how the first one does),
    duplicates (of the rendered text), held_out_overlap (items, rows, shown), lengths
    (power-of-two upper bound -> rows), examples (text, and the supervised end of it).

    Raises:
        ModelError: a row is malformed, there are none, or some have tools, which the chat template
            does not know.
    """
    check_rows(rows)
    _refuse_tools(rows, tokenizer)
    ends = set(end_ids) if end_ids is not None else {tokenizer.eos_token_id}
    kept_rows: list[TrainingRow] = []
    encodings: list[Encoded] = []
    dropped: Counter[str] = Counter()
    lengths: Counter[int] = Counter()
    difference: str | None = None
    truncated = longest = 0
    control = control_tokens(tokenizer)
    for row in rows:
        if not text_of(row["completion"][0]).strip():
            dropped[EMPTY] += 1
            continue
        messages = [*row["prompt"], *row["completion"]]
        if control and any(control.search(text_of(message)) for message in messages):
            dropped[CONTROL] += 1
            continue
        try:
            encoded = encode(row, tokenizer)
        except ModelError as differs:
            dropped[DIFFERING] += 1
            difference = difference or str(differs)
            continue
        length = len(encoded.input_ids)
        lengths[1 << max(0, length - 1).bit_length()] += 1
        longest = max(longest, length)
        truncated += length > max_length
        if encoded.start >= min(length, max_length):
            dropped[CUT_OFF] += 1
            continue
        kept_rows.append(row)
        encodings.append(encoded)
    texts = Counter(encoded.text for encoded in encodings)
    ended = Counter(end for e in encodings if (end := _end(e, tokenizer, ends)) is not None)
    figures: dict[str, Any] = {
        "rows_in": len(rows),
        "rows_kept": len(kept_rows),
        "rows_dropped": dict(dropped),
        "tokens": sum(min(len(e.input_ids), max_length) for e in encodings),
        "supervised_tokens": sum(len(_supervised(e, max_length)) for e in encodings),
        "max_length": max_length,
        "longest": longest,
        "truncated": truncated,
        "truncated_share": truncated / len(rows),
        "missing_end": len(encodings) - ended.total(),
        "ends": {_shown(tokenizer, end): count for end, count in ended.most_common()},
        "serving_ends": [_shown(tokenizer, end) for end in sorted(ends)],
        "merged_boundaries": sum(e.merged for e in encodings),
        "differing": dropped[DIFFERING],
        "difference": difference,
        "duplicates": sum(texts.values()) - len(texts),
        "held_out_overlap": (held_out or HeldOutTexts([])).figures(kept_rows),
        "lengths": {str(bound): lengths[bound] for bound in sorted(lengths)},
        "examples": [_example(e, tokenizer, max_length) for e in encodings[:SHOWN]],
    }
    return RowAudit(kept_rows, figures, encodings)


def refusal(figures: dict[str, Any], allow: Collection[str] = ()) -> str | None:
    """The reason to refuse training on rows with these figures; None if there is none.

    `allow` names faults that are counted but not refused: "truncated", "missing_end",
    "merged_boundaries". No supervised token, a prompt that is rendered differently in use, and a
    held-out item among the rows are always refused.
    """
    if figures["differing"]:
        return f"{figures['differing']} of {format_count(figures['rows_in'], 'row')}: {figures['difference']}"
    longest, max_length = figures["longest"], figures["max_length"]
    if not figures["supervised_tokens"]:
        counts = ", ".join(f"{why}: {count}" for why, count in figures["rows_dropped"].items())
        return (
            f"none of {format_count(figures['rows_in'], 'row')} has a completion to learn from ({counts}); raise "
            f"train.max_length (now {max_length}; the longest row has {format_count(longest, 'token')}) or fix "
            "the completions"
        )
    overlap = figures["held_out_overlap"]
    if overlap["rows"]:
        return (
            f"{overlap['rows']} of {format_count(figures['rows_kept'], 'row')} contain a held-out item, such as "
            f"{overlap['shown'][0]!r}; a student must not be trained on benchmark items: "
            "remove these rows from the prompts, or the items from the benchmark"
        )
    faults = {
        "truncated": (
            figures["rows_in"],
            f"longer than train.max_length = {max_length} and would be truncated",
            f"raise it (the longest row has {format_count(longest, 'token')}) or drop the long samples",
        ),
        "missing_end": (
            figures["rows_kept"],
            "rendered without an end-of-answer token, so the student would not learn to stop",
            "use a base whose chat template closes the assistant's turn",
        ),
        "merged_boundaries": (
            figures["rows_kept"],
            "joined across prompt and completion by the tokenizer, unlike in use",
            "use a base whose generation prompt ends on a token boundary",
        ),
    }
    for name, (total, what, instead) in faults.items():
        if name not in allow and figures[name] > TOLERATED * total:
            return (
                f"{figures[name]} of {format_count(total, 'row')} are {what} ({TOLERATED:.0%} is tolerated); "
                f"{instead}, or set train.allow = ['{name}']"
            )
    return None


def _refuse_tools(rows: Sequence[TrainingRow], tokenizer: Any) -> None:
    """Refuse rows with tools where the base's chat template does not write them.

    Raises:
        ModelError: it leaves out the tools, their calls or their results.
    """
    number = sum("tools" in row for row in rows)
    if not number:
        return
    fault = tokenizer_tools_fault(tokenizer)
    if fault:
        raise ModelError(
            f"the base's chat template {fault}, and {number} of {format_count(len(rows), 'row')} have "
            f"tools; {INSTEAD}"
        )


def _supervised(encoded: Encoded, max_length: int) -> list[int]:
    return encoded.input_ids[encoded.start : max_length]


def _end(encoded: Encoded, tokenizer: Any, ends: set[int]) -> int | None:
    """The end token that the whole answer ends with, blank text after it aside."""
    answer = encoded.input_ids[encoded.start :]
    for token in reversed(answer):
        if token in ends:
            return token
        if tokenizer.decode([token]).strip():
            return None
    return None


def _shown(tokenizer: Any, token: int) -> str:
    return str(tokenizer.convert_ids_to_tokens(token))


def _example(encoded: Encoded, tokenizer: Any, max_length: int) -> dict[str, str]:
    """The text and its supervised end, also where a character is split between the two."""
    supervised = tokenizer.decode(_supervised(encoded, max_length))
    return {
        "text": tokenizer.decode(encoded.input_ids[: encoded.start]) + supervised,
        "supervised": supervised,
    }
