"""The keys of the quizzes are computed, and by chance of no seed.

That they are the answers which the chapters give, `test_book.py` tests.
"""

import pytest
import torch

from minitransformer.homework import check, checking
from tools import nb

CHAPTERS = [int(chapter.stem[:2]) for chapter in nb.chapters()]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_key_is_the_same_for_every_seed(chapter):
    name = f"{chapter}.quiz"
    check(name, [...] * 5)  # loads the chapter's checks
    keys = set()
    for seed in range(5):
        torch.manual_seed(seed)
        keys.add(checking._KEYS[name]())
    (key,) = keys
    assert len(key) == checking.QUESTIONS
    assert set(key) <= set("ABCD")
    assert len(set(key)) > 1  # not the same letter five times
    assert check(name, list(key))
