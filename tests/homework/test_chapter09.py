"""The checks of chapter 9 know right answers from wrong ones, and why."""

import copy

import pytest
import torch
from judging import fails, passes
from torch import nn

from minitransformer import (
    FeedForward,
    LayerNorm,
    MultiHeadAttention,
    causal_mask,
)
from minitransformer.config import BOS_ID, EOS_ID, PAD_ID
from minitransformer.decoding import greedy_decode
from minitransformer.homework import check
from minitransformer.homework.chapters import chapter09
from minitransformer.residual import layer_norm
from minitransformer.tracing import trace


@pytest.mark.parametrize(
    ("name", "stub"),
    [
        ("9.1", lambda sentences: (..., ...)),
        ("9.2", lambda mine, right, source, target: ...),
        ("9.4", lambda model, source, limit=30: ...),
        ("9.quiz", [..., ..., ..., ..., ...]),
    ],
)
def test_a_stub_waits(name, stub):
    assert "waits for your answer" in check(name, stub).message


# 9.1 ---


def whole(sentences):
    rows = [torch.tensor([BOS_ID, *ids, EOS_ID]) for ids in sentences]
    return nn.utils.rnn.pad_sequence(rows, True)


def fed(sentences):
    target = whole(sentences)
    return target[:, :-1], target[:, 1:]


def fed_by_lists(sentences):
    width = 1 + max(map(len, sentences))
    reads = [[BOS_ID, *ids, EOS_ID, *[0] * width] for ids in sentences]
    predicts = [[*ids, EOS_ID, *[0] * width] for ids in sentences]
    return [row[:width] for row in reads], [row[:width] for row in predicts]


def without_eos_to_read(sentences):
    """Short rows read PAD where others read EOS: the loss is the same."""
    reads, predicts = (
        [[before + ids + after for ids in sentences]]
        for before, after in (([BOS_ID], []), ([], [EOS_ID]))
    )
    return tuple(
        nn.utils.rnn.pad_sequence(list(map(torch.tensor, rows)), True)
        for (rows,) in (reads, predicts)
    )


@pytest.mark.parametrize(
    "answer",
    [
        fed,
        fed_by_lists,
        without_eos_to_read,
        lambda sentences: [part.numpy() for part in fed(sentences)],
    ],
)
def test_any_right_batch_will_do(answer):
    assert passes("9.1", answer)


def padded_before(sentences):
    """The padding on the left."""
    flipped = nn.utils.rnn.pad_sequence(
        [torch.tensor([EOS_ID, *ids[::-1], BOS_ID]) for ids in sentences],
        True,
    )
    target = flipped.flip(1)
    return target[:, :-1], target[:, 1:]


def without_eos(sentences):
    rows = [torch.tensor([BOS_ID, *ids]) for ids in sentences]
    target = nn.utils.rnn.pad_sequence(rows, True)
    return target[:, :-1], target[:, 1:]


def without_bos(sentences):
    rows = [torch.tensor([*ids, EOS_ID]) for ids in sentences]
    target = nn.utils.rnn.pad_sequence(rows, True)
    return target[:, :-1], target[:, 1:]


def two_ahead(sentences):
    target = whole(sentences)
    return target[:, :-2], target[:, 2:]


def late(sentences):
    """Read the token before the last one; BOS stands twice."""
    reads, predicts = fed(sentences)
    return torch.cat([reads[:, :1], reads[:, :-1]], dim=1), predicts


def no_padding_id(sentences):
    reads, predicts = fed(sentences)
    return reads, predicts.masked_fill(predicts == PAD_ID, -100)


