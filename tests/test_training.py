"""Training: it learns, it is exact, and a killed run goes on as if not."""

import copy
import math
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from minitransformer import Transformer, TransformerConfig, training
from minitransformer.checkpoints import load_config, load_tensors
from minitransformer.config import BOS_ID, EOS_ID, UNK_ID
from minitransformer.corpora import Corpus, Pair
from minitransformer.data import Example, make_batch
from minitransformer.decoding import greedy_decode
from minitransformer.errors import UserError
from minitransformer.processor import choose_device
from minitransformer.recipes import (
    RECIPES,
    Recipe,
    make_tokenizers,
    recipe_for,
    train_translator,
)
from minitransformer.training import (
    Trainer,
    TrainingOptions,
    choose_precision,
    rate_at,
    translation_loss,
)

V = 13


def build(dropout=0.0, **sizes):
    config = TransformerConfig(
        source_vocab_size=V,
        **{
            "d_model": 16,
            "num_heads": 2,
            "d_ff": 24,
            "num_encoder_layers": 1,
            "num_decoder_layers": 1,
            "dropout": dropout,
            "max_len": 20,
            **sizes,
        },
    )
    return Transformer(config)


def backwards(number, seed=0):
    """Make examples whose target is the source read backwards."""
    rng = random.Random(seed)
    examples = []
    for _ in range(number):
        ids = [rng.randrange(4, V) for _ in range(rng.randint(1, 5))]
        examples.append(
            Example([*ids, EOS_ID], [BOS_ID, *reversed(ids), EOS_ID])
        )
    return examples


def options(**changes):
    return TrainingOptions(
        **{
            "updates": 6,
            "batch_tokens": 60,
            "warmup": 2,
            "validate_every": 3,
            "precision": "fp32",
            **changes,
        }
    )


def gradient_norm(model):
    return torch.nn.utils.get_total_norm(
        [p.grad for p in model.parameters() if p.grad is not None]
    )


def spied_updates(trainer, monkeypatch):
    """Note what a trainer's updates were given, and what they returned."""
    given, returned = [], []
    update = trainer.update

    def spy(batches):
        given.append(batches)
        returned.append(update(batches))
        return returned[-1]

    monkeypatch.setattr(trainer, "update", spy)
    return given, returned


# By hand ---


def test_schedules_rise_in_a_line_and_fall_as_named():
    common = {"learning_rate": 0.8, "warmup": 4, "updates": 20}
    linear = TrainingOptions(schedule="linear", **common)
    assert [round(rate_at(u, linear), 3) for u in (0, 1, 3, 4, 12, 20)] == [
        0.2,
        0.4,
        0.8,
        0.8,
        0.4,
        0.0,
    ]
    root = TrainingOptions(schedule="inverse_sqrt", **common)
    assert rate_at(3, root) == rate_at(3, linear) == 0.8
    assert rate_at(15, root) == pytest.approx(0.8 * math.sqrt(4 / 16))
    cosine = TrainingOptions(schedule="cosine", **common)
    assert rate_at(8, cosine) == pytest.approx(
        0.4 * (1 + math.cos(math.pi / 4))
    )


def test_a_loss_counts_real_labels_only():
    model = build().eval()
    examples = backwards(5)
    together = translation_loss(model, make_batch(examples))
    alone = sum(translation_loss(model, make_batch([one])) for one in examples)
    assert_close(together, alone)


def test_a_model_that_knows_nothing_pays_log_v():
    model = build()
    torch.nn.init.zeros_(model.output.weight)
    batch = make_batch(backwards(5))
    loss = translation_loss(model, batch, label_smoothing=0.1)
    assert_close(loss.detach() / batch.num_tokens, torch.tensor(math.log(V)))


def test_training_smooths_its_labels_and_validation_does_not():
    model = build(tie_embeddings=False)  # tied logits start almost equal
    valid = backwards(3, seed=1)
    trainer = Trainer(
        model, backwards(9), valid, options(label_smoothing=0.35)
    )
    before = copy.deepcopy(model)
    learned, judged = make_batch(backwards(9)), make_batch(valid)

    def expected(batch, smoothing):
        loss = translation_loss(before, batch, smoothing).item()
        return pytest.approx(loss / batch.num_tokens, rel=1e-4)

    found = trainer.validate()
    assert found == expected(judged, 0.0)
    assert found != expected(judged, 0.35)
    found, _ = trainer.update([learned])
    assert found == expected(learned, 0.35)
    assert found != expected(learned, 0.0)


