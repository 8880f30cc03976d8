"""Heads are named, described, silenced and steered."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from minitransformer import MultiHeadAttention, Transformer, TransformerConfig
from minitransformer.decoding import greedy_decode
from minitransformer.errors import UserError
from minitransformer.heads import (
    even,
    heads_of,
    map_distances,
    map_shares,
    on_words,
    pruned,
    rewritten,
)
from minitransformer.recording import recorded_attention, wrapped_attend


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = TransformerConfig(
        source_vocab_size=20,
        d_model=12,
        num_heads=3,
        num_encoder_layers=1,
        num_decoder_layers=2,
        d_ff=16,
        max_len=16,
    )
    return Transformer(config).eval()


SOURCE = torch.tensor([[4, 5, 6, 2], [7, 8, 2, 0]])
TARGET = torch.tensor([[1, 9, 10], [1, 11, 12]])


def test_every_head_has_a_name(model):
    heads = heads_of(model)
    assert len(heads) == 5 * 3
    assert heads[0] == ("encoder.0.self_attention", 0)
    assert heads[-1] == ("decoder.1.cross_attention", 2)


def test_a_silent_head_adds_nothing():
    torch.manual_seed(0)
    attention = MultiHeadAttention(6, 3)
    holder = nn.ModuleDict({"mine": attention})
    x = torch.randn(1, 4, 6)
    usual = attention(x, x, x)

    def without(head):
        def wrap(before):
            def attend(*arguments):
                output = before(*arguments).clone()  # (B, H, T, d_k)
                output[:, head] = 0
                return output

            return attend

        return wrapped_attend(attention, wrap)

    for head in range(3):
        with pruned(holder, [("mine", head)]):
            silent = attention(x, x, x)
        with without(head):
            assert_close(silent, attention(x, x, x))
        assert not torch.allclose(silent, usual)
    assert torch.equal(attention(x, x, x), usual)  # all are back


def test_weights_come_back_after_an_error(model):
    before = model.decoder[0].cross_attention.w_o.weight.clone()
    with (
        pytest.raises(RuntimeError),
        pruned(model, [("decoder.0.cross_attention", 1)]),
    ):
        raise RuntimeError
    assert torch.equal(model.decoder[0].cross_attention.w_o.weight, before)


def test_decoding_goes_without_silent_heads(model):
    cross = [head for head in heads_of(model) if "cross" in head[0]]
    with pruned(model, cross):
        one = greedy_decode(model, SOURCE[:1], 6)
        two = greedy_decode(model, SOURCE[1:], 6)
    assert one == two  # the source is not looked at any more


@pytest.mark.parametrize("change", [pruned, rewritten])
@pytest.mark.parametrize("head", [("nowhere", 0), ("mine", 2), ("mine", -1)])
def test_an_unknown_head_is_refused(change, head):
    holder = nn.ModuleDict({"mine": MultiHeadAttention(4, 2)})
    heads = [head] if change is pruned else {head: even}
    with (
        pytest.raises(UserError, match="heads_of"),
        change(holder, heads),
    ):
        pass


def test_weights_rewritten_as_they_were_change_nothing(model):
    usual = model(SOURCE, TARGET)
    with rewritten(model, dict.fromkeys(heads_of(model), lambda w: w)):
        assert_close(model(SOURCE, TARGET), usual)
    assert torch.equal(model(SOURCE, TARGET), usual)


def test_rewritten_weights_are_used(model):
    name, head = "decoder.1.cross_attention", 1
    seen = {}

    def keep(weights):
        seen["before"] = weights
        seen["after"] = even(weights)
        return seen["after"]

    usual = model(SOURCE, TARGET)
    with rewritten(model, {(name, head): keep}):
        moved = model(SOURCE, TARGET)
    assert not torch.allclose(moved, usual)
    with recorded_attention(model) as maps:
        model(SOURCE, TARGET)
    assert_close(seen["before"], maps[name][:, head])
    assert_close(seen["after"][0], torch.full((3, 4), 0.25))
    assert_close(seen["after"][1], torch.tensor([[1, 1, 1, 0]] * 3) / 3)


def test_without_a_mask_everything_may_be_looked_at():
    torch.manual_seed(0)
    attention = MultiHeadAttention(4, 1)
    x = torch.randn(1, 3, 4)
    with rewritten(nn.ModuleDict({"mine": attention}), {("mine", 0): even}):
        found = attention(x, x, x)
    value = attention.w_v(x).mean(1, keepdim=True)
    assert_close(found, attention.w_o(value).expand(1, 3, 4))


def test_a_sentence_alone_is_rewritten_as_one_of_a_batch():
    torch.manual_seed(0)
    attention = MultiHeadAttention(4, 2)
    x = torch.randn(1, 3, 4)
    with rewritten(nn.ModuleDict({"mine": attention}), {("mine", 1): even}):
        batch = attention(x, x, x, causal=True)
        alone = attention(x[0], x[0], x[0], causal=True)
    assert_close(alone, batch[0])


def test_changes_may_be_nested(model):
    cross = "decoder.1.cross_attention"
    with rewritten(model, {(cross, 0): even}):
        once = model(SOURCE, TARGET)
        with rewritten(model, {(cross, 0): lambda w: w}):
            inner = model(SOURCE, TARGET)
        assert torch.equal(model(SOURCE, TARGET), once)
    assert_close(inner, model(SOURCE, TARGET))


def test_even_keeps_to_the_mask():
    weights = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.0, 0.0]])
    assert_close(even(weights), torch.tensor([[0.5, 0.5, 0], [0, 0, 0]]))


def test_shares_of_maps_made_by_hand():
    T = 4
    own, before = torch.eye(T), torch.eye(T).roll(-1, dims=1)
    before[0] = own[0]
    before[1:] = torch.eye(T)[:-1]
    found = map_shares(torch.stack([own, before, torch.full((T, T), 1 / T)]))
    assert_close(found["own"], torch.tensor([1, 0.25, 0.25]))
    assert_close(found["previous"], torch.tensor([0, 1, 0.25]))
    assert_close(found["next"], torch.tensor([0, 0, 0.25]))
    assert_close(found["first"], torch.tensor([0.25, 0.5, 0.25]))
    assert_close(found["last"], torch.tensor([0.25, 0, 0.25]))
    assert_close(found["distance"], torch.tensor([0, 0.75, 1.25]))
    entropy = torch.tensor([0, 0, torch.tensor(4.0).log()])
    assert_close(found["entropy"], entropy, atol=1e-6, rtol=0)


def test_one_token_has_no_neighbour():
    found = map_shares(torch.ones(2, 1, 1))
    assert_close(found["previous"], torch.zeros(2))
    assert_close(found["own"], torch.ones(2))


def test_cross_attention_has_no_diagonal():
    found = map_shares(torch.full((2, 3, 4), 0.25))
    assert set(found) == {"first", "last", "entropy"}


def test_distances_are_symmetric_and_bounded():
    torch.manual_seed(0)
    found = map_distances(torch.randn(4, 5, 6).softmax(-1))
    assert_close(found, found.T)
    assert torch.equal(found.diagonal(), torch.zeros(4))
    assert ((found >= 0) & (found <= 1)).all()


def test_tokens_of_a_word_are_added_up():
    weights = torch.tensor([[0.1, 0.4, 0.25, 0.25], [0.4, 0.3, 0.2, 0.1]])
    found = on_words(weights, [0, 1, 1])  # the last column is EOS
    assert_close(found, torch.tensor([[0.1, 0.65], [0.4, 0.5]]))


@pytest.mark.parametrize("key_words", [[], [0, 1, 2, 3, 4]])
def test_words_of_another_sentence_are_refused(key_words):
    with pytest.raises(UserError, match="this very sentence"):
        on_words(torch.full((4,), 0.25), key_words)
