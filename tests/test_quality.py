"""The benchmark of the published translators, in miniature."""

import dataclasses
import importlib
import itertools
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from minitransformer.corpora import Corpus, Pair
from minitransformer.files import read_json, write_json
from minitransformer.storybook import splits

ROOT = Path(__file__).parents[1]
TINY = {
    "d_model": 16,
    "d_ff": 24,
    "num_heads": 2,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "vocab_size": 300,
    "updates": 4,
    "batch_tokens": 200,
    "validate_every": 2,
}


@pytest.fixture(scope="module")
def quality():
    """Import the script and what it measures with."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return importlib.import_module("quality")
    finally:
        sys.path.pop(0)


@pytest.fixture
def small_corpus(quality, monkeypatch):
    """Let the script find a few stories in the place of every corpus."""
    stories = splits(60, 7, 7, 1)
    corpus = Corpus(
        name="storybook",
        source_language="en",
        target_language="fr",
        splits={
            name: [Pair(pair.source, pair.target) for pair in pairs]
            for name, pairs in stories.items()
        },
        licence="MIT",
        credits="ours",
    )
    monkeypatch.setattr(quality, "load_corpus", lambda name: corpus)
    return corpus


def run_of(quality, **changes):
    return quality.Run("storybook", "tiny, once", 7, TINY | changes)


def test_a_run_is_a_recipe_with_changes(quality):
    run = run_of(quality, dropout=0.25)
    assert run.key == "storybook/tiny-once-7"
    assert run.recipe.sizes["dropout"] == 0.25
    assert run.recipe.sizes["max_len"] == 128  # the storybook's own
    assert run.recipe.vocab_size == 300
    assert run.recipe.target_vocab_size is None
    assert (run.recipe.options.updates, run.recipe.options.seed) == (4, 7)
    runs = quality.all_runs()
    assert list(runs) == [each.key for each in runs.values()]
    finals = [each for each in runs.values() if each.name == "final"]
    assert sorted((each.corpus, each.seed) for each in finals) == sorted(
        (corpus, seed) for corpus in quality.FINAL for seed in range(3)
    )
    step = runs["multi30k-en-de/step-dropout-0.25-0"].recipe
    base = runs["multi30k-en-de/step-the-recipe-0"].recipe
    plain = runs["multi30k-en-de/recipe-0"].recipe
    assert step.sizes == base.sizes | {"dropout": 0.25} != base.sizes
    assert step.options == base.options
    assert base.options.updates == quality.STEP_UPDATES
    assert base.options.updates < plain.options.updates
    assert base.sizes == plain.sizes
    trial = runs["multi30k-en-de/trial-dropout-0.3-16000-updates-0"].recipe
    final = runs["multi30k-en-de/final-0"].recipe
    assert trial.sizes == final.sizes | {"dropout": 0.3} != final.sizes
    assert trial.options.updates > final.options.updates


def test_it_trains_scores_and_goes_on(quality, small_corpus, tmp_path):
    run = run_of(quality)
    found = quality.measure(run, tmp_path / run.key)
    assert found["recipe"] == dataclasses.asdict(run.recipe)
    assert found["history"][-1]["update"] == 4
    assert found["core_minutes"] > 0
    assert list(found["valid"]) == ["beam 1", "beam 4", "beam 8"]
    assert 0 <= found["valid"]["beam 4"]["chrF"] < 50
    assert "splits" not in found
    before = (tmp_path / run.key / "model.safetensors").read_bytes()
    again = quality.measure(run, tmp_path / run.key)  # not trained again
    assert (tmp_path / run.key / "model.safetensors").read_bytes() == before
    assert again["valid"] == found["valid"]


@pytest.mark.parametrize("kind", [None, "additive"])
def test_an_interrupted_run_ends_with_the_same_weights(
    quality, small_corpus, tmp_path, monkeypatch, kind
):
    run = dataclasses.replace(run_of(quality, dropout=0.2), attention=kind)
    quality.measure(run, tmp_path / "whole")
    update = quality.Trainer.update
    starts = []

    def interrupted(trainer, batches):
        starts.append(trainer.updates)
        if trainer.updates == 3:  # one after the checkpoint, lost
            raise KeyboardInterrupt
        return update(trainer, batches)

    with monkeypatch.context() as patch:
        patch.setattr(quality.Trainer, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            quality.measure(run, tmp_path / "broken")
    assert starts == [0, 1, 2, 3]
    found = quality.measure(run, tmp_path / "broken")
    assert [facts["update"] for facts in found["history"]] == [2, 4]
    ours, theirs = (
        load_file(tmp_path / name / "model.safetensors")
        for name in ("whole", "broken")
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("seed", [0, 1])
def test_final_runs_are_tested(
    quality, small_corpus, tmp_path, monkeypatch, seed
):
    calls = []

    def evaluate(arguments):
        calls.append(arguments)
        options = dict(itertools.pairwise(arguments))
        pairs = small_corpus.splits[options["--split"]]
        lines = "\n".join(pair.target for pair in pairs) + "\n"
        Path(options["--output"]).write_text(lines, encoding="utf-8")
        write_json(Path(options["--json"]), {"model": "x", "scores": []})
        return 0

    monkeypatch.setattr(quality.cli, "run", evaluate)
    run = quality.Run("multi30k-en-de", "final", seed, TINY, tested=True)
    found = quality.measure(run, tmp_path / "captions")["splits"]
    assert list(found) == ["test"]
    assert found["test"]["as published"]["value"] == pytest.approx(100)
    (arguments,) = calls
    assert ("--baselines" in arguments) == (seed == 0)
    small_corpus.splits["compositional"] = small_corpus.splits["valid"]
    story = dataclasses.replace(run, corpus="storybook")
    found = quality.measure(story, tmp_path / "story")["splits"]
    assert list(found) == ["test", "compositional"]
    assert "as published" not in found["test"]


@pytest.mark.parametrize("kind", ["none", "additive"])
def test_recurrent_baselines_are_as_large(
    quality, small_corpus, tmp_path, kind
):
    changes = TINY | {"vocab_size": 200, "target_vocab_size": 210}
    run = quality.Run("multi30k-en-de", "old", 0, changes, True, kind)
    found = quality.measure(run, tmp_path)
    sizes = {"source_vocab_size": 200, "target_vocab_size": 210}
    config = quality.recurrent_config(run, sizes)
    assert config.attention == kind
    assert config.dropout == run.recipe.sizes["dropout"]
    smaller = dataclasses.replace(config, d_model=config.d_model - 2)
    transformer = quality.Transformer(
        quality.TransformerConfig(**sizes, **run.recipe.sizes)
    )
    wanted = quality.count_parameters(transformer)
    assert found["parameters"] >= wanted
    assert wanted > quality.count_parameters(
        quality.RecurrentTranslator(smaller)
    )
    assert found["history"][-1]["update"] == 4
    names = [each["name"] for each in found["splits"]["test"]["scores"]]
    assert names == ["BLEU", "chrF2"]
    assert "as published" in found["splits"]["test"]
    before = (tmp_path / "model.safetensors").read_bytes()
    again = quality.measure(run, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert again["valid"] == found["valid"]


def test_a_run_may_learn_the_published_form(
    quality, small_corpus, tmp_path, monkeypatch
):
    learned = []

    def trained(run, corpus, folder):
        learned.append(corpus.splits)
        return whole(run, corpus, folder)

    whole = quality.trained
    monkeypatch.setattr(quality, "trained", trained)
    run = quality.Run(
        "multi30k-en-de", "form", 0, TINY, tested=True, published=True
    )
    found = quality.measure(run, tmp_path)
    assert found["published"]
    assert found["splits"]["test"]["as published"]["value"] >= 0
    (splits,) = learned
    assert splits.keys() == small_corpus.splits.keys()
    for name, pairs in small_corpus.splits.items():
        for own, pair in zip(splits[name], pairs, strict=True):
            assert own.source.endswith(" .") or "." not in pair.source
            assert own.source.replace(" ", "") == (
                pair.source.lower().replace(" ", "")
            )
            assert own.target == own.target.lower() != pair.target
    with pytest.raises(SystemExit):  # the folder is not the final recipe's
        quality.measure(dataclasses.replace(run, published=False), tmp_path)


def test_the_published_form_is_scored_against_the_text(
    quality, small_corpus, tmp_path, monkeypatch
):
    # What a perfect translator in the published form would write.
    rewrite = quality.published_form("fr")
    monkeypatch.setattr(
        quality.Translator,
        "translate_lines",
        lambda self, lines, **_: [
            rewrite(pair.target)
            for split in ("valid", "test")
            for pair in small_corpus.splits[split]
            if quality.published_form("en")(pair.source) in lines
        ],
    )
    run = quality.Run(
        "multi30k-en-de", "form", 0, TINY, tested=True, published=True
    )
    found = quality.measure(run, tmp_path)["splits"]["test"]
    assert found["as published"]["value"] == pytest.approx(100)


def test_the_published_form_by_hand(quality):
    # Case, quotation marks and the space before a full stop do not count.
    rewrite = quality.published_form("de")
    lines = "Ein Hund , „klein“ .", "Der Mann geht heim"
    references = 'ein hund, "klein".', "der mann geht heim"
    same = quality.as_published(
        list(map(rewrite, lines)), list(map(rewrite, references))
    )
    assert same.value == pytest.approx(100)
    assert "tok:none" in same.signature
    other = quality.as_published(
        ["ein hund läuft dort schnell"], ["ein hund läuft dort weg"]
    )
    # 4 of 5 words, 3 of 4 pairs, 2 of 3 triples, 1 of 2 quadruples match.
    expected = 100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** (1 / 4)
    assert other.value == pytest.approx(expected)


def test_results_are_added_to(quality, tmp_path):
    out = tmp_path / "quality.json"
    quality.keep({"b": {"x": 1}}, out)
    quality.keep({"a": {"x": 2}}, out)
    quality.keep({"b": {"x": 3}}, out)
    assert read_json(out) == {"a": {"x": 2}, "b": {"x": 3}}


def test_only_what_is_missing_is_made(quality, monkeypatch, tmp_path, capsys):
    runs = {
        run.key: run
        for run in (
            quality.Run("storybook", "one", 0, TINY),
            quality.Run("storybook", "two", 0, TINY | {"dropout": 0.25}),
        )
    }
    made = []

    def measure(run, folder):
        made.append(run.key)
        return {"recipe": dataclasses.asdict(run.recipe), "valid": {}}

    monkeypatch.setattr(quality, "all_runs", lambda: runs)
    monkeypatch.setattr(quality, "measure", measure)
    out = tmp_path / "quality.json"

    def main(*arguments):
        monkeypatch.setattr(
            sys, "argv", ["quality.py", "--out", str(out), *arguments]
        )
        quality.main()

    main("storybook/two-0")
    assert made == ["storybook/two-0"]
    main("--list")
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "storybook/one-0 missing",
        "storybook/two-0 done",
    ]
    main()
    assert made == ["storybook/two-0", "storybook/one-0"]
    # Their weights are nowhere.
    main("--weights", "storybook/two-0")
    assert made.pop() == "storybook/two-0"
    folder = tmp_path / "runs" / "storybook" / "two-0"
    folder.mkdir(parents=True)
    (folder / "done").touch()
    main("--weights", "storybook/two-0", "--folder", str(tmp_path / "runs"))
    assert len(made) == 2
    # With another recipe it is another run.
    runs["storybook/two-0"] = dataclasses.replace(
        runs["storybook/two-0"], changes=TINY
    )
    main()
    assert made[2:] == ["storybook/two-0"]
    with pytest.raises(SystemExit) as stop:
        main("storybook/three-0")
    assert stop.value.code == 2
    assert "no run is called 'storybook/three-0'" in capsys.readouterr().err


def test_a_folder_is_never_taken_for_another_recipes(
    quality, small_corpus, tmp_path
):
    quality.measure(run_of(quality), tmp_path / "run")
    with pytest.raises(SystemExit, match="2"):
        quality.measure(run_of(quality, d_ff=40), tmp_path / "run")


def test_results_older_than_an_option_still_stand(quality):
    recipe = run_of(quality).recipe
    kept = dataclasses.asdict(recipe)
    assert quality.is_of(kept, recipe)
    del kept["options"]["clip"]  # its default then as now
    assert quality.is_of(kept, recipe)
    kept["options"]["clip"] = 0.3
    assert not quality.is_of(kept, recipe)
    kept["options"] = {"an option": "that is no more"}
    assert not quality.is_of(kept, recipe)


def test_a_run_that_another_process_is_at_is_left_alone(
    quality, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(quality, "measure", lambda run, folder: 1 / 0)
    run, out = run_of(quality), tmp_path / "quality.json"
    folder = tmp_path / run.key
    folder.parent.mkdir()
    with quality.FileLock(f"{folder}.lock"):
        quality.make(run, folder, out)
    assert "another process" in capsys.readouterr().out
    assert not out.exists()
