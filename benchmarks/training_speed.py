"""How fast is a training step, beside torch's own Transformer?

    python benchmarks/training_speed.py

Both models have the same sizes and weights, and read the same batches, whose
sentences are as long as image captions; the weights are copied, and the loss
is checked to be equal, before anything is timed. Peers that are installed
(``make peers``) are measured too. One thread; processor time.
"""

import argparse
import math
import random
import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from measuring import RESULTS, alternate, ratio, surroundings
from torch import Tensor, nn

from minitransformer import Transformer, TransformerConfig
from minitransformer.data import Batch, Example, bucketed, make_batch
from minitransformer.files import write_json
from minitransformer.positions import sinusoidal_positions
from minitransformer.training import Trainer, TrainingOptions

SMOOTHING, DROPOUT = 0.1, 0.1
SIZES: dict[str, int] = {
    "d_model": 256,
    "num_heads": 8,
    "num_encoder_layers": 3,
    "num_decoder_layers": 3,
    "d_ff": 1_024,
    "source_vocab_size": 8_000,
}
SMALL = SIZES | {"d_model": 32, "d_ff": 64, "source_vocab_size": 200}


class TorchTransformer(nn.Module):
    """``nn.Transformer`` as a careful user writes it.

    Args:
        sizes: As for `TransformerConfig`.
        dropout: Everywhere torch drops.
    """

    def __init__(self, sizes: dict[str, int], dropout: float):
        super().__init__()
        self.width = sizes["d_model"]
        self.embedding = nn.Embedding(sizes["source_vocab_size"], self.width)
        nn.init.normal_(self.embedding.weight, std=self.width**-0.5)
        self.positions = sinusoidal_positions(256, self.width)
        self.dropout = nn.Dropout(dropout)
        self.transformer = nn.Transformer(
            self.width,
            sizes["num_heads"],
            sizes["num_encoder_layers"],
            sizes["num_decoder_layers"],
            sizes["d_ff"],
            dropout,
            batch_first=True,
            norm_first=True,
        )

    def embed(self, ids: Tensor) -> Tensor:
        embedded = self.embedding(ids) * math.sqrt(self.width)  # (B, T, D)
        return self.dropout(embedded + self.positions[: ids.shape[1]])

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        hidden = self.transformer(
            self.embed(source),
            self.embed(target),
            tgt_mask=nn.Transformer.generate_square_subsequent_mask(
                target.shape[1]
            ),
            src_key_padding_mask=source == 0,
            tgt_key_padding_mask=None,  # the causal mask hides it already
            memory_key_padding_mask=source == 0,
            tgt_is_causal=True,
        )
        return hidden @ self.embedding.weight.T

    def loss(self, batch: Batch, smoothing: float) -> Tensor:
        logits = self(batch.source, batch.decoder_input)
        return F.cross_entropy(
            logits.flatten(0, 1),
            batch.labels.flatten(),
            ignore_index=0,
            label_smoothing=smoothing,
        )


def copy_weights(ours: Transformer, theirs: TorchTransformer) -> None:
    """Give torch's Transformer the weights of ours."""
    with torch.no_grad():
        theirs.embedding.weight.copy_(ours.source_embedding.weight)
        for stack, layers, norm in (
            (theirs.transformer.encoder, ours.encoder, ours.encoder_norm),
            (theirs.transformer.decoder, ours.decoder, ours.decoder_norm),
        ):
            stack.norm.load_state_dict(norm.state_dict())
            for their, our in zip(stack.layers, layers, strict=True):
                pairs = [(their.self_attn, our.self_attention)]
                norms = [our.add_norm1, our.add_norm2]
                if hasattr(our, "cross_attention"):
                    pairs.append((their.multihead_attn, our.cross_attention))
                    norms.append(our.add_norm3)
                for packed, own in pairs:
                    parts = own.w_q, own.w_k, own.w_v
                    packed.in_proj_weight.copy_(
                        torch.cat([part.weight for part in parts])
                    )
                    packed.in_proj_bias.copy_(
                        torch.cat([part.bias for part in parts])
                    )
                    packed.out_proj.load_state_dict(own.w_o.state_dict())
                for number, part in enumerate(norms, 1):
                    getattr(their, f"norm{number}").load_state_dict(
                        part.norm.state_dict()
                    )
                for name in ("linear1", "linear2"):
                    getattr(their, name).load_state_dict(
                        getattr(our.feed_forward, name).state_dict()
                    )


