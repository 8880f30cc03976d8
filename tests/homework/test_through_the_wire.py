"""The five assignments, judged in a sandbox as they are judged here."""

import sys
from pathlib import Path

import pytest

from minitransformer.homework import tasks
from minitransformer.homework.grading.folders import SOLUTIONS
from minitransformer.homework.grading.judging import judge_file
from minitransformer.homework.grading.remote import Session
from minitransformer.homework.grading.sandbox import Limits, limits_for
from minitransformer.homework.tasks import ASSIGNMENTS, find_task

sys.path.insert(0, str(Path(__file__).parents[2]))

from tools import gallery

SLOW = "hw5.translate"  # it trains for minutes
# It counts what happens in the judge's own process, and is worth no points.
UNSEEN = "no old token is computed again"


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_the_reference_gets_full_points(name, monkeypatch):
    every = tasks.tasks_of(name)
    monkeypatch.delitem(tasks._TASKS, SLOW, raising=False)
    report = judge_file(SOLUTIONS / f"{name}.py", name, 0, limits_for(name))
    assert report.reason == ""
    assert [t.message for t in report.tasks if not t.passed] == []
    assert report.points == sum(x.points for x in every if x.name != SLOW)


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_the_classic_mistakes_get_the_same_words(name):
    mutants = [
        mutant
        for mutant in gallery.mutants()
        if mutant["task"].partition(".")[0] == name and mutant["task"] != SLOW
    ]
    assert len(mutants) >= 10
    with Session(Limits(seconds=300)) as session:
        for mutant in mutants:
            task = find_task(mutant["task"])
            session.run([gallery.source_of(mutant)], False)
            assert session.errors == []
            session.begin_task()
            verdict = task.verdict(session.find(task.wanted), seed=1)
            if mutant["fails"] == UNSEEN:
                assert task.points == 0
                continue
            assert not verdict, mutant["title"]
            assert mutant["says"] in verdict.message, mutant["title"]
