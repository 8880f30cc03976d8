"""What does a mask cost, and what does a sparse one save?

    python benchmarks/mask_cost.py

Two routes hide the future, timed forward alone and with the gradient: zero
the weights of later keys and make the rows add up to one again; or put minus
infinity in the scores before the softmax, by filling or by adding. Then
attention in which a query may see only the last `WINDOW` keys: with a mask of
all pairs, and with blocks that are never computed. One thread; processor
time; candidates in turn.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from measuring import alternate, ratio, surroundings
from places import CommandLine
from torch import Tensor

from minitransformer import causal_mask, scaled_dot_product_attention
from minitransformer.allocator import keep_memory
from minitransformer.files import write_json
from minitransformer.masks import to_additive

ROUTE_LENGTHS = [64, 256, 1_024]
SPARSE_LENGTHS = [512, 1_024, 2_048, 4_096]
SCORES = 2**21  # in a batch: as many matrices of a length as fit
HEADS, D_K, WINDOW, BLOCK = 2, 64, 64, 64


def renormalised(scores: Tensor, ones: Tensor) -> Tensor:
    """Hide keys after the softmax: zeros, then a division by each sum."""
    weights = scores.softmax(dim=-1) * ones
    return weights / weights.sum(dim=-1, keepdim=True)


def filled(scores: Tensor, hidden: Tensor) -> Tensor:
    """Hide keys before the softmax."""
    return scores.masked_fill(hidden, -math.inf).softmax(dim=-1)


def added(scores: Tensor, infinities: Tensor) -> Tensor:
    """Hide keys before the softmax, by a sum."""
    return (scores + infinities).softmax(dim=-1)


def there_and_back(
    route: Callable[[Tensor, Tensor], Tensor],
    scores: Tensor,
    mask: Tensor,
    gradient: Tensor,
) -> None:
    """Compute weights and the gradient of the scores."""
    torch.autograd.grad(route(scores, mask), scores, gradient)


def compare_routes(length: int, rounds: int) -> dict[str, Any]:
    """Time both routes on the same scores, each mask in its best form."""
    torch.manual_seed(0)
    batch = max(1, SCORES // length**2)
    scores = torch.randn(batch, length, length)
    gradient = torch.randn_like(scores)
    mask = causal_mask(length)
    masks = {
        renormalised: mask.float(),
        filled: ~mask,
        added: to_additive(mask),
    }
    once = {
        route.__name__: partial(route, scores, form)
        for route, form in masks.items()
    }
    forward = alternate(once, rounds)
    scores.requires_grad_()
    twice = {
        route.__name__: partial(there_and_back, route, scores, form, gradient)
        for route, form in masks.items()
    }
    both = alternate(twice, rounds)
    seconds = {"forward": forward, "forward and backward": both}
    return {
        "length": length,
        "batch": batch,
        "seconds": seconds,
        "times_as_long": {
            f"{name}, {direction}": ratio(times["renormalised"], times[name])
            for name in ("filled", "added")
            for direction, times in seconds.items()
        },
    }


def window_mask(length: int) -> Tensor:
    """Let a query see its own key and those before it, `WINDOW` in all."""
    mask = causal_mask(length)
    return mask & ~mask.tril(-WINDOW)


def in_blocks(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend within the window, and never touch a key that no one sees."""
    outputs = []
    for start in range(0, query.shape[-2], BLOCK):
        end = min(start + BLOCK, query.shape[-2])
        first = max(0, start - WINDOW + 1)
        queries, keys = torch.arange(start, end), torch.arange(first, end)
        distance = queries[:, None] - keys
        mask = (distance >= 0) & (distance < WINDOW)
        output, _ = scaled_dot_product_attention(
            query[..., start:end, :],
            key[..., first:end, :],
            value[..., first:end, :],
            mask,
        )
        outputs.append(output)
    return torch.cat(outputs, dim=-2)


def compare_sparse(length: int, rounds: int) -> dict[str, Any]:
    """Time attention without a mask, with one, and in blocks."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, HEADS, length, D_K)
    mask = window_mask(length)
    fused = F.scaled_dot_product_attention
    candidates: dict[str, Callable[[], object]] = {
        "formula": partial(scaled_dot_product_attention, q, k, v),
        "formula, window mask": partial(
            scaled_dot_product_attention, q, k, v, mask
        ),
        "fused": partial(fused, q[None], k[None], v[None]),
        "fused, window mask": partial(fused, q[None], k[None], v[None], mask),
        "fused, causal flag": partial(
            fused, q[None], k[None], v[None], is_causal=True
        ),
        "blocks": partial(in_blocks, q, k, v),
    }
    expected, _ = scaled_dot_product_attention(q, k, v, mask)
    torch.testing.assert_close(in_blocks(q, k, v), expected)
    times = alternate(candidates, rounds)
    return {
        "length": length,
        "seen": float(mask.float().mean()),
        "seconds": times,
        "of_formula": {
            name: ratio(each, times["formula"]) for name, each in times.items()
        },
        "of_fused": {
            name: ratio(each, times["fused"]) for name, each in times.items()
        },
    }


def measure(rounds: int, small: bool) -> dict[str, Any]:
    """Measure each length."""
    cut = slice(2) if small else slice(None)
    found: dict[str, Any] = {
        "surroundings": surroundings(),
        "heads": HEADS,
        "d_k": D_K,
        "window": WINDOW,
        "routes": [],
        "sparse": [],
    }
    for length in ROUTE_LENGTHS[cut]:
        case = compare_routes(length, rounds)
        found["routes"].append(case)
        for name, times in case["times_as_long"].items():
            print(f"{length} keys, renormalised / {name}:", times)
    with torch.no_grad():
        for length in SPARSE_LENGTHS[cut]:
            case = compare_sparse(length, rounds)
            found["sparse"].append(case)
            for name, share in case["of_formula"].items():
                print(f"{length} keys, {name}:", share, flush=True)
    return found


def main() -> None:
    """Measure and write the result."""
    arguments = CommandLine("mask_cost", __doc__, rounds=25).read()
    keep_memory()
    write_json(arguments.out, measure(arguments.rounds, arguments.small))


if __name__ == "__main__":
    main()
