"""Read the rows of one source of prompts, or of several that are mixed by weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NotRequired, TypeVar

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from warehouse.inputs import assets
from warehouse.inputs.hub_rows import HubSource, is_hub
from warehouse.inputs.rows import Row, RowSource, Split, check_columns, read_rows

T = TypeVar("T")


@with_config(ConfigDict(extra="forbid", use_attribute_docstrings=True))
class WeightedSource(TypedDict):
    """One source of a mixture."""

    path: str
    """A data set's name, a file, or "hf:org/name"."""
    weight: NotRequired[float]
    """Its share, against those of the others; 1 where it is left out."""
    columns: NotRequired[dict[str, str]]
    """Its columns by what they are; in place of those of the recipe."""


PromptSources = str | list[WeightedSource]
"""What a recipe's `prompts` may be: one source, or a mixture."""


def check_sources(
    prompts: PromptSources,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    holdout: float | None = None,
    limit: int | None = None,
) -> None:
    """Check the options of a recipe that reads rows; reads none.

    Raises:
        ValueError: one is wrong, or they do not fit together.
    """
    check_columns(columns)
    sources = _sources(prompts)
    if not sources:
        raise ValueError("prompts is a source or a list of them; name at least one")
    for source in sources:
        check_columns(source.get("columns"))
        weight = source.get("weight", 1.0)
        if not 0 < weight < math.inf:
            raise ValueError(
                f"prompts: the weight of '{source['path']}' is above 0, not {weight:g}; leave a "
                "source out that is not wanted"
            )
        if is_hub(source["path"]):
            HubSource.parse(source["path"])
    if holdout is not None and not 0 <= holdout < 1:
        raise ValueError("holdout is a share from 0 up to, not including, 1")
    if split == "train" and not any(held_out_share(s["path"], holdout) for s in sources):
        raise ValueError("split 'train' needs a holdout above 0; give one, or use split 'all'")
    if limit is not None and limit < 1:
        raise ValueError("limit is 1 or more; leave it out to ask every row")


def read_prompts(
    prompts: PromptSources,
    folder: Path,
    split: Split | None = None,
    holdout: float | None = None,
    columns: Mapping[str, str] | None = None,
) -> Iterator[Row]:
    """Rows to ask: those of one source in its order, or of several, interleaved by weights.

    Held-out rows are left out unless `split` is "all".

    Args:
        prompts: The source, or the sources with their weights.
        folder: Where relative paths start.
        split: Which rows are asked. None: "train" where some are held out, else "all".
        holdout: Share that is held out. None: a data set's own, 0 for files and the hub.
        columns: Column of ours -> column of the source; a source's own go first.

    Raises:
        DataError: a source is missing, empty or malformed.
        AssetError: a data set could not be downloaded.
    """

    def rows(source: WeightedSource) -> Iterator[Row]:
        share = held_out_share(source["path"], holdout)
        wanted: Split = split or ("train" if share else "all")
        return read_rows(source["path"], folder, wanted, share, source.get("columns", columns))

    sources = _sources(prompts)
    if len(sources) == 1:
        return rows(sources[0])
    return interleave([rows(s) for s in sources], [s.get("weight", 1.0) for s in sources])


def interleave(sources: Sequence[Iterator[T]], weights: Sequence[float]) -> Iterator[T]:
    """Take from several sources in turn, so that any beginning has their shares.

    The next one is always the source that is the furthest behind its share (of equal ones the
    first). A source that ends leaves the rest to the others.
    """
    shares = [Fraction(str(weight)) for weight in weights]  # exact: no order hangs on rounding
    behind = [Fraction(0)] * len(sources)
    live = list(range(len(sources)))
    while live:
        for number in live:
            behind[number] += shares[number]
        chosen = max(live, key=lambda number: (behind[number], -number))
        behind[chosen] -= sum(shares[number] for number in live)
        try:
            item = next(sources[chosen])
        except StopIteration:
            live.remove(chosen)
            behind = [Fraction(0)] * len(sources)
            continue
        yield item


def row_files(prompts: PromptSources, columns: Mapping[str, str] | None = None) -> list[RowSource]:
    """The user's files among the sources, for `distill check`."""
    return [
        RowSource(source["path"], source.get("columns", columns))
        for source in _sources(prompts)
        if source["path"] not in assets.names("data") and not is_hub(source["path"])
    ]


def hub_sources(prompts: PromptSources) -> list[str]:
    """The data sets of the hub among the sources."""
    return [source["path"] for source in _sources(prompts) if is_hub(source["path"])]


def held_out_share(source: str, holdout: float | None) -> float:
    """The share of a source that is held out: the plan's, or a data set's own."""
    if holdout is not None:
        return holdout
    return assets.entry(source).holdout if source in assets.names("data") else 0.0


def describe(prompts: PromptSources) -> str:
    """The sources by name, for messages."""
    return ", ".join(source["path"] for source in _sources(prompts))


def _sources(prompts: PromptSources) -> list[WeightedSource]:
    return [{"path": prompts}] if isinstance(prompts, str) else prompts
