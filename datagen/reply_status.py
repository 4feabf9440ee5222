"""Decide whether a reply is fit to learn from: ok, refused, truncated or invalid, and why."""

from __future__ import annotations

from datagen.teacher import Reply
from warehouse.inputs.refusal_phrases import declines
from warehouse.text.finish_reasons import ERROR, FILTER, LENGTH, TOOL


def status_of(reply: Reply, may_call_tools: bool = False) -> tuple[str, str | None]:
    """The status of a reply, and the reason where it is not ok."""
    text, finish_reason = reply.text.strip(), reply.finish_reason
    if finish_reason == FILTER:
        return "refused", "the teacher's content filter ended the reply"
    if declines(text):
        return "refused", "the teacher declined to answer"
    if finish_reason == LENGTH:
        return "truncated", "the reply reached max_tokens"
    if finish_reason == TOOL and not may_call_tools:
        return "invalid", "the reply calls a tool"
    if finish_reason == ERROR:
        return "invalid", "the reply ended with an error of the server"
    if not text:
        return "invalid", (
            "the reply has reasoning alone" if reply.reasoning else "the reply is empty"
        )
    return "ok", None
