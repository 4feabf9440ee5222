"""Run the generate stage: recipes make prompts, the teacher replies, replies become samples."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from datagen.engine import Engine
from datagen.recipe import Recipe
from datagen.seed_outcome import SeedOutcome
from distill.plan.plan import Plan
from distill.plan.preflight import (
    check_sampling,
    refuse_bounds_without_data,
    refuse_recipes_without_samples,
    summarize_documents,
    summarize_sources,
)
from flows.runtime.failures import commonest_reason
from flows.runtime.progress import Meter, meter, say
from flows.runtime.run import RunContext, open_run
from flows.stages.imports import record_imports
from flows.stages.known_prompts import (
    count_prompts,
    is_counted_ahead,
    refuse_prompts_as_benchmark,
)
from flows.stages.recipe_run import (
    RecipeRun,
    cut_to_target,
    live_seeds,
    replay_engine,
    run_here,
)
from flows.stages.sample_lists import find_sample_list, keep_sample_list, listed_ids
from flows.stages.sample_set import BLOCK, SampleSet, batched
from flows.stages.tally import Tally
from flows.stages.teacher_client import NOT_STORED, TeacherClient
from quality.review.decisions import with_edits
from warehouse.db.store import Store
from warehouse.errors import (
    BudgetReached,
    NothingToDoError,
    RecipeError,
    TeacherUnusable,
    TooExpensive,
)
from warehouse.records import Failure, Sample, Score
from warehouse.wording import format_count


def generate(plan_path: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Request the replies that the plan's recipes need and that are not recorded yet.

    Raises:
        NothingToDoError: there are replies, and none can be trained on.
    """
    with open_run(plan_path, overrides, "generate") as context:
        outcome = generate_stage(context)
        if outcome.is_useless and not context.store.read(Score, "scorer = 'human'"):
            raise NothingToDoError(
                f"none of {format_count(outcome.samples, 'reply')} can be trained on: "
                f"{outcome.why_unusable}; received replies are saved, `distill show samples` shows them"
            )
        counts = context.result("calls_made", "calls_reused", "samples", "failures")
        met = [tally.is_target_met for tally in outcome.tallies if tally.target is not None]
        of_targets = {"target_met": all(met)} if met else {}
        return {**counts, **of_targets, "recipes": context.run.summary["recipes"]}


def generate_stage(context: RunContext) -> GenerateOutcome:
    """Seeds -> calls -> samples, for every recipe of the plan, one shard after the other."""
    plan = context.plan
    with context.stage("generate"), TeacherClient(context) as client:
        refuse_recipes_without_samples(plan)
        refuse_bounds_without_data(plan)
        refuse_prompts_as_benchmark(plan)
        context.tell(check_sampling(plan))
        context.tell(note for found in summarize_sources(plan) for note in found.notes)
        documents = summarize_documents(plan)
        for each in documents:
            context.tell([*each.dropped_lines(), *each.skipped_lines()])
        record_imports(context)
        outcome = GenerateOutcome(count_prompts(plan))
        grows = any(not is_counted_ahead(recipe) for recipe in plan.datagen.recipe)
        engine = Engine(
            identity=plan.teacher.identity,
            teacher=plan.teacher,
            sampling=plan.datagen.sampling,
            longest=plan.datagen.longest,
            folder=plan.folder,
            budget=context.budget,
            ledger=client,
            run_id=context.run.run_id,
            window=live_seeds(plan),
        )
        try:
            with meter("asking the teacher", outcome.prompts, grows) as progress:
                for recipe in plan.datagen.recipe:
                    _run_recipe(context, client, engine, recipe, outcome, progress)
        finally:  # also where a budget or Ctrl-C ended it: no run is silently short
            for tally in outcome.tallies:
                if client.stopping:
                    tally.note_end("interrupted", "it was interrupted; the same command goes on")
                elif engine.reached is not None:
                    tally.note_end("budget", "the budget is reached; raise it to go on")
            context.summarize(recipes=[tally.as_json() for tally in outcome.tallies])
            for line in (line for tally in outcome.tallies for line in tally.lines()):
                say(line)
            for line in (line for each in documents for line in each.shared_lines()):
                say(line)
        if engine.reached is None and not client.stopping:
            keep_sample_list(
                plan, context.store, list(outcome.sample_ids), outcome.calls, outcome.tallies
            )
    if engine.reached is not None and outcome.samples:
        raise engine.reached
    outcome.report()
    if engine.reached is not None:
        raise engine.reached
    return outcome


STORED_AT_ONCE = 8192
"""Seeds whose prompts and samples are stored together: a write costs as much as some hundred rows.
Replies are safe long before it, each in the spool when it arrives."""
STORED_EVERY_S = 30.0
"""Seconds after which they are stored, however few, so that `distill show` sees a run in progress."""


