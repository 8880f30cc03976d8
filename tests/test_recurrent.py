"""The recurrent translator: by its formulas, step by step, and as trained."""

import math
from dataclasses import FrozenInstanceError

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from minitransformer import RecurrentConfig, RecurrentTranslator, UserError
from minitransformer.checkpoints import load_weights
from minitransformer.data import Example, make_batch
from minitransformer.decoding import (
    beam_search,
    greedy_decode,
    length_divisor,
    length_limit,
)
from minitransformer.probes import (
    batch_order_gap,
    decoder_future_leak,
    padding_gap,
)
from minitransformer.recurrent import (
    SCORES,
    AdditiveScore,
    DotScore,
    GeneralScore,
    masked_softmax,
)
from minitransformer.training import (
    Trainer,
    TrainingOptions,
    layers_of,
    recompute_layers,
    translation_loss,
)

B, S, T, D = 3, 7, 5, 22
V_SOURCE, V_TARGET = 23, 29
SOURCE = torch.tensor(
    [[5, 8, 4, 2, 0, 0, 0], [9, 22, 7, 6, 5, 11, 2], [13, 2, 0, 0, 0, 0, 0]]
)
TARGET = torch.tensor([[1, 6, 28, 9, 0], [1, 4, 0, 0, 0], [1, 12, 13, 8, 7]])
KINDS = pytest.mark.parametrize("kind", SCORES)
ATTENDING = [kind for kind in SCORES if kind != "none"]


def build(attention="additive", **changes):
    """Make a small model in float64."""
    torch.manual_seed(1)
    sizes = {
        "source_vocab_size": V_SOURCE,
        "target_vocab_size": V_TARGET,
        "d_model": D,
        "max_len": 31,
    }
    config = RecurrentConfig(attention=attention, **(sizes | changes))
    return RecurrentTranslator(config).double().eval()


def set_weights(score, **matrices):
    with torch.no_grad():
        for name, values in matrices.items():
            getattr(score, name).weight.copy_(torch.tensor(values))


def examples():
    """Pairs whose target is the source turned around."""
    sources = [[5, 7, 6, 9], [8, 4], [11, 5, 10], [6], [9, 9, 4, 12, 8]]
    return [Example([*ids, 2], [1, *ids[::-1], 2]) for ids in sources]


# By hand ---


def test_scores_by_hand():
    query = torch.tensor([[[1.0, 2.0]]])
    memory = torch.tensor([[[3.0, 1.0], [0.0, -1.0], [0.5, 0.0]]])
    dot, general, additive = DotScore(2), GeneralScore(2), AdditiveScore(2)
    assert dot(query, memory).tolist() == [[[5.0, -2.0, 0.5]]]
    set_weights(general, w_k=[[0.0, 1.0], [2.0, 0.0]])
    # W h is (1, 6), (-1, 0), (0, 1)
    assert general(query, memory).tolist() == [[[13.0, -1.0, 2.0]]]
    set_weights(
        additive,
        w_q=[[1.0, 0.0], [0.0, 1.0]],
        w_k=[[2.0, 0.0], [0.0, 3.0]],
        w=[[1.0, -2.0]],
    )
    # W_q q is (1, 2); W_k h is (6, 3), (0, -3), (1, 0)
    expected = [
        math.tanh(1 + a) - 2 * math.tanh(2 + b)
        for a, b in [(6, 3), (0, -3), (1, 0)]
    ]
    assert_close(additive(query, memory), torch.tensor([[expected]]))


def test_a_softmax_passes_over_the_padding():
    scores = torch.tensor([[0.0, math.log(3), 99.0], [1.0, 2.0, 3.0]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    expected = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.0, 0.0]])
    assert_close(masked_softmax(scores, mask), expected)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    ("kind", "extra"),
    [("none", 0), ("dot", 0), ("general", D * D), ("additive", 2 * D * D + D)],
)
def test_only_the_score_differs_in_parameters(kind, extra, shared):
    model = build(kind, target_vocab_size=None if shared else V_TARGET)
    half = D // 2
    encoder = 2 * (3 * half * D + 3 * half * half + 2 * 3 * half)
    decoder = 3 * D * 2 * D + 3 * D * D + 2 * 3 * D
    bridge, mix = D * D + D, 2 * D * D + D
    words = V_SOURCE if shared else V_SOURCE + V_TARGET
    total = sum(p.numel() for p in model.parameters())
    assert total == encoder + decoder + bridge + mix + words * D + extra
    assert model.output.weight is model.target_embedding.weight
    same = model.target_embedding is model.source_embedding
    assert same == shared


# Parity ---


