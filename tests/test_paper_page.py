"""The page "From paper to code": whole, and true of ours and of torch.

Every choice on the page has a test here that is named after it, which asserts
what the page says of our code and of `torch.nn`. What it says of the paper
and of other libraries was read there.
"""

import copy
import inspect
import json
import math
import re
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from minitransformer import (
    AddNorm,
    DecoderLayer,
    EncoderLayer,
    LayerNorm,
    MultiHeadAttention,
    SelfAttention,
    Transformer,
    TransformerConfig,
    beam_search,
    causal_mask,
    layer_norm,
    scaled_dot_product_attention,
    sinusoidal_positions,
)
from minitransformer.config import BOS_ID, EOS_ID, PAD_ID
from minitransformer.data import Example, bucketed, make_batch
from minitransformer.decoding import length_divisor, length_limit
from minitransformer.feed_forward import FeedForward
from minitransformer.loss import smoothed_cross_entropy
from minitransformer.masks import to_blocked
from minitransformer.recipes import RECIPES
from minitransformer.training import (
    Trainer,
    TrainingOptions,
    rate_at,
    translation_loss,
)
from tools import paper_page

ENTRIES = paper_page.read_entries()
LEADS = ("Paper", "Others", "Ours", "Effect")
SIZES = dict(
    source_vocab_size=30,
    d_model=16,
    num_heads=2,
    num_encoder_layers=2,
    num_decoder_layers=2,
    d_ff=32,
)
SOURCE = torch.tensor([[5, 6, 7, 2], [8, 9, 2, 0]])
TARGET = torch.tensor([[1, 4, 5], [1, 6, 0]])


def build(**changes):
    """Make a small model that drops nothing."""
    torch.manual_seed(0)
    return Transformer(TransformerConfig(**SIZES | changes)).eval()


def result():
    path = paper_page.RESULTS / "paper_choices.json"
    return json.loads(path.read_text(encoding="utf-8"))


def torchs(**changes):
    """Make torch's own Transformer; it warns when it can't be quickest."""
    sizes = dict(
        d_model=8,
        nhead=2,
        num_encoder_layers=1,
        num_decoder_layers=1,
        dim_feedforward=8,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return nn.Transformer(**sizes | changes, batch_first=True)


def attentions(module, kind=MultiHeadAttention):
    return [each for each in module.modules() if isinstance(each, kind)]


def linear_stds(module):
    """Return each matrix's deviation as a multiple of Glorot's."""
    return {
        name: part.weight.std().item() / glorot(*part.weight.shape)
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear)
    }


def glorot(d_out, d_in):
    return math.sqrt(2 / (d_in + d_out))


# The page ---


def test_the_page_says_what_its_list_and_its_file_say():
    page, figures = paper_page.render()
    text = (paper_page.BOOK / "paper_to_code.md").read_text(encoding="utf-8")
    assert page == text, "run tools/paper_page.py"
    for name, svg in figures.items():
        assert svg.count("<path") > 20
        path = paper_page.FIGURES / f"{name}.svg"
        assert svg == path.read_text(encoding="utf-8")


def test_every_choice_has_its_four_lines():
    page, _ = paper_page.render()
    sections = re.split(r"^### ", page, flags=re.MULTILINE)[1:]
    titles = [section.split("\n")[0] for section in sections]
    assert titles == [entry["title"] for entry in ENTRIES]
    assert len(set(titles)) == len(titles)
    for section in sections:
        lines = re.findall(r"^- \*\*(\w+)[.:]+\*\* (.*)$", section, re.M)
        assert tuple(lead for lead, _ in lines) == LEADS
        assert all(len(said) >= 5 for _, said in lines)


def test_the_contents_lead_to_every_choice():
    page, _ = paper_page.render()
    links = re.findall(r"\]\(#([^)]+)\)", page.split("## ")[0])
    assert links == [paper_page.slug(entry["title"]) for entry in ENTRIES]


