"""Build the report's training section: the audit before training, and the loss curve."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from train.model.memory import PARTS
from warehouse.wording import format_count

CURVE_POINTS = 400

Figures = Mapping[str, Any]
"""An audit as `train.audit.audit` and `train.loop.sft` make it, or as an older version did."""


@dataclass(frozen=True)
class Saw:
    """What the trainer saw: a line for each figure, rows by length, rendered examples."""

    lines: list[tuple[str, str]]
    lengths: list[tuple[str, int]]
    examples: list[tuple[str, str]]
    """The text before the supervised span, and the span: to its end."""


def saw(audit: Figures) -> Saw:
    """An audit in words; a figure that is not known here is shown by its name."""
    known = [(label, names, words) for label, names, words in _LINES if audit.keys() >= {*names}]
    described = {*_ELSEWHERE, *(name for _, names, _ in known for name in names)}
    lines = [
        (label, text)
        for label, names, words in known
        if all(audit[name] is not None for name in names) and (text := words(audit))
    ]
    others = [
        (key.replace("_", " "), value_text(v)) for key, v in audit.items() if key not in described
    ]
    return Saw(
        lines=[*lines, *others],
        lengths=[(f"≤ {int(k):,}", count) for k, count in audit.get("lengths", {}).items()],
        examples=[
            (example["text"].removesuffix(example["supervised"]), example["supervised"])
            for example in audit.get("examples", [])
        ],
    )


def _rows(audit: Figures) -> str:
    dropped = "; ".join(f"{count:,} dropped: {why}" for why, count in audit["rows_dropped"].items())
    return f"{audit['rows_kept']:,} of {audit['rows_in']:,} trained on; {dropped or 'none dropped'}"


def _tokens(audit: Figures) -> str:
    share = audit["supervised_tokens"] / max(1, audit["tokens"])
    return f"{audit['tokens']:,}, of which {audit['supervised_tokens']:,} supervised ({share:.1%})"


def _truncated(audit: Figures) -> str:
    return (
        f"{audit['truncated']:,} of {format_count(audit['rows_in'], 'row')} ({audit['truncated_share']:.1%}) are "
        f"longer than max_length = {audit['max_length']:,}; the longest has {format_count(audit['longest'], 'token')}"
    )


def _parity(audit: Figures) -> str:
    rows = audit["differing"] + audit["rows_kept"]
    found = f"each of {format_count(rows, 'row')} begins, to the letter, with what is asked in use"
    if audit["differing"]:
        found = (
            f"{audit['differing']:,} of {format_count(rows, 'row')} are asked otherwise in use: "
        )
        found += audit["difference"]
    merged = audit["merged_boundaries"]
    return f"{found}; {merged:,} joined across the boundary by the tokenizer"


def _ends(audit: Figures) -> str:
    ends = ", ".join(
        f"{end} in {format_count(count, 'row')}" for end, count in audit["ends"].items()
    )
    stops = ", ".join(audit["serving_ends"])
    missing = audit["missing_end"]
    return f"{ends or 'none'}, missing in {missing:,}; serving stops at {stops}"


def _overlap(audit: Figures) -> str:
    overlap = audit["held_out_overlap"]
    if not overlap["items"]:
        return "no benchmark, so nothing to compare with"
    shown = "".join(f"; {text!r}" for text in overlap["shown"])
    rows = f"{overlap['rows']:,} of {format_count(audit['rows_kept'], 'row')}"
    return f"{rows} give away one of {format_count(overlap['items'], 'item')}{shown}"


def _early(audit: Figures) -> str:
    held_out: int = audit["held_out_rows"]
    return f"{format_count(held_out, 'row')} not trained on" if held_out else ""


def _parameters(audit: Figures) -> str:
    trained, of = audit["trainable_parameters"], audit["parameters"]
    return f"{trained:,} of {of:,} ({trained / max(1, of):.2%})"


def _estimate(audit: Figures) -> str:
    found = audit["memory_estimate"]
    parts = ", ".join(f"{name} {bytes_text(found[name])}" for name in PARTS if found.get(name))
    again = ", activations computed again" if found["checkpointing"] else ""
    much = "more than there is: " if found["total"] > audit["memory_there"] else ""
    return (
        f"{much}{bytes_text(found['total'])} of {bytes_text(audit['memory_there'])} there: {parts}, for "
        f"{format_count(found['rows'], 'row')} of {format_count(found['length'], 'token')}{again}"
    )


def _measured(audit: Figures) -> str:
    peak, before = audit["memory"], audit["memory_before"]
    found = audit.get("memory_estimate")
    same = found is not None and "process" in found  # an older one is of the training alone
    times = f"; {peak / found['total']:.2f} times the estimate" if found and same else ""
    return (
        f"{bytes_text(peak)} at the peak of the {audit['memory_of']}, {bytes_text(before)} of it "
        f"before the model{times}"
    )


def _preference(audit: Figures) -> str:
    found = audit["preference"]
    drawn = f" in {found['seconds']:,.0f} s" if "seconds" in found else ""
    return (
        f"{found['pairs']:,} made; the untuned student answered{drawn}: {found['equal_replies']:,} "
        "dropped for saying what the teacher says, "
        f"{found['cut_off_replies']:,} cut off at max_new_tokens, "
        f"{found.get('truncated_rejected', 0):,} truncated at max_length"
    )


Line = tuple[str, tuple[str, ...], Callable[[Figures], str]]

_LINES: tuple[Line, ...] = (
    ("rows", ("rows_in", "rows_kept", "rows_dropped"), _rows),
    ("exact duplicates", ("duplicates",), lambda audit: format_count(audit["duplicates"], "row")),
    ("tokens", ("tokens", "supervised_tokens"), _tokens),
    ("truncated", ("rows_in", "truncated", "truncated_share", "max_length", "longest"), _truncated),
    ("prompt in use", ("differing", "merged_boundaries", "rows_kept"), _parity),
    ("end of an answer", ("ends", "missing_end", "serving_ends"), _ends),
    ("held-out overlap", ("held_out_overlap", "rows_kept"), _overlap),
    ("early stopping", ("held_out_rows",), _early),
    ("trained parameters", ("trainable_parameters", "parameters"), _parameters),
    ("pairs", ("preference",), _preference),
    ("memory estimated", ("memory_estimate", "memory_there"), _estimate),
    ("memory measured", ("memory", "memory_before", "memory_of"), _measured),
)
"""Label, the figures it needs, and its words; no words, no line."""

_ELSEWHERE = (
    "lengths", "examples", "difference", "refused", "memory_there", "memory_before", "memory_of",
)  # fmt: skip
"""Figures that stand in no line of their own."""


def bytes_text(number: float) -> str:
    """Bytes in the unit that suits them."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(number) >= size:
            return f"{number / size:.2f} {unit}"
    return f"{number:.0f} B"