def loops(kind, score, query, memory):
    """Score one query against one place at a time, number by number."""
    parameters = {name: p.tolist() for name, p in score.state_dict().items()}
    result = torch.zeros(*query.shape[:2], memory.shape[1]).double()
    for b, t, s in torch.cartesian_prod(
        *(torch.arange(n) for n in result.shape)
    ).tolist():
        q, h = query[b, t].tolist(), memory[b, s].tolist()
        R = range(len(q))
        if kind in ("dot", "none"):
            value = sum(q[i] * h[i] for i in R)
        elif kind == "general":
            w = parameters["w_k.weight"]
            value = sum(q[i] * w[i][j] * h[j] for i in R for j in R)
        else:
            w_q, w_k = parameters["w_q.weight"], parameters["w_k.weight"]
            value = sum(
                parameters["w.weight"][0][i]
                * math.tanh(
                    sum(w_q[i][j] * q[j] + w_k[i][j] * h[j] for j in R)
                )
                for i in R
            )
        result[b, t, s] = value
    return result


@KINDS
def test_scores_equal_their_formulas_in_loops(kind):
    score = SCORES[kind](11).double()
    query = torch.randn(2, 5, 11).double()
    memory = torch.randn(2, 3, 11).double()
    assert_close(score(query, memory), loops(kind, score, query, memory))


