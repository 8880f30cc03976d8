"""The checks of chapter 6 know right answers from wrong ones, and why."""

import math

import numpy as np
import pytest
import torch
from judging import fails, passes

from minitransformer import SelfAttention
from minitransformer.homework import chapter06, check
from minitransformer.positions import (
    sinusoidal_positions,
    stretched_positions,
)


@pytest.mark.parametrize("name", ["6.1", "6.2", "6.3", "6.4"])
def test_a_stub_waits(name):
    assert "waits for your answer" in check(name, lambda *_: ...).message
    assert "waits for your answer" in check(name, ...).message


def test_two_stubs_wait():
    assert "waits" in check("6.4", lambda k, width: (..., ...)).message


# 6.1 ---


def hands(t, width, power=2.0, base=10_000, first=math.sin, second=math.cos):
    found = []
    for i in range(width // 2):
        angle = t / base ** (power * i / width)
        found += [first(angle), second(angle)]
    return found


def by_the_package(t, width):
    return sinusoidal_positions(t + 1, width)[t]


def with_numpy(t, width):
    angle = t / 10_000 ** (np.arange(0, width, 2) / width)
    return np.stack([np.sin(angle), np.cos(angle)], axis=1).ravel()


def in_single_precision(t, width):
    angle = t * 10_000 ** (-torch.arange(0, width, 2) / width)
    found = torch.empty(width)
    found[0::2], found[1::2] = angle.sin(), angle.cos()
    return found


@pytest.mark.parametrize(
    "answer", [hands, by_the_package, with_numpy, in_single_precision]
)
def test_any_encoding_will_do(answer):
    assert passes("6.1", answer)


def halves(t, width):
    found = hands(t, width)
    return found[0::2] + found[1::2]


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda t, width: hands(t, width, 1), "slow down too little"),
        (lambda t, width: hands(t, width, 4), "the factor 2 twice"),
        (halves, "another layout"),
        (
            lambda t, width: hands(t, width, first=math.cos, second=math.sin),
            "changed places",
        ),
        (
            lambda t, width: hands(math.radians(t), width),
            "in radians already",
        ),
        (lambda t, width: hands(t + 1, width), "count from 0"),
        (lambda t, width: hands(t, width, -2), "get faster"),
        (lambda t, width: hands(t, width, base=1_000), "not 1,000"),
        (lambda t, width: hands(t, width)[: width // 2], "two for each hand"),
        (
            lambda t, width: sinusoidal_positions(t + 1, width),
            "numbers are wanted",
        ),
        (lambda t, width: [0.0, 1.0] * (width // 2), "by hand and compare"),
        (lambda t: [t], "raises TypeError"),
    ],
)
def test_a_wrong_encoding_is_explained(answer, phrase):
    assert fails("6.1", answer, phrase)


# 6.2 ---


def in_blocks(k, width, power=2.0):
    angle = k * 10_000 ** (-power * torch.arange(width // 2).double() / width)
    return torch.block_diag(
        *(
            torch.tensor(
                [[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]]
            )
            for a in angle.tolist()
        )
    )


def with_indices(k, width):
    even = np.arange(0, width, 2)
    angle = k / 10_000 ** (even / width)
    R = np.zeros((width, width))
    R[even, even] = R[even + 1, even + 1] = np.cos(angle)
    R[even, even + 1] = np.sin(angle)
    R[even + 1, even] = -np.sin(angle)
    return R


def as_nested_lists(k, width):
    return with_indices(k, width).tolist()


@pytest.mark.parametrize("answer", [in_blocks, with_indices, as_nested_lists])
def test_any_rotation_will_do(answer):
    assert passes("6.2", answer)


def without_minus(k, width):
    return np.where(
        np.tri(width, k=-1, dtype=bool),
        -with_indices(k, width),
        with_indices(k, width),
    )


def layout_of_halves(k, width):
    order = [*range(0, width, 2), *range(1, width, 2)]
    return with_indices(k, width)[order][:, order]


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda k, width: in_blocks(k, width).T, "turns the hands back"),
        (without_minus, "a minus is missing"),
        (layout_of_halves, "wrong layout"),
        (
            lambda k, width: torch.block_diag(
                *[in_blocks(k, 2)] * (width // 2)
            ),
            "equally fast",
        ),
        (
            lambda k, width: in_blocks(k, width) * torch.eye(width),
            "only the cosines",
        ),
        (
            lambda k, width: in_blocks(k, width, 1.0),
            "the exponent is i / D",
        ),
        (lambda k, width: in_blocks(1, width), "one step, whatever k"),
        (lambda k, width: in_blocks(abs(k), width), "negative k"),
        (lambda k, width: torch.eye(width), "this matrix moves p_0"),
        (lambda k, width: in_blocks(k, width)[:2], "the shape is"),
    ],
)
def test_a_wrong_rotation_is_explained(answer, phrase):
    assert fails("6.2", answer, phrase)


# 6.3 ---


def in_loops(table, max_len, a):
    n = len(table)
    u = [(row - a * table[0]) / (1 - a) for row in table]
    rows = [a * u[t // n] + (1 - a) * u[t % n] for t in range(max_len)]
    return torch.stack(rows)


def over_a_grid(table, max_len, a):
    u = ((table - a * table[0]) / (1 - a)).numpy()
    grid = a * u[:, None] + (1 - a) * u[None]
    return grid.reshape(-1, u.shape[1])[:max_len].tolist()


@pytest.mark.parametrize("answer", [in_loops, over_a_grid])
def test_any_stretching_will_do(answer):
    assert passes("6.3", answer)


def mixed(make, share=lambda a: a):
    """Make entries in a way of its own, and mix them by (6.6)."""

    def answer(table, max_len, a):
        n, t = len(table), torch.arange(max_len)
        u, a = make(table, a), share(a)
        return a * u[t // n] + (1 - a) * u[t % n]

    return answer


def entries(table, a):
    return (table - a * table[0]) / (1 - a)


def added_up(table, max_len, a):
    n, t = len(table), torch.arange(max_len)
    u = entries(table, a)
    return u[t // n] + u[t % n]


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (mixed(lambda table, a: table), "no longer what they were"),
        (mixed(entries, lambda a: 1 - a), "changed places"),
        (mixed(lambda table, a: table - a * table[0]), "not divided"),
        (mixed(lambda table, a: (table - a) / (1 - a)), "times the first row"),
        (lambda table, m, a: stretched_positions(table, m), "a fixed number"),
        (added_up, "not mixed"),
        (
            lambda table, m, a: table[torch.arange(m) % len(table)],
            "begins the table anew",
        ),
        (lambda table, m, a: table, "and should be (23, 3)"),
        (lambda table, m, a: torch.zeros(m, table.shape[1]), "should begin"),
        (lambda table, m, a: table.mul_(2), "changes its input"),
    ],
)
def test_a_wrong_stretching_is_explained(answer, phrase):
    assert fails("6.3", answer, phrase)


# 6.4 ---


def turned(k, width, factor=100.0):
    return factor * in_blocks(k, width).double(), torch.eye(width).double()


def turned_keys(k, width):
    return np.eye(width), 100 * with_indices(-k, width)


def both_halfway(k, width):
    half = in_blocks(k / 2, width)
    return [half.tolist(), (120 * half.T).tolist()]


@pytest.mark.parametrize("answer", [turned, turned_keys, both_halfway])
def test_any_look_back_will_do(answer):
    assert passes("6.4", answer)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda k, width: turned(-k, width), "which comes after"),
        (lambda k, width: turned(0, width), "looks at itself"),
        (lambda k, width: turned(k, width, 1.0), "Make the scores larger"),
        (lambda k, width: turned(k, width, 0.0), "equally"),
        (lambda k, width: turned(k, width, math.inf), "not numbers"),
        (lambda k, width: turned(k + 1, width), "and should look at 17"),
        (lambda k, width: turned(k, width)[0], "two matrices"),
        (lambda k, width: (torch.eye(4), torch.eye(4)), "the shape is (4, 4)"),
    ],
)
def test_a_wrong_look_back_is_explained(answer, phrase):
    assert fails("6.4", answer, phrase)


# The quiz ---


def test_the_key_is_what_the_chapter_says():
    assert passes("6.quiz", "BCACB")


def test_other_layers_and_encodings_have_other_keys(monkeypatch):
    """The key is computed: break what it asks, and the letters change."""

    class Numbered(SelfAttention):
        def forward(self, x, mask=None):
            places = torch.arange(x.shape[1], dtype=x.dtype)[:, None]
            return super().forward(x + places, mask)

    class Paired(SelfAttention):
        def forward(self, x, mask=None):
            places = torch.tensor([0.0, 1, 1, 3, 4, 5])[: x.shape[1], None]
            return super().forward(x + places, mask)

    class Silent(SelfAttention):
        def forward(self, x, mask=None):
            return 0 * super().forward(x, mask)

    monkeypatch.setattr(chapter06, "SelfAttention", Numbered)
    assert (chapter06._two_the(), chapter06._order_before()) == ("A", "A")
    monkeypatch.setattr(chapter06, "SelfAttention", Paired)
    assert chapter06._two_the() == "C"
    monkeypatch.setattr(chapter06, "SelfAttention", Silent)
    assert chapter06._order_before() == "C"

    growing = torch.arange(110.0)[:, None]
    for table, letter in ((growing, "B"), (growing.flip(0), "A")):
        monkeypatch.setattr(
            chapter06, "sinusoidal_positions", lambda *_, table=table: table
        )
        assert chapter06._equal_distance() == letter

    monkeypatch.setattr(
        chapter06, "stretched_positions", lambda table, max_len: table
    )
    assert chapter06._first_unreached() == ""
