"""Homework 1's checks: honest answers pass, each mistake is named."""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from judging import fails, passes
from torch import nn

import minitransformer
from minitransformer.homework import check
from minitransformer.homework.tasks import find_task, tasks_of
from tools import gallery

NAMES = [task.name for task in tasks_of("hw1")]
MISTAKES = [m for m in gallery.mutants() if m["task"].startswith("hw1.")]


@pytest.fixture(scope="module")
def answers():
    """Run the answers that are shipped; return them by their names."""
    names = {"__name__": "submission"}
    exec((gallery.ANSWERS / "hw1.py").read_text("utf-8"), names)
    return names


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_answer_is_right_for_every_seed(name, answers):
    task = find_task(name)
    for seed in range(10):
        verdict = task.verdict(answers[task.wanted], seed)
        assert verdict, verdict.message


def test_what_the_tasks_are_worth():
    points = {task.name: task.points for task in tasks_of("hw1")}
    assert sum(points.values()) == 20
    assert list(points) == [
        "hw1.softmax",
        "hw1.scores",
        "hw1.padding_mask",
        "hw1.causal_mask",
        "hw1.attention",
        "hw1.SelfAttention",
        "hw1.leaks",
        "hw1.streaming",
    ]


@pytest.mark.parametrize(
    "mistake", MISTAKES, ids=[f"{m['task']} {m['title']}" for m in MISTAKES]
)
def test_each_mistake_of_the_gallery_is_named(mistake):
    task, answer = find_task(mistake["task"]), gallery.answer_of(mistake)
    test, words = next(
        (test, words) for test, words in task.findings(answer, 7) if words
    )
    assert test.title == mistake["fails"]
    assert mistake["says"] in words
    assert str(test.see) in task.verdict(answer, 7).message


def test_every_test_is_failed_first_by_some_answer_of_this_file():
    """No test is there in vain: `FIRST` has an answer for each."""
    titles = {
        (name, test.title) for name in NAMES for test in find_task(name).tests
    }
    named = {(m["task"], m["fails"]) for m in MISTAKES} | set(FIRST)
    assert named == titles
    for (name, title), answer in FIRST.items():
        found = find_task(name).findings(answer)
        assert next(test.title for test, words in found if words) == title


class Stub(nn.Module):
    def __init__(self, d_in, d_k, d_v):
        super().__init__()
        ...

    def forward(self, x, mask=None): ...


def test_a_stub_waits():
    for name in NAMES:
        stub = Stub if name == "hw1.SelfAttention" else lambda *inputs: ...
        assert "waits for your answer" in check(name, stub).message


class Inherited(minitransformer.SelfAttention):
    pass


class Wrapped(nn.Module):
    def __init__(self, d_in, d_k, d_v):
        super().__init__()
        self.inner = minitransformer.SelfAttention(d_in, d_k, d_v)

    def forward(self, x, mask=None):
        return self.inner(x, mask)


def caught(query, key, value, mask=None):
    try:
        return minitransformer.scaled_dot_product_attention(
            query, key, value, mask
        )
    except BaseException:
        return query, key


@pytest.mark.parametrize(
    ("name", "answer", "module"),
    [
        ("softmax", lambda x: borrowed(x, x, x)[1], "attention"),
        ("scores", lambda q, k: borrowed(q, k, k)[1], "attention"),
        (
            "padding_mask",
            lambda *a: minitransformer.padding_mask(*a)[:, 0],
            "masks",
        ),
        ("causal_mask", minitransformer.causal_mask, "masks"),
        (
            "attention",
            minitransformer.scaled_dot_product_attention,
            "attention",
        ),
        (
            "attention",
            lambda *inputs: borrowed(*inputs),
            "attention",
        ),
        ("attention", caught, "attention"),
        ("SelfAttention", minitransformer.SelfAttention, "attention"),
        ("SelfAttention", Inherited, "attention"),
        ("SelfAttention", Wrapped, "attention"),
        (
            "streaming",
            lambda q, k, v, state=None: (borrowed(q, k, v)[0], q),
            "attention",
        ),
    ],
)
def test_the_package_may_not_do_the_work(name, answer, module):
    words = f"minitransformer.{module} does the work here"
    assert fails(f"hw1.{name}", answer, words)


borrowed = minitransformer.scaled_dot_product_attention


@pytest.mark.parametrize("name", NAMES)
def test_constants_and_results_learned_by_heart_fail(name, answers):
    task = find_task(name)
    known = []

    def remember(*inputs):
        known.append(right(*inputs))
        return known[-1]

    def recite(*inputs):
        return next(results)

    right = answers[task.wanted]
    if name == "hw1.SelfAttention":
        # The modules learn nothing: they recite outputs of seed 0.
        class Remembers(right):
            def forward(self, x, mask=None):
                known.append(super().forward(x, mask))
                return known[-1]

        class Recites(right):
            def forward(self, x, mask=None):
                return next(results)

        remember, recite = Remembers, Recites
    assert task.verdict(remember, 0)
    results = iter(list(known))
    if name != "hw1.causal_mask":  # its inputs are no secret
        assert not task.verdict(recite, 1)
    constant = known[0]
    if name == "hw1.SelfAttention":
        return
    assert not task.verdict(lambda *inputs: constant, 0)


