"""The generate stage: recipes -> prompts -> teacher replies -> samples."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from prefect import flow

from datagen.generate import pending, requests_for, samples_of, to_call, to_failure
from datagen.teacher import Request, Sampling
from flows.progress import bar
from flows.tasks import Work, at_work, shard
from warehouse.catalog import name_of
from warehouse.errors import StageError
from warehouse.records import Call, Failure, Prompt, Sample
from warehouse.spool import Spool


@flow(name="stillhouse-generate", validate_parameters=False)
def generate(plan_path: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Ask the teacher what the plan's recipes ask and is not answered yet."""
    with at_work(plan_path, overrides, "generate") as work:
        samples = generate_stage(work)
        return {
            "run_id": work.run.run_id,
            "plan_hash": work.plan.plan_hash,
            "calls_made": work.counts.get("calls_made", 0),
            "calls_reused": work.counts.get("calls_reused", 0),
            "samples": len(samples),
            "failures": work.counts.get("failures", 0),
        }


def generate_stage(work: Work) -> list[Sample]:
    """Prompts -> calls -> samples, for every recipe of the plan."""
    with work.stage("generate"):
        by_recipe = prompts_of(work)
        prompts = [prompt for _, several in by_recipe for prompt in several]
        work.store.insert(prompts)
        calls = _ask_what_is_open(work, prompts)
        on_hand = {call.call_id: call.run_id for call in calls.values()}
        work.count("generate_calls", len(on_hand))
        work.count("generate_reused", sum(run != work.run.run_id for run in on_hand.values()))
        samples = _samples(by_recipe, calls)
        work.store.insert(samples)
        work.count("prompts", len(prompts))
        work.count("samples", len(samples))
        return samples


def samples_on_hand(work: Work) -> list[Sample]:
    """The samples that the calls already paid for give; asks nothing.

    Raises:
        StageError: no reply to any prompt of the plan is on hand.
    """
    by_recipe = prompts_of(work)
    requests = {
        prompt.prompt_id: _request(work, prompt) for _, several in by_recipe for prompt in several
    }
    calls = _by_prompt(requests, work.paid(list(requests.values())))
    samples = _samples(by_recipe, calls)
    if not samples:
        raise StageError(
            f"no reply to any of {len(requests)} prompts is on hand; "
            f"run `distill generate {work.plan_path}` first"
        )
    work.store.insert(samples)
    work.count("prompts", len(requests))
    work.count("samples", len(samples))
    work.count("calls_reused", len({call.call_id for call in calls.values()}))
    return samples


def prompts_of(work: Work) -> list[tuple[Any, list[Prompt]]]:
    """The prompts of every recipe, each prompt once.

    Raises:
        StageError: the recipes give no prompt at all.
    """
    seen: set[str] = set()
    by_recipe = []
    for recipe in work.plan.datagen.recipe:
        fresh = []
        for prompt in recipe.ask_all(work.plan.folder):
            if prompt.prompt_id not in seen:
                seen.add(prompt.prompt_id)
                fresh.append(prompt)
        by_recipe.append((recipe, fresh))
    if not seen:
        names = ", ".join(name_of(recipe) for recipe, _ in by_recipe)
        raise StageError(f"the recipes ({names}) give no prompts; check 'prompts' and 'limit'")
    return by_recipe


def _request(work: Work, prompt: Prompt) -> Request:
    sampling: Sampling = work.plan.datagen.sampling
    if prompt.seed is not None:
        sampling = replace(sampling, seed=prompt.seed)
    return requests_for([prompt], work.teacher.identity, sampling)[0]


def _by_prompt(requests: Mapping[str, Request], paid: Mapping[str, Call]) -> dict[str, Call]:
    return {
        prompt_id: paid[request.call_id]
        for prompt_id, request in requests.items()
        if request.call_id in paid
    }


def _ask_what_is_open(work: Work, prompts: Sequence[Prompt]) -> dict[str, Call]:
    of_prompt = {prompt.prompt_id: _request(work, prompt) for prompt in prompts}
    requests = list(of_prompt.values())
    paid = work.paid(requests)
    hopeless = work.refused_for_good()
    todo = [r for r in pending(requests, paid) if r.subject not in hopeless]
    work.count("calls_reused", len({r.call_id for r in requests} & paid.keys()))
    size = work.plan.datagen.shard
    with Spool(work.store.path) as spool, bar("asking the teacher", len(todo)) as advance:
        for start in range(0, len(todo), size):
            part = todo[start : start + size]
            try:
                shard(partial(ask, work, part, spool, advance))
            finally:
                spool.drain(work.store)
    return _by_prompt(of_prompt, work.paid(requests))


def ask(work: Work, part: Sequence[Request], spool: Spool, advance: Callable[[int], None]) -> None:
    """Ask one shard. A reply is in the spool before it is counted; a second try of the
    shard asks only what the first left open."""
    kept = {call.call_id for call in spool.pending()}
    asyncio.run(_ask(work, [r for r in part if r.call_id not in kept], spool, advance))


async def _ask(
    work: Work, part: Sequence[Request], spool: Spool, advance: Callable[[int], None]
) -> None:
    failures: list[Failure] = []
    try:
        async for reply in work.teacher.answer(part):
            if reply.error is None:
                spool.append(to_call(reply, work.teacher.identity, work.run.run_id))
                work.count("calls_made", 1)
            else:
                failures.append(to_failure(reply, work.run.run_id))
            advance(1)
    finally:
        work.store.insert(failures)
        work.count("failures", len(failures))


def _samples(by_recipe: Sequence[tuple[Any, list[Prompt]]], calls: dict[str, Call]) -> list[Sample]:
    found: dict[str, Sample] = {}
    for recipe, prompts in by_recipe:
        for sample in samples_of(recipe, prompts, calls):
            found.setdefault(sample.sample_id, sample)
    return list(found.values())
