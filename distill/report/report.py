"""Render a run as one self-contained HTML page, as Markdown and as JSON.

All three are pure functions of a `Report`. Texts of models and of data are shown as
text: HTML is escaped by Jinja, Markdown by `as_cell`. The page carries one script of its
own, which searches among the items; its policy names that script by hash and lets no other run.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.evaluation.comparison import Comparison
from distill.evaluation.controls import compare_with_controls, form_warning, whole_verdict
from distill.evaluation.findings import Evaluation
from distill.evaluation.statistics import Interval
from distill.evaluation.verdict import fine_tune, metric_name, p_text, points, warnings
from distill.report.curation_section import Curation
from distill.report.page import FILTERS, policy_for, template_values
from distill.report.training_section import loss_curve, summarize_audit, value_text
from warehouse.wording import format_count

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class FunnelStep:
    """The count after one step."""

    label: str
    count: int
    note: str


@dataclass(frozen=True)
class RecipeLine:
    """What became of everything that one recipe asked."""

    recipe: str
    seeds: int
    calls: int
    without_samples: int
    """Seeds without a reply, on which its code failed, or that are unfinished."""
    ok: int
    refused: int
    truncated: int
    invalid: int
    duplicate: int
    """Samples that the gate dropped as duplicates."""
    kept: int
    """Samples that the gate kept."""
    target: int | None = None
    reasons: list[tuple[str, int]] = field(default_factory=list)
    """Why samples are not ok, the commonest first."""
    ended: str | None = None
    """Why it made fewer than its target."""


@dataclass(frozen=True)
class StageCost:
    """Time and cost of one stage; `cost_usd` None where a price is unknown."""

    stage: str
    seconds: float
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    reused: int


@dataclass(frozen=True)
class LedgerLine:
    """Cost of the replies of one run, teacher and recipe; a row of the view `ledger`."""

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
    """The content of a report."""

    run_id: str
    plan_name: str
    plan_hash: str
    created_at: str
    plan: dict[str, Any]
    versions: dict[str, str]
    ids: dict[str, str]
    evaluation: Evaluation
    funnel: list[FunnelStep]
    recipes: list[RecipeLine]
    drop_reasons: list[tuple[str, int]]
    losses: list[dict[str, float]]
    stages: list[StageCost]
    ledger: list[LedgerLine]
    audit: dict[str, Any]
    notes: list[str]
    protocol: list[str]
    curation: Curation = field(default_factory=Curation)

    @property
    def comparisons(self) -> list[Comparison]:
        """All contestants, benchmark by benchmark."""
        return self.evaluation.comparisons


def render_html(report: Report) -> str:
    """One self-contained HTML page, light and dark, printable, readable without its script."""
    return _render("report.html.j2", report)


def render_markdown(report: Report) -> str:
    """The same in short as GitHub-flavoured Markdown; passages and the explorer are left out."""
    return _render("report.md.j2", report)


def to_plain(value: Any) -> dict[str, Any]:
    """A dataclass as JSON-able values: printable texts, None for what is not finite."""
    plain: dict[str, Any] = _plain(dataclasses.asdict(value))
    return plain


def to_json(report: Report) -> dict[str, Any]:
    """All figures and texts as JSON-able values, each comparison with its verdict, its warnings
    and the student against each control."""
    plain = to_plain(report)
    evaluation = plain["evaluation"]
    for comparison_json, comparison in zip(
        evaluation["comparisons"], report.comparisons, strict=True
    ):
        comparison_json["verdict"] = whole_verdict(comparison)
        comparison_json["warnings"] = [*form_warning(comparison), *warnings(comparison)]
        comparison_json["controls"] = [
            {**to_plain(result), "beaten": result.beaten}
            for result in compare_with_controls(comparison)
        ]
        comparison_json["fine_tune"] = fine_tune(comparison)
    if report.evaluation.ship:
        evaluation["ship"]["ships"] = report.evaluation.ship.ships
    return plain


def render_training(audit: dict[str, Any], losses: list[dict[str, float]]) -> str:
    """Render the audit and the loss curve alone, as Markdown."""
    return render("training.md.j2", **_training(audit, losses))


def _training(audit: dict[str, Any], losses: list[dict[str, float]]) -> dict[str, Any]:
    return {"saw": summarize_audit(audit), "curve": loss_curve(losses), "losses": losses}


def _render(template: str, report: Report) -> str:
    from markupsafe import Markup

    script = (TEMPLATES / "explorer.js").read_text(encoding="utf-8")
    trained = bool(report.audit or report.losses)
    present = {
        "notes": bool(report.notes),
        "funnel": bool(report.funnel),
        "quality": bool(report.funnel),
        "trainer": trained,
        "training": trained,
    }
    return render(
        template,
        report=report,
        script=Markup(script),
        policy=policy_for(script),
        present=present,
        **template_values(report.evaluation, [place for place, has in present.items() if not has]),
        **_training(report.audit, report.losses),
        plan=as_toml(report.plan),
    )


def verbatim(text: str) -> str:
    """A text as a block of Markdown code, which no text can end; blank lines stay."""
    return "\n".join(f"    {line}" for line in text.split("\n"))


def render(template: str, **values: Any) -> str:
    """Render a template of `distill/report/templates`, with the filters that all of them use.

    HTML is escaped. In Markdown, runs of blank lines become a single one.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    is_html = template.endswith(".html.j2")
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=is_html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "cell": as_cell,
        "verbatim": verbatim,
        "interval": interval_text,
        "points": points,
        "span": span_text,
        "p": p_text,
        "metric": metric_name,
        "number": number_text,
        "counted": format_count,
        "cost": cost_text,
        "duration": duration_text,
        "shown": value_text,
        "fence": fence_for,
        **FILTERS,
    }
    text = printable(environment.get_template(template).render(**values))
    return text if is_html else re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def printable(text: str) -> str:
    """A text that any file can hold: lone surrogates and control characters are replaced."""
    encodable = text.encode("utf-8", "replace").decode("utf-8")
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", "\ufffd", encodable)


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
    """Escape a text for one Markdown table cell or list line."""
    escaped = re.sub(r"([\\`*_\[\]|~#$!])", r"\\\1", str(text).strip())
    escaped = escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    escaped = escaped.replace("://", r":\//")
    escaped = re.sub(r"^([-+=]|\d+(?=[.)](?:\s|$)))", _first, escaped)
    return "<br>".join(line.strip() for line in escaped.splitlines()) or "(empty)"


def _first(match: re.Match[str]) -> str:
    return f"&#{ord(match[0][0])};{match[0][1:]}"


def fence_for(text: str) -> str:
    """A code fence longer than any run of backticks in the text."""
    runs = [len(run) for run in re.findall(r"`+", text)]
    return "`" * max(3, *(length + 1 for length in runs), 3)


def interval_text(interval: Interval | None) -> str:
    """A score and its interval in percent, or a dash."""
    if interval is None:
        return "–"
    return f"{points(interval.value)} % ({points(interval.low)} to {points(interval.high)})"


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
