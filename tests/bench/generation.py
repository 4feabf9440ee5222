"""How fast a student answers, as a ratio to lm-eval's hf backend in the same run.

python -m tests.bench.generation        100 questions of NQ-open, 16 new tokens, two rounds each
"""

from __future__ import annotations

import logging
import os
import time
from itertools import islice
from pathlib import Path
from typing import Any

from train.dataset import render
from train.model.base_model import resolve_base
from train.model.inference import Generator
from warehouse.inputs.rows import read_rows
from warehouse.records import Message

BASE, QUESTIONS, NEW_TOKENS, PEER_BATCH, ROUNDS = "smollm2-135m-instruct", 100, 16, 8, 2


class Peer:
    """lm-eval's hf backend with its defaults, given the same rendered prompts and end tokens."""

    def __init__(self, reader: Generator, conversations: list[list[Message]]) -> None:
        from lm_eval.api.instance import Instance
        from lm_eval.models.huggingface import HFLM

        model, tokenizer = reader.model, reader.tokenizer
        self._backend: Any = HFLM(
            pretrained=str(resolve_base(BASE)),
            dtype=str(model.dtype).removeprefix("torch."),
            device=str(model.device),
            batch_size=PEER_BATCH,
        )
        ends = tokenizer.convert_ids_to_tokens(model.generation_config.eos_token_id)
        how = {"until": ends, "max_gen_toks": NEW_TOKENS}
        self._asked = [
            Instance("generate_until", {}, (render(tokenizer, conversation), how), index)
            for index, conversation in enumerate(conversations)
        ]

    def answer(self) -> list[str]:
        """The texts, in order."""
        said: list[str] = self._backend.generate_until(self._asked, disable_tqdm=True)
        return said


def main() -> None:
    """Print both times, their ratio and how many answers are the same."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the peer would ask a hub for the folder's commit
    logging.disable(logging.WARNING)
    rows = islice(read_rows("nq-open", Path()), QUESTIONS)
    conversations = [row.messages for row in rows]
    reader = Generator(BASE)
    peer = Peer(reader, conversations)
    ours_s = peer_s = float("inf")
    for _ in range(ROUNDS):  # in turn, so that a busy machine slows both
        started = time.perf_counter()
        theirs = peer.answer()
        peer_s = min(peer_s, time.perf_counter() - started)
        started = time.perf_counter()
        found = sorted(reader.answer(conversations, NEW_TOKENS), key=lambda one: one.index)
        ours_s = min(ours_s, time.perf_counter() - started)
    same = sum(one.text == text for one, text in zip(found, theirs, strict=True))
    tokens = sum(one.completion_tokens for one in found)
    print(
        f"answers to {len(conversations)} questions ({tokens:,} tokens, {reader.model.dtype}, "
        f"{reader.model.device.type}), best of {ROUNDS} rounds each, load {os.getloadavg()[0]:.1f}: "
        f"ours {ours_s:.1f} s, lm-eval's hf backend in batches of {PEER_BATCH} {peer_s:.1f} s, "
        f"ratio {peer_s / ours_s:.2f} (to reach 3.0), same answers {same}"
    )


if __name__ == "__main__":
    main()
