"""Check that teacher and student share a vocabulary, and decode its tokens."""

from __future__ import annotations

from typing import Any

from train.model.base_model import quiet, resolve_base
from warehouse.errors import ModelError

DIFFERENT = 0.01
"""Largest share of token ids that may mean different things: relatives differ in a few
special tokens, strangers in nearly all."""

PART = "\ufffd"
"""What a token decodes to that is only a part of a character."""


def read_vocabulary(name: str) -> dict[str, int]:
    """The tokens of a base or teacher and their ids; of most without importing torch.

    Raises:
        AssetError: it could not be downloaded.
    """
    folder = resolve_base(name)
    file = folder / "tokenizer.json"
    if file.is_file():
        from tokenizers import Tokenizer

        return dict(Tokenizer.from_file(str(file)).get_vocab())
    quiet()
    from transformers import AutoTokenizer

    return dict(AutoTokenizer.from_pretrained(folder).get_vocab())


def same_vocabulary(teacher: str, base: str) -> None:
    """Hold the tokenizer of a local teacher against the student's.

    Raises:
        AssetError: one of the two could not be downloaded.
        ModelError: their vocabularies differ.
    """
    theirs, own = read_vocabulary(teacher), read_vocabulary(base)
    in_theirs = {number: token for token, number in theirs.items()}
    in_own = {number: token for token, number in own.items()}
    ids = in_theirs.keys() | in_own.keys()
    differing = sum(in_theirs.get(number) != in_own.get(number) for number in ids)
    if differing > DIFFERENT * len(ids):
        raise ModelError(
            f"the teacher '{teacher}' ({len(theirs)} tokens) and the base '{base}' ({len(own)} "
            f"tokens) have different vocabularies: {differing} of {len(ids)} token ids mean "
            "different things; take a teacher of the base's family, or the objective 'sequence', "
            "which needs no common vocabulary"
        )


class Vocabulary:
    """What each token of a tokenizer adds to a text, and back.

    A token is asked for behind another one, since some tokenizers drop the space before
    the first token of a text.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._before = tokenizer("a", add_special_tokens=False)["input_ids"][-1]
        self._skip = len(self.decode([]))
        known = tokenizer.get_vocab()
        last = max(known.values())
        pairs = [[self._before, number] for number in range(last + 1)]
        decoded = tokenizer.batch_decode(pairs, clean_up_tokenization_spaces=False)
        self.texts: list[str] = [text[self._skip :] for text in decoded]
        """By token id; PART stands in what is not whole characters."""
        self._ids: dict[str, int] = {}
        for number, text in enumerate(self.texts):
            if text and PART not in text:
                self._ids.setdefault(text, known.get(text, number))

    def decode(self, ids: list[int]) -> str:
        """What several tokens add to a text, together with what stands before them."""
        text: str = self._tokenizer.decode([self._before, *ids], clean_up_tokenization_spaces=False)
        return text

    def id_of(self, text: str) -> int | None:
        """The token that says a text; None where there is none."""
        return self._ids.get(text)

    def pieces(self, ids: list[int]) -> list[tuple[int | None, str]]:
        """A sequence in whole characters: (position, text) of each token, or (None, text) of
        several tokens that are characters only together."""
        found: list[tuple[int | None, str]] = []
        held: list[int] = []
        for position, number in enumerate(ids):
            held.append(number)
            alone = len(held) == 1
            text = self.texts[number] if alone else self.decode(held)[self._skip :]
            if PART not in text:
                found.append((position if alone else None, text))
                held = []
        if held:
            found.append((None, self.decode(held)[self._skip :]))
        return found
