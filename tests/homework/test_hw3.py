"""Homework 3 knows right answers from wrong ones, and says why."""

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from judging import fails
from torch import nn

import minitransformer as mt
from minitransformer.dropout import dropout as our_dropout
from minitransformer.homework import check
from minitransformer.homework.solutions import hw3 as published
from minitransformer.homework.tasks import find_task, tasks_of
from tools import gallery

GALLERY = [m for m in gallery.mutants() if m["task"].startswith("hw3.")]
NAMES = [task.wanted for task in tasks_of("hw3")]


def solutions():
    names = {"__name__": "submission"}
    path = gallery.ANSWERS / "hw3.py"
    exec(compile(path.read_text("utf-8"), "submission", "exec"), names)
    return names


RIGHT = solutions()


def passes(name, answer, seeds=3):
    for seed in range(seeds):
        verdict = check(f"hw3.{name}", answer, seed)
        assert verdict, (seed, verdict.message)
    return True


def first_failure(task, answer, seed=0):
    found = find_task(task).findings(answer, seed)
    return next((test.title, words) for test, words in found if words)


def wrong(name, answer, words):
    return fails(f"hw3.{name}", answer, words)


def method(**changes: Callable):
    """Return a class of modules from its two methods."""
    return type("Answer", (nn.Module,), changes)


# All tasks ---


def test_the_tasks_are_worth_twenty_points():
    assert NAMES == [
        "sinusoidal",
        "embed",
        "dropout",
        "LayerNorm",
        "FeedForward",
        "AddNorm",
        "rotary",
        "RMSNorm",
    ]
    assert [t.points for t in tasks_of("hw3")] == [3, 3, 3, 4, 3, 4, 0, 0]


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_is_right_for_every_seed(name):
    assert passes(name, RIGHT[name], seeds=10)


class Stub(nn.Module):
    def __init__(self, *sizes):
        super().__init__()
        ...

    def forward(self, *inputs): ...


@pytest.mark.parametrize("name", NAMES)
def test_a_stub_waits(name):
    stub = Stub if name[0].isupper() else lambda *_: ...
    for answer in (stub, ..., None):
        verdict = check(f"hw3.{name}", answer)
        assert not verdict
        assert "waits for your answer" in verdict.message


def _turned(x):
    x = x.clone()
    return x + 0 * mt.sinusoidal_positions(x.shape[-2], x.shape[-1])


def _rms(d_model):
    norm = mt.LayerNorm(d_model)
    del norm.bias
    norm.register_buffer("bias", torch.zeros(d_model), persistent=False)
    return norm


BORROWED = {
    "sinusoidal": [
        mt.sinusoidal_positions,
        lambda n, d: mt.SinusoidalPositions(d, n).table.clone(),
    ],
    "embed": [
        lambda ids, table, p: (
            table[ids] * table.shape[1] ** 0.5
            + 0 * mt.sinusoidal_positions(*p.shape)[: ids.shape[1]]
            + p[: ids.shape[1]]
        )
    ],
    "dropout": [lambda x, p, training: our_dropout(x, p) if training else x],
    "LayerNorm": [mt.LayerNorm, type("Mine", (mt.LayerNorm,), {})],
    "FeedForward": [mt.FeedForward, type("Mine", (mt.FeedForward,), {})],
    "AddNorm": [mt.AddNorm, lambda *a: mt.AddNorm(*a)],
    "rotary": [_turned],
    "RMSNorm": [_rms],
}


@pytest.mark.parametrize("name", NAMES)
def test_the_package_may_not_do_the_work(name):
    for answer in (*BORROWED[name], getattr(published, name)):
        assert wrong(name, answer, "does the work here")


@pytest.mark.parametrize("name", [n for n in NAMES if not n[0].isupper()])
def test_a_constant_is_wrong(name):
    said = []

    def listening(*inputs):
        said.append(RIGHT[name](*inputs))
        return said[-1]

    assert check(f"hw3.{name}", listening)
    assert not check(f"hw3.{name}", lambda *_: said[0])
    replies = iter(said)  # all that was right once, in the same order
    assert not check(f"hw3.{name}", lambda *_: next(replies), seed=1)


@pytest.mark.parametrize("name", [n for n in NAMES if n[0].isupper()])
def test_a_constant_class_is_wrong(name):
    def forward(self, x, *_):
        return torch.ones_like(x)

    made = type("Constant", (RIGHT[name],), {"forward": forward})
    assert not check(f"hw3.{name}", made)


# The gallery ---


@pytest.mark.parametrize("mistake", GALLERY, ids=lambda m: m["title"])
def test_each_classic_mistake_is_named(mistake):
    answer = gallery.answer_of(mistake)
    for seed in range(3):
        title, words = first_failure(mistake["task"], answer, seed)
        assert title == mistake["fails"]
        assert mistake["says"] in words


def test_the_gallery_has_mistakes_of_every_task():
    assert len(GALLERY) >= 10
    assert {m["task"] for m in GALLERY} == {f"hw3.{n}" for n in NAMES}


def test_a_message_says_where_to_read():
    verdict = check("hw3.sinusoidal", lambda n, d: torch.ones(n, d))
    assert verdict.message.endswith('See chapter 6, "By hand: four features".')


