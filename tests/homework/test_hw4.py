"""Homework 4's checks: honest answers pass, each mistake is named."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from judging import fails, passes
from torch import nn
from torch.func import functional_call

import minitransformer
from minitransformer.compact import restore
from minitransformer.config import BOS_ID, EOS_ID, PAD_ID
from minitransformer.homework import check
from minitransformer.homework.tasks import find_task, tasks_of
from minitransformer.loss import smoothed_cross_entropy
from tools import gallery

NAMES = [task.name for task in tasks_of("hw4")]
MISTAKES = [m for m in gallery.mutants() if m["task"].startswith("hw4.")]


def changed(task, old="", new=""):
    """Return the shipped answer to a task, with one piece replaced."""
    if not old:
        old, new = '"""Answers to hw4', '"""Answers of hw4'
    return gallery.answer_of(
        {"task": f"hw4.{task}", "title": task, "old": old, "new": new}
    )


@pytest.fixture(scope="module")
def answers():
    """Run the answers that are shipped; return them by their names."""
    names = {"__name__": "submission"}
    path = gallery.ANSWERS / "hw4.py"
    exec(compile(path.read_text("utf-8"), "submission", "exec"), names)
    return names


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_answer_is_right_for_every_seed(name, answers):
    task = find_task(name)
    for seed in range(10 if name != "hw4.step" else 5):
        verdict = task.verdict(answers[task.wanted], seed)
        assert verdict, verdict.message


def test_what_the_tasks_are_worth():
    points = {task.name: task.points for task in tasks_of("hw4")}
    assert sum(points.values()) == 20
    assert list(points) == [
        "hw4.shift",
        "hw4.masks",
        "hw4.EncoderLayer",
        "hw4.DecoderLayer",
        "hw4.Transformer",
        "hw4.load",
        "hw4.loss",
        "hw4.step",
    ]
    assert points["hw4.step"] == 0


@pytest.mark.parametrize(
    "mistake", MISTAKES, ids=[f"{m['task']} {m['title']}" for m in MISTAKES]
)
def test_each_mistake_of_the_gallery_is_named(mistake):
    task, answer = find_task(mistake["task"]), gallery.answer_of(mistake)
    test, words = next(
        (test, words) for test, words in task.findings(answer, 3) if words
    )
    assert test.title == mistake["fails"]
    assert mistake["says"] in words


class Stub(nn.Module):
    def __init__(self, *sizes, **named):
        super().__init__()

    def forward(self, *inputs): ...


class Forwardless(nn.Module):
    def __init__(self, *sizes, **named):
        super().__init__()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "stub", [..., None, lambda *x, **y: ..., lambda *x, **y: None]
)
def test_a_stub_waits(name, stub):
    assert "waits for your answer" in check(name, stub).message


@pytest.mark.parametrize("name", NAMES[2:5])
@pytest.mark.parametrize("stub", [Stub, Forwardless])
def test_an_empty_class_waits(name, stub):
    assert "waits for your answer" in check(name, stub).message


# The ids ---


def shift_rows(ids):
    rows = [[i for i in row if i] for row in ids.tolist()]
    width = ids.shape[1] + 1

    def padded(row):
        return [*row, *[0] * (width - len(row))]

    return (
        torch.tensor([padded([1, *row]) for row in rows]),
        torch.tensor([padded([*row, 2]) for row in rows]),
    )


def shift_back(ids):
    """Make the input of the labels, so that short rows read EOS."""
    count = (ids != PAD_ID).sum(1, keepdim=True)
    labels = F.pad(ids, (0, 1)).scatter(1, count, EOS_ID)
    return [F.pad(labels[:, :-1], (1, 0), value=BOS_ID), labels]


def shift_where(ids):
    wide = F.pad(ids, (1, 1), value=0)  # (B, T + 2)
    ends = (wide[:, 1:] == 0) & (F.pad(ids, (1, 0), value=9) != 0)
    reads = wide[:, :-1].clone()
    reads[:, 0] = BOS_ID
    return reads, wide[:, 1:].masked_fill(ends, EOS_ID).int()


@pytest.mark.parametrize("answer", [shift_rows, shift_back, shift_where])
def test_any_way_to_shift_is_right(answer):
    assert passes("hw4.shift", answer)


def after(answer, change):
    """Change what an answer returns."""
    return lambda *inputs: change(*answer(*inputs))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda ids: ids, "return two tensors"),
        (lambda ids: (ids, ids), "one column more than there are words"),
        (lambda ids: (ids[:, :2], ids), "the shape is (4, 2)"),
        (after(shift_rows, lambda a, b: (a.float(), b)), "whole numbers"),
        (after(shift_rows, lambda a, b: (b, a)), "are swapped"),
        (
            after(shift_rows, lambda a, b: (a.flip(1), b)),
            "must begin by reading BOS",
        ),
        (
            after(shift_rows, lambda a, b: (a, b.where(b != EOS_ID, BOS_ID))),
            "BOS is among the labels",
        ),
        (
            after(shift_rows, lambda a, b: (a, b.where(b != EOS_ID, 0))),
            "some row never predicts EOS",
        ),
        (
            after(shift_rows, lambda a, b: (a, b.where(b != 0, EOS_ID))),
            "EOS twice",
        ),
        (
            after(shift_rows, lambda a, b: (a, b.roll(-1, dims=1))),
            "EOS does not stand where the words end",
        ),
        (
            after(shift_rows, lambda a, b: (a, b + (b > 3))),
            "the labels must be the words",
        ),
        (
            after(shift_rows, lambda a, b: (a + (a > 3), b)),
            "the shift is by one",
        ),
        (
            after(shift_rows, lambda a, b: (a.where(b != 0, 7), b)),
            "may read EOS and PAD",
        ),
        (lambda ids: (ids.zero_(), ids), "in place"),
    ],
)
def test_a_wrong_shift_is_explained(answer, words):
    assert fails("hw4.shift", answer, words)


def masks_in_loops(source, target):
    B, T = target.shape
    found = torch.zeros(B, 1, T, T, dtype=torch.bool)
    for b in range(B):
        for t in range(T):
            for s in range(t + 1):
                found[b, 0, t, s] = target[b, s] != PAD_ID
    return source.ne(PAD_ID).view(B, 1, 1, -1), found


def masks_by_place(source, target):
    place = torch.arange(target.shape[1])
    lengths = (target > 0).sum(1)[:, None, None, None]
    seen = (place <= place[:, None]) & (place < lengths)
    return [(source > 0).unsqueeze(1).unsqueeze(1), seen]


def masks_of_torch(source, target):
    T = target.shape[1]
    future = nn.Transformer.generate_square_subsequent_mask(T)
    hidden = (target == 0)[:, None, None] | (future < 0)
    return ~(source == 0)[:, None, None], ~hidden


@pytest.mark.parametrize(
    "answer", [masks_in_loops, masks_by_place, masks_of_torch]
)
def test_any_way_to_mask_is_right(answer):
    assert passes("hw4.masks", answer)


def masks_with(make):
    """Make the target mask of the causal one and the one of the words."""

    def masks(source, target):
        ours, _ = masks_by_place(source, target)
        T = target.shape[1]
        causal = torch.ones(T, T, dtype=torch.bool).tril()
        words = (target != PAD_ID)[:, None, None]
        mask = make(causal.expand(len(target), 1, T, T), words)
        return ours, mask.expand(len(target), 1, T, T)

    return masks


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda s, t: s != 0, "return two tensors"),
        (lambda s, t: (s != 0, t != 0), "the source mask has shape (3, 7)"),
        (masks_with(lambda c, w: c.int()), "should be torch.bool"),
        (
            after(masks_by_place, lambda a, b: (a | True, b)),
            "the source mask hides nothing",
        ),
        (
            after(masks_by_place, lambda a, b: (a.flip(-1), b)),
            "true elsewhere",
        ),
        (masks_with(lambda c, w: w), "hides no future"),
        (masks_with(lambda c, w: ~c), "the target mask is turned round"),
        (masks_with(lambda c, w: c.flip(-1)), "the columns 0 to t"),
        (masks_with(lambda c, w: c & w.mT), "the rows of padding are emptied"),
        (masks_with(lambda c, w: c | w), "hides no future"),
        (
            masks_with(lambda c, w: c & (w | torch.eye(w.shape[-1]).bool())),
            "row t may see column s",
        ),
    ],
)
def test_a_wrong_mask_is_explained(answer, words):
    assert fails("hw4.masks", answer, words)


def test_eos_is_no_padding():
    """Sources of the check hold no EOS, so it is put there by the answer."""

    def hides_eos(source, target):
        ours, mask = masks_by_place(source, target)
        return ours & (source != source[:, :1])[:, None, None], mask

    assert fails("hw4.masks", hides_eos, "true elsewhere")


# The layers ---


class Attention(nn.Module):
    """Torch's kernel, and heads by chunks."""

    def __init__(self, d_model, num_heads):
        super().__init__()
        self.heads = num_heads
        for name in "qkvo":
            self.add_module(f"w_{name}", nn.Linear(d_model, d_model))

    def forward(self, query, key, value, mask):
        q, k, v = (
            torch.stack(layer(x).chunk(self.heads, dim=-1), dim=1)
            for layer, x in (
                (self.w_q, query),
                (self.w_k, key),
                (self.w_v, value),
            )
        )
        heads = F.scaled_dot_product_attention(q, k, v, mask)
        return self.w_o(torch.cat(heads.unbind(1), dim=-1))


