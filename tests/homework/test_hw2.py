"""Assignment 2: right answers pass, each mistake is told by its name."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import nn

import minitransformer as package
from minitransformer.homework import check
from minitransformer.homework.hw2 import slips
from minitransformer.homework.tasks import find_task, tasks_of
from minitransformer.masks import padding_mask
from tests.homework.judging import fails, passes
from tools import gallery, homework, nb

SOLVED = gallery.ANSWERS / "hw2.py"
TASKS = [task.name for task in tasks_of("hw2")]
MISTAKES = yaml.safe_load(
    (nb.BOOK / "homework" / "gallery2.yml").read_text("utf-8")
)


def run_source(text):
    names = {"__name__": "submission"}
    exec(compile(text, "submission", "exec"), names)
    return names


REFERENCE = run_source(SOLVED.read_text("utf-8"))
Reference = REFERENCE["MultiHeadAttention"]
Grouped = REFERENCE["GroupedQueryAttention"]


def reference(task):
    return REFERENCE[task.partition(".")[2]]


def changed(task, old, new):
    """Give the reference with one piece of its text replaced."""
    mutant = {"task": task, "title": old, "old": old, "new": new}
    return gallery.answer_of(mutant)


# All of them ---


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", range(10))
def test_the_reference_is_right_for_every_seed(task, seed):
    verdict = check(task, reference(task), seed)
    assert verdict, verdict.message


@pytest.mark.parametrize("task", TASKS)
def test_the_stub_waits(task):
    master = nb.BOOK / "homework" / "hw2.md"
    stubs = homework.SOLUTION.sub(homework.STUB, master.read_text("utf-8"))
    cells = [
        cell.partition("[answer]\n\n")[2].partition("\n```")[0]
        for cell in stubs.split("```{code-cell}")
        if ":tags: [answer]" in cell
    ]
    answer = run_source("\n\n".join(cells))[task.partition(".")[2]]
    assert "waits for your answer" in check(task, answer).message


@pytest.mark.parametrize(
    "mistake", MISTAKES, ids=lambda m: f"{m['task']} {m['title']}"
)
@pytest.mark.parametrize("seed", [7])
def test_a_classic_mistake_is_told_by_its_name(mistake, seed):
    answer = gallery.answer_of(mistake)
    found = find_task(mistake["task"]).findings(answer, seed)
    test, words = next((test, words) for test, words in found if words)
    assert test.title == mistake["fails"]
    assert mistake["says"] in words


def test_no_two_mistakes_are_the_same():
    assert len(MISTAKES) >= 10
    changes = {(m["task"], m["old"], m["new"]) for m in MISTAKES}
    assert len(changes) == len(MISTAKES)


class Subclass(package.MultiHeadAttention):
    pass


class Wrapper(nn.Module):
    def __init__(self, d_model, num_heads, dropout=0.0):
        super().__init__()
        self.inner = package.MultiHeadAttention(d_model, num_heads, dropout)

    def forward(self, *inputs):
        return self.inner(*inputs)


def borrowed_maps(query, key, state, num_heads, mask=None):
    q, k = (
        F.linear(x, state[f"{w}.weight"], state[f"{w}.bias"])
        .unflatten(-1, (num_heads, -1))
        .transpose(1, 2)
        for x, w in ((query, "w_q"), (key, "w_k"))
    )
    return package.scaled_dot_product_attention(q, k, k, mask)[1]


@pytest.mark.parametrize(
    ("task", "answer"),
    [
        ("hw2.split_heads", slips.split),
        ("hw2.merge_heads", slips.merge),
        ("hw2.MultiHeadAttention", package.MultiHeadAttention),
        ("hw2.MultiHeadAttention", Subclass),
        ("hw2.MultiHeadAttention", Wrapper),
        ("hw2.attention_maps", borrowed_maps),
        (
            "hw2.cross",
            lambda m, x, memory, source, pad_id=0: m(
                x, memory, memory, padding_mask(source, pad_id)
            ),
        ),
    ],
)
def test_what_the_package_does_is_not_an_answer(task, answer):
    assert fails(task, answer, "does the work here")


FUNCTIONS = [name for name in TASKS if name.rpartition(".")[2].islower()]


@pytest.mark.parametrize("task", FUNCTIONS)
def test_results_kept_from_one_seed_fail_with_another(task):
    kept = []

    def remember(*inputs, **options):
        kept.append(reference(task)(*inputs, **options))
        return kept[-1]

    assert check(task, remember, seed=0)
    replay = iter(kept)
    verdict = check(task, lambda *inputs, **options: next(replay), seed=1)
    # A count has no random inputs: its formula is what there is to know.
    assert bool(verdict) == (task == "hw2.count_parameters")


def zeros_like_the_right(task):
    def constant(*inputs, **options):
        return torch.zeros_like(reference(task)(*inputs, **options))

    return constant


@pytest.mark.parametrize(
    "task",
    [
        "hw2.split_heads",
        "hw2.merge_heads",
        "hw2.attention_maps",
        "hw2.cross",
    ],
)
def test_zeros_of_the_right_shape_fail(task):
    assert not check(task, zeros_like_the_right(task))


@pytest.mark.parametrize("kind", [Reference, Grouped])
def test_a_module_that_returns_what_it_was_given_fails(kind):
    class Through(kind):
        def forward(self, query, key, value, mask=None):
            return query

    task = f"hw2.{kind.__name__}"
    assert "not" in check(task, Through).message


# Splitting and merging ---


def split_by_loop(x, num_heads):
    d_k = x.shape[-1] // num_heads
    out = torch.empty(x.shape[0], num_heads, x.shape[1], d_k)
    for h in range(num_heads):
        for i in range(d_k):
            out[:, h, :, i] = x[:, :, h * d_k + i]
    return out


@pytest.mark.parametrize(
    "answer",
    [
        split_by_loop,
        lambda x, h: torch.stack(x.chunk(h, dim=-1), dim=1).double(),
        lambda x, h: x.view(*x.shape[:2], h, -1).permute(0, 2, 1, 3),
        lambda x, h: np.stack(np.split(x.numpy(), h, axis=-1), axis=1),
    ],
)
def test_any_way_to_split_is_right(answer):
    assert passes("hw2.split_heads", answer)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x, h: slips.split(x, h).mT, "tokens are rows"),
        (lambda x, h: slips.split(x, h).transpose(0, 1), "batch comes first"),
        (lambda x, h: slips.shared(x, h), "holds the first stretch"),
        (lambda x, h: slips.split(x, h).flip(1), "opposite order"),
        (lambda x, h: slips.split(x, h).flip(-1), "stand in other places"),
        (lambda x, h: x, "the shape is (2, 5, 12)"),
        (lambda x, h: x.zero_(), "in place"),
        (3, "a function is wanted"),
    ],
)
def test_a_wrong_split_is_explained(answer, words, monkeypatch):
    # The slips belong to the package, which may not do the work.
    for name in ("split", "shared"):
        monkeypatch.setattr(slips, name, copied(name))
    assert fails("hw2.split_heads", answer, words)


def copied(name):
    """Give one of the package's slips as if a learner had written it."""
    source = (nb.ROOT / "minitransformer/homework/hw2/slips.py").read_text()
    return run_source(source)[name]


