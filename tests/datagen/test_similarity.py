"""ROUGE-L by rapidfuzz against the longest common subsequence written out, and the pool's search."""

import random
from pathlib import Path

import pytest

from datagen.similarity import SimilarTexts, rouge_l, rouge_tokens
from warehouse.inputs.rows import read_rows

ROOT = Path(__file__).resolve().parents[2]
REAL = [
    row.prompt if not row.passage else f"{row.prompt} {row.passage}"
    for name in ("seed_tasks.jsonl", "chinese.jsonl", "prompts.jsonl", "questions.csv")
    for row in read_rows(str(ROOT / "examples" / "data" / name), ROOT)
]


def plain_rouge_l(left: str, right: str) -> float:
    """F1 of the longest common subsequence, by its table."""
    a, b = rouge_tokens(left), rouge_tokens(right)
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            table[i + 1][j + 1] = (
                table[i][j] + 1 if one == other else max(table[i][j + 1], table[i + 1][j])
            )
    common = table[-1][-1]
    if not common:
        return 0.0
    precision, recall = common / len(b), common / len(a)
    return 2 * precision * recall / (precision + recall)


def test_rouge_l_is_that_of_a_plain_longest_common_subsequence():
    pairs = [(a, b) for n, a in enumerate(REAL) for b in REAL[n::5]]
    assert len(pairs) > 500
    values = [rouge_l(a, b) for a, b in pairs]
    assert values == pytest.approx([plain_rouge_l(a, b) for a, b in pairs], abs=1e-12)
    assert len({round(value, 3) for value in values}) > 50


def test_rouge_l_reads_any_script_and_no_case():
    assert rouge_l("Translate THIS text.", "translate this text") == 1
    assert rouge_l("请把这句话翻译成英文", "请把这段话翻译成法文") == pytest.approx(0.8)
    assert rouge_l("...", "...") == 0
    assert rouge_l("a b c d", "d c b a") == 0.25


def variants(number: int, length: int = 12) -> tuple[list[str], list[tuple[str, int]]]:
    """Texts of random words, and others made of them by changes of some words."""
    chance = random.Random(7)
    vocabulary = [f"word{n}" for n in range(400)]
    texts = [" ".join(chance.choices(vocabulary, k=length)) for _ in range(number)]
    changed = []
    for source in chance.sample(range(number), 200):
        tokens = texts[source].split()
        for place in chance.sample(range(length), chance.randrange(1, 6)):
            tokens[place] = chance.choice(vocabulary)
        changed.append((" ".join(tokens), source))
    return texts, changed


def test_the_most_similar_text_is_that_of_a_search_through_all():
    texts, changed = variants(300)
    index = SimilarTexts(0.7)
    index.update(texts)
    found = 0
    for text, _ in changed:
        best = max(range(len(texts)), key=lambda n: (plain_rouge_l(text, texts[n]), -n))
        similarity = plain_rouge_l(text, texts[best])
        hit = index.most_similar(text)
        if similarity < 0.7 - 1e-9:
            assert hit is None
        else:
            found += 1
            assert hit == (pytest.approx(similarity), texts[best])
    assert 50 < found < 200


def test_candidates_by_minhash_find_what_the_whole_search_finds():
    texts, changed = variants(3000)
    exact, sketched = SimilarTexts(0.7), SimilarTexts(0.7, exact_up_to=100)
    for index in (exact, sketched):
        index.update(texts)
    hits = [(exact.most_similar(text), sketched.most_similar(text)) for text, _ in changed]
    true = [pair for pair in hits if pair[0]]
    assert len(true) > 50
    assert sum(one == other for one, other in true) >= 0.98 * len(true)
    assert not [other for one, other in hits if one is None and other is not None]


def test_repeated_words_count_as_often_as_they_come():
    index = SimilarTexts(0.7, exact_up_to=1)
    index.update(["no no no no no no", "yes", "perhaps"])
    assert index.most_similar("no") is None
    assert index.most_similar("no no no no no") == (pytest.approx(10 / 11), "no no no no no no")


def test_an_update_follows_a_pool_that_grows_and_one_that_is_another():
    index = SimilarTexts(0.7)
    index.update(["one two three four"])
    index.update(["one two three four", "five six seven eight"])
    assert index.most_similar("five six seven nine") == (0.75, "five six seven eight")
    index.update(["five six"])
    assert index.texts == ["five six"] and index.most_similar("one two three four") is None


def test_a_text_without_words_is_like_none_and_a_threshold_has_bounds():
    index = SimilarTexts(0.5)
    index.update(["...", ""])
    assert index.most_similar("...") is None
    with pytest.raises(ValueError, match="above 0, at most 1, not 0"):
        SimilarTexts(0)
