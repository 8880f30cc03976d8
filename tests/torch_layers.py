"""Our layers as torch's own: the oracle of the parity tests."""

import torch
from torch import nn
from torch.testing import assert_close


def as_torch(layer, num_heads, norm_first=False):
    """Build torch's encoder or decoder layer with the weights of ours.

    Returns:
        The layer, and a list of pairs: a list of our parameters, and the one
        of theirs that stacks them.
    """
    d_ff, d_model = layer.feed_forward.linear1.weight.shape
    is_decoder = hasattr(layer, "cross_attention")
    kind = (
        nn.TransformerDecoderLayer
        if is_decoder
        else nn.TransformerEncoderLayer
    )
    theirs = kind(
        d_model,
        num_heads,
        d_ff,
        dropout=0.0,
        batch_first=True,
        norm_first=norm_first,
    ).to(layer.feed_forward.linear1.weight.dtype)
    attentions = [(layer.self_attention, theirs.self_attn)]
    if is_decoder:
        attentions.append((layer.cross_attention, theirs.multihead_attn))
    pairs = []
    for our, their in attentions:
        projections = our.w_q, our.w_k, our.w_v
        pairs += [
            ([w.weight for w in projections], their.in_proj_weight),
            ([w.bias for w in projections], their.in_proj_bias),
            ([our.w_o.weight], their.out_proj.weight),
            ([our.w_o.bias], their.out_proj.bias),
        ]
    singles = [
        (layer.feed_forward.linear1, theirs.linear1),
        (layer.feed_forward.linear2, theirs.linear2),
        (layer.add_norm1.norm, theirs.norm1),
        (layer.add_norm2.norm, theirs.norm2),
    ]
    if is_decoder:
        singles.append((layer.add_norm3.norm, theirs.norm3))
    for our, their in singles:
        pairs += [([our.weight], their.weight), ([our.bias], their.bias)]
    assert len(pairs) == len(list(theirs.parameters()))
    with torch.no_grad():
        for ours, their in pairs:
            their.copy_(torch.cat(ours))
    return theirs, pairs


def shake(module):
    """Draw every parameter anew: no norm or bias may be 1 or 0."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)


def gradients(output, inputs):
    """Differentiate a fixed mixture of the outputs."""
    mixture = torch.linspace(-1, 2, output.numel(), dtype=output.dtype)
    return torch.autograd.grad(
        (output.flatten() * mixture).sum(), inputs, retain_graph=True
    )


def assert_same_gradients(output, expected, pairs):
    """Compare ours with theirs, stacked as in `as_torch`."""
    for ours, their in pairs:
        (packed,) = gradients(expected, [their])
        assert_close(torch.cat(gradients(output, ours)), packed)
