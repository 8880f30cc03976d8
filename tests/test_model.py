"""The Transformer: torch's own, blind to padding and the future, in steps."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from torch_layers import as_torch, assert_same_gradients, gradients, shake

from minitransformer.config import TransformerConfig
from minitransformer.errors import UserError
from minitransformer.masks import causal_mask
from minitransformer.model import Transformer
from minitransformer.positions import sinusoidal_positions

# Sizes as in conftest.make_model
V_SOURCE, V_TARGET, D, H, MAX_LEN = 23, 29, 12, 3, 31
B, S, T = 3, 7, 5
SOURCE = torch.tensor(
    [[5, 8, 4, 2, 0, 0, 0], [9, 22, 7, 6, 5, 11, 2], [13, 2, 0, 0, 0, 0, 0]]
)
TARGET = torch.tensor([[1, 6, 28, 9, 0], [1, 4, 0, 0, 0], [1, 12, 13, 8, 7]])
NORMS = pytest.mark.parametrize("norm_first", [False, True])
POSITIONS = pytest.mark.parametrize("positions", ["sinusoidal", "learned"])


@pytest.fixture
def exact_model(make_model):
    """Build the small model in float64, with no weight at 0 or 1."""

    def make(**changes):
        model = make_model(**changes).double()
        shake(model)
        return model

    return make


# By hand ---


def test_the_papers_base_model_has_63_082_496_parameters():
    config = TransformerConfig(
        source_vocab_size=37_000,
        d_model=512,
        num_heads=8,
        num_encoder_layers=6,
        num_decoder_layers=6,
        d_ff=2048,
        norm_first=False,
    )
    with torch.device("meta"):  # sizes without numbers
        model = Transformer(config)
        ids = torch.zeros(2, 5, dtype=torch.long)
        logits = model(ids[:, :3], ids)
    assert sum(p.numel() for p in model.parameters()) == 63_082_496
    attention, norm = 4 * (512 * 512 + 512), 2 * 512
    feed_forward = 2 * 512 * 2048 + 2048 + 512
    assert (
        37_000 * 512
        + 6 * (attention + feed_forward + 2 * norm)
        + 6 * (2 * attention + feed_forward + 3 * norm)
    ) == 63_082_496
    assert logits.shape == (2, 5, 37_000)


@pytest.mark.parametrize(
    ("changes", "extra"),
    [
        ({}, V_TARGET * D),
        ({"target_vocab_size": None}, 0),
        ({"tie_embeddings": False}, 2 * V_TARGET * D),
        (
            {"target_vocab_size": None, "tie_embeddings": False},
            2 * V_SOURCE * D,
        ),
        ({"positions": "learned"}, V_TARGET * D + 2 * MAX_LEN * D),
        ({"norm_first": False}, V_TARGET * D - 2 * 2 * D),
        ({"final_norm": False}, V_TARGET * D - 2 * 2 * D),
        (
            {"norm_first": False, "final_norm": False},
            V_TARGET * D - 2 * 2 * D,
        ),
    ],
    ids=str,
)
def test_what_is_tied_is_one_matrix(make_model, changes, extra):
    model = make_model(**changes)
    shared = changes.get("target_vocab_size", V_TARGET) is None
    tied = changes.get("tie_embeddings", True)
    output, target = model.output.weight, model.target_embedding.weight
    assert (output is target) == tied
    assert (target is model.source_embedding.weight) == (tied and shared)
    assert output.shape == (V_SOURCE if shared else V_TARGET, D)
    layers = sum(p.numel() for p in model.encoder.parameters())
    layers += sum(p.numel() for p in model.decoder.parameters())
    norms = 2 * 2 * D
    total = sum(p.numel() for p in model.parameters())
    assert total == layers + norms + V_SOURCE * D + extra


# Properties ---


@NORMS
def test_the_future_changes_nothing(make_model, norm_first):
    model = make_model(norm_first=norm_first)
    before = model(SOURCE, TARGET)
    for t in range(1, T):
        changed = TARGET.clone()
        changed[:, t:] = (changed[:, t:] + 3) % V_TARGET
        after = model(SOURCE, changed)
        assert torch.equal(before[:, :t], after[:, :t])
        assert not torch.isclose(before[:, t:], after[:, t:]).all(-1).any()


@NORMS
def test_what_stands_in_the_padding_changes_nothing(make_model, norm_first):
    model = make_model(norm_first=norm_first)
    before = model(SOURCE, TARGET)
    # Padding is recognised by its id, so its embedding may be anything.
    model.source_embedding.weight.data[0] = 1e3 * torch.randn(D)
    assert torch.equal(model(SOURCE, TARGET), before)
    assert not torch.equal(model(SOURCE.flip(0), TARGET), before)


@NORMS
@POSITIONS
def test_a_sentence_alone_is_the_same_as_in_a_batch(
    exact_model, norm_first, positions
):
    model = exact_model(norm_first=norm_first, positions=positions)
    together = model(SOURCE, TARGET)
    for b in range(B):
        num_source = int((SOURCE[b] != 0).sum())
        num_target = int((TARGET[b] != 0).sum())
        source = SOURCE[b : b + 1, :num_source]
        target = TARGET[b : b + 1, :num_target]
        alone = model(source, target)[0]
        assert_close(alone, together[b, :num_target])


@NORMS
@POSITIONS
def test_steps_add_up_to_the_whole(exact_model, norm_first, positions):
    model = exact_model(norm_first=norm_first, positions=positions)
    state = model.start(SOURCE)
    steps = [model.step(TARGET[:, t], state) for t in range(T)]
    assert state.position == T
    assert_close(torch.stack(steps, dim=1), model(SOURCE, TARGET))


@NORMS
def test_steps_go_on_after_reordering(exact_model, norm_first):
    model = exact_model(norm_first=norm_first)
    state = model.start(SOURCE)
    kept = [torch.tensor(rows) for rows in ([2, 0, 2, 1], [3, 1, 0], [1])]
    source, target = SOURCE, TARGET[:, :0]
    for index in kept:
        newest = torch.randint(4, V_TARGET, (len(source),))
        target = torch.cat([target, newest[:, None]], dim=1)
        logits = model.step(newest, state)
        assert_close(logits, model(source, target)[:, -1])
        state.reorder(index)
        source, target = source[index], target[index]
    newest = torch.tensor([8])
    target = torch.cat([target, newest[:, None]], dim=1)
    assert_close(model.step(newest, state), model(source, target)[:, -1])


@NORMS
def test_beams_of_a_sentence_go_on_side_by_side(exact_model, norm_first):
    model = exact_model(norm_first=norm_first)
    state = model.start(SOURCE)
    # Three beams of each sentence, swapped, fewer sentences, another order.
    kept = [
        [[0, 0, 0], [1, 1, 1], [2, 2, 2]],
        [[1, 1, 0], [4, 3, 5], [6, 6, 6]],
        [[2, 0, 1], [6, 8, 7]],
        [[4, 3, 3], [0, 1, 2]],
        [[5], [1]],
    ]
    source, target = SOURCE, TARGET[:, :0]
    for index in map(torch.tensor, kept):
        newest = torch.randint(4, V_TARGET, (len(source),))
        target = torch.cat([target, newest[:, None]], dim=1)
        logits = model.step(newest, state)
        assert_close(logits, model(source, target)[:, -1])
        state.reorder(index)
        source, target = source[index.flatten()], target[index.flatten()]
        assert state.layers[0].memory.shape[1] == len(index)
    newest = torch.tensor([8, 5])
    target = torch.cat([target, newest[:, None]], dim=1)
    assert_close(model.step(newest, state), model(source, target)[:, -1])


@NORMS
@POSITIONS
@pytest.mark.parametrize("tied", [False, True])
def test_gradients_reach_every_parameter(
    make_model, norm_first, positions, tied
):
    model = make_model(
        norm_first=norm_first, positions=positions, tie_embeddings=tied
    )
    logits = model(SOURCE, TARGET)
    (logits * torch.randn_like(logits)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # The bias of the keys adds the same to all scores of a query.
        if not name.endswith("w_k.bias"):
            assert parameter.grad.abs().max() > 1e-4, name


def test_decode_is_encode_hidden_states_and_output(make_model):
    model = make_model()
    memory = model.encode(SOURCE)
    hidden = model.decode_hidden(TARGET, memory, SOURCE)
    assert memory.shape == (B, S, D)
    assert hidden.shape == (B, T, D)
    logits = model.decode(TARGET, memory, SOURCE)
    assert_close(logits, hidden @ model.output.weight.T)
    assert torch.equal(logits, model(SOURCE, TARGET))


def test_dropout_falls_in_training_alone(make_model):
    model = make_model(dropout=0.5)
    assert torch.equal(model(SOURCE, TARGET), model(SOURCE, TARGET))
    plain = make_model(dropout=0.0).train()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model(SOURCE, TARGET), plain(SOURCE, TARGET))
    model.train()
    assert not torch.equal(model(SOURCE, TARGET), model(SOURCE, TARGET))


def test_the_embedded_tokens_are_dropped_too(make_model):
    model = make_model(
        dropout=0.5, num_encoder_layers=1, num_decoder_layers=1
    ).train()
    for layer in (*model.encoder, *model.decoder):
        layer.eval()
    first, second = model.encode(SOURCE), model.encode(SOURCE)
    assert not torch.equal(first, second)
    decoded = [model.decode(TARGET, first, SOURCE) for _ in range(2)]
    assert not torch.equal(*decoded)


def test_first_weights_and_logits():
    config = TransformerConfig(
        source_vocab_size=211, d_model=64, d_ff=128, dropout=0
    )
    model = Transformer(config)
    embedding = model.source_embedding.weight
    assert_close(embedding.std().item(), 1 / 8, rtol=0.05, atol=0)
    for name, parameter in model.named_parameters():
        matrix = name.removesuffix(".weight").rpartition(".")[2]
        if matrix in ("w_q", "w_k", "w_v", "w_o", "linear1", "linear2"):
            rows, columns = parameter.shape
            if matrix in ("w_q", "w_k", "w_v"):  # as if they were one matrix
                rows *= 3
            limit = math.sqrt(6 / (rows + columns))  # Glorot
            assert parameter.abs().max() <= limit
            assert parameter.abs().max() > 0.95 * limit
        if name.endswith("bias"):
            assert (parameter == 0).all()
    ids = torch.randint(4, 211, (8, 13))
    assert 0.7 < model(ids, ids.flip(0)).std() < 1.4


def test_a_state_dict_and_a_copy_are_the_same_model(make_model):
    model = make_model(positions="learned")
    other = make_model(positions="learned")
    shake(other)
    assert not torch.equal(other(SOURCE, TARGET), model(SOURCE, TARGET))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(SOURCE, TARGET), model(SOURCE, TARGET))
    twin = copy.deepcopy(model)
    assert twin.output.weight is twin.target_embedding.weight
    assert torch.equal(twin(SOURCE, TARGET), model(SOURCE, TARGET))


# Parity ---


def torch_stacks(model):
    """Build torch's two stacks with our weights, and their pairs."""
    norm_first = model.config.norm_first
    final_norm = norm_first and model.config.final_norm
    pairs = []

    def stack(kind, layers, last_norm, **options):
        copies = [as_torch(layer, H, norm_first) for layer in layers]
        norm = nn.LayerNorm(D).double() if final_norm else None
        theirs = kind(copies[0][0], len(layers), norm, **options)
        theirs.layers = nn.ModuleList(copy for copy, _ in copies)
        for _, found in copies:
            pairs.extend(found)
        if final_norm:
            norm.load_state_dict(last_norm.state_dict())
            pairs.append(([last_norm.weight], norm.weight))
            pairs.append(([last_norm.bias], norm.bias))
        return theirs

    encoder = stack(
        nn.TransformerEncoder,
        model.encoder,
        model.encoder_norm,
        enable_nested_tensor=False,
    )
    decoder = stack(nn.TransformerDecoder, model.decoder, model.decoder_norm)
    return encoder, decoder, pairs