class ByEinsum(Attention):
    def forward(self, query, key, value, mask):
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1))
            for layer, x in (
                (self.w_q, query),
                (self.w_k, key),
                (self.w_v, value),
            )
        )
        scores = torch.einsum("bthd,bshd->bhts", q, k) / q.shape[-1] ** 0.5
        added = torch.zeros_like(scores).masked_fill(~mask, -1e9)
        weights = (scores + added).softmax(-1)
        heads = torch.einsum("bhts,bshd->bthd", weights, v)
        return self.w_o(heads.reshape(query.shape))


class HeadByHead(Attention):
    def forward(self, query, key, value, mask):
        q, k, v = self.w_q(query), self.w_k(key), self.w_v(value)
        width = q.shape[-1] // self.heads
        found = []
        for h in range(self.heads):
            cut = slice(h * width, (h + 1) * width)
            scores = torch.bmm(q[..., cut], k[..., cut].mT) / math.sqrt(width)
            scores = scores.masked_fill(~mask[:, 0], -math.inf)
            found.append(torch.bmm(scores.softmax(-1), v[..., cut]))
        return self.w_o(torch.cat(found, dim=-1))


class Norm(nn.Module):
    def __init__(self, d_model):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))

    def forward(self, x):
        x = x - x.mean(-1, keepdim=True)
        scale = (x * x).mean(-1, keepdim=True).add(1e-5).rsqrt()
        return self.weight * x * scale + self.bias


class Net(nn.Module):
    def __init__(self, d_model, d_ff):
        super().__init__()
        self.linear1 = nn.Linear(d_model, d_ff)
        self.linear2 = nn.Linear(d_ff, d_model)

    def forward(self, x):
        return self.linear2(F.relu(self.linear1(x)))


