"""Assignment 2, fifth part: heads that go."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from minitransformer.homework.checking import (
    Wrong,
    call,
    explain,
    is_near,
    numbers,
)
from minitransformer.homework.hw2 import slips
from minitransformer.homework.hw2.slips import State
from minitransformer.homework.hw2.tasks import prune

LOOK = (5, "What do the heads do? A first look")

# D, H, d_k, and the heads that go.
CASES: tuple[tuple[int, int, int, list[int]], ...] = (
    (12, 3, 4, [1]),
    (12, 4, 3, [0, 2]),
    (7, 5, 2, [4, 0, 1]),
    (10, 4, 3, [3, 1]),
    (10, 2, 5, []),
)


def pruned(
    answer: Any, state: State, heads: Sequence[int], num_heads: int
) -> State:
    """Run a learner's function, which is to return eight tensors by name."""
    found = call(answer, state, list(heads), num_heads)
    if not isinstance(found, Mapping):
        raise Wrong(
            "a new state is wanted, a dictionary with the eight names of the"
            f" old one, and this is {type(found).__name__}."
        )
    missing = [name for name in state if name not in found]
    if missing or len(found) != len(state):
        names = ", ".join(missing or sorted(set(found) - set(state)))
        raise Wrong(
            "the new state should have the eight names of the old one:"
            f" {names} {'is missing' if missing else 'is too much'}."
        )
    return {name: numbers(found[name]).float() for name in state}


def cut_from(state: State, rows: Tensor) -> State:
    """Keep some rows of ``w_q``, ``w_k``, ``w_v``, and columns of ``w_o``."""
    smaller = {
        name: tensor[rows]
        for name, tensor in state.items()
        if not name.startswith("w_o")
    }
    weight, bias = state["w_o.weight"], state["w_o.bias"]
    return {**smaller, "w_o.weight": weight[:, rows], "w_o.bias": bias}


def of_heads(heads: Sequence[int], num_heads: int, d_k: int) -> Tensor:
    """Mark the rows that belong to some heads, ``(H * d_k,)``."""
    chosen = torch.tensor([h in heads for h in range(num_heads)])
    return chosen.repeat_interleave(d_k)


@prune.test("the heads are gone from all four layers", *LOOK)
def check_sizes(answer: Any) -> None:
    """Prune layers of several sizes and look at the shapes."""
    for D, H, d_k, heads in CASES:
        state = slips.random_state(D, H, d_k)
        gone = of_heads(heads, H, d_k)
        found = pruned(answer, state, heads, H)
        shapes = {name: tuple(found[name].shape) for name in found}
        wanted = cut_from(state, ~gone)
        if all(shapes[name] == wanted[name].shape for name in found):
            continue
        lead = f"without the heads {heads} of {H}:"
        if all(shapes[name] == state[name].shape for name in found):
            raise Wrong(
                f"{lead} nothing got smaller. A head that is set to zero is"
                " silent and still computed: leave its rows and columns out."
            )
        kept = cut_from(state, gone)
        if all(shapes[name] == kept[name].shape for name in found):
            raise Wrong(
                f"{lead} what is left has the size of these heads. They go,"
                " and the others stay."
            )
        columns = int(gone.sum())
        told: dict[str, dict[tuple[int, ...], str]] = {
            "w_o.weight": {
                (D - columns, H * d_k): "the rows of w_o.weight are numbers"
                " of the output: the heads meet its columns.",
                (D, H * d_k): "w_o.weight still expects the heads that are"
                " gone: their columns go too.",
            },
            "w_o.bias": {
                (D - columns,): "the bias of w_o belongs to no head: it"
                " stays as it is.",
                (int((~gone).sum()),): "the bias of w_o belongs to no head:"
                " it stays as it is.",
            },
        }
        for layer in ("w_q", "w_k", "w_v"):
            told[f"{layer}.weight"] = {
                (H * d_k, D - columns): f"the columns of {layer}.weight are"
                " features of the input: a head has rows of it.",
                (H * d_k, D): f"{layer}.weight still has the rows of the"
                " heads that are gone.",
            }
            told[f"{layer}.bias"] = {
                (H * d_k,): f"{layer}.bias still has the numbers of the heads"
                " that are gone: one for each row of the weight."
            }
        for name in state:
            shape, right = shapes[name], tuple(wanted[name].shape)
            if shape != right:
                words = told[name].get(shape, "")
                raise Wrong(
                    f"{lead} {words}"
                    if words
                    else f"{lead} {name} has shape {shape}, and should have"
                    f" {right}: a head has {d_k} rows, those of w_q.weight"
                    " over num_heads."
                )


@prune.test("what is left computes as if these heads were silent", *LOOK)
def check_output(answer: Any) -> None:
    """Compare outputs with those of the whole state, heads silenced."""
    for D, H, d_k, heads in CASES:
        state = slips.random_state(D, H, d_k)
        query, key, value = torch.randn(3, 2, 6, D)
        left = H - len(heads)

        def output(
            state: State,
            num_heads: int = left,
            query: Tensor = query,
            key: Tensor = key,
            value: Tensor = value,
        ) -> Tensor:
            return slips.multi_head(state, query, key, value, num_heads)

        found = output(pruned(answer, state, heads, H))
        gone = of_heads(heads, H, d_k)
        silent = state["w_o.weight"].masked_fill(gone, 0.0)
        if is_near(found, output(state | {"w_o.weight": silent}, H), 1e-3):
            continue
        after = list(range(H))  # one is taken out after the other
        for h in heads:
            del after[min(h, len(after) - 1)]
        every = torch.arange(H * d_k) % H
        woven = torch.tensor([h in heads for h in every.tolist()])
        mistakes = [
            (
                of_heads(after, H, d_k),
                "one head is taken out after the other, and each time those"
                " behind it move up: choose first, cut once.",
            ),
            (
                ~woven,
                "a head has neighbouring rows, h * d_k and on; every"
                f" {H}th row is cut.",
            ),
            (
                torch.arange(H * d_k) < left * d_k,
                "the last heads are cut, whichever are named.",
            ),
        ]
        if 2 * len(heads) == H:
            words = "these heads are what is left; they go, the others stay."
            mistakes.append((gone, words))
        explain(
            found,
            [
                (output(cut_from(state, rows)), f"for {heads} of {H}: {words}")
                for rows, words in mistakes
            ],
            f"without the heads {heads} of {H} the shapes are right and the"
            " output is not that of the others together. The same rows go"
            " from w_q, w_k, w_v and their biases, and as columns from w_o.",
            1e-3,
        )
