"""A shape comment is a claim: ``y = ...  # (B, T, D)`` is checked here.

The package runs once, small, under a trace; wherever an assignment carries a
shape, the letters are unified with the sizes, for the whole of that call.
"""

import ast
import re
import sys
from pathlib import Path

import pytest
import torch

import minitransformer as mt

PACKAGE = Path(mt.__file__).parent
COMMENT = re.compile(r"#\s*\(((?:[\w·]+|\.\.\.)(?:,\s*[\w·]*)*)\)\s*$")
FACTOR = re.compile(r"\d+|[A-Za-z]\w*")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def targets(node):
    """Name what an assignment assigns: ``x`` or ``k, v``."""
    first = node.targets[0] if isinstance(node, ast.Assign) else node.target
    parts = first.elts if isinstance(first, ast.Tuple) else [first]
    return [part.id for part in parts if isinstance(part, ast.Name)]


def claims(path):
    """Map each function to its claims: (first line, last line, names, dims).

    A function is known by its file and its first line.
    """
    source = path.read_text("utf-8")
    commented = {
        number: [dim.strip() for dim in match[1].split(",") if dim.strip()]
        for number, line in enumerate(source.splitlines(), start=1)
        if (match := COMMENT.search(line))
    }
    found = {}
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, FUNCTIONS):
            continue
        for node in ast.walk(function):
            is_assignment = isinstance(node, (ast.Assign, ast.AnnAssign))
            if is_assignment and node.end_lineno in commented:
                start = min(
                    [d.lineno for d in function.decorator_list]
                    + [function.lineno]
                )
                found.setdefault((str(path), start), []).append(
                    (
                        node.lineno,
                        node.end_lineno,
                        targets(node),
                        commented[node.end_lineno],
                    )
                )
    lines = {claim[1] for here in found.values() for claim in here}
    assert lines == commented.keys(), "a shape comment on no assignment"
    return found


def unify(dims, shape, sizes):
    """Match letters with sizes; a product such as 2K must come out right."""
    if dims[0] == "...":
        dims = dims[1:]
        shape = shape[len(shape) - len(dims) :]
    assert len(dims) == len(shape), (dims, shape)
    for dim, size in zip(dims, shape, strict=True):
        factors = FACTOR.findall(dim)
        known = 1
        for factor in factors:
            known *= int(factor) if factor.isdigit() else sizes.get(factor, 1)
        unknown = [f for f in factors if not f.isdigit() and f not in sizes]
        if len(unknown) == 1:
            assert size % known == 0, (dim, size, sizes)
            sizes[unknown[0]] = size // known
        elif not unknown:
            assert size == known, (dims, shape, sizes)


class Checker:
    """Trace calls; check each claim right after its assignment has run."""

    def __init__(self, claimed):
        self.claimed = claimed
        self.wrong = []
        self.reached = set()

    def __enter__(self):
        self.previous = sys.gettrace()
        sys.settrace(self.on_call)
        return self

    def __exit__(self, *_):
        sys.settrace(self.previous)

    def on_call(self, frame, event, argument):
        code = frame.f_code
        here = self.claimed.get((code.co_filename, code.co_firstlineno))
        if here is None:
            return None
        sizes, last = {}, frame.f_lineno

        def on_line(frame, event, argument):
            nonlocal last
            for first, end, names, dims in here:
                inside = first <= frame.f_lineno <= end and event == "line"
                if first <= last <= end and not inside:
                    values = [frame.f_locals.get(name) for name in names]
                    self.compare(values, dims, sizes, (code, end))
            last = frame.f_lineno
            return on_line

        return on_line

    def compare(self, values, dims, sizes, where):
        code, line = where
        for value in values:
            try:
                unify(dims, tuple(value.shape), sizes)
            except (AssertionError, AttributeError) as error:
                place = f"{Path(code.co_filename).name}:{line}"
                self.wrong.append(f"{place}: {error}")
        self.reached.add((code.co_filename, line))


