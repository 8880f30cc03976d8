"""Write book/speed.md and its figures from what benchmarks/ measured.

python tools/speed_page.py
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator

from minitransformer.files import read_json
from minitransformer.viz import OUTPUT, QUERY, SCORES, use_book_style

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.pages import BOOK, RESULTS, STATIC, drawn, table, write

FIGURES = STATIC / "speed"
PARTS = {
    "training_speed": "training",
    "decoding_speed": "decoding",
    "exports-": "exports",
    "fast_paths": "the fast paths",
    "attention_speed": "attention itself",
    "memory": "memory",
    "scaling": "how the cost grows",
}
PACKAGES = {  # as results name them, and people
    "python": "Python",
    "torch": "PyTorch",
    "ctranslate2": "CTranslate2",
    "joeynmt": "JoeyNMT",
    "transformers": "transformers",
    "x-transformers": "x-transformers",
}
Interval = Mapping[str, float]

PAGE = """\
# How fast it is

The chapters show code that is meant to be read. This page shows what it
achieves, and what it costs or saves beside other libraries. Each table is made
from a file in `minitransformer/results`, which a script in `benchmarks` wrote;
`make bench` measures all of it again.

**How it was measured.** On machines that other programs share, so no absolute
time is a promise: {machines}. Where speeds are compared, the candidates take
turns, so that a bad moment hits all of them; what is reported is the median of
their ratios, round by round. The interval in brackets goes from one of the
ratios to another; it holds the true median at least 95 times in 100. Where it
reached further than a tenth from the median, the rounds were doubled, and then
once more at most. Time is processor time of one thread,
in float32, unless a table says otherwise. {versions}.

## Training

A step of training: forward, backward, clipping, AdamW. The model has three
layers of each kind, is 256 wide, and has a vocabulary of 8,000. The sentences
are as long as image captions, and all candidates get the same {batches} of the
batches of like lengths that {pairs:,} pairs give. Where a peer can hold our
weights, its logits were found equal to ours first. All keep the memory that
they free, as {{py:func}}`~minitransformer.allocator.keep_memory` arranges; all
multiply by oneDNN on AMD's processors, where MKL is slow, as
{{py:func}}`~minitransformer.onednn.use_onednn` arranges; and all drop the same
numbers: `nn.Transformer` would drop attention weights as
well, which no other here does, and has a row for that. x-transformers is built
otherwise, so it has weights of its own.

```{{figure}} _static/speed/training.svg
:alt: {training_alt}

How many times as fast as each peer our training step is. The line is the
interval.
```

{training_table}

Left to themselves, PyTorch programs give memory back and fetch it again, and
multiply by MKL. In processes of their own, where only ours does otherwise, as
`minitransformer train` does, we are {apart} times as fast as `nn.Transformer`,
{as_it_comes} times if that drops attention weights too, and {apart_unsorted}
times if its batches are unsorted.

The row "unsorted" is what a plain data loader does: batches of as many pairs,
in any order. Those that were drawn are padding to {unsorted:.0%}, all that the
pairs give to {all_unsorted:.0%}; ours, sorted by length, to {sorted:.0%}, and
all such to {all_sorted:.0%}. This row is compared by the target token. Of the
places for labels {labels:.0%} are padding. For those, all but ours compute
logits too.

### In bfloat16

This processor computes with bfloat16, and then `minitransformer train` does so
unless told otherwise. Here all do, under torch's autocast; and
`nn.Transformer` once more in float32, where it multiplies by oneDNN, too, in
the first column, and as it comes in the second.

{bf16_table}

With "weights dropped too", `nn.Transformer` is faster than without, for
torch's fused kernel drops nothing: plain products take its place, which in
bfloat16 are faster.

In bfloat16 we train {bf16_tokens:,} target tokens a second, in float32
{fp32_tokens:,}.

### With two threads

In float32, with both of the machine's cores and nothing else running, by the
clock on the wall.

{two_threads_table}

## Decoding

The same weights in every engine, trained on {decoding_corpus} for no more than
{decoding_updates:,} updates, and its test sentences, so many of them; a
translation ends where the model ends it, after so many tokens on average. A
batch holds sentences of like length. "Same" is
the share of translations that equal ours token by token. Beams differ in when
they stop, and in what they divide a log-probability by: we and JoeyNMT by
(5 + length) / 6, the others by the length. JoeyNMT keeps no keys and values
from step to step, and computes the whole beginning anew.

