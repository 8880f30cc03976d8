"""Keep every number that a model works out, without changing its code."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from minitransformer.attention import (
    MultiHeadAttention,
    join_causal,
    scaled_dot_product_attention,
)
from minitransformer.errors import UserError
from minitransformer.recording import Attend, Wrap, wrapped_attend
from minitransformer.traces import Step, Trace

Add = Callable[[str, Any], None]


def trace(model: nn.Module, *inputs: Any, **options: Any) -> Trace:
    """Run a model once and keep what every part of it gives.

    Each call of a submodule is a step, named by the module's path; the
    model's own output is ``"(model)"``. A module's second call is
    ``"name (2)"``; of a tuple, the parts are ``"name[0]"``, ``"name[1]"``.
    A module with two names, such as a shared embedding, goes by the first.

    Inside `MultiHeadAttention` there are also ``".q"``, ``".k"`` and ``".v"``
    (``(B, H, T or S, d_k)``), ``".scores"`` before the mask and
    ``".weights"`` before dropout (``(B, H, T, S)``, worked out a second time
    by the formula), and ``".heads"``, what goes to ``w_o``
    (``(B, H, T, d_k)``).

    The model computes as ever: watching changes no number and draws none.
    Only torch's own Transformer takes a shortcut past its submodules, which
    is closed for the time; it may round differently.

    Args:
        model: Any module.
        inputs: What to call it with.
        options: More of it, by keyword.

    Returns:
        The trace. If the model raises, a note on the error tells the last
        step that went well.

    Raises:
        UserError: If ``model`` is not a module.

    >>> from minitransformer.feed_forward import FeedForward
    >>> seen = trace(FeedForward(4, 16), torch.zeros(2, 3, 4))
    >>> for step in seen.steps:
    ...     print(step.name, step.shape)
    linear1 (2, 3, 16)
    linear2 (2, 3, 4)
    (model) (2, 3, 4)
    """
    if not isinstance(model, nn.Module):
        raise UserError(
            f"trace() runs a model, an nn.Module, not a"
            f" {type(model).__name__}: pass the model first, then its inputs."
        )
    seen = Trace()
    calls: Counter[str] = Counter()

    def add(name: str, value: Any) -> None:
        calls[name] += 1
        if calls[name] > 1:
            name = f"{name} ({calls[name]})"
        for part, tensor in _tensors(value):
            seen.steps.append(Step(name + part, tensor.detach().clone()))

    with ExitStack() as stack:
        was_fast = torch.backends.mha.get_fastpath_enabled()
        stack.callback(torch.backends.mha.set_fastpath_enabled, was_fast)
        torch.backends.mha.set_fastpath_enabled(False)
        for name, module in model.named_modules():
            stack.enter_context(_watched_output(module, name, add))
            if isinstance(module, MultiHeadAttention):
                watcher = _watcher_inside(name, add)
                stack.enter_context(wrapped_attend(module, watcher))
        try:
            model(*inputs, **options)
        except Exception as error:
            if seen.steps:
                last = seen.steps[-1]
                error.add_note(
                    f"The last step that went well is {last.name},"
                    f" {last.shape}."
                )
            raise
    return seen


@contextmanager
def _watched_output(module: nn.Module, name: str, add: Add) -> Iterator[None]:
    """Hook a module for the time of the block."""
    hook = module.register_forward_hook(
        lambda _module, _inputs, output: add(name or "(model)", output)
    )
    try:
        yield
    finally:
        hook.remove()


def _watcher_inside(name: str, add: Add) -> Wrap:
    """Make what hands over an attention's inner steps."""
    path = f"{name}." if name else ""

    def wrap(before: Attend) -> Attend:
        def watch(
            q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool
        ) -> Tensor:
            for letter, value in zip("qkv", (q, k, v), strict=True):
                add(path + letter, value)
            output = before(q, k, v, mask, causal)
            with torch.no_grad():
                joined = join_causal(mask, q.shape[-2], causal, q.device)
                _, weights = scaled_dot_product_attention(q, k, v, joined)
                add(path + "scores", q @ k.mT / math.sqrt(q.shape[-1]))
            add(path + "weights", weights)
            add(path + "heads", output)
            return output

        return watch

    return wrap


def _tensors(value: Any, part: str = "") -> Iterator[tuple[str, Tensor]]:
    """Find the tensors in what a module returns."""
    if isinstance(value, Tensor):
        yield part, value
        return
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, (tuple, list)):
        items = enumerate(value)
    for key, item in items:
        yield from _tensors(item, f"{part}[{key}]")
