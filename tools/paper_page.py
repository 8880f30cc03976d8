"""Write book/paper_to_code.md and its figure from its list and a benchmark.

python tools/paper_page.py
"""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import yaml

from minitransformer.files import read_json
from minitransformer.viz import SCORES, use_book_style

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.pages import BOOK, RESULTS, STATIC, drawn, write

FIGURES = STATIC / "paper"
UNCLEAR = "#888888"  # where the interval holds 0
OFF_SCALE = 0.6  # nats; beside more than that, the others would be a dot
Interval = Mapping[str, float]
Effects = Mapping[str, Mapping[str, Interval]]

PAGE = """\
# From paper to code

The paper ([Vaswani et al., 2017](references.md)) describes the Transformer in
a few pages. Code needs more decisions than these pages make, so programs that
all claim to be "the Transformer" differ from it, and from each other. This
page lists {number} of these choices, in the order in which data pass through
the model. Each has four lines: what the **paper** says, and in which section;
what **others** do; what **ours** does; and what **effect** the choice had when
we measured it.

{contents}

## Who is meant

**Tensor2Tensor** is the code of the paper's authors
([Vaswani et al., 2018](references.md)). Its settings went on changing after
the paper: "its first settings" are `transformer_base_v1`, "its second"
`transformer_base_v2`. **fairseq** ([Ott et al., 2019](references.md)),
**OpenNMT-py** ([Klein et al., 2017](references.md)) and **JoeyNMT**
([Kreutzer et al., 2019](references.md)) are libraries for translation, and so
is Marian ([Junczys-Dowmunt et al., 2018](references.md)), a program in C++.
**Marian** below is not that program, which chooses otherwise in places, but
Hugging Face's `MarianMTModel`, which runs its models. **The Annotated
Transformer** ([Rush, 2018](references.md)) is a text that many learn from, in
its version of 2022. {{py:class}}`torch.nn.Transformer` is torch {torch}'s.

What they do was read in their sources: of JoeyNMT 2.3, of transformers 5.23,
of fairseq and OpenNMT-py in versions from 2018 to 2023. They change, and most
of it can be set otherwise; what counts here is what happens to somebody who
sets nothing. Of what is said of ours and of torch, each choice has a test of
its own.

## What stands out

- What the embeddings are drawn from and multiplied with decides most. Without
  the factor √D, or with the first embeddings of deviation 1, the same model
  learns next to nothing in the same time.
- Four of the paper's choices cost this small model loss: dropout, label
  smoothing, one matrix for all embeddings, and post-norm. What they are for
  shows elsewhere, or later.
- A norm after each stack, which nearly all libraries with pre-norm have, costs
  it most, and still does after three times as many updates. We did not expect
  that.
- The norm's ε, its deviation, and dropout on the attention weights: whoever
  chose otherwise than we did has lost nothing that shows.

## How the effects were measured

One small translator learns the storybook as this package does it: {layers}
layers of each kind, {width} wide, {updates} updates of {batch_tokens} tokens.
Then it learns it again with one choice changed, from the same seed, with the
same batches. What is reported is the difference, seed by seed: its mean over
{seeds} seeds, and the 95 % interval of that mean. The loss is per token, in
nats, on validation sentences, always without smoothing; BLEU is of greedy
translations of {test_pairs} test sentences, but for the beams. Unchanged, the
loss is {base_loss} and BLEU {base_bleu}: a translator at the beginning of its
training. Post-norm and the two changes that helped most were made once more,
"trained longer": {more_updates} updates and {longer_seeds} seeds, against a
base that then has a loss of {long_loss} and a BLEU of {long_bleu}.

The word at the end of a line goes by the loss, and by BLEU where only the
decoding was changed.

Three warnings. **It is small and trained briefly.** What helps it to a quick
start need not help a large model in the end, and what dropout, smoothing or
depth are about can't show here. **The learning rate is that of the base.** A
change that wants another one looks worse than it is. **There are {many}
lines.** With so many, an interval or two may miss 0 by chance.

```{{figure}} _static/paper/effects.svg
:alt: {effects_alt}

What one change does: to the validation loss, where right of 0 is worse, and
to BLEU, where left of 0 is worse. Dark with a full dot: the interval leaves 0
out.{off_scale}
```

{parts}"""


def slug(title: str) -> str:
    """Return the anchor that a heading gets."""
    kept = re.sub(r"[^\w\- ]", "", title.lower())
    return kept.replace(" ", "-")


def show(found: Interval, digits: int) -> str:
    """Print a difference and its interval."""
    mean, low, high = (
        f"{found[name]:+.{digits}f}".replace("-", "−")
        for name in ("mean", "low", "high")
    )
    return f"{mean} [{low}, {high}]"


def is_clear(found: Interval) -> bool:
    """Say whether an interval leaves 0 out."""
    return found["low"] > 0 or found["high"] < 0


def verdict(effect: Mapping[str, Interval]) -> str:
    """Say what the loss shows; BLEU, if only decoding changed."""
    name = "valid_loss" if "valid_loss" in effect else "bleu"
    found = effect[name]
    if not is_clear(found):
        return "no difference shown"
    higher_is_worse = name == "valid_loss"
    return "worse" if (found["mean"] > 0) == higher_is_worse else "better"


def scores(effect: Mapping[str, Interval]) -> str:
    """Print the differences of the scores, and what they show."""
    parts = []
    if "valid_loss" in effect:
        parts.append(f"loss {show(effect['valid_loss'], 3)}")
    parts.append(f"BLEU {show(effect['bleu'], 1)}")
    return f"{', '.join(parts)}, {verdict(effect)}"


