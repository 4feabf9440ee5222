"""Read the tables of the documentation, so that tests hold what it claims."""

from __future__ import annotations

from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def read_table(page: str, first: str) -> dict[str, list[str]]:
    """The cells of each row of a page's table, by the first cell; `first` is that of its head."""
    lines = iter((DOCS / page).read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.startswith(f"| {first} |"):
            break
    else:
        raise LookupError(f"docs/{page} has no table that begins with {first!r}")
    next(lines)
    rows = {}
    for line in lines:
        if not line.startswith("|"):
            break
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[name] = cells
    return rows