# softmax ---


def with_numpy(scores):
    x = scores.numpy().astype(np.float64)
    top = x.max(-1, keepdims=True)
    powers = np.exp(x - np.where(np.isinf(top), 0, top))
    total = powers.sum(-1, keepdims=True)
    return np.divide(powers, total, out=powers * 0, where=total > 0)


def row_by_row(scores):
    flat = scores.reshape(-1, scores.shape[-1])
    rows = []
    for row in flat.tolist():
        top = max(row)
        if top == -math.inf:
            rows.append([0.0] * len(row))
            continue
        powers = [math.exp(score - top) for score in row]
        rows.append([power / sum(powers) for power in powers])
    return torch.tensor(rows).reshape(scores.shape)


def by_logarithm(scores):
    total = scores.logsumexp(-1, keepdim=True)
    return (scores - total.nan_to_num(neginf=0.0)).exp()


@pytest.mark.parametrize(
    "answer",
    [
        with_numpy,
        row_by_row,
        by_logarithm,
        lambda x: x.softmax(-1).nan_to_num(),
        lambda x: torch.where(x.isneginf(), 0, x.double().softmax(-1)),
    ],
)
def test_any_softmax_will_do(answer):
    assert passes("hw1.softmax", answer)


def overflows(x):
    return x.exp() / x.exp().sum(-1, keepdim=True)


def squeezed(x):
    """Put huge scores at a limit."""
    return x.clamp(-50, 50).softmax(-1)


def loses_ordinary_rows(x):
    right = x.softmax(-1)
    if x.abs().max() > 500:
        right = right.where(x.abs() > 500, 0.3)
    return right


def hides_with(number):
    def softmax(x):
        right = x.softmax(-1)
        return right.where(~x.isneginf(), number) if x.ndim == 2 else right

    return softmax


def hidden_count(x):
    """Let hidden scores share in the sum."""
    hidden = x.isneginf()
    return x.where(~hidden, 0).softmax(-1).where(~hidden, 0)


def empty_rows_become(number):
    def softmax(x):
        right = x.softmax(-1)
        return right.nan_to_num(number)

    return softmax


def empty_rows_spoil_others(x):
    right = x.softmax(-1).nan_to_num()
    return right / 2 if (x == -math.inf).all(-1).any() else right


WRONG_SOFTMAX = [
    (lambda x: x.exp(), "not divided by the sum"),
    (lambda x: (x - x.amax(-1, keepdim=True)).exp(), "not divided"),
    (lambda x: (x - x.max()).exp(), "not divided"),
    (lambda x: x.log_softmax(-1), "logarithms"),
    (torch.sigmoid, "by itself"),
    (lambda x: x, "the first row adds up to"),
    (lambda x: x.softmax(-1).T, "the shape is (6, 4)"),
    (lambda x: x / x.sum(-1, keepdim=True), "the scores themselves"),
    (lambda x: (-x).softmax(-1), "a minus too many"),
    (lambda x: (3 * x).softmax(-1), "not those of equation (2.2)"),
    (lambda x: x.softmax(1 if x.ndim > 1 else 0), "it runs over dim=1"),
    (lambda x: x.softmax(1), "The shapes here are (7,)"),
    (
        lambda x: x.softmax(-1) if x.ndim < 3 else x.softmax(-1) ** 2,
        "the rows along the last dimension are wrong",
    ),
    (overflows, "give nan"),
    (overflows, "exercise 2.2"),
    (squeezed, "wrong weights"),
    (loses_ordinary_rows, "a row near 0"),
    (
        lambda x: (
            (x - x.amax(-1, True) * x.isfinite().all()).softmax(-1)
            if not x.isneginf().any()
            else (x * 0 + x.softmax(-1))
        ),
        "is just 0",
    ),
    (hides_with(1e-6), "must get the weight 0"),
    (hidden_count, "must not count in the sum"),
    (empty_rows_become(0.25), "gives equal weights"),
    (empty_rows_become(0.1), "must be zeros"),
    (empty_rows_spoil_others, "leave the others alone"),
]


@pytest.mark.parametrize(("answer", "phrase"), WRONG_SOFTMAX)
def test_wrong_softmaxes_are_named(answer, phrase):
    assert fails("hw1.softmax", answer, phrase)


# scores ---


