"""Index benchmark items as a plan's held-out ones."""

from collections.abc import Iterable

from quality.gate.decontaminate import Decontaminate, HeldOut
from quality.gate.held_out_index import HeldOutItem
from quality.tasks.benchmark import Item


def hold_out(
    items: Iterable[tuple[str, Item]],
    options: Decontaminate | None = None,
    rows: Iterable[tuple[str, str | None]] = (),
) -> HeldOut:
    """Hold out (benchmark, item) pairs, among question and passage of the rows that are looked up."""
    return HeldOut([HeldOutItem.of(*pair) for pair in items], options or Decontaminate(), rows)
