"""Write book/quality.md from what benchmarks/quality.py measured.

python tools/quality_page.py
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from minitransformer.files import read_json

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from quality import STEP_UPDATES, Run, all_runs, is_of

from tools.pages import BOOK, RESULTS, table, write

PRECISIONS = {"": "", "fp32": ", in float32,", "bf16": ", in bfloat16,"}
PAGE = """\
# How well they translate

A score that nobody can make again is an anecdote. The scores in these tables
were measured by a script, `benchmarks/quality.py`, which trains, translates
and scores; `python benchmarks/quality.py --list` shows what it can do. Sizes,
rates and the number of updates were chosen by validation sentences. Earlier
recipes were scored on the same test sentences, too; nothing was chosen by
that.

BLEU and chrF are sacreBLEU's. Case and punctuation count; chrF ignores spaces.
[Chapter 11](../notebooks/11_decoding.ipynb) computes both by hand. Unless a
column says otherwise, translations come from a beam of four. The signatures
are in `minitransformer/results/quality.json`.

## On unseen text

{tested}

The brackets hold the 95 % interval that sacreBLEU finds by drawing the test
sentences anew. Where a recipe was trained with several seeds, the score and
the ends of the interval are means over them, and the least and the greatest
score follow. Minutes are those of one core: {machines}.
The recipe called "command line" is what `minitransformer train --corpus NAME`
does unless told otherwise. "As published" is the form in which papers score
Multi30k: normalised and tokenised by Moses' rules, lower-cased. In that form
[Wu et al., 2021](references.md) report 41.02 from English to German, for a
small Transformer of 2.6 million parameters.{published}

Two baselines need no model. "Copy" leaves each sentence as it is. "Dictionary"
gives each word its most frequent translation, learned from the same pairs.

## What each choice brought

Each line is one run with one seed and {updates:,} updates, on validation
sentences; the number in brackets is the difference from the unchanged recipe
of the command line after as many updates. One seed cannot tell a difference of
a few tenths from chance, and a longer training may want more dropout than a
short one.

{steps}

What follows was trained as long as a final recipe or longer, with one seed; in
brackets is the difference from that recipe.

{trials}
{missing}
## The models in the package

Two translators come with the package; nothing need be trained or fetched.
{older}

```{{include}} ../minitransformer/models/storybook-en-fr/README.md
:heading-offset: 2
```

```{{include}} ../minitransformer/models/tatoeba-zh-en/README.md
:heading-offset: 2
```
"""
NAMES = {"final": "final", "recipe": "command line"}


def scores_of(
    runs: Sequence[dict[str, Any]], split: str, who: str = "model"
) -> dict[str, list[dict[str, Any]]]:
    """Collect the scores of some runs by measure."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        for each in run["splits"][split]["scores"]:
            if each["of"] == who:
                found.setdefault(each["name"], []).append(each)
        if who == "model" and "as published" in run["splits"][split]:
            score = run["splits"][split]["as published"]
            found.setdefault("as published", []).append(score)
    return found


def cell(scores: Sequence[Mapping[str, Any]]) -> str:
    """Show the mean of some seeds' scores, its interval, and the range."""
    values = [score["value"] for score in scores]
    low, high = (
        mean(score["interval"][end] for score in scores) for end in (0, 1)
    )
    said = f"{mean(values):.1f} [{low:.1f}, {high:.1f}]"
    if len(values) > 1:
        said += f"; {min(values):.1f} to {max(values):.1f}"
    return said


def tests(kept: dict[str, dict[str, Any]]) -> dict[tuple[str, str], Any]:
    """Put the runs that were tested alike together, the recipes apart.

    Returns:
        For each corpus and split the runs of each recipe, by its name.
    """
    found: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = {}
    for run in kept.values():
        for split in run["splits"] if run["tested"] else ():
            recipes = found.setdefault((run["corpus"], split), {})
            recipes.setdefault(run["name"], []).append(run)
    return found


def minutes(runs: list[dict[str, Any]]) -> str:
    """Say how long runs took: machines differ, so it is the extremes."""
    found = [round(run["core_minutes"]) for run in runs]
    least, most = min(found), max(found)
    return f"{least}" if least == most else f"{least} to {most}"


def tested(kept: dict[str, dict[str, Any]]) -> str:
    """Tabulate the scores on the test, those of the baselines last."""
    rows = []
    for (corpus, split), recipes in tests(kept).items():
        bare: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for name, runs in recipes.items():
            found = scores_of(runs, split)
            count = runs[0]["splits"][split]["sentences"]
            of = f"{corpus}, {split} ({count:,})"
            scores = [
                cell(found[each]) if each in found else ""
                for each in ("BLEU", "chrF2", "as published")
            ]
            if runs[0].get("published"):
                scores[:2] = "", ""  # of another text than in other rows
            rows.append(
                [
                    of,
                    f"{NAMES.get(name, name)}, {len(runs)}",
                    f"{runs[0]['parameters']:,}",
                    minutes(runs),
                    *scores,
                ]
            )
            for who in ("copy", "dictionary"):
                bare[who] = bare.get(who) or scores_of(runs[:1], split, who)
        for who, found in bare.items():
            if found:
                scores = [cell(found["BLEU"]), cell(found["chrF2"]), ""]
                rows.append([of, who, "", "", *scores])
    head = ["test (sentences)", "recipe, seeds", "parameters", "minutes"]
    return table([*head, "BLEU", "chrF", "as published"], rows)


