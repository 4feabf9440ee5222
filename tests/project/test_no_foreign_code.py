"""No model, tokenizer or data set from elsewhere brings code that is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("datagen", "distill", "flows", "quality", "train", "warehouse")
LOADERS = {
    "from_pretrained", "from_config", "load_dataset", "load_dataset_builder", "SentenceTransformer",
    "CrossEncoder", "pipeline",
}  # fmt: skip
HOLD_NO_CODE = {"GenerationConfig", "PeftConfig", "PeftModel"}
"""Classes whose `from_pretrained` reads settings or an adapter, and takes no `trust_remote_code`."""


def unguarded(source: str) -> Iterator[tuple[int, str]]:
    """Calls in a source that load something from elsewhere and do not refuse its code."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            owner = called.value if isinstance(called, ast.Attribute) else None
            if name in LOADERS and getattr(owner, "id", "") not in HOLD_NO_CODE:
                given = {word.arg: word.value for word in node.keywords}
                value = given.get("trust_remote_code")
                if not (isinstance(value, ast.Constant) and value.value is False):
                    yield node.lineno, ast.unparse(called)


def sources() -> list[Path]:
    return [file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))]


def test_every_loader_refuses_code():
    found = [
        f"{file.relative_to(ROOT)}:{line} {call}"
        for file in sources()
        for line, call in unguarded(file.read_text(encoding="utf-8"))
    ]
    assert found == []
    loads = [file for file in sources() if ".from_pretrained(" in file.read_text(encoding="utf-8")]
    assert len(loads) >= 7  # the walk looked where there is something to find


@pytest.mark.parametrize(
    ("call", "is_guarded"),
    [
        ("AutoTokenizer.from_pretrained(folder, trust_remote_code=False)", True),
        ("AutoTokenizer.from_pretrained(folder)", False),
        ("AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)", False),
        ("AutoModel.from_pretrained(folder, **arguments)", False),
        ("transformers.AutoModel.from_pretrained(folder, trust_remote_code=True)", False),
        ("load_dataset('x')", False),
        ("PeftModel.from_pretrained(model, folder)", True),
    ],
)
def test_the_walk_tells_guarded_calls_apart(call, is_guarded):
    assert (list(unguarded(call)) == []) is is_guarded


def test_nothing_reads_standard_input_but_the_chat():
    asking = [
        str(file.relative_to(ROOT))
        for file in sources()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "input"
    ]
    assert asking in ([], ["flows/students/chat.py"])
