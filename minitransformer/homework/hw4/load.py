"""Checks of homework 4: trained weights, and decoding with a cache."""

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from minitransformer.checkpoints import load_config, load_tensors, load_weights
from minitransformer.compact import compact, restore
from minitransformer.config import BOS_ID
from minitransformer.homework.checking import Wrong, call, explain, is_near
from minitransformer.homework.hw4.model import draw_batch, score
from minitransformer.homework.hw4.tasks import (
    SMALL,
    TINY,
    draw_ids,
    load,
    name_sizes,
    ours_of,
    run,
    step,
)
from minitransformer.homework.hw4.twins import real
from minitransformer.layers import DecoderLayer
from minitransformer.model import Transformer

SHIPPED = Path(str(files("minitransformer"))) / "models" / "storybook-en-fr"
WASTE = 1.5  # times the work of our own step


def packed(ours: Transformer) -> dict[str, Tensor]:
    """Return a model's weights as its file would hold them, and round it."""
    again = ("target_embedding", "output")
    state = ours.state_dict()
    tensors = compact(
        {k: v for k, v in state.items() if not k.startswith(again)}
    )
    put(ours, restore(tensors))
    return tensors


def put(ours: Transformer, weights: dict[str, Tensor]) -> Transformer:
    """Load weights that name the shared matrix once."""
    shared = weights["source_embedding.weight"]
    again = ("target_embedding.weight", "output.weight")
    ours.load_state_dict(weights | dict.fromkeys(again, shared))
    return ours


def loaded(
    answer: Any, tensors: dict[str, Tensor], sizes: dict[str, int]
) -> Any:
    """Run a learner's ``load``; a model must come back."""
    model = call(answer, tensors, sizes)
    if isinstance(model, dict):
        raise Wrong(
            "that is a dictionary of weights: load it into a Transformer of"
            " yours, and return the model."
        )
    return model


def slipped(
    tensors: dict[str, Tensor], sizes: dict[str, int], slip: str
) -> Transformer:
    """Load packed weights as learners do who forget something."""
    weights = restore(tensors)
    fresh = Transformer(ours_of(sizes).config).state_dict()
    for name in weights:
        if slip == "no scales":
            weights[name] = tensors[name].float()
        if slip == "fresh norms" and "norm" in name:
            weights[name] = fresh[name]
        if slip == "no biases" and name.endswith("bias"):
            weights[name] = fresh[name]
    if slip == "no embedding scale":
        name = "source_embedding.weight"
        weights[name] = tensors[name].float()
    return put(Transformer(ours_of(sizes).config).eval(), weights)


@load.test("the model has the weights of the file", 9, "Where is the mistake?")
def check_load(answer: Any) -> None:
    """Load random weights of two sizes."""
    for sizes in (TINY, SMALL[1]):
        ours = ours_of(sizes)
        tensors = packed(ours)
        source, target = draw_batch(sizes)
        model = loaded(answer, tensors, sizes)
        found = score(model, source, target, sizes["vocab_size"])
        words = real(target)
        if is_near(found[words], ours(source, target)[words]):
            continue
        slips = {
            "no scales": "the whole numbers are taken for the weights: each"
            " matrix has to be multiplied by its scales.",
            "no embedding scale": "the embedding is left in whole numbers: it"
            " has scales too.",
            "fresh norms": "the norms are as they were made: their weights"
            " have another name in your model, and strict=False passes over"
            " that.",
            "no biases": "the biases are as they were made: they have no"
            " scales, and are loaded as they are.",
        }
        explain(
            found[words],
            [
                (slipped(tensors, sizes, slip)(source, target)[words], text)
                for slip, text in slips.items()
            ],
            "with the weights of the file its logits are not ours. Is"
            " hw4.Transformer judged correct? Then compare a few of your"
            " model's weights with those of the file.",
        )


@cache
def shipped() -> tuple[Transformer, dict[str, Tensor], dict[str, int]]:
    """Return the storybook's model, its file's tensors, and its sizes."""
    config, _, _, _ = load_config(SHIPPED)
    model = Transformer(config).eval()
    load_weights(SHIPPED, model)
    tensors, _ = load_tensors(SHIPPED / "model.safetensors")
    sizes = name_sizes(
        config.source_vocab_size,
        config.d_model,
        config.num_heads,
        config.num_encoder_layers,
        config.num_decoder_layers,
        config.d_ff,
    )
    return model.requires_grad_(False), tensors, sizes


@load.test(
    "with the shipped weights its logits are ours", 9, "Where is the mistake?"
)
def check_shipped(answer: Any) -> None:
    """Load what comes with the package."""
    ours, tensors, sizes = shipped()
    source, target = draw_batch(sizes)
    model = loaded(answer, tensors, sizes)
    found = score(model, source, target, sizes["vocab_size"])
    words = real(target)
    right = ours(source, target)
    if not is_near(found[words], right[words]):
        most = (found - right)[words].abs().max()
        raise Wrong(
            "with random weights it agrees with ours, and with the shipped"
            f" ones it does not: logits are off by up to {most:.4f}. Is a"
            " size fixed, or a number rounded?"
        )


# With a cache ---


def only_itself(ours: Transformer, source: Tensor, target: Tensor) -> Tensor:
    """Decode with a cache that is never added to."""
    state = ours.start(source)
    rows = []
    for tokens in target.T:
        for layer in state.layers:
            layer.past = layer.past[:, :, :, :0]
        rows.append(ours.step(tokens, state))
    return torch.stack(rows, dim=1)


