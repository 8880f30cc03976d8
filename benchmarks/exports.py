"""Does an exported translator translate as before, and what does int8 cost?

    python benchmarks/exports.py [--corpus NAME]

The translator is the one in the package for storybook, and for other corpora
the first of the final recipe, which ``quality.py`` trains. It translates the
first thousand test sentences greedily, as do CTranslate2 (in float32 and in
int8) and ONNX Runtime, and all are compared token by token; then CTranslate2
translates them with a beam of 4, in float32 and in int8, and both are scored.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import onnxruntime
import torch
from measuring import surroundings
from places import BUILD, RESULTS, name_of

from minitransformer import Translator
from minitransformer.config import BOS_ID, EOS_ID
from minitransformer.corpora import load_corpus
from minitransformer.data import encode_source, pad
from minitransformer.decoding import greedy_decode, length_limit
from minitransformer.evaluation import bleu, bleu_tokenizer
from minitransformer.files import write_json
from minitransformer.translator import find_model

BATCH = 64
SHIPPED = {"storybook": "storybook-en-fr"}


def by_ctranslate2(
    folder: Path,
    translator: Translator,
    sources: list[list[int]],
    limits: list[int],
    beams: int = 1,
    compute_type: str = "float32",
) -> list[list[int]]:
    """Translate with CTranslate2, which adds EOS to the source itself."""
    engine = ctranslate2.Translator(
        str(folder), intra_threads=1, compute_type=compute_type
    )
    cut, target = translator.source_tokenizer, translator.target_tokenizer
    ids = {
        name: i
        for i, name in enumerate(target.tokens(range(target.vocab_size)))
    }
    found = []
    for start, limit in zip(
        range(0, len(sources), BATCH), limits, strict=True
    ):
        part = sources[start : start + BATCH]
        results = engine.translate_batch(
            [cut.tokens(row[:-1]) for row in part],
            beam_size=beams,
            max_decoding_length=limit,
        )
        found += [[ids[name] for name in one.hypotheses[0]] for one in results]
    return found


def by_onnx(
    folder: Path, sources: list[list[int]], limits: list[int]
) -> list[list[int]]:
    """Translate greedily with ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    start, step = (
        onnxruntime.InferenceSession(folder / f"{name}.onnx", options)
        for name in ("start", "step")
    )
    found: list[list[int]] = []
    for first, limit in zip(
        range(0, len(sources), BATCH), limits, strict=True
    ):
        batch = pad(sources[first : first + BATCH]).numpy()
        memory, mask = start.run(None, {"source": batch})
        L, _, B, H, _, d_k = memory.shape
        past = np.zeros((L, 2, B, H, 0, d_k), np.float32)
        tokens = np.full(B, BOS_ID)
        rows: list[list[int]] = [[] for _ in range(B)]
        done = np.zeros(B, bool)
        for _ in range(limit):
            logits, past = step.run(
                None,
                {
                    "tokens": tokens,
                    "past": past,
                    "memory": memory,
                    "mask": mask,
                },
            )
            tokens = logits.argmax(1)
            done |= tokens == EOS_ID
            for row in np.flatnonzero(~done):
                rows[row].append(int(tokens[row]))
            if done.all():
                break
        found += rows
    return found


def measure(
    translator: Translator, corpus_name: str, sentences: int
) -> dict[str, Any]:
    """Export, translate and compare."""
    pairs = {p.source: p for p in load_corpus(corpus_name).splits["test"]}
    ids = encode_source(translator.source_tokenizer, list(pairs)[:sentences])
    order = sorted(range(len(ids)), key=lambda i: (len(ids[i]), i))
    sources = [ids[i] for i in order]
    references = [list(pairs.values())[i].all_references for i in order]
    batches = [
        pad(sources[start : start + BATCH])
        for start in range(0, len(sources), BATCH)
    ]
    limits = [length_limit(translator.model, batch) for batch in batches]
    ours = [
        row
        for batch in batches
        for row in greedy_decode(translator.model, batch)
    ]
    tokenize = bleu_tokenizer(translator.facts.get("target_language", ""))
    decode = translator.target_tokenizer.decode

    def score(rows: list[list[int]]) -> float:
        lines = [decode(row) for row in rows]
        return round(bleu(lines, references, tokenize).value, 2)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        translator.export("onnx", folder / "onnx")
        translator.export("ctranslate2", folder / "float32")
        translator.export("ctranslate2", folder / "int8", "int8")
        theirs = {
            "ctranslate2": by_ctranslate2(
                folder / "float32", translator, sources, limits
            ),
            "ctranslate2, int8": by_ctranslate2(
                folder / "int8", translator, sources, limits, 1, "int8"
            ),
            "onnx": by_onnx(folder / "onnx", sources, limits),
        }
        beams = {
            kind: by_ctranslate2(
                folder / kind, translator, sources, limits, 4, kind
            )
            for kind in ("float32", "int8")
        }
        sizes = {
            kind: (folder / kind / "model.bin").stat().st_size
            for kind in beams
        }
    return {
        "surroundings": surroundings("ctranslate2", "onnxruntime"),
        "corpus": corpus_name,
        "sentences": len(ours),
        "same_greedy": {
            name: sum(map(list.__eq__, ours, rows))
            for name, rows in theirs.items()
        },
        "bleu_beam_4": {kind: score(rows) for kind, rows in beams.items()},
        "bytes": sizes,
    }


def main() -> None:
    """Measure, write the result and show it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", default="storybook")
    parser.add_argument(
        "--model", type=Path, help="folder of another translator"
    )
    parser.add_argument("--sentences", type=int, default=1_000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    corpus = arguments.corpus
    model = arguments.model or (
        find_model(SHIPPED[corpus])
        if corpus in SHIPPED
        else BUILD / "quality" / corpus / "final-0"
    )
    result = {
        "model": name_of(model),
        **measure(Translator.load(model), corpus, arguments.sentences),
    }
    write_json(arguments.out or RESULTS / f"exports-{corpus}.json", result)
    for name, same in result["same_greedy"].items():
        print(f"{name}: {same} of {result['sentences']} the same")
    for kind, score in result["bleu_beam_4"].items():
        print(f"CTranslate2 {kind}, beam 4: {score} BLEU")


if __name__ == "__main__":
    main()