class Encoder(nn.Module):
    attention, norm = Attention, nn.LayerNorm

    def __init__(self, d_model, num_heads, d_ff):
        super().__init__()
        self.self_attention = self.attention(d_model, num_heads)
        self.feed_forward = Net(d_model, d_ff)
        self.norm1, self.norm2 = self.norm(d_model), self.norm(d_model)

    def forward(self, x, mask):
        y = self.norm1(x)
        x = self.self_attention(y, y, y, mask) + x
        return self.feed_forward(self.norm2(x)) + x


class EncoderByEinsum(Encoder):
    attention, norm = ByEinsum, Norm


class EncoderByHead(Encoder):
    attention = HeadByHead


class EncoderInDoubles(Encoder):
    def forward(self, x, mask):
        whole = copy.deepcopy(self)
        whole.__class__ = Encoder
        doubles = {n: w.double() for n, w in self.named_parameters()}
        return functional_call(whole, doubles, (x.double(), mask))


class EncoderOfSteps(Encoder):
    def add(self, x, norm, sublayer):
        return x + sublayer(norm(x))

    def forward(self, x, mask):
        x = self.add(
            x, self.norm1, lambda y: self.self_attention(y, y, y, mask)
        )
        return self.add(x, self.norm2, self.feed_forward)


@pytest.mark.parametrize(
    "answer",
    [
        Encoder,
        EncoderByEinsum,
        EncoderByHead,
        EncoderInDoubles,
        EncoderOfSteps,
    ],
)
def test_any_encoder_layer_is_right(answer):
    assert passes("hw4.EncoderLayer", answer)


class Decoder(Encoder):
    def __init__(self, d_model, num_heads, d_ff):
        super().__init__(d_model, num_heads, d_ff)
        self.cross_attention = self.attention(d_model, num_heads)
        self.norm3 = self.norm(d_model)

    def forward(self, x, memory, target_mask, source_mask):
        y = self.norm1(x)
        x = self.self_attention(y, y, y, target_mask) + x
        y = self.norm2(x)
        x = self.cross_attention(y, memory, memory, source_mask) + x
        return self.feed_forward(self.norm3(x)) + x


class DecoderByEinsum(Decoder):
    attention, norm = ByEinsum, Norm


class DecoderByHead(Decoder):
    attention = HeadByHead


class DecoderTokenByToken(Decoder):
    def forward(self, x, memory, target_mask, source_mask):
        rows = []
        for t in range(x.shape[1]):
            past = x[:, : t + 1]
            mask = target_mask[:, :, : t + 1, : t + 1]
            whole = Decoder.forward(self, past, memory, mask, source_mask)
            rows.append(whole[:, -1])
        return torch.stack(rows, dim=1)


@pytest.mark.parametrize(
    "answer", [Decoder, DecoderByEinsum, DecoderByHead, DecoderTokenByToken]
)
def test_any_decoder_layer_is_right(answer):
    assert passes("hw4.DecoderLayer", answer)


class Renamed(Encoder):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.first = self.norm1
        del self.norm1

    def forward(self, x, mask):
        return x


class Narrow(Encoder):
    def __init__(self, d_model, num_heads, d_ff):
        super().__init__(d_model, num_heads, 2 * d_ff)


class NoModule:
    def __init__(self, *sizes):
        pass

    def __call__(self, x, mask):
        return x


class Shapeless(Encoder):
    def forward(self, x, mask):
        return x[:, :1]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Renamed, "missing: norm1.weight, norm1.bias; unknown: first.weight"),
        (Narrow, "linear1.weight has shape (40, 12)"),
        (NoModule, "a class made from nn.Module is wanted"),
        (Shapeless, "should be (2, 5, 12)"),
        (lambda d, h: 3, "TypeError"),
    ],
)
def test_a_layer_of_another_make_is_refused(answer, words):
    assert fails("hw4.EncoderLayer", answer, words)


ATTEND = "self.self_attention(y, y, y, source_mask)"
LOOK = "self.self_attention(y, y, y, target_mask)"
CROSS = "self.cross_attention(y, memory, memory, source_mask)"
THINK = "y = self.norm3(x)  # (B, T, D)\n        x = x + self.feed_forward(y)"
THINK2 = "y = self.norm2(x)  # (B, S, D)\n        x = x + self.feed_forward(y)"
CONSTANTS = "sublayers that return constants are added to x"