def _run_recipe(
    context: RunContext,
    client: TeacherClient,
    engine: Engine,
    recipe: Recipe,
    outcome: GenerateOutcome,
    progress: Meter,
) -> None:
    run = RecipeRun(
        context.plan,
        recipe,
        context.store,
        engine,
        lambda job: client.run_shard(job, progress),
        lambda: not client.stopping,
    )
    client.counted_ahead = is_counted_ahead(recipe)
    client.drains_late = run.is_replayed_alike
    outcome.tallies.append(run.tally)
    outcome.calls_of.append(run.call_ids)
    shards = run.shards()
    waiting: list[SeedOutcome] = []
    stored_at = time.monotonic()
    try:
        while engine.reached is None and (outcomes := next(shards, None)) is not None:
            waiting += outcomes
            run.arrived = []
            is_due = time.monotonic() - stored_at >= STORED_EVERY_S
            if is_due or len(waiting) >= STORED_AT_ONCE or not run.is_replayed_alike:
                _store(context, client, run, waiting, outcome)
                waiting, stored_at = [], time.monotonic()
    finally:
        _store(context, client, run, [*waiting, *run.arrived], outcome)
        run.arrived = []


def _store(
    context: RunContext,
    client: TeacherClient,
    run: RecipeRun,
    outcomes: Sequence[SeedOutcome],
    total: GenerateOutcome,
) -> None:
    """Store a shard's prompts, samples and finished seeds, and count them."""
    run_id, store = context.run.run_id, context.store
    client.drain()
    refused = {call.call_id for call in client.refused_by_warehouse()}
    for outcome in outcomes if refused else ():
        if refused.intersection(outcome.call_ids):
            outcome.unanswered, outcome.samples = NOT_STORED, []
    samples = [sample for outcome in outcomes for sample in outcome.samples]
    store.insert(
        [*(outcome.prompt for outcome in outcomes), *samples, *run.seed_runs(outcomes, run_id)]
    )
    faults = [
        Failure(run_id, "generate", outcome.prompt.prompt_id, outcome.fault, permanent=False)
        for outcome in outcomes
        if outcome.fault is not None
    ]
    store.insert(faults)
    context.count("failures", len(faults))
    total.add(outcomes, context.plan.gate_policy.fit_statuses)
    context.count("prompts", len(outcomes))
    context.count("samples", len({sample.sample_id for sample in samples}))
    of_run = {call_id: run for outcome in outcomes for call_id, run in outcome.call_runs}
    context.count("generate_calls", len(of_run))
    context.count("generate_reused", sum(run != run_id for run in of_run.values()))


@dataclass
class GenerateOutcome:
    """What the recipes made, the seeds that got no reply, and the unusable samples."""

    prompts: int
    tallies: list[Tally] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """Why seeds have no reply."""
    faults: list[str] = field(default_factory=list)
    """Exceptions of recipes, each of one seed."""
    answered: int = 0
    samples: int = 0
    sample_ids: dict[str, None] = field(default_factory=dict)
    """Of all recipes, in the order of their seeds."""
    calls_of: list[set[str]] = field(default_factory=list)
    """The ids of each recipe's calls."""
    unusable: Counter[str] = field(default_factory=Counter)
    """Why samples cannot be trained on, with their numbers."""

    def add(self, outcomes: Sequence[SeedOutcome], fit: Collection[str]) -> None:
        """Count the outcomes of a shard.

        Args:
            outcomes: Of the shard's seeds.
            fit: The statuses that the gate keeps.
        """
        for outcome in outcomes:
            if outcome.unanswered is not None:
                self.errors.append(outcome.unanswered)
            elif outcome.fault is not None:
                self.faults.append(f"{outcome.prompt.recipe}: {outcome.fault}")
            elif outcome.is_finished:
                self.answered += 1
            self.samples += len(outcome.samples)
            self.sample_ids.update(dict.fromkeys(s.sample_id for s in outcome.samples))
            self.unusable.update(
                s.status_reason or s.status for s in outcome.samples if s.status not in fit
            )

    def report(self) -> None:
        """Say how many prompts have no reply and which samples are unusable, and why.

        Raises:
            BudgetReached: no prompt has one, since each could cost more than the whole budget.
            TeacherUnusable: no prompt has one, for other reasons.
            RecipeError: the code of the recipes failed on every seed.
        """
        if self.unusable and not self.is_useless:
            number = f"{self.unusable.total():,} of {format_count(self.samples, 'reply')}"
            say(f"{number} cannot be trained on: {self.why_unusable}")
        if self.faults:
            reason = commonest_reason(self.faults)
            if not self.answered and not self.errors:
                number = format_count(len(self.faults), "seed")
                raise RecipeError(f"the recipe failed on all of its {number}: {reason}")
            number = format_count(len(self.faults), "seed")
            say(f"{number} failed, {reason}; `distill show failures` lists them")
        if not self.errors:
            return
        reason = commonest_reason(self.errors)
        if self.answered:
            number = format_count(len(self.errors), "prompt")
            say(f"{number} got no reply, {reason}; `distill show failures` lists them")
        elif all(error.startswith(TooExpensive.__name__) for error in self.errors):
            raise BudgetReached(reason)
        else:
            number = format_count(max(self.prompts, len(self.errors)), "prompt")
            raise TeacherUnusable(
                f"no reply to any of {number}: {reason}; `distill show failures` lists them"
            )

    @property
    def calls(self) -> int:
        """How many different calls are behind the samples."""
        first, *others = self.calls_of or [set()]
        return len(first.union(*others) if others else first)

    @property
    def is_useless(self) -> bool:
        """Whether there are replies, and none can be trained on."""
        return bool(self.samples) and self.unusable.total() == self.samples

    @property
    def why_unusable(self) -> str:
        """The commonest reasons why samples cannot be trained on."""
        return ", ".join(f"{number} x {why}" for why, number in self.unusable.most_common(3))