# Properties ---


def test_accumulated_batches_equal_one_big_batch():
    examples = backwards(11)
    batch = make_batch(examples)
    parts = [make_batch(examples[:4]), make_batch(examples[4:])]
    results = []
    for batches in ([batch], parts):
        torch.manual_seed(1)
        model = build().double()
        trainer = Trainer(model, examples, examples[:3], options())
        loss, tokens = trainer.update(batches)
        results.append((loss, tokens, dict(model.named_parameters())))
    (loss, tokens, one), (loss2, tokens2, two) = results
    assert tokens == tokens2 == batch.num_tokens
    assert loss == pytest.approx(loss2, rel=1e-12)
    for name, parameter in one.items():
        assert_close(parameter, two[name], rtol=1e-9, atol=1e-9)


def test_the_gradient_is_clipped():
    seen = []
    model = build()
    trainer = Trainer(
        model, backwards(9), backwards(3), options(clip=0.01, warmup=0)
    )
    trainer.optimizer.register_step_pre_hook(
        lambda *_: seen.append(gradient_norm(model))
    )
    trainer.update([make_batch(backwards(9))])
    assert_close(seen[0], torch.tensor(0.01), rtol=1e-3, atol=0)


def test_only_matrices_decay():
    trainer = Trainer(
        build(), backwards(3), backwards(3), options(weight_decay=0.3)
    )
    decayed, others = trainer.optimizer.param_groups
    assert decayed["weight_decay"] == 0.3
    assert others["weight_decay"] == 0.0
    assert {p.ndim for p in decayed["params"]} == {2}
    assert {p.ndim for p in others["params"]} == {1}


def test_each_update_has_the_rate_of_the_schedule():
    chosen = options(schedule="linear")
    trainer = Trainer(build(), backwards(9), backwards(3), chosen)
    seen = []
    trainer.optimizer.register_step_pre_hook(
        lambda optimizer, *_: seen.append(
            [group["lr"] for group in optimizer.param_groups]
        )
    )
    for _ in range(6):
        trainer.update([make_batch(backwards(9))])
    assert seen == [[rate_at(update, chosen)] * 2 for update in range(6)]


def test_an_update_gets_as_many_batches_as_it_adds_up(tmp_path, monkeypatch):
    trainer = Trainer(
        build(), backwards(40), backwards(3), options(updates=2, accumulate=3)
    )
    given, _ = spied_updates(trainer, monkeypatch)
    trainer.run(tmp_path, lambda _: None)
    assert [len(batches) for batches in given] == [3, 3]


def test_a_run_ends_with_a_checkpoint(tmp_path):
    chosen = options(updates=5, validate_every=3)
    trainer = Trainer(build(), backwards(9), backwards(3), chosen)
    trainer.run(tmp_path, lambda _: None)
    assert [facts["update"] for facts in trainer.history] == [3, 5]
    _, facts = load_tensors(tmp_path / "last.safetensors")
    assert facts["updates"] == 5


def test_a_checkpoint_tells_of_the_updates_since_the_last(
    tmp_path, monkeypatch
):
    model = build()
    trainer = Trainer(model, backwards(40), backwards(3), options(clip=1e9))
    factors = iter([1, 9, 2, 4, 1, 3])  # the steepest is never the last
    model.output.weight.register_hook(lambda g: g * next(factors))
    norms = []
    trainer.optimizer.register_step_pre_hook(
        lambda *_: norms.append(gradient_norm(model).item())
    )
    _, returned = spied_updates(trainer, monkeypatch)
    trainer.run(tmp_path, lambda _: None)
    for facts, part in zip(
        trainer.history, (slice(3), slice(3, 6)), strict=True
    ):
        tokens = [number for _, number in returned[part]]
        assert len(set(tokens)) > 1  # or weights would not matter
        total = sum(loss * number for loss, number in returned[part])
        assert facts["train_loss"] == pytest.approx(total / sum(tokens))
        assert facts["gradient_norm"] == pytest.approx(max(norms[part]))


