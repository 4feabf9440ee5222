"""Count the words or tokens of a text, in which the length of passages is given."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from warehouse.errors import DataError, first_line
from warehouse.inputs import assets
from warehouse.text.words import count_words


def length_counter(tokenizer: str | None, folder: Path) -> Callable[[str], int]:
    """Count words, or tokens where a tokenizer is given.

    Args:
        tokenizer: A `tokenizer.json`, a folder with one, or the name of a known model.
        folder: The plan's folder, from which a path starts.

    Raises:
        AssetError: a known model could not be downloaded.
        DataError: there is no such tokenizer, or it cannot be read.
    """
    if tokenizer is None:
        return count_words
    path = folder / Path(tokenizer).expanduser()
    if not path.exists() and tokenizer in assets.names("model"):
        path = assets.path(tokenizer)
    if path.is_dir():
        path /= "tokenizer.json"
    if not path.is_file():
        raise DataError(
            f"no tokenizer '{tokenizer}' in {folder}; give a tokenizer.json, a folder with one, or "
            f"one of {', '.join(assets.names('model'))}"
        )
    return _token_counter(path)


@cache
def _token_counter(path: Path) -> Callable[[str], int]:
    from tokenizers import Tokenizer

    try:
        loaded = Tokenizer.from_file(str(path))
    except Exception as error:  # what tokenizers raises has no class of its own
        raise DataError(f"{path} cannot be read as a tokenizer: {first_line(error)}") from None
    loaded.no_truncation()
    loaded.no_padding()
    return lambda text: len(loaded.encode(text, add_special_tokens=False).ids)
