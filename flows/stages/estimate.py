"""Count a plan's requests, those already paid for, and the cost of the rest, before spending."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from datagen.spending.estimate import Estimate, Experience, estimate
from datagen.spending.pricing import count_prompt_tokens, load_tokenizer
from datagen.teacher import Request, Sampling, Teacher
from distill.contestants.context import Sources
from distill.contestants.perturbed_items import perturb_items
from distill.plan.plan import Plan
from flows.runtime.paid_calls import find_paid_ids, load_paid_calls
from flows.stages.known_prompts import is_counted_ahead, prompts_of, request_of
from flows.stages.later_calls import Later
from quality.tasks.benchmark import Benchmark, Item
from warehouse.catalog import name_of
from warehouse.db.store import Store
from warehouse.records import Failure

LEARNT_FROM = 200
"""Recorded replies of the same teacher that correct the estimate."""


def estimate_of(
    plan: Plan, store: Store, verb: str = "run", others: Sequence[Plan] = ()
) -> Estimate:
    """Count prompts and held-out items, those already paid for, and the cost of the rest.

    Of recipes with several calls for each seed the next calls are counted exactly, by a replay of what
    is recorded; those after them are bounded by what the recipe says of itself, or drawn from the
    seeds that are finished.

    Args:
        plan: The plan.
        store: Its warehouse.
        verb: The verb that would be run.
        others: Plans of the same teacher whose prompts the verb asks beside the plan's own.
    """
    tokenizer = _tokenizer(plan)
    counted: list[int] = []
    limits: list[int] = []
    prompts = paid = refused = 0
    refused_for_good = {failure.subject for failure in store.read(Failure, "permanent")}
    later = Later.of((plan, *others), store) if _generates(verb) else Later()
    requests = chain(later.first, _requests(plan, verb, others))
    while part := list(islice(requests, 4096)):
        prompts += len(part)
        on_hand = find_paid_ids(store, plan.teacher, part)
        for request in part:
            if request.call_id in on_hand:
                paid += 1
            elif request.subject in refused_for_good:
                refused += 1
            else:
                counted.append(count_prompt_tokens(request.messages, tokenizer))
                limits.append(request.sampling.max_tokens)
    teacher = plan.teacher
    found = estimate(
        prompts=prompts + later.finished,
        paid=paid + later.finished,
        refused=refused,
        counted=counted,
        max_tokens=limits,
        price=teacher.price,
        priced_as=str(getattr(teacher, "model", name_of(teacher))),
        in_flight=getattr(teacher, "max_in_flight", getattr(teacher, "slots", 1)),
        experience=_experience(plan, store, tokenizer),
        requests_per_minute=getattr(teacher, "requests_per_minute", None),
        tokens_per_minute=getattr(teacher, "tokens_per_minute", None),
        with_tokenizer=tokenizer is not None,
        window_s=getattr(teacher, "window_s", None),
    )
    return found.with_later(later.low, later.high, later.steps)


def _generates(verb: str) -> bool:
    return verb.split()[0] in ("run", "generate", "bakeoff", "study")


def _requests(plan: Plan, verb: str, others: Sequence[Plan] = ()) -> Iterator[Request]:
    """Requests of a verb that are known beforehand: prompts, and held-out items for the teacher."""
    seen: set[str] = set()
    if _generates(verb):
        for asked in (plan, *others):
            for recipe, prompt in prompts_of(asked):
                request = request_of(asked, prompt)
                if is_counted_ahead(recipe) and request.call_id not in seen:
                    seen.add(request.call_id)
                    yield request
    if verb in ("run", "evaluate"):
        yield from held_out_requests(plan, "teacher", plan.teacher)
    if (
        verb == "study imitation"
    ):  # the teacher answers the task's items, whoever else the plan names
        alone = {"contestants": ["teacher"], "off_task": [], "robustness": None}
        evaluate = plan.evaluate.model_copy(update=alone)
        study = plan.model_copy(update={"evaluate": evaluate})
        yield from held_out_requests(study, "teacher", plan.teacher)


def held_out_requests(plan: Plan, who: str, teacher: Teacher) -> Iterator[Request]:
    """Requests to the teacher or an endpoint for held-out items, in all its contexts.

    A context that draws from a selection not made yet is counted as the question alone.
    """
    settings = plan.evaluate
    sources = Sources(plan.shown_recipe, plan.folder)
    names = [part for part in settings.parts() if part.who == who]
    for benchmark in settings.every_benchmark if names else []:
        items = list(benchmark.items(plan.folder))
        longest = min(benchmark.max_new_tokens or settings.max_new_tokens, settings.max_new_tokens)
        sampling = Sampling(temperature=0.0, max_tokens=longest, top_logprobs=settings.top_logprobs)
        for name in names:
            context = settings.context(
                name.context or (plan.teacher_context if who == "teacher" else "plain")
            )
            known = settings.context("plain") if context.needs_selection else context
            again = (
                _perturbed_items(plan, benchmark, items)
                if name.name in settings.robustness_contestants
                else []
            )
            for messages in known.build_messages([*items, *again], sources):
                yield Request.of(teacher.identity, messages, sampling)


def _perturbed_items(plan: Plan, benchmark: Benchmark, items: Sequence[Item]) -> list[Item]:
    """The task's items in their perturbed forms, which some contestants answer too."""
    settings = plan.evaluate.robustness
    if settings is None or benchmark not in plan.evaluate.benchmarks:
        return []
    kinds = settings.perturbations
    return [item for kind in kinds for item, _ in perturb_items(items[: settings.limit], kind)]


def _experience(plan: Plan, store: Store, tokenizer: Any) -> Experience | None:
    """What recorded replies of this teacher to this plan's prompts show of lengths and times."""
    requests = {request.call_id: request for request in islice(_requests(plan, "run"), 4096)}
    calls_by_id = load_paid_calls(store, plan.teacher, list(requests.values()))
    replied = list(calls_by_id.items())[-LEARNT_FROM:]
    calls = [call for _, call in replied]
    return Experience.learn(
        [count_prompt_tokens(requests[call_id].messages, tokenizer) for call_id, _ in replied],
        [call.prompt_tokens for call in calls],
        [call.completion_tokens for call in calls],
        [call.latency_s for call in calls],
    )


def _tokenizer(plan: Plan) -> Any:
    where = getattr(plan.teacher, "tokenizer", None)
    return load_tokenizer(Path(where)) if where else None