def test_the_average_follows_the_weights():
    torch.manual_seed(2)
    trainer = Trainer(build(), backwards(9), backwards(3), options(average=0))
    trainer.update([make_batch(backwards(9))])
    for ours, theirs in zip(
        trainer.averaged.parameters(), trainer.model.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)
    slow = Trainer(build(), backwards(9), backwards(3), options(average=0.9))
    before = [p.clone() for p in slow.averaged.parameters()]
    slow.update([make_batch(backwards(9))])
    memory = 2 / 21  # (1 + 1) / (20 + 1), below 0.9
    for old, ours, theirs in zip(
        before,
        slow.averaged.parameters(),
        slow.model.parameters(),
        strict=True,
    ):
        assert_close(ours, memory * old + (1 - memory) * theirs)


def test_recomputed_layers_remember_less_and_end_with_the_same_bits():
    examples = backwards(40)
    batches = [make_batch(examples[:20]), make_batch(examples[20:])]
    weights, kept = [], []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = build(0.3, num_encoder_layers=3, num_decoder_layers=2)
        trainer = Trainer(
            model, examples, examples[:2], options(), recompute=recompute
        )
        for batch in batches:
            trainer.update([batch])
        assert trainer.validate() > 0
        weights.append(list(model.state_dict().values()))
        sizes = {}

        def pack(tensor, sizes=sizes):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            loss = translation_loss(model.train(), batches[0])
        loss.backward()
        kept.append(sum(sizes.values()))
    for one, other in zip(*weights, strict=True):
        assert torch.equal(one, other)
    assert kept[1] < kept[0] / 3


def test_it_learns_to_read_backwards(tmp_path):
    torch.manual_seed(0)
    examples = backwards(600)
    model = build(d_model=32, num_heads=4, d_ff=64, max_len=12)
    trainer = Trainer(
        model,
        examples,
        backwards(60, seed=1),
        options(
            updates=250,
            batch_tokens=400,
            learning_rate=8e-3,
            warmup=30,
            validate_every=125,
            label_smoothing=0.0,
            average=0.9,
        ),
    )
    lines = []
    trainer.run(tmp_path, lines.append)
    assert trainer.history[-1]["valid_loss"] < 0.5
    assert trainer.history[-1]["valid_loss"] < trainer.history[0]["valid_loss"]
    assert lines[-1].startswith("update 250 of 250: loss")
    source = torch.tensor([[5, 9, 7, EOS_ID]])
    assert greedy_decode(trainer.averaged, source) == [[7, 9, 5]]


def test_patience_stops_early_and_stays_stopped(tmp_path):
    chosen = options(updates=40, learning_rate=0.0, patience=2)
    trainer = Trainer(build(), backwards(9), backwards(3), chosen)
    trainer.run(tmp_path, lambda _: None)
    # The first validation is the best; then two that are not better.
    assert trainer.updates == 9
    again = Trainer(build(), backwards(9), backwards(3), chosen)
    again.load(tmp_path / "last.safetensors")
    again.run(tmp_path, lambda _: None)
    assert again.updates == 9


def test_a_resumed_run_keeps_its_precision(tmp_path, monkeypatch):
    chosen = options(precision="auto")
    for fast in (True, False):  # resumed on another machine
        monkeypatch.setattr(training, "computes_bf16", lambda fast=fast: fast)
        trainer = Trainer(build(), backwards(9), backwards(3), chosen)
        if fast:
            trainer.save(tmp_path / "last.safetensors")
    assert trainer.precision == "fp32"
    trainer.load(tmp_path / "last.safetensors")
    assert trainer.precision == "bf16"


# Killed and resumed ---

SCRIPT = """
import sys
from pathlib import Path
import torch
from minitransformer.recipes import train_translator
from test_training import toy_corpus, toy_recipe
torch.set_num_threads(1)
folder = Path(sys.argv[1])
resume = (folder / "config.json").exists()
train_translator(
    toy_corpus(), folder, toy_recipe(), resume=resume, device="cpu"
)
"""