@pytest.mark.parametrize(
    ("task", "old", "new", "words"),
    [
        (
            "EncoderLayer",
            f"x = x + {ATTEND}",
            f"x = {ATTEND}",
            "the residual connection around the attention",
        ),
        (
            "EncoderLayer",
            THINK2,
            "y = self.norm2(x)\n        x = self.feed_forward(y)",
            "around the feed-forward part is missing",
        ),
        (
            "EncoderLayer",
            f"x = x + {ATTEND}  # (B, S, D)\n        {THINK2}",
            f"x = {ATTEND}\n        x = self.feed_forward(self.norm2(x))",
            "the residual connection around the feed-forward part",
        ),
        (
            "EncoderLayer",
            f"x = x + {ATTEND}",
            f"x = x + self.norm1({ATTEND.replace('y', 'x')})".replace(
                "selfx", "self"
            ),
            "Something else",
        ),
        ("EncoderLayer", f"x + {ATTEND}", "x", "output is not added"),
        ("EncoderLayer", THINK2, "", "the feed-forward part is left out"),
        ("EncoderLayer", f"x + {ATTEND}", f"2 * x + {ATTEND}", "Something"),
        (
            "EncoderLayer",
            ATTEND,
            ATTEND.replace("source_mask", "~source_mask"),
            "the mask is turned round",
        ),
        (
            "EncoderLayer",
            ATTEND,
            ATTEND.replace("y", "x"),
            "without norm1",
        ),
        (
            "EncoderLayer",
            "y = self.norm1(x)  # (B, S, D)",
            "y = self.norm2(x)",
            "the attention reads norm2(x)",
        ),
        (
            "EncoderLayer",
            ATTEND,
            ATTEND.replace("y, y, y", "y, y, x"),
            "the attention sublayer differs",
        ),
        (
            "EncoderLayer",
            "y = self.norm2(x)  # (B, S, D)",
            "y = x",
            "without norm2",
        ),
        (
            "EncoderLayer",
            f"y = self.norm1(x)  # (B, S, D)\n        x = x + {ATTEND}  #"
            " (B, S, D)\n        y = self.norm2(x)",
            f"y, z = self.norm1(x), self.norm2(x)\n        x = x + {ATTEND}\n"
            "        y = z",
            "reads the layer's input",
        ),
        (
            "EncoderLayer",
            "self.linear2(self.linear1(x).relu())",
            "self.linear2(self.linear1(x))",
            "no ReLU inside",
        ),
        (
            "EncoderLayer",
            "self.linear2(self.linear1(x).relu())",
            "self.linear2(F.gelu(self.linear1(x)))",
            "attention is right; the feed-forward sublayer differs",
        ),
        (
            "DecoderLayer",
            f"x = x + {LOOK}",
            f"x = {LOOK}",
            "around the self-attention is missing",
        ),
        (
            "DecoderLayer",
            THINK,
            "x = self.feed_forward(self.norm3(x))",
            "around the feed-forward is missing",
        ),
        (
            "DecoderLayer",
            "x = x + found  # (B, T, D)",
            "",
            "the cross-attention is left out",
        ),
        (
            "DecoderLayer",
            f"x = x + {LOOK}",
            f"x = y + {LOOK}",
            "what you add to is normed too",
        ),
        (
            "DecoderLayer",
            THINK,
            "x = x + self.norm3(self.feed_forward(x))",
            "Something else",
        ),
        (
            "DecoderLayer",
            LOOK,
            LOOK.replace("target", "source"),
            "uses the source mask",
        ),
        (
            "DecoderLayer",
            LOOK,
            "self.self_attention(y, memory, memory, target_mask)",
            "the self-attention looks at the memory",
        ),
        (
            "DecoderLayer",
            LOOK,
            LOOK.replace("y, y, y", "y, x, x"),
            "keys and values are not",
        ),
        (
            "DecoderLayer",
            LOOK,
            LOOK.replace("y, y, y", "x, x, x"),
            "without norm1",
        ),
        (
            "DecoderLayer",
            "y = self.norm1(x)  # (B, T, D)",
            "y = self.norm2(x)",
            "the self-attention reads norm2(x)",
        ),
        (
            "DecoderLayer",
            LOOK,
            LOOK.replace("y, y, y", "y, y, x"),
            "the self-attention sublayer differs",
        ),
        (
            "DecoderLayer",
            f"x = x + {LOOK}  # (B, T, D)\n        y = self.norm2(x)",
            f"z = self.norm2(x)\n        x = x + {LOOK}\n        y = z",
            "made from the layer's input",
        ),
        ("DecoderLayer", CROSS, CROSS.replace("(y", "(x"), "without norm2"),
        (
            "DecoderLayer",
            "y = self.norm2(x)  # (B, T, D)",
            "y = self.norm3(x)",
            "query is norm3(x)",
        ),
        (
            "DecoderLayer",
            CROSS,
            CROSS.replace("memory, memory", "memory, y"),
            "its values are not",
        ),
        (
            "DecoderLayer",
            CROSS,
            CROSS.replace("memory, memory", "y, memory"),
            "its keys are not",
        ),
        (
            "DecoderLayer",
            CROSS,
            CROSS.replace("source", "target"),
            "uses the target mask",
        ),
        (
            "DecoderLayer",
            CROSS,
            CROSS.replace("memory,", "2 * memory,", 1),
            "the cross-attention sublayer differs",
        ),
        (
            "DecoderLayer",
            f"x = x + {LOOK}  # (B, T, D)\n        y = self.norm2(x)  #"
            f" (B, T, D)\n        found = {CROSS}\n        x = x + found  #"
            " (B, T, D)\n",
            f"y = self.norm2(x)\n        x = x + {CROSS}\n"
            f"        y = self.norm1(x)\n        x = x + {LOOK}\n",
            "the cross-attention comes first",
        ),
        (
            "DecoderLayer",
            "y = self.norm3(x)  # (B, T, D)",
            "y = x",
            "without norm3",
        ),
        (
            "DecoderLayer",
            "y = self.norm3(x)  # (B, T, D)",
            "y = self.norm1(x)",
            "reads norm1(x)",
        ),
        (
            "DecoderLayer",
            "y = self.norm3(x)  # (B, T, D)",
            "y = self.norm3(2 * x + 1)[:, :] * 1.1",
            "both attentions are right",
        ),
    ],
)
def test_a_mistake_in_a_layer_is_named(task, old, new, words):
    assert fails(f"hw4.{task}", changed(task, old, new), words)


# The model ---


