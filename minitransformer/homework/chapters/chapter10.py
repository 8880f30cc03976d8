"""The checks of chapter 10, "Data and training"."""

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.config import PAD_ID
from minitransformer.homework.checking import (
    Wrong,
    call,
    exercise,
    explain,
    is_near,
    numbers,
    quiz,
)

Words = list[list[str]]
Row = tuple[Tensor, Tensor]  # inputs and labels


def _draw(*shape: int) -> Tensor:
    """Draw numbers in float64."""
    return torch.randn(*shape, dtype=torch.double)


def _python_random() -> random.Random:
    """Return a generator that the check's seed decides."""
    return random.Random(int(torch.randint(10**9, ())))


# 10.1 ---


@exercise("10.1")
def check_rate(answer: Any) -> None:
    """Ask before, at and after the end of the warm-up, for several sizes."""
    for D, warmup in ((512, 4_000), (64, 100), (300, 7)):
        steps = [1, warmup // 3, warmup, 2 * warmup + 1, 9 * warmup]
        found = torch.stack(
            [numbers(call(answer, step, D, warmup), ()) for step in steps]
        )
        right = torch.tensor([_rate(step, D, warmup) for step in steps])
        if not _same_rates(found, right):
            _explain_rate(found, torch.tensor(steps).double(), D, warmup)


def _same_rates(found: Tensor, right: Tensor) -> bool:
    """Say whether rates are the same; they are small, so by their ratio."""
    return torch.allclose(found, right.double(), rtol=1e-5, atol=0.0)


def _rate(step: float, d_model: int, warmup: int) -> float:
    """Return the paper's learning rate."""
    return float(d_model**-0.5 * min(step**-0.5, step * warmup**-1.5))


def _explain_rate(found: Tensor, steps: Tensor, d: int, warmup: int) -> None:
    """Raise `Wrong` with what stands in the wrong place."""
    rise, fall = steps * warmup**-1.5, steps**-0.5
    lower = torch.minimum(rise, fall)
    next_step = steps + 1
    later = torch.minimum(next_step**-0.5, next_step * warmup**-1.5)
    before = (steps - 1).clamp_min(1)
    earlier = torch.minimum(before**-0.5, before * warmup**-1.5)
    mistakes = [
        (
            torch.maximum(rise, fall),
            "without the width's factor, and with `max`: the rate is the"
            " smaller of the two.",
        ),
        (
            lower,
            "the factor with the width is missing: a wider model gets a"
            " smaller rate.",
        ),
        (
            d**-0.5 * torch.maximum(rise, fall),
            "this is the larger of the two terms. It begins high and ends"
            " high; the rate is the smaller one.",
        ),
        (
            d**0.5 * lower,
            "the width's exponent has lost its sign: a wider model gets a"
            " smaller rate, not a larger one.",
        ),
        (
            d**-0.5 * rise,
            "this rises for ever. After the warm-up it should fall.",
        ),
        (
            d**-0.5 * fall,
            "this only falls: the warm-up is missing, or its exponent has"
            " lost its sign.",
        ),
        *(
            (
                d**-0.5 * shifted,
                "this counts steps from 0. Here they are counted from 1.",
            )
            for shifted in (later, earlier)
        ),
        (
            warmup**-0.5 * torch.minimum(fall, steps * float(d) ** -1.5),
            "width and warm-up have changed places.",
        ),
        (
            lower / d,
            "the width's exponent is not right: it is divided by its root.",
        ),
        *(
            (
                d**-0.5 * torch.minimum(rise, other),
                "the warm-up is right. After it the rate should fall with the"
                " root of the step.",
            )
            for other in (
                torch.full_like(rise, warmup**-0.5),
                warmup**0.5 / steps,
            )
        ),
        *(
            (
                d**-0.5 * torch.minimum(fall, steps * warmup**power),
                "the two terms don't meet at the end of the warm-up. Look at"
                " its exponent.",
            )
            for power in (-1.0, -0.5)
        ),
    ]
    for rates, words in mistakes:
        if _same_rates(found, rates):
            raise Wrong(words)
    right = d**-0.5 * lower
    i = int(((found - right).abs() / right).argmax())
    raise Wrong(
        f"for step {int(steps[i])}, width {d} and {warmup} steps of warm-up"
        f" this gives {float(found[i]):.4g}, and should give"
        f" {float(right[i]):.4g}."
    )


# 10.2 ---


def _pairs(words: Words, counts: Sequence[int]) -> Counter[tuple[str, str]]:
    """Count neighbours."""
    found: Counter[tuple[str, str]] = Counter()
    for pieces, count in zip(words, counts, strict=True):
        for pair in pairwise(pieces):
            found[pair] += count
    return found


def _join(pieces: Sequence[str], pair: tuple[str, str]) -> list[str]:
    """Join a pair from left to right, no piece twice."""
    joined: list[str] = []
    start = 0
    while start < len(pieces):
        both = tuple(pieces[start : start + 2]) == pair
        joined.append("".join(pair) if both else pieces[start])
        start += 2 if both else 1
    return joined


def _merge(words: Words, pair: tuple[str, str]) -> Words:
    """Join a pair in all words."""
    return [_join(pieces, pair) for pieces in words]


def _random_words() -> tuple[Words, list[int]]:
    """Make words with one most frequent pair, by their counts alone."""
    rng = _python_random()
    while True:
        words = [rng.choices("abcde", k=rng.randrange(1, 7)) for _ in range(9)]
        counts = [rng.randrange(1, 30) for _ in words]
        top = _pairs(words, counts).most_common(2)
        plain = _pairs(words, [1] * 9).most_common(1)
        if top[0][1] > top[1][1] and plain[0][0] != top[0][0]:
            return words, counts


@exercise("10.2")
def check_merge(answer: Any) -> None:
    """Try letters, longer pieces, a pair that overlaps, and others."""
    cases = [
        ([list("chat"), list("rat"), list("rats"), list("chien")],
         [6, 2, 2, 3]),
        ([["ch", "at"], ["r", "at"], ["r", "at", "s"]], [6, 2, 3]),
        ([list("aaa"), list("baaaab"), list("ab")], [3, 2, 1]),
        ([["a", "bc"], ["ab", "c"], list("abc")], [5, 4, 3]),
        ([list("abdab"), list("cd")], [3, 5]),
        _random_words(),
        _random_words(),
    ]  # fmt: skip
    for words, counts in cases:
        got = _as_words(call(answer, words, counts), len(words))
        pairs = _pairs(words, counts)
        best = max(pairs, key=lambda pair: pairs[pair])
        if got != _merge(words, best):
            _explain_merge(got, words, counts, best)


def _as_words(found: Any, count: int) -> Words:
    """Read what was returned as words in pieces, or raise `Wrong`."""
    if (
        not isinstance(found, list | tuple)
        or len(found) != count
        or not all(isinstance(pieces, list | tuple) for pieces in found)
    ):
        raise Wrong(
            "return all the words, and only them: a list of lists of pieces."
        )
    return [[str(piece) for piece in pieces] for pieces in found]


def _explain_merge(
    got: Words,
    words: Words,
    counts: Sequence[int],
    best: tuple[str, str],
) -> None:
    """Raise `Wrong` with what was counted or joined otherwise."""
    if got == words:
        raise Wrong("nothing was joined.")
    if ["".join(pieces) for pieces in got] != [
        "".join(pieces) for pieces in words
    ]:
        raise Wrong(
            "the letters of a word must stay, in their order; only the cuts"
            f" change. {words} became {got}."
        )
    plain = _pairs(words, [1] * len(words))
    if any(
        plain[pair] == max(plain.values()) and got == _merge(words, pair)
        for pair in plain
    ):
        raise Wrong(
            "this counts a pair once for each word that has it. How often does"
            " the word itself occur?"
        )
    once_a_word: Counter[tuple[str, str]] = Counter()
    for pieces, count in zip(words, counts, strict=True):
        for pair in set(pairwise(pieces)):
            once_a_word[pair] += count
    (first, most), *_ = once_a_word.most_common(1)
    if most > once_a_word[best] and got == _merge(words, first):
        raise Wrong(
            "a pair that stands in a word twice counts twice, each time the"
            " word occurs."
        )
    pairs = _pairs(words, counts)
    for pair in pairs:
        if pair != best and got == _merge(words, pair):
            raise Wrong(
                f"{' + '.join(pair)} is joined, and occurs {pairs[pair]}"
                " times. Another pair occurs more often."
            )
    once = []
    for pieces in words:
        at = list(pairwise(pieces))
        i = at.index(best) if best in at else len(pieces)
        once.append([*pieces[:i], *(["".join(best)] if best in at else []),
                     *pieces[i + 2 :]])  # fmt: skip
    if got == once:
        raise Wrong(
            "the pair is joined once in a word. It may stand there again."
        )
    everywhere = []
    text = "".join(best)
    for pieces in words:
        everywhere.append(
            [text] if "".join(pieces) == text else _join(pieces, best)
        )
    if got == everywhere:
        raise Wrong(
            "joined are pieces that only spell the same. The pair is two"
            f" pieces, {best[0]} and {best[1]}."
        )
    raise Wrong(
        f"{words} with counts {list(counts)} became {got}. Join"
        f" {' + '.join(best)} from left to right, each piece once."
    )


# 10.3 ---


@exercise("10.3")
def check_adamw(answer: Any) -> None:
    """Try late steps and the first; at that one mistakes look alike."""
    settings = [(1e-2, 0.9, 0.98, 1e-9, 0.1), (0.3, 0.8, 0.95, 1e-2, 0.5)]
    for lr, beta1, beta2, eps, decay in settings:
        for t, shape in ((30, (2,)), (2, (3, 5)), (1, (4,))):
            w, g = _draw(*shape), _draw(*shape)
            m = torch.zeros_like(w) if t == 1 else _draw(*shape)
            v = torch.zeros_like(w) if t == 1 else _draw(*shape).square()
            state = (w, g, m, v, t, lr, beta1, beta2, eps, decay)
            parts = call(answer, *state)
            if not isinstance(parts, tuple | list) or len(parts) != 3:
                raise Wrong("return three things: the new w, m and v.")
            found = [numbers(part, shape) for part in parts]
            right = _adamw(*state)
            if not all(map(_close, found, right)):
                _explain_adamw(found, state)


def _close(a: Tensor, b: Tensor) -> bool:
    """Say whether two results are the same but for rounding."""
    return is_near(a, b, 1e-6)


def _adamw(
    w: Tensor, g: Tensor, m: Tensor, v: Tensor, t: int, lr: float,
    beta1: float, beta2: float, eps: float, decay: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Make the step."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g.square()
    m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
    step = lr * m_hat / (v_hat.sqrt() + eps)
    return (1 - lr * decay) * w - step, m, v


def _explain_adamw(found: list[Tensor], state: Any) -> None:
    """Raise `Wrong` with the part that is not right, memories first."""
    w, g, m, v, t, lr, beta1, beta2, eps, decay = state
    _, right_m, right_v = _adamw(*state)
    if _close(found[1], right_v) and _close(found[2], right_m):
        raise Wrong("m and v have changed places: return w, m, v.")
    with_l2 = _adamw(w, g + decay * w, m, v, t, lr, beta1, beta2, eps, 0.0)
    if all(map(_close, found, with_l2)):
        raise Wrong(
            "the decay goes through the gradient: that is Adam with L2."
            " AdamW takes it off the weight itself, and m and v never see it."
        )
    m_hat, v_hat = right_m / (1 - beta1**t), right_v / (1 - beta2**t)
    if not _close(found[1], right_m):
        explain(
            found[1],
            [
                (m_hat, "the corrected m is returned. It is used for the step"
                 " and forgotten; what is kept is m."),
                (beta1 * m + g, "the new gradient enters m with its full"
                 " size: that is momentum. Here it has the share 1 - beta1."),
                ((1 - beta1) * m + beta1 * g, "beta1 is the share of the old"
                 " m, 1 - beta1 that of the gradient; here they are swapped."),
                (m, "m is returned as it was."),
            ],
            "m is not right: a share beta1 of the old one, the rest of the"
            " gradient.",
            1e-6,
        )  # fmt: skip
    if not _close(found[2], right_v):
        explain(
            found[2],
            [
                (v_hat, "the corrected v is returned. It is used for the step"
                 " and forgotten; what is kept is v."),
                (beta2 * v + (1 - beta2) * g, "v remembers gradients, and"
                 " should remember their squares."),
                (beta2 * v + (1 - beta2) * g.abs(), "v remembers sizes, and"
                 " should remember squares."),
                (beta1 * v + (1 - beta1) * g.square(), "v has a memory of"
                 " its own, beta2."),
                (beta2 * v + (1 - beta2) * (g + decay * w).square(),
                 "the decay has got into v. It never meets m or v."),
                (v, "v is returned as it was."),
            ],
            "v is not right: a share beta2 of the old one, the rest of the"
            " gradient's square.",
            1e-6,
        )  # fmt: skip
    step = lr * m_hat / (v_hat.sqrt() + eps)
    kept = (1 - lr * decay) * w
    raw = right_m / (right_v.sqrt() + eps)
    size = v_hat.sqrt() + eps
    late_m = right_m / (1 - beta1 ** (t + 1))
    late_v = right_v / (1 - beta2 ** (t + 1))
    explain(
        found[0],
        [
            (w - step, "the decay is missing."),
            (w - lr * (m_hat + decay * w) / size, "the decay is divided by"
             " the root of v, like the gradient: that is what AdamW avoids."
             " It stands beside the fraction."),
            (w - lr * decay * m_hat - step, "the decay takes a share of the"
             " mean gradient. It takes one of the weight."),
            (kept - m_hat / size, "the step is not multiplied by the rate."),
            (kept - lr * m_hat / v_hat.sqrt(), "eps is missing."),
            (kept - lr * late_m / (late_v.sqrt() + eps), "the powers are of"
             " t + 1. Steps are counted from 1 already: take t."),
            (w - step - decay * w, "the decay is not multiplied by the"
             " rate."),
            (kept + step, "the step goes uphill: it is taken off."),
            (w + lr * decay * w - step, "the decay makes the weight"
             " larger."),
            (kept - lr * raw, "the memories are not corrected. At the first"
             " step they hold a tenth and a fiftieth of what they should."),
            (kept - lr * m_hat / (right_v.sqrt() + eps), "m is corrected, v"
             " is not."),
            (kept - lr * right_m / (v_hat.sqrt() + eps), "v is corrected, m"
             " is not."),
            (kept - lr * m_hat / (v_hat + eps), "the root of v is missing."),
            (kept - lr * m_hat / (v_hat + eps).sqrt(), "eps is under the"
             " root. It is added after it."),
            (kept - lr * g / (v_hat.sqrt() + eps), "the step takes the"
             " gradient itself. It should take the mean m of many."),
            ((1 - lr * decay) * (w - step), "the decay takes its share of"
             " the new weight. It is meant for the old one."),
            (-step, "this is the step alone: the old weight is missing."),
        ],
        f"m and v are right, and w is not, at step {t} with decay {decay}.",
        1e-6,
    )  # fmt: skip


# 10.4 ---


class _OneAtATime(nn.Module):
    """Gives logits for one batch, and notices if it is shown more.

    Args:
        size: Features and classes.
        most: Rows of the largest batch.
    """

    def __init__(self, size: int, most: int):
        super().__init__()
        self.hidden = nn.Linear(size, size + 3, dtype=torch.double)
        self.output = nn.Linear(size + 3, size, dtype=torch.double)
        self.most = most
        self.waiting = False  # a graph is kept until its backward pass
        self.complaint = ""

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of ``x (N, D)``."""
        if len(x) > self.most:
            self.complaint = (
                "the model is shown several batches at once. That is what"
                " there is no memory for."
            )
        logits: Tensor = self.output(self.hidden(x).tanh())
        if logits.requires_grad:
            if self.waiting and not self.complaint:
                self.complaint = (
                    "the backward pass of one batch must come before the next"
                    " batch. Else all are kept in memory until the end, as if"
                    " they were one."
                )
            self.waiting = True
            logits.register_hook(self._done)  # type: ignore[no-untyped-call]
        return logits

    def _done(self, gradient: Tensor) -> None:
        """Note that the backward pass has begun."""
        self.waiting = False


def _gradients(
    model: nn.Module, rows: Sequence[Row], share: Callable[[Tensor], Tensor]
) -> list[Tensor]:
    """Return the gradients of the batches' losses, each times its share."""
    model.zero_grad()
    for x, labels in rows:
        loss = F.cross_entropy(
            model(x), labels, ignore_index=PAD_ID, reduction="sum"
        )
        (loss * share(labels)).backward()  # type: ignore[no-untyped-call]
    found = [w.grad.clone() for w in model.parameters() if w.grad is not None]
    model.zero_grad()
    return found


@exercise("10.4")
def check_accumulate(answer: Any) -> None:
    """Try batches of unequal numbers of labels, with padding in each."""
    for size, rows in ((5, (3, 8, 2)), (7, (4, 4)), (4, (9,))):
        model = _OneAtATime(size, max(rows))
        batches = []
        for count in rows:
            labels = torch.randint(1, size, (count,))
            labels[count // 2 + 1 :] = PAD_ID
            batches.append((_draw(count, size), labels))
        model.zero_grad()
        for w in model.parameters():  # left by an update before
            w.grad = torch.ones_like(w)
        found = _run(answer, model, batches)
        if model.complaint:
            raise Wrong(model.complaint)
        model.waiting = False
        real = sum(int((labels != PAD_ID).sum()) for _, labels in batches)

        def mean(_: Tensor, real: int = real) -> Tensor:
            return torch.tensor(1 / real)

        right = _gradients(model, batches, mean)
        if [each.shape for each in found] != [each.shape for each in right]:
            raise Wrong(
                "return a gradient for each of model.parameters(), in their"
                f" order: {len(right)} here."
            )
        if not _all_near(found, right):
            _explain_gradients(found, model, batches, right)


def _run(
    answer: Any, model: nn.Module, batches: Sequence[Row]
) -> list[Tensor]:
    """Let the learner's code work on this very model."""

    def on_this(batches: list[Row]) -> Any:
        return answer(model, batches)

    before = [w.detach().clone() for w in model.parameters()]
    if not callable(answer):
        call(answer)
    found = call(on_this, list(batches))
    if any(
        not torch.equal(w.detach(), old)
        for w, old in zip(model.parameters(), before, strict=True)
    ):
        raise Wrong(
            "the weights have changed. Only gradients are asked for; no"
            " optimizer makes a step."
        )
    try:
        parts = list(found)
    except TypeError:
        raise Wrong(
            "return a list: a gradient for each of model.parameters()."
        ) from None
    return [numbers(part).clone() for part in parts]


def _all_near(found: Sequence[Tensor], right: Sequence[Tensor]) -> bool:
    """Say whether two lists of gradients are the same."""
    return all(is_near(a, b, 1e-6) for a, b in zip(found, right, strict=True))


def _explain_gradients(
    found: list[Tensor],
    model: nn.Module,
    batches: list[Row],
    right: list[Tensor],
) -> None:
    """Raise `Wrong` with what each batch was divided by, or what is left."""
    count = len(batches)
    all_labels = sum(len(labels) for _, labels in batches)

    def own(labels: Tensor) -> Tensor:
        return 1 / (labels != PAD_ID).sum()

    def one(labels: Tensor) -> Tensor:
        return torch.ones(())

    mistakes: list[tuple[list[Tensor], str]] = [
        (
            [g / count for g in _gradients(model, batches, own)],
            "each batch is averaged alone, and then they count alike. A batch"
            " with few labels counts too much: divide sums by all labels.",
        ),
        (
            _gradients(model, batches, own),
            "each batch is averaged alone, and the means are added up. Divide"
            " each batch's sum by the labels of all.",
        ),
        (
            _gradients(model, batches, one),
            "this is the gradient of the sum. The mean is asked for.",
        ),
        (
            [g / all_labels for g in _gradients(model, batches, one)],
            "divided by the labels with padding. Only real ones count.",
        ),
        (
            [g + 1 for g in right],
            "an older gradient is still in it: set the gradients to zero"
            " before the first batch.",
        ),
        (
            _gradients(model, batches[-1:], own),
            "this is the gradient of the last batch alone: the gradients are"
            " set to zero in between.",
        ),
    ]
    real = sum(int((labels != PAD_ID).sum()) for _, labels in batches)
    last = _gradients(model, batches[-1:], one)
    mistakes.append(
        (
            [g / real for g in last],
            "only the last batch is in it: the gradients are set to zero in"
            " between.",
        )
    )
    for wrong, words in mistakes:
        if _all_near(found, wrong):
            raise Wrong(words)
    padded = _with_padding(model, batches)
    if any(_all_near(found, each) for each in padded):
        raise Wrong(
            "padding is learned, too: leave out the labels that are PAD_ID."
        )
    raise Wrong(
        f"for {count} batch{'es' if count > 1 else ''} the gradients are not"
        " those of the mean over all real labels."
    )


def _with_padding(
    model: nn.Module, batches: list[Row]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return gradients of means with padding: over all, and of each mean."""
    total = sum(len(labels) for _, labels in batches)
    ways = []
    for alone in (False, True):
        model.zero_grad()
        for x, labels in batches:
            share = len(batches) * len(labels) if alone else total
            loss = F.cross_entropy(model(x), labels, reduction="sum") / share
            loss.backward()  # type: ignore[no-untyped-call]
        ways.append(
            [w.grad.clone() for w in model.parameters() if w.grad is not None]
        )
    model.zero_grad()
    return ways[0], ways[1]


# Quiz ---


@quiz(10)
def key() -> str:
    """Compute the five letters."""
    # 1. Knowing nothing costs ln V; half of it was read from the input.
    first = "C" if math.log(1_000) > 2 * 3 else "A"
    # 2. The floor of smoothing 0.1 alone is above the difference.
    own = 0.9 + 0.1 / 800
    rest = 0.1 / 800
    floor = -own * math.log(own) - 799 * rest * math.log(rest)
    second = "A" if floor > 1.6 - 0.9 else "B"
    # 3. The first step does not hang on the gradient's size.
    w = torch.zeros(1).double()
    small, large = (
        _adamw(w, w + g, w, w, 1, 1, 0.9, 0.98, 0, 0)[0] for g in (0.3, 3.0)
    )
    third = "B" if is_near(small, large) else "A"
    # 4. Sums over all labels, divided once.
    labels, losses = (10, 10, 20), (1, 2, 3)
    mean = sum(n * x for n, x in zip(labels, losses, strict=True)) / 40
    fourth = {2.0: "A", 2.5: "B", 2.25: "C"}[mean]
    # 5. The momentum, and the next batch.
    w1, m1 = _momentum([1, 2], 0.0, 0.0)
    ways = {
        "A": _momentum([3, 4], w1, m1),
        "B": _momentum([1, 2], w1, m1),
        "C": _momentum([1, 2], w1, 0.0),
    }
    straight = _momentum([1, 2, 3, 4], 0.0, 0.0)
    (fifth,) = [letter for letter, end in ways.items() if end == straight]
    return first + second + third + fourth + fifth


def _momentum(
    batches: Sequence[float], w: float, m: float
) -> tuple[float, float]:
    """Walk towards some numbers, one after the other."""
    for batch in batches:
        m = 0.9 * m + (w - batch)
        w -= 0.1 * m
    return w, m