def merge_by_loop(heads):
    B, H, T, _ = heads.shape
    rows = [
        [torch.cat([heads[b, h, t] for h in range(H)]) for t in range(T)]
        for b in range(B)
    ]
    return torch.stack([torch.stack(row) for row in rows])


@pytest.mark.parametrize(
    "answer",
    [
        merge_by_loop,
        lambda heads: torch.cat(heads.unbind(1), dim=-1),
        lambda heads: torch.einsum("bhtk->bthk", heads).flatten(2),
        lambda heads: heads.double().permute(0, 2, 1, 3).flatten(2).numpy(),
    ],
)
def test_any_way_to_merge_is_right(answer):
    assert passes("hw2.merge_heads", answer)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x: x.transpose(1, 2), "one dimension of the last two"),
        (lambda x: x.mT.flatten(1, 2), "the tokens stand last"),
        (lambda x: x.sum(1), "added up or averaged"),
        (lambda x: x.permute(0, 2, 3, 1).flatten(2), "number by number"),
        (lambda x: x.flip(1).transpose(1, 2).flatten(2), "opposite order"),
        (lambda x: x.flip(2).transpose(1, 2).flatten(2), "other places"),
    ],
)
def test_a_wrong_merge_is_explained(answer, words):
    assert fails("hw2.merge_heads", answer, words)


# The module ---


class Layers(nn.Module):
    """What the answers below share: four layers and a chance."""

    def __init__(self, d_model, num_heads, dropout=0.0):
        super().__init__()
        if d_model % num_heads:
            raise package.UserError(
                f"{d_model} is not a multiple: {num_heads}"
            )
        self.heads, self.dropout = num_heads, nn.Dropout(dropout)
        for name in ("w_q", "w_k", "w_v", "w_o"):
            setattr(self, name, nn.Linear(d_model, d_model))


class ByKernel(Layers):
    def forward(self, query, key, value, mask=None):
        q, k, v = (
            torch.stack(w(x).chunk(self.heads, -1), 1)
            for w, x in ((self.w_q, query), (self.w_k, key), (self.w_v, value))
        )
        p = self.dropout.p if self.training else 0.0
        if mask is not None:
            mask = mask.expand(len(q), self.heads, q.shape[2], k.shape[2])
        out = F.scaled_dot_product_attention(q, k, v, mask, p)
        return self.w_o(torch.cat(out.unbind(1), -1))


class ByEinsum(Layers):
    def forward(self, query, key, value, mask=None):
        q, k, v = (
            w(x).unflatten(-1, (self.heads, -1))
            for w, x in ((self.w_q, query), (self.w_k, key), (self.w_v, value))
        )
        scores = torch.einsum("bthd,bshd->bhts", q, k) / q.shape[-1] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(mask.logical_not(), -torch.inf)
        weights = self.dropout(scores.softmax(-1).nan_to_num())
        return self.w_o(torch.einsum("bhts,bshd->bthd", weights, v).flatten(2))


