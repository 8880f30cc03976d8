"""How does the cost of self-attention grow with the length and the width?

    python benchmarks/attention_cost.py

Chapter 3 counts operations; this measures. The parts of a layer with one head
are timed by themselves, then whole layers beside a recurrent and a
convolutional one, all forward, one sentence at a time. An exponent is the
slope of log time against log size over the larger half of the sizes, where
the fixed price of a call no longer shows. One thread; processor time.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from measuring import alternate, surroundings
from places import CommandLine
from torch import Tensor, nn

from minitransformer.allocator import keep_memory
from minitransformer.files import write_json

LENGTHS = [64, 128, 256, 512, 1_024, 2_048, 4_096]  # at WIDTH
WIDTHS = [32, 64, 128, 256, 512, 1_024]  # at LENGTH
WIDTH, LENGTH = 128, 512
# Around 2d, where by the count of operations the two products overtake.
CROSSING_WIDTHS = [32, 64, 128, 256, 512]
CROSSING_FACTORS = [0.5, 1, 1.5, 2, 3, 4, 6, 8]
KERNEL = 3  # tokens that a convolution sees at once
LONG_ENOUGH = 6e-3  # seconds; a shorter call is repeated
RESAMPLES = 2_000
Work = Callable[[], object]


class Layer(nn.Module):
    """Self-attention with one head of full width, its parts by themselves."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width
        self.w_q = nn.Linear(width, width)
        self.w_k = nn.Linear(width, width)
        self.w_v = nn.Linear(width, width)
        self.w_o = nn.Linear(width, width)

    def project(self, x: Tensor) -> Tensor:
        """Do the four projections, the last on ``x`` as well."""
        self.w_q(x), self.w_k(x), self.w_v(x)
        projected: Tensor = self.w_o(x)
        return projected

    def forward(self, x: Tensor) -> Tensor:
        """Write the formula out, the map of all pairs included."""
        q, k, v = self.w_q(x), self.w_k(x), self.w_v(x)
        weights = (q @ k.mT / math.sqrt(self.width)).softmax(dim=-1)
        output: Tensor = self.w_o(weights @ v)
        return output


class FusedLayer(Layer):
    """The same by torch's kernel, which never writes the map down."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute what `Layer` computes."""
        q, k, v = self.w_q(x), self.w_k(x), self.w_v(x)
        heads = F.scaled_dot_product_attention(q[None], k[None], v[None])
        output: Tensor = self.w_o(heads[0])
        return output


def parts(length: int, width: int) -> dict[str, Work]:
    """Return the parts of a layer, each with its inputs made already."""
    layer = Layer(width)
    x, q, k, v = torch.randn(4, 1, length, width).unbind()
    scores = q @ k.mT / math.sqrt(width)
    weights = scores.softmax(dim=-1)
    return {
        "projections": lambda: layer.project(x),
        "scores": lambda: q @ k.mT / math.sqrt(width),
        "softmax": lambda: scores.softmax(dim=-1),
        "mixing": lambda: weights @ v,
        "pairs": lambda: (q @ k.mT / math.sqrt(width)).softmax(dim=-1) @ v,
    }


def layers(length: int, width: int) -> dict[str, Work]:
    """Return whole layers: all turn ``(1, n, d)`` into the same shape."""
    x = torch.randn(1, length, width)
    columns = x.mT.contiguous()  # as a convolution wants it
    written, fused = Layer(width), FusedLayer(width)
    fused.load_state_dict(written.state_dict())
    torch.testing.assert_close(fused(x), written(x), rtol=1e-3, atol=1e-5)
    recurrent = nn.GRU(width, width, batch_first=True)
    convolution = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2)
    return {
        "attention": lambda: written(x),
        "fused attention": lambda: fused(x),
        "recurrent": lambda: recurrent(x),
        "convolutional": lambda: convolution(columns),
    }


def seconds(work: Mapping[str, Work], rounds: int) -> dict[str, list[float]]:
    """Time the candidates in turn; short ones often enough to be seen."""
    rough = {name: each[0] for name, each in alternate(work, 1).items()}
    repeats = {
        name: max(1, math.ceil(LONG_ENOUGH / max(taken, 1e-6)))
        for name, taken in rough.items()
    }

    def repeated(name: str) -> Work:
        def run() -> None:
            for _ in range(repeats[name]):
                work[name]()

        return run

    times = alternate({name: repeated(name) for name in work}, rounds)
    return {
        name: [taken / repeats[name] for taken in times[name]] for name in work
    }


