"""Products of matrices by oneDNN, where torch's usual ones are slow.

In float32 torch multiplies by MKL, which on AMD's processors leaves AVX-512
unused. oneDNN comes with torch as well, and uses it.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from minitransformer.processor import is_amd

CPU = torch.device("cpu")
LEAST = 2**20  # multiplications: below, the way there costs more


@cache
def use_onednn() -> bool:
    """Let oneDNN compute large products in float32, from now on.

    It does so for the whole process, forward and backward, and changes no
    result by more than rounding. Elsewhere, and with a torch that has no such
    product, nothing changes.

    Returns:
        Whether it does.
    """
    if mkl_is_slow():
        replace_products()
        return True
    return False


@cache
def mkl_is_slow() -> bool:
    """Say whether MKL is slow here, and oneDNN at hand."""
    backends: Any = torch.backends
    return (
        is_amd()
        and backends.cpu.get_cpu_capability() == "AVX512"
        and backends.mkl.is_available()
        and backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


@cache
def replace_products() -> Any:
    """Put the products below in the place of torch's own."""
    make_library: Any = torch.library.Library
    library = make_library("aten", "IMPL")
    with warnings.catch_warnings():  # torch says what it replaces
        warnings.filterwarnings("ignore", message="(?s).*Overriding")
        library.impl("mm", mm, "CPU")
        library.impl("addmm", addmm, "CPU")
    return library  # as long as it lives


def mm(a: Tensor, b: Tensor) -> Tensor:
    """Do `torch.mm`."""
    if suits_onednn(a, b):
        return linear(a, b.T)
    # What torch gives a place for the result is not replaced.
    return torch.mm(a, b, out=a.new_empty(len(a), b.shape[1]))


def addmm(
    bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """Do `torch.addmm`."""
    plain = beta == alpha == 1 and bias.shape == b.shape[1:]
    if plain and bias.is_contiguous() and suits_onednn(a, b):
        return linear(a, b.T, bias)
    result = a.new_empty(len(a), b.shape[1])
    return torch.addmm(bias, a, b, beta=beta, alpha=alpha, out=result)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Let oneDNN do `F.linear`.

    Args:
        x: ``(..., D_in)``.
        weight: ``(D_out, D_in)``.
        bias: ``(D_out,)``.

    Returns:
        ``(..., D_out)``.
    """
    product = torch.ops.mkldnn._linear_pointwise.default
    result: Tensor = product(x, weight, bias, "none", [], "")
    return result


def suits_onednn(a: Tensor, b: Tensor) -> bool:
    """Say whether a product is one of those that oneDNN computes faster.

    Args:
        a: ``(..., K)``.
        b: ``(K, N)``.
    """
    return (
        a.dtype == b.dtype == torch.float32
        and a.device == b.device == CPU
        and a.numel() * b.shape[1] >= LEAST
        and all(
            x.is_contiguous() or (x.ndim == 2 and x.T.is_contiguous())
            for x in (a, b)
        )
    )


def onednn_layers() -> AbstractContextManager[object]:
    """Let oneDNN do large linear layers in a ``with`` block.

    It has no gradient here, and only this thread is changed: a process that
    trains takes `use_onednn`.
    """
    return LinearByOneDNN() if mkl_is_slow() else nullcontext()


class LinearByOneDNN(TorchFunctionMode):
    """What takes the place of `F.linear`, where that pays."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do ``function``, as torch asks of a mode."""
        layer = function is F.linear and not kwargs
        if layer and suits_onednn(args[0], args[1].T):
            return linear(*args)
        return function(*args, **(kwargs or {}))
