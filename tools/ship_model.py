"""Put a trained translator into the package, with its scores and its card.

    python tools/ship_model.py NAME FOLDER   ship the model of a folder
    python tools/ship_model.py               write the cards of what is shipped

The weights are rounded to a quarter of their room, and it is the rounded
model that is scored. Scores go to ``minitransformer/results/shipped.json``,
and the card, made from them, beside the weights.
"""

import hashlib
import re
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from minitransformer import Translator, cli
from minitransformer.checkpoints import load_tensors
from minitransformer.counting import count_parameters
from minitransformer.files import read_json, write_json, write_text
from minitransformer.story_patterns import PATTERNS

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.pages import table

PACKAGE = Path(__file__).parents[1] / "minitransformer"
MODELS = PACKAGE / "models"
RESULTS = PACKAGE / "results" / "shipped.json"
SCORED = {
    "storybook-en-fr": [("storybook", "test"), ("storybook", "compositional")],
    "tatoeba-zh-en": [("tatoeba-zh-en", "test"), ("challenge-zh-en", "test")],
}
ABOUT = {
    "storybook-en-fr": """\
It turns English of the storybook into French. The storybook is a language of
this course: a few hundred words in {patterns} patterns of sentences, made by a
grammar, so that its right translations, word alignments and antecedents are
all known. Chapter 12 looks inside this model.""",
    "tatoeba-zh-en": """\
It turns everyday Chinese, in simplified characters, into English. It learned
from {pairs:,} pairs of short sentences, and from nothing else: what they do
not hold, it does not know.""",
}
LIMITS = {
    "storybook-en-fr": """\
- Words that the storybook does not have are cut into pieces and come out as
  something else.
- Its scores are of this small language, and say nothing of English at
  large.""",
    "tatoeba-zh-en": """\
- It is small, and its errors are those of a small model: rare words become
  others, idioms are taken word by word, and a fluent sentence may say
  something else. Do not use it where a wrong translation can do harm.
- 机器学习 ("machine learning") gives "{probe}"
  The training text has these four characters together in {together:,} of its
  {pairs:,} sentences.
- Of the sentences it learned from, 99 % have {longest} characters or fewer.
  Longer ones are outside what it has seen.
- {percent:.0f} % of these sentences are about somebody called Tom.""",
}
LICENCES = {
    "storybook-en-fr": """\
The data and the weights are this project's own, under the MIT licence.""",
    "tatoeba-zh-en": """\
Learned from sentences of [Tatoeba](https://tatoeba.org), by its contributors,
under [CC BY 2.0 FR](https://creativecommons.org/licenses/by/2.0/fr/);
`minitransformer corpora --show-credits` says how to find each of them. The
weights are under the same terms.""",
}
CARD = """\
# {name}

{about}

| | |
|---|---|
| Languages | {source_language} to {target_language} |
| Model | encoder-decoder Transformer, {layers}, width {d_model}, \
{num_heads} heads, {parameters:,} parameters |
| Trained | {updates:,} updates of about {batch_tokens:,} tokens on one core, \
{core_minutes:.0f} core-minutes, seed {seed} |
| Chosen by | loss on validation sentences, never on the test |
| Kept as | whole numbers of 8 bits with a scale for each row, \
{megabytes:.1f} MB |

## Use

    minitransformer translate --model {name} "{example}"

or `Translator.load("{name}").translate(...)`. It needs no network; the weights
are checked against their SHA-256 when they are loaded.

## Scores

Of the model as it is kept here, beam 4, with 95 % intervals by bootstrap.

{scores}

## Limits

{limits}

## Licence

{licence}
"""
EXAMPLES = {
    "storybook-en-fr": "the dog is tired.",
    "tatoeba-zh-en": "我喜欢喝茶。",
}