def load_samples(context: RunContext, counted: bool = True) -> SampleSet:
    """Load the samples of all recorded replies, as edited by humans; makes no calls.

    Args:
        context: The run.
        counted: Whether prompts, samples and reused calls are still to be counted.

    Raises:
        NothingToDoError: no reply to a prompt of the plan is recorded.
    """
    record_imports(context)
    recorded = load_recorded_samples(context.plan, context.store, writes=True)
    context.summarize(recipes=recorded.recipes)
    if counted:
        context.count("prompts", recorded.prompts)
        context.count("samples", recorded.samples)
        context.count("calls_reused", recorded.calls)
    return recorded.edited


@dataclass(frozen=True)
class RecordedSamples:
    """The recorded data of a plan: numbers of prompts, calls and samples as parsed, and the samples as
    edited."""

    prompts: int
    calls: int
    samples: int
    edited: SampleSet
    recipes: list[dict[str, Any]]
    """What each recipe made; see `Tally.as_json`."""


def load_recorded_samples(plan: Plan, store: Store, writes: bool = False) -> RecordedSamples:
    """Load the samples of a plan's recorded replies; few are in memory at once.

    Args:
        plan: The plan.
        store: Its warehouse.
        writes: Whether samples that it lacks are stored.

    Raises:
        NothingToDoError: no reply to a prompt of the plan is recorded.
    """
    human = store.read(Score, "scorer = 'human'")
    if known := find_sample_list(plan, store):
        ids_of_list = listed_ids(store, known)
        edited = as_edited(SampleSet(store, ids_of_list), human)
        recipes = known.facts["recipes"]
        prompts = sum(tally["seeds"] for tally in recipes)
        return RecordedSamples(prompts, known.facts["calls"], len(ids_of_list), edited, recipes)
    ids: dict[str, None] = {}
    unstored: dict[str, Sample] = {}
    used: set[str] = set()
    tallies: list[Tally] = []
    engine = replay_engine(plan, store)
    for recipe in plan.datagen.recipe:
        run = RecipeRun(plan, recipe, store, engine, run_here)
        tallies.append(run.tally)
        outcomes = (outcome for shard in run.shards() for outcome in shard)
        for samples in batched(cut_to_target(outcomes, recipe.target, run.tally, used), BLOCK):
            new = {sample.sample_id: sample for sample in samples if sample.sample_id not in ids}
            ids.update(dict.fromkeys(new))
            stored = store.known_ids(Sample, "sample_id", list(new))
            lacking = {each: sample for each, sample in new.items() if each not in stored}
            if writes:
                store.insert(list(lacking.values()))
            else:
                unstored.update(lacking)
    prompts = sum(tally.seeds for tally in tallies)
    if not ids:
        raise NothingToDoError(
            f"no reply to any of {format_count(prompts, 'prompt')} is on hand; "
            f"run `{plan.command('generate')}` first"
        )
    if writes:
        keep_sample_list(plan, store, list(ids), len(used), tallies)
    edited = as_edited(SampleSet(store, list(ids), unstored), human)
    recipes = [tally.as_json() for tally in tallies]
    return RecordedSamples(prompts, len(used), len(ids), edited, recipes)


def as_edited(samples: SampleSet, human: Sequence[Score]) -> SampleSet:
    """The samples, with those that humans edited replaced by the edits."""
    if not human:
        return samples
    edits = [str(to) for score in human if (to := (score.details or {}).get("edited_to"))]
    known = samples.store.known_ids(Sample, "sample_id", edits)
    return samples.of(with_edits(samples.ids, human, known))
