"""Fetch wheels for a machine with a GPU and no network, whose image has torch and transformers.

    python -m tests.gpu.wheels FOLDER trl datasets ...    the names that `make gpu` says are missing

They are for Python 3.12 on x86-64 Linux, in the versions of constraints.txt.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"
PYTHON = "3.12"
GLIBC = (39, 35, 34, 31, 28, 27, 24, 17)

IMAGES_OWN = ("torch", "transformers", "tokenizers", "numpy", "safetensors", "huggingface_hub")
"""What an image has in versions that fit one another: never fetched."""

NEEDED = tuple(
    [
        "accelerate",
        "annotated-types",
        "anyio",
        "colorama",
        "datasets",
        "detoxify",
        "dill",
        "filelock",
        "fsspec",
        "h11",
        "httpcore2",
        "httpx2",
        "idna",
        "jinja2",
        "markupsafe",
        "multiprocess",
        "packaging",
        "pandas",
        "peft",
        "platformdirs",
        "psutil",
        "pyarrow",
        "pydantic",
        "pydantic_core",
        "python-dateutil",
        "pyyaml",
        "regex",
        "rich",
        "scipy",
        "sentencepiece",
        "six",
        "tqdm",
        "trl",
        "truststore",
        "typing-inspection",
        "typing_extensions",
        "xxhash",
    ]
)
"""What the checks import, besides what belongs to the image's torch and transformers."""


def lacking(names: tuple[str, ...]) -> list[str]:
    """The packages that are not installed here."""
    missing = []
    for name in names:
        try:
            version(name)
        except PackageNotFoundError:
            missing.append(name)
    return missing


def pinned() -> dict[str, str]:
    """Versions of constraints.txt by name."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {name.strip(): pin.split(";")[0].strip() for name, pin in pairs}


def command(folder: str, names: list[str]) -> list[str]:
    """pip's command line."""
    pins = pinned()
    words = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    words += ["--python-version", PYTHON, "--implementation", "cp", "--dest", folder]
    for minor in GLIBC:
        words += ["--platform", f"manylinux_2_{minor}_x86_64"]
    words += ["--platform", "manylinux2014_x86_64"]
    return words + [f"{name}=={pins[name]}" if name in pins else name for name in names]


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m tests.gpu.wheels FOLDER PACKAGE ...")
    refused = set(sys.argv[2:]) & set(IMAGES_OWN)
    if refused:
        sys.exit(f"{', '.join(sorted(refused))}: the image's own version has to serve")
    sys.exit(subprocess.run(command(sys.argv[1], sys.argv[2:]), check=False).returncode)
