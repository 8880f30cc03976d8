"""Watch what a model attends to, without changing its code."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from torch import Tensor, nn

from minitransformer.attention import (
    MultiHeadAttention,
    join_causal,
    scaled_dot_product_attention,
)


@contextmanager
def recorded_attention(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Keep the attention weights of every layer while the block runs.

    Inside the block each `MultiHeadAttention` of ``model`` uses the readable
    formula, which shows its weights; the fused kernel does not.

    Args:
        model: Any module that holds `MultiHeadAttention` layers.

    Yields:
        A dictionary that fills up: the layer's name, such as
        ``"decoder.0.cross_attention"``, to the weights of its last call,
        ``(B, H, T, S)``, before dropout.
    """
    maps: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if isinstance(module, MultiHeadAttention):
                recorder = _Recorder(name, module, maps)
                stack.enter_context(patch.object(module, "attend", recorder))
        yield maps


class _Recorder:
    """Stands in for `MultiHeadAttention.attend`."""

    def __init__(
        self, name: str, module: MultiHeadAttention, maps: dict[str, Tensor]
    ):
        self.name, self.module, self.maps = name, module, maps

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        causal: bool,
    ) -> Tensor:
        dropout_p = self.module.dropout if self.module.training else 0.0
        mask = join_causal(mask, q.shape[2], causal, q.device)
        output, weights = scaled_dot_product_attention(
            q, k, v, mask, dropout_p
        )
        self.maps[self.name] = weights.detach()
        return output
