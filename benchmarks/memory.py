"""How much memory do training and attention need?

    python benchmarks/memory.py

Every figure is the peak of a fresh process: in training that of the whole
process, for attention what it took beyond what the process held before. What
two fast paths of `fast_paths.py` save is the peak without them. A longer
training tells whether memory grows over many steps of varying shapes. Linux
alone tells all of it. One thread.
"""

import argparse
import json
import random
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from fast_paths import TRAINING, without
from measuring import surroundings
from peers import SIZES, SMALL, TorchTransformer
from places import CommandLine
from training_speed import DROPOUT, SMOOTHING, captions, peer_step

from minitransformer import Transformer, TransformerConfig
from minitransformer.allocator import keep_memory, return_memory
from minitransformer.attention import MultiHeadAttention
from minitransformer.data import bucketed, make_batch
from minitransformer.files import write_json
from minitransformer.onednn import use_onednn
from minitransformer.training import Trainer, TrainingOptions

MIB = 2**20
TOKENS, LONG_TOKENS = 4_096, 512  # in a batch
RECOMPUTING = "minitransformer --recompute"
LACKING = {
    f"minitransformer without {name}": TRAINING[name]
    for name in ("output_loss", "relu_dropout")
}
ALLOCATOR = {
    "minitransformer": keep_memory,
    **dict.fromkeys(LACKING, keep_memory),
    RECOMPUTING: return_memory,
    "nn.Transformer, memory returned": return_memory,
}


def told(name: str) -> float:
    """Return what the system says of this process, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"the system does not tell {name}")


def peak() -> float:
    """Return the most memory held since the start, or `forget_peak`."""
    return told("VmHWM")


def held() -> float:
    """Return the memory the process holds now."""
    return told("VmRSS")


def forget_peak() -> None:
    """Let the peak be what is held now."""
    Path("/proc/self/clear_refs").write_text("5")


def train(who: str, steps: int, tokens: int, small: bool) -> dict[str, Any]:
    """Train on batches of varying shapes; return the peak and the course."""
    ALLOCATOR.get(who, lambda: None)()
    if "minitransformer" in who:
        use_onednn()
    torch.manual_seed(0)
    sizes = SMALL if small else SIZES
    model = Transformer(TransformerConfig(**sizes, dropout=DROPOUT))
    examples = captions(
        150 if small else 1_500, model.config.source_vocab_size
    )
    batches = [make_batch(group) for group in bucketed(examples, tokens, 0)]
    if "nn.Transformer" in who:
        step = peer_step(TorchTransformer(model))
        del model  # its weights are copied
    else:
        options = TrainingOptions(precision="fp32", label_smoothing=SMOOTHING)
        again = who == RECOMPUTING
        trainer = Trainer(
            model, examples, examples[:2], options, recompute=again
        )
        lacking = LACKING.get(who, {})
        step: Any = lambda batch: without(  # noqa: E731
            lacking, partial(trainer.update, [batch])
        )()
    before, most, course = held(), 0.0, []
    rng = random.Random(0)
    for number in range(1, steps + 1):
        step(rng.choice(batches))
        most = max(most, held())
        if number % max(1, steps // 20) == 0:
            course.append(round(most, 1))
            most = 0.0
    return {
        "before": round(before, 1),
        "peak": round(peak(), 1),
        "most_held": course,
    }


def attend(size: int, causal: bool) -> dict[str, Any]:
    """Attend once, forward; return what it took beyond its output."""
    attention = MultiHeadAttention(512, 8)
    q, k, v = (torch.randn(1, 8, size, 64) for _ in range(3))
    with torch.inference_mode():
        attention.attend(
            *(each[:, :, :128] for each in (q, k, v)), None, causal
        )
        before = held()
        forget_peak()
        output = attention.attend(q, k, v, None, causal)
    taken = peak() - before
    own = output.numel() * output.element_size() / MIB
    return {"over_output": round(taken - own, 1), "output": own}


def in_a_fresh_process(*arguments: object) -> dict[str, Any]:
    """Run one worker of this script and read what it prints."""
    done = subprocess.run(
        [sys.executable, __file__, "--worker", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def several(times: int, *arguments: object) -> dict[str, Any]:
    """Run a worker some times; take the middle, and keep all peaks."""
    runs = [in_a_fresh_process(*arguments) for _ in range(times)]
    runs.sort(key=lambda found: found["peak"])
    return {
        **runs[times // 2],
        "peaks": [found["peak"] for found in runs],
    }


def work(kind: str, *arguments: str) -> dict[str, Any]:
    """Do what `in_a_fresh_process` asked for."""
    if kind == "train":
        who, steps, tokens, small = arguments
        return train(who, int(steps), int(tokens), small == "True")
    return attend(int(arguments[0]), arguments[1] == "True")


def measure(steps: int, tokens: int, small: bool) -> dict[str, Any]:
    """Run all workers, one after the other."""
    trained = {
        who: several(1 if small else 3, "train", who, 8, TOKENS, small)
        for who in ("nn.Transformer", *ALLOCATOR)
    }
    torchs = min(
        found["peak"] for who, found in trained.items() if "nn." in who
    )
    return {
        "surroundings": surroundings(),
        "batch_tokens": {"training": TOKENS, "long_training": LONG_TOKENS},
        "training": trained,
        "peak_share_of_torch": {
            who: round(found["peak"] / torchs, 3)
            for who, found in trained.items()
        },
        "long_training": in_a_fresh_process(
            "train", "minitransformer", steps, LONG_TOKENS, small
        ),
        "attention_tokens": tokens,
        "attention": {
            "causal" if causal else "full": in_a_fresh_process(
                "attend", tokens, causal
            )
            for causal in (False, True)
        },
    }


def main() -> None:
    """Measure, write the result and show it."""
    parser = CommandLine("memory", __doc__)
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--tokens", type=int, default=8_192)
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.read()
    if arguments.worker:
        print(json.dumps(work(*arguments.worker)))
        return
    result = measure(arguments.steps, arguments.tokens, arguments.small)
    write_json(arguments.out, result)
    del result["surroundings"]
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
