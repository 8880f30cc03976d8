"""Products by oneDNN: the same numbers, and only where they are wanted."""

import subprocess
import sys
from threading import Thread
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from minitransformer import onednn, processor

needs_onednn = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"),
    reason="this torch has no such product",
)
M, K, N = 128, 97, 113  # more than LEAST multiplications


@pytest.fixture
def factors():
    return torch.randn(M, K), torch.randn(K, N)


@pytest.fixture
def spied(monkeypatch, usual_products):
    """Count what oneDNN computes."""
    spy = Mock(wraps=onednn.linear)
    monkeypatch.setattr(onednn, "linear", spy)
    return spy


@needs_onednn
def test_a_product_is_the_same(factors, spied):
    a, b = factors
    assert M * K * N > onednn.LEAST
    expected = (a.double() @ b.double()).float()
    for left in (a, a.T.contiguous().T):
        for right in (b, b.T.contiguous().T):
            assert_close(onednn.mm(left, right), expected)
    bias = torch.randn(N)
    assert_close(onednn.addmm(bias, a, b), expected + bias)
    assert spied.call_count == 5


@needs_onednn
def test_other_products_stay_torchs_own(factors, spied):
    a, b = factors
    bias, wide = torch.randn(N), torch.randn(M, 2 * K)
    for left, right in (
        (a[:9], b),  # small
        (a.double(), b.double()),
        (a.bfloat16(), b.bfloat16()),
        (wide[:, ::2], b),  # not in one piece
        (a[:1].expand(M, K), b),
        (a[:0], b),
    ):
        result = onednn.mm(left, right)
        assert result.dtype == left.dtype
        assert_close(result, left @ right)
    for c, options in (
        (bias, {"beta": 0.5}),
        (bias, {"alpha": 3}),
        (torch.randn(M, N), {}),
        (torch.randn(1), {}),
        (torch.randn(2 * N)[::2], {}),
    ):
        result = onednn.addmm(c, a, b, **options)
        assert_close(result, torch.addmm(c, a, b, **options))
    spied.assert_not_called()


@needs_onednn
@settings(deadline=None, max_examples=30)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 70))
def test_any_sizes_give_the_same_product(m, k, n):
    a, b, bias = torch.randn(m, k), torch.randn(k, n), torch.randn(n)
    exact = a.double() @ b.double()
    assert_close(onednn.linear(a, b.T), exact.float(), rtol=1e-4, atol=1e-4)
    found = onednn.linear(a, b.T, bias)
    assert_close(found, (exact + bias).float(), rtol=1e-4, atol=1e-4)


# A layer forward and backward, its gradient's gradient, and what torch says.
REPLACED = """
import sys, warnings
import torch
from torch import nn
from torch.testing import assert_close
from minitransformer import onednn
warnings.simplefilter("error")
torch.manual_seed(0)
x = torch.randn(5, 40, 97, requires_grad=True)
layer = nn.Linear(97, 113)
inputs = [x, layer.weight, layer.bias]

def results():
    y = layer(x)
    first = torch.autograd.grad((y ** 3).sum(), inputs, create_graph=True)
    second = torch.autograd.grad(first[0].square().sum(), inputs)
    return [y, *first, *second]

usual = results()
count, linear = [], onednn.linear
onednn.linear = lambda *all: (count.append(1), linear(*all))[1]
onednn.replace_products()
again = results()
assert len(count) > 6, count
for old, new in zip(usual, again):
    assert_close(new, old, rtol=1e-4, atol=1e-2)
"""


@needs_onednn
def test_all_products_of_a_process_are_replaced():
    subprocess.run([sys.executable, "-c", REPLACED], check=True)


@needs_onednn
def test_the_usual_products_can_come_back(factors, spied):
    a, b = factors
    onednn.replace_products()
    assert_close(a @ b, onednn.linear(a, b.T))
    assert spied.call_count == 2
    onednn.replace_products.cache_clear()
    assert_close(a @ b, onednn.linear(a, b.T))
    assert spied.call_count == 3


@pytest.mark.parametrize(
    ("amd", "capability", "suits"),
    [
        (True, "AVX512", True),
        (True, "AVX2", False),
        (False, "AVX512", False),
    ],
)
def test_only_where_mkl_is_slow(monkeypatch, amd, capability, suits):
    replaced = Mock()
    monkeypatch.setattr(onednn, "replace_products", replaced)
    monkeypatch.setattr(onednn, "is_amd", lambda: amd)
    monkeypatch.setattr(
        torch.backends.cpu, "get_cpu_capability", lambda: capability
    )
    for backend in (torch.backends.mkl, torch.backends.mkldnn):
        monkeypatch.setattr(backend, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", 1, False)
    probe = onednn.mkl_is_slow.__wrapped__
    monkeypatch.setattr(onednn, "mkl_is_slow", probe)
    assert onednn.use_onednn.__wrapped__() == suits
    assert replaced.called == suits


@pytest.fixture
def slow_mkl(monkeypatch):
    """Let MKL count as slow on any processor."""
    monkeypatch.setattr(onednn, "mkl_is_slow", lambda: True)


@needs_onednn
@pytest.mark.usefixtures("slow_mkl")
def test_layers_in_the_block_are_the_same(spied):
    layer = torch.nn.Linear(K, N)
    bare = torch.nn.Linear(K, N, bias=False)
    x = torch.randn(4, M // 4, K)
    with torch.no_grad():
        expected = layer(x), bare(x)
        with onednn.onednn_layers():
            assert_close((layer(x), bare(x)), expected)
            assert spied.call_count == 2
            other = Thread(target=layer, args=(x,))
            other.start()
            other.join()
        layer(x)
    assert spied.call_count == 2


@needs_onednn
@pytest.mark.usefixtures("slow_mkl")
def test_other_layers_in_the_block_stay_torchs_own(spied):
    x, weight = torch.randn(M, K), torch.randn(N, K)
    wide = torch.randn(M, 2 * K)
    with onednn.onednn_layers():
        for one, other in (
            (x[:9], weight),  # small
            (x.double(), weight.double()),
            (x.bfloat16(), weight.bfloat16()),
            (wide[:, ::2], weight),  # not in one piece
            (x.view(2, -1, K).transpose(0, 1), weight),
            (x, torch.randn(N, 2 * K)[:, ::2]),
            (x[:0], weight),
        ):
            assert_close(F.linear(one, other), one @ other.T)
        F.linear(input=x, weight=weight)
        torch.relu(x)
    spied.assert_not_called()


def test_no_block_where_mkl_is_fast(monkeypatch, spied):
    monkeypatch.setattr(onednn, "mkl_is_slow", lambda: False)
    with onednn.onednn_layers():
        F.linear(torch.randn(M, K), torch.randn(N, K))
    spied.assert_not_called()


@pytest.mark.parametrize("name", ["AuthenticAMD", "GenuineIntel", None])
def test_a_processor_names_its_maker(monkeypatch, name):
    def read(path):
        if name is None:
            raise FileNotFoundError
        return f"vendor_id : {name}"

    monkeypatch.setattr(processor.Path, "read_text", read)
    assert processor.is_amd.__wrapped__() == (name == "AuthenticAMD")
