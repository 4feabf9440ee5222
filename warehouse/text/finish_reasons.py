"""Sort the finish reasons of servers into the few that matter here."""

from __future__ import annotations

import re
from typing import Any

STOP = "stop"
LENGTH = "length"
FILTER = "content_filter"
TOOL = "tool_calls"
ABORTED = "aborted"
ERROR = "error"

_SPELLINGS = {
    STOP: "stop eos eos_token eos_found end end_turn end_of_turn end_of_text endoftext "
    "stop_sequence stop_token stop_word stop_str stopped complete completed completion finish "
    "finished done normal success im_end",
    LENGTH: "length max_length model_length length_limit max_tokens max_token max_new_tokens "
    "max_output_tokens max_completion_tokens max_seq_len max_context_length token_limit "
    "token_limit_reached tokens_limit limit context_length context_length_exceeded "
    "context_window_exceeded model_context_window_exceeded context_limit truncated incomplete "
    "model_max_length output_limit",
    FILTER: "content_filter content_filtered content_filter_error content_policy "
    "content_policy_violation content_moderation moderation filter filtered safety "
    "prohibited_content recitation blocklist spii sensitive sensitive_content refusal refused "
    "blocked guardrail_intervened guardrail guardrails image_safety language violation "
    "policy_violation risk error_toxic",
    TOOL: "tool_calls tool_call tool_use tool function_call function_calls function "
    "malformed_function_call unexpected_tool_call action",
    ABORTED: "aborted abort cancel canceled cancelled interrupted timeout timed_out time_limit "
    "deadline_exceeded disconnected",
    ERROR: "error error_finish failed failure fail exception internal_error server_error "
    "network_error upstream_error engine_error insufficient_system_resource unavailable "
    "other_error eos_error",
}
KNOWN: dict[str, str] = {name: kind for kind, names in _SPELLINGS.items() for name in names.split()}
"""The meaning of each known finish reason: stop, length, content_filter, tool_calls, aborted or
error."""

_LONGEST = 80
_SEPARATORS = re.compile(r"[\s.\-]+")
_PREFIXES = ("finish_reason_", "finishreason_", "stop_reason_", "stopreason_")


def read_finish_reason(value: Any) -> str:
    """The finish reason as one of `KNOWN`'s meanings, or in its own spelling where it is unknown.

    Letter case, separators, the prefix of an enumeration (`FinishReason.SAFETY`) and what
    follows a colon (`content_filter: HATE`) make no other reason. None and "" are "stop".
    """
    if isinstance(value, str) and value in KNOWN:
        return KNOWN[value]
    if isinstance(value, dict):
        value = value.get("type") or value.get("reason")
    if value is None or value == "":
        return STOP
    own = " ".join(str(value).split())[:_LONGEST] if isinstance(value, str | int | float) else "?"
    name = _SEPARATORS.sub("_", own.partition(":")[0].strip().lower())
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return KNOWN.get(name, own or STOP)


def is_known(finish_reason: str) -> bool:
    """Whether `read_finish_reason` knew what it read."""
    return finish_reason in _SPELLINGS


def is_cut(finish_reason: str) -> bool:
    """Whether a reply with this finish reason reached a limit before its end."""
    return read_finish_reason(finish_reason) == LENGTH


def is_incomplete(finish_reason: str) -> bool:
    """Whether a reply with this finish reason stops before its end: at a limit, or aborted."""
    return read_finish_reason(finish_reason) in (LENGTH, ABORTED)


def spellings_of(kind: str) -> list[str]:
    """Every known spelling of a meaning, in lower case."""
    return _SPELLINGS[kind].split()
