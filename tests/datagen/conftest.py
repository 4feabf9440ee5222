"""Let no test of the teachers wait as long as a user would."""

from __future__ import annotations

import pytest

from datagen.openai import options


@pytest.fixture(autouse=True)
def short_first_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second try comes almost at once."""
    monkeypatch.setattr(options, "FIRST_WAIT_S", 0.01)