# hw3.sinusoidal ---


def by_loops(length, d_model):
    rows = []
    for t in range(length):
        hands = [t / 10_000 ** (2 * i / d_model) for i in range(d_model // 2)]
        rows.append([f(a) for a in hands for f in (math.sin, math.cos)])
    return rows


def by_numpy(length, d_model):
    even = np.arange(0, d_model, 2)
    angle = np.arange(length)[:, None] / 10_000 ** (even / d_model)
    return np.stack([np.sin(angle), np.cos(angle)], -1).reshape(length, -1)


def by_logarithms(length, d_model):
    even = torch.arange(0, d_model, 2, dtype=torch.float64)
    speed = (even * -math.log(10_000) / d_model).exp()
    angle = torch.einsum("t,i->ti", torch.arange(length).double(), speed)
    shifted = torch.stack([angle, angle + math.pi / 2], dim=2)
    return shifted.sin().reshape(length, d_model)


@pytest.mark.parametrize("answer", [by_loops, by_numpy, by_logarithms])
def test_any_table_will_do(answer):
    assert passes("sinusoidal", answer)


def with_angles(make):
    """Make a table from angles, which get positions and hands."""

    def answer(length, d_model):
        t = torch.arange(length).double()[:, None]
        i = torch.arange(d_model // 2).double()
        angle = make(t, i, d_model)
        return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)

    return answer


def speed(i, d, base=10_000):
    return base ** (-2 * i / d)


def feature_by_feature(factor):
    def answer(length, d):
        j = torch.arange(d)
        angle = torch.arange(length)[:, None] / 10_000 ** (factor * j / d)
        return torch.where(j % 2 == 0, angle.sin(), angle.cos())

    return answer


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda n, d: RIGHT["sinusoidal"](n, d).T, "lies on its side"),
        (lambda n, d: RIGHT["sinusoidal"](n + 1, d), "and should be"),
        (lambda n, d: torch.zeros(n, d), "the cosines are missing"),
        (lambda n, d: torch.ones(n, d), "the sines are missing"),
        (
            lambda n, d: torch.cat(
                [
                    RIGHT["sinusoidal"](n, d)[:, 1::2],
                    RIGHT["sinusoidal"](n, d)[:, 0::2],
                ],
                dim=1,
            ),
            "all sines stand in one half",
        ),
        (lambda n, d: RIGHT["sinusoidal"](n, d) / 2, "row begins with (0.000"),
        (
            with_angles(lambda t, i, d: (t * speed(i, d)).deg2rad()),
            "taken for degrees",
        ),
        (
            with_angles(lambda t, i, d: 2 * math.pi * t * speed(i, d)),
            "a whole turn",
        ),
        (
            with_angles(lambda t, i, d: t / len(t) * speed(i, d)),
            "divided by the length",
        ),
        (with_angles(lambda t, i, d: -t * speed(i, d)), "turn backwards"),
        (
            with_angles(lambda t, i, d: t * speed(i + 1, d)),
            "your first hand is the second",
        ),
        (
            with_angles(lambda t, i, d: 3 * t * speed(i, d)),
            "and should be (0.841, 0.540)",
        ),
        (with_angles(lambda t, i, d: t + 0 * i), "turn equally fast"),
        (feature_by_feature(1), "different speeds"),
        (feature_by_feature(2), "different speeds"),
        (
            with_angles(lambda t, i, d: t * speed(i, d - 2)),
            "D is the whole width",
        ),
        (
            with_angles(lambda t, i, d: t * speed(i, d, 1_000)),
            "the base is 1,000",
        ),
        (
            with_angles(lambda t, i, d: t * speed(i, d, math.e)),
            "a factor log(10,000) is missing",
        ),
        (
            with_angles(lambda t, i, d: t * speed(i, d, 77)),
            "The exponent must be",
        ),
        (lambda n: n, "raises TypeError"),
    ],
)
def test_what_is_wrong_with_a_table(answer, words):
    assert wrong("sinusoidal", answer, words)


# hw3.embed ---


def token_by_token(ids, table, positions):
    root = table.shape[1] ** 0.5
    rows = [
        root * table[token] + positions[t]
        for sentence in ids
        for t, token in enumerate(sentence)
    ]
    return torch.stack(rows).view(*ids.shape, -1)


def by_one_hot(ids, table, positions):
    one_hot = F.one_hot(ids, len(table)).to(table)
    scaled = torch.einsum(
        "btv,vd->btd", one_hot, table * table.shape[1] ** 0.5
    )
    return scaled + positions.narrow(0, 0, ids.shape[1])


def by_torch(ids, table, positions):
    places = torch.arange(ids.shape[1]).expand(ids.shape)
    rows = F.embedding(ids, table).double() * math.sqrt(table.shape[1])
    return rows + F.embedding(places, positions)


@pytest.mark.parametrize("answer", [token_by_token, by_one_hot, by_torch])
def test_any_embedding_will_do(answer):
    assert passes("embed", answer)


