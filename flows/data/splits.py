"""Share the rows of a data set among its splits, so that what belongs together stays together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from warehouse.inputs.rows import is_held_out
from warehouse.records import Prompt, Sample
from warehouse.text.words import split_form


def find_test_rows(
    samples: Sequence[Sample], prompts: Mapping[str, Prompt], share: float
) -> list[bool]:
    """Whether each sample is in the test split.

    Samples of one seed, such as the paraphrases of a question or the turns of a conversation, of
    one passage, or of one question without a passage are a group, and so are groups that share a
    sample. A group is in the test split by a hash of its first text in the order of the alphabet,
    so that it stays where it is as long as no other joins it.

    Args:
        samples: The samples.
        prompts: Their prompts by id, as far as they are recorded.
        share: Of the test split, 0..1.
    """
    groups: dict[str, str] = {}  # a key -> another one of its group; the first one has itself

    def first_of(key: str) -> str:
        groups.setdefault(key, key)
        while groups[key] != key:
            groups[key] = groups[groups[key]]
            key = groups[key]
        return key

    own = []
    for sample in samples:
        keys = sorted(map(first_of, _keys(sample, prompts.get(sample.prompt_id))))
        for key in keys:
            groups[key] = keys[0]
        own.append(keys[0])
    # Texts come before seeds, so the first key of a group is a text.
    return [is_held_out(first_of(key)[1:], share) for key in own]


def _keys(sample: Sample, prompt: Prompt | None) -> Iterator[str]:
    """What a sample has in common with others: texts begin with 0, seeds with 1."""
    yield "0" + split_form(sample.passage or sample.question)
    yield "1" + sample.prompt_id
    if prompt is not None and (text := split_form(prompt.passage or prompt.question)):
        yield "0" + text