def toy_corpus():
    rng = random.Random(3)
    nouns = ["fox", "owl", "cat", "bear", "wolf", "goat"]
    french = ["renard", "hibou", "chat", "ours", "loup", "bouc"]
    pairs = []
    for _ in range(120):
        chosen = [rng.randrange(6) for _ in range(rng.randint(1, 4))]
        pairs.append(
            Pair(
                " and ".join(nouns[i] for i in chosen),
                " et ".join(french[i] for i in chosen),
            )
        )
    splits = {"train": pairs[:100], "valid": pairs[100:]}
    return Corpus("toy", "en", "fr", splits, "MIT", "ours")


def toy_recipe(**changes):
    return Recipe(
        sizes={
            "d_model": 16,
            "num_heads": 2,
            "num_encoder_layers": 1,
            "num_decoder_layers": 1,
            "d_ff": 24,
            "dropout": 0.2,
            "max_len": 40,
        },
        vocab_size=90,
        options=options(
            updates=60, validate_every=4, accumulate=2, warmup=5, **changes
        ),
    )


def run(folder):
    here = os.path.dirname(__file__)
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder)],
        env={**os.environ, "PYTHONPATH": here, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_same_bits(one, other):
    """Compare all that two runs left, but for the time they took."""
    for file in ("model.safetensors", "last.safetensors"):
        ours, facts = load_tensors(one / file)
        theirs, their_facts = load_tensors(other / file)
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert torch.equal(ours[name], theirs[name]), name
        for either in (facts, their_facts):
            either.pop("core_seconds", None)
        assert facts == their_facts


def test_killed_at_random_moments_it_ends_with_the_same_bits(tmp_path):
    whole = tmp_path / "whole"
    process = run(whole)
    _, lines = process.communicate(timeout=300)
    assert process.returncode == 0, lines
    broken = tmp_path / "broken"
    rng = random.Random()  # other moments in every run
    kills = 0
    while True:
        process = run(broken)
        if kills == 3:
            _, lines = process.communicate(timeout=300)
            break
        for _ in range(rng.randint(1, 5)):  # some lines, and a bit, later
            process.stderr.readline()
        time.sleep(rng.random() * 0.03)
        process.kill()
        process.communicate(timeout=60)
        kills += process.returncode != 0
        if process.returncode == 0:
            break
    assert process.returncode == 0, lines
    assert kills > 0
    assert_same_bits(broken, whole)


# Edges ---


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good(tmp_path):
    model = build()
    trainer = Trainer(model, backwards(30), backwards(3), options(updates=9))
    trainer.run(tmp_path, lambda _: None)
    good, _ = load_tensors(tmp_path / "last.safetensors")
    with torch.no_grad():
        model.output.weight[5] = math.nan
    with pytest.raises(UserError, match="loss is nan at update 9"):
        trainer.update([make_batch(backwards(9))])
    kept, facts = load_tensors(tmp_path / "last.safetensors")
    assert facts["updates"] == 9
    assert all(torch.equal(good[name], kept[name]) for name in good)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(number):
    """Clipping would turn one infinite number into NaN everywhere."""
    model = build()
    trainer = Trainer(model, [], backwards(3), options())
    batch = make_batch(backwards(9))
    trainer.update([batch])
    before = [parameter.clone() for parameter in model.parameters()]
    hook = model.output.weight.register_hook(
        lambda gradient: gradient.index_fill(0, torch.tensor(5), number)
    )
    with pytest.raises(UserError, match=r"norm is (nan|inf) at update 1: "):
        trainer.update([batch])
    assert trainer.updates == 1
    for old, new in zip(before, model.parameters(), strict=True):
        assert_close(old, new, rtol=0, atol=0)
    hook.remove()
    trainer.update([batch])  # nothing of it is left
    assert trainer.updates == 2


def test_an_exploding_gradient_is_cut_and_told(tmp_path):
    torch.manual_seed(0)
    model, lines = build(), []
    trainer = Trainer(model, backwards(30), backwards(3), options(updates=3))
    model.output.weight.register_hook(lambda gradient: gradient * 1e6)
    trainer.run(tmp_path, lines.append)
    (facts,) = trainer.history
    assert facts["gradient_norm"] > 1e4
    assert f"gradient up to {facts['gradient_norm']:.1f}, " in lines[0]
    # The model still learns: only the length of the step was wrong.
    assert facts["valid_loss"] < 2 * math.log(V)
    assert trainer.steepest == 0.0


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("averaged", "validation loss is nan at update 6"),
        ("model", "The loss is nan at update 3"),
    ],
)
def test_weights_that_went_wrong_are_not_written(which, message, tmp_path):
    kept = {}

    @torch.no_grad()
    def spoil(_):
        kept.update((f, f.read_bytes()) for f in tmp_path.iterdir())
        getattr(trainer, which).output.weight[5] = math.nan

    trainer = Trainer(build(), backwards(30), backwards(3), options())
    with pytest.raises(UserError, match=message):
        trainer.run(tmp_path, spoil)
    assert {f: f.read_bytes() for f in tmp_path.iterdir()} == kept
    assert load_tensors(tmp_path / "last.safetensors")[1]["updates"] == 3


