"""Turn prompts into requests, and replies into calls and failures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace

from datagen.spending.limits import Budget
from datagen.teacher import Reply, Request, Sampling, Teacher, Usage
from warehouse.errors import TransientError
from warehouse.records import Call, Failure, Prompt
from warehouse.text.finish_reasons import is_incomplete, read_finish_reason
from warehouse.text.reasoning import split_reasoning


def requests_for(prompts: Iterable[Prompt], identity: str, sampling: Sampling) -> list[Request]:
    """One request per prompt, in order; a prompt's own seed goes before the sampling's."""
    return [
        Request.of(
            identity,
            prompt.messages,
            sampling if prompt.seed is None else replace(sampling, seed=prompt.seed),
        )
        for prompt in prompts
    ]


def pending(requests: Iterable[Request], paid: Mapping[str, Call]) -> list[Request]:
    """The requests still to be sent: each call once, none that is paid for."""
    wanted: dict[str, Request] = {}
    for request in requests:
        if request.call_id not in paid:
            wanted.setdefault(request.call_id, request)
    return list(wanted.values())


async def ask(
    teacher: Teacher,
    requests: Sequence[Request],
    budget: Budget,
    run_id: str,
    stage: str,
    keep: Callable[[Call | Failure, Reply], None],
) -> None:
    """Ask every request once; `keep` gets each record before anything else is done with it.

    Raises:
        TeacherUnusable, BudgetReached: after everything in flight was kept.
    """
    async with aclosing(teacher.answer(requests, budget)) as replies:
        async for reply in replies:
            if reply.error is None:
                keep(to_call(reply, teacher.identity, run_id, stage), reply)
            else:
                keep(to_failure(reply, run_id, stage), reply)


def to_call(reply: Reply, identity: str, run_id: str, stage: str | None = None) -> Call:
    """The record of a reply that has a text."""
    sampling = dict(vars(reply.request.sampling))
    return Call(
        call_id=reply.request.call_id,
        max_tokens=sampling.pop("max_tokens"),
        teacher=identity,
        sampling=sampling,
        text=reply.text,
        finish_reason=reply.finish_reason,
        prompt_tokens=reply.usage.prompt_tokens,
        completion_tokens=reply.usage.completion_tokens,
        latency_s=reply.latency_s,
        cost_usd=reply.cost_usd,
        raw=reply.raw,
        run_id=run_id,
        tries=reply.tries,
        reasoning=reply.reasoning,
        logprobs=reply.logprobs,
        stage=stage,
        messages=reply.request.messages,
    )


def to_failure(reply: Reply, run_id: str, stage: str) -> Failure:
    """The record of a reply that has an error; one that used up its tries may be sent again."""
    return Failure(
        run_id=run_id,
        stage=stage,
        subject=reply.request.subject,
        error=f"{type(reply.error).__name__}: {reply.error}",
        permanent=not isinstance(reply.error, TransientError),
    )


def reread(call: Call) -> Call:
    """A recorded call as today's reading has it: its reasoning apart, a known finish reason.

    Calls of earlier versions were stored as they were read then.
    """
    finish_reason = read_finish_reason(call.finish_reason)
    text, reasoning = split_reasoning(call.text, is_incomplete(finish_reason))
    if text == call.text and finish_reason == call.finish_reason:
        return call
    reasoning = "\n\n".join(filter(None, (call.reasoning, reasoning))) or None
    return replace(call, text=text, finish_reason=finish_reason, reasoning=reasoning)


def as_reply(call: Call, request: Request) -> Reply:
    """A recorded call as the reply it was."""
    return Reply(
        request=request,
        text=call.text,
        finish_reason=call.finish_reason,
        usage=Usage(call.prompt_tokens, call.completion_tokens),
        latency_s=call.latency_s,
        cost_usd=call.cost_usd,
        raw=call.raw,
        tries=call.tries,
        reasoning=call.reasoning,
        logprobs=call.logprobs,
    )