```{{figure}} _static/speed/decoding.svg
:alt: {decoding_alt}

How many times as fast as each engine we decode, on a logarithmic scale. Left
of 1 the engine is faster.
```

{decoding_table}

On AMD's processors we multiply by oneDNN here too, and
{{py:meth}}`~minitransformer.translator.Translator.load` puts the numbers of
the decoder's matrices in the order in which steps read them.

Once more with two threads, both of the machine's cores, and nothing else
running, by the clock on the wall, each engine in a process of its own:

{two_threads_searches}

A second thread makes CTranslate2 slower in int8 here, also where nothing of
ours is in its process.

CTranslate2 is written in C++ for nothing but this. Who outgrows PyTorch should
use it: {{py:meth}}`~minitransformer.translator.Translator.export` writes a
folder for it.

## Exports

Exporting in float32 changes nothing, or almost nothing: of the test sentences,
so many come out the same, token by token, when CTranslate2 or ONNX Runtime
decodes greedily. "In int8" is CTranslate2 again, with rounded weights. BLEU is
that of its own search, with a beam of 4. The translator of storybook is the
one in the package.

{exports_table}

## What each fast path gains

Some functions of the package exist for speed alone; each does what a readable
form does, which the tests compare it with (dropout here rounds its rate to a
256th). Here one at a time is replaced by that form: both dropouts by torch's
own, and `attend`, which chooses between two ways, by torch's fused kernel. The
number says how many times as long it then takes. `keep_memory` and
`use_onednn` are left out in processes of their own; where the others are
timed in training, both work. In decoding, `onednn` is all that oneDNN
multiplies, and `lay_out` the order of numbers in the decoder's matrices.

{gains_table}

{gainless} Some save memory too, see below. `attend` earns its lines in half
precision, see "Attention itself".

## Attention itself

{{py:meth}}`~minitransformer.attention.MultiHeadAttention.attend` chooses a way
to compute attention: by the length of the sentences, the kind of number, and
whether there is a mask or a gradient is wanted. The table compares it to the
fastest of three ways that torch offers (its fused kernel, three plain
operations, or a product that adds the mask at once), whichever that is: 2
means twice as fast. A star marks where all of the interval is more than a
tenth slower. The slowest case is at {slowest}. With 8,192 tokens the fused
kernel alone was compared: the others would need gigabytes.

{attention_table}

## Memory

{memory_table}

## How the cost grows

What a target token costs in a training step, when one size changes and the
others stay: {scaling_base}.
The lines are fitted: a constant and a multiple of the layers; the width and
its square; a constant and a multiple of the length, which is attention; a
constant and a multiple of one over the batch, which is the optimizer and
whatever else happens once a step. The worst miss of any point is
{worst_miss:.0%}.

```{{figure}} _static/speed/scaling.svg
:alt: {scaling_alt}

Dots were measured, lines are fitted.
```

## What was not measured

- A GPU: none was at hand, and the scripts know of none.
- `nn.MultiheadAttention` by itself. It computes with torch's fused kernel, or
  with plain operations where weights are wanted: both are in the table above.