@pytest.mark.parametrize(
    "norms",
    [{"norm_first": False}, {"norm_first": True}, {"final_norm": False}],
    ids=["post-norm", "pre-norm", "pre-norm without final norms"],
)
@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
def test_the_whole_model_agrees_with_torch(exact_model, norms, padded):
    model = exact_model(**norms, num_decoder_layers=3)
    encoder, decoder, pairs = torch_stacks(model)
    source = SOURCE if padded else torch.randint(4, V_SOURCE, (B, S))
    target = TARGET if padded else torch.randint(4, V_TARGET, (B, T))
    table = sinusoidal_positions(MAX_LEN, D).double()
    tables = [
        module.weight.detach().clone().requires_grad_()
        for module in (model.source_embedding, model.target_embedding)
    ]
    embedded = [
        F.embedding(ids, weight) * math.sqrt(D) + table[: ids.shape[1]]
        for ids, weight in zip((source, target), tables, strict=True)
    ]
    memory = encoder(embedded[0], src_key_padding_mask=source == 0)
    hidden = decoder(
        embedded[1],
        memory,
        tgt_mask=~causal_mask(T),
        memory_key_padding_mask=source == 0,
    )
    expected = hidden @ tables[1].T
    output = model(source, target)
    assert_close(model.encode(source), memory)
    assert_close(output, expected)
    pairs.append(([model.source_embedding.weight], tables[0]))
    pairs.append(([model.output.weight], tables[1]))
    assert_same_gradients(output, expected, pairs)