def scaled(factor, place=lambda p, ids: p[: ids.shape[1]]):
    def answer(ids, table, p):
        return table[ids] * factor(ids, table) + place(p, ids)

    return answer


def root(ids, table):
    return table.shape[1] ** 0.5


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (scaled(lambda ids, table: table.shape[1]), "the factor is D"),
        (scaled(lambda ids, table: len(table) ** 0.5), "number of kinds V"),
        (scaled(lambda ids, table: ids.shape[1] ** 0.5), "the length T"),
        (scaled(lambda ids, table: 3), "and should be its row"),
        (scaled(root, lambda p, ids: 0 * p[0]), "positions are not added"),
        (scaled(root, lambda p, ids: p[-ids.shape[1] :]), "the last T rows"),
        (scaled(root, lambda p, ids: p[ids]), "looked up by the ids"),
        (scaled(root, lambda p, ids: p[0]), "gets the row of position 0"),
        (
            lambda ids, table, p: (
                table[ids] * root(ids, table) * p[: ids.shape[1]]
                if p.any()
                else table[ids] * root(ids, table)
            ),
            "do not multiply",
        ),
        (
            scaled(root, lambda p, ids: p[: ids.shape[1]].flip(0)),
            "and row 1 of the positions is",
        ),
        (lambda ids, table, p: table[ids].sum(1), "the shape is"),
        (lambda ids, table, p: table[ids, 0, 0], "raises IndexError"),
    ],
)
def test_what_is_wrong_with_an_embedding(answer, words):
    assert wrong("embed", answer, words)


# hw3.dropout ---


def with_bernoulli(x, p, training):
    if not training or p in (0, 1):
        return x * (1 - p) if training else x
    return x * torch.bernoulli(torch.full_like(x, 1 - p)) / (1 - p)


def coin_by_coin(x, p, training):
    if not training:
        return x.double()
    tossed = [
        0.0 if random.random() < p else n / (1 - p)
        for n in x.flatten().tolist()
    ]
    return torch.tensor(tossed, dtype=torch.float64).view(x.shape)


def with_numpy(x, p, training):
    if not training:
        return x.numpy()
    keep = np.random.default_rng().random(x.shape) >= p
    return np.where(keep, x.numpy() / max(1 - p, 1e-9), 0)


@pytest.mark.parametrize(
    "answer", [F.dropout, with_bernoulli, coin_by_coin, with_numpy]
)
def test_any_dropout_will_do(answer):
    assert passes("dropout", answer)


def coins(x, p):
    return (torch.rand(x.shape) >= p).to(x)


def in_training(drop):
    """Return x after training, and at both ends what is right there."""

    def answer(x, p, training):
        if not training or p in (0, 1):
            return x if not training or p == 0 else 0 * x
        return drop(x, p)

    return answer


def by_seed(x, p):
    torch.manual_seed(0)
    return x * coins(x, p) / (1 - p)


def exactly(x, p):
    count = round(p * x.numel())
    keep = torch.ones(x.numel())
    keep[torch.randperm(x.numel())[:count]] = 0
    return x * keep.view(x.shape) / (1 - p)


def shared(shape):
    return in_training(
        lambda x, p: x * (torch.rand(shape(x)) >= p).to(x) / (1 - p)
    )


def first_row(x, p):
    keep = torch.ones(x.shape)
    keep[:, 0] = 0
    return x * keep / (1 - p)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            lambda x, p, training: (
                in_training(lambda x, p: x * coins(x, p))(x, p, True)
                if training
                else x * (1 - p)
            ),
            "multiplied by 1 - p. That is the other way",
        ),
        (lambda x, p, training: x / (1 - p), "still divided by 1 - p"),
        (lambda x, p, training: x + 1, "x as it is"),
        (in_training(lambda x, p: x), "none of"),
        (in_training(lambda x, p: 0 * x), "all of"),
        (in_training(lambda x, p: x * coins(x, p / 2)), "a share of"),
        (in_training(first_row), "dropped together"),
        (
            in_training(lambda x, p: x * coins(x, p) * (1 - p)),
            "multiplied by 1 - p, and becomes smaller",
        ),
        (
            in_training(lambda x, p: x * coins(x, p) * 7),
            "the numbers that are left should be",
        ),
        (
            lambda x, p, training: (
                x * coins(x, max(p, 0.1)) / (1 - p) if training else x
            ),
            "with p = 0 nothing is dropped",
        ),
        (
            lambda x, p, training: (
                x * coins(x, p) * (1 / (1 - p)) if training else x
            ),
            "Take this case by itself",
        ),
        (
            lambda x, p, training: (
                x if p == 1 or not training else x * coins(x, p) / (1 - p)
            ),
            "everything is dropped, and all is 0",
        ),
        (
            lambda x, p, training: (
                {}["p"] if p == 1 else RIGHT["dropout"](x, p, training)
            ),
            "raises KeyError",
        ),
        (in_training(by_seed), "two calls drop the same numbers"),
        (in_training(exactly), "exactly as many"),
        (shared(lambda x: (*x.shape[:2], 1)), "all features of a token"),
        (shared(lambda x: (len(x), 1, x.shape[2])), "at all tokens of a"),
    ],
)
def test_what_is_wrong_with_dropout(answer, words):
    assert wrong("dropout", answer, words)


