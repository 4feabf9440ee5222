"""How fast near duplicates are removed, as a ratio to datasketch in the same run.

python -m tests.bench.dedup                 200,000 texts; datasketch reads 20,000 of them
python -m tests.bench.dedup --whole         datasketch reads all of them (minutes)
python -m tests.bench.dedup --texts 20000   another number of texts
python -m tests.bench.dedup --alike         texts that are much alike, as a ratio to random ones of their
                                            length, in processor time
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence

from quality.gate.dedup import near, shingles
from tests.quality.test_near_duplicates import ALIKE, one_cluster, words

TEXTS, SHARE, EVERY, THRESHOLD, ROUNDS = 200_000, 20_000, 20, 0.8, 3
MANY_ALIKE, SHIPPED = 100_000, 0.9
"""Texts of each kind that are much alike, and the threshold of a plan that names none."""


def make_texts(count: int) -> tuple[list[str], list[int]]:
    """Questions with answers, and which of them are near duplicates of an earlier one.

    One in twenty is: a typo, a dropped word or another ending of a text up to 1,000 before.
    """
    chance = random.Random(0)
    letters = "aaabcdeeeeefghiiiklmnnooprrssttttuvwy"
    words = ["".join(chance.choices(letters, k=chance.randint(3, 10))) for _ in range(8000)]
    common = [1 / (n + 10) for n in range(len(words))]  # Zipf, as in language
    bag = chance.choices(words, common, k=4_000_000)
    texts: list[str] = []
    planted: list[int] = []
    place = 0
    for number in range(count):
        if number % EVERY == EVERY - 1:
            source = texts[number - 1 - EVERY * chance.randrange(min(50, number // EVERY + 1))]
            texts.append(_changed(source, chance))
            if _jaccard(source, texts[-1]) >= THRESHOLD:
                planted.append(number)
            continue
        asked, said = chance.randint(7, 14), chance.randint(2, 12)
        if place + asked + said > len(bag):
            place = chance.randrange(1000)
        question = " ".join(bag[place : place + asked])
        answer = " ".join(bag[place + asked : place + asked + said])
        texts.append(f"What {question}?\n{answer.capitalize()}.")
        place += asked + said
    return texts, planted


def _changed(text: str, chance: random.Random) -> str:
    words = text.split(" ")
    number = chance.randrange(1, len(words))
    match chance.randrange(3):
        case 0:
            words[number] = words[number][:1] + words[number][2:]
        case 1:
            del words[number]
        case _:
            words.append("indeed")
    return " ".join(words)


def _jaccard(one: str, other: str) -> float:
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def peer(texts: Sequence[str]) -> list[bool]:
    """Whether datasketch finds an earlier kept text for each: MinHash.bulk, then look up and insert."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=THRESHOLD, num_perm=128)
    sketches = MinHash.bulk(
        ([one.encode() for one in shingles(text)] for text in texts), num_perm=128
    )
    dropped = []
    for number, sketch in enumerate(sketches):
        dropped.append(bool(index.query(sketch)))
        if not dropped[-1]:
            index.insert(number, sketch, check_duplication=False)
    return dropped


def random_texts(like: Sequence[str]) -> list[str]:
    """Texts of random words, each with as many as its counterpart."""
    chance = random.Random(2)
    return [" ".join(words(chance, len(text.split()))) for text in like]


def one_cluster_among_others(chance: random.Random, count: int) -> list[str]:
    """Nine in ten are random; the tenth part is one text, with a word replaced in each copy."""
    cluster = one_cluster(chance, count // 10)
    return cluster + [" ".join(words(chance, 60)) for _ in range(count - len(cluster))]


def compare_alike(count: int, thresholds: Sequence[float]) -> None:
    """Print the processor time of each kind, and its ratio to random texts in turn with it."""
    for make in [*ALIKE, one_cluster_among_others]:
        texts = make(random.Random(1), count)
        plain = random_texts(texts)
        for threshold in thresholds:
            alike_s = plain_s = float("inf")
            for _ in range(ROUNDS):
                started = time.process_time()
                near(plain, threshold)
                plain_s = min(plain_s, time.process_time() - started)
                started = time.process_time()
                found = near(texts, threshold)
                alike_s = min(alike_s, time.process_time() - started)
            print(
                f"{make.__name__:<26} at {threshold}: {alike_s:5.1f} s, random {plain_s:5.1f} s, ratio "
                f"{alike_s / plain_s:.2f} (at most 3), dropped {sum(hit is not None for hit in found):,}",
                flush=True,
            )


def main() -> None:
    """Print both times, their ratio, what was found, and how far the two agree."""
    options = argparse.ArgumentParser()
    options.add_argument("--texts", type=int)
    options.add_argument("--whole", action="store_true")
    options.add_argument("--alike", action="store_true")
    chosen = options.parse_args()
    if chosen.alike:
        compare_alike(chosen.texts or MANY_ALIKE, [SHIPPED, THRESHOLD])
        return
    texts, planted = make_texts(chosen.texts or TEXTS)
    read = len(texts) if chosen.whole else min(SHARE, len(texts))
    near(texts[:1000], THRESHOLD)
    peer(texts[:100])
    ours_s = peer_s = float("inf")
    for _ in range(ROUNDS):  # in turn, so that a busy machine slows both
        started = time.perf_counter()
        found = near(texts, THRESHOLD)
        ours_s = min(ours_s, time.perf_counter() - started)
        started = time.perf_counter()
        theirs = peer(texts[:read])
        peer_s = min(peer_s, (time.perf_counter() - started) * len(texts) / read)

    dropped = [hit is not None for hit in found]
    hits = sum(dropped[n] for n in planted) / len(planted)
    their_hits = sum(theirs[n] for n in planted if n < read) / sum(n < read for n in planted)
    same = sum(a == b for a, b in zip(dropped, theirs, strict=False)) / read
    told = "whole" if read == len(texts) else f"measured on {read:,}, scaled"
    print(
        f"near-duplicate removal of {len(texts):,} texts: ours {ours_s:.1f} s, datasketch "
        f"{peer_s:.1f} s ({told}), ratio {peer_s / ours_s:.1f} (to reach 10), near duplicates "
        f"planted at {THRESHOLD} found {hits:.1%} of {len(planted):,} (datasketch {their_hits:.1%}), dropped {sum(dropped):,}, "
        f"agreement {same:.2%}"
    )


if __name__ == "__main__":
    main()