def score(name: str) -> dict[str, Any]:
    """Score a shipped model on what its card shows."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for corpus, split in SCORED[name]:
            out = Path(folder) / "scores.json"
            command = f"evaluate --model {name} --corpus {corpus} --split"
            flags = ["--device", "cpu", "--baselines", "--json", str(out)]
            if code := cli.run([*command.split(), split, *flags]):
                raise SystemExit(code)
            found[f"{corpus}, {split}"] = read_json(out)
    return found


def ship(name: str, folder: Path) -> None:
    """Copy a model, rounded, into the package, and score it."""
    translator = Translator.load(folder)
    _, state = load_tensors(folder / "last.safetensors")
    translator.save(MODELS / name, small=True)
    shipped = Translator.load(name)
    kept = read_json(RESULTS) if RESULTS.exists() else {}
    weights = (MODELS / name / "model.safetensors").read_bytes()
    kept[name] = {
        "sha256": hashlib.sha256(weights).hexdigest(),
        "parameters": count_parameters(shipped.model),
        "config": asdict(shipped.model.config),
        "core_minutes": state["core_seconds"] / 60,
        "updates": state["updates"],
        "scores": score(name),
    }
    if name == "tatoeba-zh-en":
        kept[name] |= probe(shipped)
    write_json(RESULTS, kept)


def probe(translator: Translator) -> dict[str, Any]:
    """Say what the text it learned from has, and has not."""
    from minitransformer.corpora import load_corpus

    train = load_corpus("tatoeba-zh-en").splits["train"]
    lengths = sorted(len(pair.source) for pair in train)
    toms = [re.search(r"\bTom\b", pair.target) for pair in train]
    return {
        "pairs": len(train),
        "probe": translator.translate("机器学习"),
        "together": sum("机器学习" in pair.source for pair in train),
        "longest": lengths[99 * len(lengths) // 100],
        "percent": 100 * sum(map(bool, toms)) / len(train),
    }


def scored(scores: dict[str, Any]) -> str:
    """Tabulate the scores, those of the baselines beside the model's."""
    rows, signatures = [], []
    for where, found in scores.items():
        measures: dict[str, dict[str, str]] = {}
        for each in found["scores"]:
            ours, counted = each["of"] == "model", "kept" in each
            cell = f"{each['value']:.1f}"
            if counted:
                cell = f"{each['kept']} of {each['items']}"
            elif ours and each["interval"]:
                low, high = each["interval"]
                cell += f" ({low:.1f} to {high:.1f})"
            measures.setdefault(each["name"], {})[each["of"]] = cell
            if ours and not counted:
                signatures.append(
                    f"- {where}, {each['name']}: `{each['signature']}`"
                )
        for measure, cells in measures.items():
            order = ("model", "dictionary", "copy")
            shown = [cells.get(who, "") for who in order]
            rows.append([where, measure, *shown])
    head = ["sentences", "measure", "the model", "word dictionary", "copy"]
    listed = "\n".join(signatures)
    return f"{table(head, rows)}\n\nSignatures:\n\n{listed}"


def card(name: str, facts: dict[str, Any]) -> str:
    """Render a model's card."""
    about = read_json(MODELS / name / "config.json")["about"]
    sizes = facts["config"]
    layers = (
        f"{sizes['num_encoder_layers']} + {sizes['num_decoder_layers']} layers"
    )
    kept = (MODELS / name / "model.safetensors").stat().st_size / 1e6
    known = about["options"] | about | sizes | facts
    known |= {
        "name": name,
        "about": ABOUT[name].format(patterns=len(PATTERNS), **facts),
        "layers": layers,
        "megabytes": kept,
        "example": EXAMPLES[name],
        "scores": scored(facts["scores"]),
        "limits": LIMITS[name].format(**facts),
        "licence": LICENCES[name],
    }
    return CARD.format(**known)


def main() -> None:
    """Ship a model if one is named, and write all cards."""
    if len(sys.argv) == 3:
        ship(sys.argv[1], Path(sys.argv[2]))
    for name, facts in read_json(RESULTS).items():
        write_text(MODELS / name / "README.md", card(name, facts))


if __name__ == "__main__":
    main()
