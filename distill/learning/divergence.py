"""Compute the divergence of student and teacher next-token distributions, per position, in nats.

Importing this loads torch; the rest of the room imports it late.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

NOTHING = -1e9
"""Logarithm of a zero probability; finite, so that 0 times it is 0."""

UNKNOWN = 5e-5
"""Least mass outside of stored tokens: log-probabilities are stored with four digits, so
that their sum is known no better than this."""


def divergence(kind: str, teacher: Tensor, student: Tensor) -> Tensor:
    """The divergence between two distributions, given as log-probabilities.

    `forward_kl` is KL(teacher || student), which covers everything that the teacher might say
    (Hinton et al. 2015); `reverse_kl` is KL(student || teacher), which concentrates on what it is
    likely to say (Gu et al. 2023, section 2.1); `jsd` is their mean against the mixture of
    both, at most log 2 (Agarwal et al. 2023, section 2, with a weight of 0.5).

    Args:
        kind: One of these three.
        teacher: Log-probabilities of shape (positions, tokens).
        student: The same of the student.

    Returns:
        Shape (positions,).
    """
    if kind == "forward_kl":
        return _kl(teacher, student)
    if kind == "reverse_kl":
        return _kl(student, teacher)
    mixture = torch.logaddexp(teacher, student) - math.log(2)
    return (_kl(teacher, mixture) + _kl(student, mixture)) / 2


def _kl(p: Tensor, q: Tensor) -> Tensor:
    return (p.exp() * (p - q)).sum(-1)


def over_vocabulary(
    kind: str, teacher: Tensor, student: Tensor, temperature: float = 1.0
) -> Tensor:
    """The divergence over the whole vocabulary, both softened by a temperature T, times T^2.

    The factor keeps the gradient's size as T changes (Hinton et al. 2015, section 2).
    Models of one family pad their output layers differently; tokens that only one of
    them has are left out.

    Args:
        kind: See `divergence`.
        teacher: Logits of shape (positions, vocabulary).
        student: The same of the student.
        temperature: Above 0.

    Returns:
        Shape (positions,).
    """
    size = min(teacher.shape[-1], student.shape[-1])
    softened = [
        (logits[..., :size].float() / temperature).log_softmax(-1) for logits in (teacher, student)
    ]
    return divergence(kind, softened[0], softened[1]) * temperature**2


def over_known(kind: str, ids: Tensor, logprobs: Tensor, student: Tensor) -> Tensor:
    """The divergence over the tokens a teacher gave, and all others together as one more.

    Rescaling the known ones to a sum of 1 would teach that nothing else is possible. With all
    others as one outcome, KL and JSD are lower bounds of those over the vocabulary: 0 where the
    student agrees, exact where every token is known (Cover and Thomas 2006, theorem 2.7.1, the
    log sum inequality).

    Args:
        kind: See `divergence`.
        ids: Known tokens of shape (positions, k), each once, -1 where there are fewer; the
            first is always known.
        logprobs: The teacher's, of the same shape.
        student: Logits of shape (positions, vocabulary).

    Returns:
        Shape (positions,).
    """
    is_known = ids >= 0
    indices = torch.where(is_known, ids, ids[:, :1]).clamp(min=0)
    student = student.float()
    total = student.logsumexp(-1, keepdim=True)
    rest_mass = student.scatter(-1, indices, NOTHING).logsumexp(-1, keepdim=True) - total
    own_known = (student.gather(-1, indices) - total).masked_fill(~is_known, NOTHING)
    own = torch.cat([own_known, rest_mass], -1)

    logprobs = logprobs.masked_fill(~is_known, NOTHING)
    outside = (1 - logprobs.exp().sum(-1, keepdim=True)).clamp(min=UNKNOWN).log()
    complete = is_known.sum(-1, keepdim=True) == student.shape[-1]
    theirs = torch.cat([logprobs, outside.masked_fill(complete, NOTHING)], -1).log_softmax(-1)
    return divergence(kind, theirs, own)
