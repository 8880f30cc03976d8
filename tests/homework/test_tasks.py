"""Tasks: tests in order, inputs by seed, verdicts in words."""

import sys

import pytest
import small
import torch

from minitransformer.errors import UserError
from minitransformer.homework import check, tasks
from minitransformer.homework.checking import Wrong, call
from minitransformer.homework.tasks import Place, Task, find_task, tasks_of


@pytest.fixture(autouse=True)
def _small_assignment(monkeypatch):
    monkeypatch.setattr(tasks, "_TASKS", {})
    monkeypatch.setattr(tasks, "ASSIGNMENTS", ("hw9",))
    monkeypatch.setitem(sys.modules, "minitransformer.homework.hw9", sys)
    small.register()


def test_a_verdict_says_what_is_wrong_and_where_to_read():
    assert check("hw9.double", lambda x: 2 * x)
    verdict = check("hw9.double", lambda x: x)
    assert not verdict
    assert verdict.message == (
        'Not yet: that is x itself. See chapter 2, "Why divide by √d_k".'
    )
    for stub in (..., None, lambda x: None, lambda x: ...):
        assert check("hw9.double", stub).message == (
            "waits for your answer: replace the dots (...)."
        )
    forgetful = check("hw9.double", lambda x: print(end="")).message
    assert "is a return missing? See chapter" in forgetful


def test_tasks_are_found_by_name_and_in_order():
    names = [task.name for task in tasks_of("hw9")]
    assert names == ["hw9.double", "hw9.Scale", "hw9.apply"]
    assert find_task("hw9.Scale").wanted == "Scale"
    with pytest.raises(UserError, match=r"no task 'hw9\.other': hw9 has"):
        find_task("hw9.other")
    with pytest.raises(UserError, match="no assignment 'hw8': choose one of"):
        find_task("hw8.double")
    assert str(Place(3, "Masks")) == 'chapter 3, "Masks"'


def test_each_test_draws_its_own_inputs_whatever_ran_before():
    seen = {}
    task = Task("hw9.seen", 1)

    def look(number):
        def judge(answer):
            seen.setdefault(number, []).append(torch.rand(2).tolist())
            if number in answer:
                raise Wrong("no.")

        return judge

    for number in range(3):
        task.test(f"test {number}", 1, "A")(look(number))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = [words for _, words in task.findings({1}, seed=4)]
    assert found == ["", "no.", ""]
    list(task.findings({}, seed=4))
    list(task.findings({}, seed=5))
    assert torch.equal(before, torch.get_rng_state())
    for first, second, other in seen.values():
        assert first == second != other
    assert len({str(draws[0]) for draws in seen.values()}) == 3


def test_a_result_that_no_test_foresaw_is_a_wrong_answer():
    task = Task("hw9.shape", 1)

    @task.test("it has a shape", 1, "A")
    def check_shape(answer):
        if call(answer).shape != (2,):
            raise Wrong("the shape.")

    message = task.verdict(lambda: "text").message
    assert "reading it raises AttributeError: 'str' object" in message
    assert task.verdict(lambda: torch.rand(2))
    assert "waits" in task.verdict(lambda: None).message


def test_what_an_answer_draws_does_not_change_our_inputs():
    task = Task("hw9.draws", 1)
    seen = []

    @task.test("it draws", 1, "A")
    def check_draws(answer):
        torch.manual_seed(3)
        first = call(answer)
        torch.manual_seed(3)
        assert first == call(answer)  # its numbers begin where ours are
        assert first != call(answer)  # and ours go on elsewhere
        torch.manual_seed(3)
        assert first is None or first == torch.rand(()).item()
        call(answer)
        seen.append(torch.rand(()).item())

    def forgetful():
        found = torch.rand(()).item()
        torch.manual_seed(0)
        torch.rand(100)
        return found

    assert task.verdict(lambda: torch.rand(()).item())
    assert task.verdict(forgetful)
    assert seen[0] == seen[1]


def test_leaving_the_program_is_an_error_of_the_answer():
    def leave(x):
        sys.exit("enough")

    message = check("hw9.double", leave).message
    assert "your code raises SystemExit: enough" in message