def test_every_measured_number_is_on_the_page_once():
    page, _ = paper_page.render()
    effects, longer = result()["effects"], result()["longer"]["effects"]
    said = [name for entry in ENTRIES for name in entry.get("choices", ())]
    assert sorted(said) == sorted(effects)
    _, parts = page.split("\n## Embedding")
    for name, effect in effects.items():
        (line,) = re.findall(rf"\*{re.escape(name)}\*: ([^;*]*)", parts)
        assert ("trained longer" in line) == (name in longer)
        numbers = [float(x.replace("−", "-")) for x in find_numbers(line)]
        found = [
            each[score][end]
            for each in (effect, longer.get(name, {}))
            for score in ("valid_loss", "bleu")
            if score in each
            for end in ("mean", "low", "high")
        ]
        assert numbers == pytest.approx(found, abs=0.051)
        if "valid_loss" in effect:
            assert numbers[:3] == pytest.approx(found[:3], abs=6e-4)


def find_numbers(line):
    return re.findall(r"[+−]\d+\.\d+", line)


def test_only_measured_choices_show_numbers():
    for entry in ENTRIES:
        assert entry["effect"] in ("measured", "none", "not measured")
        assert (entry["effect"] == "measured") == bool(entry.get("choices"))
        if entry["effect"] == "none":
            assert entry["note"]


def test_intervals_and_verdicts_fit_the_runs():
    found = result()
    runs, plan = found["runs"], found["plan"]
    assert len(plan["seeds"]) >= 3
    assert len(plan["longer_seeds"]) >= 3
    values = {}
    for run in runs:
        kind = run["choice"], run["longer"]
        values.setdefault(kind, {})[run["seed"]] = run
    for (name, longer), runs_of in values.items():
        seeds = plan["longer_seeds" if longer else "seeds"]
        assert sorted(runs_of) == seeds
        if name == "as it is":
            continue
        where = found["longer"] if longer else found
        effect = where["effects"][name]
        for score in ("valid_loss", "bleu"):
            mean = sum(
                runs_of[seed][score] - values["as it is", longer][seed][score]
                for seed in runs_of
            ) / len(runs_of)
            assert effect[score]["mean"] == pytest.approx(mean, abs=1e-3)
            assert effect[score]["low"] < mean < effect[score]["high"]
    assert paper_page.verdict({"bleu": dict(mean=1, low=0.5, high=2)}) == (
        "better"
    )
    worse = {"valid_loss": dict(mean=1, low=0.5, high=2), "bleu": {}}
    assert paper_page.verdict(worse) == "worse"
    unclear = {"bleu": dict(mean=1, low=-0.5, high=2)}
    assert paper_page.verdict(unclear) == "no difference shown"


def test_what_stands_out_does():
    effects = result()["effects"]
    loss = {
        name: effect["valid_loss"]
        for name, effect in effects.items()
        if "valid_loss" in effect
    }
    worst = sorted(loss, key=lambda name: -loss[name]["mean"])[:2]
    assert set(worst) == {"embeddings not scaled", "embeddings of deviation 1"}
    assert min(loss[name]["low"] for name in worst) > 1
    words = {name: paper_page.verdict(effects[name]) for name in effects}
    faster = ("no dropout", "no smoothing", "nothing tied", "no final norms")
    assert {words[name] for name in faster} == {"better"}
    best = sorted(loss, key=lambda name: loss[name]["mean"])[:2]
    assert best == ["no final norms", "nothing tied"]
    assert {*best, "post-norm"} == set(result()["longer"]["effects"])
    assert words["post-norm"] == "worse"
    unclear = ("norm's ε 1e-6", "unbiased deviation", "weights dropped, too")
    assert {words[name] for name in unclear} == {"no difference shown"}
    # What the notes say.
    post, twice = loss["post-norm"], loss["post-norm, final norms"]
    assert post["low"] < twice["mean"] < post["high"]
    assert words["Q, K, V start apart"] == "worse"
    assert words["nn.Linear's own start"] == "better"
    for name in ("last weights", "mean of snapshots"):
        assert abs(loss[name]["mean"]) < 0.01
    sizes = {run["choice"]: run["parameters"] for run in result()["runs"]}
    assert 1.8 < sizes["nothing tied"] / sizes["as it is"] < 2
    plan = result()["plan"]
    assert plan["more_updates"] == 3 * plan["updates"]
    longer = result()["longer"]["effects"]
    assert longer["no final norms"]["valid_loss"]["high"] < 0