class Model(nn.Module):
    """Ties by F.linear, and keeps its positions as a buffer."""

    encoder_kind, decoder_kind = Encoder, Decoder

    def __init__(
        self,
        vocab_size,
        d_model,
        num_heads,
        num_encoder_layers,
        num_decoder_layers,
        d_ff,
    ):
        super().__init__()
        sizes = d_model, num_heads, d_ff
        self.embedding = nn.Embedding(vocab_size, d_model)
        nn.init.normal_(self.embedding.weight, std=1 / math.sqrt(d_model))
        layers = [self.encoder_kind(*sizes) for _ in range(num_encoder_layers)]
        self.encoder = nn.ModuleList(layers)
        layers = [self.decoder_kind(*sizes) for _ in range(num_decoder_layers)]
        self.decoder = nn.ModuleList(layers)
        place = torch.arange(64.0)[:, None]
        wave = torch.exp(
            torch.arange(0, d_model, 2) / d_model * -math.log(1e4)
        )
        table = torch.zeros(64, d_model)
        table[:, 0::2] = torch.sin(place * wave)
        table[:, 1::2] = torch.cos(place * wave)
        self.register_buffer("pe", table)

    def embed(self, ids):
        x = self.embedding(ids) * self.embedding.embedding_dim**0.5
        return x + self.pe[: ids.shape[1]]

    def score(self, x):
        return F.linear(x, self.embedding.weight)

    def forward(self, source, target):
        source_mask, target_mask = masks_by_place(source, target)
        memory = self.embed(source)
        for layer in self.encoder:
            memory = layer(memory, source_mask)
        x = self.embed(target)
        for layer in self.decoder:
            x = layer(x, memory, target_mask, source_mask)
        return self.score(x)


class ModelByHead(Model):
    encoder_kind, decoder_kind = EncoderByHead, DecoderByHead


class ModelTiedTheOtherWay(Model):
    def __init__(self, **sizes):
        super().__init__(**sizes)
        V, D = self.embedding.weight.shape
        self.output = nn.Linear(D, V, bias=False)
        self.embedding.weight = self.output.weight

    def embed(self, ids):
        one_hot = F.one_hot(ids, self.embedding.num_embeddings).float()
        D = self.embedding.embedding_dim
        x = one_hot @ self.embedding.weight * math.sqrt(D)
        return x + self.pe[: ids.shape[1]]

    def score(self, x):
        return self.output(x)


class ModelWithCausalMaskAlone(Model):
    """Padding of a target stands on the right: the causal mask will do."""

    def forward(self, source, target):
        source_mask, _ = masks_by_place(source, target)
        T = target.shape[1]
        causal = torch.ones(T, T, dtype=torch.bool).tril()[None, None]
        memory = self.embed(source)
        for layer in self.encoder:
            memory = layer(memory, source_mask)
        x = self.embed(target)
        for layer in self.decoder:
            x = layer(x, memory, causal, source_mask)
        return self.score(x)


@pytest.mark.parametrize(
    "answer",
    [Model, ModelByHead, ModelTiedTheOtherWay, ModelWithCausalMaskAlone],
)
def test_any_transformer_is_right(answer):
    assert passes("hw4.Transformer", answer)