@pytest.mark.parametrize("name", ["model.safetensors", "last.safetensors"])
def test_a_disk_that_fills_in_the_midst_of_a_file_loses_nothing(
    name, tmp_path
):
    resource = pytest.importorskip("resource", reason="the system has none")
    limit = resource.RLIMIT_FSIZE
    soft, hard = resource.getrlimit(limit)
    kept = {}

    def fill(_):  # no file may grow any more: half of one will be written
        kept.update((f, f.read_bytes()) for f in broken.iterdir())
        most = 2 * len(kept[broken / name]) // 3
        resource.setrlimit(limit, (most, hard))

    def trainer():
        torch.manual_seed(0)
        return Trainer(
            build(dropout=0.1), backwards(30), backwards(3), options()
        )

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    trainer().run(whole, lambda _: None)
    signals = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(UserError, match="can't be written"):
            trainer().run(broken, fill)
    finally:
        resource.setrlimit(limit, (soft, hard))
        signal.signal(signal.SIGXFSZ, signals)
    assert set(broken.iterdir()) == kept.keys()
    assert (broken / name).read_bytes() == kept[broken / name]
    again = trainer()
    again.load(broken / "last.safetensors")
    assert again.updates == 3
    again.run(broken, lambda _: None)  # there is room again
    assert_same_bits(broken, whole)


def test_a_folder_is_not_trained_over(tmp_path):
    train_translator(
        toy_corpus(), tmp_path, toy_recipe(patience=1, learning_rate=0.0)
    )
    with pytest.raises(UserError, match="holds a model already"):
        train_translator(toy_corpus(), tmp_path, toy_recipe())
    for split, pairs in toy_corpus().splits.items():
        more = {split: [*pairs, Pair("fox", "chat")]}
        other = replace(toy_corpus(), splits=toy_corpus().splits | more)
        with pytest.raises(UserError, match="other sentences"):
            train_translator(other, tmp_path, resume=True)


def test_there_must_be_something_to_resume(tmp_path):
    with pytest.raises(UserError, match="holds no model"):
        train_translator(toy_corpus(), tmp_path / "none", resume=True)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_model_without_its_state_is_not_trained_from_the_start(tmp_path):
    recipe = toy_recipe(patience=1, learning_rate=0.0)
    train_translator(toy_corpus(), tmp_path, recipe)
    (tmp_path / "last.safetensors").unlink()
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"but not last\.safetensors"):
        train_translator(toy_corpus(), tmp_path, resume=True)
    assert contents(tmp_path) == before


def test_a_run_killed_before_its_first_state_goes_on(tmp_path, monkeypatch):
    save_weights = training.save_weights

    def killed(*arguments):
        save_weights(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "save_weights", killed)
        with pytest.raises(KeyboardInterrupt):
            train_translator(toy_corpus(), tmp_path / "one", toy_recipe())
    train_translator(toy_corpus(), tmp_path / "one", resume=True)
    train_translator(toy_corpus(), tmp_path / "other", toy_recipe())
    one, other = (
        load_tensors(tmp_path / name / "model.safetensors")[0]
        for name in ("one", "other")
    )
    assert all(torch.equal(one[name], other[name]) for name in other)