@pytest.mark.parametrize("name", [entry["id"] for entry in ENTRIES])
def test_every_choice_has_a_test(name):
    assert f"test_{name.replace('-', '_')}" in globals()


def test_every_numbered_section_is_of_the_paper():
    known = {"3.1", "3.2.1", "3.2.2", "3.2.3", "3.3", "3.4", "3.5"}
    known |= {"5.1", "5.2", "5.3", "5.4", "6.1"}
    for entry in ENTRIES:
        cited = re.match(r"\(([^)]*)\)", entry["paper"])
        for section in re.findall(
            r"\d\.\d(?:\.\d)?", cited[1] if cited else ""
        ):
            assert section in known


# Embedding ---


def test_embedding_scale():
    for norm_first in (True, False):
        model = build(norm_first=norm_first)
        read = []
        model.encoder[0].register_forward_pre_hook(
            lambda _, inputs, read=read: read.append(inputs[0])
        )
        model.encode(SOURCE)
        embedded = model.source_embedding(SOURCE) * 4  # √16
        assert_close(read[0], embedded + sinusoidal_positions(4, 16))
    assert not attentions(torchs(), nn.Embedding)


def test_embedding_start():
    model = build(source_vocab_size=4_000, d_model=64)
    std = model.source_embedding.weight.std().item()
    assert std == pytest.approx(1 / 8, rel=0.02)
    logits = model(SOURCE, TARGET)
    assert 0.7 < logits.std().item() < 1.3
    nn.init.normal_(model.source_embedding.weight)
    assert 0.7 < model(SOURCE, TARGET).std().item() / 8 < 1.3  # √64
    std = nn.Embedding(4_000, 64).weight.std().item()
    assert std == pytest.approx(1, rel=0.02)


def test_tying():
    one = build()
    assert one.source_embedding is one.target_embedding
    assert one.output.weight is one.source_embedding.weight
    two = build(target_vocab_size=40)
    assert two.output.weight is two.target_embedding.weight
    assert two.source_embedding.weight.shape == (30, 16)
    three = build(tie_embeddings=False)
    tensors = {
        each.weight.data_ptr()
        for each in (
            three.source_embedding,
            three.target_embedding,
            three.output,
        )
    }
    assert len(tensors) == 3


def test_padding_row():
    model = build(tie_embeddings=False)
    assert model.source_embedding.weight[PAD_ID].abs().min() > 0
    before = model(SOURCE, TARGET)
    with torch.no_grad():
        model.source_embedding.weight[PAD_ID] = 0.0
        model.target_embedding.weight[PAD_ID] = 0.0
    real = TARGET != PAD_ID
    assert torch.equal(model(SOURCE, TARGET)[real], before[real])
    # Tied, the row is trained as an output, whatever padding_idx says.
    embedding = nn.Embedding(5, 4, padding_idx=0)
    assert not embedding.weight[0].any()
    embedding(torch.tensor([0, 1])).sum().backward()
    assert not embedding.weight.grad[0].any()
    F.linear(torch.ones(1, 4), embedding.weight).sum().backward()
    assert embedding.weight.grad[0].all()
    assert nn.Embedding(5, 4).weight[0].all()


def test_target_space():
    names = {name.split(".")[0] for name, _ in build().named_parameters()}
    assert names == {
        "source_embedding",
        "encoder",
        "decoder",
        "encoder_norm",
        "decoder_norm",
    }


# Positions ---


def renumbered(model, order):
    """Number the features of a model anew: feature ``i`` was ``order[i]``."""
    model = copy.deepcopy(model)
    inside = {"w_q", "w_k", "w_v", "linear1"}
    with torch.no_grad():
        for name, part in model.named_modules():
            if isinstance(part, nn.Embedding):
                part.weight.copy_(part.weight[:, order])
            elif isinstance(part, LayerNorm):
                part.weight.copy_(part.weight[order])
                part.bias.copy_(part.bias[order])
            elif isinstance(part, nn.Linear) and name != "output":
                if name.split(".")[-1] in inside:
                    part.weight.copy_(part.weight[:, order])
                else:
                    part.weight.copy_(part.weight[order])
                    part.bias.copy_(part.bias[order])
        for part in (model.source_positions, model.target_positions):
            part.table.copy_(part.table[:, order])
    return model