def pair_by_pair(query, key):
    rows = [
        [(q * k).sum(-1) / q.shape[-1] ** 0.5 for k in key.unbind(-2)]
        for q in query.unbind(-2)
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def by_bmm(query, key):
    q = query.reshape(-1, *query.shape[-2:])
    k = key.reshape(-1, *key.shape[-2:]).transpose(1, 2)
    shape = (*query.shape[:-1], key.shape[-2])
    return torch.bmm(q, k).reshape(shape) * query.shape[-1] ** -0.5


@pytest.mark.parametrize(
    "answer",
    [
        pair_by_pair,
        by_bmm,
        lambda q, k: (
            torch.einsum("...td,...sd->...ts", q, k) / math.sqrt(k.shape[-1])
        ),
        lambda q, k: (q / k.shape[-1] ** 0.25) @ (k / k.shape[-1] ** 0.25).mT,
        lambda q, k: (q.double() @ k.double().mT) / math.sqrt(q.size(-1)),
    ],
)
def test_any_scores_will_do(answer):
    assert passes("hw1.scores", answer)


def scaled(query, key):
    return query @ key.mT / math.sqrt(key.shape[-1])


NOTHING_IN_FRONT = (
    ": here query is (T, d_k), with nothing in front: count dimensions from"
    " the end."
)


def unpacks_three(query, key):
    _, _, d_k = query.shape
    return query @ key.mT / math.sqrt(d_k)


def unpacks_two(query, key):
    _, d_k = query.shape
    return query @ key.mT / math.sqrt(d_k)


WRONG_SCORES = [
    (lambda q, k: q @ k, "the keys must be transposed"),
    (lambda q, k: q.T @ k, "the queries are transposed"),
    (lambda q, k: q * k, "number by number"),
    (lambda q, k: scaled(q, k).softmax(-1), "leave it out here"),
    (lambda q, k: scaled(q, k) + 1, "row t, column s"),
    (lambda q, k: q @ k.mT * math.sqrt(q.shape[-1]), "should divide"),
    (lambda q, k: q @ k.mT / math.sqrt(q.shape[-2]), "number of queries"),
    (lambda q, k: q @ k.mT / 6, "differ from those of equation (2.1)"),
    (
        lambda q, k: (
            scaled(q, k)
            if q.ndim < 3
            else scaled(q.flatten(0, -3), k.flatten(0, -3).flip(0)).reshape(
                *q.shape[:-1], k.shape[-2]
            )
        ),
        "as if it were alone",
    ),
    (lambda q, k: scaled(q, k) if q.ndim < 4 else q, "the shape is"),
    (
        lambda q, k: q @ k.mT / math.sqrt(k.shape[1]),
        "the number of keys, S: that is shape[1]",
    ),
    (
        lambda q, k: (
            scaled(q, k) if q.ndim < 4 else scaled(q, k) * math.sqrt(6 / 4)
        ),
        "as if it were alone",
    ),
    (
        lambda q, k: q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]),
        NOTHING_IN_FRONT,
    ),
    (
        lambda q, k: torch.bmm(q, k.mT) / math.sqrt(q.shape[-1]),
        NOTHING_IN_FRONT,
    ),
    (
        lambda q, k: torch.einsum("btd,bsd->bts", q, k) / q.shape[-1] ** 0.5,
        NOTHING_IN_FRONT,
    ),
    (lambda q, k: q @ k.mT / math.sqrt(q.shape[2]), NOTHING_IN_FRONT),
    (unpacks_three, NOTHING_IN_FRONT),
    (unpacks_two, "(2, 4, 6), (2, 5, 6): turn and sum"),
    (3, "a function is wanted"),
]


@pytest.mark.parametrize(("answer", "phrase"), WRONG_SCORES)
def test_wrong_scores_are_named(answer, phrase):
    assert fails("hw1.scores", answer, phrase)


# The masks ---


def id_by_id(ids, pad_id):
    return torch.tensor([[[i != pad_id for i in row]] for row in ids.tolist()])


@pytest.mark.parametrize(
    "answer",
    [
        id_by_id,
        lambda ids, pad_id: ids.ne(pad_id).unsqueeze(1),
        lambda ids, pad_id: (ids - pad_id).bool()[:, None],
    ],
)
def test_any_padding_mask_will_do(answer):
    assert passes("hw1.padding_mask", answer)


def real(ids, pad_id):
    return ids != pad_id


WRONG_PADDING = [
    (lambda i, p: real(i, p).float()[:, None], "this one is torch.float32"),
    (lambda i, p: real(i, p).tolist(), "this is list"),
    (lambda i, p: real(i, p), "the shape is (2, 5). To broadcast"),
    (
        lambda i, p: real(i, p)[:, None] & real(i, p)[:, :, None],
        "mask keys, not queries",
    ),
    (
        lambda i, p: real(i, p)[:, None, None],
        "(2, 1, 1, 5), and should be (2, 1, 5): there are no heads yet",
    ),
    (lambda i, p: (i > p)[:, None], "with pad_id=7 the mask is wrong"),
    (
        lambda i, p: (real(i, p).cumprod(1) > 0)[:, None],
        "and not at the length",
    ),
]


@pytest.mark.parametrize(("answer", "phrase"), WRONG_PADDING)
def test_wrong_padding_masks_are_named(answer, phrase):
    assert fails("hw1.padding_mask", answer, phrase)


@pytest.mark.parametrize(
    "answer",
    [
        lambda n: torch.arange(n)[:, None] >= torch.arange(n),
        lambda n: torch.tensor([[s <= t for s in range(n)] for t in range(n)]),
        lambda n: ~torch.ones(n, n).triu(1).bool(),
    ],
)
def test_any_causal_mask_will_do(answer):
    assert passes("hw1.causal_mask", answer)


def past(n):
    return torch.ones(n, n, dtype=torch.bool).tril()


