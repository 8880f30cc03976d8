"""Four questions every attention model must answer with a number near zero.

Each probe takes the thing itself, not its mask, so it finds a leak wherever
it comes from. A correct model scores exactly zero on the two gradient probes
and zero up to rounding on the others.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from minitransformer.config import PAD_ID
from minitransformer.errors import UserError
from minitransformer.recurrent import TranslationModel

NUM_MIXTURES = 8


def future_leak(function: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Measure how strongly any output depends on an input that comes later.

    Computes the largest ``|d output_t / d input_s|`` over ``s > t``, one
    backward pass per output number. A causal function scores exactly 0: the
    gradient is not small, it is absent.

    Args:
        function: Maps ``(B, T, D)`` to ``(B, T, K)``. A module is put in
            evaluation mode for the time of the probe.
        x: Where to probe, ``(B, T, D)``; random numbers do.

    Returns:
        The largest absolute derivative.

    Raises:
        UserError: If ``function`` changes the length, or cuts the gradient.

    >>> future_leak(lambda x: x.cumsum(1), torch.ones(1, 3, 2))
    0.0
    >>> future_leak(lambda x: x.flip(1), torch.ones(1, 3, 2))
    1.0
    """
    with _evaluating(function), torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        output = function(x)
        _check_length(output, x)
        if not output.requires_grad:
            raise UserError(
                "The output has no gradient to probe: remove detach(), "
                ".data or torch.no_grad() from the function."
            )
        largest = torch.zeros((), dtype=x.dtype, device=x.device)
        for t in range(x.shape[1] - 1):
            for number in output[:, t].sum(0):
                (gradient,) = torch.autograd.grad(
                    number, x, retain_graph=True, materialize_grads=True
                )
                future = gradient[:, t + 1 :].abs().max()
                largest = torch.maximum(largest, future)
    return largest.item()


def decoder_future_leak(
    model: TranslationModel, source: Tensor, target: Tensor
) -> float:
    """Measure how strongly any logit depends on a target token to its right.

    This is `future_leak` from the embedded target tokens to the logits. The
    ``V`` logits of a position are first mixed into a few fixed random sums:
    a leak cannot cancel in all of them, and the probe stays fast.

    Args:
        model: The model to probe; it is not changed.
        source: Source ids, ``(B, S)``.
        target: Decoder input ids, ``(B, T)``.

    Returns:
        The largest absolute derivative; exactly 0 for a causal decoder.
    """
    with _evaluating(model):
        with torch.no_grad():
            memory = model.encode(source)
            embedded = model.target_embedding(target)  # (B, T, D)

        def decode(x: Tensor) -> Tensor:
            hook = model.target_embedding.register_forward_hook(
                lambda _module, _inputs, _output: x
            )
            try:
                logits = model.decode(target, memory, source)
            finally:
                hook.remove()
            generator = torch.Generator().manual_seed(0)
            mixtures = torch.randn(
                logits.shape[-1], NUM_MIXTURES, generator=generator
            )
            return logits @ mixtures.to(logits)

        return future_leak(decode, embedded)


@torch.no_grad()
def padding_gap(
    model: TranslationModel, source: Tensor, target: Tensor
) -> float:
    """Measure what padding changes: each pair alone against the same batch.

    Args:
        model: The model to probe.
        source: Source ids, ``(B, S)``, at least one row padded.
        target: Decoder input ids, ``(B, T)``, padded likewise.

    Returns:
        The largest difference between two logits of a real target token. A
        correct model scores rounding error, about 1e-6 in float32.

    Raises:
        UserError: If no row is padded, since nothing would be tested.
    """
    if not ((source == PAD_ID).any() or (target == PAD_ID).any()):
        raise UserError(
            "No sentence of this batch is padded: "
            "probe with sentences of different lengths."
        )
    with _evaluating(model):
        together = model(source, target)
        largest = 0.0
        for row in range(len(source)):
            S = int((source[row] != PAD_ID).sum())
            T = int((target[row] != PAD_ID).sum())
            alone = model(source[row : row + 1, :S], target[row : row + 1, :T])
            gap = (alone[0] - together[row, :T]).abs().max()
            largest = max(largest, _finite(gap))
    return largest


@torch.no_grad()
def batch_order_gap(
    model: TranslationModel, source: Tensor, target: Tensor
) -> float:
    """Measure whether a sentence's logits depend on its place in the batch.

    Args:
        model: The model to probe.
        source: Source ids, ``(B, S)`` with ``B > 1``.
        target: Decoder input ids, ``(B, T)``.

    Returns:
        The largest difference of a logit when the batch is turned around.

    Raises:
        UserError: If the batch holds one sentence only.
    """
    if len(source) < 2:
        raise UserError("One sentence has no order: probe with two or more.")
    with _evaluating(model):
        forward = model(source, target)
        backward = model(source.flip(0), target.flip(0)).flip(0)
    real = target != PAD_ID  # (B, T)
    return _finite((forward - backward)[real].abs().max())


@torch.no_grad()
def permutation_gap(function: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Measure whether permuting the inputs only permutes the outputs.

    Self-attention without positions scores rounding error; with positions or
    a causal mask it does not, which is the reason for positions. Two
    permutations are tried, a swap and a rotation: a probe, and no proof.

    Args:
        function: Maps ``(B, T, D)`` to ``(B, T, K)``.
        x: Where to probe, ``(B, T, D)`` with ``T > 1``.

    Returns:
        The largest difference of an output number.

    Raises:
        UserError: If ``T`` is 1, or ``function`` changes the length.

    >>> permutation_gap(torch.exp, torch.rand(1, 5, 2))
    0.0
    """
    T = x.shape[1]
    if T < 2:
        raise UserError("One position has no order: probe with two or more.")
    swap = torch.arange(T)
    swap[:2] = torch.tensor([1, 0])
    rotation = torch.arange(T).roll(1)
    with _evaluating(function):
        expected = function(x)
        _check_length(expected, x)
        return max(
            _finite((function(x[:, order]) - expected[:, order]).abs().max())
            for order in (swap, rotation)
        )


@contextmanager
def _evaluating(function: object) -> Iterator[None]:
    """Switch dropout off for a while, where there is any to switch."""
    modules = (
        list(function.modules()) if isinstance(function, nn.Module) else []
    )
    were_training = [module.training for module in modules]
    try:
        for module in modules:
            module.training = False
        yield
    finally:
        for module, training in zip(modules, were_training, strict=True):
            module.training = training


def _check_length(output: Tensor, x: Tensor) -> None:
    """A probe compares position with position, so there must be as many."""
    if output.ndim != 3 or output.shape[:2] != x.shape[:2]:
        raise UserError(
            f"The function turned {tuple(x.shape)} into "
            f"{tuple(output.shape)}: it must give (B, T, K)."
        )


def _finite(gap: Tensor) -> float:
    """Count a nan as an infinite gap, since max() would overlook it."""
    return gap.nan_to_num(nan=torch.inf).item()
