"""Measure a plan's scorers on labelled data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.runtime.progress import bar, say
from flows.runtime.run import RunContext, open_run
from flows.stages.curate import prepare_scorers
from quality.audit.labelled import LabelledSet, sets_for
from quality.audit.roc import measure
from quality.gate.policy import GatePolicy
from quality.scoring.scorer import Scorer, Unscored
from warehouse.catalog import name_of, options_of
from warehouse.db.store import Store
from warehouse.errors import (
    AssetError,
    MissingExtraError,
    ModelError,
    PlanError,
    Stopped,
    TeacherError,
)
from warehouse.records import AuditScore, Measurement, Message, Sample, Score, make_id
from warehouse.wording import format_count

_CANNOT_WORK = (AssetError, MissingExtraError, ModelError, PlanError, TeacherError)
"""Errors that say that a scorer cannot be measured here; any other ends the audit."""

_BATCH = 256
PAID_LIMIT = 50
"""Samples of a set for a scorer whose every sample is a paid request, unless another is given."""


def audit_scorers(
    plan_path: str, overrides: Sequence[str] = (), limit: int | None = None, paid: bool = False
) -> dict[str, Any]:
    """Measure every scorer of the plan on the labelled sets for it.

    Scores of labelled samples and measurements are kept, in tables of their own, so that nothing
    is scored twice and the user's samples and scores stay as they are.

    Args:
        plan_path: The plan file.
        overrides: The plan's overrides.
        limit: Samples of each set at most; for scorers that ask a model 50 where it is not given.
        paid: Measure scorers that ask a model, too.

    Returns:
        `run_id`, `plan_hash`, and `rows` for `print_audit`: one per scorer and set, and one for
        each scorer that could not be measured, whose `note` says why.
    """
    try:
        with open_run(plan_path, overrides, "audit") as context:
            rows: list[dict[str, Any]] = []
            for scorer in prepare_scorers(context):
                rows += _rows(context, scorer, limit, paid)
            return {**context.result(), "rows": rows}
    except Stopped as stop:
        resume = stop.resume.replace("distill audit", "distill curate", 1)
        raise type(stop)(stop.message, f"{resume} --audit") from None


def stored_measurements(
    store: Store, scorers: Sequence[Scorer], gate: GatePolicy
) -> list[Measurement]:
    """The recorded measurements of these scorers at the gate's bounds; for each set the one on
    most rows."""
    sets = {(name_of(scorer), measurement.name): (scorer, measurement) for scorer in scorers
            for measurement in sets_for(name_of(scorer))}  # fmt: skip
    newest: dict[tuple[str, str], Measurement] = {}
    for measurement in sorted(store.read(Measurement), key=lambda measurement: measurement.rows):
        key = (measurement.scorer, measurement.dataset)
        if key in sets and measurement.measurement_id == _id_of(*sets[key], measurement.rows, gate):
            newest[key] = measurement
    return [newest[key] for key in sets if key in newest]


def _id_of(scorer: Scorer, labelled: LabelledSet, rows: int, gate: GatePolicy) -> str:
    """The id of a measurement: scorer, rows and the gate's bound."""
    about = (name_of(scorer), scorer.version, scorer.model, options_of(scorer))
    base = Measurement.id_of(*about, f"{labelled.name}@{labelled.version}", rows)
    return make_id("audit", base, bound_of(scorer, gate))


def bound_of(scorer: Scorer, gate: GatePolicy) -> float | None:
    """The gate's bound towards the scorer's good end: the general one, else a recipe's first."""
    key = f"{name_of(scorer)}_{'max' if scorer.higher_is_better is False else 'min'}"
    several = [gate.bounds(recipe).get(key) for recipe in (None, *gate.recipe)]
    return next((bound for bound in several if bound is not None), None)


def _rows(
    context: RunContext, scorer: Scorer, limit: int | None, paid: bool
) -> Iterator[dict[str, Any]]:
    name = name_of(scorer)
    sets = sets_for(name)
    if not sets or scorer.higher_is_better is None:
        yield _skipped_row(name, None, "not measured: no labelled data set is meant for it")
        return
    if scorer.asks and not paid:
        yield _skipped_row(name, None, f"not measured: it asks the {scorer.asks}, which may cost")
        return
    messages: dict[str, list[Message]] = {}
    tools = replace(scorer.tools, prompt_messages=lambda _: messages)
    scorer = scorer.with_tools(tools if paid else replace(tools, teacher=None, judge=None))
    for labelled in sets:
        try:
            rows = labelled.rows(PAID_LIMIT if limit is None and scorer.asks else limit)
        except AssetError as error:
            yield _skipped_row(name, labelled.name, f"not measured: {error}")
            continue
        messages |= {sample.prompt_id: sample.messages for sample, _ in rows}
        try:
            yield _row(_measured(context, scorer, labelled, rows))
        except _CANNOT_WORK as error:  # on any set
            yield _skipped_row(name, None, f"not measured: {error}")
            return