def reads_on(sentences):
    reads, predicts = fed(sentences)
    return reads.masked_fill(predicts == PAD_ID, 7), predicts


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda s: whole(s)[:, 1:], "return two tensors"),
        (lambda s: fed(s)[::-1], "are swapped"),
        (lambda s: (whole(s)[:, 1:],) * 2, "own answer"),
        (lambda s: (whole(s), whole(s)[:, 1:]), "must be equal"),
        (lambda s: (whole(s)[:-1], whole(s)[1:]), "each sentence is a row"),
        (lambda s: (2 * fed(s)[1], fed(s)[0]), "it is only read"),
        (padded_before, "put it behind"),
        (without_eos, "how would it end"),
        (without_bos, "begin by reading BOS"),
        (two_ahead, "make 7 columns"),
        (lambda s: (fed(s)[0], fed(s)[1].roll(-1, 1)), "no later one"),
        (late, "the shift is by one"),
        (no_padding_id, "behind EOS it is PAD"),
        (reads_on, "EOS and PAD only"),
    ],
)
def test_a_wrong_batch_is_explained(answer, phrase):
    assert fails("9.1", answer, phrase)


# 9.2 ---


def traces_of(*inputs):
    mine, right, source, target = inputs
    return [trace(model.eval(), source, target) for model in (mine, right)]


def by_difference(*inputs):
    ours, theirs = traces_of(*inputs)
    found = ours.first_difference(theirs, skip_missing=True)
    return found.here.name if found else "no fault"


def the_other_way_round(*inputs):
    ours, theirs = traces_of(*inputs)
    found = theirs.first_difference(ours, skip_missing=True)
    return found.here.name if found else "no fault"


def by_a_loop(*inputs):
    ours, theirs = traces_of(*inputs)
    for step in ours.steps:
        if step.name in theirs.names and not torch.allclose(
            step.value, theirs[step.name], atol=1e-4
        ):
            return step.name
    return "no fault"


@torch.no_grad()
def by_hooks(mine, right, source, target):
    """Compare what modules give, without what is inside an attention."""
    seen = []
    for model in (mine, right):
        outputs = {}
        for name, module in model.eval().named_modules():
            module.register_forward_hook(
                lambda _, __, output, name=name, outputs=outputs: (
                    outputs.update({name: output})
                )
            )
        model(source, target)
        seen.append(outputs)
    ours, theirs = seen
    for name, output in ours.items():
        near = torch.allclose(output, theirs[name], atol=1e-4)
        if not near:
            return name
    return "no fault"


@pytest.mark.parametrize(
    "answer", [by_difference, the_other_way_round, by_a_loop, by_hooks]
)
@pytest.mark.parametrize("seed", range(3))
def test_any_right_name_will_do(answer, seed):
    verdict = check("9.2", answer, seed=seed)
    assert verdict, verdict.message


def without_eval(mine, right, source, target):
    ours, theirs = (trace(m, source, target) for m in (mine, right))
    return ours.first_difference(theirs, skip_missing=True).here.name


def with_missing(*inputs):
    ours, theirs = traces_of(*inputs)
    found = ours.first_difference(theirs)
    return found.here.name if found else "no fault"


def with_missing_names(*inputs):
    ours, theirs = traces_of(*inputs)
    found = ours.first_difference(theirs)
    return (found.here or found.there).name if found else "no fault"


def never_none(*inputs):
    ours, theirs = traces_of(*inputs)
    return ours.first_difference(theirs, skip_missing=True).here.name


def no_name(*inputs):
    ours, theirs = traces_of(*inputs)
    return ours.first_difference(theirs, skip_missing=True)


def last_name(*inputs):
    return traces_of(*inputs)[0].names[-1]


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (without_eval, "dropout is on"),
        (with_missing, "may be missing in one of them"),
        (with_missing_names, "one of the models has no such step"),
        (never_none, "may agree in every step"),
        (no_name, "see what attributes it has"),
        (lambda *inputs: traces_of(*inputs)[0].steps[0], "not a Step"),
        (lambda *inputs: 7, "a name is wanted, and this is int"),
        (last_name, "the last step that differs, not the first"),
        (lambda *inputs: "no fault", "you find no fault, but"),
        (lambda *inputs: "encoder", "you return 'encoder'; the first that"),
        (
            lambda *inputs: by_difference(*inputs).replace("no fault", "all"),
            "two models that agree in every step",
        ),
        (lambda mine, right: "encoder", "TypeError"),
    ],
)
def test_a_wrong_name_is_explained(answer, phrase):
    assert fails("9.2", answer, phrase)


