"""The benchmarks in miniature: they run, and they measure what they say."""

import argparse
import importlib
import json
import math
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from minitransformer import Transformer, TransformerConfig
from minitransformer.data import make_batch

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "minitransformer" / "results"


def imported(name):
    """Import one of the benchmarks' modules as the scripts do."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


@pytest.fixture(scope="module")
def measuring():
    """Import what the scripts measure with."""
    return imported("measuring")


def run(script, *arguments):
    """Run a script on one thread."""
    return subprocess.run(
        [sys.executable, script, *arguments],
        cwd=ROOT / "benchmarks",
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )


def test_candidates_take_turns(measuring):
    calls = []
    candidates = {name: lambda name=name: calls.append(name) for name in "abc"}
    times = measuring.alternate(candidates, rounds=3)
    rounds = ["".join(calls[i : i + 3]) for i in range(0, 12, 3)]
    assert len(calls) == 12
    assert {"".join(sorted(each)) for each in rounds} == {"abc"}
    assert {name: len(each) for name, each in times.items()} == {
        name: 3 for name in "abc"
    }


def test_nobody_always_follows_the_same(measuring):
    orders = ["".join(measuring.turn(list("abc"), i)) for i in range(60)]
    assert orders == [
        "".join(measuring.turn(list("abc"), i)) for i in range(60)
    ]
    for pair in ("ab", "ba", "ac", "ca", "bc", "cb"):
        # A pair is in 4 of the 12 places that the 6 orders have: 20 of 60.
        assert 12 <= sum(pair in order for order in orders) <= 28


def test_only_work_counts_as_time(measuring):
    times = measuring.alternate({"asleep": lambda: time.sleep(0.2)}, 1)
    assert times["asleep"][0] < 0.1


def test_ratios_by_hand(measuring):
    found = measuring.ratio([2.0, 3.0, 8.0], [1.0, 1.0, 2.0])
    assert found == {"median": 3.0, "low": 2.0, "high": 4.0}
    # Of nine rounds the least and the greatest are left out: that neither
    # end holds is as likely as at most one head, or tail, in nine tosses.
    nine = [1.7, 1.1, 1.9, 1.3, 1.2, 1.8, 1.4, 1.6, 1.5]
    found = measuring.ratio(nine, [1.0] * 9)
    assert found == {"median": 1.5, "low": 1.2, "high": 1.8}


def test_an_interval_holds_the_median_as_often_as_it_says(measuring):
    rng = random.Random(0)
    for rounds in (6, 9, 16):
        held = 0
        for _ in range(1_000):
            times = [rng.lognormvariate(0, 1) for _ in range(rounds)]
            found = measuring.ratio(times, [1.0] * rounds)
            held += found["low"] <= 1 <= found["high"]
        assert held >= 940


def test_rounds_are_added_until_the_interval_is_sharp(measuring):
    rng = random.Random(0)

    def rounds_of(deviation, rounds=9):
        """Return how many rounds a candidate of varying speed gets."""
        times = measuring.in_turn(
            {
                "theirs": lambda: rng.lognormvariate(0, deviation),
                "ours": lambda: 1.0,
            },
            rounds,
            enough=measuring.sharp("ours"),
        )
        found = measuring.ratio(times["theirs"], times["ours"])
        held.append(found["low"] <= 1 <= found["high"])
        return len(times["ours"])

    held = []
    assert rounds_of(5, rounds=5) == 5  # a quick look
    for deviation, some in ((0.01, {9}), (0.15, {9, 18, 36}), (5, {36})):
        held = []
        assert {rounds_of(deviation) for _ in range(1_000)} == some
        # Looking at the times to decide on more does not cost the promise.
        assert sum(held) >= 940


def test_a_round_is_the_sum_of_its_parts(measuring):
    order, clock = [], iter(range(1, 100))

    def timed(name):
        order.append(name)
        return next(clock)

    times = measuring.in_turn(
        {name: lambda name=name: timed(name) for name in "ab"},
        rounds=2,
        parts=3,
    )
    turns = ["".join(order[i : i + 2]) for i in range(0, 12, 2)]
    assert set(turns) == {"ab", "ba"}
    for name in "ab":
        when = [i for i, each in enumerate(order, 1) if each == name]
        assert times[name] == [sum(when[:3]), sum(when[3:])]


def test_versions_are_those_that_are_installed(measuring):
    found = measuring.versions(["torch", "no-such-package"])
    assert found.keys() == {"torch"}
    assert torch.__version__.startswith(found["torch"].split("+")[0])


def test_a_quick_test_never_writes_over_a_measurement(monkeypatch, tmp_path):
    places = imported("places")

    def read(*arguments):
        monkeypatch.setattr(sys, "argv", ["heads.py", *arguments])
        return places.CommandLine("heads", None, folder=True).read()

    whole, small = read(), read("--small")
    assert whole.out == places.RESULTS / "heads.json"
    assert small.out.parent == places.BUILD
    assert whole.folder != small.folder
    named = read("--small", "--out", str(tmp_path / "mine"))
    assert named.out == tmp_path / "mine"


def test_threads_and_precision_are_a_result_of_their_own(monkeypatch, capsys):
    places = imported("places")

    def read(*arguments):
        monkeypatch.setattr(sys, "argv", ["speed.py", *arguments])
        parser = places.CommandLine("speed", None, threads=True)
        parser.add_argument("--precision", default="fp32")
        return parser.read()

    before = torch.get_num_threads()
    try:
        found = read("--threads", "2", "--precision", "bf16")
        assert torch.get_num_threads() == 2
        assert found.out == places.RESULTS / "speed-2-threads-bf16.json"
        assert read().out == places.RESULTS / "speed.json"
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    with pytest.raises(SystemExit, match="2"):
        read("--threads", "0")
    assert "--threads 0 must be at least 1" in capsys.readouterr().err


def test_runs_of_one_plan_never_pass_for_those_of_another(tmp_path, capsys):
    claim, folder = imported("places").claim, tmp_path / "runs"
    claim(folder, {"seeds": (0, 1), "width": 24})
    claim(folder, {"seeds": (0, 1), "width": 24})  # goes on
    with pytest.raises(SystemExit, match="2"):
        claim(folder, {"seeds": (0, 1), "width": 48})
    assert f"{folder} holds runs of another task" in capsys.readouterr().err
    older = tmp_path / "older"
    older.mkdir()
    (older / "run.json").write_text("{}")
    with pytest.raises(SystemExit, match="2"):
        claim(older, {"width": 24})


def test_a_model_is_named_by_its_weights(tmp_path):
    name_of, folder = imported("places").name_of, tmp_path / "story" / "final"
    folder.mkdir(parents=True)
    names = set()
    for first, last in ((1.5, 2.5), (2.5, 1.5), (1.5, 2.5)):
        weights = {"a": torch.tensor([first]), "b": torch.tensor([last])}
        notes = {str(i): "in no order" for i in range(9)}
        save_file(weights, folder / "model.safetensors", notes)
        names.add(name_of(folder))
    assert len(names) == 2
    assert all(name.startswith("story-final-") for name in names)


def test_few_batches_stand_for_many():
    training_speed = imported("training_speed")
    examples = training_speed.captions(2_000, 50)
    groups = training_speed.bucketed(examples, 700, seed=0)
    some = training_speed.spread(groups, 5)
    lengths = [len(group[0].source) for group in some]
    assert lengths == sorted(lengths)
    assert lengths[0] < 12 < 18 < lengths[-1]
    assert training_speed.spread(groups[:2], 5) == sorted(
        groups[:2], key=lambda group: len(group[0].source)
    )


def test_torchs_transformer_drops_no_more_than_ours():
    peers = imported("peers")
    ours = Transformer(TransformerConfig(**peers.SMALL, dropout=0.3))
    for weights_too, rate in ((False, 0.0), (True, 0.3)):
        theirs = peers.TorchTransformer(ours, weights_too)
        assert {
            module.dropout
            for module in theirs.modules()
            if isinstance(module, nn.MultiheadAttention)
        } == {rate}


def test_a_peer_that_sees_padding_is_found_out(monkeypatch):
    training_speed, peers = imported("training_speed"), imported("peers")
    ours = Transformer(TransformerConfig(**peers.SMALL)).eval()
    theirs = peers.TorchTransformer(ours).eval()
    examples = training_speed.captions(12, 200)
    batch = make_batch(training_speed.shuffled(examples, 2)[0])
    assert (batch.source == 0).any()
    peers.check_logits(ours, theirs, batch)
    monkeypatch.setattr(peers, "padding_mask", lambda source: None)
    with pytest.raises(AssertionError, match="not close"):
        peers.check_logits(ours, theirs, batch)


def test_pairs_are_shuffled_into_groups():
    training_speed = imported("training_speed")
    groups = training_speed.shuffled(list(range(11)), 3)
    assert [len(group) for group in groups] == [4, 4, 3]
    order = [pair for group in groups for pair in group]
    assert sorted(order) == list(range(11)) != order


def test_times_are_compared_token_by_token():
    training_speed = imported("training_speed")
    ours = training_speed.OURS
    times = {ours: [2.0] * 6, "slower": [5.0] * 6, "more": [30.0] * 6}
    tokens = {ours: 100, "slower": 100, "more": 500}
    found = training_speed.ratios(times, tokens)
    # 5 / 2, and 30 / 500 over 2 / 100
    assert {name: each["median"] for name, each in found.items()} == {
        "slower": 2.5,
        "more": 3,
    }


def test_unsorted_batches_are_drawn_from_all_pairs():
    training_speed = imported("training_speed")
    sizes = {"small": True, "pairs": 2_000, "precision": "bf16"}
    race = training_speed.Race(argparse.Namespace(**sizes))
    ours = race.candidates[training_speed.OURS].batches
    names = [training_speed.UNSORTED, training_speed.EXACT_UNSORTED]
    mixed = [race.candidates[name].batches for name in names]
    counts = [
        sum(next(batches).num_tokens for _ in range(race.batches))
        for batches in (ours, *mixed)
    ]
    names.insert(0, training_speed.OURS)
    assert [race.tokens[name] for name in names] == counts
    assert len(set(race.tokens.values())) == 2
    # as wasteful as batches of all pairs, not only of those that are timed
    padding = race.padding
    assert abs(padding["unsorted"] - padding["all_unsorted"]) < 0.04
    assert padding["sorted"] <= padding["all_sorted"] < 0.2


def test_what_lacks_a_fast_path_does_without_it():
    fast_paths = imported("fast_paths")
    torch.manual_seed(0)
    steps = fast_paths.training_steps(fast_paths.SMALL, 20)
    searches = fast_paths.searches(fast_paths.SMALL, 20)
    works = [(steps, fast_paths.TRAINING)]
    for name, search in searches.items():
        alone = name == fast_paths.ALONE
        paths = fast_paths.PACKED if alone else fast_paths.DECODING
        works.append((search, paths))
    for work, paths in works:
        for replacements in paths.values():
            for place, readable in replacements.items():
                spy = Mock(side_effect=readable)
                fast_paths.without({place: spy}, work)()
                assert spy.called, place


def test_intervals_of_a_mean_by_hand(measuring):
    # The deviation is 1; over the root of 3, times 4.303, that is 2.4843.
    found = measuring.mean_interval([1.0, 2.0, 3.0])
    assert found == {"mean": 2.0, "low": -0.4843, "high": 4.4843}
    alone = measuring.mean_interval([5.0])
    assert alone["mean"] == 5
    assert math.isnan(alone["low"])


def test_a_measurement_names_its_code(measuring, tmp_path, monkeypatch):
    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        done = subprocess.run(command, capture_output=True, check=True)
        return done.stdout.decode().strip()

    assert measuring.commit(tmp_path) is None
    git("init")
    (tmp_path / "code.py").write_text("1\n")
    (tmp_path / "result.json").write_text("1\n")
    git("add", ".")
    git("commit", "-m", "first")
    name = git("rev-parse", "HEAD")[:10]
    (tmp_path / "result.json").write_text("2\n")
    below = tmp_path / "benchmarks"
    below.mkdir()
    assert measuring.commit(below) == name
    (tmp_path / "code.py").write_text("2\n")
    assert measuring.commit(below) == f"{name}-changed"
    monkeypatch.setenv("PATH", str(below))  # no git
    assert measuring.commit(below) is None


def test_shares_are_read():
    small_runs = imported("small_runs")
    assert small_runs.read_share("1/2") == (1, 2)
    for wrong in ("x", "2", "2/2", "1/0", "-1/2", "1/2/3"):
        with pytest.raises(argparse.ArgumentTypeError, match="is no share"):
            small_runs.read_share(wrong)


def measured(folder, script, *arguments):
    """Run a script in miniature; return what it wrote and printed."""
    out = folder / "result.json"
    done = run(script, *arguments, "--out", str(out))
    return json.loads(out.read_text()), done.stdout


@pytest.fixture(scope="module")
def decoding(tmp_path_factory):
    """Time the searches of a model that is hardly trained."""
    folder = tmp_path_factory.mktemp("decoding")
    arguments = ["--small", "--corpus", "storybook", "--updates", "12"]
    arguments += ["--rounds", "1", "--folder", str(folder / "model")]
    return folder, *measured(folder, "decoding_speed.py", *arguments)


def is_a_ratio(found):
    return 0 < found["low"] <= found["median"] <= found["high"]


@pytest.mark.parametrize(
    "more", [[], ["--threads", "2", "--precision", "bf16"]]
)
def test_training_speed_is_measured(more, tmp_path):
    arguments = ["--small", "--rounds", "2", "--pairs", "60", *more]
    result, printed = measured(tmp_path, "training_speed.py", *arguments)
    assert printed.count("] nn.Transformer") == (10 if more else 6)
    assert {len(each) for each in result["seconds"].values()} == {2}
    assert result["surroundings"]["threads"] == (2 if more else 1)
    assert result["clock"] == ("wall" if more else "processor")
    assert result["precision"] == ("bf16" if more else "fp32")
    assert "nn.Transformer" in result["times_as_fast"]
    for name in ("times_as_fast", "times_as_fast_apart"):
        assert all(map(is_a_ratio, result[name].values()))


def test_the_gain_of_each_fast_path_is_measured(tmp_path):
    arguments = ["--small", "--rounds", "1", "--pairs", "40"]
    result, printed = measured(tmp_path, "fast_paths.py", *arguments)
    assert "as fast with keep_memory" in printed
    assert "as long with --recompute" in printed
    assert is_a_ratio(result["recomputing"])
    for found in result["gains"].values():
        assert all(map(is_a_ratio, found.values()))


def test_decoding_speed_is_measured(decoding):
    _, result, printed = decoding
    assert "greedy batch 64" in printed
    for setting in result["settings"]:
        assert setting["same_translations"]["CTranslate2"] > 0.95
        assert all(map(is_a_ratio, setting["times_as_fast"].values()))
    kinds = {(each["search"], each["batch"]) for each in result["settings"]}
    assert kinds == {(s, b) for s in ("greedy", "beam 4") for b in (1, 64)}


def test_engines_with_two_threads_have_processes_of_their_own(
    decoding, tmp_path
):
    folder, alone, _ = decoding
    arguments = ["--small", "--corpus", "storybook", "--updates", "12"]
    arguments += ["--threads", "2", "--rounds", "1"]
    arguments += ["--folder", str(folder / "model")]
    result, _ = measured(tmp_path, "decoding_speed.py", *arguments)
    assert result["surroundings"]["threads"] == 2
    assert (alone["clock"], result["clock"]) == ("processor", "wall")
    assert len(result["settings"]) == 4
    for setting, before in zip(
        result["settings"], alone["settings"], strict=True
    ):
        assert setting["sentences"] == before["sentences"]
        assert setting["tokens"] == before["tokens"]
        assert (
            setting["times_as_fast"].keys() == before["times_as_fast"].keys()
        )
        assert all(map(is_a_ratio, setting["times_as_fast"].values()))


def test_exports_are_compared(decoding, tmp_path):
    folder, _, _ = decoding
    arguments = ["--model", str(folder / "model"), "--sentences", "70"]
    result, printed = measured(tmp_path, "exports.py", *arguments)
    assert "ctranslate2: 70 of 70 the same" in printed
    same = result["same_greedy"]
    assert 10 < same.pop("ctranslate2, int8") <= 70
    assert set(same.values()) == {70}
    assert result["bytes"]["int8"] < result["bytes"]["float32"]


def test_exports_are_of_the_model_in_the_package(tmp_path):
    result, _ = measured(tmp_path, "exports.py", "--sentences", "9")
    committed = json.loads((RESULTS / "exports-storybook.json").read_text())
    assert result["model"] == committed["model"]
    assert result["same_greedy"]["ctranslate2"] == 9
    assert result["bleu_beam_4"]["float32"] > 90


def test_attention_speed_is_measured(tmp_path):
    arguments = ["--small", "--rounds", "1"]
    result, _ = measured(tmp_path, "attention_speed.py", *arguments)
    assert len(result["cases"]) == 2 * 2**4
    for case in result["cases"]:
        assert is_a_ratio(case["times_as_long_as_the_best"])


def test_memory_is_measured(tmp_path):
    arguments = ["--small", "--steps", "20", "--tokens", "1024"]
    result, _ = measured(tmp_path, "memory.py", *arguments)
    assert len(result["peak_share_of_torch"]) == 6
    assert all(0 < x < 2 for x in result["peak_share_of_torch"].values())
    for found in result["training"].values():
        assert found["peaks"] == [found["peak"]]  # three, in earnest
    assert len(result["long_training"]["most_held"]) == 20
    assert set(result["attention"]) == {"causal", "full"}


def test_scaling_is_measured_and_fitted(tmp_path):
    arguments = ["--small", "--rounds", "1"]
    result, _ = measured(tmp_path, "scaling.py", *arguments)
    for name in ("width", "layers", "length", "tokens"):
        found = result[name]
        assert len(found["sizes"]) == len(found["microseconds"]) == 3
        assert len(found["fitted"]) == 3
    assert result["width"]["fitted"] == pytest.approx(
        [row[0] for row in result["width"]["microseconds"]]
    )  # three terms go through three points
    base = [
        result[name]["microseconds"][result[name]["sizes"].index(size)]
        for name, size in result["base"].items()
        if size in result[name]["sizes"]
    ]
    assert len(base) == 3
    assert base[0] == base[1] == base[2]  # measured once


def test_recurrent_translators_are_compared(tmp_path):
    folder = tmp_path / "runs"
    arguments = ["--small", "--rounds", "1", "--folder", str(folder)]
    result, printed = measured(tmp_path, "recurrent.py", *arguments)
    found = result["bottleneck"]
    assert printed.count("update 4 of 4") == 9
    assert found["kinds"].keys() == {"none", "dot", "additive"}
    sizes = [kind["parameters"] for kind in found["kinds"].values()]
    assert found["kinds"]["additive"]["parameters"] == min(sizes)
    assert max(sizes) < 1.2 * min(sizes)
    *parts, total = found["sentences"]
    assert sum(parts) == total == 60
    assert len(found["gain"]["dot"]) == len(found["words"]) == len(parts) + 1
    for name in ("processor", "wall_1", "wall_2"):
        for kind in ("forward", "both"):
            ratios = result["speed"][name][kind]["gru_over_attention"]
            assert all(map(is_a_ratio, ratios))
    at_two, *_, far = result["reach"]["gru"]
    assert max(far) < 1e-3 * min(at_two)
    assert min(result["reach"]["attention"][-1]) > max(far)
    # What is finished is not done again.
    again, printed = measured(tmp_path, "recurrent.py", *arguments)
    assert "update" not in printed
    assert again == result | {"surroundings": again["surroundings"]}


def test_numbers_of_heads_are_compared_and_looked_into(tmp_path):
    arguments = ["--small", "--folder", str(tmp_path / "runs")]
    result, printed = measured(tmp_path, "heads.py", *arguments)
    assert printed.count("valid_loss") == len(result["runs"]) == 4
    sizes = {(run["width"], run["parameters"]) for run in result["runs"]}
    assert len(sizes) == 2  # the number of heads changes nothing
    for case in result["speed"]:
        assert all(map(is_a_ratio, case["times_as_long_as_one"].values()))
    (looked,) = result["looked_into"]
    assert len(looked["heads"]) == 3 * 8
    assert looked["pruned"][0]["loss"] == pytest.approx(looked["loss"])
    for head in looked["heads"]:
        assert head["loss_without"] != looked["loss"]
        assert 0 < head["looks"]["first"] < 1
    assert set(looked["distance"]) == set(looked["distance_untrained"])
    # What is finished is not done again.
    again, printed = measured(tmp_path, "heads.py", *arguments)
    assert printed == ""
    assert again == result | {"surroundings": again["surroundings"]}


def test_the_cost_of_attention_is_measured(tmp_path):
    small = ["--small", "--rounds", "2"]
    result, _ = measured(tmp_path, "attention_cost.py", *small)
    assert len(result["crossings"]) == 2
    for exponent in result["length"]["exponents"].values():
        assert exponent["low"] <= exponent["median"] <= exponent["high"]


def test_the_cost_of_masks_is_measured(tmp_path):
    small = ["--small", "--rounds", "1"]
    result, _ = measured(tmp_path, "mask_cost.py", *small)
    assert len(result["routes"]) == len(result["sparse"]) == 2
    for case in result["routes"]:
        assert all(map(is_a_ratio, case["times_as_long"].values()))
    for case in result["sparse"]:
        for kind in ("of_formula", "of_fused"):
            assert all(map(is_a_ratio, case[kind].values()))


def test_schemes_of_positions_are_compared(tmp_path):
    arguments = ["--small", "--folder", str(tmp_path / "runs")]
    result, printed = measured(tmp_path, "positions.py", *arguments)
    assert printed.count("train_loss") == 2 * 8  # seeds, kinds of model
    assert result["schemes"].keys() == {
        "none",
        "sinusoidal",
        "learned",
        "learned, stretched",
        "recurrent",
    }
    assert {"beside", "beside, as large"} < result["others"].keys()
    buckets = result["plan"]["test_length"] // result["plan"]["bucket"]
    for kind in [*result["schemes"].values(), *result["others"].values()]:
        assert [len(losses) for losses in kind["losses"]] == [buckets] * 2
        assert kind["inside"]["low"] <= kind["inside"]["mean"] < 10
    learned, stretched = (
        result["schemes"][name]["losses"][0]
        for name in ("learned", "learned, stretched")
    )
    inside = result["plan"]["length"] // result["plan"]["bucket"]
    assert learned[:inside] == pytest.approx(stretched[:inside], abs=1e-3)
    assert learned[inside:] != stretched[inside:]
    assert result["counted"]["pairs"] < result["counted"]["tokens"]
    for each in result["time"]:
        assert is_a_ratio(each["recurrent_over_layer"])


def test_beside_is_made_as_large_as_added():
    positions = imported("positions")
    plan = positions.SMALL
    width = positions.as_large_as_added(plan)
    vocab_size = positions.running_text(plan)[2]
    sizes = [
        positions.count_parameters(
            positions.LanguageModel(
                plan, vocab_size, scheme, plan.layers, width, beside
            )
        )
        for scheme, width, beside in (
            (positions.SCHEMES["sinusoidal"], plan.width, 0),
            (positions.Scheme(positions.Beside), width, plan.beside),
        )
    ]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.15)


def test_wrappings_are_compared(tmp_path):
    arguments = ["--small", "--folder", str(tmp_path / "runs")]
    result, printed = measured(tmp_path, "add_norm.py", *arguments)
    assert printed.count("train_loss") == len(result["runs"])
    kinds = {
        run["kind"]: run["parameters"]
        for run in result["runs"]
        if run["depth"] == 2
    }
    assert kinds["plain"] == kinds["residual"] < kinds["post"] < kinds["pre"]
    for group in result["groups"]:
        assert group["seeds"] == 2
        assert group["broken"] == 0
        by_batch = group["valid_loss_by_batch"] is not None
        assert by_batch == (group["kind"] == "pre, batch norm")
    gaps = [
        gap
        for gap in result["gaps"]
        if (gap["kind"], gap["depth"], gap["updates"]) == ("pre", 3, 5)
    ]
    assert {gap["warmup"] for gap in gaps} == {2, 3}  # longer, and deeper
    assert all(gap["seeds"] == 2 for gap in result["gaps"])
    for model in result["at_start"]:
        assert len(model["apart"]) == model["depth"]
        assert 0 < model["apart"][-1] < model["apart"][0] < 1
    # What is finished is not done again.
    again, printed = measured(tmp_path, "add_norm.py", *arguments)
    assert printed == ""
    assert again == result | {"surroundings": again["surroundings"]}


def test_widths_in_miniature(tmp_path):
    arguments = ["--small", "--folder", str(tmp_path / "runs")]
    result, printed = measured(tmp_path, "widening.py", *arguments)
    short, longer = result["runs"], result["longer_runs"]
    assert printed.count("valid_loss") == len(short) + len(longer)
    assert (len(short), len(longer)) == (4 * 2, 4 * 2)
    compared = result["compared"]
    none, four = compared["equal width"]
    assert (none["ratio"], four["ratio"]) == (0, 4)
    # What is left out: a net and a norm, in one layer on each side.
    net = 2 * 16 * 64 + 64 + 16
    assert four["parameters"] - none["parameters"] == 2 * (net + 2 * 16)
    (straight,) = compared["no ReLU"]
    assert straight["parameters"] == four["parameters"]
    alike = [row["parameters"] for row in compared["equal parameters"]]
    assert max(alike) < 1.1 * min(alike)
    assert four["valid_loss_beyond_usual"]["mean"] == 0
    again = [(r["width"], r["ratio"], r["relu"]) for r in compared["longer"]]
    assert again[:2] == [(16, 4, True), (20, 0, True)]
    assert again[2:] == [(16, 4, False), (16, 0, True)]
    assert compared["longer"][0]["valid_loss_beyond_usual"]["mean"] == 0
    assert compared["longer"][3]["valid_loss_beyond_none"]["mean"] == 0
    looked = [run["units"] for run in result["runs"] if "units" in run]
    assert len(looked) == 2  # seeds
    for layer in looked[0].values():
        assert layer["units"] == 64
        assert 0 < layer["on_per_token"] < 1
        assert len(layer["some_units"]) == 2
    again, printed = measured(tmp_path, "widening.py", *arguments)
    assert printed == ""  # nothing is trained a second time
    assert again == result | {"surroundings": again["surroundings"]}


def test_choices_of_the_paper_are_compared(tmp_path):
    arguments = ["--small", "--folder", str(tmp_path / "runs")]
    result, printed = measured(tmp_path, "paper_choices.py", *arguments)
    assert printed.count("valid_loss") == len(result["runs"])
    short = [run for run in result["runs"] if not run["longer"]]
    names = {run["choice"] for run in short}
    assert names - {"as it is"} < set(result["effects"])
    losses = {run["choice"]: run["valid_loss"] for run in short}
    assert len(set(losses.values())) > len(losses) - 3  # each matters
    sizes = {run["choice"]: run["parameters"] for run in short}
    base = sizes["as it is"]
    assert sizes["nothing tied"] > sizes["learned positions"] > base
    assert sizes["no attention biases"] < sizes["post-norm"] < base
    assert sizes["post-norm, final norms"] == base
    longer = {run["choice"] for run in result["runs"] if run["longer"]}
    assert longer == {"as it is", *result["longer"]["effects"]}
    # What is finished is not done again.
    again, printed = measured(tmp_path, "paper_choices.py", *arguments)
    assert printed == ""
    assert again["runs"] == result["runs"]


def test_training_choices_in_miniature(tmp_path):
    arguments = ["--small", "--folder", str(tmp_path / "runs")]
    result, printed = measured(tmp_path, "training_choices.py", *arguments)
    runs, rows = result["runs"], result["choices"]
    assert printed.count("valid_loss") == len(runs) == 2 * len(rows)
    named = {row["name"]: row for row in rows}
    base = named["as it is"]
    assert base["valid_loss_more"]["mean"] == 0
    assert base["updates"] == 8
    assert named["batch times 1/4"]["updates"] == 32
    assert named["batch times 4"]["updates"] == 2
    # What is compared has the same seeds, and about as many tokens.
    for name in ("batch times 1/4", "batch times 4"):
        tokens = runs[f"{name}, seed 0"]["tokens"]
        assert 0.8 < tokens / runs["as it is, seed 0"]["tokens"] < 1.25
    few = "few pairs, no decay"
    assert named["few pairs, AdamW 1"]["against"] == few
    norms = {name: named[name]["weight_norm"]["mean"] for name in named}
    assert norms["few pairs, AdamW 1"] < norms[few]
    assert norms["few pairs, L2 0.001"] < norms[few]
    high = "rate times 4, no clipping"
    assert named[high]["against"] == "rate times 4"
    assert set(result["curves"]) == set(named)
    again, printed = measured(tmp_path, "training_choices.py", *arguments)
    assert printed == ""  # nothing is trained a second time
    assert again == result | {"surroundings": again["surroundings"]}


def test_ways_to_decode_are_compared(decoding, tmp_path):
    folder, _, _ = decoding
    arguments = ["--small", "--models", str(folder / "model")]
    arguments += ["--folder", str(tmp_path / "runs")]
    result, printed = measured(tmp_path, "decoding_choices.py", *arguments)
    (found,) = result["models"]
    assert (found["corpus"], found["sentences"]) == ("storybook", 8)
    beams = found["beams"]
    for rows in (beams["with_penalty"], beams["without_penalty"]):
        assert [row["beam"] for row in rows] == [1, 3]
        one, three = rows
        assert one["below_greedy"] == one["not_as_greedy"] == 0
        assert three["below_widest"] == 0
        assert three["below_best_known"] == three["below_greedy"]
    one, three = beams["without_penalty"]
    gain = three["log_probability"] - one["log_probability"]
    assert gain >= 0 or three["below_greedy"] > 0
    for name in ("beam 1", "beam 3"):
        counts = [list(map(int, r.split())) for r in beams["counts"][name]]
        assert {len(row) for row in counts} == {10}
        assert len(counts) == 8
    for knob in ("temperature", "top_k", "top_p"):
        (row,) = found["sampling"][knob]
        assert 1 <= row["different"] <= 2
        assert row["bleu"]["low"] <= row["bleu"]["mean"]
    for step in found["cache"]["steps"]:
        assert step["gap"] < 1e-4
        assert step["flops_uncached"] > step["flops_cached"]
        assert is_a_ratio(step["uncached_over_cached"])
    lengths = [each["length"] for each in found["cache"]["whole"]]
    assert lengths == result["plan"]["lengths"]
    # What is finished is not done again; only numbers are kept.
    again, printed = measured(tmp_path, "decoding_choices.py", *arguments)
    assert printed == ""
    assert again == result | {"surroundings": again["surroundings"]}


def test_a_triple_that_comes_twice_is_a_repetition():
    repeats = imported("decoding_choices").repeats
    assert repeats("We see the dog, and we see the cat.")
    assert not repeats("We see the dog, and you see the cat.")
    assert not repeats("")


def test_looking_inside_in_miniature(tmp_path):
    arguments = ["--small", "--folder", str(tmp_path / "runs")]
    result, printed = measured(tmp_path, "inside.py", *arguments)
    assert printed.startswith("runs-untrained-")  # and of what weights
    (model,) = result["models"]
    assert len(model["heads"]) == 2 * (2 + 2 * 2)  # heads, attentions
    for head in model["heads"]:
        assert 0 <= head["silent"]["bleu"] <= 100
        assert head["even"]["loss_added"]["low"] < 1
        cross = "cross" in head["attention"]
        assert (head["alignment_error"] is not None) == cross
        encoder = head["attention"].startswith("encoder")
        assert ("predicting" in head["antecedent"]) != encoder
    assert [step["silent"] for step in model["pruned"]] == [0, 6, 12]
    assert model["pruned"][0]["loss"] == model["usual"]["loss"]
    assert set(model["variety"]["low_minus_high, trained"]) == {
        "encoder.self",
        "decoder.self",
        "decoder.cross",
    }
    # The parts of the last sum are all of it.
    added = model["lens"]["added_to_margin"]
    whole = sum(v["mean"] for k, v in added.items() if "head" not in k)
    assert abs(whole - model["lens"]["margin"]["mean"]) < 1e-3
    assert model["transplant"]["twins"] >= model["transplant"]["solved"]
    for text in model["transplant"]["texts"]:
        assert text["source"] != text["twin"]
        assert text["antecedent"] != text["other"]
    again, printed = measured(tmp_path, "inside.py", *arguments)
    assert printed == ""  # a finished model is not looked into again
    assert again["models"] == result["models"]


def test_looking_inside_needs_models(tmp_path):
    arguments = ["--folder", str(tmp_path), "--models", str(tmp_path / "no")]
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run("inside.py", *arguments)
    assert caught.value.returncode == 2
    assert "there is no model in" in caught.value.stderr
    assert "benchmarks/quality.py" in caught.value.stderr


def test_ways_to_decode_need_a_model(tmp_path):
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run("decoding_choices.py", "--models", str(tmp_path))
    assert caught.value.returncode == 2
    assert "holds no model: train one" in caught.value.stderr