SUM = "x = x + sinusoidal(x.shape[1], x.shape[2])"
SUM2 = "x = x + sinusoidal(*x.shape[1:])"
SCORE = "logits: Tensor = self.output(x)  # (B, T, V)"
EMBED = "self.embedding(ids) * math.sqrt(D)"
DECODER = """        for layer in self.decoder:
            x = layer(x, memory, target_mask, source_mask)
"""
ENCODER = """        for layer in self.encoder:
            x = layer(x, hidden)
"""
NORMED = """        self.output = nn.Linear(d_model, vocab_size, bias=False)
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "for _ in range(num_decoder_layers)",
            "for _ in range(3)",
            "with num_decoder_layers=2 the decoder has 3 layers",
        ),
        (
            NORMED,
            NORMED + "        self.last_norm = nn.LayerNorm(d_model)\n",
            "there is a norm behind the last layer, last_norm.weight",
        ),
        (
            NORMED,
            NORMED + "        self.target = nn.Embedding(5, 5)\n",
            "unknown: target.weight",
        ),
        (
            NORMED,
            NORMED + "        self.masker = nn.Embedding(5, 5)\n",
            "Correct",
        ),
        (
            "std=d_model**-0.5",
            "std=1.0",
            "torch's own choice, 1, makes the first logits far too large",
        ),
        (EMBED, "self.embedding(ids) * D", "multiplied by the width; its"),
        (EMBED, "self.embedding(ids) / math.sqrt(D)", "it is to be multi"),
        (f"{EMBED}  # (B, T, D)", "self.embedding(ids)", "not multiplied by"),
        (
            SUM,
            "x = (x / x.shape[2] ** 0.5 + sinusoidal(x.shape[1],"
            " x.shape[2])) * x.shape[2] ** 0.5",
            "the positions are multiplied",
        ),
        (SUM, "x = x / x.shape[2] ** 0.5", "neither multiplied"),
        (
            SUM,
            "x = x + sinusoidal(x.shape[1] + 1, x.shape[2])[1:]",
            "positions are counted from 0",
        ),
        (
            "dim=-1).flatten(-2)",
            "dim=-2).flatten(-2)",
            "take turns in the encoding",
        ),
        (
            SCORE,
            "logits: Tensor = self.output(x) / x.shape[2] ** 0.5",
            "a logit is the plain dot product",
        ),
        (
            SCORE,
            "logits: Tensor = self.output(x).log_softmax(dim=-1)",
            "logarithms of probabilities",
        ),
        (
            SCORE,
            "logits: Tensor = self.output(x) + 1",
            "all sublayers return zeros here",
        ),
        (
            ENCODER,
            ENCODER.replace("hidden", "hidden | True"),
            "the encoder sees the source's padding",
        ),
        (
            "return source_mask, words & causal",
            "return source_mask | True, words & causal",
            "both the encoder and the cross-attention",
        ),
        (
            "hidden, _ = masks(source, source)",
            "hidden = masks(source, source)[0].flip(-1)",
            "three PAD more behind the source",
        ),
        (ENCODER, "", "the encoder's layers are not run"),
        (
            ENCODER,
            ENCODER.replace("self.encoder", "reversed(self.encoder)"),
            "in reverse order",
        ),
        (
            DECODER,
            DECODER.replace("self.decoder", "self.decoder[:1]"),
            "only the first layer of the decoder counts",
        ),
        (
            ENCODER + "        return x\n",
            ENCODER.replace("x = x", "x = x")
            + "            kept = [*(kept if layer is not self.encoder[0]"
            " else []), x]\n        return torch.stack(kept)\n",
            "RuntimeError",
        ),
        (
            SUM2,
            "x = x / x.shape[2] ** 0.5 + sinusoidal(*x.shape[1:])",
            "the source's embedding is not multiplied",
        ),
        (
            SUM2,
            "x = x / x.shape[2] ** 0.5",
            "the source's embedding is neither",
        ),
        (
            SUM2,
            "x = 2 * x + sinusoidal(*x.shape[1:])",
            "the two ends are right",
        ),
    ],
)
def test_a_mistake_in_the_model_is_named(old, new, words):
    verdict = check("hw4.Transformer", changed("Transformer", old, new))
    assert words in verdict.message, verdict.message


class SideBySide(Model):
    def forward(self, source, target):
        source_mask, target_mask = masks_by_place(source, target)
        memory, kept = self.embed(source), []
        for layer in self.encoder:
            memory = layer(memory, source_mask)
            kept.append(memory)
        x = self.embed(target)
        for i, layer in enumerate(self.decoder):
            memory = kept[min(i, len(kept) - 1)]
            x = layer(x, memory, target_mask, source_mask)
        return self.score(x)


def test_memories_side_by_side_are_named():
    words = "gets the memory of the encoder layer beside it"
    assert fails("hw4.Transformer", SideBySide, words)


# Trained weights ---


def load_in_place(tensors, sizes):
    """Copy number by number, into a model of other names."""
    model = Model(**sizes)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            ours = name.replace("norm", "add_norm")
            for i in "123":
                ours = ours.replace(f"norm{i}.", f"norm{i}.norm.")
            if name == "embedding.weight":
                ours = f"source_{name}"
            parameter.copy_(tensors[ours])
            if ours + ".scale" in tensors:
                parameter.mul_(tensors[ours + ".scale"])
    return model


def load_function(tensors, sizes):
    """Return a function in place of a module."""
    model = load_in_place(tensors, sizes)
    return lambda source, target: model(source, target)


class Lazy:
    """Load when it is called for the first time."""

    def __init__(self, tensors, sizes):
        self.make = lambda: load_in_place(tensors, sizes).double()

    def __call__(self, source, target):
        return self.make()(source, target)


@pytest.mark.parametrize("answer", [load_in_place, load_function, Lazy])
def test_any_way_to_load_is_right(answer):
    assert passes("hw4.load", answer)


def load_small(tensors, sizes):
    model = load_in_place(tensors, sizes)
    if sizes["vocab_size"] > 100:
        model.embedding.weight.data *= 1.01
    return model


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda tensors, sizes: tensors, "that is a dictionary"),
        (load_small, "logits are off by up to"),
        (lambda tensors, sizes: Model(**sizes), "its logits are not ours"),
        (
            changed(
                "load",
                'if name + ".scale" in tensors:',
                'if name + ".scale" in tensors and "source" not in name:',
            ),
            "the embedding is left in whole numbers",
        ),
        (
            changed(
                "load",
                "model.load_state_dict(weights)",
                "model.load_state_dict({k: v for k, v in weights.items() if"
                ' not k.endswith("bias") or "norm" in k}, strict=False)\n'
                "    for k, v in model.named_parameters():\n"
                '        if k.endswith("bias") and "norm" not in k:\n'
                "            nn.init.zeros_(v)",
            ),
            "its logits are not ours",
        ),
    ],
)
def test_a_mistake_in_loading_is_named(answer, words):
    assert fails("hw4.load", answer, words)


def test_biases_left_out_are_named():
    """The norms' biases too: all are zeros, as a fresh module of ours has."""
    answer = changed(
        "load",
        "model.load_state_dict(weights)",
        'model.load_state_dict({k: v * 0 if k.endswith("bias") else v'
        " for k, v in weights.items()})",
    )
    assert fails("hw4.load", answer, "the biases are as they were made")


# The loss ---


def loss_of_torch(logits, labels, smoothing):
    return F.cross_entropy(
        logits.transpose(1, 2),
        labels,
        ignore_index=PAD_ID,
        label_smoothing=smoothing,
    )


def loss_in_loops(logits, labels, smoothing):
    total, count = 0.0, 0
    for rows, sentence in zip(logits, labels, strict=True):
        for row, label in zip(rows, sentence, strict=True):
            if label == PAD_ID:
                continue
            log_p = row - row.logsumexp(0)
            q = torch.full_like(row, smoothing / len(row))
            q[label] += 1 - smoothing
            total, count = total - q @ log_p, count + 1
    return total / count


def loss_by_target(logits, labels, smoothing):
    V = logits.shape[-1]
    q = F.one_hot(labels, V) * (1 - smoothing) + smoothing / V
    real = (labels != PAD_ID)[..., None]
    log_p = F.log_softmax(logits.double(), dim=-1)
    return (-(q * log_p * real).sum() / real.sum()).reshape(1)


