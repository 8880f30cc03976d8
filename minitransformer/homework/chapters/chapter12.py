"""The checks of chapter 12, "Looking inside"."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from minitransformer.evaluation import alignment_error
from minitransformer.heads import map_distances
from minitransformer.homework.checking import (
    Wrong,
    call,
    exercise,
    explain,
    is_near,
    numbers,
    quiz,
)
from minitransformer.residual import layer_norm


def _draw(*shape: int) -> Tensor:
    """Draw numbers in float64."""
    return torch.randn(*shape, dtype=torch.double)


def _draw_map(queries: int, keys: int) -> Tensor:
    """Draw the weights of a head, rather sharp ones."""
    return (2 * _draw(queries, keys)).softmax(dim=-1)


@exercise("12.1")
def check_distance(answer: Any) -> None:
    """Try maps of several sizes, none of them square."""
    for T, S in ((3, 2), (4, 7), (5, 1), (6, 4)):
        a, b = _draw_map(T, S), _draw_map(T, S)
        found = numbers(call(answer, a, b))
        if found.numel() != 1:
            raise Wrong(
                f"one number is wanted, and this has shape"
                f" {tuple(found.shape)}: take the mean over the queries."
            )
        if not is_near(found.reshape(()), _distance(a, b), 1e-7):
            _explain_distance(found.reshape(()), a, b)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Return equation (12.2), averaged over the queries."""
    return map_distances(torch.stack([a, b]))[0, 1]


def _explain_distance(found: Tensor, a: Tensor, b: Tensor) -> None:
    """Raise `Wrong` with what was measured instead."""
    right, apart = _distance(a, b), (a - b).abs()
    explain(
        found,
        [
            (
                2 * right,
                "this is twice too much. What one key loses another gains,"
                " so each moved weight was counted twice.",
            ),
            (
                right * len(a),
                "the rows are added up: a longer sentence would lie further"
                " apart. Take their mean.",
            ),
            (
                2 * right * len(a),
                "the rows are added up, and each moved weight counts twice.",
            ),
            (
                apart.mean(),
                "the mean runs over the keys too. Along the keys add up,"
                " over the queries average.",
            ),
            (
                apart.mean() / 2,
                "the mean runs over the keys too. Along the keys add up,"
                " over the queries average.",
            ),
            (
                (a - b).sum(-1).mean() / 2,
                "gains and losses cancel: both rows add up to 1. Take"
                " absolute values first.",
            ),
            (
                (a - b).square().sum(-1).sqrt().mean(),
                "this is the length of the difference. Equation (12.2) has"
                " absolute values, not squares.",
            ),
            (
                (a - b).square().sum(-1).mean() / 2,
                "the differences are squared. Equation (12.2) has absolute"
                " values.",
            ),
            (
                (a - b).square().sum(-1).mean(),
                "the differences are squared. Equation (12.2) has absolute"
                " values.",
            ),
            (
                apart.max(-1).values.mean(),
                "the largest difference alone does not say how much moves in"
                " all.",
            ),
        ],
        f"for maps of {tuple(a.shape)} the number is not right. A number for"
        " each query first, by equation (12.2), then their mean.",
        1e-7,
    )


@exercise("12.2")
def check_silence(answer: Any) -> None:
    """Silence one head, several, all and none, of layers of several sizes.

    The square one comes first: there rows taken for columns raise no error.
    """
    for H, d_k, T, D, silent in (
        (3, 2, 4, 6, [1]),
        (4, 3, 5, 7, [0, 2]),
        (2, 5, 3, 4, []),
        (2, 2, 6, 5, [1, 0]),
    ):
        heads, weight, bias = _draw(H, T, d_k), _draw(D, H * d_k), _draw(D)
        found = numbers(call(answer, heads, weight, bias, silent))
        if not is_near(found, _silenced(heads, weight, bias, silent), 1e-7):
            _explain_silence(found, heads, weight, bias, silent)