# hw3.LayerNorm ---


class TwoSteps(nn.Module):
    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        self.epsilon = eps
        self.bias = nn.Parameter(torch.zeros(d_model))
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, x):
        variance, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
        scale = self.weight * (variance + self.epsilon).rsqrt()
        return x * scale + (self.bias - mean * scale)


class TokenByToken(TwoSteps):
    def forward(self, x):
        if x.ndim > 1:
            return torch.stack([self(part) for part in x])
        mean = sum(x) / len(x)
        variance = sum((n - mean) ** 2 for n in x) / len(x)
        root = (variance + self.epsilon) ** 0.5
        return self.weight * (x - mean) / root + self.bias


class ByEinsum(TwoSteps):
    def forward(self, x):
        x = x.double()
        D = x.shape[-1]
        x = x - torch.einsum("...d->...", x)[..., None] / D
        power = torch.einsum("...d,...d->...", x, x)[..., None] / D
        return self.weight * x / (power + self.epsilon).sqrt() + self.bias


class NormByTorch(TwoSteps):
    def forward(self, x):
        features = x.shape[-1:]
        return F.layer_norm(x, features, self.weight, self.bias, self.epsilon)


@pytest.mark.parametrize(
    "answer", [nn.LayerNorm, NormByTorch, TwoSteps, TokenByToken, ByEinsum]
)
def test_any_layer_norm_will_do(answer):
    assert passes("LayerNorm", answer)


def norm(forward):
    """Return a class with this forward, of x and itself."""
    return type(
        "Norm", (TwoSteps,), {"forward": lambda self, x: forward(x, self)}
    )


def centred(x, dims=-1):
    return x - x.mean(dims, keepdim=True)


def var(x, dims=-1, correction=0):
    return x.var(dims, correction=correction, keepdim=True)


def over(dims):
    return norm(
        lambda x, s: (
            s.weight * centred(x, dims) / (var(x, dims) + s.epsilon).sqrt()
            + s.bias
        )
    )


def learned(x, s):
    """Scale and shift as they should be."""
    return s.weight * x + s.bias


def with_start(weight, bias):
    class Other(TwoSteps):
        def __init__(self, d_model, eps=1e-5):
            super().__init__(d_model, eps)
            self.weight.data.fill_(weight)
            self.bias.data.fill_(bias)

    return Other


class Renamed(nn.Module):
    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(d_model))

    def forward(self, x):
        return self.scale * x


class NotLearned(nn.Module):
    def __init__(self, d_model, eps=1e-5):
        super().__init__()

    def forward(self, x):
        return F.layer_norm(x, x.shape[-1:])


class NoModule:
    def __init__(self, d_model, eps=1e-5):
        self.weight, self.bias = torch.ones(d_model), torch.zeros(d_model)

    def __call__(self, x):
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias)


class OneNumber(nn.Module):
    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return F.layer_norm(x, x.shape[-1:]) * self.weight + self.bias


