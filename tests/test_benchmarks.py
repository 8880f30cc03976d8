"""The benchmarks in miniature: they run, and they measure what they say."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def measuring():
    """Import the benchmarks' module as the scripts do."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import measuring
    finally:
        sys.path.pop(0)
    return measuring


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
    assert "".join(calls) == "abc" + "bca" + "cab" + "abc"
    assert {name: len(each) for name, each in times.items()} == {
        name: 3 for name in "abc"
    }


def test_only_work_counts_as_time(measuring):
    times = measuring.alternate({"asleep": lambda: time.sleep(0.2)}, 1)
    assert times["asleep"][0] < 0.1


def test_ratios_by_hand(measuring):
    found = measuring.ratio([2.0, 3.0, 8.0], [1.0, 1.0, 2.0])
    assert found == {"median": 3.0, "low": 2.0, "high": 4.0}


def test_intervals_of_a_mean_by_hand(measuring):
    # The deviation is 1, its root of three 0.577, and 4.303 times that 2.484.
    found = measuring.mean_interval([1.0, 2.0, 3.0])
    assert found == {"mean": 2.0, "low": -0.4843, "high": 4.4843}
    alone = measuring.mean_interval([5.0])
    assert alone["mean"] == 5 and alone["low"] != alone["low"]


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


def test_training_speed_is_measured(tmp_path):
    arguments = ["--small", "--rounds", "2", "--pairs", "60"]
    result, printed = measured(tmp_path, "training_speed.py", *arguments)
    assert printed.count("] nn.Transformer") == 4
    assert {len(each) for each in result["seconds"].values()} == {2}
    assert "nn.Transformer" in result["times_as_fast"]
    for name in ("times_as_fast", "times_as_fast_apart"):
        assert all(map(is_a_ratio, result[name].values()))


def test_the_gain_of_each_fast_path_is_measured(tmp_path):
    arguments = ["--small", "--rounds", "2", "--pairs", "40"]
    result, printed = measured(tmp_path, "fast_paths.py", *arguments)
    assert "as fast with keep_memory" in printed
    for found in result["gains"].values():
        assert all(map(is_a_ratio, found.values()))
    # The one that is large enough to show in so short a run:
    assert result["gains"]["greedy, batch 1"]["packed_decoder"]["low"] > 1


def test_decoding_speed_is_measured(decoding):
    _, result, printed = decoding
    assert "greedy batch 64" in printed
    for setting in result["settings"]:
        assert setting["same_translations"]["CTranslate2"] > 0.95
        assert all(map(is_a_ratio, setting["times_as_fast"].values()))
    kinds = {(each["search"], each["batch"]) for each in result["settings"]}
    assert kinds == {(s, b) for s in ("greedy", "beam 4") for b in (1, 64)}


def test_exports_are_compared(decoding, tmp_path):
    folder, _, _ = decoding
    arguments = [str(folder / "model"), "--sentences", "70"]
    result, printed = measured(tmp_path, "exports.py", *arguments)
    assert "ctranslate2: 70 of 70 the same" in printed
    assert set(result["same_greedy"].values()) == {70}
    assert result["bytes"]["int8"] < result["bytes"]["float32"]


def test_attention_speed_is_measured(tmp_path):
    arguments = ["--small", "--rounds", "1"]
    result, _ = measured(tmp_path, "attention_speed.py", *arguments)
    assert len(result["cases"]) == 2 * 2**4
    for case in result["cases"]:
        assert is_a_ratio(case["times_as_long_as_the_best"])


def test_memory_is_measured(tmp_path):
    arguments = ["--small", "--steps", "20", "--tokens", "1024"]
    result, _ = measured(tmp_path, "memory.py", *arguments)
    assert len(result["peak_share_of_torch"]) == 4
    assert all(0 < x < 2 for x in result["peak_share_of_torch"].values())
    assert len(result["long_training"]["held"]) == 20
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
