"""Checks of homework 4: the whole model."""

import math
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.config import BOS_ID, EOS_ID, PAD_ID
from minitransformer.homework.checking import (
    Wrong,
    call,
    explain,
    is_near,
    must_learn,
)
from minitransformer.homework.hw4.layers import quiet
from minitransformer.homework.hw4.tasks import (
    FIRST,
    SMALL,
    TINY,
    compare_names,
    draw_ids,
    hand_over,
    is_table,
    ours_of,
    run,
    state_of,
    their_names,
    transformer,
)
from minitransformer.homework.hw4.twins import real, run_model
from minitransformer.homework.tasks import LEARNS
from minitransformer.model import Transformer

WHOLE = "The whole model"
PARTS = ("self_attention", "cross_attention", "feed_forward")


def draw_batch(sizes: dict[str, int]) -> tuple[Tensor, Tensor]:
    """Draw a padded source ``(3, 7)`` and what a decoder reads, ``(3, 6)``."""
    source = draw_ids(3, 7, sizes["vocab_size"])
    target = draw_ids(3, 5, sizes["vocab_size"])
    return source, F.pad(target, (1, 0), value=BOS_ID)


def made(answer: Any, sizes: dict[str, int], ours: Transformer) -> Any:
    """Make a learner's model, with our weights in it."""
    module = call(answer, **sizes)
    hand_over(module, their_names(ours))
    return module


def score(module: Any, source: Tensor, target: Tensor, vocab: int) -> Tensor:
    """Run a learner's model; its logits are ``(B, T, V)``."""
    return run(module, (*target.shape, vocab), source, target)


def judge(
    found: Tensor,
    ours: Transformer,
    source: Tensor,
    target: Tensor,
    slips: Iterable[tuple[str, str]],
    otherwise: str,
) -> None:
    """Raise `Wrong` unless logits are ours, wherever there is a word."""
    words = real(target)
    if is_near(found[words], run_model(ours, source, target)[words]):
        return
    mistakes = [
        (run_model(ours, source, target, slip)[words], text)
        for slip, text in slips
    ]
    explain(found[words], mistakes, otherwise)


@transformer.test("its weights have the names of the table", 9, WHOLE)
def check_names(answer: Any) -> None:
    """Run it once, fresh, and look at its names."""
    for sizes in (SMALL[0], TINY):
        module = call(answer, **sizes)
        score(module, *draw_batch(sizes), sizes["vocab_size"])
        names = state_of(module)
        for part in ("encoder", "decoder"):
            found = {
                n.split(".")[1] for n in names if n.startswith(part + ".")
            }
            wanted = sizes[f"num_{part}_layers"]
            if found and len(found) != wanted and found <= set("0123456789"):
                raise Wrong(
                    f"with num_{part}_layers={wanted} the {part} has"
                    f" {len(found)} layers."
                )
        norms = [n for n in names if "norm" in n and "coder." not in n]
        if norms:
            raise Wrong(
                f"there is a norm behind the last layer, {norms[0]}: this"
                " model has none, as the shipped one was trained without."
            )
        compare_names(module, their_names(ours_of(sizes)))


@transformer.test("the embedding begins small", 9, "Output and tied weights")
def check_fresh(answer: Any) -> None:
    """Look at the deviation of a fresh one; a factor of two is allowed."""
    D = SMALL[0]["d_model"]
    weight = state_of(call(answer, **SMALL[0]))["embedding.weight"]
    ratio = weight.std().item() * math.sqrt(D)
    if not 0.5 < ratio < 2:
        raise Wrong(
            "a fresh embedding has the standard deviation"
            f" {weight.std().item():.2f}; at width {D} it should have"
            f" {1 / math.sqrt(D):.2f}. Its rows score the output too, and"
            " torch's own choice, 1, makes the first logits far too large."
        )


