"""Speed up float32 products on a CPU by oneDNN, where PyTorch's default leaves half of it idle.

PyTorch multiplies float32 matrices with MKL, which uses AVX-512 on Intel's CPUs only. The
oneDNN that comes with PyTorch looks at what a CPU can do instead: on an AMD EPYC with AVX-512
it is 2.3 times as fast. Both are float32 throughout and differ in the order of summing.

Importing this loads torch; the rest of the room imports it late.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

import torch

_PLAIN = torch.nn.functional.linear
_lock = Lock()
_scopes = 0


@contextmanager
def fast_products(device: Any) -> Iterator[None]:
    """Within it, linear layers in float32 on a CPU go to oneDNN, their gradients too.

    The backward pass has to be within it as well if activations are computed again there.
    It changes nothing on a CPU of Intel's, for other types, and where `device` is a GPU.

    `torch.nn.functional.linear` is another function meanwhile, in all threads: PyTorch has
    no switch for this, and its function modes are off in the backward pass.
    """
    global _scopes
    if device.type != "cpu" or not _is_faster():
        yield
        return
    with _lock:
        _scopes += 1
        torch.nn.functional.linear = _linear
    try:
        yield
    finally:
        with _lock:
            _scopes -= 1
            if not _scopes:
                torch.nn.functional.linear = _PLAIN


@cache
def _is_faster() -> bool:
    cpu = torch.cpu.get_capabilities()
    return (
        torch.backends.mkl.is_available()
        and torch.backends.mkldnn.is_available()
        and bool(cpu.get("avx512_f"))
        and "Intel" not in str(cpu.get("cpu_name"))
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # what Inductor makes of a linear layer
    )


def _linear(x: Any, weight: Any, bias: Any = None) -> Any:
    if not _is_for_us(x, weight, bias):
        return _PLAIN(x, weight, bias)
    trained = any(t.requires_grad for t in (x, weight, bias) if t is not None)
    if trained and torch.is_grad_enabled():
        return _Linear.apply(x, weight, bias)
    return _product(x, weight, bias)


def _is_for_us(x: Any, weight: Any, bias: Any) -> bool:
    """Whether these are ordinary float32 tensors in memory, of the shapes of a linear layer."""
    return (
        all(
            type(t) in (torch.Tensor, torch.nn.Parameter)
            and t.dtype == torch.float32
            and t.device.type == "cpu"
            and t.layout == torch.strided
            and t.numel() > 0
            for t in (x, weight, bias)
            if t is not None
        )
        and x.dim() > 1
        and weight.dim() == 2
        and not torch.is_autocast_enabled("cpu")
    )


def _product(x: Any, weight: Any, bias: Any = None) -> Any:
    """x @ weight.T + bias; of a bias the operator reads consecutive numbers, whatever its stride."""
    contiguous_bias = None if bias is None else bias.contiguous()
    return torch.ops.mkldnn._linear_pointwise(x, weight, contiguous_bias, "none", [], "")


class _Linear(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any) -> Any:
        ctx.save_for_backward(x if weight.requires_grad else None, weight)
        flat = _product(x.reshape(-1, x.shape[-1]), weight, bias)
        # not a view for autograd, which would forbid models to add to it in place
        return torch.ops.aten._unsafe_view(flat, [*x.shape[:-1], len(weight)])

    @staticmethod
    def backward(ctx: Any, grad: Any) -> tuple[Any, Any, Any]:
        x, weight = ctx.saved_tensors
        flat = grad.reshape(-1, grad.shape[-1])
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = _product(flat, weight.t()).view(*grad.shape[:-1], -1)
        if ctx.needs_input_grad[1]:
            of_weight = _product(flat.t(), x.reshape(-1, x.shape[-1]).t())
        if ctx.needs_input_grad[2]:
            of_bias = flat.sum(0)
        return of_x, of_weight, of_bias
