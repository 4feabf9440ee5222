"""Parts from a file and from an installed package: found, named, hashed, and refused in one line."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from flows.cli.parts import render_part
from warehouse import catalog
from warehouse.errors import PlanError
from warehouse.part_sources import installed

SCORER = render_part("scorer", "brief")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "brief.py").write_text(SCORER)
    return tmp_path


def test_a_file_is_a_part_with_its_options_named_after_its_stem(folder):
    part = catalog.build("scorer", {"use": "./brief.py", "words": 3}, folder)
    assert (catalog.name_of(part), part.words) == ("brief", 3)
    whole = catalog.build("scorer", {"use": str(folder / "brief.py"), "words": 3}, Path("/"))
    assert catalog.table_of(whole) == catalog.table_of(part)
    assert catalog.options("scorer", "./brief.py", folder) == [
        ("words", "10", "Words that are still short.")
    ]
    assert catalog.summary("scorer", "./brief.py", folder).endswith("longer one.")
    assert pickle.loads(pickle.dumps(part)) == part


def test_of_several_classes_the_plan_names_one(folder):
    other = SCORER[SCORER.index("@dataclass") :].replace("class Brief", "class TerseWords")
    (folder / "two.py").write_text(SCORER + "\n\n" + other)
    with pytest.raises(PlanError, match=r"2 classes of a scorer \(Brief, TerseWords\)"):
        catalog.build("scorer", "./two.py", folder)
    part = catalog.build("scorer", "./two.py:TerseWords", folder)
    assert catalog.name_of(part) == "terse_words"
    with pytest.raises(PlanError, match="did you mean 'TerseWords'"):
        catalog.build("scorer", "./two.py:TerseWord", folder)


def test_an_edit_of_the_file_is_another_part_and_a_touch_is_not(folder):
    def state():
        part = catalog.build("scorer", "./brief.py", folder)
        return part.version, catalog.table_of(part)

    first = state()
    assert first[0].startswith("1+") and first[1]["origin"].startswith("sha256:")
    (folder / "brief.py").touch()
    assert state() == first
    (folder / "brief.py").write_text(SCORER + "# edited\n")
    edited = state()
    assert edited[0] != first[0] and edited[1] != first[1]
    (folder / "brief.py").write_text(SCORER)
    assert state() == first
    assert not (folder / "__pycache__").exists()


def test_a_moved_project_has_the_same_parts(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "brief.py").write_text(SCORER)
    one, two = (catalog.build("scorer", "./brief.py", at) for at in (folder, other))
    assert one.version == two.version
    assert catalog.table_of(one) == catalog.table_of(two)


def test_a_table_makes_the_part_again_from_a_copy_of_the_file_as_it_was(folder, tmp_path):
    part = catalog.build("scorer", {"use": "./brief.py:Brief", "words": 3}, folder)
    (folder / "brief.py").write_text("raise SystemExit")
    table = catalog.table_in(part, tmp_path / "copy")
    again = catalog.build("scorer", table, tmp_path / "copy")
    assert catalog.table_of(again) == catalog.table_of(part)


def test_parts_of_this_package_have_neither_an_origin_nor_another_version():
    part = catalog.build("scorer", {"use": "style"})
    assert "origin" not in catalog.table_of(part) and "+" not in part.version
    lora = catalog.build("tuner", "lora")
    assert catalog.table_in(lora, Path("/nowhere")) == catalog.table_of(lora)


BROKEN = {
    "def f(:": "line 1: SyntaxError",
    "\n\nimport no_such_module": "line 3: ModuleNotFoundError: No module named 'no_such_module'",
    "import brother": "line 1: ModuleNotFoundError",
    "x = 1\n\n1 / 0": "line 3: ZeroDivisionError",
    "raise SystemExit(3)": "line 1: SystemExit",
    "\0": "SyntaxError",
    "x = 1": "defines no scorer: derive a class from quality.scoring.scorer.Scorer",
    "class A: pass": "classes found: A",
    SCORER.replace("(Scorer)", ""): "classes found: Brief",
    SCORER.replace("def score_batch", "def score_bach"): "class Brief is no scorer yet: it lacks score_batch",
    SCORER.replace('    version: ClassVar[str] = "1"\n', ""): "line 14: class Brief is no scorer yet: it sets no version",
    SCORER.replace('= "1"', "= 1"): "its version is a text",
    SCORER.replace("@dataclass(frozen=True)\n", ""): "it has no @dataclass decorator",
    SCORER.replace("words: int = 10", "words: Nowhere = 10"): "cannot be used",
    SCORER.replace("ValueError", "KeyError").replace("< 1", "< 99"): "brief.py, line 24: KeyError",
}  # fmt: skip


@pytest.mark.parametrize("code", BROKEN, ids=list(BROKEN.values()))
def test_a_broken_file_is_one_line_that_names_the_place(folder, code):
    (folder / "brother.py").write_text("")
    (folder / "brief.py").write_text(code)
    with pytest.raises(PlanError) as caught:
        catalog.build("scorer", "./brief.py", folder)
    lines = [caught.value.message, *caught.value.faults]
    assert any(BROKEN[code] in line for line in lines), lines
    assert not any("\n" in line for line in lines)
    assert "brief.py" in lines[0]


@pytest.mark.parametrize(
    ("use", "message"),
    [
        ("./breif.py", "no such file (did you mean './brief.py'?)"),
        ("./none/at_all.py", "no such file (looked for"),
        ("./folder.py", "no such file"),
        ("brief", "unknown scorer 'brief' (did you mean './brief.py'?)"),
        ("./brief.py:", "'' cannot be a name"),
        ("./my-scorer.py", "'my-scorer' cannot be a name"),
        ("./toxicity.py", "'toxicity' is the name of another scorer"),
        ("./human.py", "'human' is the name of another scorer"),
        ("nobody/brief", "unknown scorer 'nobody/brief' (did you mean './brief.py'?)"),
        ("pkg/zzzzzzz", "unknown scorer 'pkg/zzzzzzz' (allowed: entailment"),
    ],
)
def test_a_wrong_use_is_refused_with_a_hint(folder, use, message):
    for name in ("my-scorer", "toxicity", "human"):
        (folder / f"{name}.py").write_text(SCORER)
    (folder / "folder.py").mkdir()
    with pytest.raises(PlanError) as caught:
        catalog.build("scorer", use, folder)
    assert message in caught.value.message


def test_wrong_options_are_faults_as_of_any_part(folder):
    with pytest.raises(PlanError) as caught:
        catalog.build("scorer", {"use": "./brief.py", "words": "three", "wrds": 1}, folder)
    assert caught.value.faults == (
        "wrds: unknown option of scorer './brief.py' (did you mean 'words'?)",
        "words: Input should be a valid integer",
    )
    with pytest.raises(PlanError) as caught:
        catalog.build("scorer", {"use": "./brief.py", "words": 0}, folder)
    assert caught.value.faults == ("./brief.py: words is 1 or more",)


def test_an_installed_package_brings_a_part_and_its_version_counts(install_package):
    install_package("Fine.Parts", "1.2.0")
    assert "fine-parts/brief" in installed("scorer")
    part = catalog.build("scorer", {"use": "Fine_Parts/brief", "words": 3})
    assert catalog.name_of(part) == "fine-parts/brief"
    assert part.version.startswith("1+fine-parts-1.2.0.")
    assert catalog.table_of(part)["origin"].startswith("fine-parts 1.2.0 sha256:")
    with pytest.raises(PlanError, match="did you mean 'fine-parts/brief'"):
        catalog.build("scorer", "fine-parts/breif")
    install_package("Fine.Parts", "1.3.0")
    newer = catalog.build("scorer", "fine-parts/brief")
    assert newer.version.startswith("1+fine-parts-1.3.0.")


def test_a_module_as_entry_point_gives_its_one_class(install_package):
    install_package("whole-module", "0.1", points="brief = {module}")
    assert catalog.name_of(catalog.build("scorer", "whole-module/brief")) == "whole-module/brief"


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("torn", "import no_such_module", "cannot be imported: ModuleNotFoundError"),
        ("not-one", "Brief = 3", "does not derive from quality.scoring.scorer.Scorer"),
        ("unfinished", SCORER.replace("def score_batch", "def other"), "it lacks score_batch"),
    ],
)
def test_a_broken_package_is_one_line(install_package, name, code, message):
    install_package(name, "1.0", code)
    with pytest.raises(PlanError) as caught:
        catalog.build("scorer", f"{name}/brief")
    assert message in caught.value.message and f"({name} 1.0)" in caught.value.message


def test_a_version_that_a_class_works_out_names_the_code_too(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom quality.benchmarks.custom import Custom\n\n\n"
        '@dataclass(kw_only=True)\nclass Mine(Custom):\n    """Of mine."""\n'
    )
    table = {"use": "./mine.py", "path": "x.jsonl", "name": "x"}
    part = catalog.build("benchmark", table, tmp_path)
    plain = catalog.build("benchmark", {**table, "use": "custom"})
    assert part.version.startswith(f"{plain.version}+") and "+" not in plain.version


INTERFACES = {kind: catalog.KINDS[kind].interface.partition(":") for kind in catalog.KINDS}


@pytest.mark.parametrize("kind", catalog.KINDS)
def test_every_kind_of_part_can_be_in_a_file(kind, tmp_path):
    """A class that only adds a line to a built-in one is a part in a file of its own."""
    name = {"recipe": "imitation", "benchmark": "sciq"}.get(kind, catalog.names(kind)[-1])
    cls = catalog.part_class(kind, name)
    module, _, interface = INTERFACES[kind]
    bases = cls.__name__ if kind != "teacher" else f"{cls.__name__}, {interface}"
    frozen = cls.__dataclass_params__.frozen
    (tmp_path / "own.py").write_text(
        f"from dataclasses import dataclass\nfrom {cls.__module__} import {cls.__name__}\n"
        f"from {module} import {interface}\n\n\n@dataclass(frozen={frozen})\n"
        f'class Own({bases}):\n    """One of my own."""\n'
    )
    needed = {"recipe": {"prompts": "x"}, "context": {"documents": ["x"]}}.get(kind, {})
    part = catalog.build(kind, {"use": "./own.py", **needed}, tmp_path)
    assert isinstance(part, cls)
    assert catalog.name_of(part) == "own"
    assert catalog.table_of(part)["origin"].startswith("sha256:")
    if hasattr(cls, "version") and isinstance(cls.version, str):
        assert part.version.startswith(f"{cls.version}+")
        assert "+" not in cls.version
