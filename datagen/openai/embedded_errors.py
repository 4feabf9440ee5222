"""Find the error in a body that came with HTTP status 200, and whether its text was charged for."""

from __future__ import annotations

from typing import Any

from datagen.openai.parse_body import filled_error, first_choice
from datagen.openai.read_reply import read_message
from datagen.openai.usage import read_usage
from datagen.spending.pricing import Usage
from warehouse.text import finish_reasons
from warehouse.text.finish_reasons import read_finish_reason
from warehouse.text.reasoning import split_reasoning

_ERROR_KEYS = ("message", "detail", "msg", "error_message", "errors")


def error_in(raw: Any) -> Any:
    """The error in a body that came with status 200; None without one.

    It may stand at the top or in the choice, as an object or a text, or be a finish reason. A
    reply that was aborted after some of its answer is none: its text is kept.
    """
    if not isinstance(raw, dict):
        return None
    error = filled_error(raw.get("error"))
    choice = first_choice(raw)
    if error is None and choice is not None:
        error = filled_error(choice.get("error"))
        own = choice.get("finish_reason")
        reason = read_finish_reason(own)
        is_lost = reason == finish_reasons.ABORTED and not _has_answer(choice)
        if error is None and (is_lost or reason == finish_reasons.ERROR):
            error = {"code": 502, "message": f"the reply ended with finish_reason '{own}'"}
    if error is None and "choices" not in raw and any(raw.get(key) for key in _ERROR_KEYS):
        return raw
    return error


def has_output(raw: Any) -> bool:
    """Whether a body shows that the model worked on the request: by a message or by its usage."""
    if not isinstance(raw, dict):
        return False
    choice = first_choice(raw)
    message = read_message(choice) if choice is not None else None
    written = message is not None and bool(message.text or message.thoughts)
    return written or read_usage(raw.get("usage")) != Usage()


def _has_answer(choice: dict[str, Any]) -> bool:
    message = read_message(choice)
    return message is not None and bool(split_reasoning(message.text, cut=True)[0].strip())
