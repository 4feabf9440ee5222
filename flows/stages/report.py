"""Gather what a run left in the warehouse into its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import TypeAdapter

from datagen.spending.pricing import total_usd
from distill.evaluation.findings import Evaluation
from distill.evaluation.scaling import Scaling
from distill.report.curation_section import Chosen, Curation, curation_of
from distill.report.kept_right import NO_TEXTS, references_held
from distill.report.report import (
    FunnelStep,
    LedgerLine,
    RecipeLine,
    Report,
    StageCost,
    render_html,
    render_markdown,
    to_json,
)
from flows.runtime.artifacts import Artifacts
from flows.runtime.run import RunContext, as_json
from flows.stages.curated import Curated
from flows.stages.sample_set import SampleSet
from flows.stages.scorer_audit import stored_measurements
from quality.review.decisions import agreement
from warehouse.catalog import name_of
from warehouse.records import Run, Sample, Student


def write_report(
    context: RunContext, curated: Curated | None, student: Student | None, evaluation: Evaluation
) -> dict[str, Path]:
    """Write report.html, report.md and report.json into `runs/<run>/`; returns the paths."""
    report = gather(context, curated, student, evaluation)
    markdown = render_markdown(report)
    Artifacts(context.plan.name).page("report", markdown)
    return write_pages(context, "report", render_html(report), markdown, to_json(report))


def report_data(context: RunContext, curated: Curated) -> dict[str, Any]:
    """Write the report of a run without a student, and summarize the run."""
    paths = write_report(context, curated, None, Evaluation([]))
    result = {
        **context.result("calls_made", "calls_reused", "failures"),
        "samples": len(curated.sample_set),
        "kept": curated.kept_count,
        "report_path": str(paths["html"]),
    }
    context.summarize(**result)
    return result


def write_pages(
    context: RunContext, name: str, html: str, markdown: str, data: dict[str, Any]
) -> dict[str, Path]:
    """Write NAME.html, NAME.md and NAME.json into `runs/<run>/`; returns the paths by suffix."""
    folder = context.home / "runs" / context.run.run_id
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"html": html, "md": markdown, "json": as_json(data)}
    paths = {suffix: folder / f"{name}.{suffix}" for suffix in texts}
    for suffix, path in paths.items():
        path.write_text(texts[suffix], encoding="utf-8")
    return paths


def gather(
    context: RunContext, curated: Curated | None, student: Student | None, evaluation: Evaluation
) -> Report:
    """One run's records as a report; makes no calls.

    Sections on a selection or a student are left out where there is none.
    """
    reasons = curated.reasons if curated else Counter[str]()
    ids = {"selection": student.selection_id, "student": student.student_id} if student else {}
    return Report(
        run_id=context.run.run_id,
        plan_name=context.plan.name,
        plan_hash=context.plan.plan_hash,
        created_at=f"{context.run.started_at:%Y-%m-%d %H:%M} UTC",
        plan=context.plan.as_json(),
        versions=context.run.versions,
        ids={
            "run": context.run.run_id,
            **ids,
            "git commit": context.run.git_sha or "not in a git checkout",
        },
        evaluation=replace(evaluation, scaling=_scaling(context)),
        funnel=_funnel(context, curated) if curated else [],
        recipes=_recipes(context, curated) if curated else [],
        drop_reasons=[(why, count) for why, count in reasons.most_common() if why != "kept"],
        losses=student.losses if student else [],
        stages=_stages(context, student),
        ledger=_ledger(context, student.selection_id if student else ""),
        audit=student.audit if student else {},
        notes=list(dict.fromkeys([*context.notes, *context.oddity_notes()])),
        protocol=context.protocol,
        curation=_curation(context, curated) if curated else Curation(),
    )


def _funnel(context: RunContext, curated: Curated) -> list[FunnelStep]:
    counts = context.counts
    failed = f"replies on hand; {counts.get('failures', 0)} failures in this run"
    return [
        FunnelStep("prompts", counts.get("prompts", 0), "asked of the teacher by the recipes"),
        FunnelStep("calls", counts.get("generate_calls", 0), failed),
        FunnelStep("samples", counts.get("samples", 0), "parsed from replies"),
        FunnelStep("kept", curated.kept_count, "chosen by the gate"),
    ]


def _recipes(context: RunContext, curated: Curated) -> list[RecipeLine]:
    """What became of everything that each recipe asked, from the tallies of this run's replay."""
    rows = curated.sample_set.frame("recipe").with_columns(
        curated.choice_rows["kept"], curated.choice_rows["reason"]
    )
    repeated = (~pl.col("kept") & pl.col("reason").str.contains("duplicate", literal=True)).sum()
    by_name = rows.group_by("recipe").agg(pl.col("kept").sum(), repeated.alias("duplicate"))
    kept = Counter(dict(by_name.select("recipe", "kept").iter_rows()))
    duplicate = Counter(dict(by_name.select("recipe", "duplicate").iter_rows()))
    by_recipe: dict[str, list[dict[str, Any]]] = {}
    for tally in context.run.summary.get("recipes", []):
        by_recipe.setdefault(tally["recipe"], []).append(tally)
    return [
        _recipe_line(recipe, tallies, kept[recipe], duplicate[recipe])
        for recipe, tallies in by_recipe.items()
    ]