@pytest.mark.parametrize("left", ["model.safetensors", "last.safetensors"])
def test_a_new_training_takes_nothing_from_an_old_one(tmp_path, left):
    (tmp_path / left).write_bytes(b"of another model")
    with pytest.raises(UserError, match="holds a model already"):
        train_translator(toy_corpus(), tmp_path, toy_recipe())
    assert contents(tmp_path) == {left: b"of another model"}


def two_alphabets():
    """Make a corpus whose languages have no letter in common."""
    rng = random.Random(5)

    def text(letters):
        words = ["".join(rng.choices(letters, k=3)) for _ in range(4)]
        return " ".join(words)

    pairs = [Pair(text("abc"), text("éß")) for _ in range(50)]
    splits = {"train": pairs[:40], "valid": pairs[40:]}
    return Corpus("two", "en", "fr", splits, "MIT", "ours")


def test_two_vocabularies(tmp_path):
    recipe = replace(
        toy_recipe(),
        vocab_size=30,
        target_vocab_size=20,
        options=options(updates=1),
    )
    train_translator(two_alphabets(), tmp_path, recipe)
    config, source, target, _ = load_config(tmp_path)
    assert source.vocab_size == config.source_vocab_size == 30
    assert target.vocab_size == config.target_vocab_size == 20
    for ours, theirs, text in (
        (source, target, "aab cbc"),
        (target, source, "éßé ßß"),
    ):
        assert UNK_ID not in ours.encode(text)
        assert UNK_ID in theirs.encode(text)


def test_a_shared_vocabulary_knows_both_languages():
    recipe = replace(toy_recipe(), vocab_size=40)
    source, target = make_tokenizers(two_alphabets(), recipe)
    assert source is target
    assert source.vocab_size <= 40
    assert UNK_ID not in source.encode("aab cbc éßé ßß")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"updates": 0}, "updates=0 must be at least 1"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
        ({"clip": math.nan}, "clip=nan"),
        ({"label_smoothing": 1.0}, "below 1"),
        ({"average": 1.0}, "below 1"),
        ({"schedule": "steps"}, "inverse_sqrt, cosine, linear"),
        ({"precision": "fp8"}, "auto, fp32, bf16"),
    ],
)
def test_impossible_options_are_named(change, message):
    with pytest.raises(UserError, match=message):
        TrainingOptions(**change)


def test_an_absent_device_is_named():
    for name in ("warp", "meta", "hpu", "cuda:99"):
        with pytest.raises(UserError, match=f"no device '{name}'"):
            choose_device(name)
    assert choose_device("cpu").type == "cpu"


@pytest.mark.parametrize(("found", "kind"), [(True, "cuda"), (False, "cpu")])
def test_the_fastest_device_is_chosen(monkeypatch, found, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found)
    assert choose_device("auto").type == kind


@pytest.mark.parametrize(("fast", "chosen"), [(True, "bf16"), (False, "fp32")])
def test_precision_is_what_was_asked_for_or_what_is_fast(
    monkeypatch, fast, chosen
):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr(training, "computes_bf16", lambda: fast)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda _: fast)
    for device in (cpu, cuda):
        assert choose_precision("bf16", device) == "bf16"
        assert choose_precision("fp32", device) == "fp32"
        assert choose_precision("auto", device) == chosen
    assert choose_precision("auto", torch.device("meta")) == "fp32"


def test_bf16_trains_single_precision_weights():
    batch = make_batch(backwards(9))
    losses = []
    for precision in ("fp32", "bf16"):
        torch.manual_seed(3)
        trainer = Trainer(
            build(), backwards(9), backwards(3), options(precision=precision)
        )
        before = trainer.model.output.weight.clone()
        losses.append((trainer.validate(), trainer.update([batch])[0]))
        weight = trainer.model.output.weight
        assert weight.dtype == torch.float32
        assert not torch.equal(before, weight)
    for exact, rounded in zip(*losses, strict=True):
        assert exact != rounded
        assert rounded == pytest.approx(exact, rel=0.02)


def test_every_corpus_has_a_recipe_that_is_valid():
    for name, recipe in RECIPES.items():
        TransformerConfig(source_vocab_size=50, **recipe.sizes)
        assert recipe_for(name) is recipe
    assert recipe_for("my own files").options.updates > 0
