"""What the benchmarks measured and committed: whole, and worth its claims."""

import json
from pathlib import Path

import pytest

import minitransformer
from minitransformer import TransformerConfig
from minitransformer.recipes import RECIPES
from minitransformer.training import TrainingOptions
from tools import speed_page

RESULTS = Path(minitransformer.__file__).parent / "results"
TRANSLATORS = sorted(RESULTS.glob("translator-*.json"))


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def score(result, split, who, name):
    (found,) = [
        row
        for row in result["splits"][split]["scores"]
        if row["of"] == who and row["name"].startswith(name)
    ]
    return found


@pytest.mark.parametrize("path", TRANSLATORS, ids=lambda path: path.stem)
def test_a_translator_is_documented_and_beats_the_dictionary(path):
    result = read(path)
    assert path.stem == f"translator-{result['corpus']}"
    TransformerConfig(**result["config"])
    options = TrainingOptions(**result["options"])
    assert options == RECIPES[result["corpus"]].options
    assert result["history"][-1]["update"] == options.updates
    assert result["core_minutes"] > 0
    assert result["machine"]
    for split in result["splits"]:
        for name in ("BLEU", "chrF"):
            ours = score(result, split, "model", name)
            theirs = score(result, split, "dictionary", name)
            assert "version:" in ours["signature"]
            assert ours["interval"][0] > theirs["interval"][1]
            assert ours["interval"][0] < ours["value"] < ours["interval"][1]


def test_the_storybook_is_learned():
    result = read(RESULTS / "translator-storybook.json")
    floors = {"test": (95, 99), "compositional": (85, 95)}
    for split, (least_bleu, least_pronouns) in floors.items():
        assert score(result, split, "model", "BLEU")["value"] >= least_bleu
        pronouns = score(result, split, "model", "pronouns")
        assert pronouns["value"] >= least_pronouns
    assert result["core_minutes"] <= 20


def test_a_training_step_is_faster_than_torchs_own():
    result = read(RESULTS / "training_speed.json")
    assert result["surroundings"]["threads"] == 1
    assert len(result["seconds"]["minitransformer"]) >= 5
    found = result["times_as_fast"]
    assert found["nn.Transformer"]["low"] > 1
    assert found["nn.Transformer, unsorted"]["low"] > 2


def test_other_engines_decode_the_same_and_are_timed_fairly():
    result = read(RESULTS / "decoding_speed.json")
    assert result["surroundings"]["threads"] == 1
    assert result["not_measured"] == []
    for setting in result["settings"]:
        if setting["search"] == "greedy":
            same = setting["same_translations"]
            assert same.pop("CTranslate2, int8") > 0.1
            assert set(same.values()) == {1.0}
        for engine in ("JoeyNMT", "Hugging Face Marian"):
            assert setting["times_as_fast"][engine]["low"] > 1


@pytest.mark.parametrize("corpus", ["storybook", "multi30k-en-de"])
def test_an_exported_translator_translates_the_same(corpus):
    result = read(RESULTS / f"exports-{corpus}.json")
    assert result["sentences"] == 1_000
    assert set(result["same_greedy"].values()) == {1_000}
    bleu = result["bleu_beam_4"]
    assert abs(bleu["int8"] - bleu["float32"]) < 0.3


def test_attention_keeps_up_with_the_best_of_torch():
    cases = read(RESULTS / "attention_speed.json")["cases"]
    assert {case["tokens"] for case in cases} == {13, 64, 1_024, 8_192}
    for case in cases:
        assert case["times_as_long_as_the_best"]["low"] <= 1.1, case


def test_training_and_attention_stay_small():
    result = read(RESULTS / "memory.json")
    shares = result["peak_share_of_torch"]
    assert shares["minitransformer"] < 0.8
    assert shares["minitransformer --recompute"] <= 0.5
    held = result["long_training"]["held"]
    settled = held[len(held) // 10 :]
    assert max(settled) <= 1.1 * min(settled)
    assert result["attention_tokens"] == 8_192
    for found in result["attention"].values():
        assert found["over_output"] <= 40


def test_the_cost_grows_as_theory_says():
    result = read(RESULTS / "scaling.json")
    for name in ("width", "layers", "length", "tokens"):
        assert len(result[name]["sizes"]) >= 6
        assert result[name]["worst_miss"] < 0.25


def test_the_large_fast_paths_gain():
    gains = read(RESULTS / "fast_paths.json")["gains"]
    assert gains["greedy, batch 1"]["packed_decoder"]["low"] > 1.1
    for name in ("output_loss", "dropout by bytes"):
        assert gains["training"][name]["low"] > 1


# The page ---


def test_the_page_says_what_the_files_say():
    page, figures = speed_page.render()
    text = (speed_page.BOOK / "speed.md").read_text(encoding="utf-8")
    assert page == text, "run tools/speed_page.py"
    there = {path.stem for path in speed_page.FIGURES.glob("*.svg")}
    assert figures.keys() == there
    for svg in figures.values():
        assert svg.count("<path") > 5


def test_the_page_shows_every_peer_and_every_search():
    page, _ = speed_page.render()
    for name, found in read(RESULTS / "training_speed.json")[
        "times_as_fast"
    ].items():
        assert f"| {name} |" in page
        assert f"| {speed_page.show(found)} |" in page
    for setting in read(RESULTS / "decoding_speed.json")["settings"]:
        for found in setting["times_as_fast"].values():
            assert speed_page.show(found) in page