class ByLoop(Layers):
    def forward(self, query, key, value, mask=None):
        parts = []
        for h in range(self.heads):
            q, k, v = (
                F.linear(
                    x,
                    w.weight.chunk(self.heads)[h],
                    w.bias.chunk(self.heads)[h],
                )
                for w, x in (
                    (self.w_q, query),
                    (self.w_k, key),
                    (self.w_v, value),
                )
            )
            powers = (q @ k.mT / math.sqrt(k.shape[-1])).exp()
            if mask is not None:
                full = mask.expand(len(q), self.heads, *powers.shape[1:])
                powers = powers * full[:, h]
            total = powers.sum(-1, keepdim=True)
            parts.append(self.dropout(powers / total.clamp(min=1e-30)) @ v)
        return self.w_o(torch.cat(parts, -1)).double()


class Folded(Layers):
    def forward(self, query, key, value, mask=None):
        B, T, D = query.shape
        S, H = key.shape[1], self.heads
        q = self.w_q(query).view(B, T, H, -1).transpose(1, 2)
        k = self.w_k(key).view(B, S, H, -1).transpose(1, 2)
        v = self.w_v(value).view(B, S, H, -1).transpose(1, 2)
        scores = torch.bmm(q.flatten(0, 1), k.flatten(0, 1).mT)
        scores = scores / (D // H) ** 0.5
        hidden = torch.zeros(B, H, T, S, dtype=torch.bool)
        if mask is not None:
            hidden = hidden | ~mask
        hidden = hidden.flatten(0, 1)
        weights = scores.masked_fill(hidden, -1e9).softmax(-1)
        weights = weights.masked_fill(hidden, 0.0)
        if self.training and self.dropout.p:
            keep = torch.rand(weights.shape) >= self.dropout.p
            weights = weights * keep / (1 - self.dropout.p)
        heads = torch.bmm(weights, v.flatten(0, 1)).view(B, H, T, -1)
        return self.w_o(heads.transpose(1, 2).reshape(B, T, D))


@pytest.mark.parametrize("answer", [ByKernel, ByEinsum, ByLoop, Folded])
@pytest.mark.parametrize("seed", range(2))
def test_any_honest_module_is_right(answer, seed):
    verdict = check("hw2.MultiHeadAttention", answer, seed)
    assert verdict, verdict.message


class Tuple(Layers):
    def forward(self, query, key, value, mask=None):
        return query, mask is None


class NoParameters:
    def __init__(self, d_model, num_heads):
        pass

    def __call__(self, query, key, value):
        return query


class OtherNames(nn.MultiheadAttention):
    def __init__(self, d_model, num_heads, dropout=0.0):
        super().__init__(d_model, num_heads, batch_first=True)

    def forward(self, *inputs):
        return super().forward(*inputs)[0]


class OneLayerMore(Layers):
    def __init__(self, d_model, num_heads, dropout=0.0):
        super().__init__(d_model, num_heads)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, query, key, value, mask=None):
        return query


class Narrow(Layers):
    def __init__(self, d_model, num_heads, dropout=0.0):
        super().__init__(d_model, num_heads)
        self.w_k = nn.Linear(d_model, 1)

    def forward(self, query, key, value, mask=None):
        return query


class Twice(Folded):
    """Keep the queries' number of keys, as if there were no other."""

    def forward(self, query, key, value, mask=None):
        short = min(query.shape[1], key.shape[1])
        if mask is None:
            key, value = key[:, :short], value[:, :short]
        return super().forward(query, key, value, mask)


class RowsKeepTheirSum(Folded):
    def forward(self, query, key, value, mask=None):
        drop = self.training and self.dropout.p
        if drop and mask is None:
            mask = torch.rand(1, 1, query.shape[1], key.shape[1]) < 0.8
        p, self.dropout.p = self.dropout.p, 0.0
        output = super().forward(query, key, value, mask)
        self.dropout.p = p
        return output


class Dropping(Layers):
    """Drop weights in a way of one's own."""

    def draw(self, weights):
        return torch.rand_like(weights) >= self.dropout.p

    def forward(self, query, key, value, mask=None):
        q, k, v = (
            w(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for w, x in ((self.w_q, query), (self.w_k, key), (self.w_v, value))
        )
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf)
        weights = scores.softmax(-1).nan_to_num()
        if self.training and self.dropout.p:
            weights = weights * self.draw(weights) / (1 - self.dropout.p)
        return self.w_o((weights @ v).transpose(1, 2).flatten(2))


class DroppingMore(Dropping):
    def draw(self, weights):
        return torch.rand_like(weights) >= min(0.95, 2 * self.dropout.p)


class SameForAllHeads(Dropping):
    def draw(self, weights):
        return torch.rand_like(weights[:, :1]) >= self.dropout.p


class SameForAllSentences(Dropping):
    def draw(self, weights):
        return torch.rand_like(weights[:1]) >= self.dropout.p


