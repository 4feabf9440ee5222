"""A small world under review: a plan whose samples are generated, scored and chosen from."""

from __future__ import annotations

from datetime import UTC, datetime

from distill.plan.plan import load_plan
from flows.review.session import Session
from flows.stages.known_prompts import prompts_of
from tests.support.plans import rows, write_rows
from warehouse.catalog import options_of
from warehouse.db.store import Store
from warehouse.records import Choice, Run, Sample, Score

NASTY = "<script>document.title='taken'</script><img src=x onerror=alert(1)>\u202e ‮اللون\x07"
PLAN = """
name = "animals"
warehouse = "w.duckdb"
[teacher]
use = "scripted"
default = "blue"
[[datagen.recipe]]
use = "imitation"
prompts = "prompts.jsonl"
[quality]
scorers = [{ use = "grounded" }]
gate = { grounded_min = 0.5 }
"""


def write_world(folder, values=(0.9, 0.4, 0.6, None), completions=(), name="plan.toml"):
    """A plan whose samples are generated, scored and chosen from; answers its path and samples."""
    path = folder / name
    path.write_text(PLAN)
    write_rows(folder / "prompts.jsonl", rows(0, len(values)))
    plan = load_plan(path)
    grounded = plan.quality.scorers[0]
    made = []
    for number, ((_, prompt), value) in enumerate(zip(prompts_of(plan), values, strict=True)):
        text = completions[number] if number < len(completions) else prompt.reference[0]
        sample = Sample.of(
            prompt, call_ids=[f"call{number}"], recipe_version="1", completion=text, status="ok"
        )
        options = options_of(grounded)
        why = "no passage" if value is None else "overlap of words"
        score = Score(
            Score.id_of(sample.sample_id, "grounded", grounded.version, "rule", options),
            sample.sample_id, "grounded", grounded.version, "rule", options, value, why,
        )  # fmt: skip
        reasons = [] if value and value >= 0.5 else ["grounded below 0.5"]
        choice = Choice(
            "selection", sample.sample_id, not reasons, reasons[0] if reasons else "kept", reasons
        )
        made.append((sample, score, choice))
    run = Run(
        "run", plan.name, plan.plan_hash, plan.as_json(), "completed", None, {},
        {"verb": "curate", "selection_id": "selection"}, datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    store(folder).insert([run, *(record for records in made for record in records)])
    return path, [sample for sample, _, _ in made]


def store(folder):
    return Store((folder / "w.duckdb").resolve())


def session_of(folder, path, **options):
    return Session(load_plan(path), store(folder), **options)


def names(session):
    return [sample.sample_id for sample in session.samples]
