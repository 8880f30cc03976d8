"""Assignment 2, second part: the module."""

from typing import Any

import torch
from torch import Tensor

from minitransformer.homework.checking import (
    Wrong,
    call,
    explain,
    is_near,
    must_learn,
    numbers,
)
from minitransformer.homework.hw2 import slips
from minitransformer.homework.hw2.judges import (
    explain_numbers,
    judge_dropped,
    judge_masks,
)
from minitransformer.homework.hw2.tasks import multi_head
from minitransformer.homework.hw2.tools import (
    SIZES,
    judge_refusal,
    loaded,
    method,
    output_of,
    right_one,
    same_layers,
)
from minitransformer.homework.tasks import LEARNS

HEADS = (5, "With matrices: all heads at once")
LIBRARY = (5, "In the library")
DROPOUT = (4, "Dropout: no single link to lean on")


@multi_head.test("the output is as wide as the input", *HEADS)
def check_forward(answer: Any) -> None:
    """Run a new module on as many queries as keys."""
    for B, T, H, d_k in SIZES:
        x, key, value = torch.randn(3, B, T, H * d_k)
        module = call(answer, H * d_k, H)
        numbers(output_of(module, x, key, value), (B, T, H * d_k))


@multi_head.test("it has four layers, each with its bias", *LIBRARY)
def check_layers(answer: Any) -> None:
    """Look at names and shapes of what is learned."""
    for _, _, H, d_k in SIZES:
        module = call(answer, H * d_k, H)
        same_layers(module, slips.random_state(H * d_k, H, d_k))


@multi_head.test("it computes what the library does", *HEADS)
def check_numbers(answer: Any) -> None:
    """Compare with the package's module; three inputs, equally long."""
    for B, T, H, d_k in SIZES:
        D = H * d_k
        state = slips.random_state(D, H, d_k)
        query, key, value = torch.randn(3, B, T, D)
        module = loaded(call(answer, D, H), state)
        found = output_of(module, query, key, value)
        right = right_one(state, D, H)(query, key, value)
        if not is_near(found, right, 1e-3):
            explain_numbers(found, state, (query, key, value), H)


@multi_head.test(
    "queries and keys may differ in number",
    3,
    "Cross-attention: whose length has the output?",
)
def check_lengths(answer: Any) -> None:
    """Compare with the package's module on more keys, and on fewer."""
    for (B, T, H, d_k), S in zip(SIZES, (8, 3, 6), strict=True):
        state = slips.random_state(H * d_k, H, d_k)
        query = torch.randn(B, T, H * d_k)
        key, value = torch.randn(2, B, S, H * d_k)
        module = loaded(call(answer, H * d_k, H), state)
        hint = f"with {T} queries and {S} keys; with as many, it runs"
        found = output_of(module, query, key, value, hint=hint)
        numbers(found, query.shape)
        right = right_one(state, H * d_k, H)(query, key, value)
        if not is_near(found, right, 1e-3):
            raise Wrong(
                "it is right with as many keys as queries, and wrong with"
                f" {T} queries and {S} keys."
            )


@multi_head.test(
    "a mask hides keys, and may differ for every sentence and head",
    4,
    "With matrices: all rows at once",
)
def check_masks(answer: Any) -> None:
    """Hand over masks of all shapes that fit."""
    B, T, S, H, d_k = 2, 4, 6, 3, 5
    state = slips.random_state(H * d_k, H, d_k)
    module = loaded(call(answer, H * d_k, H), state)
    judge_masks(module, state, (B, T, S, H, d_k))


