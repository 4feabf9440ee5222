"""The DDL is rendered from the records; a change of it is seen in the golden file."""

import os
from pathlib import Path

from warehouse.schema import ddl

GOLDEN = Path(__file__).parent / "golden" / "ddl.sql"


def test_the_ddl_is_the_golden_one():
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(ddl())
    assert ddl() == GOLDEN.read_text()