def test_sine_order():
    table = sinusoidal_positions(9, 16)
    position = torch.arange(9.0)
    assert_close(table[:, 0], position.sin())
    assert_close(table[:, 1], position.cos())
    order = [*range(0, 16, 2), *range(1, 16, 2)]
    model = build()
    halves = renumbered(model, order)
    assert_close(
        halves.source_positions.table[:9],
        torch.cat([table[:, 0::2], table[:, 1::2]], dim=1),
    )
    assert_close(halves(SOURCE, TARGET), model(SOURCE, TARGET))


def test_sine_exponents():
    assert round(10_000 ** (510 / 512)) == 9_647
    table = sinusoidal_positions(9, 512).double()
    slowest = 10_000 ** (510 / 512)
    expected = (torch.arange(9).double() / slowest).sin()
    assert_close(table[:, 510], expected, rtol=1e-5, atol=1e-9)

    def gap(width):  # between the last exponents
        return 1 - (width - 2) / width

    assert gap(16) > gap(64) > gap(512)


def test_learned_positions():
    model = build(positions="learned")
    assert model.source_positions.table.requires_grad
    assert not build().source_positions.table.requires_grad
    with torch.no_grad():
        theirs = torchs().eval()
        x = torch.randn(1, 4, 8)
        turned = theirs.encoder(x.flip(1)).flip(1)
        assert_close(turned, theirs.encoder(x))  # blind to order


# Attention ---


def test_scale_place():
    torch.manual_seed(0)
    q, k, v = (torch.randn(5, 9) for _ in range(3))
    output, weights = scaled_dot_product_attention(q, k, v)
    assert_close(weights, (q @ k.mT / 3).softmax(-1))
    assert_close(weights, ((q / 3) @ k.mT).softmax(-1))
    assert_close(output, F.scaled_dot_product_attention(q, k, v))


def test_mask_value():
    torch.manual_seed(0)
    scores = torch.randn(6, 6)
    forbidden = ~causal_mask(6)
    by_infinity = scores.masked_fill(forbidden, -math.inf).softmax(-1)
    for value in (-1e9, -1e18):
        by_value = scores.masked_fill(forbidden, value).softmax(-1)
        assert torch.equal(by_value, by_infinity)
    added = (scores + forbidden * -1e9).softmax(-1)
    assert torch.equal(added, by_infinity)
    # Without any key:
    none = torch.ones(1, 3, dtype=torch.bool)
    row = torch.tensor([[0.5, 1.0, 2.0]])
    assert row.masked_fill(none, -math.inf).softmax(-1).isnan().all()
    assert_close(
        row.masked_fill(none, -1e9).softmax(-1), torch.full((1, 3), 1 / 3)
    )
    x = torch.randn(1, 3, 8)
    theirs = nn.MultiheadAttention(8, 2, batch_first=True)
    found, _ = theirs(x, x, x, key_padding_mask=none)
    assert found.isnan().all()
    output, weights = scaled_dot_product_attention(x, x, x, ~none)
    assert not output.any()
    assert not weights.any()
    # It takes numbers, too.
    mask = forbidden[:3, :3]
    additive = torch.zeros(3, 3).masked_fill(mask, -math.inf)
    assert_close(
        theirs(x, x, x, attn_mask=additive)[0],
        theirs(x, x, x, attn_mask=mask)[0],
    )


def test_mask_sense():
    torch.manual_seed(0)
    x = torch.randn(1, 4, 8)
    may = causal_mask(4)
    _, weights = scaled_dot_product_attention(x, x, x, may)
    assert not weights[:, ~may].any()
    same = F.scaled_dot_product_attention(x, x, x, may)
    assert_close(scaled_dot_product_attention(x, x, x, may)[0], same)
    theirs = nn.MultiheadAttention(8, 2, batch_first=True)
    _, weights = theirs(x, x, x, attn_mask=to_blocked(may))
    assert not weights[:, ~may].any()
    allowed = nn.Transformer.generate_square_subsequent_mask(3) == 0
    assert torch.equal(allowed, causal_mask(3))