def _recipe_line(
    recipe: str, tallies: Sequence[dict[str, Any]], kept: int, duplicate: int
) -> RecipeLine:
    """All recipes of one name together: their samples are not told apart."""

    def total(*names: str) -> int:
        return sum(tally[name] for tally in tallies for name in names)

    reasons: Counter[str] = Counter()
    for tally in tallies:
        reasons.update(tally["reasons"])
    ended = [
        tally["ended"]
        for tally in tallies
        if tally["ended"] and (tally["target_met"] is False or tally["end"] == "max_calls")
    ]
    return RecipeLine(
        recipe=recipe,
        seeds=total("seeds"),
        calls=total("calls"),
        without_samples=total("unanswered", "failed", "unfinished"),
        ok=total("ok"),
        refused=total("refused"),
        truncated=total("truncated"),
        invalid=total("invalid"),
        duplicate=duplicate,
        kept=kept,
        target=sum(tally["target"] or 0 for tally in tallies) or None,
        reasons=reasons.most_common(3),
        ended="; ".join(ended) or None,
    )


def _curation(context: RunContext, curated: Curated) -> Curation:
    models = {name_of(scorer): scorer.model for scorer in curated.scorers}
    gate = context.plan.quality.gate
    bounds = {key: b for recipe in (*gate.recipe, None) for key, b in gate.bounds(recipe).items()}
    known = stored_measurements(context.store, curated.scorers, gate)
    samples, scores = curated.decided_here()
    agreed = agreement(samples, scores, bounds)
    judges = [name_of(scorer) for scorer in curated.scorers if scorer.judges_answers]
    choices = curated.choice_rows.with_row_index("row")
    chosen = Chosen(
        choices, curated.score_frames(), _references(curated.sample_set), _samples_of(curated)
    )
    return curation_of(chosen, models, bounds, known, agreed, judges)


def _samples_of(curated: Curated) -> Callable[[Sequence[str]], dict[str, Sample]]:
    def read(ids: Sequence[str]) -> dict[str, Sample]:
        return {sample.sample_id: sample for sample in curated.sample_set.of(ids).all()}

    return read


def _references(samples: SampleSet) -> pl.DataFrame:
    """Which samples that have a reference hold it; see `distill.report.kept_right`."""
    found = [
        references_held(frame)
        for frame in samples.frames("completion", "reference", "passage", "question")
    ]
    return pl.concat(found) if found else references_held(NO_TEXTS)


_PAID_BY = """
SELECT l.* FROM ledger l WHERE l.run_id = ? OR l.run_id IN (
  SELECT c.run_id FROM calls c SEMI JOIN (
    SELECT unnest(from_json(s.call_ids, '["VARCHAR"]')) AS call_id
    FROM samples s JOIN choices d USING (sample_id) WHERE d.selection_id = ?
  ) used USING (call_id)
)
"""


def _scaling(context: RunContext) -> list[Scaling]:
    """The curves of the plan's newest scaling study."""
    studies = [
        run
        for run in context.store.read(Run, "plan_hash = ?", [context.plan.plan_hash])
        if run.state == "completed" and run.summary.get("scaling")
    ]
    newest = max(studies, key=lambda run: run.started_at, default=None)
    curves = TypeAdapter(list[Scaling])
    return curves.validate_python(newest.summary["scaling"]) if newest else []


def _ledger(context: RunContext, selection_id: str) -> list[LedgerLine]:
    rows = context.store.query(_PAID_BY, [context.run.run_id, selection_id]).to_dicts()
    names = [field.name for field in fields(LedgerLine)]
    return [LedgerLine(**{name: row[name] for name in names}) for row in rows]


def _stages(context: RunContext, student: Student | None) -> list[StageCost]:
    run_id = context.run.run_id
    calls = context.store.query(
        "SELECT call_id, stage, prompt_tokens, completion_tokens, cost_usd FROM calls WHERE run_id = ?",
        [run_id],
    )
    answers = context.store.query(
        "SELECT settings ->> '$.call_id' AS call_id, prompt_tokens, completion_tokens, cost_usd "
        "FROM answers WHERE run_id = ?",
        [run_id],
    )
    others = calls.join(answers.select("call_id").drop_nulls(), on="call_id", how="anti")
    scoring = others.filter(pl.col("stage").eq_missing("curate"))
    generating = others.filter(pl.col("stage").ne_missing("curate"))
    reused = student is not None and student.run_id != run_id
    spent = context.seconds
    return [
        _stage("generate", spent, generating, context.counts.get("generate_reused", 0)),
        _stage("curate", spent, scoring, 0),
        _stage("train", spent, answers.clear(), int(reused)),
        _stage("evaluate", spent, answers, context.counts.get("answers_reused", 0)),
    ]


def _stage(name: str, spent: Mapping[str, float], records: pl.DataFrame, reused: int) -> StageCost:
    return StageCost(
        stage=name,
        seconds=spent.get(name, 0.0),
        calls=len(records),
        prompt_tokens=int(records["prompt_tokens"].sum()),
        completion_tokens=int(records["completion_tokens"].sum()),
        cost_usd=total_usd(records["cost_usd"].to_list()),
        reused=reused,
    )
