"""Recipes ask and make the same in every process, whatever the order of its sets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from warehouse import catalog

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


def test_calls_and_samples_depend_on_no_hash_seed_and_on_no_order_of_arrival(tmp_path):
    first, other = (made_with(hash_seed, tmp_path) for hash_seed in (1, 2))
    assert list(first) == catalog.names("recipe")
    for name, made in first.items():
        assert made["calls"] and made["samples"], f"{name} makes nothing"
        assert made == other[name], f"{name} asks or makes otherwise under another hash seed"