WRONG_CAUSAL = [
    (lambda n: past(n)[None], "the shape is (1, 4, 4)"),
    (lambda n: past(n).int(), "this one is torch.int32"),
    (lambda n: past(n) | True, "that hides nothing"),
    (lambda n: past(n).flip(0), "position 0 of 6 sees a later one"),
    (lambda n: past(n) & ~past(n).tril(-2), "do not see all that come"),
    (lambda n: past(4), "the shape is (4, 4), and should be (7, 7)"),
]


@pytest.mark.parametrize(("answer", "phrase"), WRONG_CAUSAL)
def test_wrong_causal_masks_are_named(answer, phrase):
    assert fails("hw1.causal_mask", answer, phrase)


# attention ---


def spelled_out(query, key, value, mask=None):
    fits = query @ key.mT / math.sqrt(query.shape[-1])
    if mask is not None:
        fits = fits + torch.zeros_like(fits).masked_fill(~mask, -math.inf)
    weights = fits.softmax(-1).nan_to_num()
    return weights @ value, weights


def with_einsum(query, key, value, mask=None):
    fits = torch.einsum("...td,...sd->...ts", query, key)
    fits = fits / query.shape[-1] ** 0.5
    if mask is not None:
        fits = torch.where(mask, fits, torch.finfo(fits.dtype).min)
    weights = fits.softmax(-1)
    if mask is not None:
        weights = weights * mask
    return [torch.einsum("...ts,...sv->...tv", weights, value), weights]


def by_torchs_kernel(query, key, value, mask=None):
    attend = partial(F.scaled_dot_product_attention, attn_mask=mask)
    one = torch.eye(key.shape[-2]).expand(*key.shape[:-2], -1, -1)
    return attend(query, key, value), attend(query, key, one)


def query_by_query(query, key, value, mask=None):
    if query.ndim > 2:
        masks = [None] * len(query)
        if mask is not None:
            shape = (*query.shape[:-1], key.shape[-2])
            masks = mask.broadcast_to(shape)
        pairs = [
            query_by_query(*each)
            for each in zip(query, key, value, masks, strict=True)
        ]
        return tuple(torch.stack(each) for each in zip(*pairs, strict=True))
    weights = torch.zeros(len(query), len(key), dtype=torch.float64)
    for t, q in enumerate(query):
        seen = [s for s in range(len(key)) if mask is None or bool(mask[t, s])]
        if not seen:
            continue
        fits = [float(q @ key[s]) / math.sqrt(len(q)) for s in seen]
        powers = [math.exp(fit - max(fits)) for fit in fits]
        for s, power in zip(seen, powers, strict=True):
            weights[t, s] = power / sum(powers)
    return weights @ value.double(), weights


@pytest.mark.parametrize(
    "answer", [spelled_out, with_einsum, by_torchs_kernel, query_by_query]
)
def test_any_attention_will_do(answer):
    task = find_task("hw1.attention")
    for seed in range(3):
        verdict = task.verdict(answer, seed)
        assert verdict, verdict.message


def changed(change):
    """Return attention whose results, without a mask, are changed."""

    def attention(query, key, value, mask=None):
        output, weights = spelled_out(query, key, value, mask)
        if mask is None:
            return change(output, weights)
        return output, weights

    return attention


def with_weights(make):
    """Return attention with weights made of scores and a mask."""

    def attention(query, key, value, mask=None):
        fits = query @ key.mT / math.sqrt(query.shape[-1])
        weights = make(fits, mask)
        return weights @ value, weights

    return attention


def masked_only(make):
    def weights(fits, mask):
        return fits.softmax(-1) if mask is None else make(fits, mask)

    return with_weights(weights)


def hidden(fits, mask):
    return fits.masked_fill(~mask, -math.inf).softmax(-1).nan_to_num()


def empty(mask):
    return ~mask.any(-1, keepdim=True)


def mixes(what):
    def attention(query, key, value, mask=None):
        output, weights = spelled_out(query, key, value, mask)
        if query.shape == value.shape and query.ndim == 2:
            output = what(query, key, value, weights)
        return output, weights

    return attention


def obeys_by_half(query, key, value, mask=None):
    output, _ = spelled_out(query, key, value)
    return output, spelled_out(query, key, value, mask)[1]


def swaps_sentences(query, key, value, mask=None):
    output, weights = spelled_out(query, key, value, mask)
    return (output.flip(0), weights) if query.ndim > 2 else (output, weights)


def huge_leak(fits, mask):
    right = hidden(fits, mask)
    return right.flip(-1) * mask if fits.abs().max() > 1e4 else right


