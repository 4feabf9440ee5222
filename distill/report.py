"""A run as one page: HTML that needs nothing but itself, Markdown for a pull request, JSON.

All three are pure functions of a `Report`. Texts of models and of data are shown as
text: HTML is escaped by Jinja, Markdown by `as_cell`; the page carries no script and
its policy would let none run.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.compare import Comparison, Interval
from distill.curation import Curation
from distill.verdict import metric_name, p_text, points, verdict

TEMPLATES = Path(__file__).parent / "templates"
CURVE_POINTS = 400


@dataclass(frozen=True)
class FunnelStep:
    """How much was left after one step."""

    label: str
    count: int
    note: str


@dataclass(frozen=True)
class StageCost:
    """What one stage took; `cost_usd` None: a price is not known."""

    stage: str
    seconds: float
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    reused: int


@dataclass(frozen=True)
class LedgerLine:
    """What the replies of one run, teacher and recipe took; a row of the view `ledger`."""

    run_id: str
    teacher: str
    recipe: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    """Of the calls whose price is known; None where none is."""
    calls_without_price: int
    retries: int
    cut_off: int
    latency_p50_s: float
    latency_p95_s: float
    latency_p99_s: float


@dataclass(frozen=True)
class Report:
    """All that a report shows."""

    run_id: str
    plan_name: str
    plan_hash: str
    created_at: str
    plan: dict[str, Any]
    versions: dict[str, str]
    ids: dict[str, str]
    comparisons: list[Comparison]
    funnel: list[FunnelStep]
    drop_reasons: list[tuple[str, int]]
    losses: list[dict[str, float]]
    stages: list[StageCost]
    ledger: list[LedgerLine]
    audit: dict[str, Any]
    notes: list[str]
    protocol: list[str]
    curation: Curation = field(default_factory=Curation)


def render_html(report: Report) -> str:
    """One self-contained HTML page, light and dark, printable, without a script."""
    return _render("report.html.j2", report, autoescape=True)


def render_markdown(report: Report) -> str:
    """The same as GitHub-flavoured Markdown; passages are left out."""
    text = re.sub(r"\n{3,}", "\n\n", _render("report.md.j2", report, autoescape=False))
    return text.strip() + "\n"


def to_json(report: Report) -> dict[str, Any]:
    """All figures and texts as JSON-able values, each comparison with its verdict."""
    plain: dict[str, Any] = _plain(dataclasses.asdict(report))
    for shown, comparison in zip(plain["comparisons"], report.comparisons, strict=True):
        shown["verdict"] = verdict(comparison)
    return plain


def _render(template: str, report: Report, autoescape: bool) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "cell": as_cell,
        "interval": interval_text,
        "points": points,
        "span": span_text,
        "p": p_text,
        "metric": metric_name,
        "number": number_text,
        "cost": cost_text,
        "duration": duration_text,
        "shown": value_text,
        "fence": fence_for,
    }
    return printable(
        environment.get_template(template).render(
            report=report,
            verdicts=[verdict(comparison) for comparison in report.comparisons],
            curve=loss_curve(report.losses),
            plan=as_toml(report.plan),
        )
    )


def printable(text: str) -> str:
    """A text that any file can hold: lone surrogates and control characters are replaced."""
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", "\ufffd", whole)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(str(key)): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def as_cell(text: object) -> str:
    """A text as it stands, in one Markdown table cell or list line."""
    escaped = re.sub(r"([\\`*_\[\]|~#$!])", r"\\\1", str(text).strip())
    escaped = escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    escaped = escaped.replace("://", r":\//")
    escaped = re.sub(r"^([-+=]|\d+(?=[.)](?:\s|$)))", _first, escaped)
    return "<br>".join(line.strip() for line in escaped.splitlines()) or "(empty)"


def _first(found: re.Match[str]) -> str:
    return f"&#{ord(found[0][0])};{found[0][1:]}"


def fence_for(text: str) -> str:
    """A code fence longer than any run of backticks in the text."""
    runs = [len(run) for run in re.findall(r"`+", text)]
    return "`" * max(3, *(length + 1 for length in runs), 3)


def interval_text(interval: Interval | None) -> str:
    """A score and its interval, or a dash."""
    if interval is None:
        return "–"
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def span_text(interval: Interval | None) -> str:
    """A difference or share in points and its interval, or a dash."""
    if interval is None:
        return "–"
    return f"{points(interval.value)} ({points(interval.low)} to {points(interval.high)})"


def number_text(number: float | None, digits: int = 0) -> str:
    """A number with thousands separated, or a dash."""
    return "–" if number is None else f"{number:,.{digits}f}"


def cost_text(cost: float | None) -> str:
    """US dollars, or that the price is not known."""
    if cost is None:
        return "not known"
    return f"${cost:,.2f}" if cost == 0 or cost >= 0.01 else f"${cost:.2g}"


def duration_text(seconds: float) -> str:
    """Seconds as hours, minutes and seconds."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def value_text(value: Any) -> str:
    """A figure of the audit in one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {value_text(inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(value_text(inner) for inner in value) or "none"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return number_text(value) if isinstance(value, int) else f"{value:.4g}"


@dataclass(frozen=True)
class Curve:
    """A loss curve in a unit square, origin at the lower left."""

    points: list[tuple[float, float]]
    first_step: float
    last_step: float
    first: float
    last: float
    top: float
    lost: int  # losses that are not finite


def loss_curve(losses: list[dict[str, float]]) -> Curve | None:
    """The curve of a training's losses, thinned out evenly; None where there is no loss."""
    rows = [(float(row["step"]), float(row["loss"])) for row in losses if "loss" in row]
    finite = [row for row in rows if math.isfinite(row[1])]
    if not finite:
        return None
    stride = math.ceil(len(finite) / CURVE_POINTS)
    shown = finite[::stride] if finite[-1] in finite[::stride] else [*finite[::stride], finite[-1]]
    first, last = finite[0][0], finite[-1][0]
    top = max(loss for _, loss in finite) or 1.0
    width = (last - first) or 1.0
    return Curve(
        points=[((step - first) / width, max(loss, 0.0) / top) for step, loss in shown],
        first_step=first,
        last_step=last,
        first=finite[0][1],
        last=finite[-1][1],
        top=top,
        lost=len(rows) - len(finite),
    )


def as_toml(plan: dict[str, Any]) -> str:
    """A plan's JSON as TOML that reads back equal; keys without a value are left out."""
    plain = {key: value for key, value in plan.items() if not isinstance(value, dict)}
    lines = [f"{_key(key)} = {_toml(value)}" for key, value in plain.items() if value is not None]
    for name, section in plan.items():
        if isinstance(section, dict):
            lines += ["", f"[{_key(name)}]"]
            lines += [f"{_key(k)} = {_toml(v)}" for k, v in section.items() if v is not None]
    return "\n".join(lines).strip()


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml(key)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, dict):
        inner = (f"{_key(k)} = {_toml(v)}" for k, v in value.items() if v is not None)
        return "{" + ", ".join(inner) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(inner) for inner in value if inner is not None) + "]"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda c: f"\\u{ord(c[0]):04x}", escaped) + '"'