# 9.3 ---


class Layer(nn.Module):
    """As the chapter writes it, with the package's parts."""

    def __init__(self, d_model, num_heads, d_ff):
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, num_heads)
        self.cross_attention = MultiHeadAttention(d_model, num_heads)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.norm1, self.norm2 = LayerNorm(d_model), LayerNorm(d_model)
        self.norm3 = nn.LayerNorm(d_model)

    def forward(self, x, memory, mask):
        y = self.norm1(x)
        x = x + self.look(y, y)
        x = x + self.cross_attention(self.norm2(x), memory, memory, mask)
        return x + self.feed_forward(self.norm3(x))

    def look(self, y, key):
        return self.self_attention(y, key, key, causal_mask(y.shape[1]))


class Stub(Layer):
    def forward(self, x, memory, mask):
        return ...


def test_a_stub_of_a_layer_waits():
    assert "waits for your answer" in check("9.3", Stub).message


class InOneLine(Layer):
    def forward(self, x, memory, mask):
        for norm, part in (
            (self.norm1, lambda y: self.look(y, y)),
            (
                self.norm2,
                lambda y: self.cross_attention(y, memory, memory, mask),
            ),
            (self.norm3, self.feed_forward),
        ):
            x = part(norm(x)) + x
        return x


class ByFormula(Layer):
    """No module is called for the norms."""

    def norm(self, norm, x):
        return layer_norm(x, norm.weight, norm.bias)

    def forward(self, x, memory, mask):
        y = self.norm(self.norm1, x)
        x = x + self.look(y, y)
        y = self.norm(self.norm2, x)
        x = x + self.cross_attention(y, memory, memory, mask)
        return x + self.feed_forward(self.norm(self.norm3, x))


@pytest.mark.parametrize("answer", [Layer, InOneLine, ByFormula])
def test_any_right_layer_will_do(answer):
    assert passes("9.3", answer)


class PostNorm(Layer):
    def forward(self, x, memory, mask):
        x = self.norm1(x + self.look(x, x))
        x = self.norm2(x + self.cross_attention(x, memory, memory, mask))
        return self.norm3(x + self.feed_forward(x))


class NormedResidual(Layer):
    def forward(self, x, memory, mask):
        x = self.norm1(x)
        x = x + self.look(x, x)
        x = self.norm2(x)
        x = x + self.cross_attention(x, memory, memory, mask)
        x = self.norm3(x)
        return x + self.feed_forward(x)


class NormedMemory(Layer):
    def forward(self, x, memory, mask):
        return super().forward(x, self.norm2(memory), mask)


class SeesAhead(Layer):
    def look(self, y, key):
        return self.self_attention(y, key, key)


class NoPaddingMask(Layer):
    def forward(self, x, memory, mask):
        return super().forward(x, memory, None)


class PlainKeys(Layer):
    def forward(self, x, memory, mask):
        x = x + self.look(self.norm1(x), x)
        x = x + self.cross_attention(self.norm2(x), memory, memory, mask)
        return x + self.feed_forward(self.norm3(x))


class OneNorm(Layer):
    def forward(self, x, memory, mask):
        y = self.norm1(x)
        x = x + self.look(y, y)
        x = x + self.cross_attention(self.norm1(x), memory, memory, mask)
        return x + self.feed_forward(self.norm1(x))


class NoFeedForward(Layer):
    def forward(self, x, memory, mask):
        x = x + self.look(self.norm1(x), self.norm1(x))
        return x + self.cross_attention(self.norm2(x), memory, memory, mask)


