"""Name where the seed of a sample is from, without paths of this machine."""

from __future__ import annotations

import re

from distill.report.model_card import public

_PLACE = re.compile(r"(?:(?: (?:line|row|item) \d+|:\d+)?(?:, pages? \d+(?:-\d+)?)?(?:, '.*')?)\Z")
"""Where in its file or data set a seed stands: its row, page and headings."""


def public_origin(source: str) -> str:
    """The file or data set of a source; of an absolute path the last part is left."""
    return str(public(_PLACE.sub("", source)))


def public_source(source: str) -> str:
    """A source with its row, page and headings; of an absolute path the last part is left."""
    place = _PLACE.search(source)
    return public_origin(source) + (place[0] if place else "")