def test_attention_dropout():
    for layer in (EncoderLayer(16, 2, 32, 0.1), DecoderLayer(16, 2, 32, 0.1)):
        assert {each.dropout for each in attentions(layer)} == {0.0}
    assert MultiHeadAttention(16, 2, dropout=0.1).dropout == 0.1
    theirs = torchs(dropout=0.3)
    found = attentions(theirs, nn.MultiheadAttention)
    assert {each.dropout for each in found} == {0.3}


def test_attention_biases():
    ours = MultiHeadAttention(16, 2)
    for name in ("w_q", "w_k", "w_v", "w_o"):
        assert getattr(ours, name).bias is not None
        without = MultiHeadAttention(16, 2, bias=False)
        assert getattr(without, name).bias is None
    theirs = nn.MultiheadAttention(16, 2)
    assert theirs.in_proj_bias.shape == (3 * 16,)
    assert theirs.out_proj.bias is not None
    # The keys' bias does nothing.
    x = torch.randn(2, 5, 16)
    before = ours(x, x, x)
    nn.init.normal_(ours.w_k.bias, std=3.0)
    assert_close(ours(x, x, x), before, rtol=1e-4, atol=1e-5)
    nn.init.normal_(ours.w_q.bias, std=3.0)
    assert not torch.allclose(ours(x, x, x), before, atol=1e-2)


def test_head_width():
    ours = MultiHeadAttention(16, 2)
    assert ours.split_heads(torch.zeros(1, 3, 16)).shape == (1, 2, 3, 8)
    assert SelfAttention(16, 4, d_v=7)(torch.zeros(1, 3, 16)).shape[-1] == 7
    theirs = nn.MultiheadAttention(16, 2, kdim=5, vdim=6, batch_first=True)
    output, _ = theirs(
        torch.zeros(1, 3, 16), torch.zeros(1, 4, 5), torch.zeros(1, 4, 6)
    )
    assert output.shape == (1, 3, 16)
    assert theirs.head_dim == 8
    with pytest.raises(AssertionError, match="divisible"):
        nn.MultiheadAttention(16, 3)


# Add & Norm ---


def test_norm_order():
    assert TransformerConfig(source_vocab_size=9).norm_first
    for kind in (AddNorm, EncoderLayer, DecoderLayer):
        default = inspect.signature(kind).parameters["norm_first"].default
        assert default is False
    x = torch.randn(2, 3, 16)
    norm = nn.LayerNorm(16)
    post, pre = AddNorm(16), AddNorm(16, norm_first=True)
    assert_close(post(x, torch.tanh), norm(x + x.tanh()))
    assert_close(pre(x, torch.tanh), x + norm(x).tanh())
    theirs = inspect.signature(nn.Transformer).parameters["norm_first"]
    assert theirs.default is False


def test_final_norms():
    pre, post = build(), build(norm_first=False)
    without = build(final_norm=False)
    for name in ("encoder_norm", "decoder_norm"):
        assert isinstance(getattr(pre, name), LayerNorm)
        assert isinstance(getattr(post, name), nn.Identity)
        assert isinstance(getattr(without, name), nn.Identity)
    for recipe in RECIPES.values():
        assert recipe.sizes["final_norm"] is False
    for norm_first in (True, False):
        theirs = torchs(norm_first=norm_first)
        for stack in (theirs.encoder, theirs.decoder):
            assert isinstance(stack.norm, nn.LayerNorm)
    before = post(SOURCE, TARGET)
    post.encoder_norm, post.decoder_norm = LayerNorm(16), LayerNorm(16)
    assert_close(post(SOURCE, TARGET), before, rtol=1e-3, atol=1e-4)


def test_norm_epsilon():
    assert LayerNorm(8).eps == nn.LayerNorm(8).eps == 1e-5
    theirs = inspect.signature(nn.Transformer).parameters["layer_norm_eps"]
    assert theirs.default == 1e-5