@transformer.test("one matrix embeds and scores", 9, "Output and tied weights")
def check_tied(answer: Any) -> None:
    """Hand over two different matrices: only one can stay."""
    sizes = TINY
    weights = their_names(ours_of(sizes))
    weights["output.weight"] = torch.randn_like(weights["output.weight"])
    module = call(answer, **sizes)
    hand_over(module, weights)
    state = state_of(module)
    embedding = state["embedding.weight"]
    if not is_near(state.get("output.weight", embedding), embedding):
        raise Wrong(
            "the output is not tied: it has a matrix of its own, or a"
            " copy. Assign the embedding's parameter itself to it."
        )


@transformer.test(
    "every layer has weights of its own",
    9,
    "Identical layers, separate weights",
)
def check_own(answer: Any) -> None:
    """Give each layer other weights, and see if they are still there."""
    sizes = SMALL[0]
    weights = their_names(ours_of(sizes))
    module = call(answer, **sizes)
    hand_over(module, weights)
    state = state_of(module)
    for name, weight in state.items():
        if name in weights and not is_near(weight, weights[name]):
            raise Wrong(
                f"{name} does not keep what is loaded into it: another"
                " layer is the same object. [layer] * n is one layer in n"
                " places; make each anew."
            )


@transformer.test(
    "a token is scaled, given its place, and scored", 6, "Where they are added"
)
def check_ends(answer: Any) -> None:
    """Let all layers do nothing: what remains is the frame."""
    for sizes in (TINY, SMALL[1]):
        ours = ours_of(sizes)
        for layer in (*ours.encoder, *ours.decoder):
            parts = [part for part in PARTS if hasattr(layer, part)]
            quiet(layer, *parts)
            for part in parts:
                sublayer = getattr(layer, part)
                last = sublayer.linear2 if "feed" in part else sublayer.w_o
                nn.init.zeros_(last.bias)
        batch = draw_batch(sizes)
        found = score(made(answer, sizes, ours), *batch, sizes["vocab_size"])
        total = found.exp().sum(dim=-1)
        if is_near(total, torch.ones_like(total)):
            raise Wrong(
                "these are logarithms of probabilities: the model returns"
                " logits, and the loss takes the softmax."
            )
        if is_near(found.sum(dim=-1), torch.ones_like(total)):
            raise Wrong(
                "these are probabilities: the model returns logits, numbers"
                " before the softmax. The loss takes the softmax itself."
            )
        judge(
            found,
            ours,
            *batch,
            [
                (
                    "no positions",
                    "the decoder's tokens get no positions: they are added on"
                    " both sides.",
                ),
                (
                    "no scale",
                    "the target's embedding is not multiplied by the root of"
                    " the width.",
                ),
                (
                    "neither",
                    "the target's embedding is neither multiplied by the root"
                    " of the width nor given positions.",
                ),
                (
                    "scaled positions",
                    "the positions are multiplied by the root too: scale the"
                    " embedding first, then add them.",
                ),
                (
                    "scale D",
                    "the embedding is multiplied by the width; its root is"
                    " wanted.",
                ),
                (
                    "divided",
                    "the embedding is divided by the root of the width; it is"
                    " to be multiplied.",
                ),
                ("late positions", "positions are counted from 0."),
                (
                    "halves",
                    "sines and cosines take turns in the encoding of a"
                    " position: features 0, 2, 4 and so on are sines.",
                ),
                (
                    "final norm",
                    "there is a norm behind the last layer: this model has"
                    " none.",
                ),
                (
                    "scaled output",
                    "the decoder's output is divided by the root of the"
                    " width; a logit is the plain dot product.",
                ),
            ],
            "all sublayers return zeros here, so the logits should be those"
            " of the embedded target: embedding times root, plus position,"
            " times the embedding's rows.",
        )