def at_first(ours: Transformer, source: Tensor, target: Tensor) -> Tensor:
    """Decode with every token at position 0."""
    state = ours.start(source)
    rows = []
    for tokens in target.T:
        state.position = 0
        rows.append(ours.step(tokens, state))
    return torch.stack(rows, dim=1)


def one_late(ours: Transformer, source: Tensor, target: Tensor) -> Tensor:
    """Decode with positions counted from 1."""
    state = ours.start(source)
    state.position = 1
    return torch.stack([ours.step(x, state) for x in target.T], dim=1)


def sees_padding(ours: Transformer, source: Tensor, target: Tensor) -> Tensor:
    """Decode without the source mask."""
    state = ours.start(source)
    state.source_mask = None
    return torch.stack([ours.step(x, state) for x in target.T], dim=1)


def crossed(ours: Transformer, source: Tensor, target: Tensor) -> Tensor:
    """Decode with one cache for all layers."""
    state = ours.start(source)
    rows = []
    for tokens in target.T:
        x = ours.embed_target(tokens[:, None], state.position)
        for layer, own in zip(ours.decoder, state.layers, strict=True):
            assert isinstance(layer, DecoderLayer)
            own.past = state.layers[0].past
            x = layer.step(x, own, state.source_mask)
            state.layers[0].past = own.past
        state.position += 1
        rows.append(ours.output(ours.decoder_norm(x[:, 0])))
    return torch.stack(rows, dim=1)


def draw_target(sizes: dict[str, int], length: int) -> Tensor:
    """Draw a target without padding, ``(3, length + 1)``, from BOS on."""
    ids = torch.randint(4, sizes["vocab_size"], (3, length))
    return F.pad(ids, (1, 0), value=BOS_ID)


@step.test(
    "each step gives the logits of the whole", 11, "Keep the keys and values"
)
def check_step(answer: Any) -> None:
    """Feed a target token by token, and compare every row."""
    for sizes in (SMALL[1], TINY):
        ours = ours_of(sizes)
        tensors = packed(ours)
        source = draw_ids(3, 7, sizes["vocab_size"])
        target = draw_target(sizes, 5)
        read = call(answer, tensors, sizes, source)
        shape = (3, sizes["vocab_size"])
        found = torch.stack([run(read, shape, x) for x in target.T], dim=1)
        if is_near(found, ours(source, target)):
            continue
        inputs = (ours, source, target)
        explain(
            found,
            [
                (
                    at_first(*inputs),
                    "every token is given position 0: the newest stands"
                    " behind all that are in the cache.",
                ),
                (one_late(*inputs), "positions are counted from 0."),
                (
                    only_itself(*inputs),
                    "each token sees itself alone: its key and value must be"
                    " added to those kept, and kept.",
                ),
                (
                    sees_padding(*inputs),
                    "the cross-attention sees the source's padding: the"
                    " source mask is needed here too.",
                ),
                (
                    crossed(*inputs),
                    "all layers share one cache: each keeps keys and values"
                    " of its own.",
                ),
            ],
            "the first step is right, and later ones are not: what does the"
            " newest token see?"
            if is_near(found[:, 0], ours(source, target)[:, 0])
            else "even the first step does not give the logits of the whole."
            " Is hw4.load judged correct?",
        )


@step.test(
    "two sentences can be decoded side by side", 11, "Keep the keys and values"
)
def check_separate(answer: Any) -> None:
    """Make two functions, and use them in turn."""
    sizes = TINY
    ours = ours_of(sizes)
    tensors = packed(ours)
    shape = (3, sizes["vocab_size"])
    sources = [draw_ids(3, 7, sizes["vocab_size"]) for _ in range(2)]
    targets = [draw_target(sizes, 3) for _ in range(2)]
    reads = [call(answer, tensors, sizes, source) for source in sources]
    for t in range(4):
        for read, source, target in zip(reads, sources, targets, strict=True):
            found = run(read, shape, target[:, t])
            if not is_near(found, ours(source, target)[:, t]):
                raise Wrong(
                    "two functions that `step` has made disturb each other:"
                    " each needs a cache of its own, made anew by each call."
                )


def count_work(function: Callable[..., Any], *inputs: Any) -> int:
    """Count the multiplications of a call: none, if it runs elsewhere."""
    with FlopCounterMode(display=False) as counter:
        function(*inputs)
    return int(counter.get_total_flops())


@step.test("no old token is computed again", 11, "Keep the keys and values")
def check_work(answer: Any) -> None:
    """Count the multiplications of a late step, where that can be seen."""
    sizes = TINY
    ours = ours_of(sizes)
    tensors = packed(ours)
    source = draw_ids(3, 7, sizes["vocab_size"])
    target = draw_target(sizes, 7)
    read = call(answer, tensors, sizes, source)
    state = ours.start(source)
    ends = []
    for t, tokens in enumerate(target.T):
        if t in (0, 7):
            theirs = count_work(lambda x: call(read, x), tokens)
            ends.append((theirs, count_work(ours.step, tokens, state)))
        else:
            call(read, tokens)
            ours.step(tokens, state)
    first, last = ends
    if last[0] <= WASTE * last[1]:  # the first may fill a cache
        return
    if last[0] > 2 * first[0]:
        raise Wrong(
            f"right, but step 8 takes {last[0] / first[0]:.0f} times the"
            " multiplications of step 1: old tokens are computed again."
        )
    raise Wrong(
        f"right, but step 8 takes {last[0] / last[1]:.1f} times the"
        " multiplications that it needs: the memory's keys and values are"
        " computed again, or places attended to that are still empty."
    )