def measured(choice: str, effects: Effects, longer: Effects) -> str:
    """Say what one change did."""
    said = f"*{choice}*: {scores(effects[choice])}"
    if choice in longer:
        said += f" (trained longer: {scores(longer[choice])})"
    return said


def item(entry: Mapping[str, Any], effects: Effects, longer: Effects) -> str:
    """Write one choice."""
    effect = {
        "measured": "; ".join(
            measured(choice, effects, longer)
            for choice in entry.get("choices", ())
        ),
        "none": "none",
        "not measured": "not measured here",
    }[entry["effect"]]
    note = f" {entry['note']}" if "note" in entry else ""
    lines = [
        f"### {entry['title']}",
        "",
        f"- **Paper.** {entry['paper']}",
        f"- **Others.** {entry['others']}",
        f"- **Ours.** {entry['ours']}",
        f"- **Effect:** {effect}.{note}",
    ]
    return "\n".join(lines)


def draw(effects: Effects) -> dict[str, str]:
    """Draw the differences of loss and of BLEU, the worst loss on top.

    What is off the scale is named below the figure.
    """
    trained = [name for name in effects if "valid_loss" in effects[name]]
    trained.sort(key=lambda name: effects[name]["valid_loss"]["mean"])
    decoded = [name for name in effects if name not in trained]
    decoded.sort(key=lambda name: -effects[name]["bleu"]["mean"])
    off = [
        name
        for name in trained
        if effects[name]["valid_loss"]["mean"] > OFF_SCALE
    ]
    names = decoded + [name for name in trained if name not in off]
    use_book_style()
    figure, axes = plt.subplots(
        1, 2, figsize=(7.6, 0.9 + 0.25 * len(names)), sharey=True
    )
    panels = {"valid_loss": "validation loss", "bleu": "BLEU"}
    for axis, (score, label) in zip(axes, panels.items(), strict=True):
        for place, name in enumerate(names):
            if score not in effects[name]:
                continue
            found = effects[name][score]
            clear = is_clear(found)
            colour = SCORES if clear else UNCLEAR
            axis.plot(
                [found["low"], found["high"]], [place, place], color=colour
            )
            axis.plot(
                found["mean"],
                place,
                "o",
                color=colour,
                markerfacecolor=colour if clear else "white",
            )
        axis.axvline(0, color=SCORES, linewidth=1, linestyle=":")
        axis.set_xlabel(f"difference of {label}")
        axis.set_ylim(-0.6, len(names) - 0.4)
    axes[0].set_yticks(range(len(names)), names)
    spoken: dict[str, list[str]] = {}
    for name in [*off[::-1], *names[::-1]]:
        spoken.setdefault(verdict(effects[name]), []).append(name)
    off_scale = "; ".join(measured(name, effects, {}) for name in off)
    if off:
        off_scale = f" Far off to the right: {off_scale}."
    return {
        "effects_figure": drawn(figure, "effects"),
        "effects_alt": "Two panels of dots with intervals, a row a change. "
        + " ".join(
            f"{said.capitalize()}: {', '.join(group)}."
            for said, group in spoken.items()
        ),
        "off_scale": off_scale,
    }


def contents(entries: Sequence[Mapping[str, Any]]) -> str:
    """List the choices by part, with links."""
    parts = dict.fromkeys(entry["part"] for entry in entries)
    return "\n".join(
        f"- **{part}.** "
        + ", ".join(
            f"[{entry['title']}](#{slug(entry['title'])})"
            for entry in entries
            if entry["part"] == part
        )
        for part in parts
    )


def read_entries() -> list[dict[str, Any]]:
    """Read the list of choices."""
    text = (BOOK / "paper_to_code.yml").read_text(encoding="utf-8")
    entries: list[dict[str, Any]] = yaml.safe_load(text)
    return entries


def render() -> tuple[str, dict[str, str]]:
    """Return the page, and the figures by name."""
    entries = read_entries()
    result = read_json(RESULTS / "paper_choices.json")
    effects, longer = result["effects"], result["longer"]["effects"]
    parts = dict.fromkeys(entry["part"] for entry in entries)
    pieces = []
    for part in parts:
        pieces.append(f"## {part}")
        pieces += [
            item(entry, effects, longer)
            for entry in entries
            if entry["part"] == part
        ]
    plan, base = result["plan"], result["base"]
    long_base = result["longer"]["base"]
    figure = draw(effects)
    page = PAGE.format(
        number=len(entries),
        contents=contents(entries),
        torch=result["surroundings"]["torch"].split("+")[0],
        **{
            name: f"{value:,}" if isinstance(value, int) else value
            for name, value in plan.items()
        }
        | {
            "seeds": len(plan["seeds"]),
            "longer_seeds": len(plan["longer_seeds"]),
        },
        base_loss=f"{base['valid_loss']['mean']:.2f}",
        base_bleu=f"{base['bleu']['mean']:.1f}",
        long_loss=f"{long_base['valid_loss']['mean']:.2f}",
        long_bleu=f"{long_base['bleu']['mean']:.1f}",
        many=len(effects),
        effects_alt=figure["effects_alt"],
        off_scale=figure["off_scale"],
        parts="\n\n".join(pieces) + "\n",
    )
    return page, {"effects": figure["effects_figure"]}


if __name__ == "__main__":
    text, drawings = render()
    write(BOOK / "paper_to_code.md", text, FIGURES, drawings)
