"""Tracing: every step by name, no number changed, the first difference."""

import copy
import math
import re

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from minitransformer.attention import (
    MultiHeadAttention,
    scaled_dot_product_attention,
)
from minitransformer.errors import UserError
from minitransformer.feed_forward import FeedForward
from minitransformer.layers import DecoderLayer, EncoderLayer
from minitransformer.masks import causal_mask, padding_mask
from minitransformer.recording import recorded_attention
from minitransformer.recurrent import RecurrentConfig, RecurrentTranslator
from minitransformer.traces import Difference, Step, Trace
from minitransformer.tracing import trace

B, H, S, T, D = 2, 3, 7, 5, 12
SOURCE = torch.tensor([[5, 8, 4, 2, 0, 0, 0], [9, 22, 7, 6, 5, 11, 2]])
TARGET = torch.tensor([[1, 6, 28, 9, 7], [1, 4, 12, 13, 8]])
INSIDE = ["q", "k", "v", "scores", "weights", "heads"]


def traces_of(**steps):
    """Build a trace by hand, each step from a list of numbers."""
    made = Trace()
    for name, numbers in steps.items():
        made.steps.append(Step(name, torch.tensor(numbers)))
    return made


def is_clean(model):
    """Say whether nobody watches any part of a model."""
    return torch.backends.mha.get_fastpath_enabled() and not any(
        module._forward_hooks or "attend" in vars(module)
        for module in model.modules()
    )


def make_recurrent():
    config = RecurrentConfig(
        source_vocab_size=23, target_vocab_size=29, d_model=14
    )
    return RecurrentTranslator(config).eval()