def published(kept: dict[str, dict[str, Any]]) -> str:
    """Explain the run that learned the published form, if there is one."""
    if not any(run.get("published") for run in kept.values()):
        return ""
    return (
        '\nWhat is called "in the published form" has learned text in that'
        " form, too."
    )


def changed(kept: dict[str, dict[str, Any]], kind: str, of: str) -> str:
    """Tabulate changes of a recipe by their validation scores.

    Args:
        kept: The runs.
        kind: What the changed runs' names begin with.
        of: The name of the run that they change.
    """
    rows = []
    corpora = {
        run["corpus"] for run in kept.values() if run["name"].startswith(kind)
    }
    for run in kept.values():
        base = kept.get(f"{run['corpus']}/{of}-0")
        if run["corpus"] not in corpora or not base:
            continue
        if run is not base and not run["name"].startswith(kind):
            continue
        cells = []
        for beam, measure in (
            ("beam 1", "BLEU"),
            ("beam 4", "BLEU"),
            ("beam 8", "BLEU"),
            ("beam 4", "chrF"),
        ):
            value = run["valid"][beam][measure]
            more = value - base["valid"][beam][measure]
            cells.append(
                f"{value:.1f}" if run is base else f"{value:.1f} ({more:+.1f})"
            )
        rows.append(
            [
                run["corpus"],
                run["name"].removeprefix(kind),
                f"{run['parameters']:,}",
                f"{run['core_minutes']:.0f}",
                *cells,
            ]
        )
    if not rows:
        return "None of these runs was made yet."
    head = ["corpus", "change", "parameters", "minutes", "BLEU, greedy"]
    head += ["BLEU, beam 4", "BLEU, beam 8"]
    return table([*head, "chrF, beam 4"], rows)


def machines(kept: dict[str, dict[str, Any]]) -> str:
    """Say what was learned on which machine, and in which precision.

    Where a corpus was learned on several, the runs are named.
    """
    places: dict[str, dict[str, list[str]]] = {}
    for key, run in kept.items():
        # Older results don't tell the precision.
        numbers = PRECISIONS[run.get("precision", "")]
        corpora = places.setdefault(run["machine"] + numbers, {})
        name = key.removeprefix(f"{run['corpus']}/")
        corpora.setdefault(run["corpus"], []).append(f"`{name}`")

    def said(corpus: str, names: list[str]) -> str:
        everywhere = sum(corpus in corpora for corpora in places.values()) > 1
        return f"{corpus} ({', '.join(names)})" if everywhere else corpus

    return "; ".join(
        f"{place} for {', '.join(said(*found) for found in corpora.items())}"
        for place, corpora in places.items()
    )


def older(
    kept: dict[str, dict[str, Any]], shipped: dict[str, dict[str, Any]]
) -> str:
    """Say which models in the package come from no recipe above."""

    def comes_from(run: dict[str, Any], model: dict[str, Any]) -> bool:
        wanted = run["recipe"]["sizes"].items()
        return run["parameters"] == model["parameters"] and all(
            model["config"][size] == value for size, value in wanted
        )

    names = [
        name
        for name, model in shipped.items()
        if not any(comes_from(r, model) for r in kept.values() if r["tested"])
    ]
    if not names:
        return ""
    said = " and ".join(f"`{name}`" for name in names)
    return f"That of {said} comes from an older recipe than those above.\n"


def missing(kept: dict[str, dict[str, Any]], runs: dict[str, Run]) -> str:
    """Say what the script knows of and nobody has measured."""
    names: dict[str, Counter[str]] = {}
    for key, run in runs.items():
        if key not in kept:
            name = run.name.removeprefix("step, ").removeprefix("trial, ")
            names.setdefault(run.corpus, Counter())[name] += 1
    if not names:
        return ""
    lines = []
    for corpus, counts in names.items():
        said = (
            f"{name} ({count} seeds)" if count > 1 else name
            for name, count in counts.items()
        )
        lines.append(f"- {corpus}: {'; '.join(said)}.")
    return "\n".join(["\nNot measured yet:\n", *lines, ""])


def render() -> str:
    """Return the page."""
    runs = all_runs()
    found = read_json(RESULTS / "quality.json")
    kept = {
        name: found[name]
        for name, run in runs.items()
        if name in found and is_of(found[name]["recipe"], run.recipe)
    }
    return PAGE.format(
        tested=tested(kept),
        steps=changed(kept, "step, ", "step-the-recipe"),
        trials=changed(kept, "trial, ", "final"),
        updates=STEP_UPDATES,
        published=published(kept),
        missing=missing(kept, runs),
        machines=machines(kept),
        older=older(kept, read_json(RESULTS / "shipped.json")),
    )


if __name__ == "__main__":
    write(BOOK / "quality.md", render(), BOOK / "_static", {})
