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
class AuditSummary:
    """The audit as shown: a line for each figure, rows by length, rendered examples."""

    lines: list[tuple[str, str]]
    lengths: list[tuple[str, int]]
    examples: list[tuple[str, str]]
    """The text before the supervised span, and the span."""


def summarize_audit(audit: Figures) -> AuditSummary:
    """Describe an audit; unknown figures are shown by name."""
    lines_known = [line for line in _LINES if audit.keys() >= {*line[1]}]
    described = {*_ELSEWHERE, *(name for _, names, _ in lines_known for name in names)}
    lines = [
        (label, text)
        for label, names, words in lines_known
        if all(audit[name] is not None for name in names) and (text := words(audit))
    ]
    unknown = [
        (key.replace("_", " "), value_text(v)) for key, v in audit.items() if key not in described
    ]
    return AuditSummary(
        lines=[*lines, *unknown],
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
    count = format_count(rows, "row")
    text = f"each of {count} begins with exactly the prompt in use"
    if audit["differing"]:
        text = f"{audit['differing']:,} of {count} have another prompt in use: "
        text += audit["difference"]
    merged = audit["merged_boundaries"]
    return f"{text}; {merged:,} joined across the boundary by the tokenizer"


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
    examples = "".join(f"; {text!r}" for text in overlap["shown"])
    rows = f"{overlap['rows']:,} of {format_count(audit['rows_kept'], 'row')}"
    return f"{rows} contain one of {format_count(overlap['items'], 'item')}{examples}"


def _early(audit: Figures) -> str:
    held_out: int = audit["held_out_rows"]
    return f"{format_count(held_out, 'row')} not trained on" if held_out else ""


def _parameters(audit: Figures) -> str:
    trained, of = audit["trainable_parameters"], audit["parameters"]
    return f"{trained:,} of {of:,} ({trained / max(1, of):.2%})"


def _estimate(audit: Figures) -> str:
    estimate = audit["memory_estimate"]
    sizes = (f"{part} {bytes_text(estimate[part])}" for part in PARTS if estimate.get(part))
    again = ", activations computed again" if estimate["checkpointing"] else ""
    much = "more than there is: " if estimate["total"] > audit["memory_there"] else ""
    return (
        f"{much}{bytes_text(estimate['total'])} of {bytes_text(audit['memory_there'])} there: {', '.join(sizes)}, for "
        f"{format_count(estimate['rows'], 'row')} of {format_count(estimate['length'], 'token')}{again}"
    )


def _measured(audit: Figures) -> str:
    peak, before = audit["memory"], audit["memory_before"]
    estimate = audit.get("memory_estimate")
    same = estimate is not None and "process" in estimate  # an older one is of the training alone
    times = f"; {peak / estimate['total']:.2f} times the estimate" if estimate and same else ""
    return (
        f"{bytes_text(peak)} at the peak of the {audit['memory_of']}, {bytes_text(before)} of it "
        f"before the model{times}"
    )


def _preference(audit: Figures) -> str:
    figures = audit["preference"]
    if "without_rejected" in figures:
        return (
            f"{figures['pairs']:,} made with the replies that the recipe rejected: "
            f"{figures['equal_replies']:,} dropped for saying what the teacher says, "
            f"{format_count(figures['without_rejected'], 'sample')} left out for having none, "
            f"{figures['truncated_rejected']:,} truncated at max_length"
        )
    duration = f" in {figures['seconds']:,.0f} s" if "seconds" in figures else ""
    return (
        f"{figures['pairs']:,} made; the untuned student answered{duration}: {figures['equal_replies']:,} "
        "dropped for saying what the teacher says, "
        f"{figures['cut_off_replies']:,} cut off at max_new_tokens, "
        f"{figures.get('truncated_rejected', 0):,} truncated at max_length"
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
"""Label, required figures, and the function that words them; empty words give no line."""

_ELSEWHERE = (
    "lengths", "examples", "difference", "refused", "memory_there", "memory_before", "memory_of",
)  # fmt: skip
"""Figures without a line of their own."""


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
    """Loss on held-out rows."""
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
    evals = [row for row in _series(losses, "held_out_loss") if math.isfinite(row[1])]
    first, last = finite[0][0], finite[-1][0]
    top = max(loss for _, loss in (*finite, *evals)) or 1.0
    width = (last - first) or 1.0

    def placed(series: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [((step - first) / width, max(loss, 0.0) / top) for step, loss in _thin_out(series)]

    return Curve(
        points=placed(finite),
        held_out=placed(evals),
        first_step=first,
        last_step=last,
        first=finite[0][1],
        last=finite[-1][1],
        top=top,
        lost=len(rows) - len(finite),
        lowest=min(evals, key=lambda row: row[1], default=None),
    )


def _series(losses: list[dict[str, float]], name: str) -> list[tuple[float, float]]:
    return [(float(row["step"]), float(row[name])) for row in losses if name in row]


def _thin_out(series: list[tuple[float, float]]) -> list[tuple[float, float]]:
    kept_rows = series[:: math.ceil(len(series) / CURVE_POINTS) or 1]
    return kept_rows if not series or kept_rows[-1] == series[-1] else [*kept_rows, series[-1]]