WRONG_ATTENTION = [
    (lambda *a: spelled_out(*a)[0], "two things are wanted"),
    (lambda *a: spelled_out(*a)[::-1], "the output comes first"),
    (changed(lambda z, w: (z.T, w)), "the shape of the output is (8, 4)"),
    (changed(lambda z, w: (z, w[None])), "the shape of the weights is (1,"),
    (changed(lambda z, w: (z, w / 3)), "adds up to the same number"),
    (with_weights(lambda f, m: f), "the first row of weights adds up to"),
    (
        lambda q, k, v, m=None: spelled_out(q * q.shape[-1] ** 0.5, k, v, m),
        "the divisor is missing",
    ),
    (
        lambda q, k, v, m=None: spelled_out(2 * q, k, v, m),
        "are not the softmax of the scores",
    ),
    (mixes(lambda q, k, v, w: w @ q), "a mix of the queries"),
    (mixes(lambda q, k, v, w: w.T @ v), "the weights are transposed"),
    (mixes(lambda q, k, v, w: w @ v / 2), "the output is divided"),
    (mixes(lambda q, k, v, w: q @ k.T @ v / 2), "the scores mix the values"),
    (
        mixes(lambda q, k, v, w: (q @ k.T @ v / 2).softmax(-1)),
        "inside the softmax",
    ),
    (mixes(lambda q, k, v, w: v), "mixed by the weights that come with it"),
    (masked_only(lambda f, m: f.softmax(-1)), "the mask has no effect"),
    (
        masked_only(lambda f, m: f.softmax(-1).masked_fill(~m, -math.inf)),
        "infinity or nan in the weights",
    ),
    (masked_only(lambda f, m: (f * m).softmax(-1)), "the hidden scores are"),
    (masked_only(lambda f, m: (f + m).softmax(-1)), "is added to the scores"),
    (
        masked_only(lambda f, m: hidden(f, m) ** 2),
        "hidden keys have no weight, and the others not the right ones",
    ),
    (obeys_by_half, "and the output does not"),
    (masked_only(huge_leak), "changes the weights of the others"),
    (
        masked_only(lambda f, m: hidden(f, m) + 0.1 * empty(m)),
        "still has weights",
    ),
    (
        masked_only(lambda f, m: hidden(f, m) / (1 + empty(m).any())),
        "leave the other queries alone",
    ),
    (swaps_sentences, "and no mask give wrong numbers"),
    (
        lambda q, k, v, m=None: spelled_out(
            q, k, v, m if m is None or m.ndim == 2 else m[:1]
        ),
        "a mask of (2, 1, 5) give wrong numbers",
    ),
    (
        lambda q, k, v, m=None: spelled_out(q, k.transpose(0, 1).mT, v, m),
        "counted from the end",
    ),
    (
        lambda q, k, v, m=None: spelled_out(
            q * (q.shape[-1] / q.shape[1]) ** 0.5, k, v, m
        ),
        "the number of queries, T: that is shape[1]",
    ),
    (
        lambda q, k, v, mask: spelled_out(q, k, v, mask),
        "'mask'. mask may be left out: write mask: Tensor | None = None.",
    ),
    (
        lambda q, k, v, m=None: spelled_out(q, k, v, m if m else None),
        "For a mask, ask `if mask is not None`.",
    ),
    (
        lambda q, k, v, m=None: spelled_out(q, k, v, m) if q == k else q,
        "raises RuntimeError: The size of tensor a (4) must match the size of"
        " tensor b (6) at non-singleton dimension 0. The shapes here are"
        " (4, 8), (6, 8), (6, 8). See",
    ),
    (
        lambda q, k, v, m=None: spelled_out(q, k, v, m) if q > 0 else q,
        "A tensor of many values is neither true nor false. See",
    ),
    (
        lambda q, k, v, m=None: spelled_out(q, k, v, ~~m),
        "Here mask is None: ask `if mask is not None` first.",
    ),
    (
        lambda q, k, v, m=None: torch.bmm(q, k.mT),
        NOTHING_IN_FRONT,
    ),
]


@pytest.mark.parametrize(("answer", "phrase"), WRONG_ATTENTION)
def test_wrong_attentions_are_named(answer, phrase):
    assert fails("hw1.attention", answer, phrase)


def misses_a_name(query, key, value, mask=None):
    if query.ndim > 2:
        return shape_of_nothing  # noqa: F821
    return spelled_out(query, key, value, mask)


def misses_an_argument(query, key, value, mask=None):
    return scaled(query), value


@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        (misses_a_name, "name 'shape_of_nothing' is not defined. See"),
        (misses_an_argument, "argument: 'key'. See"),
    ],
)
def test_no_advice_on_sizes_where_the_error_is_another(answer, raised):
    assert fails("hw1.attention", answer, raised)


# SelfAttention ---


def head(forward, bias=False, names="qkv", too_wide=False):
    """Make a class like the one asked for, with another forward."""

    class Head(nn.Module):
        def __init__(self, d_in, d_k, d_v):
            super().__init__()
            sizes = (d_v,) * 3 if too_wide else (d_k, d_k, d_v)
            for name, size in zip(names, sizes, strict=True):
                setattr(self, f"w_{name}", nn.Linear(d_in, size, bias))

        def forward(self, x, mask=None):
            return forward(self, x, mask)

    return Head


def honest(self, x, mask):
    return spelled_out(self.w_q(x), self.w_k(x), self.w_v(x), mask)[0]


def by_weight(self, x, mask):
    q, k, v = (x @ w.weight.T for w in (self.w_q, self.w_k, self.w_v))
    fits = torch.einsum("...td,...sd->...ts", q, k).div(k.shape[-1] ** 0.5)
    powers = (fits - fits.detach().amax(-1, True)).exp()
    if mask is not None:
        powers = powers * mask
    return powers @ v / powers.sum(-1, True).clamp(min=1e-30)