@pytest.fixture
def scenario(make_model, translator, tmp_path):
    """Return calls that reach every shape comment of the package."""
    from minitransformer.cli import run
    from minitransformer.data import Batch
    from minitransformer.decoding import (
        beam_search,
        best_words,
        greedy_decode,
    )
    from minitransformer.heads import (
        even,
        map_distances,
        map_shares,
        rewritten,
    )
    from minitransformer.loss import output_loss, smoothed_cross_entropy
    from minitransformer.probes import batch_order_gap, decoder_future_leak
    from minitransformer.sampling import sample
    from minitransformer.training import translation_loss

    model = make_model()
    older = [
        mt.RecurrentTranslator(
            mt.RecurrentConfig(
                source_vocab_size=23,
                target_vocab_size=29,
                d_model=14,
                attention=kind,
            )
        )
        for kind in ("additive", "general")
    ]
    source = torch.randint(4, 23, (2, 7))  # (B, S)
    target = torch.randint(4, 29, (2, 5))  # (B, T)
    query, key = torch.randn(2, 5, 13), torch.randn(2, 7, 13)
    hidden = torch.randn(11, 13, requires_grad=True)
    words, labels = torch.randn(17, 13), torch.randint(17, (11,))
    translator.save(tmp_path / "model")
    draw = ["attention", "the cat sees.", "--model", str(tmp_path / "model")]

    def calls():
        mt.scaled_dot_product_attention(query, key, key[..., :3])
        mt.SelfAttention(13, d_k=3, d_v=2)(query)
        model(source, target)
        for recurrent in older:
            recurrent(source, target)
            greedy_decode(recurrent, source, max_len=3)
        greedy_decode(model, source, max_len=3)
        beam_search(model, source, beam_size=3, max_len=4)
        with mt.recorded_attention(model):  # each step by the model itself
            beam_search(model, source, beam_size=3, max_len=4)
        sample(model, source, count=3, max_len=4)
        with rewritten(model, {("encoder.0.self_attention", 1): even}):
            model(source, target)
        maps = torch.rand(3, 5, 5).softmax(dim=-1)  # (H, T, T)
        map_shares(maps)
        map_distances(maps)
        best_words(torch.randn(200, 300), 3)
        mt.layer_norm(query, torch.ones(13), torch.zeros(13))
        decoder_future_leak(model, source, target)
        batch_order_gap(model, source, target)
        smoothed_cross_entropy(hidden @ words.T, labels)
        output_loss(hidden, words, labels)
        with torch.no_grad():
            output_loss(hidden, words, labels)
        translation_loss(model, Batch(source, target))
        assert run([*draw, "--out", str(tmp_path / "a.png")]) == 0

    return calls


def test_every_shape_comment_is_reached_and_true(scenario):
    claimed = {}
    for path in PACKAGE.glob("*.py"):
        claimed |= claims(path)
    with Checker(claimed) as checker:
        scenario()
    assert checker.wrong == []
    everything = {
        (file, claim[1])
        for (file, _), here in claimed.items()
        for claim in here
    }
    assert everything - checker.reached == set()
    assert len(everything) > 25


FALSE = {
    "a wrong order": "y = x.T  # (A, B)\n    z = y @ x  # (A, B)",
    "too many axes": "y = x @ x.T  # (1, A, A)",
    "a wrong number": "y = x[:1]  # (2, B)",
    "a wrong product": "y = x  # (A, B)\n    z = x.flatten()  # (2A)",
    "no tensor": "y = x.tolist()  # (A, B)",
    "a name used twice": "y = x  # (A, B)\n    y = x.T  # (A, B)",
}


def check(tmp_path, body):
    path = tmp_path / "wrong.py"
    path.write_text(f"def wrong(x):\n    {body}\n    return 1\n", "utf-8")
    names = {}
    exec(compile(path.read_text("utf-8"), str(path), "exec"), names)
    with Checker(claims(path)) as checker:
        names["wrong"](torch.randn(2, 3))
    return checker


@pytest.mark.parametrize("what", FALSE)
def test_a_false_comment_is_caught(tmp_path, what):
    assert check(tmp_path, FALSE[what]).wrong != []


def test_a_true_comment_is_not(tmp_path):
    body = "y = x @ x.T  # (A, A)\n    z = x.flatten()  # (A·B,)"
    checker = check(tmp_path, body)
    assert checker.wrong == []
    assert len(checker.reached) == 2


def test_a_comment_on_no_assignment_is_caught(tmp_path):
    with pytest.raises(AssertionError, match="on no assignment"):
        check(tmp_path, "print(x)  # (A, B)")


def test_a_comment_in_a_loop_is_checked_each_time(tmp_path):
    body = "for i in (2, 1):\n        y = x[:i]  # (A, B)"
    assert len(check(tmp_path, body).wrong) == 1