class OneMore(TwoSteps):
    def __init__(self, d_model, eps=1e-5):
        super().__init__(d_model, eps)
        self.extra = nn.Parameter(torch.zeros(1))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Renamed, "a parameter weight is missing. It keeps scale"),
        (NotLearned, "It keeps none"),
        (NoModule, "must be a torch nn.Module"),
        (OneNumber, "weight has shape (1,)"),
        (OneMore, "a parameter too many: extra"),
        (
            norm(
                lambda x, s: learned(
                    centred(x) / (x.var(-1, correction=0) + s.epsilon).sqrt(),
                    s,
                )
            ),
            "at non-singleton dimension 2. A mean or a variance loses",
        ),
        (norm(lambda x, s: s.scale * x), "no attribute 'scale'. See"),
        (with_start(2.0, 0.0), "the scale, weight, is 1"),
        (with_start(1.0, 2.0), "the shift, bias, is 0"),
        (norm(lambda x, s: x.sum(-1)), "the shape is"),
        (over((0, 1)), "batch norm"),
        (over((-2,)), "the mean runs over the positions"),
        (over(tuple(range(3))), "all tokens of the batch share one mean"),
        (
            norm(lambda x, s: learned(x / (var(x) + s.epsilon).sqrt(), s)),
            "from what is divided",
        ),
        (norm(lambda x, s: learned(x, s)), "x as it was"),
        (norm(lambda x, s: learned(x.tanh(), s)), "and should be 0"),
        (norm(lambda x, s: learned(centred(x), s)), "nothing is divided"),
        (
            norm(
                lambda x, s: learned(
                    centred(x) / centred(x).norm(dim=-1, keepdim=True), s
                )
            ),
            "the squares are added up",
        ),
        (
            norm(
                lambda x, s: learned(
                    centred(x) / x.square().mean(-1, keepdim=True).sqrt(), s
                )
            ),
            "before the mean is subtracted",
        ),
        (
            norm(lambda x, s: learned(centred(x) / var(x, 1).sqrt(), s)),
            "the mean is each token's own, and the variance is not",
        ),
        (
            norm(lambda x, s: learned(centred(x) / var(x, (1, 2)).sqrt(), s)),
            "the mean is each token's own, and the variance is not",
        ),
        (norm(lambda x, s: learned(3 * centred(x), s)), "and should be 1"),
        (
            norm(lambda x, s: learned(F.layer_norm(x, x.shape[-1:]), s)),
            "eps is a fixed 1e-5",
        ),
        (
            norm(
                lambda x, s: learned(
                    centred(x) / (var(x) + s.epsilon**2).sqrt(), s
                )
            ),
            "eps is squared",
        ),
        (
            norm(
                lambda x, s: learned(
                    centred(x) / var(x).clamp(min=s.epsilon).sqrt(), s
                )
            ),
            "a lower limit",
        ),
        (
            norm(
                lambda x, s: learned(
                    centred(x) / var(x).clamp(min=1e-12).sqrt() + s.epsilon, s
                )
            ),
            "added to the result",
        ),
        (
            norm(
                lambda x, s: learned(
                    centred(x) / (var(x) + 3 * s.epsilon).sqrt(), s
                )
            ),
            "Add eps to the variance",
        ),
        (
            norm(
                lambda x, s: learned(
                    centred(x)
                    / (
                        (var(x) + s.epsilon).sqrt()
                        if var(x).min() > 1e-9
                        else var(x)
                    ),
                    s,
                )
            ),
            "whose features are all equal",
        ),
        (
            norm(lambda x, s: centred(x) / (var(x) + s.epsilon).sqrt()),
            "weight and bias are not used",
        ),
        (
            norm(
                lambda x, s: (
                    s.weight * centred(x) / (var(x) + s.epsilon).sqrt()
                )
            ),
            "the bias is not used",
        ),
        (
            norm(
                lambda x, s: centred(x) / (var(x) + s.epsilon).sqrt() + s.bias
            ),
            "the weight is not used",
        ),
        (
            norm(
                lambda x, s: (
                    s.weight.square()
                    * centred(x)
                    / (var(x) + s.epsilon).sqrt()
                    + s.bias
                )
            ),
            "weight * norm + bias",
        ),
        (over((2,)), "The features are the last dimension"),
        (
            norm(
                lambda x, s: (
                    F.layer_norm(
                        x,
                        x.shape[-2:] if x.ndim > 3 else x.shape[-1:],
                        eps=s.epsilon,
                    )
                    * s.weight
                    + s.bias
                )
            ),
            "for (B, T, D) it is right",
        ),
        (
            norm(
                lambda x, s: TwoSteps.forward(s, x) if x.ndim == 3 else {}["x"]
            ),
            "raises KeyError",
        ),
    ],
)
def test_what_is_wrong_with_a_norm(answer, words):
    assert wrong("LayerNorm", answer, words)


# hw3.FeedForward ---


class Net(nn.Module):
    def __init__(self, d_model, d_ff):
        super().__init__()
        self.linear1 = nn.Linear(d_model, d_ff)
        self.linear2 = nn.Linear(d_ff, d_model)

    def forward(self, x):
        return self.linear2(F.relu(self.linear1(x)))


class UnitByUnit(Net):
    def forward(self, x):
        output = self.linear2.bias.expand(x.shape)
        for i, key in enumerate(self.linear1.weight):
            score = (x * key).sum(-1, keepdim=True) + self.linear1.bias[i]
            output = output + score.clamp(min=0) * self.linear2.weight[:, i]
        return output


class NetByEinsum(Net):
    def forward(self, x):
        inner = torch.einsum("...d,fd->...f", x, self.linear1.weight)
        inner = torch.maximum(inner + self.linear1.bias, torch.tensor(0.0))
        inner = torch.einsum("...f,df->...d", inner, self.linear2.weight)
        return inner.double() + self.linear2.bias


class ByConvolutions(Net):
    def forward(self, x):
        flat = x.reshape(1, -1, x.shape[-1]).mT
        one, two = self.linear1, self.linear2
        inner = F.conv1d(flat, one.weight[:, :, None], one.bias).relu()
        output = F.conv1d(inner, two.weight[:, :, None], two.bias)
        return output.mT.reshape(x.shape)


class WithDropout(Net):
    def __init__(self, d_model, d_ff, dropout=0.0):
        super().__init__(d_model, d_ff)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        return self.linear2(self.dropout(self.linear1(x).relu()))


@pytest.mark.parametrize(
    "answer", [Net, UnitByUnit, NetByEinsum, ByConvolutions, WithDropout]
)
def test_any_net_will_do(answer):
    assert passes("FeedForward", answer)


def net(forward):
    return type("Net", (Net,), {"forward": lambda self, x: forward(x, self)})


def bent(function):
    return net(lambda x, s: s.linear2(function(s.linear1(x))))


class WithoutBias(nn.Module):
    def __init__(self, d_model, d_ff):
        super().__init__()
        self.linear1 = nn.Linear(d_model, d_ff, bias=False)
        self.linear2 = nn.Linear(d_ff, d_model)

    def forward(self, x):
        return self.linear2(self.linear1(x).relu())