def by_kernel(self, x, mask):
    roles = self.w_q(x), self.w_k(x), self.w_v(x)
    return F.scaled_dot_product_attention(*roles, attn_mask=mask)


class Sequences(nn.Module):
    """Holds its layers in another order, and works sentence by sentence."""

    def __init__(self, d_in, d_k, d_v):
        super().__init__()
        self.w_v = nn.Linear(d_in, d_v, bias=False)
        self.w_k = nn.Linear(d_in, d_k, bias=False)
        self.w_q = nn.Linear(d_in, d_k, bias=False)

    def forward(self, x, mask=None):
        B, T, _ = x.shape
        masks = [None] * B if mask is None else mask.broadcast_to(B, T, T)
        rows = [by_weight(self, x[i], masks[i]) for i in range(B)]
        return torch.stack(rows)


@pytest.mark.parametrize(
    "answer", [head(honest), head(by_weight), head(by_kernel), Sequences]
)
def test_any_head_will_do(answer):
    assert passes("hw1.SelfAttention", answer)


def roles(q="q", k="k", v="v", scale=1.0, dim=-1):
    """Return a forward with mix-ups."""

    def forward(self, x, mask):
        made = [
            x if role == "x" else getattr(self, f"w_{role}")(x)
            for role in (q, k, v)
        ]
        factor = scale(self, x) if callable(scale) else scale
        if dim == -1:
            return spelled_out(factor * made[0], made[1], made[2], mask)[0]
        fits = made[0] @ made[1].mT / made[1].shape[-1] ** 0.5
        return fits.softmax(dim) @ made[2]

    return forward


def if_square(forward):
    """Let the widths decide, so that shapes never tell."""

    def either(self, x, mask):
        wide = self.w_k.weight.shape == self.w_v.weight.shape == (6, 6)
        return (forward if wide else honest)(self, x, mask)

    return either


def transposed(self, x, mask):
    q, k, v = (x @ w.weight for w in (self.w_q, self.w_k, self.w_v))
    return spelled_out(q, k, v, mask)[0]


def root(size):
    def scale(self, x):
        d_k, d_in = self.w_k.weight.shape
        sizes = {"in": d_in, "v": len(self.w_v.weight), "none": 1}
        return math.sqrt(d_k / sizes[size])

    return scale


class Plain:
    def __init__(self, *widths):
        self.inner = head(honest)(*widths)

    def __call__(self, x, mask=None):
        return self.inner(x, mask)


WRONG_HEADS = [
    (
        head(lambda self, x, m: (honest(self, x, m), x)),
        "forward returns the output alone",
    ),
    (
        head(lambda self, x, m: honest(self, x, m) @ torch.ones(5, 9)),
        "(2, 3, 9), and should be (2, 3, 5)",
    ),
    (
        head(lambda self, x, m: self.w_q(x) @ self.w_k(x).mT),
        "that of the weights",
    ),
    (Plain, "derive the class from nn.Module"),
    (head(lambda self, x, m: self.w_c(x), names="abc"), "and should have w_q"),
    (head(honest, too_wide=True), "w_q.weight has shape (5, 6)"),
    (head(roles(scale=root("in"))), "the root of the input's width"),
    (head(roles(scale=root("v"))), "the root of the values' width"),
    (head(roles(scale=root("none"))), "the divisor is missing"),
    (
        head(roles(scale=lambda self, x: len(self.w_k.weight) ** -0.5)),
        "d_k itself",
    ),
    (head(roles(dim=-2)), "runs over the queries"),
    (head(roles(dim=0)), "over the sentences of the batch"),
    (head(if_square(roles(v="x"))), "the values are x itself"),
    (head(if_square(roles(v="k"))), "the keys are used as values"),
    (head(if_square(roles(q="x"))), "the queries are x itself"),
    (head(if_square(roles(k="x"))), "the keys are x itself"),
    (head(if_square(roles(q="x", k="x"))), "queries and keys are x itself"),
    (head(if_square(roles("x", "x", "x"))), "nothing is projected"),
    (head(if_square(roles(k="q"))), "w_q makes the keys"),
    (head(if_square(roles(q="k"))), "w_k makes the queries"),
    (head(if_square(transposed)), "the matrices are transposed"),
    (head(roles(scale=0.0)), "differs from attention over"),
    (
        head(lambda s, x, m: honest(s, x, m if m is None else ~m)),
        "the mask is turned round",
    ),
    (
        head(
            lambda s, x, m: honest(
                s, x, m if m is None else m & past(x.shape[1])
            )
        ),
        "the future is hidden, too",
    ),
    (
        head(lambda s, x, m: honest(s, x, m if m is None else m[..., :1, :])),
        "with a mask of (5, 5) the output is wrong",
    ),
    (lambda d_in, d_k: 1, "raises TypeError"),
]


@pytest.mark.parametrize(("answer", "phrase"), WRONG_HEADS)
def test_wrong_heads_are_named(answer, phrase):
    assert fails("hw1.SelfAttention", answer, phrase)


# leaks ---


def moved(function, x, s, row):
    """Return by how much each output moves with another row s."""
    other = x.clone()
    other[s] = row
    return (function(other) - function(x)).abs().amax(-1)