def _measured(
    context: RunContext, scorer: Scorer, labelled: LabelledSet, rows: Sequence[tuple[Sample, bool]]
) -> Measurement:
    gate = context.plan.quality.gate
    measurement_id = _id_of(scorer, labelled, len(rows), gate)
    for known in context.store.by_ids(Measurement, "measurement_id", [measurement_id]):
        return known
    values, failed = _values(context, scorer, labelled.name, [sample for sample, _ in rows])
    labels = [good for _, good in rows]
    figures = measure(values, labels, scorer.higher_is_better is True, bound_of(scorer, gate))
    failures = f"it failed on {format_count(failed, 'sample')}" if failed else None
    notes = [labelled.note, scorer.note, failures]
    measurement = Measurement(
        measurement_id=measurement_id,
        scorer=name_of(scorer),
        version=scorer.version,
        model=scorer.model,
        options=options_of(scorer),
        dataset=labelled.name,
        rows=len(rows),
        figures=asdict(figures),
        note="; ".join(filter(None, notes)),
    )
    if not failed:  # what failed is tried again by the next audit
        context.store.insert([measurement])
    return measurement


def _values(
    context: RunContext, scorer: Scorer, dataset: str, samples: Sequence[Sample]
) -> tuple[list[float | None], int]:
    """The value of each sample, and on how many the scorer failed; scores are kept as they come."""
    ids = [scorer.score_id(sample) for sample in samples]
    known = {s.score_id: s.value for s in context.store.by_ids(AuditScore, "score_id", ids)}
    todo = [sample for sample, key in zip(samples, ids, strict=True) if key not in known]
    failed = []
    with bar(f"{name_of(scorer)} on {dataset}", 0 if scorer.asks else len(todo)) as advance:
        for start in range(0, len(todo), _BATCH):
            results = list(scorer.score(todo[start : start + _BATCH]))
            scores = [score for score in results if isinstance(score, Score)]
            context.store.insert([AuditScore(**vars(score)) for score in scores])
            known |= {score.score_id: score.value for score in scores}
            failed += [score for score in results if isinstance(score, Unscored)]
            advance(len(results))
    if failed:
        say(
            f"{name_of(scorer)} failed on {format_count(len(failed), 'sample')}, first: {failed[0].error}"
        )
    return [known.get(key) for key in ids], len(failed)


def _skipped_row(scorer: str, dataset: str | None, why: str) -> dict[str, Any]:
    return {"scorer": scorer, "dataset": dataset, "note": why}


def _row(measurement: Measurement) -> dict[str, Any]:
    """A measurement as a row of the table; what is not there is None."""
    figures = measurement.figures
    gate, best = figures["at_gate"] or {}, figures["best_f1"] or {}
    return {
        "scorer": measurement.scorer,
        "model": measurement.model,
        "dataset": measurement.dataset,
        "n": measurement.rows,
        "abstained": figures["abstained"],
        "auc": figures["auc"],
        "auc_low": figures["auc_low"],
        "auc_high": figures["auc_high"],
        "higher_is_better": figures["higher_is_better"],
        "threshold": figures["threshold"],
        "precision": gate.get("precision"),
        "recall": gate.get("recall"),
        "kept": gate.get("kept"),
        "best_f1_threshold": best.get("threshold"),
        "supported": {
            least: cut and cut["threshold"] for least, cut in figures["supported"].items()
        },
        "ece": figures["ece"],
        "brier": figures["brier"],
        "measurement_id": measurement.measurement_id,
        "note": measurement.note,
    }


def print_audit(result: dict[str, Any]) -> None:
    """The measurements as a table, then what a reader of them should know."""
    measured_rows = [row for row in result["rows"] if "auc" in row]
    if measured_rows:
        table = Table(title="Scorers on labelled data, half of it good", title_justify="left")
        for name in ("scorer", "data", "n", "no value", "AUC (95 %)", "bound", "precision",
                     "recall", "best F1 at", "P 0.9 at", "P 0.95 at", "ECE"):  # fmt: skip
            left = name in ("scorer", "data")
            table.add_column(
                name, justify="left" if left else "right", no_wrap=left or name[:3] == "AUC"
            )
        for row in measured_rows:
            sign = "≥" if row["higher_is_better"] else "≤"
            area = "-" if row["auc"] is None else f"{row['auc']:.3f}"
            if row["auc"] is not None:
                area += f" ({row['auc_low']:.3f}-{row['auc_high']:.3f})"
            bounds = (row["threshold"], row["best_f1_threshold"], *row["supported"].values())
            bound, *others = ("-" if at is None else f"{sign} {at:.3g}" for at in bounds)
            figures = (_two(row["precision"]), _two(row["recall"]), *others, _two(row["ece"]))
            table.add_row(
                Text(row["scorer"]), Text(row["dataset"]), str(row["n"]), str(row["abstained"]),
                area, bound, *figures,
            )  # fmt: skip
        Console(width=max(Console().width, 160)).print(table)
    for row in result["rows"]:
        name = f"{row['scorer']} on {row['dataset']}" if row["dataset"] else row["scorer"]
        by = f" (by {row['model']})" if row.get("model", "rule") != "rule" else ""
        print(f"{name}{by}: {row['note']}")


def _two(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