class Square(nn.Module):
    def __init__(self, d_model, d_ff):
        super().__init__()
        self.linear1 = nn.Linear(d_model, d_model)
        self.linear2 = nn.Linear(d_model, d_model)

    def forward(self, x):
        return self.linear2(self.linear1(x).relu())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (WithoutBias, "a parameter linear1.bias is missing"),
        (Square, "linear1.weight has shape"),
        (lambda *d: WithDropout(*d, 0.01), "there is dropout inside the net"),
        (
            net(lambda x, s: F.dropout(Net.forward(s, x), 0.1)),
            "there is dropout inside the net",
        ),
        (
            net(lambda x, s: s.linear2(s.linear1(x).relu() + x.mean())),
            "outputs of the other sentence changed",
        ),
        (
            net(
                lambda x, s: (
                    s.linear2(s.linear1(x).relu())
                    * torch.arange(x.shape[1])[:, None]
                )
            ),
            "another output at another position",
        ),
        (bent(lambda y: 2 * y.relu()), "the numbers differ"),
        (net(lambda x, s: Net.forward(s, x).relu()), "a second ReLU"),
        (net(lambda x, s: s.linear2(s.linear1(x.relu()))), "before the first"),
        (net(lambda x, s: x + Net.forward(s, x)), "That is Add & Norm's"),
        (bent(lambda y: (-y).relu()), "keeps what is below 0"),
        (bent(torch.abs), "absolute value stands"),
        (bent(F.gelu), "a GELU stands"),
        (bent(lambda y: F.gelu(y, approximate="tanh")), "a GELU stands"),
        (bent(F.silu), "a SiLU stands"),
        (bent(F.leaky_relu), "a leaky ReLU stands"),
        (bent(torch.tanh), "a tanh stands"),
        (bent(torch.sigmoid), "a sigmoid stands"),
        (bent(lambda y: y.softmax(-1)), "a softmax stands"),
    ],
)
def test_what_is_wrong_with_a_net(answer, words):
    assert wrong("FeedForward", answer, words)


# hw3.AddNorm ---


class Residual(nn.Module):
    def __init__(self, d_model, dropout=0.0, norm_first=False):
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)
        self.p = dropout
        self.norm_first = norm_first

    def forward(self, x, sublayer):
        before = self.norm(x) if self.norm_first else x
        total = self.dropout(sublayer(before)).add(x)
        return total if self.norm_first else self.norm(total)


class ByNorms(nn.Module):
    def __init__(self, d_model, dropout=0.0, norm_first=False):
        super().__init__()
        self.norm = TwoSteps(d_model)
        self.first = self.norm if norm_first else nn.Identity()
        self.last = nn.Identity() if norm_first else self.norm
        self.p = dropout

    def state_dict(self):
        return {f"norm.{k}": v for k, v in self.norm.state_dict().items()}

    def load_state_dict(self, state):
        state = {k.removeprefix("norm."): v for k, v in state.items()}
        return self.norm.load_state_dict(state)

    def forward(self, x, sublayer):
        given = sublayer(self.first(x))
        return self.last(x + F.dropout(given, self.p, self.training))


class OwnCoins(Residual):
    def forward(self, x, sublayer):
        x = x.double()
        given = sublayer(
            F.layer_norm(x, x.shape[-1:]) * self.norm.weight + self.norm.bias
            if self.norm_first
            else x
        )
        if self.training:
            given = given * torch.bernoulli(torch.full_like(given, 1 - self.p))
            given = given / (1 - self.p)
        if self.norm_first:
            return x + given
        return (
            F.layer_norm(x + given, x.shape[-1:]) * self.norm.weight
            + self.norm.bias
        )


@pytest.mark.parametrize("answer", [Residual, ByNorms, OwnCoins])
def test_any_add_norm_will_do(answer):
    assert passes("AddNorm", answer)


def wrap(post=None, pre=None):
    """Return a class with one of its two orders changed."""

    def forward(self, x, f):
        changed = pre if self.norm_first else post
        if changed is None:
            return Residual.forward(self, x, f)
        return changed(self, x, f)

    return type("Wrap", (Residual,), {"forward": forward})


class NoNorm(nn.Module):
    def __init__(self, d_model, dropout=0.0, norm_first=False):
        super().__init__()

    def forward(self, x, sublayer):
        return x + sublayer(x)


class StaysInTraining(Residual):
    def eval(self):
        self.p = 0.0
        return super().eval()

    def forward(self, x, sublayer):
        self.dropout.p = self.p
        return super().forward(x, sublayer)


class CalledAtOnce(Residual):
    def __init__(self, d_model, dropout=0.0, norm_first=False):
        super().__init__(d_model, dropout, norm_first)
        self.dropout = dropout(dropout)


def number_called(self, x, f):
    return self.norm(x + self.p(f(x)))


def function_as_number(drop):
    return lambda s, x, f: s.norm(x + drop(f(x), drop, s.training))


