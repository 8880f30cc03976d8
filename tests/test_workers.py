"""Several processes train one model as one would, and survive a kill."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file
from test_training import assert_same_bits, toy_corpus
from torch.testing import assert_close

from minitransformer import cli
from minitransformer.checkpoints import load_tensors
from minitransformer.errors import UserError
from minitransformer.recipes import train_translator
from minitransformer.workers import Workers, join_workers

# One update, from two batches for each of two workers; keep the gradients.
ONE_UPDATE = """
import sys
import torch
from safetensors.torch import save_file
from minitransformer import Transformer, TransformerConfig
from minitransformer.data import Example, make_batch
from minitransformer.training import Trainer, TrainingOptions
from minitransformer.workers import join_workers

torch.set_num_threads(1)
torch.manual_seed(0)
workers, device = join_workers(torch.device("cpu"), "shard" in sys.argv)
model = Transformer(TransformerConfig(
    source_vocab_size=23, d_model=16, num_heads=2, d_ff=24, dropout=0.0,
    num_encoder_layers=2, num_decoder_layers=1))
examples = [
    Example(list(range(4, 4 + n)) + [2], [1] + list(range(5, 3 + n)) + [2])
    for n in (3, 5, 11, 4, 7, 9, 6)]
options = TrainingOptions(
    accumulate=2, clip=1e9, label_smoothing=0.1, batch_tokens=12)
trainer = Trainer(
    model, examples, examples, options, device, workers,
    recompute="recompute" in sys.argv)
trainer.optimizer.step = lambda: save_file(
    {name: workers.whole(each.grad).clone()
     for name, each in model.named_parameters()},
    f"{sys.argv[1]}.{workers.rank}")
groups = (examples[:1], examples[1:3], examples[3:6], examples[6:])
loss, tokens = trainer.update([make_batch(group) for group in groups])
assert len(trainer.valid) == 3  # in the end one worker has none left
valid = trainer.validate()
mine = sum(getattr(p, "_local_tensor", p).numel() for p in model.parameters())
if workers.leads:
    print(loss, tokens, valid, mine)
workers.part()
"""
UPDATES = 60
TRAIN = f"""-m minitransformer train --device cpu --threads 1
    --d-model 16 --num-heads 2 --num-layers 1 --d-ff 24 --dropout 0.2
    --max-len 40 --vocab-size 90 --batch-tokens 60 --accumulate 2 --warmup 5
    --learning-rate 1e-2 --updates {UPDATES} --validate-every 4""".split()


def start(*arguments, processes=2, restarts=0):
    """Start a script or module under torchrun, or alone."""
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(processes)]
        command += ["--max-restarts", str(restarts)]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def end(process):
    """Wait for a process that should succeed, and return what it printed."""
    printed, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return printed


@pytest.fixture
def script(tmp_path):
    def write(text):
        path = tmp_path / "script.py"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def train(tmp_path):
    """Return what starts the training of a folder."""
    corpus = tmp_path / "toy.tsv"
    pairs = [p for split in toy_corpus().splits.values() for p in split]
    lines = sorted({f"{pair.source}\t{pair.target}\n" for pair in pairs})
    corpus.write_text("".join(lines), encoding="utf-8")

    def run(folder, *more, **processes):
        files = "--tsv", corpus, "--out", folder
        return start(*TRAIN, *files, *more, **processes)

    return run


@pytest.mark.parametrize("how", [["copy"], ["shard", "recompute"]])
def test_two_processes_have_the_gradients_of_one(how, script, tmp_path):
    path = script(ONE_UPDATE)
    together = end(start(path, tmp_path / "together", *how)).split()
    alone = end(start(path, tmp_path / "alone", processes=1)).split()
    expected = load_file(tmp_path / "alone.0")
    for rank in (0, 1):
        found = load_file(tmp_path / f"together.{rank}")
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            if not name.endswith("w_k.bias"):  # no key bias matters
                assert gradient.abs().max() > 1e-4
            assert_close(found[name], gradient, rtol=0, atol=1e-6)
    for one, other in zip(together[:3], alone[:3], strict=True):
        assert float(one) == pytest.approx(float(other), abs=1e-5)
    share = int(together[3]) / int(alone[3])
    assert share == 1 if how == ["copy"] else 0.5 <= share < 0.51


@pytest.mark.skipif(sys.platform == "win32", reason="it has no pgrep")
@pytest.mark.parametrize("how", [[], ["--shard"]])
def test_a_killed_worker_comes_back_and_nothing_is_lost(how, train, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    end(train(whole, *how))
    process = train(broken, *how, restarts=3)
    last = broken / "last.safetensors"
    done = 0
    while not done:  # the first state of all is written before any update
        assert process.poll() is None
        time.sleep(0.01)
        if last.exists():
            done = load_tensors(last)[1]["updates"]
    found = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True
    )
    os.kill(int(found.stdout.split()[-1]), signal.SIGKILL)
    assert done < UPDATES
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "exitcode: -9" in errors
    starts = re.findall(rf"cpu, update (\d+) of {UPDATES}$", errors, re.M)
    first, again = map(int, starts)
    assert first == 0
    assert done <= again < UPDATES
    assert_same_bits(broken, whole)
    ours, _ = load_tensors(last)
    assert {"rng", "rng.1"} <= ours.keys()
    assert not torch.equal(ours["rng"], ours["rng.1"])  # dropout differs


def test_as_many_must_resume(train, tmp_path, capsys):
    end(train(tmp_path / "model"))
    resume = ["--resume", str(tmp_path / "model"), "--device", "cpu"]
    assert cli.run(["train", *resume]) == 2
    assert "by 2 processes, not 1" in capsys.readouterr().err


def test_one_alone_divides_nothing(tmp_path):
    with pytest.raises(UserError, match="torchrun --nproc-per-node 2"):
        train_translator(toy_corpus(), tmp_path / "model", sharded=True)
    assert not (tmp_path / "model").exists()


def test_an_old_pytorch_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.distributed.fsdp", None)
    with pytest.raises(UserError, match=r"2\.6 or later"):
        Workers(0, 2, sharded=True).shard(torch.nn.Linear(2, 2), [])


def test_one_alone_needs_nobody():
    workers, device = join_workers(torch.device("cpu"))
    assert (workers, device) == (Workers(0, 1), torch.device("cpu"))
    assert workers.sum(2.0, 3.5, device=device) == [2.0, 3.5]
    tensor = torch.arange(3)
    assert workers.gather(tensor, device)[0] is tensor
    module = torch.nn.Linear(2, 2)
    assert workers.share(module, device) is module
    assert workers.shard(module, []) is module
    assert workers.whole(tensor) is workers.part_of(tensor, tensor) is tensor
    workers.wait()
    workers.part()
