"""Run a whole plan in one flow: generate, curate, train, evaluate, report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distill.plan.preflight import check_evaluation
from flows.runtime.run import RunContext, open_run
from flows.stages.curate import curate_stage
from flows.stages.evaluate import evaluate_and_report
from flows.stages.generate import generate_stage, load_samples
from flows.stages.known_prompts import refuse_prompts_as_benchmark
from flows.stages.report import report_data
from flows.stages.train import check_training_inputs, train_seeds


def end_to_end(plan_path: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Run every stage; recorded results are reused.

    Returns:
        run_id, plan_hash, calls_made, calls_reused, samples, kept, failures, report_path and, where
        the plan has [train], student_path and per contestant its metrics and n.
    """
    with open_run(plan_path, overrides, "run") as context:
        if context.plan.train is None:
            return _generate_and_curate(context)
        check_evaluation(context.plan, context.store)
        refuse_prompts_as_benchmark(context.plan)
        check_training_inputs(context)
        generate_stage(context)
        curated = curate_stage(context, load_samples(context, counted=False))
        students = train_seeds(context, curated)
        return evaluate_and_report(
            context,
            students,
            curated,
            samples=len(curated.sample_set),
            kept=curated.kept_count,
            student_id=students[0].student_id,
            student_path=str(students[0].folder_in(context.home)),
        )


def _generate_and_curate(context: RunContext) -> dict[str, Any]:
    """Run a plan without [train]: its report is of the data."""
    generate_stage(context)
    curated = curate_stage(context, load_samples(context, counted=False))
    return report_data(context, curated)
