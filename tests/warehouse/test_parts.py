"""Every part, whatever its kind, is built the same way: found, documented, its options named."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from warehouse import catalog
from warehouse.errors import PlanError

PARTS = [(kind, name) for kind in catalog.KINDS for name in catalog.names(kind)]


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_a_part_has_a_summary_and_a_line_under_each_option(kind, name):
    assert catalog.summary(kind, name).endswith(".")
    homes = [cls.__module__ for cls in catalog.part_class(kind, name).__mro__[:-1]]
    files = [Path(sys.modules[home].__file__) for home in homes if home != "typing"]
    source = "".join(file.read_text() for file in files)
    for option in catalog.option_names(kind, name):
        lines = iter(source.splitlines())
        assert any(line.startswith(f"    {option}:") for line in lines), option
        after = next(line for line in lines if line.startswith('    """'))
        assert len(after) > 10, option


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_a_part_refuses_an_unknown_option_with_a_hint(kind, name):
    with pytest.raises(PlanError) as caught:
        catalog.build(kind, {"use": name, "no_such_option": 1})
    assert any("no_such_option: unknown option" in fault for fault in caught.value.faults)


@pytest.mark.parametrize("kind", catalog.KINDS)
def test_an_unknown_name_and_a_missing_use_are_refused(kind):
    with pytest.raises(PlanError, match=f"unknown {kind}"):
        catalog.build(kind, {"use": "zzz"})
    with pytest.raises(PlanError, match="a key 'use'"):
        catalog.build(kind, {"name": "x"})


def test_the_table_of_a_part_builds_the_same_part():
    part = catalog.build("tuner", {"use": "lora", "rank": 4})
    assert catalog.build("tuner", catalog.table_of(part)) == part


def test_an_inherited_option_has_the_docstring_of_the_class_that_declares_it():
    meanings = {option: meaning for option, _, meaning in catalog.options("benchmark", "arc")}
    assert meanings["limit"] == "At most so many items."
    assert meanings["part"].startswith("The part that word statistics and retrieval answer wrongly")