- What comes before a batch: cutting text into tokens, sorting, padding.
- The memory of attention under a mask, and of its backward pass.
{missing}"""


def versions(measured: Sequence[Mapping[str, Any]], package: str) -> str:
    """Name the version that was measured, or all of them."""
    found = {each[package] for each in measured if package in each}
    return " and ".join(sorted(found))


def show(found: Interval) -> str:
    """Print a ratio and its interval."""
    return f"{found['median']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def turned(found: Interval) -> Interval:
    """Turn "times as long" into "times as fast"."""
    return {
        "median": 1 / found["median"],
        "low": 1 / found["high"],
        "high": 1 / found["low"],
    }


def bars(
    name: str,
    groups: Mapping[str, Mapping[str, Interval]],
    label: str,
    logarithmic: bool = False,
) -> str:
    """Draw ratios with their intervals; return the figure.

    Args:
        name: Of the figure.
        groups: Title of each panel, to name and ratio of each bar.
        label: Of the axis.
        logarithmic: Whether ½ and 2 are as far from 1.
    """
    use_book_style()
    longest = max(map(len, groups.values()))
    figure, axes = plt.subplots(
        1,
        len(groups),
        figsize=(7.6, 0.9 + 0.42 * longest),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for axis, (title, ratios) in zip(axes[0], groups.items(), strict=True):
        names = list(ratios)[::-1]
        for place, each in enumerate(names):
            found = ratios[each]
            colour = QUERY if found["median"] >= 1 else OUTPUT
            axis.plot(
                [found["low"], found["high"]], [place, place], color=colour
            )
            axis.plot(found["median"], place, "o", color=colour)
        axis.axvline(1, color=SCORES, linewidth=1, linestyle=":")
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(-0.6, len(names) - 0.4)
        if logarithmic:
            axis.set_xscale("log")
            axis.set_xticks([0.25, 0.5, 1, 2, 4, 8], [*"¼½1248"])
            axis.minorticks_off()
        if len(groups) > 1:
            axis.set_title(title)
    figure.supxlabel(label, fontsize="medium")
    return drawn(figure, name)


def gains(result: dict[str, Any]) -> dict[str, str]:
    """Tabulate what the fast paths gain."""
    paths = result["gains"]
    names = dict.fromkeys(name for each in paths.values() for name in each)
    rows = [
        [
            f"`{name}`" if name.isidentifier() else name,
            *(
                show(each[name]) if name in each else ""
                for each in paths.values()
            ),
        ]
        for name in names
    ]
    gainless = [
        row[0]
        for row, name in zip(rows, names, strict=True)
        if all(p[name]["low"] <= 1 for p in paths.values() if name in p)
    ]
    said = "Each shows a gain somewhere."
    if gainless:
        said = (
            f"No gain in time is shown for {', '.join(gainless)}: intervals"
            " reach 1 or less."
        )
    return {"gains_table": table(["", *paths], rows), "gainless": said}


def training(result: dict[str, Any]) -> dict[str, Any]:
    """Draw and tabulate the training steps."""
    ratios, apart = result["times_as_fast"], result["times_as_fast_apart"]
    figure = bars("training", {"": ratios}, "times as fast as the peer")
    speeds = result["tokens_per_second"]
    rows = [["minitransformer", f"{speeds['minitransformer']:,}", "1"]]
    rows += [
        [name, f"{speeds[name]:,}", show(ratios[name])] for name in ratios
    ]
    spoken = ", ".join(
        f"{found['median']:.1f} times {name}" for name, found in ratios.items()
    )
    return {
        "training_figure": figure,
        "training_alt": f"Our training step is as fast as {spoken}.",
        "training_table": table(
            ["", "target tokens/s", "we are so many times as fast"], rows
        ),
        "apart": show(apart["nn.Transformer"]),
        "as_it_comes": show(apart["nn.Transformer, weights dropped too"]),
        "apart_unsorted": show(apart["nn.Transformer, unsorted"]),
        **result["padding"],
        "batches": result["batches"],
        "pairs": result["pairs"],
    }


def both_ways(result: dict[str, Any]) -> str:
    """Tabulate training in one process, and in processes of their own."""
    ratios, apart = result["times_as_fast"], result["times_as_fast_apart"]
    rows = [
        [name, show(ratios[name]), show(apart[name]) if name in apart else ""]
        for name in ratios
    ]
    head = ["", "we are so many times as fast", "in processes of their own"]
    return table(head, rows)


def in_bf16(half: dict[str, Any], exact: dict[str, Any]) -> dict[str, Any]:
    """Tabulate training in bfloat16."""
    return {
        "bf16_table": both_ways(half),
        "bf16_tokens": half["tokens_per_second"]["minitransformer"],
        "fp32_tokens": exact["tokens_per_second"]["minitransformer"],
    }


def by_search(result: dict[str, Any]) -> dict[str, dict[str, Interval]]:
    """Name each search, and give its ratios."""
    return {
        f"{each['search']}, batch {each['batch']}": each["times_as_fast"]
        for each in result["settings"]
    }


def decoding(result: dict[str, Any]) -> dict[str, Any]:
    """Draw and tabulate the searches."""
    groups = by_search(result)
    label = "times as fast as the engine"
    return {
        "decoding_figure": bars("decoding", groups, label, logarithmic=True),
        "decoding_alt": "; ".join(
            f"{title}: "
            + ", ".join(
                f"{found['median']:.2f} times {name}"
                for name, found in ratios.items()
            )
            for title, ratios in groups.items()
        ),
        "decoding_table": searches(result),
        "decoding_corpus": result["corpus"],
        "decoding_updates": result["updates"],
    }


def searches(result: dict[str, Any]) -> str:
    """Tabulate all engines by search."""
    rows = []
    titles = by_search(result)
    for each, title in zip(result["settings"], titles, strict=True):
        speeds = each["sentences_per_second"]
        title += (
            f": {each['sentences']} sentences of {each['tokens']:.0f} tokens"
        )
        ours = str(speeds["minitransformer"])
        rows.append([title, "minitransformer", ours, "1", ""])
        for name, found in each["times_as_fast"].items():
            same = f"{each['same_translations'][name]:.0%}"
            cells = [name, str(speeds[name]), show(found), same]
            rows.append(["", *cells])
    fast = "we are so many times as fast"
    head = ["", "engine", "sentences/s", fast, "same"]
    return table(head, rows)


def exports(results: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Tabulate what exporting changes."""
    rows = [
        [
            each["corpus"],
            f"{each['sentences']:,}",
            f"{each['same_greedy']['ctranslate2']:,}",
            f"{each['same_greedy']['ctranslate2, int8']:,}",
            f"{each['same_greedy']['onnx']:,}",
            f"{each['bleu_beam_4']['float32']:.2f}",
            f"{each['bleu_beam_4']['int8']:.2f}",
            f"{each['bytes']['float32'] / each['bytes']['int8']:.1f}",
        ]
        for each in results
    ]
    head = ["corpus", "sentences", "same by CTranslate2", "in int8"]
    head += ["same by ONNX"]
    head += ["BLEU float32", "BLEU int8", "times smaller in int8"]
    return {"exports_table": table(head, rows)}