class MixedNorms(Layer):
    def forward(self, x, memory, mask):
        y = self.norm1(x)
        x = x + self.look(y, y)
        y = self.norm2(x)
        x = x + self.cross_attention(y, memory, memory, mask)
        return x + self.feed_forward(self.norm3(y))


class OtherNames(nn.Module):
    def __init__(self, d_model, num_heads, d_ff):
        super().__init__()
        self.attention = MultiHeadAttention(d_model, num_heads)


class TooShort(Layer):
    def forward(self, x, memory, mask):
        return super().forward(x, memory, mask)[:, :-1]


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (PostNorm, "still stand after the sums"),
        (NormedResidual, "goes round the norm"),
        (NormedMemory, "the memory comes normalised"),
        (SeesAhead, "sees the future"),
        (NoPaddingMask, "sees padding"),
        (PlainKeys, "keys and values too"),
        (OneNorm, "a norm of its own"),
        (NoFeedForward, "up to the end it agrees"),
        (MixedNorms, "up to norm3 it agrees"),
        (OtherNames, "have other names"),
        (TooShort, "the shape is (3, 4, 12)"),
        (Layer(12, 3, 20), "a class is wanted"),
        (lambda d_model, num_heads, d_ff: 3, "a class is wanted"),
    ],
)
def test_a_wrong_layer_is_explained(answer, phrase):
    assert fails("9.3", answer, phrase)


# 9.4 ---


def cut(rows):
    return [r[: r.index(EOS_ID)] if EOS_ID in r else r for r in rows]


@torch.no_grad()
def run_steps(model, source, limit):
    state = model.start(source)
    tokens = torch.full((len(source),), BOS_ID)
    chosen = []
    for _ in range(limit):
        tokens = model.step(tokens, state).argmax(dim=-1)
        chosen.append(tokens)
    return torch.stack(chosen, dim=1).tolist()


def by_steps(model, source, limit=30):
    return cut(run_steps(model, source, limit))


def in_tensors(model, source, limit=30):
    return [torch.tensor(ids) for ids in by_steps(model, source, limit)]


def until_all_have_ended(model, source, limit=30):
    rows, state = [[] for _ in source], model.start(source)
    tokens = torch.full((len(source),), BOS_ID)
    while limit and not all(EOS_ID in row for row in rows):
        tokens = model.step(tokens, state).argmax(dim=-1)
        for row, token in zip(rows, tokens.tolist(), strict=True):
            row.append(token)
        limit -= 1
    return cut(rows)


@torch.no_grad()
def replaying(model, source, limit=30):
    """Send the whole prefix through step, from a copy of the state."""
    rows = []
    state = model.start(source)
    ids = [torch.full((len(source),), BOS_ID)]
    for _ in range(limit):
        again = copy.deepcopy(state)
        for tokens in ids:
            logits = model.step(tokens, again)
        ids.append(logits.argmax(dim=-1))
    rows = torch.stack(ids[1:], dim=1).tolist()
    return cut(rows)


def tokens_as_columns(model, source, limit=30):
    model.step(torch.full((len(source), 1), BOS_ID), model.start(source))


def sentence_by_sentence(model, source, limit=30):
    return tuple(by_steps(model, row[None], limit)[0] for row in source)


def with_reorder(model, source, limit=30):
    """Drop the sentences that have ended."""
    return greedy_decode(model, source, limit)


@torch.no_grad()
def by_rereading(model, source, limit=30):
    memory = model.encode(source)
    ids = torch.full((len(source), 1), BOS_ID)
    for _ in range(limit):
        newest = model.decode(ids, memory, source)[:, -1:].argmax(dim=-1)
        ids = torch.cat([ids, newest], dim=1)
    return cut([row[1:] for row in ids.tolist()])


@torch.no_grad()
def always_bos(model, source, limit=30):
    state = model.start(source)
    tokens = torch.full((len(source),), BOS_ID)
    rows = [model.step(tokens, state).argmax(dim=-1)]
    return [[token] * 3 for token in rows[0].tolist()]


