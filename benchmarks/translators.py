"""Train a translator by its recipe, score it on unseen text, keep the numbers.

    python benchmarks/translators.py storybook
    python benchmarks/translators.py tatoeba-zh-en multi30k-en-de

Each corpus takes from twenty minutes to an hour on one thread. A run that is
interrupted goes on where it stopped. Scores go to
``minitransformer/results/translator-NAME.json``; the translations themselves
stay beside the model, since they are other people's text.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import torch
from measuring import RESULTS, surroundings

from minitransformer import Translator, cli
from minitransformer.checkpoints import load_tensors
from minitransformer.corpora import load_corpus
from minitransformer.counting import count_parameters
from minitransformer.files import read_json, write_json
from minitransformer.recipes import train_translator

ROOT = Path(__file__).parents[1]
SPLITS = {"storybook": ("test", "compositional")}


def measure(name: str, folder: Path) -> None:
    """Train and score on one corpus."""
    if not (folder / "done").exists():
        resume = (folder / "config.json").exists()
        corpus = load_corpus(name)
        train_translator(corpus, folder, resume=resume, device="cpu")
        (folder / "done").touch()
    _, state = load_tensors(folder / "last.safetensors")
    translator = Translator.load(folder)
    scores = {}
    for split in SPLITS.get(name, ("test",)):
        started = time.process_time()
        command = f"evaluate --corpus {name} --split {split} --baselines"
        code = cli.run(
            [
                *command.split(),
                *("--model", str(folder), "--device", "cpu"),
                *("--output", str(folder / f"{split}.txt")),
                *("--json", str(folder / f"{split}.json")),
            ]
        )
        if code:
            raise SystemExit(code)
        found = read_json(folder / f"{split}.json")
        found.pop("model")
        found["core_minutes"] = (time.process_time() - started) / 60
        scores[split] = found
    result = {
        "corpus": name,
        **surroundings(),
        "parameters": count_parameters(translator.model),
        "config": asdict(translator.model.config),
        "options": translator.facts["options"],
        "core_minutes": state["core_seconds"] / 60,
        "history": state["history"],
        "splits": scores,
    }
    write_json(RESULTS / f"translator-{name}.json", result)
    print(json.dumps(result["splits"], indent=1, ensure_ascii=False))


def main() -> None:
    """Measure the corpora named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", nargs="*", default=["storybook"])
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "build" / "translators"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.corpus:
        measure(name, arguments.folder / name)


if __name__ == "__main__":
    main()
