"""Run all checks and measurements of the device here and write them into docs/log.md.

    python -m tests.gpu               on the GPU, with models of 135 M and 1.1 B parameters
    python -m tests.gpu --device cpu  its half without one, with the tiniest model; nothing is logged

Exit code 1 where a check fails.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.gpu.wheels import NEEDED, lacking, pinned

LOG = Path(__file__).resolve().parents[2] / "docs" / "log.md"
COMPARED = ("torch", "transformers", "trl", "peft", "accelerate", "tokenizers", "datasets")

Check = tuple[str, Callable[[Path], str]]


def version_notes() -> Iterator[str]:
    """Versions that differ from constraints.txt: a note, since an image has its own."""
    pins = pinned()
    for name in COMPARED:
        try:
            found = version(name).partition("+")[0]
        except PackageNotFoundError:
            continue
        if name in pins and pins[name] != found:
            yield f"note: {name} {found} here, tested with {pins[name]}"


def checks_of(where: str) -> Iterator[Check]:
    """Each check and measurement with its name."""
    from tests.gpu import checks, speeds, worlds

    for tuner in checks.TUNERS:
        yield f"{tuner} trains", lambda to, t=tuner: checks.trains(where, t, to)
        yield (
            f"{tuner} as on a CPU, float32",
            lambda to, t=tuner: checks.trains_exactly(where, t, to),
        )
    for tuner in ("lora", "full"):
        yield f"{tuner} packed", lambda to, t=tuner: checks.trains(where, t, to, packing=True)
        yield (
            f"{tuner} without FlashAttention",
            lambda to, t=tuner: checks.without_flash_attention(where, t, to),
        )
    yield "logits, float32", lambda to: checks.exact(where, to)
    yield "resume", lambda to: checks.resumes(where, to)
    yield "two processes", lambda to: checks.shares_a_batch(where, to)
    yield "Detoxify", lambda to: checks.detoxify_scores(where, to)
    yield "answers", lambda to: checks.generates(where, to)
    if where == "cuda":
        shapes = {"135M": worlds.SMOLLM, "1.1B": worlds.TINYLLAMA}
        rows, words = 256, 120
    else:
        shapes, rows, words = {"tiny": worlds.TINY}, 16, 12
    for size, shape in shapes.items():
        for tuner, part in checks.TUNERS.items():
            for packing in (False, True) if tuner != "prefix" else (False,):
                label = f"speed, {tuner}{' packed' if packing else ''}, {size}"
                yield (
                    label,
                    lambda to, t=tuner, p=part, s=shape, k=packing: speeds.training_speed(
                        where, t, p, s, to, rows, words, k, against_peer=t == "lora" and not k
                    ),
                )
        yield (
            f"speed, answers, {size}",
            lambda to, s=shape: speeds.generation_speed(where, s, to, rows, 32),
        )


def run(where: str) -> tuple[list[tuple[str, str]], int]:
    """Run everything; rows of (name, result), and how many checks failed."""
    from tests.gpu.checks import NotHere

    found, failures = [], 0
    for name, check in checks_of(where):
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            try:
                result = check(Path(folder))
            except NotHere as reason:
                result = f"not run: {reason}"
            except Exception as error:
                failures += 1
                traceback.print_exc()
                result = f"FAILED: {type(error).__name__}: {error}".splitlines()[0]
        found.append((name, result))
        print(f"{name}: {result} ({time.monotonic() - started:.0f} s)", flush=True)
    return found, failures


def entry(card: str, found: list[tuple[str, str]], notes: list[str]) -> str:
    """The log's entry."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl"))
    head = f"## {date.today()}: `make gpu` on {card}\n\n{versions}, Python {platform.python_version()}."
    table = "".join(f"| {name} | {result.replace('|', '/')} |\n" for name, result in found)
    told = "".join(f"\n- {note}" for note in notes)
    return f"{head}\n\n| | |\n|---|---|\n{table}{told}\n"


def main() -> int:
    """Check the packages, run, print, and log what ran on a GPU."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    where = parser.parse_args().device
    missing = lacking(NEEDED)
    if missing:
        names = " ".join(missing)
        print(
            f"this Python lacks {names}; where pip reaches an index, run `python -m tests.gpu.wheels "
            f"FOLDER {names}`, bring FOLDER here, then `pip install --no-index --no-deps --target "
            "SITE FOLDER/*.whl` and `PYTHONPATH=SITE make gpu`",
            file=sys.stderr,
        )
        return 2
    import torch

    from tests.gpu.speeds import card_name

    if where == "cuda" and not torch.cuda.is_available():
        print("no GPU here; `python -m tests.gpu --device cpu` runs the half for a CPU")
        return 2
    notes = list(version_notes())
    print("\n".join([card_name(where), *notes]), flush=True)
    found, failures = run(where)
    if where == "cuda":
        head, mark, entries = LOG.read_text(encoding="utf-8").partition("\n## ")
        own = entry(card_name(where), found, notes)
        LOG.write_text(f"{head}\n{own}{mark}{entries}", encoding="utf-8")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