def interval(
    rounds: int, figure: Callable[[Sequence[int]], float]
) -> dict[str, float]:
    """Work a figure out, and its 95 % interval by drawing rounds again.

    Args:
        rounds: How many there are to draw from.
        figure: Takes the numbers of the rounds to use.
    """
    rng = random.Random(0)
    drawn = sorted(
        figure(rng.choices(range(rounds), k=rounds)) for _ in range(RESAMPLES)
    )
    return {
        "median": round(figure(range(rounds)), 3),
        "low": round(drawn[int(0.025 * RESAMPLES)], 3),
        "high": round(drawn[int(0.975 * RESAMPLES)], 3),
    }


def exponent(
    sizes: Sequence[int], times: Sequence[Sequence[float]]
) -> dict[str, float]:
    """Fit the power of the size that the time grows with."""
    first = (len(sizes) - 1) // 2
    logs = np.log(sizes[first:])

    def slope(rounds: Sequence[int]) -> float:
        medians = [median(row[i] for i in rounds) for row in times[first:]]
        return float(np.polyfit(logs, np.log(medians), 1)[0])

    return interval(len(times[0]), slope)


def crossing(
    lengths: Sequence[int],
    pairs: Sequence[Sequence[float]],
    projections: Sequence[Sequence[float]],
) -> dict[str, float]:
    """Find the length from which on the pairs cost more than projections.

    Between two lengths the logarithm of the ratio is taken to be straight;
    beyond the last one it is continued.
    """
    logs = np.log(lengths)

    def length(rounds: Sequence[int]) -> float:
        ratios = [
            math.log(median(a[i] for i in rounds))
            - math.log(median(b[i] for i in rounds))
            for a, b in zip(pairs, projections, strict=True)
        ]
        slope, start = np.polyfit(logs, ratios, 1)
        above = [i for i in range(1, len(logs)) if ratios[i - 1] < 0]
        above = [i for i in above if ratios[i] >= 0]
        if above:
            i = above[-1]
            share = -ratios[i - 1] / (ratios[i] - ratios[i - 1])
            found = logs[i - 1] + share * (logs[i] - logs[i - 1])
        else:
            found = -start / slope
        return math.exp(float(found))

    return interval(len(pairs[0]), length)


def grow(
    name: str, sizes: Sequence[int], rounds: int, fixed: int
) -> dict[str, Any]:
    """Time parts and layers at each length, or at each width."""
    measured = []
    for size in sizes:
        torch.manual_seed(size)
        shape = (size, fixed) if name == "length" else (fixed, size)
        work = parts(*shape) | layers(*shape)
        measured.append(seconds(work, rounds))
    times = {what: [row[what] for row in measured] for what in measured[0]}
    found = {what: exponent(sizes, each) for what, each in times.items()}
    for what, each in found.items():
        print(f"{name}: {what} grows with the power {each['median']:.2f}")
    return {
        "sizes": list(sizes),
        "fixed": fixed,
        "seconds": times,
        "exponents": found,
    }


def crossings(widths: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """Find, for some widths, where the pairs overtake the projections."""
    found = []
    for width in widths:
        lengths = [int(factor * width) for factor in CROSSING_FACTORS]
        measured = []
        for length in lengths:
            torch.manual_seed(length)
            work = parts(length, width)
            chosen = {name: work[name] for name in ("pairs", "projections")}
            measured.append(seconds(chosen, rounds))
        pairs = [row["pairs"] for row in measured]
        projections = [row["projections"] for row in measured]
        at = crossing(lengths, pairs, projections)
        print(f"width {width}: the pairs overtake at {at['median']:.0f}")
        found.append(
            {
                "width": width,
                "lengths": lengths,
                "pairs": pairs,
                "projections": projections,
                "crossing": at,
            }
        )
    return found


@torch.no_grad()
def measure(rounds: int, small: bool) -> dict[str, Any]:
    """Measure all of it, or a miniature."""
    lengths, widths = (LENGTHS[:4], WIDTHS[:4]) if small else (LENGTHS, WIDTHS)
    found: dict[str, Any] = {
        "surroundings": surroundings(),
        "rounds": rounds,
        "kernel": KERNEL,
        "length": grow("length", lengths, rounds, 32 if small else WIDTH),
        "width": grow("width", widths, rounds, 64 if small else LENGTH),
    }
    chosen = CROSSING_WIDTHS[:2] if small else CROSSING_WIDTHS
    found["crossings"] = crossings(chosen, rounds)
    return found


def main() -> None:
    """Measure and write the result."""
    arguments = CommandLine("attention_cost", __doc__, rounds=11).read()
    keep_memory()
    write_json(arguments.out, measure(arguments.rounds, arguments.small))


if __name__ == "__main__":
    main()
