"""Whoever lets the package do the work is told, however they do it."""

import sys
import threading
from importlib import import_module

import pytest
import torch

import minitransformer
from minitransformer import causal_mask, storybook
from minitransformer.homework import honesty
from minitransformer.homework.checking import Wrong, call
from minitransformer.homework.honesty import (
    Borrowed,
    allowed_now,
    is_watched,
    lent,
    module_of,
    on_their_own,
    watched,
)


class Inherited(minitransformer.MultiHeadAttention):
    """Ours, under another name."""


def story():
    return next(iter(storybook.splits(5, 1, 1, 1).values()))


def wrapped(size):
    return causal_mask(size)


def caught(size):
    try:
        return causal_mask(size)
    except BaseException:
        return torch.ones(size, size).tril().bool()


def in_a_thread(size):
    thread = threading.Thread(target=caught, args=[size])
    thread.start()
    thread.join()
    return 1


@pytest.mark.parametrize(
    ("answer", "module"),
    [
        (causal_mask, "masks"),
        (wrapped, "masks"),
        (caught, "masks"),
        (in_a_thread, "masks"),
        (lambda size: Inherited(size, 1), "heads|attention"),
        (lambda size: list(map(causal_mask, [size])), "masks"),
    ],
)
def test_the_package_may_not_do_the_work(answer, module):
    words = f"minitransformer.({module}) does the work here"
    with watched(), pytest.raises(Wrong, match=words):
        call(answer, 3)
    assert call(answer, 3) is not None  # where nobody asks for homework


def test_what_is_allowed_runs():
    with watched(frozenset({"masks"})):
        assert call(causal_mask, 3).shape == (3, 3)
    with watched():
        assert "storybook" in call(minitransformer.corpus_names)
        assert call(story)[0].source
        assert call(lambda x: torch.tril(x), torch.ones(2, 2)).sum() == 3


def test_a_function_of_the_judges_may_use_anything():
    with watched():
        found = call(lambda function: function(3), lambda n: causal_mask(n))
    assert found.shape == (3, 3)
    with watched(), pytest.raises(Wrong, match="does the work"):
        call(lambda function: (function(3), causal_mask(3)), causal_mask)


def test_watching_ends_where_it_should():
    before = sys.getprofile()
    assert not is_watched()
    assert allowed_now() == frozenset()
    with watched(frozenset({"model"})):
        assert is_watched()
        assert allowed_now() == honesty.OPEN | {"model"}
        with pytest.raises(Borrowed), on_their_own():
            causal_mask(3)
        assert sys.getprofile() is before
        causal_mask(3)
    assert not is_watched()
    with on_their_own():
        causal_mask(3)
    threads = []
    thread = threading.Thread(target=lambda: threads.append(sys.getprofile()))
    thread.start()
    thread.join()
    assert threads == [None]


def test_loading_a_module_is_no_work(monkeypatch):
    def load():
        for name in ("positions", "heads"):
            name = f"minitransformer.{name}"
            monkeypatch.delitem(sys.modules, name, raising=False)
            import_module(name)
        return 1

    with watched():
        assert call(load) == 1
    with watched(), pytest.raises(Wrong, match="masks does the work"):
        call(lambda: (load(), causal_mask(3)))


def test_what_is_lent_is_unwatched_and_watching_goes_on():
    seen = []

    def watch(frame, event, _):
        seen.append(event)

    sys.setprofile(watch)
    try:
        lent(lambda: seen.append("inside"))()
        found = sys.getprofile()
    finally:
        sys.setprofile(None)
    assert found is watch
    assert "inside" in seen


def test_modules_are_told_from_their_files():
    assert module_of(minitransformer.masks.__file__) == "masks"
    assert module_of(minitransformer.__file__) == "__init__"
    assert module_of(torch.__file__) == ""
    assert not {"masks", "attention", "homework.solutions"} & honesty.OPEN
