"""Make call records of replies that were paid for elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

from datagen.teacher import Reply, Request, Sampling, Usage
from warehouse.inputs.conversations import Conversation
from warehouse.records import Call, make_id
from warehouse.text.finish_reasons import is_incomplete, read_finish_reason
from warehouse.text.reasoning import split_reasoning

IMPORTED = "import:"
"""How the identity of a teacher begins whose replies were imported; no endpoint's does."""

STAGE = "generate"

Turns = Literal["last", "all"]


def replies_in(conversation: Conversation, turns: Turns) -> Iterator[Conversation]:
    """The conversation up to its last reply, or up to each of its replies: texts and tool calls."""
    if turns == "last":
        yield conversation
        return
    last = len(conversation.messages) - 1
    for place, message in enumerate(conversation.messages):
        is_reply = bool(message["content"]) != bool(message.get("tool_calls"))
        if message["role"] != "assistant" or not is_reply:
            continue
        upto = conversation.messages[: place + 1]
        if place == last:
            yield conversation
        elif any(earlier["role"] == "user" for earlier in upto):
            yield replace(
                conversation,
                messages=upto,
                finish_reason="stop",
                reasoning=None,
                prompt_tokens=0,
                completion_tokens=0,
                cost_usd=None,
            )


def imported_call(conversation: Conversation, teacher: str) -> Call:
    """The call behind a conversation's last reply, of the teacher `import:NAME`.

    Its id hashes the teacher's name, what was asked, how, and the reply: rows may be moved in their
    file, and one that was edited is another call.
    """
    identity = f"{IMPORTED}{teacher}"
    made_of = {**conversation.sampling, "reply": conversation.reply}
    call_id = make_id("call", identity, conversation.asked, made_of)
    limit = conversation.completion_tokens
    return _call(conversation, call_id, identity, dict(conversation.sampling), limit)


def call_as_asked(conversation: Conversation, identity: str, sampling: Sampling, draw: int) -> Call:
    """The call as if a plan's own teacher had been asked, so that it is never asked again.

    Args:
        conversation: What was asked, and the reply.
        identity: The teacher's.
        sampling: The plan's.
        draw: 0 for the first reply to these messages, then 1, 2, ...
    """
    drawn = replace(sampling, seed=draw) if draw else sampling
    request = Request.of(identity, conversation.asked, drawn)
    settings = dict(vars(drawn))
    limit = settings.pop("max_tokens")
    return _call(conversation, request.call_id, identity, settings, limit)


def _call(
    conversation: Conversation,
    call_id: str,
    identity: str,
    sampling: dict[str, Any],
    max_tokens: int,
) -> Call:
    finish_reason = read_finish_reason(conversation.finish_reason)
    text, thoughts = split_reasoning(conversation.reply, is_incomplete(finish_reason))
    reasoning = "\n\n".join(filter(None, (conversation.reasoning, thoughts))) or None
    return Call(
        call_id=call_id,
        max_tokens=max_tokens,
        teacher=identity,
        sampling=sampling,
        text=text,
        finish_reason=finish_reason,
        prompt_tokens=conversation.prompt_tokens,
        completion_tokens=conversation.completion_tokens,
        latency_s=0.0,
        cost_usd=conversation.cost_usd,
        raw={"imported": {"from": conversation.source, "model": conversation.model}},
        run_id="",
        reasoning=reasoning,
        stage=STAGE,
        messages=conversation.asked,
    )


def reply_of(call: Call) -> Reply:
    """An imported call as a reply, to be read as those of other teachers."""
    request = Request(call.call_id, call.messages or [], Sampling())
    return Reply(
        request=request,
        text=call.text,
        finish_reason=call.finish_reason,
        usage=Usage(call.prompt_tokens, call.completion_tokens),
        reasoning=call.reasoning,
    )
