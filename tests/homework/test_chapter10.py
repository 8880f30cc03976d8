"""The checks of chapter 10 know right answers from wrong ones, and why."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from judging import fails, passes

from minitransformer.config import PAD_ID
from minitransformer.homework import check
from minitransformer.training import TrainingOptions, rate_at


@pytest.mark.parametrize("name", ["10.1", "10.2", "10.3", "10.4"])
def test_a_stub_waits(name):
    assert "waits for your answer" in check(name, lambda *_: ...).message
    assert "waits for your answer" in check(name, ...).message


@pytest.mark.parametrize("name", ["10.1", "10.2", "10.3", "10.4"])
def test_a_number_is_no_function(name):
    assert fails(name, 3.5, "a function is wanted")


# 10.1 ---


def by_the_equation(step, d_model, warmup):
    return d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)


def by_cases(step, d_model, warmup):
    top = 1 / math.sqrt(d_model * warmup)
    if step < warmup:
        return top * step / warmup
    return top * math.sqrt(warmup / step)


def by_the_package(step, d_model, warmup):
    options = TrainingOptions(
        warmup=warmup,
        learning_rate=(d_model * warmup) ** -0.5,
        schedule="inverse_sqrt",
    )
    return rate_at(step - 1, options)


def by_tensors(step, d_model, warmup):
    step = torch.tensor(step, dtype=torch.double)
    return d_model**-0.5 * torch.minimum(step**-0.5, step * warmup**-1.5)


@pytest.mark.parametrize(
    "answer", [by_the_equation, by_cases, by_the_package, by_tensors]
)
def test_any_rate_will_do(answer):
    assert passes("10.1", answer)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda s, d, w: max(s**-0.5, s * w**-1.5), "without the width's"),
        (lambda s, d, w: min(s**-0.5, s * w**-1.5), "is missing: a wider"),
        (lambda s, d, w: d**-0.5 * max(s**-0.5, s * w**-1.5), "the larger"),
        (lambda s, d, w: d**0.5 * min(s**-0.5, s * w**-1.5), "its sign"),
        (lambda s, d, w: d**-0.5 * s * w**-1.5, "rises for ever"),
        (lambda s, d, w: (d * s) ** -0.5, "only falls"),
        (
            lambda s, d, w: d**-0.5 * min(s**-0.5, s * w**1.5),
            "lost its sign",
        ),
        (lambda s, d, w: by_the_equation(s, w, d), "changed places"),
        (lambda s, d, w: d**-0.5 * by_the_equation(s, d, w), "its root"),
        (
            lambda s, d, w: d**-0.5 * min(w**-0.5, s * w**-1.5),
            "should fall with",
        ),
        (
            lambda s, d, w: d**-0.5 * min(w**0.5 / s, s * w**-1.5),
            "should fall with",
        ),
        (lambda s, d, w: by_the_equation(max(s - 1, 1), d, w), "from 0"),
        (
            lambda s, d, w: d**-0.5 * min(s**-0.5, s * w**-0.5),
            "Look at its exponent",
        ),
        (lambda s, d, w: by_the_equation(s + 1, d, w), "from 0"),
        (
            lambda s, d, w: d**-0.5 * min(s**-0.5, s / w),
            "don't meet",
        ),
        (lambda s, d, w: 1e-3, "should give"),
        (lambda s, d, w: [1.0, 2.0], "shape"),
        (lambda s, d, w: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_wrong_rate_is_explained(answer, phrase):
    assert fails("10.1", answer, phrase)


# 10.2 ---


def glue(pieces, pair):
    joined = []
    for piece in pieces:
        if joined and (joined[-1], piece) == pair:
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def tally(words, counts):
    pairs = Counter()
    for pieces, count in zip(words, counts, strict=True):
        for pair in pairwise(pieces):
            pairs[pair] += count
    return pairs


def merged(words, counts):
    pairs = tally(words, counts)
    best = max(pairs, key=pairs.get)
    return [glue(pieces, best) for pieces in words]


def by_indexes(words, counts):
    pairs = {}
    for n, pieces in enumerate(words):
        for i in range(len(pieces) - 1):
            key = pieces[i], pieces[i + 1]
            pairs[key] = pairs.get(key, 0) + counts[n]
    (a, b) = sorted(pairs, key=lambda pair: -pairs[pair])[0]
    found = []
    for pieces in words:
        new, i = [], 0
        while i < len(pieces):
            if pieces[i : i + 2] == [a, b]:
                new.append(a + b)
                i += 2
            else:
                new.append(pieces[i])
                i += 1
        found.append(tuple(new))
    return tuple(found)


@pytest.mark.parametrize("answer", [merged, by_indexes])
def test_any_merge_will_do(answer):
    assert passes("10.2", answer)


def second_best(words, counts):
    pairs = tally(words, counts).most_common(2)
    return [glue(pieces, pairs[-1][0]) for pieces in words]


def twice_is_once(words, counts):
    pairs = Counter()
    for pieces, count in zip(words, counts, strict=True):
        for pair in set(pairwise(pieces)):
            pairs[pair] += count
    best = max(pairs, key=pairs.get)
    return [glue(pieces, best) for pieces in words]


def joined_once(words, counts):
    pairs = tally(words, counts)
    best = max(pairs, key=pairs.get)
    found = []
    for pieces in words:
        at = list(pairwise(pieces))
        if best in at:
            i = at.index(best)
            pieces = [*pieces[:i], "".join(best), *pieces[i + 2 :]]
        found.append(pieces)
    return found


def same_spelling(words, counts):
    pairs = tally(words, counts)
    best = max(pairs, key=pairs.get)
    text = "".join(best)
    return [
        [text] if "".join(pieces) == text else glue(pieces, best)
        for pieces in words
    ]


def from_the_right(words, counts):
    found = []
    for pieces in merged_backwards(words, counts):
        found.append(pieces)
    return found


def merged_backwards(words, counts):
    pairs = tally(words, counts)
    best = max(pairs, key=pairs.get)
    for pieces in words:
        new = []
        for piece in reversed(pieces):
            if new and (piece, new[0]) == best:
                new[0] = piece + new[0]
            else:
                new.insert(0, piece)
        yield new


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda words, counts: words, "nothing was joined"),
        (lambda words, counts: [["x"]] * len(words), "letters of a word"),
        (lambda w, c: merged(w, [1] * len(w)), "once for each word"),
        (twice_is_once, "counts twice"),
        (second_best, "Another pair occurs more often"),
        (joined_once, "joined once in a word"),
        (same_spelling, "only spell the same"),
        (from_the_right, "from left to right"),
        (lambda words, counts: 3, "list of lists"),
        (lambda words, counts: ("a", "b"), "list of lists"),
        (lambda w, c: [" ".join(x) for x in merged(w, c)], "list of lists"),
    ],
)
def test_a_wrong_merge_is_explained(answer, phrase):
    assert fails("10.2", answer, phrase)


# 10.3 ---


def adamw(w, g, m, v, t, lr, beta1, beta2, eps, decay):
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
    return w - lr * decay * w - lr * m_hat / (v_hat.sqrt() + eps), m, v


def with_lerp(w, g, m, v, t, lr, beta1, beta2, eps, decay):
    m = torch.lerp(g, m, beta1)
    v = torch.lerp(g * g, v, beta2)
    size = (v / (1 - beta2**t)) ** 0.5 + eps
    return [w * (1 - lr * decay) - lr / (1 - beta1**t) * m / size, m, v]


def with_torch(w, g, m, v, t, lr, beta1, beta2, eps, decay):
    w = w.clone().requires_grad_()
    w.grad = g
    optimizer = torch.optim.AdamW(
        [w], lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=decay
    )
    optimizer.state[w] = {
        "step": torch.tensor(float(t - 1)),
        "exp_avg": m.clone(),
        "exp_avg_sq": v.clone(),
    }
    optimizer.step()
    state = optimizer.state[w]
    return w, state["exp_avg"], state["exp_avg_sq"]


def with_numpy(w, g, m, v, *settings):
    w, g, m, v = (each.numpy() for each in (w, g, m, v))
    t, lr, beta1, beta2, eps, decay = settings
    m = m * beta1 + g * (1 - beta1)
    v = v * beta2 + g**2 * (1 - beta2)
    step = m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + eps)
    return w - lr * (step + decay * w), m, v


@pytest.mark.parametrize("answer", [adamw, with_lerp, with_torch, with_numpy])
def test_any_step_will_do(answer):
    assert passes("10.3", answer)


def l2(w, g, m, v, t, lr, beta1, beta2, eps, decay):
    return adamw(w, g + decay * w, m, v, t, lr, beta1, beta2, eps, 0.0)


def altered(change):
    """Make a step whose result ``change`` turns into another."""

    def answer(*state):
        w, g, m, v, t, lr, beta1, beta2, eps, decay = state
        new_w, new_m, new_v = adamw(*state)
        m_hat, v_hat = new_m / (1 - beta1**t), new_v / (1 - beta2**t)
        names = dict(locals())
        return change(names)

    return answer


def other(name):
    def with_formula(formula):
        def change(n):
            parts = {"w": n["new_w"], "m": n["new_m"], "v": n["new_v"]}
            parts[name] = formula(n)
            return parts["w"], parts["m"], parts["v"]

        return altered(change)

    return with_formula


def root(x):
    return x.sqrt()


WRONG_W = [
    (lambda n: n["new_w"] + n["lr"] * n["decay"] * n["w"], "is missing"),
    (
        lambda n: n["new_w"] + (n["lr"] - 1) * n["decay"] * n["w"],
        "not multiplied by the rate",
    ),
    (
        lambda n: (
            n["new_w"]
            + 2 * n["lr"] * n["m_hat"] / (root(n["v_hat"]) + n["eps"])
        ),
        "uphill",
    ),
    (lambda n: n["new_w"] + 2 * n["lr"] * n["decay"] * n["w"], "larger"),
    (
        lambda n: (
            kept(n) - n["lr"] * n["new_m"] / (root(n["new_v"]) + n["eps"])
        ),
        "not corrected",
    ),
    (
        lambda n: (
            kept(n) - n["lr"] * n["m_hat"] / (root(n["new_v"]) + n["eps"])
        ),
        "m is corrected, v",
    ),
    (
        lambda n: (
            kept(n) - n["lr"] * n["new_m"] / (root(n["v_hat"]) + n["eps"])
        ),
        "v is corrected, m",
    ),
    (
        lambda n: kept(n) - n["lr"] * n["m_hat"] / (n["v_hat"] + n["eps"]),
        "root of v",
    ),
    (
        lambda n: kept(n) - n["lr"] * n["m_hat"] / root(n["v_hat"] + n["eps"]),
        "under the root",
    ),
    (
        lambda n: kept(n) - n["lr"] * n["g"] / (root(n["v_hat"]) + n["eps"]),
        "the gradient itself",
    ),
    (
        lambda n: (
            (1 - n["lr"] * n["decay"])
            * (n["w"] - n["lr"] * n["m_hat"] / (root(n["v_hat"]) + n["eps"]))
        ),
        "the new weight",
    ),
    (
        lambda n: -n["lr"] * n["m_hat"] / (root(n["v_hat"]) + n["eps"]),
        "the step alone",
    ),
    (
        lambda n: (
            n["w"]
            - n["lr"]
            * (n["m_hat"] + n["decay"] * n["w"])
            / (root(n["v_hat"]) + n["eps"])
        ),
        "what AdamW avoids",
    ),
    (
        lambda n: n["new_w"] + n["lr"] * n["decay"] * (n["w"] - n["m_hat"]),
        "of the mean gradient",
    ),
    (
        lambda n: kept(n) - n["m_hat"] / (root(n["v_hat"]) + n["eps"]),
        "step is not multiplied",
    ),
    (
        lambda n: (
            kept(n)
            - n["lr"]
            * n["new_m"]
            / (1 - n["beta1"] ** (n["t"] + 1))
            / (root(n["new_v"] / (1 - n["beta2"] ** (n["t"] + 1))) + n["eps"])
        ),
        "t + 1",
    ),
    (lambda n: 3 * n["new_w"], "w is not, at step"),
]


def kept(n):
    return (1 - n["lr"] * n["decay"]) * n["w"]


@pytest.mark.parametrize(("formula", "phrase"), WRONG_W)
def test_a_wrong_weight_is_explained(formula, phrase):
    assert fails("10.3", other("w")(formula), phrase)


@pytest.mark.parametrize(
    ("name", "formula", "phrase"),
    [
        ("m", lambda n: n["m_hat"], "corrected m is returned"),
        ("m", lambda n: n["beta1"] * n["m"] + n["g"], "is momentum"),
        (
            "m",
            lambda n: (1 - n["beta1"]) * n["m"] + n["beta1"] * n["g"],
            "swapped",
        ),
        ("m", lambda n: n["m"], "m is returned as it was"),
        ("m", lambda n: 7 * n["new_m"], "m is not right"),
        ("v", lambda n: n["v_hat"], "corrected v is returned"),
        (
            "v",
            lambda n: n["beta2"] * n["v"] + (1 - n["beta2"]) * n["g"],
            "remembers gradients",
        ),
        (
            "v",
            lambda n: n["beta2"] * n["v"] + (1 - n["beta2"]) * n["g"].abs(),
            "remembers sizes",
        ),
        (
            "v",
            lambda n: n["beta1"] * n["v"] + (1 - n["beta1"]) * n["g"] ** 2,
            "memory of its own",
        ),
        (
            "v",
            lambda n: (
                n["beta2"] * n["v"]
                + (1 - n["beta2"]) * (n["g"] + n["decay"] * n["w"]) ** 2
            ),
            "got into v",
        ),
        ("v", lambda n: n["v"], "v is returned as it was"),
        ("v", lambda n: 7 * n["new_v"], "v is not right"),
    ],
)
def test_a_wrong_memory_is_explained(name, formula, phrase):
    assert fails("10.3", other(name)(formula), phrase)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (l2, "Adam with L2"),
        (lambda *state: adamw(*state)[0], "three things"),
        (
            lambda *state: [adamw(*state)[i] for i in (0, 2, 1)],
            "changed places",
        ),
        (
            lambda *state: adamw(*state[:8], 0.0, state[9]),
            "eps is missing",
        ),
    ],
)
def test_other_wrong_steps_are_explained(answer, phrase):
    assert fails("10.3", answer, phrase)


def test_a_step_in_place_is_seen():
    def answer(w, g, m, v, *settings):
        new = adamw(w, g, m, v, *settings)
        w += 1
        return new

    assert fails("10.3", answer, "in place")


# 10.4 ---


def cost(model, x, labels, how="sum"):
    return F.cross_entropy(
        model(x), labels, ignore_index=PAD_ID, reduction=how
    )


def count(batches):
    return sum((labels != PAD_ID).sum() for _, labels in batches)


def gradients(model):
    return [w.grad for w in model.parameters()]


def by_backward(model, batches):
    model.zero_grad()
    for x, labels in batches:
        (cost(model, x, labels) / count(batches)).backward()
    return gradients(model)


def by_adding(model, batches):
    total = None
    for x, labels in batches:
        parts = torch.autograd.grad(
            cost(model, x, labels), list(model.parameters())
        )
        total = (
            parts
            if total is None
            else [a + b for a, b in zip(total, parts, strict=True)]
        )
    return [each / count(batches) for each in total]


def by_hand(model, batches):
    model.zero_grad()
    total = count(batches)
    for x, labels in batches:
        real = labels != PAD_ID
        chosen = model(x).log_softmax(dim=-1)[real, labels[real]]
        (-chosen.sum() / total).backward()
    return tuple(gradients(model))


def after_a_look(model, batches):
    with torch.no_grad():
        for x, _ in batches:
            model(x)
    return by_backward(model, batches)


@pytest.mark.parametrize(
    "answer", [by_backward, by_adding, by_hand, after_a_look]
)
def test_any_accumulation_will_do(answer):
    assert passes("10.4", answer)


def accumulated(loss_of, reset=True, between=False):
    def answer(model, batches):
        if reset:
            model.zero_grad()
        for x, labels in batches:
            if between:
                model.zero_grad()
            loss_of(model, x, labels, batches).backward()
        return gradients(model)

    return answer


def at_once(model, batches):
    x = torch.cat([x for x, _ in batches])
    labels = torch.cat([labels for _, labels in batches])
    return accumulated(lambda m, x, y, b: cost(m, x, y, "mean"))(
        model, [(x, labels)]
    )


def backward_at_the_end(model, batches):
    model.zero_grad()
    loss = sum(cost(model, x, labels) for x, labels in batches)
    (loss / count(batches)).backward()
    return gradients(model)


def with_a_step(model, batches):
    found = [g.clone() for g in by_backward(model, batches)]
    with torch.no_grad():
        for w in model.parameters():
            w -= 0.1 * w.grad
    return found


def lengths_of(batches):
    return sum(len(labels) for _, labels in batches)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (
            accumulated(lambda m, x, y, b: cost(m, x, y, "mean") / len(b)),
            "averaged alone, and then",
        ),
        (
            accumulated(lambda m, x, y, b: cost(m, x, y, "mean")),
            "means are added up",
        ),
        (accumulated(lambda m, x, y, b: cost(m, x, y)), "of the sum"),
        (
            accumulated(lambda m, x, y, b: cost(m, x, y) / lengths_of(b)),
            "labels with padding",
        ),
        (
            accumulated(
                lambda m, x, y, b: cost(m, x, y) / count(b), reset=False
            ),
            "older gradient",
        ),
        (
            accumulated(
                lambda m, x, y, b: cost(m, x, y, "mean"), between=True
            ),
            "last batch alone",
        ),
        (
            accumulated(
                lambda m, x, y, b: cost(m, x, y) / count(b), between=True
            ),
            "only the last batch",
        ),
        (
            accumulated(
                lambda m, x, y, b: (
                    F.cross_entropy(m(x), y, reduction="sum") / lengths_of(b)
                )
            ),
            "padding is learned",
        ),
        (
            accumulated(lambda m, x, y, b: F.cross_entropy(m(x), y) / len(b)),
            "padding is learned",
        ),
        (at_once, "several batches at once"),
        (backward_at_the_end, "before the next"),
        (with_a_step, "weights have changed"),
        (lambda m, b: by_backward(m, b)[:2], "a gradient for each"),
        (lambda m, b: [5 * g for g in by_backward(m, b)], "all real labels"),
        (lambda m, b: 3, "return a list"),
        (
            lambda m, b: (
                m(b[0][0]),
                [torch.zeros_like(w) for w in m.parameters()],
            )[1],
            "all real labels",
        ),
    ],
)
def test_a_wrong_accumulation_is_explained(answer, phrase):
    assert fails("10.4", answer, phrase)


# Quiz ---


def test_the_key_is_computed():
    assert check("10.quiz", list("CABCA"))
    assert "3 of 5" in check("10.quiz", list("CABAB")).message