def _silenced(
    heads: Tensor, weight: Tensor, bias: Tensor, silent: Sequence[int]
) -> Tensor:
    """Return an attention's output without some of its heads."""
    kept = _muted(heads, silent)
    return F.linear(kept.transpose(0, 1).flatten(1), weight, bias)


def _explain_silence(
    found: Tensor,
    heads: Tensor,
    weight: Tensor,
    bias: Tensor,
    silent: list[int],
) -> None:
    """Raise `Wrong` with what was silenced instead."""
    H, _, d_k = heads.shape
    none = torch.zeros_like(bias)
    right = _silenced(heads, weight, bias, silent)
    rest = [h for h in range(H) if h not in silent]
    rows, columns = weight.clone(), weight.clone()
    for h in silent:
        rows[h * d_k : (h + 1) * d_k] = 0
        columns[:, h * d_k : (h + 1) * d_k] = 0
    side_by_side = heads.transpose(0, 1).flatten(1)  # (T, H * d_k)
    mistakes = [
        (
            _silenced(heads, weight, none, silent),
            "the bias is missing. It belongs to no head, and stays.",
        ),
        (
            _silenced(heads, weight, bias, []),
            "all heads still speak.",
        ),
        (
            _silenced(heads, weight, bias, rest),
            "the wrong ones are silent: `silent` lists those to leave out.",
        ),
        (
            F.linear(side_by_side, rows, bias),
            "rows of the weight are zeroed, which silences features of the"
            " output. nn.Linear keeps its matrix transposed: a head meets"
            " columns.",
        ),
        (
            _silenced(heads, weight, bias * len(rest), silent),
            "the bias is added once for each head. It belongs to no head.",
        ),
        (
            (right - bias) * H / max(len(rest), 1) + bias,
            "the rest is scaled up, as dropout does. A silenced head's share"
            " goes to nobody.",
        ),
        (
            F.linear(
                _muted(heads, silent).permute(1, 2, 0).flatten(1), weight, bias
            ),
            "the heads are interleaved. Head h has d_k columns side by side.",
        ),
        (
            F.linear(
                _muted(heads, silent).reshape(len(right), -1), weight, bias
            ),
            "the heads are reshaped without being moved: a row mixes"
            " queries. Swap heads and queries first.",
        ),
    ]
    if weight.shape[0] == weight.shape[1]:
        text = "the weight is not transposed: nn.Linear computes x @ weight.T."
        mistakes += [
            (
                _muted(heads, silent).transpose(0, 1).flatten(1) @ weight
                + bias,
                text,
            ),
            (side_by_side @ columns + bias, text),
        ]
    if found.shape != right.shape:
        raise Wrong(
            f"with {silent} of {H} heads silent the output has shape"
            f" {tuple(found.shape)}, and should be (T, D),"
            f" {tuple(right.shape)}: with all heads silent, too."
        )
    explain(
        found,
        mistakes,
        f"for {H} heads with {silent} silent the numbers are not right. Start"
        " with the bias, and add what each other head makes of its columns.",
        1e-7,
    )


def _muted(heads: Tensor, silent: Sequence[int]) -> Tensor:
    """Return a copy of the heads with zeros for the silent ones."""
    kept = heads.clone()
    kept[list(silent)] = 0
    return kept


@exercise("12.3")
def check_margins(answer: Any) -> None:
    """Try streams of several widths and vocabularies, one part too."""
    for P, D, V, right, wrong in (
        (6, 4, 8, 2, 5),
        (5, 7, 11, 10, 0),
        (1, 3, 4, 0, 1),
    ):
        parts, matrix = _draw(P, D), _draw(V, D)
        found = numbers(call(answer, parts, matrix, right, wrong))
        wanted = parts @ (matrix[right] - matrix[wrong])
        if not is_near(found, wanted, 1e-7):
            _explain_margins(found, parts, matrix, right, wrong)