@transformer.test(
    "no logit depends on a later token", 4, "A leak that the loss hides"
)
def check_future(answer: Any) -> None:
    """Change the end of a target, and look at what came before."""
    sizes = SMALL[1]
    ours, vocab = ours_of(sizes), sizes["vocab_size"]
    module = made(answer, sizes, ours)
    source = draw_ids(3, 7, vocab)
    target = torch.randint(FIRST, vocab, (3, 6))
    for t in (1, 4):
        other = target.clone()
        other[:, t:] = FIRST + (target[:, t:] - FIRST + 1) % (vocab - FIRST)
        pair = [score(module, source, x, vocab) for x in (target, other)]
        if not is_near(pair[0][:, :t], pair[1][:, :t]):
            raise Wrong(
                "a logit changes with a token to its right: the causal"
                " mask does not reach every layer of the decoder."
            )


@transformer.test(
    "padding of the source changes nothing", 9, "The three masks"
)
def check_padding(answer: Any) -> None:
    """Append padding to a source."""
    sizes = TINY
    ours, vocab = ours_of(sizes), sizes["vocab_size"]
    module = made(answer, sizes, ours)
    source, target = draw_batch(sizes)
    longer = F.pad(source, (0, 3), value=PAD_ID)
    found = score(module, longer, target, vocab)
    words = real(target)
    if is_near(found[words], score(module, source, target, vocab)[words]):
        return
    judge(
        found,
        ours,
        longer,
        target,
        [
            (
                "decoder sees padding",
                "the cross-attention sees the source's padding: pass the"
                " source mask to every layer of the decoder.",
            ),
            (
                "encoder sees padding",
                "the encoder sees the source's padding: pass the source"
                " mask to each of its layers.",
            ),
            (
                "padding seen",
                "both the encoder and the cross-attention see the"
                " source's padding: the source mask is not used.",
            ),
        ],
        "three PAD more behind the source change the logits: hide them in"
        " the encoder and in the cross-attention.",
    )


@transformer.test(
    "all layers run, and the last one makes the memory",
    9,
    "How does attention become a translator?",
)
def check_whole(answer: Any) -> None:
    """Compare the logits of whole models."""
    for sizes in SMALL:
        ours = ours_of(sizes)
        batch = draw_batch(sizes)
        batch[0][:, -1] = torch.where(batch[0][:, -1] > PAD_ID, EOS_ID, PAD_ID)
        found = score(made(answer, sizes, ours), *batch, sizes["vocab_size"])
        judge(
            found,
            ours,
            *batch,
            [
                (
                    "first layer",
                    "the decoder gets what the encoder's first layer made:"
                    " the memory comes from its last layer. Does each layer's"
                    " output go into the next?",
                ),
                (
                    "last layer",
                    "each encoder layer reads the embedded source, and only"
                    " the last one's output is used: each reads what the"
                    " one before has made.",
                ),
                (
                    "side by side",
                    "each decoder layer gets the memory of the encoder layer"
                    " beside it; all get the last one's.",
                ),
                (
                    "no encoder",
                    "the decoder gets the embedded source: the encoder's"
                    " layers are not run.",
                ),
                (
                    "encoder backwards",
                    "the layers of the encoder run in reverse order.",
                ),
                (
                    "one decoder layer",
                    "only the first layer of the decoder counts: each reads"
                    " what the one before has made.",
                ),
                (
                    "no positions, source",
                    "the source gets no positions: they are added on both"
                    " sides.",
                ),
                (
                    "no scale, source",
                    "the source's embedding is not multiplied by the root of"
                    " the width.",
                ),
                (
                    "neither, source",
                    "the source's embedding is neither multiplied by the root"
                    " of the width nor given positions.",
                ),
            ],
            "the two ends are right, but the logits of the whole differ from"
            " ours. Are both layers judged correct? Then look at what goes"
            " into each, and what becomes of what comes out.",
        )


@transformer.test(*LEARNS)
def check_gradient(answer: Any) -> None:
    """Look where the gradient of the logits ends."""
    module = call(answer, **TINY)
    must_learn(module, *draw_batch(TINY), apart_from=is_table)