def by_row(make, threshold=1e-4):
    """Return a detector that puts ``make(x, s)`` in place of row s."""

    def leaks(function, x):
        return [
            (t, s)
            for s in range(len(x))
            for t in range(s)
            if moved(function, x, s, make(x, s))[t] > threshold
        ]

    return leaks


def as_table(function, x):
    table = torch.stack(
        [moved(function, x, s, torch.rand(x.shape[1])) for s in range(len(x))],
        dim=1,
    )
    return (table > 1e-4).triu(1).nonzero()


def as_set(function, x):
    return set(by_row(lambda x, s: -x[s] + 0.5)(function, x))


def often(function, x):
    found = [by_row(lambda x, s: torch.randn(x[s].shape)) for _ in range(3)]
    return [pair for leaks in found for pair in leaks(function, x)]


@pytest.mark.parametrize(
    "answer",
    [as_table, as_set, often, by_row(lambda x, s: x.flip(0, 1)[s] + 0.1)],
)
def test_any_detector_will_do(answer):
    task = find_task("hw1.leaks")
    for seed in range(3):
        verdict = task.verdict(answer, seed)
        assert verdict, verdict.message


right = by_row(lambda x, s: torch.randn_like(x[s]))


def by_gradient(function, x):
    x = x.clone().requires_grad_()
    output = function(x)
    pairs = []
    for t in range(len(x)):
        (gradient,) = torch.autograd.grad(output[t].sum(), x)
        pairs += [(t, s) for s in range(t + 1, len(x)) if gradient[s].any()]
    return pairs


def by_jacobian(function, x):
    table = torch.autograd.functional.jacobian(function, x).abs().sum((1, 3))
    return table.triu(1).nonzero()


def all_later_at_once(function, x):
    pairs = []
    for t in range(len(x)):
        other = x.clone()
        other[t + 1 :] = torch.randn(len(x) - t - 1, x.shape[1])
        if ((function(other) - function(x))[t].abs() > 1e-4).any():
            pairs += [(t, s) for s in range(t + 1, len(x))]
    return pairs


def one_number(function, x):
    def first(y):
        return function(y)[:, :1]

    return right(first, x)


def spoils_its_input(function, x):
    x[0] = 1
    return right(function, x)


WRONG_LEAKS = [
    (by_gradient, "no gradient passes through"),
    (by_jacobian, "the pair (0, 1) is not found"),
    (lambda f, x: bool(right(f, x)), "this is bool"),
    (lambda f, x: [t for t, _ in right(f, x)] + [1], "of something else"),
    (lambda f, x: [], "output 0 changes with input 1"),
    (all_later_at_once, "is said to leak, and output"),
    (
        lambda f, x: [
            (t, s) for s in range(len(x)) for t in range(len(x)) if t < s
        ],
        "every later input is said to leak",
    ),
    (lambda f, x: [(0, len(x) + 1)], "(0, 6) is said to leak"),
    (one_number, "the last number of an output"),
    (by_row(lambda x, s: 2 * x[s]), "multiplied by a number"),
    (by_row(lambda x, s: x[s] * 1.001 + 0.0005, 1e-8), "is the rounding"),
    (
        by_row(
            lambda x, s: x[s] + 0.01 * torch.randn_like(x[s]) / x[s].norm()
        ),
        "looks at signs alone",
    ),
    (by_row(lambda x, s: torch.ones_like(x[s])), "is a row of ones"),
    (
        by_row(lambda x, s: x[s] * torch.randn_like(x[s])),
        "is a row of zeros",
    ),
    (spoils_its_input, "changes its input in place"),
    (lambda f: [], "raises TypeError"),
]


@pytest.mark.parametrize(("answer", "phrase"), WRONG_LEAKS)
def test_wrong_detectors_are_named(answer, phrase):
    assert fails("hw1.leaks", answer, phrase)


# streaming ---


def merged(query, key, value, state=None):
    """Merge outputs by the logarithms of their sums."""
    fits = query @ key.mT / math.sqrt(query.shape[-1])
    output = fits.softmax(-1) @ value
    size = fits.logsumexp(-1, keepdim=True)
    if state:
        both = torch.logaddexp(size, state["size"])
        output = (
            output * (size - both).exp()
            + state["output"] * (state["size"] - both).exp()
        )
        size = both
    return output, {"output": output, "size": size}


def in_one_tensor(query, key, value, state=None):
    """Keep highest, sum and mixture side by side, in float64."""
    fits = (query @ key.mT / math.sqrt(query.shape[-1])).double()
    for s in range(key.shape[-2]):
        fit, one = fits[..., s : s + 1], torch.ones(*query.shape[:-1], 1)
        new = torch.cat([one, one * value[..., s : s + 1, :]], -1)
        if state is None:
            state = torch.cat([fit, new.double()], -1)
            continue
        top = torch.maximum(state[..., :1], fit)
        rest = state[..., 1:] * (state[..., :1] - top).exp()
        state = torch.cat([top, rest + new * (fit - top).exp()], -1)
    return state[..., 2:] / state[..., 1:2], state


