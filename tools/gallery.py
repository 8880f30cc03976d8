"""Classic mistakes, each a small change of a right answer.

``book/homework/gallery1.yml`` and so on list them. A mistake is applied to
the answers of its assignment by replacing one piece of text by another.
"""

import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools import nb

ANSWERS = nb.ROOT / "minitransformer" / "homework" / "solutions"
WORDS, STEPS = 30, 100  # of a small training run
LEARNED = 0.1  # a loss below this: the batch is known by heart


@cache
def mutants() -> list[dict[str, str]]:
    """Return the mistakes of all assignments.

    Each has a ``task``, a ``title``, the texts ``old`` and ``new``, the title
    of the first test it ``fails``, and a piece of what that test ``says``.
    """
    return [
        entry
        for path in sorted((nb.BOOK / "homework").glob("gallery[0-9].yml"))
        for entry in yaml.safe_load(path.read_text("utf-8"))
    ]


def answers_of(mutant: dict[str, str]) -> str:
    """Return the right answers of the assignment that a mistake is of."""
    assignment = mutant["task"].partition(".")[0]
    return (ANSWERS / f"{assignment}.py").read_text("utf-8")


def source_of(mutant: dict[str, str]) -> str:
    """Return the answers of an assignment with one mistake in them."""
    text = answers_of(mutant)
    if text.count(mutant["old"]) != 1:
        raise ValueError(
            f"{mutant['task']}, {mutant['title']!r}: {mutant['old']!r} stands"
            f" {text.count(mutant['old'])} times in the answers, not once."
        )
    return text.replace(mutant["old"], mutant["new"])


def names_of(text: str) -> dict[str, Any]:
    """Run the answers of an assignment and return what they define."""
    names: dict[str, Any] = {"__name__": "submission"}
    exec(compile(text, "submission", "exec"), names)
    return names


def answer_of(mutant: dict[str, str]) -> Any:
    """Return the wrong answer itself, ready to be judged."""
    return names_of(source_of(mutant))[mutant["task"].partition(".")[2]]


def steps_to_learn(text: str) -> int:
    """Let a small model learn eight made-up pairs by heart.

    Args:
        text: The answers of homework 4, right or wrong.

    Returns:
        After how many steps the loss is below `LEARNED`; `STEPS` if it is
        not by then, or a step fails.
    """
    names = names_of(text)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pairs = torch.randint(4, WORDS, (2, 8, 6))
        lengths = torch.tensor([6, 3, 5, 2, 4, 6, 5, 3])
        source, target = pairs * (torch.arange(6) < lengths[:, None])
        model = names["Transformer"](
            vocab_size=WORDS,
            d_model=32,
            num_heads=4,
            num_encoder_layers=2,
            num_decoder_layers=2,
            d_ff=64,
        )
        optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
        try:
            for step in range(STEPS):
                reads, labels = names["shift"](target)
                loss = names["loss"](model(source, reads), labels)
                if loss < LEARNED:
                    return step
                if loss.isnan():
                    break
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        except (RuntimeError, IndexError, TypeError, ValueError):
            return STEPS
    return STEPS