def attention(result: dict[str, Any]) -> dict[str, str]:
    """Tabulate attention alone, one row a length and kind of number."""
    cells: dict[tuple[str, str], dict[str, str]] = {}
    found: list[tuple[float, str]] = []
    for case in result["cases"]:
        row = f"{case['tokens']:,}", case["dtype"]
        kind = "causal" if case["causal"] else "full"
        kind += ", padded" * case["padded"]
        kind += ", and back" * case["backward"]
        ratio = turned(case["times_as_long_as_the_best"])
        star = r"\*" * (ratio["high"] < 1 / 1.1)
        cells.setdefault(row, {})[kind] = f"{ratio['median']:.2f}{star}"
        found.append((ratio["median"], show(ratio)))
    kinds = list(next(iter(cells.values())))
    rows = [
        [*row, *(by_kind[kind] for kind in kinds)]
        for row, by_kind in cells.items()
    ]
    return {
        "attention_table": table(["tokens", "numbers", *kinds], rows),
        "slowest": min(found)[1],
    }


def memory(result: dict[str, Any], recomputing: Interval) -> dict[str, str]:
    """Say what training and attention hold.

    Args:
        result: Of ``memory.py``.
        recomputing: How many times as long a step takes that recomputes.
    """
    peaks = {
        name: f"{found['peak']:,.0f} ({min(found['peaks']):,.0f} to"
        f" {max(found['peaks']):,.0f})"
        for name, found in result["training"].items()
    }
    before = [found["before"] for found in result["training"].values()]
    shares = result["peak_share_of_torch"]
    batch = result["batch_tokens"]
    held = result["long_training"]["most_held"]
    settled = held[len(held) // 10 :]
    lines = [
        f"- Training, as above, with {batch['training']:,} tokens in a batch:"
        f" {peaks['minitransformer']} MiB at the peak of the whole process,"
        f" against {peaks['nn.Transformer']} with `nn.Transformer`, or"
        f" {peaks['nn.Transformer, memory returned']} if that returns memory"
        f" at once (ours is {shares['minitransformer']:.2f} of it). Before the"
        f" first step they held {min(before):,.0f} to {max(before):,.0f}. Of"
        " three runs, the middle, the least and the most.",
        "- With `--recompute`, which makes each layer compute again what the"
        " gradient needs, and returns memory at once:"
        f" {peaks['minitransformer --recompute']} MiB,"
        f" {shares['minitransformer --recompute']:.2f} of the same. A step"
        f" then takes {show(recomputing)} times as long.",
        "- Over a thousand steps of varying shapes, with"
        f" {batch['long_training']:,} tokens in a batch, once it had seen a"
        " hundred of them, the most that the process held within fifty was"
        f" between {min(settled):,.0f} and {max(settled):,.0f} MiB.",
    ]
    tokens = result["attention_tokens"]
    scores = 8 * tokens**2 * 4 / 2**20  # heads, scores, bytes
    ours = result["training"]["minitransformer"]["peak"]
    saved = [
        f"`{who.split()[-1]}` {found['peak'] / ours - 1:.0%}"
        for who, found in result["training"].items()
        if "without" in who
    ]
    lines.append(
        "- What fast paths save: the peak would be higher by so much without"
        f" {' and '.join(saved)}."
    )
    for kind, found in result["attention"].items():
        over = found["over_output"]
        lines.append(
            f"- Attention over {tokens:,} tokens, {kind}:"
            f" {'less than 1' if over < 1 else f'{over:.0f}'} MiB beyond its"
            f" output. All scores at once would take {scores:,.0f}."
        )
    return {"memory_table": "\n".join(lines)}


def scaling(result: dict[str, Any]) -> dict[str, Any]:
    """Draw what a token costs against each size."""
    labels = {
        "width": "width",
        "layers": "layers of each kind",
        "length": "tokens in a sentence",
        "tokens": "tokens in a batch",
    }
    use_book_style()
    figure, axes = plt.subplots(1, 4, figsize=(7.6, 2.4))
    spoken = []
    for axis, (name, label) in zip(axes, labels.items(), strict=True):
        sizes = result[name]["sizes"]
        costs = [median(row) for row in result[name]["microseconds"]]
        axis.plot(sizes, costs, "o", color=QUERY)
        axis.plot(sizes, result[name]["fitted"], color=SCORES, linewidth=1)
        axis.set_xlabel(label)
        axis.set_ylim(0, 1.1 * max(costs))
        axis.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        if name == "tokens":
            axis.set_xscale("log", base=2)
        spoken.append(
            f"from {sizes[0]:,} to {sizes[-1]:,} {label} it goes from"
            f" {costs[0]:,.0f} to {costs[-1]:,.0f}"
        )
    axes[0].set_ylabel("µs a target token")
    base = result["base"]
    return {
        "scaling_figure": drawn(figure, "scaling"),
        "scaling_alt": "Microseconds a target token: " + "; ".join(spoken),
        "scaling_base": f"{base['width']} wide, {base['layers']} layers of"
        f" each kind, {base['length']} tokens a sentence,"
        f" {base['tokens']:,} in a batch",
        "worst_miss": max(result[name]["worst_miss"] for name in labels),
    }


def render() -> tuple[str, dict[str, str]]:
    """Return the page, and the figures by name."""
    found = {path.stem: read_json(path) for path in RESULTS.glob("*.json")}
    fast = found["training_speed"]
    missing = {
        name
        for each in found.values()
        for name in each.get("not_measured", ())
    }

    def like(start: str) -> list[dict[str, Any]]:
        return [found[name] for name in sorted(found) if start in name]

    places: dict[str, list[str]] = {}
    measured = []
    for name, part in PARTS.items():
        for each in like(name):
            measured.append(each["surroundings"])
            machine = each["surroundings"]["machine"]
            of = f" of {each['corpus']}" if name.endswith("-") else ""
            places.setdefault(machine, []).append(part + of)
    parts = dict(
        machines="; ".join(
            f"{machine} for {', '.join(dict.fromkeys(names))}"
            for machine, names in places.items()
        ),
        versions=", ".join(
            f"{name} {versions(measured, package)}"
            for package, name in PACKAGES.items()
        ),
        **training(fast),
        **in_bf16(found["training_speed-bf16"], fast),
        two_threads_table=both_ways(found["training_speed-2-threads"]),
        **decoding(found["decoding_speed"]),
        two_threads_searches=searches(found["decoding_speed-2-threads"]),
        **exports(like("exports-")),
        **gains(found["fast_paths"]),
        **attention(found["attention_speed"]),
        **memory(found["memory"], found["fast_paths"]["recomputing"]),
        **scaling(found["scaling"]),
        missing="".join(f"- {name}.\n" for name in sorted(missing)),
    )
    figures = {
        name.removesuffix("_figure"): parts.pop(name)
        for name in list(parts)
        if name.endswith("_figure")
    }
    return PAGE.format(**parts), figures


if __name__ == "__main__":
    text, drawings = render()
    write(BOOK / "speed.md", text, FIGURES, drawings)