def captions(count: int, vocab_size: int) -> list[Example]:
    """Make pairs of random ids with the lengths of image captions.

    Multi30k's English has 14 tokens on average with a deviation of 4.5, and
    its German as many, give or take 15 %.
    """
    rng = random.Random(0)

    def ids(length: int) -> list[int]:
        return [rng.randrange(4, vocab_size) for _ in range(length)]

    found = []
    for _ in range(count):
        length = min(60, max(4, round(rng.lognormvariate(2.58, 0.32))))
        other = max(3, round(length * rng.gauss(1.0, 0.15)))
        found.append(Example([*ids(length), 2], [1, *ids(other), 2]))
    return found


class Steps:
    """Training steps over a list of batches, one after the other.

    Args:
        batches: Taken in turn, again and again.
        step: Makes one update from a batch.
    """

    def __init__(self, batches: Sequence[Batch], step: Any):
        self.batches, self.step = batches, step

    def __call__(self) -> None:
        for batch in self.batches:
            self.step(batch)


def measure(sizes: dict[str, int], pairs: int, rounds: int) -> dict[str, Any]:
    """Time a pass over the same pairs by every candidate."""
    examples = captions(pairs, sizes["source_vocab_size"])
    groups = bucketed(examples, 4_096, seed=0)
    batches = [make_batch(group) for group in groups]
    options = TrainingOptions(precision="fp32", label_smoothing=SMOOTHING)

    torch.manual_seed(0)
    ours = Transformer(TransformerConfig(**sizes, dropout=DROPOUT))
    theirs = TorchTransformer(sizes, DROPOUT)
    copy_weights(ours, theirs)
    check_equal(ours, theirs, batches[0])
    trainer = Trainer(ours, examples, examples[:2], options)
    adamw = torch.optim.AdamW(theirs.parameters(), lr=1e-3, fused=True)

    def torch_step(batch: Batch) -> None:
        theirs.loss(batch, SMOOTHING).backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        adamw.step()
        adamw.zero_grad()

    unsorted = examples[:]
    random.Random(1).shuffle(unsorted)
    size = math.ceil(len(examples) / len(batches))
    shuffled = [
        make_batch(unsorted[start : start + size])
        for start in range(0, len(unsorted), size)
    ]
    candidates = {
        "minitransformer": Steps(batches, lambda b: trainer.update([b])),
        "nn.Transformer": Steps(batches, torch_step),
        "nn.Transformer, unsorted": Steps(shuffled, torch_step),
    }
    theirs.train()
    times = alternate(candidates, rounds)
    tokens = sum(batch.num_tokens for batch in batches)
    return {
        "surroundings": surroundings(),
        "sizes": sizes,
        "batches": len(batches),
        "target_tokens": tokens,
        "precision": "fp32",
        "seconds": times,
        "tokens_per_second": {
            name: round(tokens / sorted(each)[len(each) // 2])
            for name, each in times.items()
        },
        "times_as_fast": {
            name: ratio(each, times["minitransformer"])
            for name, each in times.items()
            if name != "minitransformer"
        },
    }


def check_equal(
    ours: Transformer, theirs: TorchTransformer, batch: Batch
) -> None:
    """Stop if the two models don't give the same logits."""
    ours.eval()
    theirs.eval()
    with torch.no_grad():
        a = ours(batch.source, batch.decoder_input)
        b = theirs(batch.source, batch.decoder_input)
    real = batch.labels != 0
    torch.testing.assert_close(a[real], b[real], rtol=1e-3, atol=1e-3)


def main() -> None:
    """Measure, write the result and show it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--pairs", type=int, default=1_500)
    parser.add_argument("--small", action="store_true", help="a quick test")
    parser.add_argument("--out", default=RESULTS / "training_speed.json")
    arguments = parser.parse_args()
    # torch says so of every pre-norm encoder
    warnings.filterwarnings("ignore", message="enable_nested_tensor")
    torch.set_num_threads(1)
    sizes = SMALL if arguments.small else SIZES
    result = measure(sizes, arguments.pairs, arguments.rounds)
    write_json(arguments.out, result)
    for name, found in result["times_as_fast"].items():
        print(f"{found['median']} [{found['low']}, {found['high']}] x {name}")


if __name__ == "__main__":
    main()