class Unnamed(Folded):
    def __init__(self, d_model, num_heads, dropout=0.0):
        if d_model % num_heads:
            raise ValueError("no")
        super().__init__(d_model, num_heads, dropout)


class Asserting(Folded):
    def __init__(self, d_model, num_heads, dropout=0.0):
        assert d_model % num_heads == 0
        super().__init__(d_model, num_heads, dropout)


class Unrefusing(Folded):
    def __init__(self, d_model, num_heads, dropout=0.0):
        d_model -= d_model % num_heads
        super().__init__(d_model, num_heads, dropout)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Tuple, "return the output alone"),
        (NoParameters, "must be a torch nn.Module"),
        (OtherNames, "w_q.weight, w_q.bias, w_k.weight"),
        (OneLayerMore, "norm.weight, norm.bias is learned or stored too"),
        (Narrow, "w_k.weight has shape (1, 12), and should have (12, 12)"),
        (Twice, "with 5 queries and 8 keys"),
        (RowsKeepTheirSum, "rows still add up to one"),
        (DroppingMore, "a share of 0.6"),
        (SameForAllHeads, "the same draw serves every head"),
        (SameForAllSentences, "the same draw serves every sentence"),
        (Unnamed, "it says 'no'"),
        (Asserting, "here AssertionError is raised"),
        (Unrefusing, "no ValueError is raised"),
        (lambda d_model, num_heads, dropout=0.0: F.relu, "raises TypeError"),
    ],
)
def test_a_wrong_module_is_explained(answer, words):
    assert fails("hw2.MultiHeadAttention", answer, words)


Q = "split_heads(self.w_q(query), self.num_heads)  # (B, H, T, d_k)"
K = "split_heads(self.w_k(key), self.num_heads)  # (B, H, S, d_k)"
V = "split_heads(self.w_v(value), self.num_heads)  # (B, H, S, d_k)"
ROOT = "math.sqrt(query.shape[-1])"
CUT = "return cut.transpose(1, 2)"
BACK = "return by_token.flatten(-2)"
WEIGH = "_, weights = attention(q, k, v, mask)  # (B, H, T, S)"
FILL = "scores = scores.masked_fill(~mask, -math.inf)"
DROP = "F.dropout(weights, self.dropout, training=self.training)"
RESHAPED = "return cut.reshape(x.shape[0], num_heads, x.shape[1], -1)"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (ROOT, "query.shape[-1]", "the divisor is d_k, not its root"),
        (V, V.replace("value", "query"), "w_v is applied to the query"),
        (K, K.replace("key", "value"), "w_k is applied to the value"),
        (
            Q,
            f"{Q}\n        key = value = query",
            "everything is made from the query",
        ),
        (
            Q,
            Q.replace("query", "key")
            + "\n        key = query  # and back again",
            "query and key have changed places",
        ),
        (CUT, RESHAPED, "the split is a reshape alone: a head"),
        (
            CUT,
            "return cut.transpose(1, 2) if False else x[:, None]",
            "one head of the full width",
        ),
        (
            CUT,
            "return x.unflatten(-1, (-1, num_heads)).transpose(1, 2)",
            "cut into d_k heads of width H",
        ),
        (
            BACK,
            "return by_token.transpose(2, 3).flatten(-2)",
            "shuffled into one another before w_o",
        ),
        ("scores.softmax(dim=-1)", "scores.softmax(dim=-2)", "the queries"),
        (
            Q,
            Q.replace("self.w_q(query)", "query @ self.w_q.weight"),
            "the numbers are not",
        ),
        (FILL, "pass", "the mask comes after the softmax"),
        (
            FILL,
            "scores, mask = scores.masked_fill(~mask, -1e9), mask | True",
            "gets the mean of all values",
        ),
        (
            FILL,
            "scores, mask = scores.masked_fill(~mask, 0.0), mask | True",
            "a score of 0 does not hide a key",
        ),
        (
            FILL,
            "scores, mask = scores + mask, mask | True",
            "the mask is added as ones and zeros",
        ),
        (
            FILL,
            "scores, mask = scores.masked_fill(~mask, -1.0), mask | True",
            "with a mask of shape (4, 6) it is not",
        ),
        (
            WEIGH,
            WEIGH.replace("mask)", "None)"),
            "the mask has no effect",
        ),
        (
            FILL,
            "scores.masked_fill_(mask, -math.inf)",
            "with a mask every weight is 0",
        ),
        (
            WEIGH,
            "_, weights = attention(q, k, v, mask[:, :1] if mask is not None"
            " and mask.ndim == 4 else mask)",
            "the first head's mask serves all of them",
        ),
        (
            DROP,
            "F.dropout(weights, 1 - self.dropout, self.training and"
            " self.dropout > 0)",
            "the chance of being dropped, not of staying",
        ),
        (
            "kept @ v))",
            "kept @ v) + query)",
            "the numbers are not",
        ),
        (
            DROP,
            "F.dropout(weights + 0.1 * self.training * (self.dropout > 0),"
            " self.dropout, self.training)",
            "it is not the weights that are dropped",
        ),
    ],
)
def test_a_slip_in_the_module_is_explained(old, new, words):
    answer = changed("hw2.MultiHeadAttention", old, new)
    assert fails("hw2.MultiHeadAttention", answer, words)


