"""Positions: the paper's formula, its rotation, and what is trained."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from minitransformer.errors import UserError
from minitransformer.positions import (
    LearnedPositions,
    RecurrentPositions,
    SinusoidalPositions,
    sinusoidal_positions,
    stretched_positions,
)

B, T, D, MAX_LEN = 2, 5, 6, 11
KINDS = [SinusoidalPositions, LearnedPositions]

# By hand ---


@pytest.mark.parametrize("width", [6, 7, 1])
def test_the_formula_one_number_at_a_time(width):
    table = sinusoidal_positions(1000, width)
    assert table.shape == (1000, width)
    for t in (0, 1, 2, 500, 999):
        for feature in range(width):
            angle = t / 10_000 ** (2 * (feature // 2) / width)
            wave = math.cos if feature % 2 else math.sin
            # half a unit in the last place of a float32 near 1
            assert abs(table[t, feature].item() - wave(angle)) < 6e-8


def test_the_first_position():
    assert sinusoidal_positions(3, 6)[0].tolist() == [0, 1, 0, 1, 0, 1]


# Properties ---


@settings(max_examples=25, deadline=None)
@given(p=st.integers(0, 400), k=st.integers(0, 99))
def test_a_shift_is_a_rotation_that_depends_on_the_distance_alone(p, k):
    table = sinusoidal_positions(500, D)
    angle = k / 10_000 ** (torch.arange(0, D, 2) / D)
    sine, cosine = table[p].view(-1, 2).T
    expected = torch.stack(
        [
            sine * angle.cos() + cosine * angle.sin(),
            cosine * angle.cos() - sine * angle.sin(),
        ],
        dim=1,
    )
    assert_close(table[p + k], expected.flatten(), rtol=0, atol=2e-5)


def test_every_position_is_as_long_and_none_is_the_same():
    table = sinusoidal_positions(300, 16)
    assert_close(table.norm(dim=1), torch.full((300,), math.sqrt(8)))
    distance = torch.cdist(table, table).fill_diagonal_(1)
    assert (distance > 0.1).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", [0, 3])
def test_row_t_is_added_to_token_t(kind, start):
    positions = kind(D, MAX_LEN)
    x = torch.randn(B, T, D)
    y = positions(x, start)
    for t in range(T):
        assert torch.equal(y[:, t], x[:, t] + positions.table[start + t])


def test_the_sinusoids_are_the_formula_and_are_not_trained_or_stored():
    positions = SinusoidalPositions(D, MAX_LEN)
    assert torch.equal(positions.table, sinusoidal_positions(MAX_LEN, D))
    assert list(positions.parameters()) == []
    assert positions.state_dict() == {}


def test_learned_positions_start_small_and_learn_where_they_are_used():
    positions = LearnedPositions(48, 53)
    assert 0.018 < positions.table.std() < 0.022
    assert abs(positions.table.mean()) < 0.002
    positions(torch.randn(B, T, 48), start=2).sum().backward()
    used = (torch.arange(53) >= 2) & (torch.arange(53) < 2 + T)
    expected = used[:, None] * torch.full((53, 48), float(B))
    assert_close(positions.table.grad, expected)


# Edges ---


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_may_fill_the_table_but_not_leave_it(kind):
    positions = kind(D, MAX_LEN)
    x = torch.randn(B, MAX_LEN + 1, D)
    assert positions(x[:, 1:]).shape == (B, MAX_LEN, D)
    assert positions(x[:, :1], start=MAX_LEN - 1).shape == (B, 1, D)
    message = "sequence of 12 tokens is over max_len=11: shorten it, or build"
    with pytest.raises(UserError, match=message):
        positions(x)
    with pytest.raises(UserError, match=message):
        positions(x[:, :1], start=MAX_LEN)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64]
)
def test_other_precisions(kind, dtype):
    positions = kind(D, MAX_LEN)
    x = torch.randn(B, T, D)
    expected = positions(x)
    output = positions.to(dtype)(x.to(dtype))
    assert output.dtype == dtype
    assert_close(output.float(), expected, rtol=0.01, atol=0.01)


def test_double_from_the_start_is_double_to_the_last_digit():
    late = 4999
    expected = math.sin(late)
    single = sinusoidal_positions(late + 1, D)
    torch.set_default_dtype(torch.float64)
    try:
        double = sinusoidal_positions(late + 1, D)
    finally:
        torch.set_default_dtype(torch.float32)
    assert abs(double[late, 0].item() - expected) < 1e-15
    # A table that is made in float32 keeps that rounding under .double().
    assert torch.equal(single, double.float())


# Recurrent positions ---


def test_each_position_is_the_cell_of_the_one_before():
    positions = RecurrentPositions(D)
    found = positions.first_positions(4)
    assert torch.equal(found[0], positions.first)
    for t in range(3):
        before = found[t : t + 1]
        assert_close(found[t + 1], positions.cell(before, before)[0])


def test_a_recurrence_of_one_feature_by_hand():
    positions = RecurrentPositions(1)
    with torch.no_grad():
        for parameter in positions.parameters():
            parameter.zero_()
        positions.first.fill_(1.0)
    # Gates at 0.5, and nothing new: half of the state is kept.
    found = positions.first_positions(4).flatten()
    assert_close(found, torch.tensor([1, 0.5, 0.25, 0.125]))


@pytest.mark.parametrize("start", [0, 3])
def test_recurrent_positions_are_added_from_the_start(start):
    positions = RecurrentPositions(D)
    x = torch.randn(B, T, D)
    table = positions.first_positions(start + T)
    assert_close(positions(x, start), x + table[start:])
    assert_close(positions(x[:, :1], start), positions(x, start)[:, :1])


def test_a_longer_recurrence_begins_as_a_shorter_one_and_has_no_end():
    positions = RecurrentPositions(D)
    long = positions.first_positions(MAX_LEN)
    for count in (1, T):
        assert_close(positions.first_positions(count), long[:count])
    assert long.isfinite().all()


def test_an_untrained_recurrence_comes_to_rest():
    torch.manual_seed(0)
    positions = RecurrentPositions(16).first_positions(200)
    steps = positions.diff(dim=0).norm(dim=1)
    assert steps[0] > 0.1
    assert steps[100:].max() < 1e-4


@pytest.mark.parametrize(
    "positions", [*(kind(D, MAX_LEN) for kind in KINDS), RecurrentPositions(D)]
)
def test_no_tokens_have_no_positions_and_none_is_before_the_first(positions):
    assert positions(torch.randn(B, 0, D)).shape == (B, 0, D)
    message = "count from 0: there is no start=-1"
    with pytest.raises(UserError, match=message):
        positions(torch.randn(B, 2, D), start=-1)


def test_a_recurrence_learns_from_late_positions():
    positions = RecurrentPositions(D)
    positions(torch.randn(B, 1, D), start=7).sum().backward()
    for parameter in positions.parameters():
        assert parameter.grad.abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_recurrence_in_other_precisions(dtype):
    positions = RecurrentPositions(D)
    x = torch.randn(B, T, D)
    expected = positions(x)
    output = positions.to(dtype)(x.to(dtype))
    assert output.dtype == dtype
    assert_close(output.float(), expected, rtol=0.02, atol=0.02)


# Stretched positions ---


def test_a_stretched_table_one_number_at_a_time():
    table = torch.randn(3, D)
    found = stretched_positions(table, 9)
    entries = [(row - 0.4 * table[0]) / 0.6 for row in table]
    for i in range(3):
        for j in range(3):
            expected = 0.4 * entries[i] + 0.6 * entries[j]
            assert_close(found[3 * i + j], expected)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 12), data=st.data())
def test_stretching_keeps_the_trained_rows(n, data):
    max_len = data.draw(st.integers(0, n**2))
    table = torch.randn(n, D)
    found = stretched_positions(table, max_len)
    assert found.shape == (max_len, D)
    kept = min(n, max_len)
    assert_close(found[:kept], table[:kept])


def test_no_two_stretched_positions_are_the_same():
    found = stretched_positions(torch.randn(MAX_LEN, D), MAX_LEN**2)
    assert torch.pdist(found).min() > 1e-3


def test_two_digits_have_an_end():
    table = torch.randn(3, D)
    message = "3 rows reach 9 positions, not max_len=10: train a longer"
    with pytest.raises(UserError, match=message):
        stretched_positions(table, 10)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_stretched_table_keeps_its_precision(dtype):
    table = torch.randn(4, D)
    found = stretched_positions(table.to(dtype), 16)
    assert found.dtype == dtype
    expected = stretched_positions(table, 16)
    assert_close(found.float(), expected, rtol=0.05, atol=0.05)
