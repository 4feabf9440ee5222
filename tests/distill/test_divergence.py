import math

import pytest
import torch
from scipy.spatial.distance import jensenshannon
from torch.distributions import Categorical, kl_divergence

from distill.learning.divergence import divergence, over_known, over_vocabulary

KINDS = ("forward_kl", "reverse_kl", "jsd")


@pytest.fixture
def pair():
    """Logits of a teacher and a student: six positions, eleven tokens."""
    made = torch.Generator().manual_seed(0)
    return [torch.randn(6, 11, generator=made) * 2 for _ in range(2)]


def expected(kind, teacher, student):
    p, q = Categorical(logits=teacher), Categorical(logits=student)
    if kind == "forward_kl":
        return kl_divergence(p, q)
    if kind == "reverse_kl":
        return kl_divergence(q, p)
    rows = zip(p.probs.numpy(), q.probs.numpy(), strict=True)
    return torch.tensor([jensenshannon(one, other) ** 2 for one, other in rows])


def known(teacher, k):
    top = teacher.log_softmax(-1).topk(k)
    return top.indices, top.values


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_what_torch_and_scipy_say(kind, pair):
    teacher, student = pair
    found = divergence(kind, teacher.log_softmax(-1), student.log_softmax(-1))
    assert torch.allclose(found, expected(kind, teacher, student).float(), atol=1e-5)
    assert torch.allclose(over_vocabulary(kind, teacher, student), found)


def test_jsd_of_strangers_is_log_two():
    apart = torch.tensor([[80.0, 0, 0], [0, 80.0, 0]])
    found = over_vocabulary("jsd", apart, apart.flip(0))
    assert found.tolist() == pytest.approx([math.log(2)] * 2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_temperature_softens_both_and_keeps_the_size_of_the_gradient(kind, pair):
    teacher, student = pair
    found = over_vocabulary(kind, teacher, student, temperature=3.0)
    assert torch.allclose(found, 9 * expected(kind, teacher / 3, student / 3).float(), atol=1e-4)


def test_tokens_that_one_model_lacks_are_left_out(pair):
    teacher, student = pair
    wider = torch.cat([teacher, torch.full((6, 5), 3.0)], dim=-1)
    for kind in KINDS:
        found = over_vocabulary(kind, wider, student)
        assert torch.allclose(found, over_vocabulary(kind, teacher, student))


@pytest.mark.parametrize("kind", KINDS)
def test_with_every_token_known_it_is_exact(kind, pair):
    teacher, student = pair
    found = over_known(kind, *known(teacher, 11), student)
    assert torch.allclose(found, over_vocabulary(kind, teacher, student), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_tokens_are_one_more_outcome(kind, pair):
    teacher, student = pair
    ids, logprobs = known(teacher, 4)
    lumped = []
    for logits in (teacher, student):
        probs = logits.softmax(-1)
        top = probs.gather(-1, ids)
        lumped.append(torch.cat([top, 1 - top.sum(-1, keepdim=True)], -1).log())
    found = over_known(kind, ids, logprobs, student)
    assert torch.allclose(found, expected(kind, *lumped).float(), atol=1e-5)
    assert (found <= over_vocabulary(kind, teacher, student) + 1e-6).all()


@pytest.mark.parametrize("kind", KINDS)
def test_empty_places_in_the_list_of_known_tokens_change_nothing(kind, pair):
    teacher, student = pair
    ids, logprobs = known(teacher, 4)
    padded = torch.cat([ids, torch.full((6, 3), -1)], -1)
    zeros = torch.cat([logprobs, torch.zeros(6, 3)], -1)
    found = over_known(kind, padded, zeros, student)
    assert torch.allclose(found, over_known(kind, ids, logprobs, student), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [3, 11])
def test_gradients_are_finite_and_vanish_where_both_agree(kind, k, pair):
    teacher, student = pair
    student = student.clone().requires_grad_()
    over_known(kind, *known(teacher, k), student).sum().backward()
    assert torch.isfinite(student.grad).all()
    assert float(student.grad.abs().max()) > 1e-3
    agreed = teacher.clone().requires_grad_()
    found = over_known(kind, *known(teacher, k), agreed)
    found.sum().backward()
    assert float(found.detach().abs().max()) < 1e-5
    assert float(agreed.grad.abs().max()) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_a_teacher_that_is_sure_has_finite_losses(kind, pair):
    _, student = pair
    student = student.clone().requires_grad_()
    ids, sure = torch.zeros(6, 1, dtype=torch.long), torch.zeros(6, 1)
    found = over_known(kind, ids, sure, student)
    found.sum().backward()
    assert torch.isfinite(found).all()
    assert torch.isfinite(student.grad).all()
    assert (student.grad[:, 0] < 0).all()  # towards the token that the teacher is sure of