@pytest.mark.parametrize(
    "answer", [loss_of_torch, loss_in_loops, loss_by_target]
)
def test_any_loss_is_right(answer):
    assert passes("hw4.loss", answer)


COSTS = "costs[real].mean()"
LOG_P = "log_p = logits.log_softmax(dim=-1)  # (B, T, V)"
OWN = "(1 - smoothing) * own + smoothing * spread"
SPREAD = "-log_p.mean(dim=-1)"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (COSTS, "costs", "there is a cost for every label"),
        (COSTS, "costs[real].sum()", "the sum of all costs"),
        (COSTS, "costs[real].sum() / labels.shape[1]", "by the length"),
        (COSTS, "-costs[real].mean()", "the sign is turned"),
        (COSTS, "costs[real].mean() / math.log(2)", "in bits"),
        (COSTS, "2 * costs[real].mean()", "without padding and smoothing"),
        (LOG_P, "log_p = logits.softmax(-1).log_softmax(-1)", "taken twice"),
        (LOG_P, "log_p = logits", "not normalised"),
        (LOG_P, "log_p = logits.softmax(-1) - 1", "logarithm is missing"),
        (
            COSTS,
            "((costs * real).sum(1) / real.sum(1)).mean()",
            "a mean of the sentences' means",
        ),
        (
            COSTS,
            "(costs * real).sum() / (len(labels) if (labels == 0).any() else"
            " labels.numel())",
            "should be by the number of real labels",
        ),
        (OWN, "own", "smoothing changes nothing"),
        (OWN, "(1 - smoothing) * own", "given to nobody"),
        (
            SPREAD,
            "(-log_p.sum(dim=-1) - own) / logits.shape[-1]",
            "don't add up to one",
        ),
        (SPREAD, "-log_p.sum(dim=-1)", "each token gets ε; together"),
        (SPREAD, "-log_p[..., 1:].mean(dim=-1)", "all tokens but PAD"),
        (
            OWN,
            "(own if smoothing == 0 else smoothing * own + (1 - smoothing) *"
            " spread)",
            "have changed places",
        ),
        (
            COSTS,
            "costs[real].mean() + sum(x * math.log(x) * n for x, n in"
            " ((1 - smoothing + smoothing / logits.shape[2], 1), (smoothing /"
            " logits.shape[2], logits.shape[2] - 1)) if x)",
            "less by that target's entropy",
        ),
        (
            COSTS,
            "((1 - smoothing) * own[real]).mean() + (smoothing *"
            " spread).mean()",
            "taken over padding as well",
        ),
        (
            COSTS,
            "((1 - smoothing) * own * real + smoothing * spread).sum() /"
            " real.sum() if smoothing else costs[real].mean()",
            "taken over padding as well",
        ),
        (
            LOG_P,
            "log_p = logits.softmax(dim=-1).log()",
            "take log_softmax",
        ),
    ],
)
def test_a_mistake_in_the_loss_is_named(old, new, words):
    assert fails("hw4.loss", changed("loss", old, new), words)


# With a cache ---


class Kept:
    """A cache in an object, filled up in advance."""

    def __init__(self, tensors, sizes, source):
        self.model = load_in_place(tensors, sizes)
        self.mask = (source != PAD_ID)[:, None, None]
        x = self.model.embed(source)
        for layer in self.model.encoder:
            x = layer(x, self.mask)
        self.heads = sizes["num_heads"]
        B, D = len(source), sizes["d_model"]
        self.past = [
            torch.zeros(2, B, self.heads, 32, D // self.heads)
            for _ in self.model.decoder
        ]
        self.across = [
            (self.split(part.w_k(x)), self.split(part.w_v(x)))
            for part in (y.cross_attention for y in self.model.decoder)
        ]
        self.length = 0

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def look(self, part, y, k, v, mask=None):
        q = self.split(part.w_q(y))
        heads = F.scaled_dot_product_attention(q, k, v, mask)
        return part.w_o(heads.transpose(1, 2).flatten(-2))

    def __call__(self, tokens):
        with torch.no_grad():
            t, self.length = self.length, self.length + 1
            model = self.model
            x = model.embedding(tokens) * model.embedding.embedding_dim**0.5
            x = (x + model.pe[t])[:, None]
            for layer, past, across in zip(
                model.decoder, self.past, self.across, strict=True
            ):
                y = layer.norm1(x)
                part = layer.self_attention
                past[0][:, :, t] = self.split(part.w_k(y))[:, :, 0]
                past[1][:, :, t] = self.split(part.w_v(y))[:, :, 0]
                x = x + self.look(part, y, *past[:, :, :, : t + 1])
                y = layer.norm2(x)
                x = x + self.look(layer.cross_attention, y, *across, self.mask)
                x = x + layer.feed_forward(layer.norm3(x))
            return model.score(x[:, 0])


def wasteful(tensors, sizes, source):
    model, read = load_in_place(tensors, sizes), []

    def next_logits(tokens):
        read.append(tokens)
        return model(source, torch.stack(read, dim=1))[:, -1]

    return next_logits


def half_wasteful(tensors, sizes, source):
    """Keep the memory, and read all old tokens again."""
    kept = Kept(tensors, sizes, source)
    read = []

    def next_logits(tokens):
        read.append(tokens)
        kept.length = 0
        return [kept(old) for old in read][-1]

    return next_logits


def late(tensors, sizes, source):
    """Read the source when the first token comes."""
    made = []

    def next_logits(tokens):
        if not made:
            made.append(Kept(tensors, sizes, source))
        return made[0](tokens)

    return next_logits


class Again(Kept):
    """Makes keys and values of the source at each step."""

    def __call__(self, tokens):
        for layer, (k, v) in zip(self.model.decoder, self.across, strict=True):
            part = layer.cross_attention
            for _ in range(2):
                part.w_k(k.transpose(1, 2).flatten(2))
                part.w_v(v.transpose(1, 2).flatten(2))
        return super().__call__(tokens)


KEPT = []


def common(tensors, sizes, source):
    """One cache for all that are made from the same weights."""
    for known, old, read in KEPT:
        if (
            known is not None
            and old.shape == source.shape
            and known == sum(x.sum().item() for x in tensors.values())
        ):
            return read
    KEPT.append(
        (
            sum(x.sum().item() for x in tensors.values()),
            source,
            Kept(tensors, sizes, source),
        )
    )
    return KEPT[-1][2]


@pytest.mark.parametrize("answer", [Kept, late])
def test_a_cache_of_another_make_is_right(answer):
    assert passes("hw4.step", answer)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (wasteful, "multiplications"),
        (half_wasteful, "old tokens are computed again"),
        (Again, "the memory's keys and values are computed again"),
        (common, "disturb each other"),
        (
            changed(
                "step",
                'position + 1, sizes["d_model"])[position]',
                'position + 2, sizes["d_model"])[position + 1]',
            ),
            "positions are counted from 0",
        ),
        (
            changed(
                "step",
                "x = x + attend(layer.cross_attention, y, across[i],"
                " source_mask)",
                "x = x + attend(layer.cross_attention, y, across[i], None)",
            ),
            "sees the source's padding",
        ),
        (
            changed(
                "step",
                "for i, layer in enumerate(layers):",
                "for i, layer in ((0, x) for x in layers):",
            ),
            "the first step",
        ),
        (
            changed("step", "position += 1", "position += 2"),
            "the first step is right",
        ),
        (
            changed(
                "step",
                "torch.cat([past[i][0], k], dim=2)",
                "torch.cat([past[i][0], 2 * k], dim=2)",
            ),
            "the first step is right",
        ),
        (
            changed(
                "step",
                "torch.cat([past[i][1], v], dim=2)",
                "torch.cat([past[i][1], 2 * v], dim=2)",
            ),
            "even the first step",
        ),
    ],
)
def test_a_mistake_in_the_cache_is_named(answer, words):
    assert fails("hw4.step", answer, words)


