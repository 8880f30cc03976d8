"""Watch what a model attends to, without changing its code."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from minitransformer.attention import (
    MultiHeadAttention,
    join_causal,
    scaled_dot_product_attention,
)

Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None, bool], Tensor]
Wrap = Callable[[Attend], Attend]


@contextmanager
def recorded_attention(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Keep the attention weights of every layer while the block runs.

    The fused kernel never shows its weights, so the readable formula works
    them out a second time. The model itself computes as ever: watching it
    changes no number, and draws none.

    Args:
        model: Any module that holds `MultiHeadAttention` layers.

    Yields:
        A dictionary that fills up: the layer's name, such as
        ``"decoder.0.cross_attention"``, to the weights of its last call,
        ``(B, H, T, S)``, before dropout.

    >>> attention = MultiHeadAttention(d_model=4, num_heads=2)
    >>> x = torch.randn(1, 3, 4)
    >>> with recorded_attention(nn.ModuleDict({"mine": attention})) as maps:
    ...     output = attention(x, x, x, causal=True)
    >>> maps["mine"].shape
    torch.Size([1, 2, 3, 3])
    """
    maps: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if isinstance(module, MultiHeadAttention):
                watcher = _watcher(name, maps)
                stack.enter_context(wrapped_attend(module, watcher))
        yield maps


def _watcher(name: str, maps: dict[str, Tensor]) -> Wrap:
    """Make what keeps a layer's weights in ``maps``."""

    def wrap(before: Attend) -> Attend:
        def watch(
            q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool
        ) -> Tensor:
            output = before(q, k, v, mask, causal)
            with torch.no_grad():
                seen = join_causal(mask, q.shape[-2], causal, q.device)
                _, maps[name] = scaled_dot_product_attention(q, k, v, seen)
            return output

        return watch

    return wrap


@contextmanager
def wrapped_attend(module: MultiHeadAttention, wrap: Wrap) -> Iterator[None]:
    """Put another function in the place of ``module.attend``, for a while.

    It is an attribute of the module, which hides the method of its class.

    Args:
        module: The attention.
        wrap: Given what was there before, which may be another of these,
            returns what is to be there.
    """
    before: Attend = module.attend
    had_one = "attend" in vars(module)
    vars(module)["attend"] = wrap(before)
    try:
        yield
    finally:
        if had_one:
            vars(module)["attend"] = before
        else:
            del vars(module)["attend"]
