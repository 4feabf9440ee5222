"""A small world for whole-flow tests: prompts, a held-out file, a tiny base, a plan."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.tiny import make_tiny

ANIMALS = ["otter", "heron", "badger", "newt", "lynx", "stoat", "crane", "viper", "hare", "wren"]
COLOURS = ["brown", "grey", "black", "green", "tawny", "white", "blue", "red", "gold", "pale"]

IMITATION = """[[datagen.recipe]]
use = "imitation"
prompts = "prompts.jsonl"
"""
"""The recipe of a plan that asks the prompts beside it."""

GROUNDED = f"""{IMITATION}[quality]
scorers = [{{ use = "grounded" }}]
gate = {{ grounded_min = 1.0 }}
"""
"""The same, with a gate for answers that stand in their passages."""


def rows(start: int, number: int) -> list[dict[str, str]]:
    """Questions whose answer stands in their passage."""
    made = []
    for n in range(start, start + number):
        animal, colour = ANIMALS[n % 10], COLOURS[(n // 10 + n) % 10]
        made.append(
            {
                "prompt": f"What colour is {animal} {n}?",
                "reference": colour,
                "passage": f"The {animal} with number {n} lives by the river and is {colour}.",
            }
        )
    return made


def write_rows(path: Path, made: list[dict[str, str]]) -> Path:
    """Write rows as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


def write_plan(folder: Path, teacher: str, prompts: int = 24, held_out: int = 12) -> Path:
    """A plan with a tiny random Llama as base, that runs through every stage; without controls,
    which cost time of the base."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "prompts.jsonl", rows(0, prompts))
    write_rows(folder / "held_out.jsonl", rows(1000, held_out))
    base = make_tiny(folder / "tiny")
    plan = folder / "plan.toml"
    plan.write_text(
        f"""
name = "small"
warehouse = "{folder / "w.duckdb"}"
{teacher}
[datagen]
sampling = {{ max_tokens = 16 }}
shard = 10
{GROUNDED}[train]
base = "{base}"
tuner = {{ use = "lora", rank = 4, alpha = 8 }}
epochs = 1
batch_size = 8
[evaluate]
benchmarks = [{{ use = "custom", path = "held_out.jsonl" }}]
controls = false
max_new_tokens = 6
"""
    )
    return plan


def scripted(log: Path) -> str:
    """A scripted teacher that knows the colours, and logs every request it gets."""
    replies = ", ".join(f'"is {colour}." = "{colour}"' for colour in COLOURS)
    return f'[teacher]\nuse = "scripted"\nlog = "{log}"\nreplies = {{ {replies} }}\n'