def test_norm_deviation():
    torch.manual_seed(0)
    x = torch.randn(3, 64)
    weight, bias = torch.ones(64), torch.zeros(64)
    biased = layer_norm(x, weight, bias)
    assert_close(biased, nn.LayerNorm(64)(x))
    centred = x - x.mean(-1, keepdim=True)
    unbiased = centred / x.std(-1, keepdim=True)
    factor = math.sqrt(64 / 63)
    assert_close(unbiased * factor, biased, rtol=1e-4, atol=1e-5)
    assert f"{math.sqrt(512 / 511):.3f}" == "1.001"


def test_residual_dropout():
    model = build(dropout=0.3)
    assert model.dropout.p == 0.3
    for layer in (*model.encoder, *model.decoder):
        for name, part in layer.named_children():
            if name.startswith("add_norm"):
                assert part.dropout.p == 0.3
    assert RECIPES["storybook"].sizes["dropout"] == 0.1
    assert RECIPES["multi30k-en-de"].sizes["dropout"] == 0.15
    # After the sublayer and before the sum: x itself is never dropped.
    torch.manual_seed(0)
    wrapped = AddNorm(64, 0.5, norm_first=True).train()
    x = torch.full((1, 1, 64), 2.0)
    found = wrapped(x, lambda _: torch.ones(1, 1, 64))
    assert set(found.flatten().tolist()) == {2.0, 4.0}
    source = inspect.getsource(nn.TransformerEncoderLayer._sa_block)
    assert "return self.dropout1(x)" in source


# Feed-forward ---


def test_inner_dropout():
    layers = EncoderLayer(16, 2, 32, 0.3), DecoderLayer(16, 2, 32, 0.3)
    for layer in layers:
        assert layer.feed_forward.dropout.p == 0.3
    theirs = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.3)
    assert theirs.dropout.p == 0.3  # the one between linear1 and linear2
    source = inspect.getsource(nn.TransformerEncoderLayer._ff_block)
    assert "self.dropout(self.activation(self.linear1(x)))" in source


def test_activation():
    ours = FeedForward(4, 8).eval()
    x = torch.randn(3, 4)
    by_hand = ours.linear2(ours.linear1(x).clamp(min=0))
    assert_close(ours(x), by_hand)
    assert ours.linear1.bias is not None
    assert ours.linear2.bias is not None
    theirs = inspect.signature(nn.Transformer).parameters["activation"]
    assert theirs.default is F.relu


# Output ---


def test_output_bias():
    for tied in (True, False):
        assert build(tie_embeddings=tied).output.bias is None
    theirs = torchs()
    assert {p.shape[0] for p in theirs.parameters()} <= {8, 24}


# Loss ---


def test_smoothing():
    assert TrainingOptions().label_smoothing == 0.1
    assert RECIPES["storybook"].options.label_smoothing == 0.0


def smoothed(logits, labels, on_label, on_others, padding=None):
    """Cross-entropy with a target that is spelled out."""
    target = torch.full_like(logits, on_others)
    if padding is not None:
        target[:, padding] = 0.0
    target.scatter_(1, labels[:, None], on_label)
    assert_close(target.sum(1), torch.ones(len(labels)))
    return -(target * logits.log_softmax(1)).sum()


def test_smoothing_words():
    torch.manual_seed(0)
    V, e = 11, 0.3
    logits, labels = torch.randn(5, V), torch.randint(1, V, (5,))
    ours = smoothed_cross_entropy(logits, labels, e)
    all_words = smoothed(logits, labels, 1 - e + e / V, e / V)
    assert_close(ours, all_words)
    theirs = F.cross_entropy(
        logits, labels, label_smoothing=e, reduction="sum"
    )
    assert_close(theirs, ours)
    others = smoothed(logits, labels, 1 - e, e / (V - 1))
    same = smoothed_cross_entropy(logits, labels, e * V / (V - 1))
    assert_close(others, same)
    assert f"{0.1 * 2_000 / 1_999:.5f}" == "0.10005"
    without_padding = smoothed(
        logits, labels, 1 - e, e / (V - 2), padding=PAD_ID
    )
    assert not torch.allclose(without_padding, others)