# The maps ---


def maps_by_module(query, key, state, num_heads, mask=None):
    if state["w_q.weight"].shape[0] == query.shape[-1]:
        module = Reference(query.shape[-1], num_heads)
        module.load_state_dict(state)
        q, k = module.w_q(query), module.w_k(key)
    else:
        q = query @ state["w_q.weight"].T + state["w_q.bias"]
        k = key @ state["w_k.weight"].T + state["w_k.bias"]
    maps = []
    for q_h, k_h in zip(
        q.chunk(num_heads, -1), k.chunk(num_heads, -1), strict=True
    ):
        maps.append(q_h @ k_h.mT / math.sqrt(q_h.shape[-1]))
    scores = torch.stack(maps, 1)
    if mask is not None:
        scores = torch.where(mask, scores, torch.tensor(-torch.inf))
    return scores.softmax(-1).double()


def maps_by_kernel(query, key, state, num_heads, mask=None):
    q, k = (
        torch.stack(
            F.linear(x, state[f"{w}.weight"], state[f"{w}.bias"]).chunk(
                num_heads, -1
            ),
            1,
        )
        for x, w in ((query, "w_q"), (key, "w_k"))
    )
    values = torch.eye(key.shape[1]).expand(*k.shape[:2], -1, -1)
    return F.scaled_dot_product_attention(q, k, values, mask)


def maps_by_einsum(query, key, state, num_heads, mask=None):
    w_q = state["w_q.weight"].unflatten(0, (num_heads, -1))
    w_k = state["w_k.weight"].unflatten(0, (num_heads, -1))
    q = torch.einsum("btd,hkd->bhtk", query, w_q)
    k = torch.einsum("bsd,hkd->bhsk", key, w_k)
    q = q + state["w_q.bias"].unflatten(0, (num_heads, -1))[:, None]
    k = k + state["w_k.bias"].unflatten(0, (num_heads, -1))[:, None]
    powers = torch.einsum("bhtk,bhsk->bhts", q, k) / w_q.shape[1] ** 0.5
    powers = powers.exp() if mask is None else powers.exp() * mask
    return powers / powers.sum(-1, keepdim=True)


@pytest.mark.parametrize(
    "answer", [maps_by_module, maps_by_kernel, maps_by_einsum]
)
@pytest.mark.parametrize("seed", range(3))
def test_any_way_to_the_maps_is_right(answer, seed):
    verdict = check("hw2.attention_maps", answer, seed)
    assert verdict, verdict.message


MAPPED = "_, maps = attention(q, k, k, mask)  # any values will do"
QUERIES = 'queries = F.linear(query, state["w_q.weight"], state["w_q.bias"])'


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (MAPPED, "maps = attention(q, k, k, mask)[1].mT", "changed places"),
        (MAPPED, "maps = attention(q, k, k, mask)[0]", "outputs of the heads"),
        (MAPPED, "return query", "this is the output; the weights"),
        ("return maps", "return maps[:, :, :1]", "and should be (2, 3, 4, 6)"),
        (MAPPED, "maps = q @ k.mT / q.shape[-1] ** 0.5", "the softmax is"),
        ("scores.softmax(dim=-1)", "scores.softmax(dim=1)", "over the heads"),
        ("scores.softmax(dim=-1)", "scores.softmax(dim=-2)", "the queries"),
        (f" / {ROOT}", "", "the divisor, the root of d_k, is missing"),
        (
            ROOT,
            "math.sqrt(query.shape[-1] * query.shape[-3])",
            "the root of the model's width",
        ),
        (CUT, RESHAPED, "the split is a reshape alone"),
        (
            CUT,
            "return x.unflatten(-1, (-1, num_heads)).permute(0, 3, 1, 2)",
            "interleaved",
        ),
        ("return maps", "return maps.flip(1)", "Only w_q and w_k"),
        (
            QUERIES,
            'queries = query @ state["w_q.weight"] + state["w_q.bias"]',
            "the weights of w_q are transposed",
        ),
        (
            QUERIES,
            'assert len(state["w_q.bias"]) == query.shape[-1]\n    ' + QUERIES,
            "here w_q.weight is (10, 9), 5 heads of 2",
        ),
        (
            MAPPED,
            "maps = attention(q, k, k, ~mask if mask is not None else"
            " None)[1]",
            "the mask is turned round",
        ),
        (
            MAPPED,
            "maps = attention(q, k, k)[1]\n"
            "    maps = maps if mask is None else maps * mask",
            "the mask comes after the softmax",
        ),
        (
            MAPPED,
            "maps = attention(q, k, k, mask if mask is None else"
            " mask[..., :1, :])[1]",
            "with one of",
        ),
    ],
)
def test_a_slip_in_the_maps_is_explained(old, new, words):
    answer = changed("hw2.attention_maps", old, new)
    assert fails("hw2.attention_maps", answer, words)


# Counting ---