class Loop(nn.Module):
    """Call one layer twice, overwrite, and give a nested answer."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.bend = nn.ReLU(inplace=True)
        self.unused = nn.Linear(3, 5)

    def forward(self, x):
        once = self.linear(x)
        twice = self.linear(self.bend(once))
        return {"last": twice, "all": (once, None, [twice, "word"])}


# By hand ---


def test_the_steps_of_a_feed_forward_layer():
    layer, x = FeedForward(3, 7), torch.randn(B, T, 3)
    seen = trace(layer, x)
    assert seen.names == ["linear1", "linear2", "(model)"]
    assert [step.shape for step in seen.steps] == [
        (B, T, 7),
        (B, T, 3),
        (B, T, 3),
    ]
    assert torch.equal(seen["linear1"], layer.linear1(x))
    assert torch.equal(seen["(model)"], layer(x))


def test_second_calls_and_nested_outputs_have_names():
    model, x = Loop(), torch.randn(B, 3)
    seen = trace(model, x)
    assert seen.names == [
        "linear",
        "bend",
        "linear (2)",
        "(model)[last]",
        "(model)[all][0]",
        "(model)[all][2][0]",
    ]
    # What is overwritten later was copied in time.
    assert torch.equal(seen["linear"], model.linear(x))
    assert (seen["linear"] < 0).any()
    assert torch.equal(seen["bend"], seen["linear"].relu())
    assert torch.equal(seen["linear (2)"], model.linear(seen["bend"]))


def test_the_inside_of_attention():
    attention = MultiHeadAttention(D, H)
    query, key = torch.randn(B, T, D), torch.randn(B, S, D)
    mask = padding_mask(SOURCE)
    seen = trace(attention, query, key, key, mask=mask)
    assert seen.names == ["w_k", "w_v", "w_q", *INSIDE, "w_o", "(model)"]
    shapes = {step.name: step.shape for step in seen.steps}
    assert shapes["q"] == shapes["heads"] == (B, H, T, 4)
    assert shapes["k"] == shapes["v"] == (B, H, S, 4)
    assert shapes["scores"] == shapes["weights"] == (B, H, T, S)
    assert_close(seen["scores"], seen["q"] @ seen["k"].mT / 2)
    heads, weights = scaled_dot_product_attention(
        seen["q"], seen["k"], seen["v"], mask
    )
    assert_close(seen["weights"], weights)
    assert_close(seen["heads"], heads)
    assert torch.equal(seen["q"], attention.split_heads(seen["w_q"]))
    assert torch.equal(seen["v"], attention.split_heads(seen["w_v"]))
    joined = seen["heads"].transpose(1, 2).flatten(2)
    assert_close(seen["w_o"], attention.w_o(joined))


def test_the_table():
    seen = traces_of(a=[[1.0, 4.0, 1.0]], longer_name=[-1e-9, 0.0])
    seen.steps.append(Step("ids", torch.tensor(7)))
    seen.steps.append(Step("nothing", torch.zeros(0, 3)))
    seen.steps.append(Step("bool", torch.tensor([True, False])))
    assert repr(seen).splitlines() == [
        "name         shape    mean    std",
        "a            (1, 3)  2.000  1.414",
        "longer_name  (2,)    0.000  0.000",
        "ids          ()      7.000  0.000",
        "nothing      (0, 3)    nan    nan",
        "bool         (2,)    0.500  0.500",
    ]
    assert seen._repr_markdown_().splitlines()[:4] == [
        "| name | shape | mean | std |",
        "| :-- | :-- | --: | --: |",
        "| `a` | (1, 3) | 2.000 | 1.414 |",
        "| `longer_name` | (2,) | 0.000 | 0.000 |",
    ]


def test_the_sentence_of_a_difference():
    a = traces_of(x=[1.0, 2.0], y=[3.0, 4.0], z=[5.0])
    other = traces_of(x=[1.0, 2.0], y=[3.0, 4.25], z=[5.0])
    assert repr(a.first_difference(other)) == (
        "y: values differ by up to 0.25; the step before it agrees."
    )
    other = traces_of(x=[1.0, 2.0], y=[3.0, 4.0], z=[5.0, 6.0])
    assert repr(a.first_difference(other)) == (
        "z: (1,) here, (2,) in the other; all 2 steps before it agree."
    )
    other = traces_of(y=[3.0, 4.0], z=[5.0])
    assert repr(a.first_difference(other)) == (
        "x: missing in the other; no step was compared before it."
    )
    assert repr(other.first_difference(a)) == (
        "x: missing in this trace; no step was compared before it."
    )
    other = traces_of(one=[1.0, 2.0], two=[0.0, 4.0], z=[5.0])
    found = a.first_difference(other, names={"one": "x", "two": "y"})
    assert repr(found) == (
        "y = two: values differ by up to 3; the step before it agrees."
    )
    assert found.kind == "values"
    assert (found.here, found.there) == (a.steps[1], other.steps[1])
    assert (found.largest, found.agreeing) == (3.0, 1)


# Properties: nothing is changed ---


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("length", [T, 67], ids=["readable", "fused"])
def test_watching_changes_no_number(make_model, train, length):
    model = make_model(dropout=0.3, max_len=67).train(train)
    source = torch.randint(4, 23, (B, length))
    torch.manual_seed(5)
    expected = model(source, source)
    state = torch.get_rng_state()
    torch.manual_seed(5)
    seen = trace(model, source, source)
    assert torch.equal(seen["(model)"], expected)
    assert torch.equal(torch.get_rng_state(), state)
    assert is_clean(model)
    assert all(module.training is train for module in model.modules())
    assert not any(step.value.requires_grad for step in seen.steps)
    torch.manual_seed(5)
    assert torch.equal(model(source, source), expected)
    assert all(p.grad is None for p in model.parameters())


def test_watching_keeps_hooks_and_attends_of_your_own(make_model):
    model = make_model()
    attention = model.decoder[0].self_attention

    def mine(q, k, v, mask, causal):
        return torch.ones_like(q)

    attention.attend = mine
    hook = model.encoder[0].register_forward_hook(lambda m, i, x: x + 1)
    expected = model(SOURCE, TARGET)
    seen = trace(model, SOURCE, TARGET)
    assert torch.equal(seen["(model)"], expected)
    assert (seen["decoder.0.self_attention.heads"] == 1).all()
    assert_close(seen["encoder.0"], seen["encoder.0.add_norm2"] + 1)
    assert attention.attend is mine
    assert list(model.encoder[0]._forward_hooks) == [hook.id]
    del attention.attend
    hook.remove()
    assert is_clean(model)


def test_a_model_that_raises_is_left_as_it_was(make_model):
    model = make_model()
    with pytest.raises(UserError, match="target ids run") as caught:
        trace(model, SOURCE, TARGET + 29)
    assert caught.value.__notes__ == [
        "The last step that went well is encoder_norm, (2, 7, 12)."
    ]
    assert is_clean(model)
    with pytest.raises(UserError, match="source ids run") as caught:
        trace(model, SOURCE + 23, TARGET)
    assert not hasattr(caught.value, "__notes__")
    model.decoder[1].cross_attention.attend = None
    with pytest.raises(TypeError) as caught:
        trace(model, SOURCE, TARGET)
    assert "decoder.1.cross_attention.v, (2, 3, 7, 4)" in str(
        caught.value.__notes__
    )
    assert vars(model.decoder[1].cross_attention).pop("attend") is None
    assert is_clean(model)


def test_traces_and_recordings_may_be_nested(make_model):
    model = make_model()
    with recorded_attention(model) as maps:
        seen = trace(model, SOURCE, TARGET)
        assert len(maps) == 6
        for name, weights in maps.items():
            assert torch.equal(seen[f"{name}.weights"], weights)
        kept = dict(maps)
        maps.clear()
        model(SOURCE, TARGET)
        assert kept.keys() == maps.keys()
    assert is_clean(model)

    class Around(nn.Module):
        """A model that records and traces itself."""

        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, source, target):
            with recorded_attention(self) as self.maps:
                self.seen = trace(self.model, source, target)
            return self.seen["(model)"]

    around = Around()
    outer = trace(around, SOURCE, TARGET)
    assert len(around.maps) == 6
    assert around.seen.names[0] == "source_embedding"
    for step in around.seen.steps[:-1]:
        assert torch.equal(outer[f"model.{step.name}"], step.value)
    assert torch.equal(outer["model"], outer["(model)"])
    assert is_clean(around)


# Parity: the values are those the model works with ---


def test_a_transformer_can_be_recomputed_from_its_trace(make_model):
    model = make_model()
    seen = trace(model, SOURCE, TARGET)
    mask = padding_mask(SOURCE)
    x = seen["dropout"]
    assert_close(model.encoder[0](x, mask), seen["encoder.0"])
    assert_close(model.encoder[1](seen["encoder.0"], mask), seen["encoder.1"])
    memory = seen["encoder_norm"]
    assert_close(memory, model.encode(SOURCE))
    x = seen["dropout (2)"]
    assert_close(model.decoder[0](x, memory, mask), seen["decoder.0"])
    layer = model.decoder[1]
    x = layer.add_norm1.norm(seen["decoder.0"])
    output = layer.self_attention(x, x, x, causal=True)
    assert_close(output, seen["decoder.1.self_attention"])
    hidden = seen["decoder.1.self_attention.weights"][..., ~causal_mask(T)]
    assert (hidden == 0).all()
    scores = seen["decoder.1.self_attention.scores"]
    assert scores.isfinite().all()
    assert torch.equal(seen["output"], seen["(model)"])
    assert_close(seen["output"], model(SOURCE, TARGET))


@pytest.mark.parametrize("norm_first", [False, True])
def test_single_layers(norm_first):
    x, memory = torch.randn(B, T, D), torch.randn(B, S, D)
    encoder = EncoderLayer(D, H, 17, norm_first=norm_first).eval()
    decoder = DecoderLayer(D, H, 17, norm_first=norm_first).eval()
    for layer, inputs in ((encoder, [x]), (decoder, [x, memory])):
        seen = trace(layer, *inputs)
        assert torch.equal(seen["(model)"], layer(*inputs))
        assert set(INSIDE) <= {
            name.removeprefix("self_attention.") for name in seen.names
        }
        first = seen.names.index("add_norm1.norm")
        assert (first < seen.names.index("self_attention")) is norm_first


def test_a_sentence_alone():
    attention, x = MultiHeadAttention(D, H), torch.randn(T, D)
    seen = trace(attention, x, x, x, causal=True)
    assert seen["weights"].shape == (H, T, T)
    assert_close(seen["weights"].sum(-1), torch.ones(H, T))


def test_a_recurrent_translator():
    model = make_recurrent()
    seen = trace(model, SOURCE, TARGET)
    assert torch.equal(seen["(model)"], model(SOURCE, TARGET))
    assert seen["encoder[0][0]"].shape == (4 + 7, 14)  # packed
    assert seen["encoder[1]"].shape == (2, B, 7)
    states = ["decoder", *(f"decoder ({t})" for t in range(2, T + 1))]
    assert [n for n in seen.names if n.startswith("decoder")] == states
    key = seen["score.w_k"]
    hidden = (seen["score.w_q (2)"][:, :, None] + key[:, None]).tanh()
    assert_close(model.score.w(hidden), seen["score.w (2)"])
    assert is_clean(model)


def test_torchs_own_transformer_shows_its_submodules():
    model = nn.Transformer(D, 2, 2, 2, 17, batch_first=True).eval()
    source, target = torch.randn(B, S, D), torch.randn(B, T, D)
    mask = ~causal_mask(T)
    with torch.no_grad():
        expected = model(source, target, tgt_mask=mask)
        seen = trace(model, source, target, tgt_mask=mask)
        layer = model.encoder.layers[0]
        alone = trace(layer, source)
    assert_close(seen["(model)"], expected)
    called = {
        name
        for name, module in model.named_modules()
        if name
        and not isinstance(module, nn.ModuleList)
        # Its weights are used, but it is never called.
        and not name.endswith("out_proj")
    }
    # Attention returns a pair, whose second part is None.
    assert {n.removesuffix("[0]") for n in seen.names} == {"(model)", *called}
    output, _ = layer.self_attn(source, source, source, need_weights=False)
    assert_close(seen["encoder.layers.0.self_attn[0]"], output)
    assert_close(alone["linear1"], seen["encoder.layers.0.linear1"])
    assert is_clean(model)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_the_shortcut_past_the_submodules_is_closed():
    layer = nn.TransformerEncoderLayer(D, 2, 17, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2).eval()
    x = torch.randn(B, S, D)
    with torch.no_grad():
        expected = encoder(x, src_key_padding_mask=SOURCE == 0)
        seen = trace(encoder, x, src_key_padding_mask=SOURCE == 0)
    assert "layers.1.linear2" in seen.names
    assert seen["layers.0"].shape == (B, S, D)  # not packed without padding
    real = SOURCE != 0
    assert_close(seen["(model)"][real], expected[real])


@pytest.mark.parametrize("enabled", [False, True])
def test_the_shortcut_is_left_as_it_was(enabled):
    torch.backends.mha.set_fastpath_enabled(enabled)
    try:
        trace(nn.Linear(2, 3), torch.ones(2))
        assert torch.backends.mha.get_fastpath_enabled() is enabled
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


# The first difference ---


def test_copied_weights_agree(make_model):
    model = make_model()
    twin = make_model()
    for parameter in twin.parameters():
        nn.init.normal_(parameter)
    ours = trace(model, SOURCE, TARGET)
    assert ours.first_difference(trace(twin, SOURCE, TARGET)) is not None
    twin.load_state_dict(model.state_dict())
    assert ours.first_difference(trace(twin, SOURCE, TARGET), 0) is None
    assert repr(ours) == repr(trace(twin, SOURCE, TARGET))
    double = copy.deepcopy(model).double()
    assert ours.first_difference(trace(double, SOURCE, TARGET)) is None


@pytest.mark.parametrize(
    "parameter",
    [
        "encoder.0.self_attention.w_v.weight",
        "encoder.1.feed_forward.linear2.bias",
        "encoder_norm.bias",
        "target_embedding.weight",
        "decoder.0.cross_attention.w_o.weight",
        "decoder.1.add_norm3.norm.weight",
    ],
)
def test_a_changed_weight_is_found(make_model, parameter):
    model, other = make_model(), make_model()
    with torch.no_grad():
        changed = other.get_parameter(parameter)
        changed.view(len(changed), -1)[1:, 0] += 0.5
    ours = trace(model, SOURCE, TARGET)
    found = ours.first_difference(trace(other, SOURCE, TARGET))
    module = parameter.rpartition(".")[0]
    assert (found.kind, found.here.name) == ("values", module)
    assert found.agreeing == ours.names.index(module)
    gap = (found.here.value - found.there.value).abs().max()
    assert found.largest == pytest.approx(gap.item(), rel=1e-5)


def test_faults_in_attention_are_told_apart(make_model):
    model, other = make_model(), make_model()
    ours = trace(model, SOURCE, TARGET)
    place = "decoder.1.self_attention"
    attention = other.decoder[1].self_attention
    right = attention.attend

    def uncausal(q, k, v, mask, causal):
        return right(q, k, v, mask, False)

    def unscaled(q, k, v, mask, causal):
        return right(2 * q, k, v, mask, causal)

    for wrong in (uncausal, unscaled):
        attention.attend = wrong
        found = ours.first_difference(trace(other, SOURCE, TARGET))
        assert found.here.name == f"{place}.heads"
    del attention.attend
    forward = attention.from_keys_values
    attention.from_keys_values = lambda q, k, v, mask, causal: forward(
        q, k, v, mask, False
    )
    found = ours.first_difference(trace(other, SOURCE, TARGET))
    assert found.here.name == f"{place}.weights"  # a mask; scores agree
    attention.from_keys_values = forward
    attention.split_heads = lambda x: x.view(B, H, -1, 4)  # a usual mistake
    found = ours.first_difference(trace(other, SOURCE, TARGET))
    assert found.here.name == f"{place}.q"


def test_other_sizes_and_layers(make_model):
    model, wide = make_model(), make_model(d_ff=19)
    weights = {
        name: value
        for name, value in model.state_dict().items()
        if "linear" not in name
    }
    wide.load_state_dict(weights, strict=False)
    ours = trace(model, SOURCE, TARGET)
    found = ours.first_difference(trace(wide, SOURCE, TARGET))
    assert found.kind == "shape"
    assert found.here.name == "encoder.0.feed_forward.linear1"
    assert (found.here.shape, found.there.shape) == ((2, 7, 17), (2, 7, 19))
    small, large = make_model(), make_model(num_decoder_layers=3)
    large.load_state_dict(small.state_dict(), strict=False)
    with_three = trace(large, SOURCE, TARGET)
    found = ours.first_difference(with_three)
    assert (found.kind, found.here) == ("missing", None)
    assert found.there.name == "decoder.2.add_norm1.norm"
    assert found.agreeing == ours.names.index("decoder_norm")
    found = with_three.first_difference(ours)
    assert (found.here.name, found.there) == ("decoder.2.add_norm1.norm", None)
    found = ours.first_difference(with_three, skip_missing=True)
    assert (found.kind, found.here.name) == ("values", "decoder_norm")
    shorter = trace(make_model(), SOURCE[:1, :3], TARGET[:1])
    assert ours.first_difference(shorter).kind == "shape"


class Mine(nn.Module):
    """An encoder layer by a learner: other names, other cuts."""

    def __init__(self, layer):
        super().__init__()
        self.attn = nn.ModuleDict(
            {
                letter: getattr(layer.self_attention, f"w_{letter}")
                for letter in "qkvo"
            }
        )
        self.norms = nn.ModuleList(
            [layer.add_norm1.norm, layer.add_norm2.norm]
        )
        self.net = nn.Sequential(
            layer.feed_forward.linear1, nn.ReLU(), layer.feed_forward.linear2
        )
        self.forgets_to_scale = False

    def forward(self, x):
        q, k, v = (
            self.attn[w](x).unflatten(-1, (H, -1)).transpose(1, 2)
            for w in "qkv"
        )
        scores = q @ k.mT
        if not self.forgets_to_scale:
            scores = scores / math.sqrt(q.shape[-1])
        heads = scores.softmax(-1) @ v
        x = x + self.attn["o"](heads.transpose(1, 2).flatten(2))
        x = self.norms[0](x)
        return self.norms[1](x + self.net(x))


def test_a_model_with_names_of_its_own():
    layer, x = EncoderLayer(D, H, 17).eval(), torch.randn(B, T, D)
    mine = Mine(layer)
    names = {f"attn.{w}": f"self_attention.w_{w}" for w in "qkvo"}
    names |= {f"norms.{i}": f"add_norm{i + 1}.norm" for i in (0, 1)}
    names |= {"net": "feed_forward"}
    names |= {"net.0": "feed_forward.linear1", "net.2": "feed_forward.linear2"}
    ours = trace(layer, x)
    assert ours.first_difference(trace(mine, x)).kind == "missing"
    found = ours.first_difference(trace(mine, x), names=names)
    assert found.here.name == "self_attention.q"
    assert found.there is None
    theirs = trace(mine, x)
    assert ours.first_difference(theirs, 1e-5, names, True) is None
    mine.forgets_to_scale = True
    theirs = trace(mine, x)
    found = ours.first_difference(theirs, names=names, skip_missing=True)
    assert found.here.name == "self_attention.w_o"
    assert found.there.name == "attn.o"
    assert found.agreeing == 3
    assert repr(found).startswith("self_attention.w_o = attn.o: values")


def test_names_stand_for_whole_modules():
    ours = traces_of(**{"a.x": [1.0], "a.y": [2.0], "cd": [3.0]})
    theirs = traces_of(**{"c.x": [1.0], "c.z": [2.0], "cd": [3.0]})
    names = {"c": "a", "c.z": "a.y"}  # the longer name goes first
    assert ours.first_difference(theirs, names=names) is None
    found = ours.first_difference(theirs, names={"c": "a"})
    assert (found.here.name, found.there) == ("a.y", None)
    swapped = traces_of(**{"a.y": [1.0], "a.x": [2.0], "cd": [3.0]})
    both = {"a.x": "a.y", "a.y": "a.x"}
    assert ours.first_difference(swapped) is not None
    assert ours.first_difference(swapped, names=both) is None


def test_order_alone_is_no_difference():
    ours = traces_of(a=[1.0], b=[2.0], c=[3.0])
    assert ours.first_difference(traces_of(b=[2.0], c=[3.0], a=[1.0])) is None
    found = ours.first_difference(traces_of(b=[0.0], c=[0.0], a=[1.0]))
    assert (found.here.name, found.agreeing) == ("b", 1)


@pytest.mark.parametrize("where", range(4))
def test_a_step_too_many_is_found_where_it_is(where):
    names = ["a", "b", "c"]
    ours = traces_of(**{name: [1.0] for name in names})
    names.insert(where, "extra")
    theirs = traces_of(**{name: [1.0] for name in names})
    found = ours.first_difference(theirs)
    assert (found.here, found.there.name) == (None, "extra")
    assert found.agreeing == where
    found = theirs.first_difference(ours)
    assert (found.here.name, found.there) == ("extra", None)
    assert found.agreeing == where
    assert ours.first_difference(theirs, skip_missing=True) is None


def test_the_tolerance_is_a_share_of_the_largest_number():
    small, large = traces_of(x=[0.0, 0.5]), traces_of(x=[0.0, 500.0])
    assert small.first_difference(traces_of(x=[0.02, 0.5]), 0.01)
    assert not small.first_difference(traces_of(x=[0.009, 0.5]), 0.01)
    assert not large.first_difference(traces_of(x=[4.0, 500.0]), 0.01)
    assert large.first_difference(traces_of(x=[6.0, 500.0]), 0.01)
    infinite = traces_of(x=[0.0, math.inf, -math.inf, math.nan])
    assert infinite.first_difference(infinite, 0.0) is None
    other = traces_of(x=[0.1, math.inf, -math.inf, math.nan])
    assert infinite.first_difference(other).largest == pytest.approx(0.1)
    other = traces_of(x=[0.0, math.inf, math.inf, math.nan])
    assert infinite.first_difference(other).largest == math.inf
    masked, other = (
        traces_of(x=[0.0, -math.inf]),
        traces_of(x=[1.0, -math.inf]),
    )
    assert masked.first_difference(other).largest == 1
    nan, one = traces_of(x=[math.nan]), traces_of(x=[1.0])
    assert nan.first_difference(one).largest == math.inf
    assert one.first_difference(nan).largest == math.inf
    wide, tall = traces_of(x=[[1.0, 2.0]]), traces_of(x=[[1.0], [2.0]])
    assert wide.first_difference(tall).kind == "shape"
    empty = traces_of(x=[])
    assert empty.first_difference(empty) is None
    ids, others = traces_of(x=[3, 5]), traces_of(x=[3, 6])
    assert ids.first_difference(others).largest == 1


# Edges ---


def test_a_model_that_gives_no_tensor():
    class Silent(nn.Module):
        def forward(self):
            return "nothing"

    seen = trace(Silent())
    assert seen.names == []
    assert repr(seen) == "name  shape  mean  std"
    with pytest.raises(UserError, match="no step in common"):
        seen.first_difference(seen)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: a["decoder.0.w_k"], "'decoder.0.w_k': did you mean"),
        (lambda a: a["zzz"], "no step 'zzz': see names"),
        (lambda a: a.first_difference({}), "not a dict"),
        (lambda a: a.first_difference(a, -1.0), "tolerance=-1.0 must be 0"),
        (lambda a: a.first_difference(a, math.nan), "tolerance=nan"),
        (
            lambda a: a.first_difference(a, names={"decoder.1": "norm"}),
            "no step 'decoder.1'",
        ),
        (
            lambda a: a.first_difference(a, names={"norm": "norms"}),
            "no step 'norms': did you mean 'norm'",
        ),
        (
            lambda a: a.first_difference(a, names={"norm": "decoder.0.w_q"}),
            "names= calls two steps 'decoder.0.w_q': 'decoder.0.w_q' and",
        ),
        (
            lambda a: a.first_difference(traces_of(b=[1]), skip_missing=True),
            "no step in common",
        ),
        (lambda a: trace(torch.ones(2), a), "nn.Module, not a Tensor"),
        (lambda a: trace(nn.Linear, a), "not a type"),
    ],
)
def test_wrong_uses_are_explained(call, message):
    seen = traces_of(**{"decoder.0.w_q": [1.0], "norm": [2.0]})
    with pytest.raises(UserError, match=message) as caught:
        call(seen)
    assert re.fullmatch(r".*[^.] ?[.?]", str(caught.value))
    assert ". " not in str(caught.value)  # one sentence


def test_a_difference_is_true():
    assert Difference("missing", None, Step("x", torch.ones(2)), 0.0, 0)
