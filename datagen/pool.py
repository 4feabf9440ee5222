"""Let examples of a round join the pool of a recipe that draws its seeds from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from datagen.recipe import Example, PoolRecipe
from datagen.seed_outcome import SeedOutcome
from warehouse.records import Sample


def admit(recipe: PoolRecipe, outcomes: Sequence[SeedOutcome], pool: list[Example]) -> None:
    """Add the ok samples of a round to the pool, in the order of their seeds.

    One that may not join becomes an invalid sample with the reason. Changes `pool` and the
    samples of `outcomes`.
    """
    for outcome in outcomes:
        judged: list[Sample] = []
        for sample in outcome.samples:
            if sample.status == "ok":
                made = _example_of(sample)
                why = recipe.admit(made, pool)
                if why is None:
                    pool.append(made)
                else:
                    sample = replace(sample, status="invalid", status_reason=why)
            judged.append(sample)
        outcome.samples = judged


def _example_of(sample: Sample) -> Example:
    return Example(
        messages=sample.messages,
        completion=sample.completion,
        question=sample.question,
        reference=sample.reference,
        passage=sample.passage,
        facts=sample.facts or {},
    )
