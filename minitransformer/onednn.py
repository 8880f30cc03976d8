"""Products of matrices by oneDNN, where torch's usual ones are slow.

In float32 torch multiplies by MKL, which on AMD's processors leaves AVX-512
unused. oneDNN comes with torch as well, and uses it.
"""

import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor

from minitransformer.processor import is_amd

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
    backends: Any = torch.backends
    suits = (
        is_amd()
        and backends.cpu.get_cpu_capability() == "AVX512"
        and backends.mkl.is_available()
        and backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
    if suits:
        replace_products()
    return suits


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
        return linear(a, b)
    # What torch gives a place for the result is not replaced.
    return torch.mm(a, b, out=a.new_empty(len(a), b.shape[1]))


def addmm(
    bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """Do `torch.addmm`."""
    plain = beta == alpha == 1 and bias.shape == b.shape[1:]
    if plain and bias.is_contiguous() and suits_onednn(a, b):
        return linear(a, b, bias)
    result = a.new_empty(len(a), b.shape[1])
    return torch.addmm(bias, a, b, beta=beta, alpha=alpha, out=result)


def linear(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """Let oneDNN compute ``a @ b``, plus a bias."""
    product = torch.ops.mkldnn._linear_pointwise.default
    result: Tensor = product(a, b.T, bias, "none", [], "")
    return result


def suits_onednn(a: Tensor, b: Tensor) -> bool:
    """Say whether a product is one of those that oneDNN computes faster."""
    return (
        a.dtype == b.dtype == torch.float32
        and a.numel() * b.shape[1] >= LEAST
        and all(x.is_contiguous() or x.T.is_contiguous() for x in (a, b))
    )
