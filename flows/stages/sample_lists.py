"""Keep the list of a plan's samples in the warehouse, so that its replies are not read anew each time.

Only of recipes of this package that ask once for each row of files: what they give follows from the
files, the recorded calls and the plan. Every other recipe is replayed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from datagen.recipe import Recipe
from distill.plan.plan import Plan
from flows.stages.known_prompts import is_counted_ahead
from flows.stages.tally import Tally
from warehouse.catalog import name_of, options_of
from warehouse.db.store import Store
from warehouse.inputs.prompt_sources import hub_sources
from warehouse.inputs.rows import find_file
from warehouse.records import SampleList, make_id

_STATE = """
SELECT (SELECT count(*) FROM calls) AS calls, (SELECT max(rowid) FROM calls) AS last_call,
  (SELECT count(*) FROM failures WHERE permanent) AS refused
"""


def find_sample_list(plan: Plan, store: Store) -> SampleList | None:
    """The list that was kept of the plan's samples, if nothing that decides it changed since."""
    list_id = _list_id(plan)
    if list_id is None:
        return None
    for known in store.by_ids(SampleList, "list_id", [list_id]):
        if known.state == _state_of(store) and (
            known.facts.get("stored") == _stored(store) or not _lacking(store, list_id)
        ):
            return known
    return None


def listed_ids(store: Store, samples: SampleList) -> list[str]:
    """The ids of a list's samples, in their order."""
    query = "SELECT sample_id FROM listed_samples WHERE list_id = ? ORDER BY place"
    found = store.select(query, [samples.list_id])
    return [] if found is None else found["sample_id"].to_list()


def _lacking(store: Store, list_id: str) -> int:
    """How many samples of a list the warehouse lacks."""
    query = (
        "SELECT count(*) FROM listed_samples l ANTI JOIN samples s ON l.sample_id = s.sample_id "
        "WHERE l.list_id = ?"
    )
    found = store.select(query, [list_id])
    return 0 if found is None else int(found.item())


def keep_sample_list(
    plan: Plan, store: Store, sample_ids: Sequence[str], calls: int, tallies: Sequence[Tally]
) -> None:
    """Keep the list of a plan's samples, which are stored, where every seed of it has them."""
    whole = all(not (t.unanswered or t.failed or t.unfinished) for t in tallies)
    list_id = _list_id(plan) if whole else None
    if list_id is not None:
        recipes = [tally.as_json() for tally in tallies]
        facts = {"calls": calls, "recipes": recipes, "stored": _stored(store)}
        store.put_sample_list(SampleList(list_id, _state_of(store), facts), sample_ids)


def _state_of(store: Store) -> str:
    found = store.select(_STATE)
    return "" if found is None else make_id("state", *found.row(0))


def _stored(store: Store) -> list[int]:
    """Changes where a sample is stored or deleted."""
    found = store.select("SELECT count(*), coalesce(max(rowid), -1) FROM samples")
    return [] if found is None else list(found.row(0))


def _list_id(plan: Plan) -> str | None:
    """Identifies all that decides a plan's samples beside the calls; None where not all is known."""
    parts = [_part_of(recipe, plan.folder) for recipe in plan.datagen.recipe]
    if any(part is None for part in parts):
        return None
    return make_id(
        "sample list", plan.teacher.identity, vars(plan.datagen.sampling), plan.datagen.longest,
        metadata.version("stillhouse"), parts,
    )  # fmt: skip


def _part_of(recipe: Recipe, folder: Path) -> Any:
    sources = recipe.row_sources()
    if (
        type(recipe).__module__.partition(".")[0] != "datagen"
        or not is_counted_ahead(recipe)
        or recipe.target is not None  # samples beyond it are stored, and are none of the plan's
        or not sources
        or recipe.document_sources()
        or hub_sources(getattr(recipe, "prompts", None) or [])
    ):
        return None
    files = [find_file(source.source, folder) for source in sources]
    files += recipe.input_files(folder)
    return [name_of(recipe), recipe.version, options_of(recipe), [hash_of_file(f) for f in files]]


def hash_of_file(file: Path) -> str:
    """The SHA-256 of a file."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
