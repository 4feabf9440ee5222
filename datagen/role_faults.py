"""Find turns of a dialogue that leave their role: empty, repeated, or the other speaker's."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rapidfuzz.distance import Indel

from warehouse.text.words import caseless, words

SAME = 0.9
"""Similarity of words (Indel, 0..1) from which a turn repeats another."""

_LABEL = re.compile(
    r"^\W*(?:user|human|person|assistant|ai|bot|用户|人类|助手|助理)\W{0,3}[:：]", re.IGNORECASE
)
_OTHER_SPEAKER = re.compile(
    r"^\W*(?:user|human|person|用户|人类)\W{0,3}[:：]", re.IGNORECASE | re.MULTILINE
)
_ASSISTANT_SAYS = re.compile(
    r"\bas an? (?:ai|artificial intelligence|(?:large )?language model|(?:ai |virtual )?assistant)\b"
    r"|\bi(?:'m| am) (?:an? )?(?:ai|language model|(?:ai |virtual )?assistant)\b"
    r"|\b(?:how|what) (?:can|may|could) i (?:help|assist|do for) you\b"
    r"|\bi(?:'m| am)(?: always)? here to (?:help|assist)\b"
    r"|\bi(?:'d| would) be (?:happy|glad) to (?:help|assist|explain|answer)\b"
    r"|\bis there anything else (?:i can|you(?:'d| would) like|you need)\b"
    r"|\b(?:feel free to ask|let me know if you (?:have|need)|i hope (?:this|that) helps)\b"
    r"|\byou(?:'re| are) welcome\b|\b(?:great|good|excellent) question\b"
    r"|^\W*(?:certainly|of course|sure|absolutely)\W+(?:here|i (?:can|will)|i'll|let me)\b"
    r"|作为(?:一个|一名)?(?:ai|人工智能|语言模型|(?:智能|虚拟)?助手)|我是(?:一个|一名)?(?:ai|人工智能|语言模型)"
    r"|(?:有什么|什么)(?:我)?(?:可以|能)(?:帮|为)(?:助)?(?:您|你)|(?:很高兴|乐意)(?:为|帮助?)(?:您|你)"
    r"|希望(?:这|以上).{0,6}(?:有帮助|有所帮助|帮到)|如果(?:您|你)(?:还有|有)(?:其他|任何).{0,4}问题|不客气",
    re.IGNORECASE,
)
"""What assistants say of themselves and of their help; English and Chinese."""


def user_fault(text: str, earlier: Sequence[str], others: Sequence[str] = ()) -> str | None:
    """Why a text is no turn of the user; None where it is one.

    Args:
        text: What the user should have said.
        earlier: The user's turns before.
        others: The assistant's turns before.
    """
    if not text.strip():
        return "the user's turn is empty"
    if _LABEL.search(text):
        return "the user's turn begins with a speaker's name"
    if (found := _ASSISTANT_SAYS.search(caseless(text))) is not None:
        return f"the user speaks as the assistant ('{found[0].strip()}')"
    if repeats(text, earlier):
        return "the user's turn repeats an earlier one"
    if repeats(text, others):
        return "the user repeats the assistant"
    return None


def assistant_fault(text: str, earlier: Sequence[str], others: Sequence[str] = ()) -> str | None:
    """Why a text is no turn of the assistant; None where it is one."""
    if not text.strip():
        return "the assistant's turn is empty"
    if _OTHER_SPEAKER.search(text):
        return "the assistant speaks for the user"
    if repeats(text, earlier):
        return "the assistant's turn repeats an earlier one"
    if repeats(text, others):
        return "the assistant repeats the user"
    return None


def repeats(text: str, earlier: Sequence[str]) -> bool:
    """Whether a text says in nearly the same words what one of the earlier ones says."""
    own = words(caseless(text))
    return any(
        Indel.normalized_similarity(own, words(caseless(other))) >= SAME for other in earlier
    )
