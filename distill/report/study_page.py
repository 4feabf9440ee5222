"""Render the pages of the scaling study and the imitation study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from distill.evaluation.imitation import Contrast
from distill.evaluation.scaling import Scaling
from distill.report.plots import scaling_plot
from distill.report.report import render
from warehouse.errors import PlanError
from warehouse.records import Sample, make_id
from warehouse.wording import format_count


@dataclass(frozen=True)
class Setup:
    """What the students of an imitation study were trained on."""

    teacher: str
    base: str
    same_model: bool
    """Whether teacher and base are one model."""
    examples: dict[str, int]
    """Kind of data -> worked examples that the teacher saw before each question."""
    seeds: list[int]
    sources: dict[str, str]
    """Kind of data -> its questions: a data set's name or a file."""
    replies: dict[str, int]
    """Kind of data -> replies that the gate chose from."""
    kept: dict[str, int]
    """Kind of data -> replies that the gate keeps; of these as many are used as `tokens` allow."""
    dropped: dict[str, str]
    """Kind of data -> the commonest reasons why replies are dropped, with numbers."""
    tokens: dict[str, int]
    """Kind of data -> supervised tokens of an epoch."""
    left_out: list[str]
    """Scorers that no broad question can meet, so that neither kind of data is gated by them."""

    @property
    def caveat(self) -> str:
        """What the contrast cannot say; empty where the teacher is another model."""
        if not self.same_model:
            return ""
        shown = any(self.examples.values())
        more = "knows what its worked examples show and nothing else" if shown else "knows nothing"
        return (
            f"Teacher and base are the same model ({self.base}): the teacher {more} beyond the base. "
            "So this contrast says little about imitation of a stronger model: name another one with "
            "--teacher."
        )

    def describe_data(self, kind: str, rows: int) -> str:
        """A kind of data: questions, replies, what the gate keeps, what is used."""
        replies, kept = self.replies[kind], self.kept[kind]
        text = f"{self.sources[kind]}: {format_count(replies, 'reply', 'replies')}, {kept:,} kept"
        if self.dropped[kind]:
            text += f" ({self.dropped[kind]})"
        text += f", {rows:,} used: {format_count(self.tokens[kind], 'supervised token')} an epoch"
        if examples := self.examples[kind]:
            text += f"; the teacher saw {format_count(examples, 'worked example')} before each"
        return text


NO_CONTROLS = (
    "base+fewshot, control:copy and control:majority are not part of a study: the report of "
    "`distill run` on this plan compares its student with them."
)


@dataclass(frozen=True)
class Study:
    """The content of a study's page."""

    kind: str
    """scaling | imitation."""
    run_id: str
    plan_name: str
    plan_hash: str
    rows: dict[str, int]
    """Student -> rows that it was trained on."""
    scaling: list[Scaling] = field(default_factory=list)
    contrasts: list[Contrast] = field(default_factory=list)
    setup: Setup | None = None
    notes: list[str] = field(default_factory=list)
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def caveats(self) -> list[str]:
        """What the study leaves out."""
        once = "Each share was trained with one seed: another seed may move a point of the curve."
        return [*([once] if self.scaling else []), NO_CONTROLS]


def read_shares(shares: Sequence[str]) -> list[float]:
    """Shares as typed: "25,50,100" in percent, or "0.25"; sorted.

    Raises:
        PlanError: fewer than three, from which no curve can be told, or one that is no share.
    """
    values = set()
    for text in (part.strip() for words in shares for part in words.split(",")):
        try:
            value = float(text.removesuffix("%"))
        except ValueError:
            raise PlanError(
                f"--shares takes percents, for example 25,50,100, not '{text}'"
            ) from None
        value = value / 100 if value > 1 or text.endswith("%") else value
        if not 0 < value <= 1:
            raise PlanError(f"--shares: '{text}' is not above 0 and at most 100 %")
        values.add(value)
    if len(values) < 3:
        raise PlanError("--shares takes at least three, for example --shares 25,50,100")
    return sorted(values)


def share_of(kept: Sequence[Sample], share: float) -> list[Sample]:
    """A share of the selection, chosen by hash, so that smaller shares are parts of larger ones."""
    ordered = sorted(kept, key=lambda sample: make_id("share", sample.sample_id))
    return ordered[: max(1, round(share * len(kept)))]


def render_html(study: Study) -> str:
    """One self-contained page without a script."""
    plots = [(line, scaling_plot(line)) for line in study.scaling]
    return render("study.html.j2", study=study, scalings=plots)


def render_markdown(study: Study) -> str:
    """The same as Markdown."""
    return render("study.md.j2", study=study)
