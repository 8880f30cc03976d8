"""Compact weights: a quarter of the room, near what they were."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from minitransformer.compact import SCALE, compact, restore


def test_by_hand():
    weight = torch.tensor([[1.27, -0.64, 0.004], [0.0, 254.0, -2.9]])
    kept = compact({"w": weight, "b": torch.tensor([0.3])})
    assert list(kept) == ["w", "w" + SCALE, "b"]
    assert kept["w"].dtype == torch.int8
    # The row's scales are 0.01 and 2.
    assert kept["w"].tolist() == [[127, -64, 0], [0, 127, -1]]
    found = restore(kept)
    assert list(found) == ["w", "b"]
    expected = torch.tensor([[1.27, -0.64, 0.0], [0.0, 254.0, -2.0]])
    assert_close(found["w"], expected)
    assert_close(found["b"], torch.tensor([0.3]))


@given(st.integers(1, 5), st.integers(1, 7), st.floats(-30, 30))
def test_a_number_is_off_by_half_a_step_at_most(rows, columns, power):
    generator = torch.Generator().manual_seed(rows + 10 * columns)
    weight = torch.randn(rows, columns, generator=generator) * 2**power
    found = restore(compact({"w": weight}))["w"]
    step = weight.abs().amax(dim=1, keepdim=True) / 127  # (N, 1)
    assert bool(((found - weight).abs() <= 0.501 * step).all())


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), ()])
def test_what_is_no_matrix_stays(shape):
    tensor = torch.randn(shape)
    kept = compact({"t": tensor})
    assert list(kept) == ["t"]
    assert kept["t"] is tensor
    assert restore(kept)["t"] is tensor


def test_rows_of_zeros_stay_zeros():
    found = restore(compact({"w": torch.zeros(2, 3)}))["w"]
    assert_close(found, torch.zeros(2, 3))


def test_compacting_twice_changes_nothing_more():
    once = restore(compact({"w": torch.randn(5, 7)}))
    assert_close(restore(compact(once)), once, rtol=1e-6, atol=0)
