"""The checks of chapter 6 know right answers from wrong ones, and why."""

import math

import numpy as np
import pytest
import torch
from judging import fails, passes

from minitransformer import SelfAttention
from minitransformer.homework import check
from minitransformer.homework.chapters import chapter06
from minitransformer.positions import stretched_positions


@pytest.mark.parametrize("name", ["6.1", "6.2", "6.3", "6.4"])
def test_a_stub_waits(name):
    assert "waits for your answer" in check(name, lambda *_: ...).message
    assert "waits for your answer" in check(name, ...).message


def test_two_stubs_wait():
    assert "waits" in check("6.4", lambda n, width: (..., ...)).message


# 6.1 ---


def hands(t, width, base, power=2.0, first=math.sin, second=math.cos):
    angles = [t / base ** (power * i / width) for i in range(width // 2)]
    return [first(angle) for angle in angles] + [
        second(angle) for angle in angles
    ]


def with_numpy(t, width, base):
    angle = t / base ** (np.arange(0, width, 2) / width)
    return np.concatenate([np.sin(angle), np.cos(angle)])


def in_single_precision(t, width, base):
    angle = t * base ** (-torch.arange(0, width, 2) / width)
    return torch.cat([angle.sin(), angle.cos()])


def one_hand_at_a_time(t, width, base):
    found = [0.0] * width
    angle = float(t)
    for i in range(width // 2):
        found[i], found[i + width // 2] = math.sin(angle), math.cos(angle)
        angle /= base ** (2 / width)
    return tuple(found)


@pytest.mark.parametrize(
    "answer", [hands, with_numpy, in_single_precision, one_hand_at_a_time]
)
def test_any_encoding_will_do(answer):
    assert passes("6.1", answer)


def side_by_side(t, width, base):
    return np.reshape(hands(t, width, base), (2, -1)).T.ravel()


def own_angles(t, width, base, power, layout):
    angle = t / base ** (power * np.arange(width) / width)
    is_sine = np.arange(width) < width // 2
    if layout == "pairs":
        is_sine = np.arange(width) % 2 == 0
    return np.where(is_sine, np.sin(angle), np.cos(angle))


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda t, w, b: hands(t, w, b, 1), "your exponent is i / D"),
        (lambda t, w, b: hands(t, w, b, 4), "the factor 2 twice"),
        (side_by_side, "the layout of equation (6.2)"),
        (
            lambda t, w, b: hands(t, w, b, first=math.cos, second=math.sin),
            "changed places",
        ),
        (lambda t, w, b: hands(math.radians(t), w, b), "radians already"),
        (lambda t, w, b: hands(t + 1, w, b), "count from 0"),
        (lambda t, w, b: hands(t, w, b, -2), "get faster"),
        (lambda t, w, b: hands(t, w, 10_000), "whatever the argument says"),
        (lambda t, w, b: hands(t, w, b)[: w // 2], "two for each hand"),
        (lambda t, w, b: [0.0, 1.0] * (w // 2), "by hand and compare"),
        (lambda t: [t], "raises TypeError"),
        *(
            (
                lambda t, w, b, power=power, layout=layout: own_angles(
                    t, w, b, power, layout
                ),
                "different angles",
            )
            for power in (1, 2)
            for layout in ("halves", "pairs")
        ),
    ],
)
def test_a_wrong_encoding_is_explained(answer, phrase):
    assert fails("6.1", answer, phrase)


# 6.2 ---


def in_quarters(k, width, power=2.0):
    angle = k * 10_000 ** (-power * torch.arange(width // 2).double() / width)
    cos, sin = angle.cos().diag(), angle.sin().diag()
    return torch.cat([torch.cat([cos, sin], 1), torch.cat([-sin, cos], 1)])


def with_indices(k, width):
    i = np.arange(width // 2)
    j = i + width // 2
    angle = k / 10_000 ** (2 * i / width)
    R = np.zeros((width, width))
    R[i, i] = R[j, j] = np.cos(angle)
    R[i, j] = np.sin(angle)
    R[j, i] = -np.sin(angle)
    return R


def as_nested_lists(k, width):
    return with_indices(k, width).tolist()


def solved(k, width):
    """Find the matrix from many positions and those k places on."""

    def table(t):
        angle = t[:, None] / 10_000 ** (np.arange(0, width, 2) / width)
        return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)

    t = np.arange(3_000)
    return np.linalg.lstsq(table(t), table(t + k), rcond=None)[0].T


@pytest.mark.parametrize(
    "answer", [in_quarters, with_indices, as_nested_lists, solved]
)
def test_any_rotation_will_do(answer):
    assert passes("6.2", answer)


def without_minus(k, width):
    lower = np.tri(width, k=-1, dtype=bool)
    return np.where(lower, -1, 1) * with_indices(k, width)


def in_blocks(k, width):
    """Return the rotation for sine and cosine side by side."""
    order = np.arange(width).reshape(2, -1).T.ravel()
    return torch.tensor(with_indices(k, width)[order][:, order])


def equally_fast(k, width):
    cos, sin = np.cos(k) * np.eye(width // 2), np.sin(k) * np.eye(width // 2)
    return np.block([[cos, sin], [-sin, cos]])


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda k, width: in_quarters(k, width).T, "turns the hands back"),
        (without_minus, "a minus is missing"),
        (in_blocks, "stand D / 2 apart"),
        (equally_fast, "equally fast"),
        (
            lambda k, width: in_quarters(k, width) * torch.eye(width),
            "only the cosines",
        ),
        (lambda k, width: in_quarters(k, width, 1.0), "exponent is i / D"),
        (lambda k, width: in_quarters(1, width), "one step, whatever k"),
        (lambda k, width: in_quarters(abs(k), width), "negative k"),
        (
            lambda k, width: torch.eye(width),
            "row 0, column 0: 1.000, not",
        ),
        (lambda k, width: in_quarters(k, width)[:2], "the shape is"),
    ],
)
def test_a_wrong_rotation_is_explained(answer, phrase):
    assert fails("6.2", answer, phrase)


# 6.3 ---


def in_loops(table, max_len, a, b):
    n = len(table)
    u = [(row - (a + b) * table[0]) / (1 - a - b) for row in table]
    return torch.stack(
        [
            a * u[t // n // n] + b * u[t // n % n] + (1 - a - b) * u[t % n]
            for t in range(max_len)
        ]
    )


def over_a_grid(table, max_len, a, b):
    last = 1 - a - b
    u = ((table - (a + b) * table[0]) / last).numpy()
    grid = a * u[:, None, None] + b * u[:, None] + last * u
    return grid.reshape(-1, u.shape[1])[:max_len].tolist()


@pytest.mark.parametrize("answer", [in_loops, over_a_grid])
def test_any_stretching_will_do(answer):
    assert passes("6.3", answer)


def mixed(make, shares=lambda a, b: (a, b, 1 - a - b)):
    """Make entries in a way of its own, and mix three of them."""

    def answer(table, max_len, a, b):
        n, t = len(table), torch.arange(max_len)
        u, (x, y, z) = make(table, a, b), shares(a, b)
        return x * u[t // n**2] + y * u[t // n % n] + z * u[t % n]

    return answer


def entries(table, a, b):
    return (table - (a + b) * table[0]) / (1 - a - b)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (mixed(lambda table, a, b: table), "no longer what they were"),
        (
            mixed(lambda table, a, b: (table - a * table[0]) / (1 - a)),
            "those of two digits",
        ),
        (
            mixed(lambda table, a, b: table - (a + b) * table[0]),
            "not divided",
        ),
        (
            mixed(entries, lambda a, b: (1 - a - b, b, a)),
            "the shares have changed places",
        ),
        (
            mixed(entries, lambda a, b: (b, a, 1 - a - b)),
            "a and b have changed places",
        ),
        (mixed(entries, lambda a, b: (1, 1, 1)), "not mixed"),
        (
            lambda table, m, a, b: table[torch.arange(m) % len(table)],
            "begins the table anew",
        ),
        (lambda table, m, a, b: stretched_positions(table, m), "train a long"),
        (lambda table, m, a, b: table, "and should be (25, 4)"),
        (
            lambda table, m, a, b: torch.zeros(m, table.shape[1]),
            "should begin",
        ),
        (lambda table, m, a, b: table.mul_(2), "changes its input"),
    ],
)
def test_a_wrong_stretching_is_explained(answer, phrase):
    assert fails("6.3", answer, phrase)


# 6.4 ---


def reflection(width):
    return torch.tensor([-1.0, 1.0]).double().repeat(width // 2).diag()


def turned(n, width, factor=100.0, by=None, flip=reflection):
    """Reflect each row, and move it on."""
    by = n - 1 if by is None else by
    w_q = factor * flip(width) @ in_blocks(by, width).T
    return w_q, torch.eye(width).double()


def on_the_side_of_the_keys(n, width):
    w_q, w_k = turned(n, width)
    return w_k.numpy(), w_q.numpy()  # the mirror of the mirror


def both_halfway(n, width):
    half = in_blocks((n - 1) / 2, width).T
    return [(reflection(width) @ half).tolist(), (120 * half.T).tolist()]


def stacked(n, width):
    return torch.stack(turned(n, width))


@pytest.mark.parametrize(
    "answer", [turned, on_the_side_of_the_keys, both_halfway, stacked]
)
def test_any_mirror_will_do(answer):
    assert passes("6.4", answer)


def unreflected(width):
    return torch.eye(width).double()


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda n, w: turned(n, w, 1.0), "Make the scores larger"),
        (lambda n, w: turned(n, w, 0.0), "equally"),
        (lambda n, w: turned(n, w, math.inf), "not numbers"),
        (lambda n, w: turned(n, w, by=n), "looks at n - t"),
        (lambda n, w: turned(n, w, by=0), "the encoding of -t"),
        (lambda n, w: turned(n, w, by=1 - n), "the wrong way"),
        (
            lambda n, w: turned(n, w, flip=lambda w: -reflection(w)),
            "the cosines have changed their sign",
        ),
        (lambda n, w: turned(n, w, flip=unreflected), "the same number"),
        (
            lambda n, w: turned(n, w, by=1 - n, flip=unreflected),
            "the same number",
        ),
        (
            lambda n, w: turned(n, w, by=0, flip=unreflected),
            "looks at itself",
        ),
        (lambda n, w: turned(n, w, by=n - 2), "should look at [19, 18, 17]"),
        (lambda n, w: turned(n, w)[0], "two matrices"),
        (lambda n, w: (torch.eye(4), torch.eye(4)), "the shape is (4, 4)"),
    ],
)
def test_a_wrong_mirror_is_explained(answer, phrase):
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