def counting(query, key, value, state=None):
    """Keep a number and nothing beside the tensors."""
    inner, count = (None, 0) if state is None else state
    output, inner = merged(query, key, value, inner)
    return output, [inner, count + key.shape[-2]]


@pytest.mark.parametrize("answer", [merged, in_one_tensor, counting])
def test_any_streaming_will_do(answer):
    task = find_task("hw1.streaming")
    for seed in range(3):
        verdict = task.verdict(answer, seed)
        assert verdict, verdict.message


def collects(query, key, value, state=None):
    if state is not None:
        key = torch.cat([state[0], key], -2)
        value = torch.cat([state[1], value], -2)
    return spelled_out(query, key, value)[0], (key, value)


class Secret:
    pass


def hides_in_an_object(query, key, value, state=None):
    kept = Secret()
    kept.state = (key, value)
    if state is not None:
        kept.state = tuple(
            torch.cat(each, -2)
            for each in zip(state.state, (key, value), strict=True)
        )
    return spelled_out(query, *kept.state)[0], kept


kept_aside = {}


def remembers(query, key, value, state=None):
    """Keep the keys outside of the state."""
    if state is None:
        kept_aside["all"] = [(key, value)]
    else:
        kept_aside["all"].append((key, value))
    keys, values = zip(*kept_aside["all"], strict=True)
    output, _ = spelled_out(query, torch.cat(keys, -2), torch.cat(values, -2))
    return output, 1


def streams(step):
    """Return a stream whose state a function makes of old and new."""

    def streaming(query, key, value, state=None):
        fits = query @ key.mT / math.sqrt(query.shape[-1])
        top = fits.amax(-1, keepdim=True)
        if state is not None:
            top = torch.maximum(top, state[0])
        powers = (fits - top).exp()
        total = powers.sum(-1, keepdim=True)
        mixed = powers @ value
        if state is not None:
            total, mixed = step(state, top, total, mixed)
        return mixed / total, (top, total, mixed)

    return streaming


def averaged(by_size):
    def streaming(query, key, value, state=None):
        output = spelled_out(query, key, value)[0]
        size = key.shape[-2] if by_size else 1
        before, count = state or (0, 0)
        mean = (before * count + output * size) / (count + size)
        return mean, (mean, count + size)

    return streaming


def without_highest(query, key, value, state=None):
    powers = (query @ key.mT / math.sqrt(query.shape[-1])).exp()
    total, mixed = powers.sum(-1, keepdim=True), powers @ value
    if state is not None:
        total, mixed = total + state[0], mixed + state[1]
    return mixed / total, (total, mixed)


def capped(query, key, value, state=None):
    if key.shape[-1] == 1:
        key = key.clamp(max=20.0)
    return merged(query, key, value, state)


def undivided(powers):
    def streaming(query, key, value, state=None):
        fits = query @ key.mT / math.sqrt(query.shape[-1])
        return powers(fits) @ value, (1,)

    return streaming


WRONG_STREAMS = [
    (lambda q, k, v, s=None: merged(q, k, v, s)[0], "two things are wanted"),
    (
        lambda q, k, v, s=None: merged(q * q.shape[-1] ** 0.5, k, v, s),
        "the divisor is missing",
    ),
    (undivided(torch.exp), "not divided by the sum"),
    (
        undivided(lambda f: (f - f.amax(-1, keepdim=True)).exp()),
        "not divided by the sum",
    ),
    (lambda q, k, v, s=None: (v[:1] + 0 * q[:, :1], s or 1), "that of"),
    (lambda q, k, v, s=None: merged(q, k, v), "the state is not used"),
    (averaged(False), "the outputs of the blocks are averaged; a block"),
    (averaged(True), "averaged by their sizes"),
    (
        streams(
            lambda old, top, total, mixed: (
                total + old[1] * (old[0] - top).exp(),
                mixed + old[2],
            )
        ),
        "the sum of the past is shrunk and its mixture is not",
    ),
    (
        streams(
            lambda old, top, total, mixed: (
                total + old[1] * (top - old[0]).exp(),
                mixed + old[2] * (top - old[0]).exp(),
            )
        ),
        "the past is made larger",
    ),
    (
        streams(
            lambda old, top, total, mixed: (total + 2 * old[1], mixed + old[2])
        ),
        "after block 2 of 3 the output differs",
    ),
    (collects, "Keep no keys, values or scores"),
    (hides_in_an_object, "there is Secret in it"),
    (without_highest, "the output is nan"),
    (capped, "the output is wrong"),
    (remembers, "two streams are mixed up"),
]


@pytest.mark.parametrize(("answer", "phrase"), WRONG_STREAMS)
def test_wrong_streams_are_named(answer, phrase):
    assert fails("hw1.streaming", answer, phrase)


def sums_up(x):
    return x.softmax(-1) if x.ndim == 2 else x.softmax(0)


# For each test that no mistake of the gallery fails first.
FIRST = {
    ("hw1.softmax", "the last of any number of dimensions"): sums_up,
    ("hw1.softmax", "minus infinity leaves no weight"): hidden_count,
    ("hw1.streaming", "one block is ordinary attention"): undivided(torch.exp),
    ("hw1.streaming", "the state does not grow"): collects,
    ("hw1.streaming", "two streams at once"): remembers,
}
