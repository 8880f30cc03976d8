"""How does the cost of a training step grow with the model and the batch?

    python benchmarks/scaling.py

One size is changed at a time; all these models take turns. What a target token
costs is fitted with what theory says: a constant and a term that grows with
the number of layers; terms with the width and its square; a term with the
length, from attention; a term with one over the batch, from what is done once
a step. One thread; processor time.
"""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from measuring import alternate, surroundings
from places import CommandLine

from minitransformer import Transformer, TransformerConfig
from minitransformer.allocator import keep_memory
from minitransformer.data import Batch, Example, make_batch
from minitransformer.files import write_json
from minitransformer.training import Trainer, TrainingOptions

BASE = {"width": 128, "layers": 2, "length": 16, "tokens": 2_048}
RANGES = {
    "width": [64, 128, 192, 256, 384, 512],
    "layers": [1, 2, 3, 4, 6, 8],
    "length": [8, 16, 32, 64, 128, 256, 512],
    "tokens": [128, 256, 512, 1_024, 2_048, 4_096, 8_192],
}
TERMS: dict[str, list[Callable[[float], float]]] = {
    "width": [lambda x: 1, lambda x: x, lambda x: x**2],
    "layers": [lambda x: 1, lambda x: x],
    "length": [lambda x: 1, lambda x: x],
    "tokens": [lambda x: 1, lambda x: 1 / x],
}
VOCABULARY = 4_000
Point = tuple[int, ...]  # a value of each of BASE


def batch_of(length: int, tokens: int) -> Batch:
    """Make a full batch of sentences of one length."""
    rng = np.random.default_rng(0)
    ids = rng.integers(4, VOCABULARY, (max(1, tokens // length), length))
    return make_batch([Example(row, [1, *row]) for row in ids.tolist()])


def trainer_for(width: int, layers: int, length: int) -> Trainer:
    """Build a model of this size, ready to be trained."""
    torch.manual_seed(0)
    model = Transformer(
        TransformerConfig(
            source_vocab_size=VOCABULARY,
            d_model=width,
            num_heads=width // 32,
            d_ff=4 * width,
            num_encoder_layers=layers,
            num_decoder_layers=layers,
            max_len=length + 1,
        )
    )
    example = Example([5, 2], [1, 5, 2])
    return Trainer(
        model, [example], [example], TrainingOptions(precision="fp32")
    )


def microseconds_per_token(
    points: list[Point], rounds: int
) -> dict[Point, list[float]]:
    """Time steps at all points in turn; return what a target token cost."""
    steps: dict[str, Callable[[], object]] = {}
    tokens = {}
    for point in points:
        chosen = dict(zip(BASE, point, strict=True))
        batch = batch_of(chosen["length"], chosen.pop("tokens"))
        steps[str(point)] = partial(trainer_for(**chosen).update, [batch])
        tokens[point] = batch.num_tokens
    times = alternate(steps, rounds)
    return {
        point: [1e6 * taken / tokens[point] for taken in times[str(point)]]
        for point in points
    }


def fit(name: str, sizes: list[int], costs: list[float]) -> dict[str, Any]:
    """Fit the terms by least squares, each cost counting for its share."""
    terms = np.array([[term(x) for term in TERMS[name]] for x in sizes])
    weights = 1 / np.array(costs)
    factors, *_ = np.linalg.lstsq(
        terms * weights[:, None], np.ones(len(sizes)), rcond=None
    )
    fitted = terms @ factors
    return {
        "factors": factors.tolist(),
        "fitted": fitted.tolist(),
        "worst_miss": float(np.abs(fitted / costs - 1).max()),
    }


def measure(rounds: int, small: bool) -> dict[str, Any]:
    """Change one size at a time."""
    found: dict[str, Any] = {"surroundings": surroundings(), "base": BASE}
    lines = {
        name: {
            size: tuple((BASE | {name: size}).values())
            for size in (sizes[:3] if small else sizes)
        }
        for name, sizes in RANGES.items()
    }
    # The base is a point of every line, and measured once.
    points = {p for line in lines.values() for p in line.values()}
    taken = microseconds_per_token(sorted(points), rounds)
    for name, line in lines.items():
        rows = [taken[point] for point in line.values()]
        costs = [statistics.median(row) for row in rows]
        found[name] = {
            "sizes": list(line),
            "microseconds": rows,
            **fit(name, list(line), costs),
        }
        print(
            name,
            *(
                f"{x}: {cost:.0f} µs"
                for x, cost in zip(line, costs, strict=True)
            ),
            f"worst miss of the fit {found[name]['worst_miss']:.0%}",
            flush=True,
        )
    return found


def main() -> None:
    """Measure and write the result."""
    arguments = CommandLine("scaling", __doc__, rounds=9).read()
    keep_memory()
    write_json(arguments.out, measure(arguments.rounds, arguments.small))


if __name__ == "__main__":
    main()
