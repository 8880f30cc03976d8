"""The packed decoder: each step is the model's own."""

from unittest.mock import Mock

import pytest
import torch
from torch.testing import assert_close
from torch_layers import shake

from minitransformer import onednn, packed_decoder
from minitransformer.decoding import beam_search, greedy_decode
from minitransformer.errors import UserError
from minitransformer.packed_decoder import (
    PackedDecoder,
    fast_start,
    fast_step,
    lay_out,
    pack,
)
from minitransformer.recording import recorded_attention
from minitransformer.sampling import sample

# Sizes as in conftest.make_model: 12 wide, 3 heads
V_TARGET, MAX_LEN = 29, 31
SOURCE = torch.tensor(
    [[5, 8, 4, 2, 0, 0, 0], [9, 22, 7, 6, 5, 11, 2], [13, 2, 0, 0, 0, 0, 0]]
)
NORMS = pytest.mark.parametrize("norm_first", [False, True])


@pytest.fixture
def exact_model(make_model):
    """Build the small model in float64, with no weight at 0 or 1."""

    def make(**changes):
        model = make_model(**changes).double().eval()
        shake(model)
        return model

    return make


def test_packing_by_hand():
    linears = [torch.nn.Linear(2, 1) for _ in range(2)]
    with torch.no_grad():
        for linear, row, bias in zip(
            linears, ([1.0, 2.0], [3.0, 5.0]), (7.0, 11.0), strict=True
        ):
            linear.weight.copy_(torch.tensor([row]))
            linear.bias.fill_(bias)
    packed = pack(*linears, scale=0.5)
    x = torch.tensor([[1.0, 10.0]])
    # half of 1 + 20 + 7; all of 3 + 50 + 11
    assert packed(x).tolist() == [[14.0, 64.0]]


def test_layers_without_a_bias_are_packed(exact_model):
    model = exact_model()
    for layer in model.decoder:
        for linear in layer.modules():
            if isinstance(linear, torch.nn.Linear):
                linear.bias = None
    state, same = (model.start(SOURCE) for _ in range(2))
    step = fast_step(model, state)
    assert step != model.step
    tokens = torch.tensor([3, 9, 17])
    assert_close(step(tokens, state), model.step(tokens, same))


@NORMS
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
@pytest.mark.parametrize("rows", [[1], [0, 1, 2]], ids=["alone", "padded"])
def test_a_step_is_the_models(exact_model, norm_first, positions, rows):
    model = exact_model(norm_first=norm_first, positions=positions)
    with torch.no_grad():
        mine, theirs = model.start(SOURCE[rows]), model.start(SOURCE[rows])
        step = fast_step(model, mine)
        # three beams each, then swapped, then fewer
        first = torch.arange(len(rows))[:, None].repeat(1, 3)
        second = first * 3 + torch.tensor([2, 0, 0])
        last = torch.tensor([[1, 0]])
        for index in (first, second, last):
            mine.reorder(index)
            theirs.reorder(index)
            tokens = torch.randint(4, V_TARGET, (index.numel(),))
            assert_close(step(tokens, mine), model.step(tokens, theirs))
        for one, other in zip(mine.layers, theirs.layers, strict=True):
            assert_close(one.past, other.past)
    assert isinstance(step.__self__, PackedDecoder)


def decoded(model):
    """Return logits of two steps, and what each search finds."""
    with torch.no_grad():
        state, step = fast_start(model, SOURCE)
        logits = [step(torch.tensor([3, 9, 17]), state) for _ in range(2)]
    return torch.stack(logits), (
        greedy_decode(model, SOURCE),
        [[h.ids for h in each] for each in beam_search(model, SOURCE, 3)],
        [[h.ids for h in each] for each in sample(model, SOURCE, 3)],
    )


@pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"),
    reason="this torch has no such product",
)
@pytest.mark.parametrize("laid_out", [False, True])
@pytest.mark.usefixtures("usual_products")
def test_searches_by_onednn_find_the_same(make_model, monkeypatch, laid_out):
    model = make_model().eval()
    shake(model)
    products = Mock(wraps=onednn.linear)
    for module in (onednn, packed_decoder):
        monkeypatch.setattr(module, "linear", products)
        monkeypatch.setattr(module, "mkl_is_slow", lambda: False)
    monkeypatch.setattr(onednn, "LEAST", 1)
    logits, found = decoded(model)
    products.assert_not_called()
    for module in (onednn, packed_decoder):
        monkeypatch.setattr(module, "mkl_is_slow", lambda: True)
    if laid_out:
        lay_out(model)
    again, found_again = decoded(model)
    assert products.call_count > 100
    assert_close(again, logits)
    assert found_again == found


def test_rows_lie_together_where_mkl_is_slow(make_model, monkeypatch):
    model = make_model(tie_embeddings=True)
    before = {name: each.clone() for name, each in model.named_parameters()}
    for slow in (False, True):
        monkeypatch.setattr(
            packed_decoder, "mkl_is_slow", lambda slow=slow: slow
        )
        lay_out(model)
        for part in (model.output, model.decoder[1].feed_forward.linear1):
            assert part.weight.T.is_contiguous() == slow
        assert model.encoder[0].self_attention.w_q.weight.is_contiguous()
        assert model.output.weight is model.target_embedding.weight
        assert_close(dict(model.named_parameters()), before)


def test_the_weights_stay_as_they_are(exact_model):
    model = exact_model()
    before = [parameter.clone() for parameter in model.parameters()]
    with torch.no_grad():
        state = model.start(SOURCE)
        fast_step(model, state)(torch.tensor([5, 6, 7]), state)
    assert_close(list(model.parameters()), before)


def test_dropout_and_an_empty_source_take_the_long_way(exact_model):
    model = exact_model()
    state = model.start(SOURCE)
    assert fast_step(model, state) != model.step
    assert fast_step(model.train(), state) == model.step
    state = model.eval().start(torch.tensor([[0, 0], [5, 2]]))
    assert fast_step(model, state) == model.step


def test_a_step_of_its_own_is_taken(exact_model):
    model = exact_model()
    state = model.start(SOURCE)
    model.step = lambda tokens, state: torch.eye(V_TARGET)[tokens * 0 + 7]
    assert fast_step(model, state) == model.step

    class Stubborn(type(model)):
        def step(self, tokens, state):
            return torch.eye(V_TARGET)[tokens * 0 + 7]

    stubborn = Stubborn(model.config).eval()
    found = greedy_decode(stubborn, SOURCE, max_len=3)
    assert found == [[7, 7, 7]] * 3


def still_training(model):
    model.decoder[1].train()


def biased(model):
    model.output.bias = torch.nn.Parameter(torch.randn(V_TARGET).double())


def hook(model):
    return model.decoder[0].register_forward_hook(lambda *_: None)


def before_hook(model):
    linear = model.decoder[1].feed_forward.linear2
    return linear.register_forward_pre_hook(lambda *_: None)


def replaced(model):
    model.output.forward = model.output.forward


def another_kind(model):
    class Wider(torch.nn.Linear):
        pass

    model.decoder[0].cross_attention.w_v = Wider(12, 12)


@pytest.mark.parametrize(
    "change",
    [hook, before_hook, replaced, another_kind, still_training, biased],
)
def test_what_was_changed_is_called(exact_model, change):
    model = exact_model()
    state = model.start(SOURCE)
    change(model)
    assert fast_step(model, state) == model.step


def test_recording_sees_each_step(exact_model):
    model = exact_model()
    with recorded_attention(model) as maps:
        greedy_decode(model, SOURCE, max_len=3)
    assert maps["decoder.0.cross_attention"].shape[-1] == SOURCE.shape[1]
    state = model.start(SOURCE)
    assert fast_step(model, state) != model.step


def test_bad_ids_and_lengths_are_named(exact_model):
    model = exact_model()
    state = model.start(SOURCE[:1])
    step = fast_step(model, state)
    with pytest.raises(UserError, match="vocabulary has ids 0 to 28"):
        step(torch.tensor([29]), state)
    state.position = MAX_LEN
    with pytest.raises(UserError, match="max_len=31"):
        step(torch.tensor([5]), state)
