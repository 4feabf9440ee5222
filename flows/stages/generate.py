"""Run the generate stage: recipes make prompts, the teacher replies, replies become samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from datagen.generate import samples_of
from datagen.teacher import Request
from distill.plan.plan import Plan
from distill.plan.preflight import (
    check_sampling,
    refuse_bounds_without_data,
    refuse_prompts_as_benchmark,
    summarize_sources,
)
from flows.runtime.failures import commonest_reason
from flows.runtime.paid_calls import load_paid_calls
from flows.runtime.progress import Meter, meter, say
from flows.runtime.run import RunContext, open_run
from flows.stages.estimate import prompts_of, request_of
from flows.stages.teacher_client import TeacherClient
from quality.review.decisions import with_edits
from warehouse.db.store import Store
from warehouse.errors import BudgetReached, NothingToDoError, TeacherUnusable, TooExpensive
from warehouse.records import Call, Prompt, Sample, Score
from warehouse.text.finish_reasons import is_cut
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
        return context.result("calls_made", "calls_reused", "samples", "failures")


def generate_stage(context: RunContext) -> GenerateOutcome:
    """Prompts -> calls -> samples, for every recipe of the plan, one shard after the other."""
    with context.stage("generate"), TeacherClient(context) as client:
        refuse_bounds_without_data(context.plan)
        refuse_prompts_as_benchmark(context.plan)
        context.tell(check_sampling(context.plan))
        context.tell(note for found in summarize_sources(context.plan) for note in found.notes)
        fit = context.plan.gate_policy.fit_statuses
        total = sum(1 for _ in prompts_of(context.plan))
        outcome = GenerateOutcome(total)
        with meter("asking the teacher", total) as progress:
            for part in _shards(context.plan):
                context.store.insert([prompt for _, prompt in part])
                calls = _request_replies(context, client, part, progress, outcome)
                samples = _samples(part, calls)
                context.store.insert(samples)
                outcome.unusable.update(
                    s.status_reason or s.status for s in samples if s.status not in fit
                )
                outcome.samples += len(samples)
                context.count("prompts", len(part))
                context.count("samples", len(samples))
                distinct = {call.call_id: call.run_id for call in calls.values()}
                context.count("generate_calls", len(distinct))
                reused = sum(run != context.run.run_id for run in distinct.values())
                context.count("generate_reused", reused)
    outcome.report()
    return outcome


@dataclass
class GenerateOutcome:
    """The prompts that got no reply, with the errors of their requests, and the unusable samples."""

    prompts: int
    errors: dict[str, str] = field(default_factory=dict)
    answered: int = 0
    samples: int = 0
    unusable: Counter[str] = field(default_factory=Counter)
    """Why samples cannot be trained on, with their numbers."""

    def report(self) -> None:
        """Say how many prompts have no reply and how many samples are unusable, and why.

        Raises:
            BudgetReached: no prompt has one, since each could cost more than the whole budget.
            TeacherUnusable: no prompt has one, for other reasons.
        """
        if self.unusable and not self.is_useless:
            number = f"{self.unusable.total():,} of {format_count(self.samples, 'reply')}"
            say(f"{number} cannot be trained on: {self.why_unusable}")
        if not self.errors:
            return
        reason = commonest_reason(self.errors.values())
        if self.answered:
            number = format_count(len(self.errors), "prompt")
            say(f"{number} got no reply, {reason}; `distill show failures` lists them")
        elif all(error.startswith(TooExpensive.__name__) for error in self.errors.values()):
            raise BudgetReached(reason)
        else:
            raise TeacherUnusable(
                f"no reply to any of {format_count(self.prompts, 'prompt')}: {reason}; "
                "`distill show failures` lists them"
            )

    @property
    def is_useless(self) -> bool:
        """Whether there are replies, and none can be trained on."""
        return bool(self.samples) and self.unusable.total() == self.samples

    @property
    def why_unusable(self) -> str:
        """The commonest reasons why samples cannot be trained on."""
        return ", ".join(f"{number} x {why}" for why, number in self.unusable.most_common(3))


def load_samples(context: RunContext, counted: bool = True) -> list[Sample]:
    """Load the samples of all recorded replies, as edited by humans; makes no calls.

    Args:
        context: The run.
        counted: Whether prompts, samples and reused calls are still to be counted.

    Raises:
        NothingToDoError: no reply to a prompt of the plan is recorded.
    """
    recorded = load_recorded_samples(context.plan, context.store)
    context.store.insert(recorded.samples)
    if counted:
        context.count("prompts", recorded.prompts)
        context.count("samples", len(recorded.samples))
        context.count("calls_reused", recorded.calls)
    return recorded.edited


@dataclass(frozen=True)
class RecordedSamples:
    """The recorded data of a plan: numbers of prompts and calls, samples as parsed and as edited."""

    prompts: int
    calls: int
    samples: list[Sample]
    edited: list[Sample]


def load_recorded_samples(plan: Plan, store: Store) -> RecordedSamples:
    """Load the samples of a plan's recorded replies; writes nothing.

    Raises:
        NothingToDoError: no reply to a prompt of the plan is recorded.
    """
    samples_by_id: dict[str, Sample] = {}
    used: set[str] = set()
    prompts = 0
    for part in _shards(plan):
        requests = {prompt.prompt_id: request_of(plan, prompt) for _, prompt in part}
        calls = _by_prompt(requests, _paid(plan, store, list(requests.values())))
        samples_by_id.update((sample.sample_id, sample) for sample in _samples(part, calls))
        used |= {call.call_id for call in calls.values()}
        prompts += len(part)
    if not samples_by_id:
        raise NothingToDoError(
            f"no reply to any of {format_count(prompts, 'prompt')} is on hand; "
            f"run `{plan.command('generate')}` first"
        )
    samples = list(samples_by_id.values())
    return RecordedSamples(prompts, len(used), samples, as_edited(store, samples))


def as_edited(store: Store, samples: Sequence[Sample]) -> list[Sample]:
    """The samples, with those that humans edited replaced by the edits."""
    human = store.read(Score, "scorer = 'human'")
    edits = [str(to) for score in human if (to := (score.details or {}).get("edited_to"))]
    by_id = {sample.sample_id: sample for sample in store.by_ids(Sample, "sample_id", edits)}
    return with_edits(samples, human, by_id)


Part = list[tuple[Any, Prompt]]
"""Prompts with the recipe that each is of."""


def _shards(plan: Plan) -> Iterator[Part]:
    prompts = prompts_of(plan)
    size = max(plan.datagen.shard, getattr(plan.teacher, "asks_at_once", 1))
    while part := list(islice(prompts, size)):
        yield part


def _request_replies(
    context: RunContext,
    client: TeacherClient,
    part: Part,
    progress: Meter,
    outcome: GenerateOutcome,
) -> dict[str, Call]:
    """Calls by prompt id; truncated replies are requested again with `datagen.longest`, if set."""
    requests = {prompt.prompt_id: request_of(context.plan, prompt) for _, prompt in part}
    results = client.ask(list(requests.values()), "generate", progress)
    calls = results.calls
    outcome.answered += len(calls)
    outcome.errors |= results.refused
    outcome.errors |= {call_id: failure.error for call_id, failure in results.failures.items()}
    longer = _longer(context.plan, list(requests.values()), calls)
    if longer:
        progress.more(len(longer))
        calls |= client.ask(longer, "generate", progress).calls
    return _by_prompt(requests, calls)


def _longer(plan: Plan, requests: Sequence[Request], calls: Mapping[str, Call]) -> list[Request]:
    """Requests whose reply was cut off, with the larger limit; none without `datagen.longest`."""
    limit = plan.datagen.longest
    if limit is None:
        return []
    cut = {call_id for call_id, call in calls.items() if is_cut(call.finish_reason)}
    return [
        replace(request, sampling=replace(request.sampling, max_tokens=limit))
        for request in requests
        if request.call_id in cut
    ]


def _paid(plan: Plan, store: Store, requests: Sequence[Request]) -> dict[str, Call]:
    calls = load_paid_calls(store, plan.teacher, requests)
    return calls | load_paid_calls(store, plan.teacher, _longer(plan, requests, calls))


def _by_prompt(requests: Mapping[str, Request], calls: Mapping[str, Call]) -> dict[str, Call]:
    return {
        prompt_id: calls[request.call_id]
        for prompt_id, request in requests.items()
        if request.call_id in calls
    }


def _samples(part: Part, calls: Mapping[str, Call]) -> list[Sample]:
    samples: dict[str, Sample] = {}
    for recipe, prompt in part:
        for sample in samples_of(recipe, [prompt], calls):
            samples.setdefault(sample.sample_id, sample)
    return list(samples.values())
