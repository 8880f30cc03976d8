"""Attention: by hand, equal to torch by every path, and blind when masked."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from minitransformer import attention as attention_module
from minitransformer.attention import (
    MultiHeadAttention,
    SelfAttention,
    scaled_dot_product_attention,
)
from minitransformer.errors import UserError
from minitransformer.masks import causal_mask
from minitransformer.products import (
    ROOM,
    SHORT,
    attend_by_products,
    suits_products,
)

# Distinct primes: no two axes can be mistaken for one another.
B, H, T, S, D_K, D_V = 2, 3, 5, 7, 11, 13
D = 12  # H heads of width 4

# Three tokens and three matrices, as in chapter 2.
X = torch.tensor([[1.0, 0, 1, 0], [0, 2, 0, 2], [1, 1, 1, 1]])
W_Q = torch.tensor([[1.0, 0, 1], [1, 0, 0], [0, 0, 1], [0, 1, 1]])
W_K = torch.tensor([[0.0, 0, 1], [1, 1, 0], [0, 1, 0], [1, 1, 0]])
W_V = torch.tensor([[0.0, 2, 0], [0, 3, 0], [1, 0, 3], [1, 1, 0]])


@pytest.fixture
def qkv():
    return (
        torch.randn(B, H, T, D_K),
        torch.randn(B, H, S, D_K),
        torch.randn(B, H, S, D_V),
    )


def make_mask(kind, num_queries, num_keys):
    """Draw a mask of a kind; every query keeps a key, where not said."""
    T, S = num_queries, num_keys

    def draw(*shape):
        mask = torch.rand(shape) < 0.6
        mask[..., 1] = True
        return mask

    if kind == "none":
        return None
    if kind == "without keys":
        mask = draw(B, 1, T, S)
        mask[0, :, 2] = mask[1, :, 0] = False
        return mask
    if kind == "all hidden":
        return torch.zeros(T, S, dtype=torch.bool)
    if kind == "whole queries":
        return torch.arange(T)[:, None] % 3 != 1
    shapes = {
        "padding": (B, 1, 1, S),
        "one row": (S,),
        "queries and keys": (T, S),
        "each sentence": (B, 1, T, S),
        "each head": (H, 1, S),
        "everything": (B, H, T, S),
    }
    return draw(*shapes[kind])


MASKS = [
    "none",
    "padding",
    "one row",
    "queries and keys",
    "each sentence",
    "each head",
    "everything",
    "without keys",
    "all hidden",
    "whole queries",
]


def gradients(output, inputs):
    """Differentiate a fixed mixture of the outputs."""
    mixture = torch.linspace(-1, 2, output.numel(), dtype=output.dtype)
    return torch.autograd.grad((output.flatten() * mixture).sum(), inputs)


# By hand ---


def test_the_worked_example():
    q, k, v = X @ W_Q, X @ W_K, X @ W_V
    assert q.tolist() == [[1, 0, 2], [2, 2, 2], [2, 1, 3]]
    assert k.tolist() == [[0, 1, 1], [4, 4, 0], [2, 3, 1]]
    assert v.tolist() == [[1, 2, 3], [2, 8, 0], [2, 6, 3]]
    assert (q @ k.T).tolist() == [[2, 4, 4], [4, 16, 12], [4, 12, 10]]
    # The example does not scale: √3 undoes the division by √d_k.
    output, weights = scaled_dot_product_attention(math.sqrt(3) * q, k, v)
    expected = [
        [0.0634, 0.4683, 0.4683],
        [6.03e-6, 0.9820, 0.0180],
        [2.95e-4, 0.8805, 0.1192],
    ]
    assert_close(weights, torch.tensor(expected), rtol=0, atol=6e-5)
    assert_close(weights[1, 0].item(), 6.03e-6, rtol=1e-3, atol=0)
    expected = [[1.937, 6.683, 1.595], [2, 7.964, 0.054], [2, 7.760, 0.358]]
    assert_close(output, torch.tensor(expected), rtol=0, atol=6e-4)


def test_self_attention_on_the_worked_example():
    attention = SelfAttention(4, 3)
    for linear, matrix in zip(
        (attention.w_q, attention.w_k, attention.w_v),
        (W_Q, W_K, W_V),
        strict=True,
    ):
        linear.weight.data = matrix.T
    scores = torch.tensor([[2.0, 4, 4], [4, 16, 12], [4, 12, 10]])
    expected = (scores / math.sqrt(3)).softmax(1) @ X @ W_V
    assert_close(attention(X[None]), expected[None])


def test_one_number_at_a_time():
    q, k, v = torch.randn(T, 3), torch.randn(S, 3), torch.randn(S, 2)
    output, weights = scaled_dot_product_attention(q, k, v)
    for t in range(T):
        terms = []
        for s in range(S):
            product = sum(float(q[t, i] * k[s, i]) for i in range(3))
            terms.append(math.exp(product / math.sqrt(3)))
        for s in range(S):
            assert abs(weights[t, s] - terms[s] / sum(terms)) < 1e-6
        for i in range(2):
            mixed = sum(terms[s] * float(v[s, i]) for s in range(S))
            assert abs(output[t, i] - mixed / sum(terms)) < 1e-6


def test_each_head_reads_its_own_stretch_of_the_width():
    attention = MultiHeadAttention(D, H)
    query, key, value = (torch.randn(B, n, D) for n in (T, S, S))
    q, k, v = attention.w_q(query), attention.w_k(key), attention.w_v(value)
    heads = []
    for h in range(H):
        part = slice(4 * h, 4 * h + 4)
        heads.append(
            scaled_dot_product_attention(
                q[..., part], k[..., part], v[..., part]
            )[0]
        )
    expected = attention.w_o(torch.cat(heads, dim=-1))
    assert_close(attention(query, key, value), expected)


# Properties ---


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.tuples(*[st.integers(1, 6)] * 4),
    magnitude=st.sampled_from([0.0, 1.0, 30.0, 1e4]),
    seed=st.integers(0, 2**32),
)
def test_an_output_is_an_average_of_the_values(sizes, magnitude, seed):
    T, S, d_k, d_v = sizes
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (
        torch.randn(2, *shape, generator=generator)
        for shape in ((T, d_k), (S, d_k), (S, d_v))
    )
    output, weights = scaled_dot_product_attention(magnitude * q, k, v)
    assert output.shape == (2, T, d_v)
    assert weights.shape == (2, T, S)
    assert (weights >= 0).all()
    assert_close(weights.sum(-1), torch.ones(2, T))
    assert (output <= v.amax(-2, keepdim=True) + 1e-5).all()
    assert (output >= v.amin(-2, keepdim=True) - 1e-5).all()


def test_keys_have_no_order(qkv):
    q, k, v = qkv
    mask, order = make_mask("each sentence", T, S), torch.randperm(S)
    output, weights = scaled_dot_product_attention(q, k, v, mask)
    shuffled = scaled_dot_product_attention(
        q, k[..., order, :], v[..., order, :], mask[..., order]
    )
    assert_close(shuffled, (output, weights[..., order]))


def test_a_hidden_key_changes_nothing(qkv):
    q, k, v = qkv
    mask = torch.arange(S) != 3
    expected = scaled_dot_product_attention(q, k, v, mask)
    k, v = k.clone(), v.clone()
    k[..., 3, :], v[..., 3, :] = 1e6, -1e6
    output, weights = scaled_dot_product_attention(q, k, v, mask)
    assert torch.equal(output, expected[0])
    assert torch.equal(weights, expected[1])
    assert (weights[..., 3] == 0).all()


@pytest.mark.parametrize("size", [5, 67], ids=["readable", "fused"])
def test_causal_attention_ignores_the_future_exactly(size):
    attention = MultiHeadAttention(D, H)
    x = torch.randn(B, size, D)
    later = x.clone()
    later[:, 3:] = torch.randn(B, size - 3, D)
    before, after = (attention(y, y, y, causal=True) for y in (x, later))
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.isclose(before[:, 3:], after[:, 3:]).all(-1).any()


def test_attention_without_a_batch():
    for heads in (1, H):  # with one head, a wrong axis could go unnoticed
        attention = MultiHeadAttention(D, heads)
        for size in (T, 67):
            x = torch.randn(B, size, D)
            mask = causal_mask(size)
            mask[:, 1] = False
            expected = attention(x, x, x, mask, causal=True)[1]
            output = attention(x[1], x[1], x[1], mask, causal=True)
            assert_close(output, expected)


@pytest.mark.parametrize("size", [T, 67], ids=["readable", "fused"])
def test_dropout_acts_only_in_training(size):
    attention = MultiHeadAttention(D, H, dropout=0.5)
    plain = MultiHeadAttention(D, H)
    plain.load_state_dict(attention.state_dict())
    x = torch.randn(B, size, D)
    assert not torch.equal(attention(x, x, x), attention(x, x, x))
    attention.eval()
    assert torch.equal(attention(x, x, x), plain(x, x, x))


@pytest.mark.parametrize("size", [S, 400], ids=["readable", "fused"])
def test_one_memory_may_serve_many_queries(size):
    attention = MultiHeadAttention(D, H)
    query, memory = torch.randn(4, T, D), torch.randn(1, size, D)
    expected = attention(query, *[memory.expand(4, size, D)] * 2)
    assert_close(attention(query, memory, memory), expected)


def test_dropout_drops_weights_and_returns_them_undropped():
    q, k = torch.randn(8, T, 3), torch.randn(8, S, 3)
    names = torch.eye(S).expand(8, S, S)  # makes the output show the weights
    output, weights = scaled_dot_product_attention(q, k, names, None, 0.5)
    assert_close(weights, scaled_dot_product_attention(q, k, names)[1])
    dropped = output == 0
    assert 0.3 < dropped.float().mean() < 0.7
    assert_close(output, torch.where(dropped, 0.0, 2 * weights))


def test_values_may_have_any_width_and_the_bias_is_a_choice():
    attention = SelfAttention(D, 5, 3, bias=True)
    assert attention(torch.randn(B, T, D)).shape == (B, T, 3)
    assert [p.shape[0] for p in attention.parameters()] == [5, 5, 5, 5, 3, 3]
    assert SelfAttention(D, 5).w_q.bias is None
    assert MultiHeadAttention(D, H, bias=False).w_o.bias is None
    assert MultiHeadAttention(D, H).w_o.bias is not None


def test_self_attention_hides_what_the_mask_hides():
    attention = SelfAttention(D, 5, 3)
    x = torch.randn(B, T, D)
    changed = x.clone()
    changed[:, 3:] = 0
    mask = causal_mask(T)
    before, after = attention(x, mask), attention(changed, mask)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.equal(before, after)


# Parity ---


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agrees_with_torch(qkv, kind, dtype):
    inputs = [x.to(dtype).requires_grad_() for x in qkv]
    mask = make_mask(kind, T, S)
    output, _ = scaled_dot_product_attention(*inputs, mask)
    for_torch = None if mask is None else mask.expand(B, H, T, S)
    expected = F.scaled_dot_product_attention(*inputs, for_torch)
    assert_close(output, expected)
    assert_close(gradients(output, inputs), gradients(expected, inputs))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(T, S), (67, 71)], ids=["short", "long"])
def test_all_paths_are_equal(monkeypatch, causal, kind, dtype, size):
    T, S = (size[1], size[1]) if causal else size
    attention = MultiHeadAttention(D, H).to(dtype)
    query, key, value = inputs = [
        torch.randn(B, n, D, dtype=dtype, requires_grad=True)
        for n in (T, S, S)
    ]
    mask = make_mask(kind, T, S)
    inputs += attention.parameters()

    def readable(*arguments):
        return scaled_dot_product_attention(*arguments)[0]

    results = []
    for short, products in (
        (0, None),  # fused
        (T * S, attend_by_products),
        (T * S, readable),
    ):
        monkeypatch.setattr("minitransformer.products.SHORT", short)
        monkeypatch.setattr(attention_module, "attend_by_products", products)
        output = attention(query, key, value, mask, causal)
        assert output.isfinite().all()
        results.append((output, gradients(output, inputs)))
    # Sums over 71 positions, in float32, differ by their order alone.
    close = {"rtol": 1e-4, "atol": 2e-4} if dtype == torch.float32 else {}
    assert_close(results[0], results[2], **close)
    assert_close(results[1], results[2], **close)


@pytest.mark.parametrize("kind", ["none", "padding"])
def test_products_keep_half_precision_under_autocast(qkv, kind):
    mask = make_mask(kind, T, S)
    exact, _ = scaled_dot_product_attention(*qkv, mask)
    half = [x.bfloat16().requires_grad_() for x in qkv]
    with torch.autocast("cpu", torch.bfloat16):
        output = attend_by_products(*half, mask)
    assert output.dtype == torch.bfloat16
    assert_close(output.float(), exact, rtol=0, atol=0.05)
    assert all(g.isfinite().all() for g in gradients(output, half))


def test_products_drop_weights(qkv):
    q, k, _ = qkv
    v = torch.ones(B, H, S, 1)
    p = 0.25
    torch.manual_seed(0)
    rows = torch.stack(
        [attend_by_products(q, k, v, None, p) for _ in range(300)]
    )
    assert not torch.allclose(rows[0], rows[1])
    assert rows.mean() == pytest.approx(1, abs=0.02)
    assert_close(attend_by_products(q, k, v), torch.ones(B, H, T, 1))


def test_long_sequences_use_the_fused_kernel(monkeypatch):
    calls = []
    fused = F.scaled_dot_product_attention

    def spy(*arguments, **options):
        calls.append((arguments[0].shape[-2], options["is_causal"]))
        return fused(*arguments, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    attention = MultiHeadAttention(4, 2)
    side = math.isqrt(SHORT)
    for size in (side, side + 1):
        x = torch.randn(1, size, 4)
        attention(x, x, x, causal=True)
    x = torch.randn(1, 1, 4)  # one new token, and a past as long as it gets
    past = torch.randn(1, SHORT, 4)
    attention(x, past, past)
    assert calls == [(side + 1, True)]


@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize("masked", [False, True])
def test_products_serve_short_sequences(masked, gradient):
    side = math.isqrt(SHORT)
    longest = side if gradient else side // 2 * masked
    with torch.set_grad_enabled(gradient):
        for size in (3, side // 2, side // 2 + 1, side, side + 1):
            x = torch.empty(1, size, 4)
            mask = torch.ones(1, size, dtype=torch.bool) if masked else None
            assert suits_products(x, x, x, mask) == (size <= longest)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_products_serve_half_precision_while_there_is_room(dtype):
    for sentences, suits in ((2, True), (3, False)):
        x = torch.empty(sentences, 4, math.isqrt(ROOM // 8), 1, dtype=dtype)
        assert suits_products(x, x, x, None) == suits
        assert not suits_products(x, x, x.float(), None)
        assert not suits_products(x, x[:1], x[:1], None)


def test_causal_joins_the_mask():
    attention = MultiHeadAttention(D, H)
    for size in (T, 67):
        x = torch.randn(B, size, D)
        mask = make_mask("padding", size, size)
        both = attention(x, x, x, mask & causal_mask(size))
        assert_close(attention(x, x, x, mask, causal=True), both)
        for one_alone in (
            attention(x, x, x, mask),
            attention(x, x, x, causal=True),
        ):
            assert not torch.allclose(one_alone, both, atol=1e-3)


@pytest.mark.parametrize("kind", ["none", "padding", "queries and keys"])
def test_multi_head_agrees_with_torch(kind):
    ours = MultiHeadAttention(D, H)
    theirs = nn.MultiheadAttention(D, H, batch_first=True)
    for parameter in ours.parameters():
        nn.init.normal_(parameter)
    projections = ours.w_q, ours.w_k, ours.w_v
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([w.weight for w in projections]))
        theirs.in_proj_bias.copy_(torch.cat([w.bias for w in projections]))
        theirs.out_proj.load_state_dict(ours.w_o.state_dict())
    inputs = [torch.randn(B, n, D, requires_grad=True) for n in (T, S, S)]
    mask = make_mask(kind, T, S)
    hidden = {  # nn.MultiheadAttention's True hides a key
        "none": lambda: {},
        "padding": lambda: {"key_padding_mask": ~mask[:, 0, 0]},
        "queries and keys": lambda: {"attn_mask": ~mask},
    }[kind]()
    output = ours(*inputs, mask)
    expected, _ = theirs(*inputs, need_weights=False, **hidden)
    assert_close(output, expected, rtol=1e-4, atol=1e-4)
    ours_all = [*inputs, *ours.w_o.parameters()]
    theirs_all = [*inputs, *theirs.out_proj.parameters()]
    assert_close(
        gradients(output, ours_all),
        gradients(expected, theirs_all),
        rtol=1e-3,
        atol=1e-3,
    )
    stacked = gradients(ours(*inputs, mask), [w.weight for w in projections])
    packed = gradients(
        theirs(*inputs, need_weights=False, **hidden)[0],
        [theirs.in_proj_weight],
    )
    assert_close(torch.cat(stacked), packed[0], rtol=1e-3, atol=1e-3)


# Edges ---


@pytest.mark.parametrize("short", [0, SHORT], ids=["fused", "products"])
@pytest.mark.parametrize("causal", [False, True])
def test_a_query_without_keys_gets_zeros(monkeypatch, short, causal):
    monkeypatch.setattr("minitransformer.products.SHORT", short)
    attention = MultiHeadAttention(D, H, bias=False)
    x = torch.randn(B, T, D, requires_grad=True)
    mask = torch.ones(B, 1, T, T, dtype=torch.bool)
    mask[0, :, 3] = False
    mask[1, :, :, 0] = False  # causal hides the other keys of query 0
    output = attention(x, x, x, mask, causal)
    assert (output[0, 3] == 0).all()
    assert (output[1, 0] == 0).all() == causal
    assert (output[0, 2] != 0).all()
    inputs = [x, *attention.parameters()]
    for gradient in gradients(output, inputs):
        assert gradient.isfinite().all()


def test_a_query_without_keys_has_zero_weights_and_gradient(qkv):
    inputs = [x.requires_grad_() for x in qkv]
    mask = torch.arange(T)[:, None] != torch.tensor([3] * S)
    output, weights = scaled_dot_product_attention(*inputs, mask)
    assert (weights[..., 3, :] == 0).all()
    assert (output[..., 3, :] == 0).all()
    q_grad, k_grad, v_grad = gradients(output, inputs)
    assert (q_grad[..., 3, :] == 0).all()
    assert all(g.isfinite().all() for g in (q_grad, k_grad, v_grad))
    assert (k_grad != 0).all()


def test_no_keys_at_all_give_zeros(qkv):
    q, k, v = qkv
    output, weights = scaled_dot_product_attention(
        q, k[..., :0, :], v[..., :0, :]
    )
    assert weights.shape == (B, H, T, 0)
    assert torch.equal(output, torch.zeros(B, H, T, D_V))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [T, 67], ids=["readable", "fused"])
def test_half_precision(dtype, size):
    attention = MultiHeadAttention(D, H)
    x = torch.randn(B, size, D)
    mask = make_mask("without keys", size, size)
    expected = attention(x, x, x, mask, causal=True)
    x = x.to(dtype)
    output = attention.to(dtype)(x, x, x, mask, causal=True)
    assert output.dtype == dtype
    assert_close(output.float(), expected, rtol=0, atol=0.03)


@pytest.mark.parametrize("size", [T, 67], ids=["readable", "fused"])
def test_gradients_in_bfloat16_are_those_in_fp32_but_for_rounding(size):
    attention = MultiHeadAttention(D, H)
    x, probe = torch.randn(2, B, size, D)
    mask = make_mask("padding", size, size)

    def gradients_in(dtype):
        module = copy.deepcopy(attention).to(dtype)
        inner = x.to(dtype, copy=True).requires_grad_()
        output = module(inner, inner, inner, mask, causal=True)
        wanted = [inner, *module.parameters()]
        return torch.autograd.grad((output * probe.to(dtype)).sum(), wanted)

    names = ["x", *(name for name, _ in attention.named_parameters())]
    for name, rough, exact in zip(
        names,
        gradients_in(torch.bfloat16),
        gradients_in(torch.float32),
        strict=True,
    ):
        assert rough.dtype == torch.bfloat16
        if name != "w_k.bias":  # its gradient is 0 but for rounding
            off = (rough.float() - exact).norm() / exact.norm()
            assert 0 < off < 0.03, name


QUERY, KEY = torch.zeros(B, T, D_K), torch.zeros(B, S, D_K)
VALUE = torch.zeros(B, S, D_V)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key": KEY[..., 1:]}, "query is 11 wide and key 10: .* be equal"),
        ({"value": VALUE[:, 1:]}, "7 keys and 6 values: every key needs one"),
        (
            {"mask": torch.ones(T, S)},
            r"mask is torch\.float32: pass a torch\.bool mask, where True",
        ),
        ({"mask": torch.ones(T, S).int()}, r"mask is torch\.int32"),
        (
            {"mask": torch.ones(S, T).bool()},
            r"shape \(7, 5\): it must broadcast to .* \(2, 5, 7\)",
        ),
        ({"mask": torch.ones(3, T, S).bool()}, r"shape \(3, 5, 7\)"),
        ({"mask": torch.ones(1, B, T, S).bool()}, r"shape \(1, 2, 5, 7\)"),
        (
            {"query": QUERY.repeat(2, 1, 1)},
            r"sizes \(4,\), \(2,\), \(2,\): these must be equal, or 1",
        ),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    inputs = {"query": QUERY, "key": KEY, "value": VALUE} | changes
    with pytest.raises(UserError, match=message):
        scaled_dot_product_attention(**inputs)


@pytest.mark.parametrize("size", [T, 67], ids=["readable", "fused"])
def test_both_paths_check_the_mask(size):
    attention = MultiHeadAttention(D, H)
    x = torch.randn(B, size, D)
    with pytest.raises(UserError, match=r"torch\.float32"):
        attention(x, x, x, torch.zeros(size, size))
    with pytest.raises(UserError, match="must broadcast"):
        attention(x, x, x, torch.ones(B, size, size).bool())
    with pytest.raises(UserError, match="every key needs one value"):
        attention(x, x, x[:, 1:])
    with pytest.raises(UserError, match="one serves all"):
        attention(torch.cat([x, x]), x, x)


@pytest.mark.parametrize(("width", "heads"), [(10, 3), (8, 0), (8, -2)])
def test_heads_must_divide_the_width(width, heads):
    message = f"d_model={width} can't be split over num_heads={heads}: choose"
    with pytest.raises(UserError, match=message):
        MultiHeadAttention(width, heads)


def test_causal_needs_as_many_queries_as_keys():
    attention = MultiHeadAttention(D, H)
    x, memory = torch.randn(B, T, D), torch.randn(B, S, D)
    with pytest.raises(UserError, match="not 5 and 7: pass a mask instead"):
        attention(x, memory, memory, causal=True)