def count_by_building(d_model, num_heads, d_k=None, d_v=None, bias=True):
    d_k = d_k or d_model // num_heads
    d_v = d_v or d_k
    layers = [
        *[nn.Linear(d_model, d_k, bias) for _ in range(2 * num_heads)],
        *[nn.Linear(d_model, d_v, bias) for _ in range(num_heads)],
        nn.Linear(num_heads * d_v, d_model, bias),
    ]
    return sum(p.numel() for layer in layers for p in layer.parameters())


def count_by_layer(d_model, num_heads, d_k=None, d_v=None, bias=True):
    d_k = d_model / num_heads if d_k is None else d_k
    d_v = d_k if d_v is None else d_v
    D, keys, values = d_model, num_heads * d_k, num_heads * d_v
    sides = [(D, keys), (D, keys), (D, values), (values, D)]
    return torch.tensor([(a + int(bias)) * b for a, b in sides]).sum()


def count_in_numpy(d_model, num_heads, d_k=None, d_v=None, bias=True):
    return np.float64(count_by_layer(d_model, num_heads, d_k, d_v, bias))


@pytest.mark.parametrize(
    "answer", [count_by_building, count_by_layer, count_in_numpy]
)
def test_any_way_to_count_is_right(answer):
    assert passes("hw2.count_parameters", answer)


TOTAL = "return weights + biases if bias else weights"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (TOTAL, "return weights", "the biases are missing"),
        (TOTAL, "return 3 * (d_model + bias) * d_model", "w_o is missing"),
        (TOTAL, "return 3 * d_model**2", "w_o and the biases are missing"),
        (
            TOTAL,
            "return num_heads * (weights + biases)",
            "every head is counted as wide as the model",
        ),
        (
            TOTAL,
            "return weights // num_heads + bias * ("
            "(biases - d_model) // num_heads + d_model)",
            "one head is counted",
        ),
        (TOTAL, "return weights + biases", "the biases are counted"),
        (TOTAL, "return 4 * d_model * (d_model + bias)", "d_k has no effect"),
        (
            "(2 * d_k + d_v) + d_model",
            "(2 * d_k + 2 * d_v)",
            "w_o leads back to d_model",
        ),
        (
            "num_heads * (2 * d_k + d_v) + d_model",
            "4 * d_model",
            "only w_o's is d_model long",
        ),
        (
            "weights = 2 * num_heads * (d_k + d_v) * d_model",
            "weights = (num_heads * (2 * d_k + d_v) + d_model) * d_model",
            "w_o is counted as a square",
        ),
        ("d_v = d_k if d_v is None else d_v", "d_v = d_k", "d_v has no"),
        (
            "d_v = d_k if d_v is None else d_v",
            "d_v = d_k = d_k if d_v is None else d_v",
            "d_k has no effect: w_q and w_k",
        ),
        (TOTAL, "return 7", "it gives 7, and such layers hold 624"),
    ],
)
def test_a_wrong_count_is_explained(old, new, words):
    answer = changed("hw2.count_parameters", old, new)
    assert fails("hw2.count_parameters", answer, words)


# From one sentence to another ---


def cross_with_full_mask(module, x, memory, source, pad_id=0):
    B, T, S = len(x), x.shape[1], source.shape[1]
    mask = source.ne(pad_id).view(B, 1, 1, S).expand(B, 1, T, S)
    return module(query=x, key=memory, value=memory, mask=mask)


def cross_one_by_one(module, x, memory, source, pad_id=0):
    rows = []
    for i in range(len(x)):
        here = memory[i : i + 1, source[i] != pad_id]
        rows.append(module(x[i : i + 1], here, here))
    return torch.cat(rows)


def cross_by_token(module, x, memory, source, pad_id=0):
    real = torch.tensor([[[[i != pad_id for i in ids]]] for ids in source])
    parts = [
        module(x[:, t : t + 1], memory, memory, real)
        for t in range(x.shape[1])
    ]
    return torch.cat(parts, 1).numpy()


@pytest.mark.parametrize(
    "answer", [cross_with_full_mask, cross_one_by_one, cross_by_token]
)
@pytest.mark.parametrize("seed", range(3))
def test_any_way_across_is_right(answer, seed):
    verdict = check("hw2.cross", answer, seed)
    assert verdict, verdict.message


def across(arguments, real="(source != pad_id)[:, None, None]"):
    """Give a function that calls the module with these arguments."""

    def cross(module, x, memory, source, pad_id=0):
        names = {"x": x, "memory": memory, "source": source, "pad_id": pad_id}
        names["real"] = eval(real, names)
        return module(*eval(arguments, names))

    return cross