def name_lost(self, x, f):
    dropout = dropout(f(x), self.p, self.training)  # noqa: F821
    return self.norm(x + dropout)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (CalledAtOnce, "not callable. This is the number dropout"),
        (wrap(post=number_called), "not callable. This is the number dropout"),
        *(
            (wrap(post=function_as_number(drop)), "the number is what __init_")
            for drop in (RIGHT["dropout"], F.dropout, with_bernoulli)
        ),
        (wrap(post=name_lost), "its own from the first line on"),
        (
            wrap(post=lambda s, x, f: s.norm(x + f)),
            "'Tensor' and 'function'. See",
        ),
        (NoNorm, "a parameter norm.weight is missing"),
        (
            wrap(pre=lambda s, x, f: s.dropout(f(s.norm(x)))),
            "in pre-norm the residual is missing",
        ),
        (
            wrap(post=lambda s, x, f: s.norm(x) + f(s.norm(x))),
            "so post-norm is asked for; the norm stands on the identity path",
        ),
        (
            wrap(post=lambda s, x, f: s.norm(x) + f(x)),
            "so post-norm is asked for; the norm stands on the identity path",
        ),
        (wrap(post=lambda s, x, f: x + f(x)), "the norm is missing"),
        (
            wrap(post=lambda s, x, f: s.norm(x + f(s.norm(x)))),
            "before the sublayer and after the sum",
        ),
        (
            wrap(post=lambda s, x, f: x + s.norm(f(s.norm(x)))),
            "before the sublayer and after it",
        ),
        (
            wrap(post=lambda s, x, f: s.norm(x - f(x))),
            "not those of norm(x + f(x)). Is hw3.LayerNorm correct?",
        ),
        (
            wrap(pre=lambda s, x, f: s.norm(x + f(x))),
            "so pre-norm is asked for, and this is post-norm",
        ),
        (
            wrap(pre=lambda s, x, f: x + s.norm(f(x))),
            "The norm belongs before the sublayer",
        ),
        (
            wrap(pre=lambda s, x, f: x + 2 * f(s.norm(x))),
            "not those of x + f(norm(x))",
        ),
        (
            wrap(pre=lambda s, x, f: x + f(s.dropout(s.norm(x)))),
            "in pre-norm, with dropout",
        ),
        (
            wrap(post=lambda s, x, f: s.norm(x + f(x))),
            "nothing that the sublayer gives is dropped",
        ),
        (
            wrap(
                post=lambda s, x, f: s.norm(
                    x + (f(x) * coins(x, s.p) if s.training else f(x))
                )
            ),
            "not divided by 1 - p",
        ),
        (
            wrap(post=lambda s, x, f: s.norm(s.dropout(x) + f(x))),
            "dropout falls on x",
        ),
        (
            wrap(pre=lambda s, x, f: s.dropout(x + f(s.norm(x)))),
            "in pre-norm, with dropout",
        ),
        (
            wrap(
                post=lambda s, x, f: s.norm(
                    x + s.dropout(f(x)) + (s.p * x if s.training else 0)
                )
            ),
            "none that dropout on the sublayer's output can give",
        ),
        (
            wrap(
                pre=lambda s, x, f: (
                    x + F.dropout(f(s.norm(x)), s.p, s.training)
                    if s.training
                    else x + f(s.norm(x)) * (1 - s.p)
                )
            ),
            "still dropped or scaled",
        ),
        (StaysInTraining, "nothing is dropped any more"),
    ],
)
def test_what_is_wrong_with_add_norm(answer, words):
    assert wrong("AddNorm", answer, words)


def test_what_is_not_asked_for_is_off():
    class Drops(Residual):
        def __init__(self, d_model, dropout=0.5, norm_first=False):
            super().__init__(d_model, dropout, norm_first)

    class First(Residual):
        def __init__(self, d_model, dropout=0.0, norm_first=True):
            super().__init__(d_model, dropout, norm_first)

    assert wrong("AddNorm", Drops, "not those of norm(x + f(x))")
    assert wrong("AddNorm", First, "so post-norm is asked for, and this is")


# hw3.rotary ---


def pair_by_pair(x):
    T, d_k = x.shape[-2:]
    result = torch.zeros(x.shape, dtype=torch.float64)
    for t in range(T):
        for i in range(0, d_k, 2):
            angle = t / 10_000 ** (i / d_k)
            cos, sin = math.cos(angle), math.sin(angle)
            turn = torch.tensor([[cos, sin], [-sin, cos]])
            result[..., t, i : i + 2] = x[..., t, i : i + 2] @ turn
    return result


def with_complex_numbers(x):
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
    return torch.view_as_real(pairs * hands(x, 1)).flatten(-2)


def the_other_way_round(x):
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
    return torch.view_as_real(pairs * hands(x, -1)).flatten(-2)