@multi_head.test(
    "a query without any key gets zeros from every head",
    4,
    "A query with nothing to look at",
)
def check_no_key(answer: Any) -> None:
    """Leave one sentence, and then one query, no key at all."""
    B, T, S, H, d_k = 3, 4, 6, 2, 5
    state = slips.random_state(H * d_k, H, d_k)
    query = torch.randn(B, T, H * d_k)
    key, value = torch.randn(2, B, S, H * d_k)
    module = loaded(call(answer, H * d_k, H), state)
    right = right_one(state, H * d_k, H)
    for shape in ((B, 1, 1, S), (T, S)):
        mask = torch.rand(shape) < 0.7
        mask[..., 0], mask[1] = True, False
        found = output_of(module, query, key, value, mask)
        wanted = numbers(right(query, key, value, mask))
        if is_near(found, wanted, 1e-3):
            continue
        if found.isnan().any():
            raise Wrong(
                "the output is nan where a query may look at no key: a row of"
                " minus infinity has no softmax. Set the hidden weights to 0"
                " after it."
            )

        def even(s: Tensor, mask: Tensor = mask) -> Tensor:
            return s.masked_fill(~mask, -1e9).softmax(-1)

        inputs = query, key, value
        explain(
            found,
            [
                (
                    slips.masked_wrongly(state, *inputs, H, even),
                    "a query that may look at no key gets the mean of all"
                    " values: a large negative number hides keys only beside"
                    " others that are shown. Set the hidden weights to 0"
                    " after the softmax.",
                )
            ],
            "a query that may look at no key should get zeros from its heads,"
            " so that the bias of w_o is its output.",
            1e-3,
        )


@multi_head.test(
    "nothing is dropped in eval mode", 4, "A module, a buffer, a flag"
)
def check_eval(answer: Any) -> None:
    """Compare with the package's module, dropout given and eval called."""
    B, T, H, d_k = SIZES[0]
    state = slips.random_state(H * d_k, H, d_k)
    module = loaded(call(answer, H * d_k, H, dropout=0.5), state)
    call(method(module, "eval"))
    query, key, value = torch.randn(3, B, T, H * d_k)
    found = output_of(module, query, key, value)
    right = right_one(state, H * d_k, H)(query, key, value)
    if not is_near(found, right, 1e-3):
        raise Wrong(
            "after eval() the output is another than without dropout. Drop"
            " only while self.training is true."
        )


@multi_head.test(
    "in training, weights are dropped and the rest grow", *DROPOUT
)
def check_dropout(answer: Any) -> None:
    """Choose values and ``w_o`` so that the output gives the weights away."""
    for H, d_k, p in ((3, 7, 0.3), (2, 5, 0.6)):
        B, T, D = 24, 6, H * d_k
        state = slips.random_state(D, H, d_k)
        state |= {"w_v.weight": torch.eye(D), "w_v.bias": torch.zeros(D)}
        state["w_q.weight"] = state["w_q.weight"] / 3  # no weight is tiny
        mix = torch.linalg.qr(torch.randn(D, D))[0]
        state |= {"w_o.weight": mix, "w_o.bias": torch.zeros(D)}
        one_head = torch.linalg.qr(torch.randn(d_k, d_k))[0]
        query, key = torch.randn(B, T, D), torch.randn(B, d_k, D)
        value = one_head.repeat(1, H).expand(B, d_k, D).clone()
        module = loaded(call(answer, D, H, dropout=p), state)
        call(method(module, "train"))
        output = output_of(module, query, key, value)
        output = numbers(output, (B, T, D)).float()
        found = slips.split(output @ mix, H) @ one_head.T
        whole = slips.head_scores(state, query, key, H).softmax(-1)
        judge_dropped(found, whole, p)


@multi_head.test("a width that the heads do not divide is refused", *LIBRARY)
def check_refusal(answer: Any) -> None:
    """Ask for heads that cannot be cut."""
    for d_model, num_heads in ((10, 4), (21, 5), (7, 2)):
        why = f"{num_heads} does not divide {d_model}"
        judge_refusal(answer, sizes := (d_model, num_heads), sizes, why)


@multi_head.test(*LEARNS)
def check_gradient(answer: Any) -> None:
    """Look where the gradient of its output ends."""
    B, T, H, d_k = SIZES[0]
    must_learn(call(answer, H * d_k, H), *torch.randn(3, B, T, H * d_k))