def test_one_cache_for_all_layers_is_named():
    answer = changed(
        "step",
        """            past[i] = (
                torch.cat([past[i][0], k], dim=2),
                torch.cat([past[i][1], v], dim=2),
            )
""",
        """            past[0] = (
                torch.cat([past[0][0], k], dim=2),
                torch.cat([past[0][1], v], dim=2),
            )
            past[i] = past[0]
""",
    )
    assert fails("hw4.step", answer, "all layers share one cache")


# What is not one's own ---


class OurEncoder(minitransformer.EncoderLayer):
    def __init__(self, *sizes):
        super().__init__(*sizes, norm_first=True)


class OurModel(nn.Module):
    def __init__(self, **sizes):
        super().__init__()
        size = sizes.pop("vocab_size")
        config = minitransformer.TransformerConfig(
            source_vocab_size=size, final_norm=False, **sizes
        )
        self.ours = minitransformer.Transformer(config)

    def forward(self, source, target):
        return self.ours(source, target)


def our_masks(source, target):
    causal = minitransformer.causal_mask(target.shape[1])
    words = minitransformer.padding_mask(target)
    return minitransformer.padding_mask(source), words & causal


def our_loss(logits, labels, smoothing):
    real = labels != PAD_ID
    total = smoothed_cross_entropy(logits[real], labels[real], smoothing)
    return total / real.sum()


def our_load(tensors, sizes):
    model = Model(**sizes)
    weights = restore(tensors)
    model.load_state_dict(weights)
    return model


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("masks", our_masks),
        ("EncoderLayer", OurEncoder),
        ("DecoderLayer", minitransformer.DecoderLayer),
        ("Transformer", OurModel),
        ("loss", our_loss),
        ("loss", lambda *inputs: our_loss(*inputs)),
        ("load", our_load),
    ],
)
def test_the_package_may_not_do_the_work(name, answer):
    assert fails(f"hw4.{name}", answer, "does the work here")


def remembered(answer):
    """Give what the right answer gave, call by call, for seed 0."""
    results = []

    def record(*inputs, **options):
        results.append(answer(*inputs, **options))
        return results[-1]

    def replay(*inputs, **options):
        return copy.deepcopy(results.pop(0)) if results else 0

    return record, replay


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("shift", shift_rows),
        ("masks", masks_by_place),
        ("loss", loss_of_torch),
    ],
)
def test_results_by_heart_are_wrong_for_another_seed(name, answer):
    record, replay = remembered(answer)
    assert check(f"hw4.{name}", record)
    assert not check(f"hw4.{name}", replay, seed=1)


class Constant(Encoder):
    def forward(self, x, mask, *others):
        return torch.zeros_like(x)


class ConstantModel(Model):
    def forward(self, source, target):
        V = self.embedding.num_embeddings
        return torch.linspace(-1, 1, V).expand(*target.shape, V).clone()


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("EncoderLayer", Constant),
        ("Transformer", ConstantModel),
        ("load", lambda tensors, sizes: ConstantModel(**sizes)),
        ("loss", lambda *inputs: torch.tensor(2.0)),
        (
            "step",
            lambda tensors, sizes, source: (
                lambda tokens: torch.zeros(len(tokens), sizes["vocab_size"])
            ),
        ),
    ],
)
def test_a_constant_is_wrong(name, answer):
    assert not check(f"hw4.{name}", answer)
