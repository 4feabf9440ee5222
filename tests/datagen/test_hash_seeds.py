"""Recipes ask and make the same in every process, whatever the order of its sets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from warehouse import catalog
from warehouse.records import make_id

GOLDEN = Path(__file__).parents[1] / "golden" / "recipe_ids.json"

CODE = (
    "import sys; from pathlib import Path; from tests.support import recipe_replies as r; "
    "r.print_what_recipes_make(Path(sys.argv[1]), int(sys.argv[2]))"
)


def made_with(hash_seed: int, folder: Path) -> dict[str, dict[str, list[str]]]:
    """The ids of calls and samples of each recipe, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(folder / str(hash_seed)), str(hash_seed)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def made_twice(tmp_path_factory) -> list[dict[str, dict[str, list[str]]]]:
    """What the recipes make under two hash seeds, with replies in two orders."""
    folder = tmp_path_factory.mktemp("made")
    return [made_with(hash_seed, folder) for hash_seed in (1, 2)]


def test_calls_and_samples_depend_on_no_hash_seed_and_on_no_order_of_arrival(made_twice):
    first, other = made_twice
    assert list(first) == catalog.names("recipe")
    for name, made in first.items():
        assert made["calls"] and made["samples"], f"{name} makes nothing"
        assert made == other[name], f"{name} asks or makes otherwise under another hash seed"


def test_calls_and_samples_have_the_ids_of_earlier_versions(made_twice):
    """Another id is another call to pay for. `UPDATE_GOLDEN=1` rewrites them, for a new case alone."""
    ids = {
        name: {what: {"number": len(of), "hash": make_id(of)} for what, of in made.items()}
        for name, made in made_twice[0].items()
    }
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(json.dumps(ids, indent=1) + "\n")
    assert ids == json.loads(GOLDEN.read_text())
