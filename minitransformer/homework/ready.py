"""Ten questions before chapter 1: what a reader should know, and if not, how.

Each function works out an answer; its letter is where that stands among the
options, which are those of the page.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import nn

from minitransformer.homework.checking import Wrong, exercise, refuse_stub

ENOUGH, SOME = 8, 5  # right answers: to begin; to begin with some reading


@dataclass(frozen=True, slots=True)
class Question:
    """One question, and what to read for it.

    Attributes:
        topic: What it is about.
        route: Where to learn that.
        options: What one may answer: A, B and so on.
        right: Works out the answer, which is one of them.
    """

    topic: str
    route: str
    options: tuple[str, ...]
    right: Callable[[], str]

    @property
    def letter(self) -> str:
        """The right letter."""
        return "ABCD"[self.options.index(self.right())]


QUESTIONS: list[Question] = []
_Right = Callable[[], str]


def question(
    topic: str, route: str, options: Sequence[str]
) -> Callable[[_Right], _Right]:
    """Register a function that works out which option is right."""

    def register(right: _Right) -> _Right:
        QUESTIONS.append(Question(topic, route, tuple(options), right))
        return right

    return register


@question(
    "slices",
    "the Python tutorial, chapter 3",
    (
        "['je', 'suis'] ['BOS', 'je', 'suis']",
        "['BOS', 'je'] ['suis', 'EOS']",
        "['BOS', 'je', 'suis'] ['je', 'suis', 'EOS']",
        "['EOS'] ['BOS', 'je', 'suis', 'EOS']",
    ),
)
def slices() -> str:
    """Cut the last word off, and the first."""
    words = ["BOS", "je", "suis", "EOS"]
    return f"{words[:-1]} {words[1:]}"


@question(
    "functions and classes",
    "the Python tutorial, chapters 4 and 9",
    ("2", "5", "6", "9"),
)
def classes() -> str:
    """Apply two objects, one after the other."""

    class Scale:
        def __init__(self, factor: int):
            self.factor = factor

        def __call__(self, x: int) -> int:
            return self.factor * x

    layers, x = [Scale(2), Scale(3)], 1
    for layer in layers:
        x = layer(x)
    return str(x)


@question(
    "nn.Module and its parameters",
    'chapter 3, "In the library: matrices that learn"',
    ("(5, 4) 12", "(5, 4) 16", "(4, 5) 16", "(5, 3) 12"),
)
def parameters() -> str:
    """Build the layer and count."""
    layer = nn.Linear(3, 4)
    x = torch.ones(5, 3)
    count = sum(p.numel() for p in layer.parameters())
    return f"{tuple(layer(x).shape)} {count}"


@question(
    "products and transposes",
    'chapter 2, "With matrices: all queries at once"',
    (
        "row $i$ of $Q$ with column $j$ of $K$",
        "column $i$ of $Q$ with column $j$ of $K$",
        "row $j$ of $Q$ with row $i$ of $K$",
        "row $i$ of $Q$ with row $j$ of $K$",
    ),
)
def transposes() -> str:
    """Try each pair of rows and columns on numbers."""
    q, k = torch.arange(9.0).view(3, 3), torch.arange(9.0).view(3, 3) ** 2
    i, j = 0, 2
    tries = (q[i] @ k[:, j], q[:, i] @ k[:, j], q[j] @ k[i], q[i] @ k[j])
    right = [bool(found == (q @ k.T)[i, j]) for found in tries]
    return QUESTIONS[3].options[right.index(True)]


@question(
    "the dot product as a similarity",
    'chapter 1, "By hand: four states"',
    ("(1, 3)", "(-1, 3)", "(-3, -1)", "(3, -1)"),
)
def similarity() -> str:
    """Take the key whose dot product with the query is largest."""
    query = torch.tensor([3, 1])
    keys = torch.tensor([[1, 3], [-1, 3], [-3, -1], [3, -1]])
    best = (keys @ query).argmax()
    return str(tuple(keys[best].tolist()))


@question(
    "exponentials and the softmax",
    'chapter 1, "By hand: four states"',
    ("[0.75, 0.25]", "[0.52, 0.48]", "[0.25, 0.75]", "[0.55, 0.45]"),
)
def softmax() -> str:
    """Turn two scores into weights."""
    scores = torch.tensor([5 + math.log(3), 5.0])
    weights = scores.softmax(dim=0)
    return str([round(w, 2) for w in weights.tolist()])


@question(
    "mean and variance",
    'chapter 2, "Why the root"',
    ("1", "4", "16", "256"),
)
def variance() -> str:
    """Add up every draw of sixteen numbers that are +1 or -1."""
    sums = torch.tensor(
        [sum(signs) for signs in product((-1.0, 1.0), repeat=16)]
    )
    return f"{sums.std(correction=0):.0f}"


@question(
    "the likelihood and its logarithm",
    'chapter 10, "What to minimise"',
    (r"$\ln 2$", r"$2 \ln 2$", r"$6 \ln 2$", r"$7 / 24$"),
)
def likelihood() -> str:
    """Compare the mean with each option."""
    mean = -sum(math.log(p) for p in (1 / 2, 1 / 4, 1 / 8)) / 3
    nats = math.log(2)
    values = (nats, 2 * nats, 6 * nats, 7 / 24)
    near = [math.isclose(mean, value) for value in values]
    return QUESTIONS[7].options[near.index(True)]


@question(
    "broadcasting",
    "torch's notes on broadcasting semantics",
    ("(2, 4, 3)", "(2, 1, 3)", "(4, 3)", "nothing: RuntimeError"),
)
def broadcasting() -> str:
    """Add two tensors of different shapes."""
    x, y = torch.zeros(2, 1, 3), torch.zeros(4, 3)
    return str(tuple((x + y).shape))


@question(
    "gradients and a step downhill",
    'chapter 10, "Walking downhill"',
    ("2.1", "3.0", "3.6", "2.4"),
)
def step() -> str:
    """Take one step."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 3.0)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    loss = layer(torch.ones(1, 1)).square().sum()
    loss.backward()
    optimizer.step()
    return f"{layer.weight.item():.1f}"


@exercise("ready")
def check_ready(answers: Sequence[str]) -> None:
    """Compare ten letters with those worked out, and name what to read.

    Args:
        answers: A list of letters, or one string of them.
    """
    refuse_stub(list(answers) if isinstance(answers, Sequence) else answers)
    count = len(answers) if isinstance(answers, Sequence) else 1
    if count != len(QUESTIONS):
        raise Wrong(
            "ten letters are wanted, such as 'A'; here there"
            f" {'is' if count == 1 else 'are'} {count}."
        )
    given = [str(letter).strip().upper() for letter in answers]
    wrong = [
        f"{number}, {asked.topic}: {asked.route}"
        for number, asked in enumerate(QUESTIONS, 1)
        if asked.letter != given[number - 1]
    ]
    if not wrong:
        return
    right = len(QUESTIONS) - len(wrong)
    advice = (
        "enough to begin; read about the rest on the way"
        if right >= ENOUGH
        else "give a day or two to the rest before you begin"
        if right >= SOME
        else "take a first course in Python and in torch before you begin"
    )
    raise Wrong(
        f"{right} of ten are right: {advice}. Think again about"
        f" {'; '.join(wrong)}."
    )
