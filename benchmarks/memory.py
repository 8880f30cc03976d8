"""How much memory do training and attention need?

    python benchmarks/memory.py

Every figure is the peak of a fresh process, over what that process held
before; the training processes also tell whether memory grows over many steps
of varying shapes. One thread.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from measuring import RESULTS, surroundings
from peers import SIZES, SMALL, TorchTransformer
from training_speed import DROPOUT, SMOOTHING, captions, peer_step

from minitransformer import Transformer, TransformerConfig
from minitransformer.allocator import keep_memory, return_memory
from minitransformer.attention import MultiHeadAttention
from minitransformer.data import bucketed, make_batch
from minitransformer.files import write_json
from minitransformer.training import Trainer, TrainingOptions

MIB = 2**20
RECOMPUTING = "minitransformer --recompute"
ALLOCATOR = {
    "minitransformer": keep_memory,
    RECOMPUTING: return_memory,
    "nn.Transformer, memory returned": return_memory,
}


def peak() -> float:
    """Return the most memory the process ever held, in MiB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / MIB if sys.platform == "darwin" else most / 1024


def held() -> float:
    """Return the memory the process holds now, in MiB (Linux alone)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the system does not tell")


def train(who: str, steps: int, tokens: int, small: bool) -> dict[str, Any]:
    """Train on batches of varying shapes; return the peak and the course."""
    if who in ALLOCATOR:
        ALLOCATOR[who]()
    torch.manual_seed(0)
    sizes = SMALL if small else SIZES
    model = Transformer(TransformerConfig(**sizes, dropout=DROPOUT))
    examples = captions(
        150 if small else 1_500, model.config.source_vocab_size
    )
    batches = [make_batch(group) for group in bucketed(examples, tokens, 0)]
    if "nn.Transformer" in who:
        step = peer_step(TorchTransformer(model))
    else:
        options = TrainingOptions(precision="fp32", label_smoothing=SMOOTHING)
        again = who == RECOMPUTING
        trainer = Trainer(
            model, examples, examples[:2], options, recompute=again
        )
        step: Any = lambda batch: trainer.update([batch])  # noqa: E731
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
        before = max(peak(), held())
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


def work(kind: str, *arguments: str) -> dict[str, Any]:
    """Do what `in_a_fresh_process` asked for."""
    torch.set_num_threads(1)
    if kind == "train":
        who, steps, tokens, small = arguments
        return train(who, int(steps), int(tokens), small == "True")
    return attend(int(arguments[0]), arguments[1] == "True")


def measure(steps: int, tokens: int, small: bool) -> dict[str, Any]:
    """Run all workers, one after the other."""
    training = {
        who: in_a_fresh_process("train", who, 8, 4_096, small)
        for who in ("nn.Transformer", *ALLOCATOR)
    }
    torchs = min(
        found["peak"] for who, found in training.items() if "nn." in who
    )
    return {
        "surroundings": surroundings(),
        "training": training,
        "peak_share_of_torch": {
            who: round(found["peak"] / torchs, 3)
            for who, found in training.items()
        },
        "long_training": in_a_fresh_process(
            "train", "minitransformer", steps, 512, small
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--tokens", type=int, default=8_192)
    parser.add_argument("--small", action="store_true", help="a quick test")
    parser.add_argument("--out", type=Path, default=RESULTS / "memory.json")
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(work(*arguments.worker)))
        return
    result = measure(arguments.steps, arguments.tokens, arguments.small)
    write_json(arguments.out, result)
    del result["surroundings"]
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