def test_loss_reported():
    torch.manual_seed(0)
    logits = torch.randn(5, 9, requires_grad=True)
    labels = torch.randint(9, (5,))
    loss = smoothed_cross_entropy(logits, labels, 0.1)
    target = torch.full((5, 9), 0.1 / 9)
    target.scatter_(1, labels[:, None], 0.9 + 0.1 / 9)
    divergence = F.kl_div(logits.log_softmax(1), target, reduction="sum")
    entropy = -(target * target.log()).sum()
    assert_close(loss, divergence + entropy)
    (ours,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (theirs,) = torch.autograd.grad(divergence, logits)
    assert_close(ours, theirs)
    # Validation is without smoothing, in nats.
    model = build()
    example = Example([5, 6, EOS_ID], [BOS_ID, 7, 8, EOS_ID])
    options = TrainingOptions(label_smoothing=0.5, precision="fp32")
    trainer = Trainer(model, [example], [example], options)
    plain = translation_loss(model, make_batch([example])) / 3
    assert trainer.validate() == pytest.approx(plain.item(), rel=1e-5)
    logits = torch.zeros(4, 8)
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)(logits, labels[:4] % 8)
    assert loss.item() == pytest.approx(math.log(8), rel=1e-5)


def test_loss_mean():
    long = Example([5, EOS_ID], [BOS_ID, 4, 5, 6, 7, EOS_ID])
    short = Example([6, EOS_ID], [BOS_ID, EOS_ID])
    model = build()
    apart = [make_batch([long]), make_batch([short])]
    losses = [translation_loss(model, batch).item() for batch in apart]
    options = TrainingOptions(
        label_smoothing=0.0, precision="fp32", learning_rate=0.0
    )
    trainer = Trainer(build(dropout=0.0), [long], [long], options)
    loss, tokens = trainer.update(apart)
    assert tokens == 5 + 1
    assert loss == pytest.approx(sum(losses) / 6, rel=1e-4)
    # torch's, with and without padding in the mean
    logits, labels = torch.randn(3, 5), torch.tensor([1, 2, PAD_ID])
    each = F.cross_entropy(logits, labels, reduction="none")
    assert_close(nn.CrossEntropyLoss()(logits, labels), each.mean())
    ignoring = nn.CrossEntropyLoss(ignore_index=PAD_ID)
    assert_close(ignoring(logits, labels), each[:2].mean())


# Training ---


def test_first_matrices():
    model = build(d_model=64, d_ff=128)
    for name, ratio in linear_stds(model).items():
        if name == "output":
            continue
        packed = name.endswith(("w_q", "w_k", "w_v"))
        wanted = math.sqrt(1 / 2) if packed else 1.0
        assert ratio == pytest.approx(wanted, rel=0.05), name
    for name, tensor in model.named_parameters():
        if name.endswith("bias"):
            assert not tensor.any()
    theirs = torchs(d_model=64, num_encoder_layers=2, dim_feedforward=128)
    packed = theirs.encoder.layers[0].self_attn.in_proj_weight
    assert packed.shape == (3 * 64, 64)
    ratio = packed.std().item() / glorot(64, 64)
    assert ratio == pytest.approx(math.sqrt(1 / 2), rel=0.05)
    ratio = theirs.encoder.layers[0].linear1.weight.std().item()
    assert ratio / glorot(128, 64) == pytest.approx(1, rel=0.05)
    first, second = theirs.encoder.layers
    assert not torch.equal(first.linear1.weight, second.linear1.weight)
    # Without nn.Transformer: nn.Linear's draw, and copies.
    alone = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(64, 2, 128, batch_first=True), 2
    )
    first, second = alone.layers
    assert first.linear1.weight.abs().max() <= 1 / 8
    assert first.linear1.weight.abs().max() > 0.99 / 8  # 1/√64
    for ours, copied in zip(
        first.parameters(), second.parameters(), strict=True
    ):
        assert torch.equal(ours, copied)