PLAIN = "(x, memory, memory, real)"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (across("(x, memory, x, real)"), "the values come from x"),
        (across("(x, x, memory, real)"), "the keys come from x"),
        (across("(x, x, x, real)"), "that is self-attention"),
        (across("(x, memory, memory, ~real)"), "nothing may be attended to"),
        (across("(x, memory * 2, memory)"), "without any padding"),
        (across("(x[:, :4], memory, memory)"), "should be (1, 5, 8)"),
        (
            across("(x, memory[:, : x.shape[1]], memory[:, : x.shape[1]])"),
            "with T other than S",
        ),
        (across("(x, memory, memory)"), "no mask hides it"),
        (
            across("(x, memory, memory, real if real.all() else ~real)"),
            "the mask is turned round",
        ),
        (across("(x, memory, memory, real[:1])"), "the first sentence's mask"),
        (
            across(
                "(x, memory * real, memory * real)",
                "(source != pad_id)[..., None]",
            ),
            "a key of zeros still has a weight",
        ),
        (across(PLAIN, "source != pad_id"), "lines up with the queries"),
        (
            across(PLAIN, "(source != pad_id)[:, :, None, None]"),
            "the mask of the source is (B, 1, 1, S)",
        ),
        (
            across("(x, memory, memory, real & real.roll(1, -1))"),
            "with padding in the source the numbers are not right",
        ),
    ],
)
def test_a_wrong_way_across_is_explained(answer, words):
    assert fails("hw2.cross", answer, words)


# Taking heads out ---


def prune_by_chunks(state, heads, num_heads):
    new = {}
    for name in state:
        dim = 1 if name == "w_o.weight" else 0
        parts = state[name].chunk(num_heads, dim=dim)
        kept = [p for h, p in enumerate(parts) if h not in heads]
        new[name] = torch.cat(kept, dim=dim)
    return {**new, "w_o.bias": state["w_o.bias"]}


def prune_by_index(state, heads, num_heads):
    d_k = len(state["w_k.bias"]) // num_heads
    rows = [
        h * d_k + i
        for h in range(num_heads)
        if h not in heads
        for i in range(d_k)
    ]
    new = {name: t.numpy() for name, t in state.items()}
    for name in new:
        if name == "w_o.weight":
            new[name] = new[name][:, rows]
        elif name != "w_o.bias":
            new[name] = new[name][rows].astype("float64")
    return new


def prune_one_by_one(state, heads, num_heads):
    for h in sorted(heads, reverse=True):
        state = prune_by_chunks(state, [h], num_heads)
        num_heads -= 1
    return state


@pytest.mark.parametrize(
    "answer", [prune_by_chunks, prune_by_index, prune_one_by_one]
)
@pytest.mark.parametrize("seed", range(3))
def test_any_way_to_prune_is_right(answer, seed):
    verdict = check("hw2.prune", answer, seed)
    assert verdict, verdict.message


def prune_in_the_order_given(state, heads, num_heads):
    for h in heads:
        state = prune_by_chunks(state, [min(h, num_heads - 1)], num_heads)
        num_heads -= 1
    return state


def prune_the_last(state, heads, num_heads):
    last = list(range(num_heads - len(heads), num_heads))
    return prune_by_chunks(state, last, num_heads)


def prune_too_little(names, cut=prune_by_chunks):
    def prune(state, heads, num_heads):
        new = cut(state, heads, num_heads)
        return new | {name: state[name] for name in names}

    return prune


def prune_and(change):
    def prune(state, heads, num_heads):
        new = prune_by_chunks(state, heads, num_heads)
        return change(state, new, heads, num_heads)

    return prune


def silenced(state, heads, num_heads):
    zeros = state["w_o.weight"].clone()
    for h in heads:
        zeros.chunk(num_heads, dim=1)[h].zero_()
    return state | {"w_o.weight": zeros}


def the_others(heads, num_heads):
    return [h for h in range(num_heads) if h not in heads]


def shorter_bias(state, new, heads, num_heads):
    size = new["w_q.bias"].shape[0]
    return new | {"w_o.bias": state["w_o.bias"][:size]}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (silenced, "nothing got smaller"),
        (prune_in_the_order_given, "one head is taken out after the other"),
        (prune_the_last, "the last heads are cut"),
        (
            lambda state, heads, n: (
                prune_by_chunks(state, the_others(heads, n), n)
                if 2 * len(heads) == n
                else prune_by_chunks(state, heads, n)
            ),
            "these heads are what is left",
        ),
        (
            prune_too_little(["w_q.bias", "w_k.bias", "w_v.bias"]),
            "w_q.bias still has the numbers of the heads that are gone",
        ),
        (
            prune_too_little(["w_v.weight", "w_v.bias"]),
            "w_v.weight still has the rows",
        ),
        (prune_and(shorter_bias), "the bias of w_o belongs to no head"),
        (
            prune_and(
                lambda state, new, heads, n: (
                    new | {"w_k.weight": new["w_k.weight"].T}
                )
            ),
            "the columns of w_k.weight are features of the input",
        ),
        (
            prune_and(
                lambda state, new, heads, n: (
                    new | {"w_k.weight": new["w_k.weight"][:1]}
                )
            ),
            "w_k.weight has shape (1, 12), and should have (8, 12)",
        ),
        (
            prune_and(
                lambda state, new, heads, n: (
                    new | {"w_v.weight": new["w_v.weight"].flip(0)}
                )
            ),
            "is not that of the others together",
        ),
        (lambda state, heads, n: state["w_o.weight"], "this is Tensor"),
        (
            lambda state, heads, n: {"w_q.weight": state["w_q.weight"]},
            "w_k.weight, w_k.bias, w_v.weight, w_v.bias, w_o.weight, w_o.bias",
        ),
        (
            lambda state, heads, n: state | {"w_p": state["w_o.bias"]},
            "w_p is too much",
        ),
    ],
)
def test_a_wrong_cut_is_explained(answer, words):
    assert fails("hw2.prune", answer, words)