def test_learned_positions_take_the_sinusoids_place(exact_model):
    learned, fixed = exact_model(positions="learned"), exact_model()
    fixed.load_state_dict(learned.state_dict(), strict=False)
    for positions in (learned.source_positions, learned.target_positions):
        positions.table.data = sinusoidal_positions(MAX_LEN, D).double()
    assert_close(learned(SOURCE, TARGET), fixed(SOURCE, TARGET))
    assert learned.source_positions is not learned.target_positions


def test_long_sentences_take_the_fused_path_to_the_same_end(
    exact_model, monkeypatch
):
    model = exact_model(max_len=80)
    source = torch.randint(4, V_SOURCE, (2, 79))
    source[1, 70:] = 0
    target = torch.randint(4, V_TARGET, (2, 73))
    parameters = [
        p for n, p in model.named_parameters() if not n.endswith("w_k.bias")
    ]
    fused = model(source, target)
    monkeypatch.setattr("minitransformer.products.SHORT", 80 * 80)
    products = model(source, target)
    assert_close(fused, products)
    assert_close(gradients(fused, parameters), gradients(products, parameters))


# Edges ---


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@NORMS
def test_half_precision(make_model, dtype, norm_first):
    model = make_model(norm_first=norm_first)
    expected = model(SOURCE, TARGET)
    logits = model.to(dtype)(SOURCE, TARGET)
    assert logits.dtype == dtype
    assert_close(logits.float(), expected, rtol=0, atol=0.1)