def hands(x, way, power=2.0, start=0):
    T, d_k = x.shape[-2:]
    i = torch.arange(d_k // 2)
    t = start + torch.arange(T)[:, None]
    angle = way * t * 10_000 ** (-power * i / d_k)
    return torch.polar(torch.ones_like(angle), angle)


def with_matrices(x):
    T, d_k = x.shape[-2:]
    blocks = []
    for t in range(T):
        parts = []
        for i in range(d_k // 2):
            angle = torch.tensor(t / 10_000 ** (2 * i / d_k))
            cos, sin = angle.cos(), angle.sin()
            parts.append(torch.stack([cos, sin, -sin, cos]).view(2, 2))
        blocks.append(torch.block_diag(*parts))
    return torch.einsum("...td,tde->...te", x, torch.stack(blocks))


@pytest.mark.parametrize(
    "answer",
    [pair_by_pair, with_complex_numbers, the_other_way_round, with_matrices],
)
def test_any_rotation_will_do(answer):
    assert passes("rotary", answer)


def turning(way=1, power=2.0, start=0):
    def answer(x):
        pairs = torch.view_as_complex(
            x.reshape(*x.shape[:-1], -1, 2).contiguous()
        )
        turned = pairs * hands(x, way, power, start)
        return torch.view_as_real(turned).flatten(-2)

    return answer


def halves(x):
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    turn = hands(x, 1)
    return torch.cat(
        [a * turn.real - b * turn.imag, a * turn.imag + b * turn.real], -1
    )


def table(x):
    return RIGHT["sinusoidal"](*x.shape[-2:])


def over_the_heads(x):
    if x.ndim < 4:
        return x
    return RIGHT["rotary"](x.transpose(-2, -3)).transpose(-2, -3)


def squared(x):
    T, d_k = x.shape[-2:]
    t = torch.arange(T)[:, None] ** 2
    angle = t * 10_000 ** (-2 * torch.arange(d_k // 2) / d_k)
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
    turn = torch.polar(torch.ones_like(angle), angle)
    return torch.view_as_real(pairs * turn).flatten(-2)


def all_alike(x):
    T, d_k = x.shape[-2:]
    angle = torch.arange(T)[:, None] * torch.full((d_k // 2,), 0.7)
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
    turn = torch.polar(torch.ones_like(angle), angle)
    return torch.view_as_real(pairs * turn).flatten(-2)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x: x + table(x), "the encodings are added"),
        (lambda x: x * table(x), "each of its two numbers needs both"),
        (turning(start=1), "Positions count from 0"),
        (turning(-1, start=1), "Positions count from 0"),
        (lambda x: 2 * x, "at position 0 every angle is 0"),
        (lambda x: x.clone(), "wherever they stand"),
        (over_the_heads, "the heads are counted"),
        (squared, "a number times the position"),
        (halves, "feature i + d_k / 2"),
        (turning(power=1.0), "the exponent is i / d_k"),
        (turning(-1, power=4.0), "the factor 2 twice"),
        (turning(power=-2.0), "faster and faster"),
        (all_alike, "the numbers differ"),
    ],
)
def test_what_is_wrong_with_a_rotation(answer, words):
    assert wrong("rotary", answer, words)


# hw3.RMSNorm ---


class Power(nn.Module):
    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.epsilon = eps

    def forward(self, x):
        D = x.shape[-1]
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return x * self.weight / (length**2 / D + self.epsilon) ** 0.5


class PowerByTorch(Power):
    def forward(self, x):
        return F.rms_norm(x, x.shape[-1:], self.weight, self.epsilon)


@pytest.mark.parametrize("answer", [nn.RMSNorm, Power, PowerByTorch])
def test_any_rms_norm_will_do(answer):
    if answer is nn.RMSNorm:

        def answer(d_model, eps=1e-5):
            return nn.RMSNorm(d_model, eps)

    assert passes("RMSNorm", answer)


def power(forward):
    return type("Pow", (Power,), {"forward": lambda self, x: forward(x, self)})


def mean_square(x, dims=-1):
    return x.square().mean(dims, keepdim=True)


class TwiceAtFirst(Power):
    def __init__(self, d_model, eps=1e-5):
        super().__init__(d_model, eps)
        self.weight.data *= 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (TwiceAtFirst, "the scale, weight, is 1"),
        (nn.LayerNorm, "a parameter too many: bias"),
        (
            power(lambda x, s: s.weight * x / x.square().mean(-1).sqrt()),
            "keepdim=True keeps it",
        ),
        (power(lambda x, s: s.weight * x / mean_square(x)), "root is missing"),
        (
            power(lambda x, s: s.weight * x / x.norm(dim=-1, keepdim=True)),
            "should be averaged",
        ),
        (
            power(lambda x, s: s.weight * x / var(x).sqrt()),
            "the deviation from the mean",
        ),
        (
            power(lambda x, s: s.weight * x / mean_square(x, 1).sqrt()),
            "averaged over the positions",
        ),
        (power(lambda x, s: s.weight * x), "and should be 1"),
        (
            power(lambda x, s: x / (mean_square(x) + s.epsilon).sqrt()),
            "the weight is not used",
        ),
        (
            power(
                lambda x, s: s.weight * x / (mean_square(x).sqrt() + s.epsilon)
            ),
            "outside the root",
        ),
        (
            power(lambda x, s: s.weight * x / (mean_square(x) + 1e-5).sqrt()),
            "a fixed 1e-5",
        ),
        (
            power(
                lambda x, s: (
                    s.weight * x / (mean_square(x) + 2 * s.epsilon).sqrt()
                )
            ),
            "the numbers differ",
        ),
    ],
)
def test_what_is_wrong_with_an_rms_norm(answer, words):
    assert wrong("RMSNorm", answer, words)