# Groups ---


class GroupedLayers(nn.Module):
    def __init__(self, d_model, num_heads, num_groups):
        super().__init__()
        if d_model % num_heads or num_heads % num_groups:
            raise ValueError(
                f"{d_model}, {num_heads}, {num_groups}: each is to divide the"
                " one before."
            )
        few = d_model // num_heads * num_groups
        self.sizes = num_heads, num_groups
        self.w_q, self.w_o = (nn.Linear(d_model, d_model) for _ in range(2))
        self.w_k, self.w_v = (nn.Linear(d_model, few) for _ in range(2))

    def split(self, query, key, value):
        H, G = self.sizes
        return (
            torch.stack(w(x).chunk(n, -1), 1)
            for w, x, n in (
                (self.w_q, query, H),
                (self.w_k, key, G),
                (self.w_v, value, G),
            )
        )


class GroupedByKernel(GroupedLayers):
    def forward(self, query, key, value, mask=None):
        q, k, v = self.split(query, key, value)
        out = F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)
        return self.w_o(out.transpose(1, 2).flatten(2))


class GroupedByLoop(GroupedLayers):
    def forward(self, query, key, value, mask=None):
        q, k, v = self.split(query, key, value)
        H, G = self.sizes
        heads = []
        for h in range(H):
            g = h // (H // G)
            here = mask
            if mask is not None and mask.ndim == 4:
                here = mask[:, min(h, mask.shape[1] - 1)]
            heads.append(
                F.scaled_dot_product_attention(q[:, h], k[:, g], v[:, g], here)
            )
        return self.w_o(torch.cat(heads, -1))


class GroupedInFive(GroupedLayers):
    def forward(self, query, key, value, mask=None):
        q, k, v = self.split(query, key, value)
        H, G = self.sizes
        q = q.unflatten(1, (G, H // G))
        scores = torch.einsum("bgntk,bgsk->bgnts", q, k) / q.shape[-1] ** 0.5
        if mask is not None:
            full = mask.expand(len(q), H, *scores.shape[-2:])
            full = full.unflatten(1, (G, H // G))
            scores = scores.masked_fill(~full, -torch.inf)
        heads = torch.einsum("bgnts,bgsk->bgntk", scores.softmax(-1), v)
        return self.w_o(heads.flatten(1, 2).transpose(1, 2).flatten(2))


@pytest.mark.parametrize(
    "answer", [GroupedByKernel, GroupedByLoop, GroupedInFive]
)
@pytest.mark.parametrize("seed", range(2))
def test_any_way_to_group_is_right(answer, seed):
    verdict = check("hw2.GroupedQueryAttention", answer, seed)
    assert verdict, verdict.message


SPREAD = "(x.repeat_interleave(size, dim=1) for x in (few_k, few_v))"
ASK = "heads, _ = attention(q, k, v, mask)  # (B, H, T, d_k)"
SHARED = "shared_width = num_groups * d_model // num_heads"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (SHARED, "shared_width = d_model", "it is there that grouping saves"),
        (
            SPREAD,
            "(x[:, :1].expand(-1, self.num_heads, -1, -1) if size > 1 else x"
            " for x in (few_k, few_v))",
            "all heads use the first group",
        ),
        (
            ASK,
            ASK.replace("(q,", "(q / self.num_heads**0.5,"),
            "in 4 groups the scores are divided by the root of the model's",
        ),
        (
            ASK,
            "few = self.num_groups if size > 1 else 1\n"
            "        heads, _ = attention(q / few**0.5, k, v, mask)",
            "the root of all groups'",
        ),
        (
            ASK,
            "heads = attention(q, k, v, mask)[0] + q",
            "the numbers are not",
        ),
        (ASK, ASK.replace(", mask", ""), "the mask has no effect"),
        (SPREAD, "few_k, few_v", "your code raises RuntimeError"),
        (
            "if num_heads % num_groups:",
            "if False:",
            "3 does not divide 4, and no ValueError is raised",
        ),
    ],
)
def test_a_slip_in_the_groups_is_explained(old, new, words):
    answer = changed("hw2.GroupedQueryAttention", old, new)
    assert fails("hw2.GroupedQueryAttention", answer, words)


# The slips themselves ---


def test_without_a_slip_the_package_is_matched():
    state = slips.random_state(12, 3, 4)
    module = package.MultiHeadAttention(12, 3)
    module.load_state_dict(state)
    query, key, value = torch.randn(3, 2, 5, 12)
    torch.testing.assert_close(
        slips.multi_head(state, query, key, value, 3),
        module(query, key, value).detach(),
    )