def _explain_margins(
    found: Tensor, parts: Tensor, matrix: Tensor, right: int, wrong: int
) -> None:
    """Raise `Wrong` with what was computed instead."""
    logits = parts @ matrix.T  # (P, V)
    margin = logits[:, right] - logits[:, wrong]
    chances = logits.softmax(-1)
    logs = logits.softmax(-1).log()
    explain(
        found,
        [
            (
                logits[:, right],
                "this is the right token's logit alone. A part that raises"
                " both decides nothing: take the difference.",
            ),
            (
                logits[right % len(parts)] - logits[wrong % len(parts)],
                "rows of the logits are parts here, and tokens are columns.",
            ),
            (-margin, "the sign is wrong: right minus wrong."),
            (
                margin.sum(),
                "the parts are added up, and who said what is lost. One"
                " number for each part.",
            ),
            (
                margin.cumsum(0),
                "this is the sum up to each part, as the logit lens reads"
                " it. Here each part is wanted alone.",
            ),
            (
                chances[:, right] - chances[:, wrong],
                "a softmax stands in between. Its results don't add up over"
                " the parts; logits do.",
            ),
            (
                margin / margin.sum(),
                "these are shares. The margin itself is wanted, of which a"
                " part may also take away.",
            ),
            (
                logits[:, right] + logits[:, wrong],
                "the two logits are added. A margin is their difference.",
            ),
            (
                logs[:, right],
                "these are log-probabilities of the right token. A margin is"
                " a difference of two logits.",
            ),
            (
                margin.abs(),
                "absolute values hide which part speaks against the right"
                " token.",
            ),
        ],
        "the numbers are not right. Multiply each part by one vector, that"
        " leads from the wrong token to the right one."
        if found.shape == margin.shape
        else f"the result has shape {tuple(found.shape)}, and should have a"
        f" number for each of the {len(parts)} parts.",
        1e-7,
    )


class _Score:
    """A model that is asked about tokens, and remembers what it was asked.

    Each token has a worth, and neighbours more than their sum, so that hiding
    two is not twice hiding one. The one that hides is worth nothing.
    """

    def __init__(self, size: int, hidden: int) -> None:
        self.worth = _draw(size)
        self.together = _draw(size, size)
        self.worth[hidden] = 0
        self.together[hidden] = 0
        self.together[:, hidden] = 0

    def __call__(self, tokens: Sequence[int]) -> float:
        """Score a list of tokens."""
        ids = [int(token) for token in tokens]
        pairs = pairwise(ids)
        return float(
            sum(self.worth[i] * (n + 1) for n, i in enumerate(ids))
            + sum(self.together[i, j] for i, j in pairs)
        )


@exercise("12.4")
def check_missed(answer: Any) -> None:
    """Hide tokens of sentences of several lengths, one token twice."""
    for tokens, hidden in (([2, 5, 2, 6, 1, 4], 7), ([3, 1, 4], 0), ([4], 0)):
        score, given = _Score(8, hidden), list(tokens)
        run = answer
        if callable(answer):  # a list that is changed should be seen
            run = partial(answer, score, given, hidden)
        found = numbers(call(run))
        if given != tokens:
            raise Wrong(
                "the answer changes the tokens it was given: hide them in a"
                " copy."
            )
        wanted = [
            score(tokens) - score([*tokens[:i], hidden, *tokens[i + 1 :]])
            for i in range(len(tokens))
        ]
        if not is_near(found, wanted, 1e-7):
            _explain_missed(found, score, tokens, hidden)