def test_schedule():
    def papers(n, width, warmup):
        return width**-0.5 * min(n**-0.5, n * warmup**-1.5)

    assert f"{papers(4_000, 512, 4_000):.1e}" == "7.0e-04"
    options = TrainingOptions(
        learning_rate=(512 * 40) ** -0.5,
        warmup=40,
        updates=300,
        schedule="inverse_sqrt",
    )
    for update in range(300):
        rate = rate_at(update, options)
        assert rate == pytest.approx(papers(update + 1, 512, 40))
    plan = result()["plan"]
    options = TrainingOptions(
        learning_rate=1.0,
        warmup=plan["warmup"],
        updates=plan["updates"],
        schedule="inverse_sqrt",
    )
    assert 1 / 3 < rate_at(plan["updates"] - 1, options) < 1 / 2
    assert TrainingOptions().schedule == "cosine"
    names = {name.lower() for name in dir(torch.optim.lr_scheduler)}
    assert not {name for name in names if "sqrt" in name or "noam" in name}


def test_adam():
    example = Example([5, EOS_ID], [BOS_ID, EOS_ID])
    trainer = Trainer(build(), [example], [example], TrainingOptions())
    for group in trainer.optimizer.param_groups:
        assert tuple(group["betas"]) == (0.9, 0.98)
        assert group["eps"] == 1e-9
    defaults = inspect.signature(torch.optim.Adam).parameters
    assert defaults["betas"].default == (0.9, 0.999)
    assert defaults["eps"].default == 1e-8


def test_clipping():
    options = TrainingOptions()
    assert options.clip == 1.0
    assert options.weight_decay == 0.01
    example = Example([5, EOS_ID], [BOS_ID, EOS_ID])
    trainer = Trainer(build(), [example], [example], options)
    assert isinstance(trainer.optimizer, torch.optim.AdamW)
    for group in trainer.optimizer.param_groups:
        decays = {p.ndim > 1 for p in group["params"]}
        assert decays == {group["weight_decay"] > 0}


def test_averaging():
    assert TrainingOptions().average == 0.998
    example = Example([5, 6, EOS_ID], [BOS_ID, 7, 8, EOS_ID])
    options = TrainingOptions(precision="fp32", warmup=0)
    trainer = Trainer(build(), [example], [example], options)
    weight = trainer.model.encoder[0].feed_forward.linear1.weight
    mean = trainer.averaged.encoder[0].feed_forward.linear1.weight
    before = mean.clone()
    trainer.update([make_batch([example])])
    memory = 2 / 21  # shorter than 0.998 at first
    assert_close(mean, memory * before + (1 - memory) * weight.detach())
    assert torch.optim.swa_utils.AveragedModel


def test_batches():
    assert TrainingOptions().batch_tokens == 2_048
    examples = [
        Example([5] * (n % 7) + [EOS_ID], [BOS_ID] + [6] * (n % 5) + [EOS_ID])
        for n in range(200)
    ]
    groups = bucketed(examples, 64, seed=0)
    for group in groups:
        batch = make_batch(group)
        assert batch.source.numel() <= 64
        assert batch.labels.numel() <= 64
        lengths = {len(example.source) for example in group}
        assert max(lengths) - min(lengths) <= 2


def test_vocabulary():
    sizes = {
        name: (recipe.vocab_size, recipe.target_vocab_size)
        for name, recipe in RECIPES.items()
    }
    assert sizes["storybook"] == (2_000, None)
    assert sizes["multi30k-en-de"] == (8_000, None)
    assert sizes["tatoeba-zh-en"] == (3_200, 4_000)


# Decoding ---


def test_start_token():
    model = build()
    embed, read = model.embed_target, []
    model.embed_target = lambda target, start=0: (
        read.append(target) or embed(target, start)
    )
    beam_search(model, SOURCE[:1], beam_size=1, max_len=2)
    assert read[0].tolist() == [[BOS_ID]]
    assert BOS_ID not in (EOS_ID, PAD_ID)


def test_beam():
    defaults = inspect.signature(beam_search).parameters
    assert defaults["beam_size"].default == 4
    assert defaults["length_penalty"].default == 2.0
    assert length_divisor(13, 0.6) == pytest.approx(3**0.6)


def test_longest():
    assert length_limit(build(), torch.zeros(1, 7)) == 2 * 7 + 10