def test_the_encoder_is_two_grus_that_read_towards_each_other():
    model = build()
    memory = model.encode(SOURCE)
    assert memory.shape == (B, S, D)
    for b in range(B):
        length = int((SOURCE[b] != 0).sum())
        x = model.source_embedding(SOURCE[b, :length]) * math.sqrt(D)
        halves = []
        for suffix, order in (("", 1), ("_reverse", -1)):
            gru = nn.GRU(D, D // 2).double()
            for name, parameter in gru.named_parameters():
                copied = getattr(model.encoder, name + suffix)
                parameter.data = copied.data
            x_read = x.flip(0) if order < 0 else x
            read = gru(x_read)[0]
            halves.append(read.flip(0) if order < 0 else read)
        assert_close(memory[b, :length], torch.cat(halves, dim=1))
        assert (memory[b, length:] == 0).all()


def written_out(model, kind, source, target):
    """Decode one unpadded pair as the papers' formulas say, with loops."""
    memory = model.encode(source)[0]  # h_1 to h_S
    half = D // 2
    summary = torch.cat([memory[-1, :half], memory[0, half:]])
    z = torch.tanh(model.bridge.weight @ summary + model.bridge.bias)
    cell, mix = model.decoder, model.mix
    logits, alignment = [], []
    for token in target[0]:
        if kind == "none":
            context = summary
        else:
            score = loops(kind, model.score, z[None, None], memory[None])
            weights = (e := score[0, 0].exp()) / e.sum()
            context = sum(a * h for a, h in zip(weights, memory, strict=True))
            alignment.append(weights)
        word = model.target_embedding.weight[token] * math.sqrt(D)
        read = torch.cat([word, context])
        from_input = (cell.weight_ih @ read + cell.bias_ih).chunk(3)
        from_state = (cell.weight_hh @ z + cell.bias_hh).chunk(3)
        reset = torch.sigmoid(from_input[0] + from_state[0])
        keep = torch.sigmoid(from_input[1] + from_state[1])
        new = torch.tanh(from_input[2] + reset * from_state[2])
        z = (1 - keep) * new + keep * z
        hidden = torch.tanh(mix.weight @ torch.cat([z, context]) + mix.bias)
        logits.append(model.target_embedding.weight @ hidden)
    return torch.stack(logits), alignment


@KINDS
def test_the_decoder_does_what_the_formulas_say(kind):
    model = build(kind)
    source, target = SOURCE[1:2], TARGET[2:3]
    with torch.no_grad():
        logits, alignment = written_out(model, kind, source, target)
        assert_close(model(source, target)[0], logits)
    if alignment:
        expected = torch.stack(alignment)
        assert_close(model.alignment(source, target)[0], expected)


def test_without_attention_the_decoder_is_one_gru():
    model = build("none")
    memory = model.encode(SOURCE)
    state = model.start(SOURCE)
    gru = nn.GRU(2 * D, D, batch_first=True).double()
    for name, parameter in gru.named_parameters():
        parameter.data = getattr(model.decoder, name[: -len("_l0")]).data
    words = model.target_embedding(TARGET) * math.sqrt(D)
    read = torch.cat([words, state.memory.expand(-1, T, -1)], dim=2)
    states, _ = gru(read, state.hidden[None])
    context = state.memory.expand(-1, T, -1)
    hidden = model.mix(torch.cat([states, context], dim=2)).tanh()
    assert_close(model.decode_hidden(TARGET, memory, SOURCE), hidden)


# Properties ---


@KINDS
def test_probes(kind):
    model = build(kind)
    assert padding_gap(model, SOURCE, TARGET) < 1e-12
    assert batch_order_gap(model, SOURCE, TARGET) < 1e-12
    assert decoder_future_leak(model, SOURCE, TARGET) == 0


@KINDS
def test_the_future_changes_nothing(kind):
    model = build(kind)
    before = model(SOURCE, TARGET)
    for t in range(1, T):
        changed = TARGET.clone()
        changed[:, t:] = (changed[:, t:] + 3) % V_TARGET
        after = model(SOURCE, changed)
        assert torch.equal(before[:, :t], after[:, :t])
        assert not torch.isclose(before[:, t:], after[:, t:]).all(-1).any()


@KINDS
def test_steps_add_up_to_the_whole(kind):
    model = build(kind)
    state = model.start(SOURCE)
    steps = [model.step(TARGET[:, t], state) for t in range(T)]
    assert_close(torch.stack(steps, dim=1), model(SOURCE, TARGET))


@KINDS
def test_what_stands_in_the_padding_changes_nothing(kind):
    model = build(kind)
    before = model(SOURCE, TARGET)
    model.source_embedding.weight.data[0] = 1e3 * torch.randn(D).double()
    assert torch.equal(model(SOURCE, TARGET), before)


@pytest.mark.parametrize("kind", ATTENDING)
def test_an_alignment_shares_out_one_over_the_words(kind):
    model = build(kind)
    weights = model.alignment(SOURCE, TARGET)
    assert weights.shape == (B, T, S)
    assert_close(weights.sum(2), torch.ones(B, T).double())
    real = (SOURCE != 0)[:, None].expand(B, T, S)
    assert (weights[~real] == 0).all()
    assert (weights[real] > 0).all()
    assert weights.std(dim=1).max() > 1e-4  # it moves from word to word
    assert not weights.requires_grad


def gradient_of_memory(kind):
    """Say which numbers of the memory the logits depend on."""
    model = build(kind)
    memory = model.encode(SOURCE).detach().requires_grad_()
    model.decode(TARGET, memory, SOURCE).sum().backward()
    return memory.grad != 0


def test_without_attention_all_goes_through_one_vector():
    used = gradient_of_memory("none")
    half = D // 2
    expected = torch.zeros(B, S, D, dtype=torch.bool)
    expected[:, 0, half:] = True  # the last state of the way back
    for b in range(B):
        expected[b, int((SOURCE[b] != 0).sum()) - 1, :half] = True
    assert torch.equal(used, expected)
    for kind in ATTENDING:
        real = (SOURCE != 0)[:, :, None].expand(B, S, D)
        assert torch.equal(gradient_of_memory(kind), real)


@KINDS
def test_beams_go_on_from_the_rows_that_reorder_names(kind):
    model = build(kind)
    state = model.start(SOURCE)
    state.reorder(torch.tensor([[0, 0], [1, 1], [2, 2]]))
    rows = [0, 0, 1, 1, 2, 2]
    first = torch.tensor([1, 6, 4, 1, 28, 9])
    second = torch.tensor([3, 8, 5, 14, 7, 12])
    model.step(first, state)
    # the first sentence is done, and both beams of the last share a beginning
    state.reorder(torch.tensor([[3, 2], [4, 4]]))
    found = model.step(second[[3, 2, 4, 5]], state)
    kept = [3, 2, 4, 4]
    whole = torch.stack([first[kept], second[[3, 2, 4, 5]]], dim=1)
    expected = model(SOURCE[[rows[k] for k in kept]], whole)[:, -1]
    assert_close(found, expected)
    state.reorder(torch.tensor([2]))
    assert model.step(torch.tensor([5]), state).shape == (1, V_TARGET)


@KINDS
def test_a_sentence_of_nothing_but_padding_does_no_harm(kind):
    model = build(kind)
    source = torch.cat([SOURCE, torch.zeros(1, S, dtype=torch.long)])
    target = torch.cat([TARGET, TARGET[:1]])
    logits = model(source, target)
    assert_close(logits[:B], model(SOURCE, TARGET))
    logits.sum().backward()
    for parameter in model.parameters():
        assert parameter.grad.isfinite().all()


def test_dropout_is_for_training_only():
    model = build(dropout=0.5)
    assert torch.equal(model(SOURCE, TARGET), model(SOURCE, TARGET))
    model.train()  # drops embeddings, and what the output layer reads
    memory = model.encode(SOURCE)
    assert not torch.equal(model.encode(SOURCE), memory)
    hidden = model.decode_hidden(TARGET, memory, SOURCE)
    assert 0.4 < (hidden == 0).double().mean() < 0.6


# Decoding and training as ever ---


@KINDS
def test_greedy_takes_the_likeliest_word(kind):
    model = build(kind)
    for row, found in enumerate(greedy_decode(model, SOURCE)):
        ids = [1]
        while len(ids) <= length_limit(model, SOURCE):
            logits = model(SOURCE[row : row + 1], torch.tensor([ids]))
            ids.append(int(logits[0, -1].argmax()))
            if ids[-1] == 2:
                break
        assert found == [token for token in ids[1:] if token != 2]


@KINDS
def test_a_beams_score_is_its_log_probability(kind):
    model = build(kind)
    with torch.no_grad():  # so that some sentences end, and some are cut off
        hidden = model.decode_hidden(TARGET, model.encode(SOURCE), SOURCE)
        model.target_embedding.weight[2] = 2 * hidden[1, -1]
    found = beam_search(model, SOURCE, beam_size=3, max_len=6)
    beams = [(row, each) for row in range(B) for each in found[row]]
    lengths = [len(beam.ids) for _, beam in beams]
    assert min(lengths) < 4
    for row, beam in beams:
        end = [2] if len(beam.ids) < 6 else []
        target = torch.tensor([[1, *beam.ids, *end]])
        with torch.no_grad():
            logits = model(SOURCE[row : row + 1], target[:, :-1])
        total = -F.cross_entropy(logits[0], target[0, 1:], reduction="sum")
        divisor = length_divisor(target.shape[1] - 1, 2.0)
        assert beam.score == pytest.approx(float(total) / divisor)


@KINDS
def test_it_learns_one_batch(kind):
    sizes = {"target_vocab_size": None, "dropout": 0.0, "d_model": 34}
    model = build(kind, **sizes).float()
    pairs = examples()
    options = TrainingOptions(
        updates=40,
        warmup=5,
        learning_rate=3e-2,
        label_smoothing=0.0,
        precision="fp32",
    )
    trainer = Trainer(model, pairs, pairs, options)
    batch = make_batch(pairs)
    first, _ = trainer.update([batch])
    losses = [trainer.update([batch])[0] for _ in range(options.updates - 1)]
    assert first > 1.5
    assert losses[-1] < 0.02
    translations = greedy_decode(model.eval(), batch.source)
    assert translations == [pair.target[1:-1] for pair in pairs]


def test_all_parts_learn():
    model = build("additive").train()
    loss = translation_loss(model, make_batch(examples()), 0.1)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("shared", [False, True])
def test_a_run_leaves_weights_that_load(tmp_path, shared):
    changes = {"target_vocab_size": None} if shared else {}
    model = build("dot", **changes).float()
    options = TrainingOptions(
        updates=4, warmup=1, validate_every=2, precision="fp32"
    )
    trainer = Trainer(model, examples(), examples(), options)
    trainer.run(tmp_path, lambda line: None)
    torch.manual_seed(5)
    fresh = RecurrentTranslator(model.config).eval()
    assert load_weights(tmp_path, fresh)["update"] == 4
    best = trainer.averaged
    assert torch.equal(fresh(SOURCE, SOURCE), best(SOURCE, SOURCE))


def test_there_are_no_layers_to_compute_again():
    model = build()
    assert layers_of(model) == []
    recompute_layers(model)
    assert "forward" not in vars(model.encoder)


# Errors ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_model": 7}, "d_model=7 must be even"),
        ({"d_model": 0}, "d_model=0 must be a whole number"),
        ({"max_len": 2.5}, "max_len=2.5 must be a whole number"),
        ({"source_vocab_size": True}, "source_vocab_size=True must"),
        ({"target_vocab_size": 0}, "target_vocab_size=0 must"),
        ({"target_vocab_size": "9"}, "target_vocab_size='9' must"),
        ({"attention": "cosine"}, "'cosine' is unknown: choose one of add"),
        ({"dropout": 1.0}, "dropout=1.0 must be a number from 0"),
        ({"dropout": "0.1"}, "dropout='0.1' must be a number"),
    ],
    ids=str,
)
def test_impossible_sizes_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        RecurrentConfig(**({"source_vocab_size": 9} | changes))


def test_a_config_is_frozen():
    config = RecurrentConfig(source_vocab_size=9)
    assert config.output_vocab_size == 9
    with pytest.raises(FrozenInstanceError):
        config.d_model = 4


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (SOURCE + V_SOURCE, TARGET, "source ids run from 23 to 45"),
        (SOURCE, TARGET - 1, "target ids run from -1"),
        (SOURCE.float(), TARGET, "source ids are torch.float32"),
        (SOURCE, TARGET[0], r"target ids have shape \(5,\)"),
    ],
)
def test_ids_that_do_not_fit_are_named(source, target, message):
    with pytest.raises(UserError, match=message):
        build()(source, target)


def test_no_attention_can_not_be_shown():
    with pytest.raises(UserError, match="looks nowhere"):
        build("none").alignment(SOURCE, TARGET)