def test_a_sequence_may_be_as_long_as_max_len(make_model):
    model = make_model(max_len=T)
    ids = torch.randint(4, V_SOURCE, (B, T))
    assert model(ids, ids).shape == (B, T, V_TARGET)
    longer = torch.cat([ids, ids[:, :1]], dim=1)
    message = "sequence of 6 tokens is over max_len=5"
    for source, target in ((longer, ids), (ids, longer)):
        with pytest.raises(UserError, match=message):
            model(source, target)
    state = model.start(ids)
    for t in range(T):
        model.step(ids[:, t], state)
    with pytest.raises(UserError, match=message):
        model.step(ids[:, 0], state)


@pytest.mark.parametrize("bad", [-1, V_TARGET])
def test_an_id_outside_the_vocabulary_is_named(make_model, bad):
    model = make_model()
    ids = torch.full((B, T), 5)
    wrong = ids.clone()
    wrong[1, 3] = bad
    low, high = min(bad, 5), max(bad, 5)
    for name, source, target, size in (
        ("source", wrong, ids, V_SOURCE),
        ("target", ids, wrong, V_TARGET),
    ):
        with pytest.raises(UserError) as caught:
            model(source, target)
        assert str(caught.value) == (
            f"The {name} ids run from {low} to {high}, but the vocabulary has"
            f" ids 0 to {size - 1}: use the tokenizer the model was trained"
            " with."
        )
    state = model.start(ids)
    with pytest.raises(UserError, match="The target ids run from"):
        model.step(wrong[:, 3], state)
    assert state.position == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.int16])
def test_ids_are_whole_numbers(make_model, dtype):
    model = make_model()
    message = f"ids are {dtype}: pass whole numbers, torch.int64"
    with pytest.raises(UserError, match=f"source {message}"):
        model(SOURCE.to(dtype), TARGET)
    with pytest.raises(UserError, match=f"target {message}"):
        model(SOURCE, TARGET.to(dtype))


def test_small_integers_will_do(make_model):
    model = make_model()
    expected = model(SOURCE, TARGET)
    assert torch.equal(model(SOURCE.int(), TARGET.int()), expected)


def test_ids_come_in_batches(make_model):
    model = make_model()
    message = r"ids have shape \(7,\): pass a batch, one row a sentence"
    with pytest.raises(UserError, match=f"source {message}"):
        model.encode(SOURCE[0])
    with pytest.raises(UserError, match=r"target ids have shape \(5,\)"):
        model.decode(TARGET[0], model.encode(SOURCE), SOURCE)
    with pytest.raises(UserError, match=r"target ids have shape \(3, 1, 1\)"):
        model.step(TARGET[:, :1], model.start(SOURCE))


def test_a_source_of_padding_alone_stays_finite(make_model):
    logits = make_model()(0 * SOURCE, TARGET)
    assert logits.isfinite().all()
