"""Products by oneDNN are PyTorch's own, up to the order of summing."""

from contextlib import nullcontext

import pytest
import torch

from tests.support.tiny import make_tiny
from train.config import SftConfig
from train.loop.sft import train_student
from train.model import fast_matmul
from train.tuners.lora import Lora

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this PyTorch has no oneDNN"
)


CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def on_any_cpu(monkeypatch):
    monkeypatch.setattr(fast_matmul, "_is_faster", lambda: True)


def outcome(scope, x, layer, up):
    x.grad = None
    layer.zero_grad()
    with scope:
        y = layer(x)
        (y * up).sum().backward()
    grads = [x.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]
    return type(y.grad_fn).__name__, [y.detach().clone(), *(grad.clone() for grad in grads)]


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(3, 48), (5, 7, 48), (1, 1, 48), (2, 3, 4, 48)])
def test_values_and_gradients_are_those_of_pytorch(shape, bias, frozen):
    torch.manual_seed(0)
    layer = torch.nn.Linear(48, 33, bias=bias)
    layer.weight.requires_grad_(not frozen)
    x = torch.randn(*shape, requires_grad=True)
    up = torch.randn(33).expand(*shape[:-1], 33)  # a gradient that is not contiguous
    (name, ours), (other, theirs) = (
        outcome(scope, x, layer, up) for scope in (fast_matmul.fast_products(CPU), nullcontext())
    )
    assert name == "_LinearBackward" != other
    assert len(ours) == len(theirs) == 2 + (not frozen) + bias
    for one, another in zip(ours, theirs, strict=True):
        assert one.shape == another.shape
        assert torch.allclose(one, another, rtol=1e-5, atol=1e-5)


def test_a_model_may_add_to_a_product_in_place():
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(8, 5, bias=False), torch.randn(2, 3, 8, requires_grad=True)
    with fast_matmul.fast_products(CPU):
        y = layer(x)
        y += layer(x)
        y.sum().backward()
    assert torch.allclose(x.grad, 2 * layer.weight.sum(0).expand_as(x), atol=1e-6)
    assert torch.allclose(layer.weight.grad, 2 * x.sum((0, 1)).expand(5, 8), atol=1e-5)


def test_views_are_multiplied_as_what_they_show():
    torch.manual_seed(0)
    inputs = [
        torch.randn(7, 5, 48).transpose(0, 1),
        torch.randn(48).expand(6, 48),
        torch.randn(6, 96)[:, ::2],
        torch.randn(2, 4, 60)[:, 1:, 5:53],
    ]
    weights = [torch.randn(48, 33).t(), torch.randn(66, 96)[::2, ::2], torch.randn(1, 48)]
    for x in inputs:
        for weight in weights:
            for bias in (torch.randn(len(weight)), torch.randn(2 * len(weight))[::2]):
                found = fast_matmul._linear(x, weight, bias)
                assert torch.allclose(found, fast_matmul._PLAIN(x, weight, bias), atol=2e-5)


def test_a_product_is_as_near_to_the_exact_one_as_float32_allows():
    torch.manual_seed(0)
    x, weight = torch.randn(64, 1536), torch.randn(576, 1536)
    with fast_matmul.fast_products(CPU):
        found = torch.nn.functional.linear(x, weight)
    exact = x.double() @ weight.double().T
    assert (found - exact).abs().max() / exact.abs().max() < 3e-6  # bfloat16 would be at 3e-3


def test_activations_can_be_computed_again():
    from torch.utils.checkpoint import checkpoint

    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU(), torch.nn.Linear(8, 8))
    x = torch.randn(4, 8)
    found = []
    for again in (False, True):
        layers.zero_grad()
        with fast_matmul.fast_products(CPU):
            y = checkpoint(layers, x, use_reentrant=False) if again else layers(x)
            y.sum().backward()
        found.append([p.grad.clone() for p in layers.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_a_student_is_trained_alike_with_activations_computed_again(tmp_path):
    base = str(make_tiny(tmp_path / "tiny"))
    rows = [
        {
            "prompt": [{"role": "user", "content": f"Which organ? {n}"}],
            "completion": [{"role": "assistant", "content": "The heart"}],
        }
        for n in range(16)
    ]
    found = []
    for again in (False, True):
        config = SftConfig(batch_size=4, max_length=128, gradient_checkpointing=again)
        result = train_student(base, Lora(dropout=0.0), rows, config, tmp_path / str(again))
        found.append([entry["loss"] for entry in result.losses])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (torch.ones(2, 4, dtype=torch.bfloat16), torch.ones(3, 4, dtype=torch.bfloat16)),
        (torch.ones(2, 4, dtype=torch.float64), torch.ones(3, 4, dtype=torch.float64)),
        (torch.ones(4), torch.ones(3, 4)),
        (torch.ones(0, 4), torch.ones(3, 4)),
        (torch.ones(2, 4, device="meta"), torch.ones(3, 4, device="meta")),
    ],
)
def test_what_it_is_not_for_is_left_to_pytorch(monkeypatch, x, weight):
    monkeypatch.setattr(fast_matmul, "_product", lambda *args: pytest.fail("taken"))
    with fast_matmul.fast_products(CPU):
        y = torch.nn.functional.linear(x, weight)
    assert y.shape == (*x.shape[:-1], 3)
    assert y.dtype == x.dtype


def test_it_ends_with_the_last_scope_and_is_not_for_a_gpu():
    plain = torch.nn.functional.linear
    with fast_matmul.fast_products(CPU):
        with pytest.raises(ZeroDivisionError), fast_matmul.fast_products(CPU):
            1 / 0  # noqa: B018
        assert torch.nn.functional.linear is not plain
    assert torch.nn.functional.linear is plain
    with fast_matmul.fast_products(torch.device("cuda")):
        assert torch.nn.functional.linear is plain


@pytest.mark.parametrize(
    ("name", "wide", "taken"),
    [("AMD EPYC", True, True), ("AMD EPYC", False, False), ("Intel Xeon", True, False)],
)
def test_it_is_for_cpus_whose_wide_units_mkl_leaves_idle(monkeypatch, name, wide, taken):
    monkeypatch.undo()  # the fixture's
    cpu = {"cpu_name": name, "avx512_f": wide}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    assert fast_matmul._is_faster.__wrapped__() is taken
