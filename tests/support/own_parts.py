"""A plan whose recipe, scorer, tuner and benchmark are files beside it, as `distill new` writes them."""

from __future__ import annotations

from pathlib import Path

from flows.cli.parts import render_part
from tests.support.plans import rows, scripted, write_rows

_PLAN = """
name = "own"
{teacher}
[[datagen.recipe]]
use = "./own_recipe.py"
prompts = "prompts.jsonl"
[quality]
scorers = [{{ use = "{scorer}", words = 1 }}]
gate = {{ {bound} }}
[train]
base = "tiny"
tuner = {{ use = "./own_tuner.py" }}
[evaluate]
benchmarks = [{{ use = "./own_benchmark.py", limit = 4 }}]
"""


def write_own_parts(folder: Path, prompts: int) -> Path:
    """Write a part of each kind and some prompts into a folder."""
    for kind in ("recipe", "scorer", "tuner", "benchmark"):
        (folder / f"own_{kind}.py").write_text(render_part(kind, f"own_{kind}"))
    write_rows(folder / "prompts.jsonl", rows(0, prompts))
    return folder


def write_own_plan(folder: Path, scorer: str = "./own_scorer.py", bound: str = "") -> str:
    """Write the plan that uses them; `bound` is what its gate asks for."""
    plan = folder / "plan.toml"
    plan.write_text(_PLAN.format(teacher=scripted(folder / "log"), scorer=scorer, bound=bound))
    return str(plan)
