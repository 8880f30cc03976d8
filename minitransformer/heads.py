"""What does each attention head do, and is it missed when it is gone?

A head has a name, such as ``("decoder.0.cross_attention", 2)``. Its maps come
from `recorded_attention`; here they are described, compared and read word by
word, and heads are taken out of a model, or made to look elsewhere.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from minitransformer.attention import (
    MultiHeadAttention,
    join_causal,
    scaled_dot_product_attention,
)
from minitransformer.errors import UserError
from minitransformer.recording import Attend, Wrap, wrapped_attend

Head = tuple[str, int]
Rewrite = Callable[[Tensor], Tensor]


def heads_of(model: nn.Module) -> list[Head]:
    """Name every head of a model, layer by layer.

    >>> heads_of(nn.ModuleDict({"mine": MultiHeadAttention(4, 2)}))
    [('mine', 0), ('mine', 1)]
    """
    return [
        (name, head)
        for name, module in _attentions(model).items()
        for head in range(module.num_heads)
    ]


@contextmanager
def pruned(model: nn.Module, heads: Sequence[Head]) -> Iterator[None]:
    """Take heads out of a model, for the time of the block.

    A head's output meets its own columns of ``w_o.weight`` and no others:
    zeros there are a head that says nothing (Michel et al., 2019). Whatever
    uses the model meanwhile goes without these heads, decoding too.

    Args:
        model: Any module that holds `MultiHeadAttention` layers.
        heads: Those to take out.

    Raises:
        UserError: If the model has no such head.

    >>> attention = MultiHeadAttention(d_model=4, num_heads=2, bias=False)
    >>> model, x = nn.ModuleDict({"mine": attention}), torch.randn(1, 3, 4)
    >>> with pruned(model, [("mine", 0), ("mine", 1)]):
    ...     attention(x, x, x).abs().max().item()
    0.0
    """
    modules = _attentions(model)
    _check_heads(modules, heads)
    names = {name for name, _ in heads}
    before = {name: modules[name].w_o.weight.clone() for name in names}
    try:
        with torch.no_grad():
            for name, head in heads:
                _columns(modules[name], head).zero_()
        yield
    finally:
        with torch.no_grad():
            for name, weight in before.items():
                modules[name].w_o.weight.copy_(weight)


@contextmanager
def rewritten(
    model: nn.Module, rewrites: Mapping[Head, Rewrite]
) -> Iterator[None]:
    """Make heads look elsewhere, for the time of the block.

    It holds for calls of the model itself (teacher forcing); step-by-step
    decoding may take a path of its own.

    Args:
        model: Any module that holds `MultiHeadAttention` layers.
        rewrites: For a head, what turns its weights, ``(B, T, S)``, into
            others; those of a sentence alone have no ``B``. Weights that a
            mask has set to 0 should stay 0: a function such as `even` keeps
            to that.

    Raises:
        UserError: If the model has no such head.
    """
    modules = _attentions(model)
    _check_heads(modules, list(rewrites))
    with ExitStack() as stack:
        for name in {name for name, _ in rewrites}:
            own = {
                head: rewrite
                for (where, head), rewrite in rewrites.items()
                if where == name
            }
            stack.enter_context(wrapped_attend(modules[name], _steered(own)))
        yield


def _steered(rewrites: Mapping[int, Rewrite]) -> Wrap:
    """Make what puts other weights into some heads of one attention."""

    def wrap(before: Attend) -> Attend:
        def attend(
            q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool
        ) -> Tensor:
            output = before(q, k, v, mask, causal).clone()  # (B, H, T, d_k)
            joined = join_causal(mask, q.shape[-2], causal, q.device)
            _, weights = scaled_dot_product_attention(q, k, v, joined)
            for head, rewrite in rewrites.items():
                # Counted from the right: a sentence alone has no B.
                own = rewrite(weights[..., head, :, :])  # (B, T, S)
                output[..., head, :, :] = own @ v[..., head, :, :]
            return output

        return attend

    return wrap


def even(weights: Tensor) -> Tensor:
    """Give every token that may be attended to the same weight.

    Args:
        weights: ``(..., T, S)``; exact zeros are taken for masked.

    >>> even(torch.tensor([[1.0, 0.0], [0.9, 0.1]]))
    tensor([[1.0000, 0.0000],
            [0.5000, 0.5000]])
    """
    allowed = (weights > 0).to(weights)  # (..., T, S)
    return allowed / allowed.sum(dim=-1, keepdim=True).clamp(min=1)


# Describing maps ---


def map_shares(weights: Tensor) -> dict[str, Tensor]:
    """Describe where the heads of one attention look, in one sentence.

    Args:
        weights: ``(H, T, S)``, without padding.

    Returns:
        A number for each head, ``(H,)``, under each name. ``"first"`` and
        ``"last"`` are the shares of weight on the first and the last token.
        ``"entropy"`` is in nats. Where queries are keys (``T == S``), there
        are also ``"own"``, ``"previous"`` and ``"next"``, and
        ``"distance"``, how many positions away the weight lies on average.
        Rows that have no such neighbour are left out of its mean.

    >>> shares = map_shares(torch.eye(3)[None])
    >>> shares["own"], shares["previous"], shares["distance"]
    (tensor([1.]), tensor([0.]), tensor([0.]))
    """
    T, S = weights.shape[-2:]
    logs = weights.clamp(min=torch.finfo(weights.dtype).tiny).log()
    found = {
        "first": weights[..., 0].mean(-1),
        "last": weights[..., -1].mean(-1),
        "entropy": -(weights * logs).sum(-1).mean(-1),
    }
    if T == S:
        places = torch.arange(T)
        away = (places[:, None] - places).abs().to(weights)  # (T, T)
        found["own"] = _diagonal(weights, 0)
        found["previous"] = _diagonal(weights, -1)
        found["next"] = _diagonal(weights, 1)
        found["distance"] = (weights * away).sum(-1).mean(-1)
    return found


def _diagonal(weights: Tensor, offset: int) -> Tensor:
    """Average a diagonal; an empty one gives 0."""
    line = weights.diagonal(offset, -2, -1)
    return line.sum(-1) / max(line.shape[-1], 1)


def map_distances(weights: Tensor) -> Tensor:
    """Say how differently the heads of one attention look.

    Args:
        weights: ``(H, T, S)``, rows that sum to one.

    Returns:
        ``(H, H)``: the share of its weight that one head would have to move
        to look as the other does, averaged over the queries; from 0, alike,
        to 1.

    >>> map_distances(torch.tensor([[[1.0, 0.0]], [[0.25, 0.75]]]))
    tensor([[0.0000, 0.7500],
            [0.7500, 0.0000]])
    """
    apart = (weights[:, None] - weights[None]).abs()  # (H, H, T, S)
    return apart.sum(-1).mean(-1) / 2


def on_words(weights: Tensor, key_words: Sequence[int]) -> Tensor:
    """Add up the weights of the tokens of each word.

    Args:
        weights: ``(..., S)``.
        key_words: For each of the first key tokens, its word, as
            `Tokenizer.word_ids` gives it. Columns beyond, such as that of
            EOS, are left out.

    Returns:
        ``(..., words)``.

    Raises:
        UserError: If there are more tokens than weights, or none.

    >>> on_words(torch.tensor([0.25, 0.25, 0.5]), [0, 0, 1])
    tensor([0.5000, 0.5000])
    """
    if not 0 < len(key_words) <= weights.shape[-1]:
        raise UserError(
            f"There are {len(key_words)} tokens for {weights.shape[-1]}"
            " weights: take the map of this very sentence."
        )
    words = torch.tensor(key_words, device=weights.device)
    total = weights.new_zeros(*weights.shape[:-1], int(words.max()) + 1)
    return total.index_add_(-1, words, weights[..., : len(key_words)])


# Inner parts ---


def _attentions(model: nn.Module) -> dict[str, MultiHeadAttention]:
    """Name every attention of a model."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, MultiHeadAttention)
    }


def _columns(module: MultiHeadAttention, head: int) -> Tensor:
    """Return the part of ``w_o.weight`` that a head's output meets."""
    return module.w_o.weight.chunk(module.num_heads, dim=1)[head]


def _check_heads(
    modules: Mapping[str, MultiHeadAttention], heads: Sequence[Head]
) -> None:
    """Raise a ``UserError`` unless the model has all these heads."""
    for name, head in heads:
        if name not in modules or not 0 <= head < modules[name].num_heads:
            raise UserError(
                f"The model has no head {head} of {name!r}: heads_of(model)"
                " lists those it has."
            )