def restarting(model, source, limit=30):
    by_steps(model, source, 1)
    return by_steps(model, source, limit)


@pytest.mark.parametrize(
    "answer",
    [
        by_steps,
        with_reorder,
        sentence_by_sentence,
        in_tensors,
        until_all_have_ended,
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_any_right_decoding_will_do(answer, seed):
    verdict = check("9.4", answer, seed=seed)
    assert verdict, verdict.message


def with_reorder_and_no_limit(model, source, limit=30):
    return greedy_decode(model, source, 12)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (by_rereading, "use step"),
        (restarting, "start once"),
        (replaying, "go through step again"),
        (tokens_as_columns, "and not (B, 1)"),
        (
            lambda m, s, limit=30: by_steps(m, s, limit - (limit < 3)),
            "as many tokens as the limit allows",
        ),
        (
            lambda m, s, limit=30: by_steps(m, s, limit if limit > 2 else 0),
            "stack expects",
        ),
        (
            lambda m, s, limit=30: by_steps(m, s) if limit > 2 else [[]] * 5,
            "as many tokens as the limit allows",
        ),
        (
            lambda m, s, limit=30: [[BOS_ID, *r] for r in by_steps(m, s)],
            "leave BOS out",
        ),
        (lambda m, s, limit=30: run_steps(m, s, 30), "stop before EOS"),
        (
            lambda m, s, limit=30: [[*r, 5] for r in by_steps(m, s)],
            "runs on after its end",
        ),
        (always_bos, "one word again and again"),
        (lambda m, s, limit=30: [r[:-1] for r in by_steps(m, s)], "one word"),
        (lambda m, s, limit=30: [r[1:] for r in by_steps(m, s)], "word short"),
        (lambda m, s, limit=30: [r[::-1] for r in by_steps(m, s)], "the ids"),
        (lambda m, s, limit=30: by_steps(m, s[:3]), "a list of 5 lists"),
        (lambda m, s, limit=30: torch.ones(5, 3), "a list of 5 lists"),
        (lambda m, s, limit=30: [5] * 5, "a list of 5 lists"),
        (lambda m, s, limit=30: [["le"]] * 5, "numbers are wanted"),
        (with_reorder_and_no_limit, "more than two tokens"),
        (lambda m, s: by_steps(m, s), "TypeError"),
    ],
)
def test_a_wrong_decoding_is_explained(answer, phrase):
    assert fails("9.4", answer, phrase)


@pytest.mark.parametrize("seed", range(5))
def test_the_model_talks(seed):
    torch.manual_seed(seed)
    model, source, wanted = chapter09.talkative_model()
    assert by_rereading(model, source) == wanted
    assert len({tuple(ids) for ids in wanted}) == 5
    assert all(2 < len(ids) < 10 for ids in wanted)


def test_a_silent_model_is_drawn_again(monkeypatch):
    """A first draw whose translations are all empty is not used."""
    draws = iter([lambda model, source, limit: [[]] * len(source)])

    def search(model, source, limit):
        return next(draws, greedy_decode)(model, source, limit)

    def unlucky(model, source, limit):
        results = search(model, source, limit)
        return [ids or [PAD_ID] for ids in results]

    monkeypatch.setattr(chapter09, "greedy_decode", unlucky)
    model, source, wanted = chapter09.talkative_model()
    assert by_rereading(model, source) == wanted


# The quiz ---


def test_a_model_without_a_leak_has_another_key(monkeypatch):
    """The key is computed: leave the mask on, and the last letter changes."""
    monkeypatch.setattr(chapter09, "leave_open", lambda attention: None)
    torch.manual_seed(0)
    chapter09.learn_with_a_leak.cache_clear()
    assert chapter09.compute_key() == "BCACC"
    chapter09.learn_with_a_leak.cache_clear()
