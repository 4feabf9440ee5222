"""Stream the records of a data set on the Hugging Face hub: "hf:org/name/config/split@revision"."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from warehouse.errors import DataError, first_line

PREFIX = "hf:"
_PART = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_FORM = re.compile(rf"hf:({_PART}/{_PART})(?:/([^/@\s]+))?(?:/([^/@\s]+))?(?:@([A-Za-z0-9._/-]+))?")


class HubSource(NamedTuple):
    """What of the hub is read; without a config the data set's only one, the train split."""

    name: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None

    @classmethod
    def parse(cls, source: str) -> HubSource:
        """Read how a plan names it.

        Raises:
            ValueError: it is of another form.
        """
        found = _FORM.fullmatch(source)
        if found is None:
            raise ValueError(
                f"'{source}' is no data set of the hub; write hf:org/name, hf:org/name/config or "
                "hf:org/name/config/split, and @revision after it to pin one"
            )
        name, config, split, revision = found.groups()
        return cls(name, config, split or "train", revision)

    @property
    def label(self) -> str:
        """How messages name it."""
        return "/".join(filter(None, (self.name, self.config, self.split)))


def is_hub(source: str) -> bool:
    """Whether a source is a data set of the hub, and no file."""
    return source.startswith(PREFIX)


def read_hub(source: str) -> Iterator[tuple[str, Any]]:
    """(where it stands, record) of each row, streamed: nothing is downloaded whole.

    Code that a data set brings is never run.

    Raises:
        DataError: it cannot be reached, or has no such config or split.
    """
    hub = HubSource.parse(source)
    import datasets

    try:
        rows = datasets.load_dataset(
            hub.name,
            hub.config,
            split=hub.split,
            revision=hub.revision,
            streaming=True,
            trust_remote_code=False,
        )
        for number, row in enumerate(rows, start=1):
            yield f"{hub.label} row {number}", row
    except Exception as error:  # of the hub's client, of parquet, of the network: many kinds
        raise DataError(
            f"data set '{hub.label}' could not be read from the hub ({first_line(error)}); check its "
            "name, config and split, the network, and HF_TOKEN where it is gated, or save it as a "
            "file and name that"
        ) from None
