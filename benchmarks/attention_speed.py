"""How fast is attention itself, beside the ways torch offers to compute it?

    python benchmarks/attention_speed.py

The same queries, keys and values go through `MultiHeadAttention.attend` and
through torch's forms; outputs and gradients are compared before anything is
timed. All keep the memory they free. One thread; processor time.
"""

import gc
import math
import statistics
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from measuring import (
    Times,
    alternate,
    is_sharp,
    ratio,
    surroundings,
)
from places import CommandLine
from torch import Tensor

from minitransformer.allocator import keep_memory
from minitransformer.attention import MultiHeadAttention
from minitransformer.files import write_json
from minitransformer.masks import causal_mask
from minitransformer.processor import computes_bf16

# tokens: sentences, heads, width of a head
SHAPES = {
    13: (313, 8, 32),
    64: (32, 8, 64),
    1_024: (4, 8, 64),
    8_192: (1, 8, 64),
}
SMALL = {13: (5, 2, 8), 64: (2, 2, 8)}
OURS = "minitransformer"
LONG = 1_024  # from here on a round takes long
VERY_LONG = 2_048  # and only the fused kernel has room for the scores
Form = Callable[[Tensor, Tensor, Tensor, Tensor | None, bool], Tensor]


def joined(mask: Tensor | None, size: int, causal: bool) -> Tensor | None:
    if not causal:
        return mask
    triangle = causal_mask(size)
    return triangle if mask is None else mask & triangle


def fused(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool
) -> Tensor:
    """Call torch's kernel, which takes a mask or ``is_causal``."""
    if mask is not None:
        mask, causal = joined(mask, q.shape[-2], causal), False
    return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal)


def matmuls(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool
) -> Tensor:
    """Write the formula with ``@``, ``masked_fill`` and ``softmax``."""
    scores = q @ k.mT / math.sqrt(q.shape[-1])  # (B, H, T, S)
    mask = joined(mask, q.shape[-2], causal)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return scores.softmax(dim=-1) @ v


def baddbmm(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool
) -> Tensor:
    """Write it with one product that scales and adds the mask."""
    (B, H, T, d_k), S = q.shape, k.shape[-2]
    hidden = q.new_zeros(1, 1, 1)
    mask = joined(mask, T, causal)
    if mask is not None:
        hidden = torch.zeros(mask.shape, dtype=q.dtype)
        hidden = hidden.masked_fill_(~mask, -math.inf)
        hidden = hidden.expand(B, H, T, S).reshape(B * H, T, S)
    scores = torch.baddbmm(
        hidden,
        q.reshape(B * H, T, d_k),
        k.reshape(B * H, S, d_k).mT,
        alpha=1 / math.sqrt(d_k),
    )
    values = v.reshape(B * H, S, d_k)
    return torch.bmm(scores.softmax(dim=-1), values).view(B, H, T, d_k)


TORCH_FORMS: dict[str, Form] = {
    "F.scaled_dot_product_attention": fused,
    "matmul, softmax, matmul": matmuls,
    "baddbmm, softmax, bmm": baddbmm,
}