def _explain_missed(
    found: Tensor, score: _Score, tokens: list[int], hidden: int
) -> None:
    """Raise `Wrong` with what was hidden, or compared, instead."""
    usual, n = score(tokens), len(tokens)
    alone = [[*tokens[:i], hidden, *tokens[i + 1 :]] for i in range(n)]
    left = [[*tokens[:i], *tokens[i + 1 :]] for i in range(n)]
    every = [
        [hidden if token == tokens[i] else token for token in tokens]
        for i in range(n)
    ]
    growing = [[hidden] * (i + 1) + tokens[i + 1 :] for i in range(n)]
    only = [
        [token if j == i else hidden for j, token in enumerate(tokens)]
        for i in range(n)
    ]

    zero = [[*tokens[:i], 0, *tokens[i + 1 :]] for i in range(n)]

    def lost(versions: list[list[int]]) -> list[float]:
        return [usual - score(version) for version in versions]

    explain(
        found,
        [
            (
                [-x for x in lost(alone)],
                "the sign is wrong: a token that is missed makes the score"
                " fall, and should have a positive number.",
            ),
            (
                [score(version) for version in alone],
                "these are the scores. How much is missed is what they lose"
                " against the usual one.",
            ),
            (
                lost(growing),
                "the tokens before stay hidden, too. Begin with all of them"
                " each time.",
            ),
            (
                lost(left),
                "the token is taken out, which moves all behind it to other"
                " places. Put `hidden` there.",
            ),
            (
                lost(every),
                "a token that comes twice is hidden twice. Hide one place.",
            ),
            (
                lost(only),
                "all the others are hidden. Hide one, keep the rest.",
            ),
            (
                [score(version) for version in only],
                "these are the scores of one token alone, all the others"
                " hidden. Hide one, keep the rest.",
            ),
            (
                lost(zero),
                "0 was put in the token's place. Put `hidden` there, whatever"
                " it is.",
            ),
            (
                [abs(x) for x in lost(alone)],
                "absolute values: a token whose absence helps should have a"
                " negative number.",
            ),
        ],
        f"for {n} tokens the numbers are not right. The usual score minus the"
        " score with one place hidden, for each place."
        if found.shape == (n,)
        else f"{n} numbers are wanted, one for each token, and the shape is"
        f" {tuple(found.shape)}.",
        1e-7,
    )


# The quiz ---


@quiz(12)
def key() -> str:
    """Compute the five letters: do what is asked about, and look."""
    return _half() + _constant() + _error() + _last_norm() + _twins()


def _half() -> str:
    """Question 1: the distance of two rows."""
    rows = torch.tensor([[[0.5, 0.5, 0.0]], [[0.0, 0.5, 0.5]]])
    distance = map_distances(rows)[0, 1].item()
    return {0.25: "A", 0.5: "B", 1.0: "C"}[distance]


def _constant() -> str:
    """Question 2: whether a bias can stand in for a head that is constant."""
    heads, weight, bias = _draw(2, 5, 3), _draw(4, 6), _draw(4)
    heads[1] = heads[1, :1]  # the same vector in every row
    usual = _silenced(heads, weight, bias, [])
    moved = bias + weight[:, 3:] @ heads[1, 0]
    return "A" if is_near(_silenced(heads, weight, moved, [1]), usual) else "B"


def _error() -> str:
    """Question 3: an alignment error rate."""
    links, gold = [{0, 1, 2}], [{1, 2, 3, 4}]
    pairs = [[{(i, 0) for i in one} for one in each] for each in (links, gold)]
    error = alignment_error(*pairs).value / 100
    choices = {"A": 3 / 7, "B": 1 / 2, "C": 4 / 7}
    return min(choices, key=lambda letter: abs(choices[letter] - error))


def _last_norm() -> str:
    """Question 4: what the parts' logits add up to under a last norm."""
    parts, matrix = _draw(3, 4), _draw(6, 4)
    gain, shift = _draw(4), _draw(4)
    added = (parts @ matrix.T).sum(0)
    logits = layer_norm(parts.sum(0), gain, shift) @ matrix.T
    before = parts.sum(0) @ matrix.T
    found = is_near(added, logits), is_near(added, before), True
    return "ABC"[found.index(True)]


def _twins() -> str:
    """Question 5: weight moves between two equal values."""
    values = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    one, two = torch.tensor([[0.7, 0.1, 0.2], [0.1, 0.7, 0.2]]) @ values
    found = is_near(one, two), not is_near(2 * one, two), True
    return "ABC"[found.index(True)]
