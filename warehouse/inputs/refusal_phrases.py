"""Normalise texts for comparison, and detect refusals."""

from __future__ import annotations

import re

_CAN_NOT = r"(can ?not|can['’]t|will not|won['’]t|am unable|am not able)\b"
REFUSAL = re.compile(
    rf"\W*(i['’]?m sorry|i am sorry|sorry,? (but )?i\b|i apologi[sz]e|i {_CAN_NOT}"
    rf"|i['’]m (unable|not able)\b|unfortunately,? i {_CAN_NOT}"
    r"|as an? (ai|(large )?language model)\b)",
    re.IGNORECASE,
)
"""How a reply begins that declines to answer, in English."""


def normalise(text: str) -> str:
    """Lower case, letters and digits only, single spaces: the form in which texts are compared."""
    return " ".join(re.findall(r"\w+", text.lower()))


def declines(text: str) -> bool:
    """Whether a reply begins by declining to answer."""
    return REFUSAL.match(text) is not None