class Case:
    """One set of inputs, which every form attends over.

    Args:
        size: Tokens ``T``; there are as many keys.
        shape: Sentences, heads and width of a head.
        causal: Hide the future.
        padded: Hide up to half of each sentence's keys, but for the first
            sentence's.
        dtype: Of queries, keys and values.
        backward: Also send a gradient back.
    """

    def __init__(
        self,
        size: int,
        shape: tuple[int, int, int],
        causal: bool,
        padded: bool,
        dtype: torch.dtype,
        backward: bool,
    ):
        B, H, d_k = shape
        torch.manual_seed(size)
        # (B, T, H, d_k), transposed: as projections leave them
        draw = (torch.randn(B, size, H, d_k, dtype=dtype) for _ in range(4))
        self.upstream, *inputs = (each.transpose(1, 2) for each in draw)
        self.inputs = [each.requires_grad_(backward) for each in inputs]
        self.causal, self.backward, self.mask = causal, backward, None
        if padded:
            lengths = size - torch.arange(B) % (size // 2 + 1)
            if B == 1:
                lengths -= size // 4
            keys = torch.arange(size) < lengths[:, None]
            self.mask = keys[:, None, None]  # (B, 1, 1, S)

    def run(self, form: Form) -> list[Tensor]:
        """Attend; return the output, or the three gradients."""
        with torch.set_grad_enabled(self.backward):
            output = form(*self.inputs, self.mask, self.causal)
        if not self.backward:
            return [output]
        return list(torch.autograd.grad(output, self.inputs, self.upstream))


def measure_case(case: Case, rounds: int) -> dict[str, Any]:
    """Compare the forms on one case, then time them."""
    B, num_heads, size, d_k = case.inputs[0].shape
    ours = MultiHeadAttention(num_heads * d_k, num_heads)
    forms: dict[str, Form] = {OURS: ours.attend}
    if size < VERY_LONG:
        forms |= TORCH_FORMS
    else:
        forms["F.scaled_dot_product_attention"] = fused
    expected = case.run(fused)
    exact = case.inputs[0].dtype == torch.float32
    for form in forms.values():
        torch.testing.assert_close(
            case.run(form), expected, rtol=1e-3, atol=1e-3 if exact else 0.1
        )
    del expected
    gc.collect()
    scores = B * num_heads * size**2
    repeats = min(10, max(1, 4_000_000 // scores))  # so that a round lasts

    def repeat(form: Form) -> Callable[[], None]:
        def work() -> None:
            for _ in range(repeats):
                case.run(form)

        return work

    times = alternate(
        {name: repeat(form) for name, form in forms.items()},
        rounds,
        enough=lambda times: is_sharp(beside_the_best(times)[1]),
    )
    best, found = beside_the_best(times)
    return {
        "seconds": times,
        "repeats": repeats,
        "best_of_torch": best,
        "times_as_long_as_the_best": found,
    }


def beside_the_best(times: Times) -> tuple[str, dict[str, float]]:
    """Name torch's fastest form; say how many times as long we take."""
    medians = {
        name: statistics.median(each)
        for name, each in times.items()
        if name != OURS
    }
    best = min(medians, key=medians.__getitem__)
    return best, ratio(times[OURS], times[best])


def measure(
    shapes: dict[int, tuple[int, int, int]], rounds: int
) -> dict[str, Any]:
    """Time every case."""
    cases = []
    for size, shape in shapes.items():
        for dtype in (torch.float32, torch.bfloat16):
            slow = dtype == torch.bfloat16 and not computes_bf16()
            if slow and size >= LONG:  # minutes a round, for nobody
                continue
            for backward in (False, True):
                for causal in (False, True):
                    for padded in (False, True):
                        case = Case(
                            size, shape, causal, padded, dtype, backward
                        )
                        times = min(rounds, 6) if size >= LONG else rounds
                        found = measure_case(case, times)
                        facts = {
                            "tokens": size,
                            "dtype": str(dtype).removeprefix("torch."),
                            "backward": backward,
                            "causal": causal,
                            "padded": padded,
                        }
                        cases.append(facts | found)
                        times = found["times_as_long_as_the_best"]
                        print(
                            *facts.values(),
                            f"{times['median']} [{times['low']},"
                            f" {times['high']}] x {found['best_of_torch']}",
                            flush=True,
                        )
    return {"surroundings": surroundings(), "shapes": shapes, "cases": cases}


def main() -> None:
    """Measure and write the result."""
    arguments = CommandLine("attention_speed", __doc__, rounds=7).read()
    keep_memory()
    shapes = SMALL if arguments.small else SHAPES
    write_json(arguments.out, measure(shapes, arguments.rounds))


if __name__ == "__main__":
    main()
