"""How small a difference the items at hand can show."""

from __future__ import annotations
