"""Check that teacher and student share a vocabulary, and decode its tokens."""

from __future__ import annotations

from typing import Any

from train.model.base_model import quiet, resolve_base
from warehouse.errors import ModelError

DIFFERENT = 0.01
"""Largest share of token ids that may differ: models of a family differ in a few special tokens."""

PART = "\ufffd"
"""Decoded text of a token that is only a part of a character."""


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

    return dict(AutoTokenizer.from_pretrained(folder, trust_remote_code=False).get_vocab())


def require_same_vocabulary(teacher: str, base: str) -> None:
    """Compare the tokenizer of a local teacher with the student's.

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
    """Map the tokens of a tokenizer to the texts they add, and back.

    Each is decoded after another token, since some tokenizers drop the space before
    the first token of a text.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._before = tokenizer("a", add_special_tokens=False)["input_ids"][-1]
        self._skip = len(self.decode([]))
        vocabulary = tokenizer.get_vocab()
        last = max(vocabulary.values())
        pairs = [[self._before, number] for number in range(last + 1)]
        decoded = tokenizer.batch_decode(pairs, clean_up_tokenization_spaces=False)
        self.texts: list[str] = [text[self._skip :] for text in decoded]
        """By token id; contains PART where it is not whole characters."""
        self._ids: dict[str, int] = {}
        for number, text in enumerate(self.texts):
            if text and PART not in text:
                self._ids.setdefault(text, vocabulary.get(text, number))

    def decode(self, ids: list[int]) -> str:
        """Decode several tokens after a leading one."""
        text: str = self._tokenizer.decode([self._before, *ids], clean_up_tokenization_spaces=False)
        return text

    def id_of(self, text: str) -> int | None:
        """The token of a text; None where there is none."""
        return self._ids.get(text)

    def pieces(self, ids: list[int]) -> list[tuple[int | None, str]]:
        """A sequence in whole characters: (position, text) of each token, or (None, text) of
        several tokens that are characters only together."""
        pieces: list[tuple[int | None, str]] = []
        pending: list[int] = []
        for position, number in enumerate(ids):
            pending.append(number)
            is_single = len(pending) == 1
            text = self.texts[number] if is_single else self.decode(pending)[self._skip :]
            if PART not in text:
                pieces.append((position if is_single else None, text))
                pending = []
        if pending:
            pieces.append((None, self.decode(pending)[self._skip :]))
        return pieces
