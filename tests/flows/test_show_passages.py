"""`show passages` and `check` tell of documents: where passages stand, and what was left out."""

from __future__ import annotations

import json

from tests.support.cli import distill
from tests.support.documents import pdf_bytes
from tests.support.plans import rows, scripted, write_rows

_RECIPE = """
from dataclasses import dataclass, field
from datagen.recipes.imitation import Imitation

@dataclass(frozen=True)
class Reader(Imitation):
    \"\"\"Reads documents too.\"\"\"

    documents: list[str] = field(default_factory=list)
    \"\"\"Documents.\"\"\"
    words: int = 5
    \"\"\"Words.\"\"\"
"""


def _write_project(folder):
    (folder / "docs").mkdir()
    (folder / "docs" / "a.md").write_text("# Otters\n\nThey eat many fish. They swim very well.\n")
    (folder / "docs" / "scan.pdf").write_bytes(pdf_bytes([None]))
    (folder / "reader.py").write_text(_RECIPE)
    write_rows(folder / "prompts.jsonl", rows(0, 2))
    (folder / "plan.toml").write_text(
        f'name = "x"\n{scripted(folder / "log")}\n[[datagen.recipe]]\nuse = "./reader.py"\n'
        'prompts = "prompts.jsonl"\ndocuments = ["docs"]\n'
    )


def test_passages_of_files_and_of_a_plan(tmp_path):
    _write_project(tmp_path)
    shown = distill(tmp_path, "show", "passages", "docs").stdout
    assert "docs/a.md, 'Otters' (10 words, characters 0-50)" in shown
    assert "docs: 1 file read (1 .md), 1 passage, 10 words" in shown
    assert "skipped: docs/scan.pdf has no text on its 1 page" in shown
    shown = distill(tmp_path, "show", "passages", "plan.toml", "--limit", 1, "--json").stdout
    (found,) = json.loads(shown)
    assert found["passages"] == 2 and len(found["shown"]) == 1
    assert found["shown"][0]["heading"] == "Otters"
    assert found["skipped"][0].startswith("skipped: docs/scan.pdf")


def test_check_tells_of_the_documents_of_a_recipe(tmp_path):
    _write_project(tmp_path)
    shown = distill(tmp_path, "check", "plan.toml").stdout
    assert "documents docs: 1 file read (1 .md), 2 passages, 10 words" in shown
    assert "documents skipped: docs/scan.pdf has no text" in shown
    assert "reads     prompts.jsonl, docs\n" in shown


def test_check_and_the_end_of_generate_count_passages_of_several_files(tmp_path):
    (tmp_path / "docs").mkdir()
    for name in ("a", "b", "c"):
        text = f"Otters eat fish in the river.\n\n# {name}\n\nOnly file {name} has this.\n"
        (tmp_path / "docs" / f"{name}.md").write_text(text)
    (tmp_path / "plan.toml").write_text(
        'name = "x"\nwarehouse = "w.duckdb"\n[teacher]\nuse = "scripted"\nlog = "log"\ndefault = '
        """'{"pairs": [{"question": "What do otters eat?", "answer": "fish"}]}'\n"""
        "[datagen]\nsampling = { max_tokens = 32 }\n"
        '[[datagen.recipe]]\nuse = "grounded_qa"\ndocuments = ["docs/"]\nwords = 6\n'
    )
    told = "1 passage stands in several files and is asked about once; left out: 2 copies"
    checked = distill(tmp_path, "check", "plan.toml").stdout
    assert f"documents {told}" in checked
    done = distill(tmp_path, "generate", "plan.toml")
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    end = next(n for n, line in enumerate(lines) if "grounded_qa: 4 seeds" in line)
    assert any(told in line for line in lines[end:])


def test_wrong_uses_are_refused(tmp_path):
    _write_project(tmp_path)
    assert "needs a plan, or documents" in distill(tmp_path, "show", "passages").stderr
    assert (
        "docs is a folder; `show passages docs`"
        in distill(tmp_path, "show", "samples", "docs").stderr
    )
    assert "no document 'none'" in distill(tmp_path, "show", "passages", "none").stderr
