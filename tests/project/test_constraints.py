"""The pinned versions and their hashes are one list, and say nothing of where it was made."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)")


def _name(text: str) -> str:
    return re.sub(r"[-_.]+", "-", text).lower()


def _pins(text: str) -> dict[str, str]:
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    matches = [PIN.match(line) for line in lines if line and not line.startswith("--hash")]
    assert all(matches), "every line is name==version"
    return {_name(match[1]): match[2] for match in matches if match}


def test_both_files_list_the_same_versions():
    """`make hashes` writes the second from the first."""
    pinned = _pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    hashed = _pins((ROOT / "constraints-hashes.txt").read_text(encoding="utf-8"))
    assert len(pinned) > 200
    assert pinned == hashed


def test_every_version_has_hashes_and_no_address():
    text = (ROOT / "constraints-hashes.txt").read_text(encoding="utf-8")
    assert "://" not in text and "--index" not in text and "--find-links" not in text
    for block in re.split(r"\n(?=[A-Za-z0-9])", text)[1:]:
        pin, *hashes = [line.strip().removesuffix(" \\") for line in block.splitlines()]
        assert hashes, f"{pin} has no hash"
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line) for line in hashes), pin