def value_text(value: Any) -> str:
    """A figure of the audit in one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {value_text(inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(value_text(inner) for inner in value) or "none"
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


@dataclass(frozen=True)
class Curve:
    """Loss curves in a unit square, origin at the lower left."""

    points: list[tuple[float, float]]
    held_out: list[tuple[float, float]]
    """Of rows that are not trained on."""
    first_step: float
    last_step: float
    first: float
    last: float
    top: float
    lost: int  # losses that are not finite
    lowest: tuple[float, float] | None
    """Step and loss where the held-out loss is lowest."""


def loss_curve(losses: list[dict[str, float]]) -> Curve | None:
    """The curves of a training's losses, thinned out evenly; None where there is no loss."""
    rows = _series(losses, "loss")
    finite = [row for row in rows if math.isfinite(row[1])]
    if not finite:
        return None
    looks = [row for row in _series(losses, "held_out_loss") if math.isfinite(row[1])]
    first, last = finite[0][0], finite[-1][0]
    top = max(loss for _, loss in (*finite, *looks)) or 1.0
    width = (last - first) or 1.0

    def placed(series: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [((step - first) / width, max(loss, 0.0) / top) for step, loss in _thinned(series)]

    return Curve(
        points=placed(finite),
        held_out=placed(looks),
        first_step=first,
        last_step=last,
        first=finite[0][1],
        last=finite[-1][1],
        top=top,
        lost=len(rows) - len(finite),
        lowest=min(looks, key=lambda row: row[1], default=None),
    )


def _series(losses: list[dict[str, float]], name: str) -> list[tuple[float, float]]:
    return [(float(row["step"]), float(row[name])) for row in losses if name in row]


def _thinned(series: list[tuple[float, float]]) -> list[tuple[float, float]]:
    shown = series[:: math.ceil(len(series) / CURVE_POINTS) or 1]
    return shown if not series or shown[-1] == series[-1] else [*shown, series[-1]]
