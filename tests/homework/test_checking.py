"""The judge: right, wrong, untouched, and whatever else learners hand in."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from minitransformer.errors import UserError
from minitransformer.homework import Verdict, check, checking


@pytest.fixture
def lesson(monkeypatch):
    """Register one exercise, and one quiz, of a chapter 99."""
    monkeypatch.setattr(checking, "_CHECKS", {})
    monkeypatch.setattr(checking, "_KEYS", {})

    @checking.exercise("99.1")
    def check_doubled(answer):
        x = torch.randn(3, 5)
        result = checking.numbers(checking.call(answer, x), (3, 5))
        if not checking.is_near(result, 2 * x):
            mistakes = [(x, "that is x itself."), (3 * x, "too much.")]
            checking.explain(result, mistakes, "double it.")

    @checking.quiz(99)
    def key():
        return "ABCDA"


def test_a_verdict_shows_as_a_sentence_and_counts_as_its_truth(lesson):
    right = check("99.1", lambda x: 2 * x)
    assert right == Verdict("99.1", True, "Correct.")
    assert right
    assert repr(right) == "99.1 Correct."
    wrong = check("99.1", lambda x: x)
    assert not wrong
    assert repr(wrong) == "99.1 Not yet: that is x itself."


def forgetful(x):
    x = 2 * x


class Forgetful(nn.Module):
    def forward(self, x):
        x.sum()


class Untouched(nn.Module):
    def forward(self, x):
        return self.double(x)

    def double(self, x): ...


@pytest.mark.parametrize("answer", [forgetful, Forgetful()])
def test_a_forgotten_return_is_named(lesson, answer):
    message = check("99.1", answer).message
    assert "nothing comes back: is a return missing?" in message


@pytest.mark.parametrize(
    "answer",
    [
        ...,
        None,
        [..., 1],
        lambda x: ...,
        lambda x: None,
        Untouched(),
        lambda x: (x, ...),
        torch.nn.Module(),
    ],
)
def test_a_stub_waits(lesson, answer):
    assert "waits for your answer" in check("99.1", answer).message


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (3, "a function is wanted, and this is int"),
        (lambda: 1, "raises TypeError"),
        (lambda x: x / 0 + {}[1], "raises KeyError: 1"),
        (lambda x: 3 * x, "too much."),
        (lambda x: x - 1, "double it."),
        (lambda x: x.mul_(2), "in place"),
        (lambda x: "twice", "this is str"),
        (lambda x: (2 * x).T, "shape is (5, 3), and should be (3, 5)"),
    ],
)
def test_what_is_wrong_is_said(lesson, answer, words):
    verdict = check("99.1", answer)
    assert not verdict
    assert words in verdict.message


@pytest.mark.parametrize(
    "convert", [torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.double]
)
def test_numbers_may_come_in_any_form(lesson, convert):
    assert check("99.1", lambda x: convert(2 * x))
    assert check("99.1", lambda x: 2 * np.asarray(x))


@pytest.mark.parametrize(
    "answer", [0.5, "1/2", [0.5], torch.tensor([0.5]), Fraction(1, 2)]
)
def test_a_single_number_may_come_in_any_form_but_text(answer):
    if isinstance(answer, str):
        with pytest.raises(checking.Wrong, match="this is str"):
            checking.numbers(answer, ())
    else:
        assert checking.numbers(answer, ()) == 0.5


def test_rows_of_unequal_length_are_no_table():
    with pytest.raises(checking.Wrong, match="unequal length"):
        checking.numbers([[1, 2], [3]])


def test_an_answer_is_tried_on_other_numbers_with_another_seed(lesson):
    torch.manual_seed(0)
    known = 2 * torch.randn(3, 5)
    assert check("99.1", lambda x: known, seed=0)
    assert not check("99.1", lambda x: known, seed=1)


def test_the_random_numbers_of_the_learner_are_left_alone(lesson):
    torch.manual_seed(7)
    check("99.1", lambda x: 2 * x)
    after = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(3))


def test_inputs_with_nan_may_be_handed_back_unchanged():
    x = torch.tensor([1.0, torch.nan])
    assert checking.call(lambda x: x.sum(), x).isnan()


def test_a_quiz_says_which_answers_and_not_what(lesson):
    assert check("99.quiz", list("ABCDA"))
    assert check("99.quiz", ["a ", "b", "c", "d", "a"])
    verdict = check("99.quiz", list("ABCAB"))
    assert repr(verdict) == (
        "99.quiz Not yet: 3 of 5 are right. Think again about 4, 5."
    )
    assert "five" not in verdict.message
    assert "waits" in check("99.quiz", [...] * 5).message
    assert "there are 2" in check("99.quiz", ["A", "B"]).message
    assert "there is 1" in check("99.quiz", 5).message
    assert "waits" in check("99.quiz", ...).message


def test_a_name_may_be_given_as_a_number(lesson):
    assert check(99.1, lambda x: 2 * x)


@pytest.mark.parametrize("name", ["99.2", "2.9", "0.1", "hello", ""])
def test_an_unknown_exercise_is_refused_by_name(name):
    with pytest.raises(UserError, match=f"no exercise '{name}'"):
        check(name, 1)


def test_the_refusal_lists_what_there_is(lesson):
    with pytest.raises(UserError, match=r"there are 99\.1, 99\.quiz"):
        check("99.2", 1)


@pytest.mark.parametrize(
    "make",
    [set, frozenset, iter, lambda parts: (part for part in parts)],
)
def test_whatever_can_be_counted_through_comes_back_as_a_list(make):
    parts = checking.call(lambda: make([(1, 2), (3, 4)]))
    assert sorted(parts) == [(1, 2), (3, 4)]
    assert type(parts) is list


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.update(b=torch.ones(2)),
        lambda state: state["a"].zero_(),
        lambda state: state.clear(),
    ],
)
def test_a_dictionary_of_tensors_must_stay_as_it_was(change):
    state = {"a": torch.ones(3)}
    with pytest.raises(checking.Wrong, match="in place"):
        checking.call(lambda given: (change(given), 1)[1], state)
    assert checking.call(lambda given: len(given), state) == 1


@pytest.mark.parametrize("seed", [-1, 2**31, 10**17])
def test_a_seed_that_none_can_take_is_told(seed):
    with pytest.raises(UserError, match="must be 0 or more"):
        check("2.1", ..., seed=seed)


class Wide(nn.Module):
    """Two layers; ``forward`` decides which of them can learn."""

    def __init__(self, forward):
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2, bias=False)
        self.fixed = nn.Parameter(torch.ones(2), requires_grad=False)
        self.function = forward

    def forward(self, x):
        return self.function(self, x)


def without_gradient(m, x):
    with torch.no_grad():
        return m.b(m.a(x))


@pytest.mark.parametrize(
    ("forward", "names"),
    [
        (lambda m, x: m.b(m.a(x)) * m.fixed, []),
        (lambda m, x: [m.a(x), "beside", m.b(m.a(x.detach()))], []),
        (lambda m, x: (m.a(x), m.b(m.a(x)).double()), []),
        (lambda m, x: m.b(m.a(x.detach())), ["input 1"]),
        (lambda m, x: m.b(m.a(x).detach()), ["input 1", "a.weight", "a.bias"]),
        (lambda m, x: m.a(x), ["b.weight"]),
        (
            lambda m, x: x @ m.a.weight.T @ m.b.weight.data.T,
            ["a.bias", "b.weight"],
        ),
        (without_gradient, ["input 1", "a.weight", "a.bias", "b.weight"]),
        (
            lambda m, x: m.b(m.a(x)).sum().item(),
            ["input 1", "a.weight", "a.bias", "b.weight"],
        ),
    ],
)
def test_what_no_gradient_reaches_is_named(forward, names):
    module, x = Wide(forward), torch.randn(5, 3)
    assert checking.unreached(module, x.clone()) == names
    with torch.no_grad():  # as it is wherever a learner works
        assert checking.unreached(module, x.clone()) == names
    if not names:
        checking.must_learn(module, x)
        return
    with pytest.raises(checking.Wrong) as caught:
        checking.must_learn(module, x)
    words = str(caught.value)
    assert " and ".join(names[:2]) in words
    assert ("and others" in words) == (len(names) > 2)
    assert not x.requires_grad
    assert all(p.grad is None for p in module.parameters())


def test_a_function_must_pass_its_inputs_gradient_but_not_that_of_ids():
    x, ids = torch.randn(2, 3), torch.tensor([1, 0])
    checking.must_learn(lambda x, ids: x[ids], x, ids)
    checking.must_learn(lambda ids: ids + 1, ids)
    with pytest.raises(checking.Wrong, match="comes back to input 1, so"):
        checking.must_learn(lambda x, ids: x.data[ids], x, ids)


def test_a_number_changed_before_its_gradient_is_needed_is_told():
    def in_place(x):
        y = x.exp()
        y += 1
        return y

    assert torch.equal(
        checking.call(in_place, torch.zeros(2)), torch.ones(2) + 1
    )
    with pytest.raises(checking.Wrong, match="inplace operation"):
        checking.must_learn(in_place, torch.zeros(2))
