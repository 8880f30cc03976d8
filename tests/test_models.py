"""The models in the package: whole, small, and as good as their cards say."""

import hashlib
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from torch.testing import assert_close

from minitransformer import Translator
from minitransformer.checkpoints import load_tensors
from minitransformer.counting import count_parameters
from minitransformer.evaluation import bleu, pronoun_accuracy
from minitransformer.files import read_json
from minitransformer.storybook import splits

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "minitransformer" / "models"
SHIPPED = read_json(ROOT / "minitransformer" / "results" / "shipped.json")
NAMES = ["storybook-en-fr", "tatoeba-zh-en"]
EACH = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def ship_model():
    """Import the tool that put them there."""
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        return importlib.import_module("ship_model")
    finally:
        sys.path.pop(0)


def test_the_package_has_the_two_and_no_more():
    assert sorted(path.name for path in MODELS.iterdir()) == NAMES
    assert sorted(SHIPPED) == NAMES


def test_together_they_take_8_mb_at_most():
    sizes = [file.stat().st_size for file in MODELS.glob("*/*")]
    assert sum(sizes) <= 8e6


@EACH
def test_the_scores_are_of_these_weights(name):
    weights = (MODELS / name / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == SHIPPED[name]["sha256"]
    model = Translator.load(name).model
    assert count_parameters(model) == SHIPPED[name]["parameters"]
    load_tensors(MODELS / name / "model.safetensors")  # checks their hash


OFFLINE = """
import socket, sys
from minitransformer import cli

def unplugged(*_, **__):
    raise OSError("no network")

for name in ("socket", "create_connection", "getaddrinfo"):
    setattr(socket, name, unplugged)
sys.exit(cli.run(["translate", *sys.argv[1:]]))
"""


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "storybook-en-fr",
            "The cat is sleeping in the garden.",
            ["Le chat dort dans le jardin."],
        ),
        ("tatoeba-zh-en", "我喜欢你。", ["I like you.", "I love you."]),
    ],
)
def test_a_translation_needs_no_training_and_no_network(
    name, text, words, tmp_path
):
    empty = {"HOME": str(tmp_path), "MINITRANSFORMER_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, "--model", name, text],
        capture_output=True,
        encoding="utf-8",
        env=os.environ | empty,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in words
    assert not list(tmp_path.iterdir())


@EACH
def test_the_card_says_what_was_measured(name, ship_model):
    text = (MODELS / name / "README.md").read_text(encoding="utf-8")
    assert text == ship_model.card(name, SHIPPED[name])


def test_the_storybook_s_translates_the_storybook():
    pairs = splits()["compositional"][:40]
    translator = Translator.load("storybook-en-fr")
    found = translator.translate([pair.source for pair in pairs])
    assert bleu(found, [[pair.target] for pair in pairs]).value > 95
    assert pronoun_accuracy(found, pairs).value > 95
    scores = SHIPPED["storybook-en-fr"]["scores"]["storybook, compositional"]
    (kept,) = (
        each["value"]
        for each in scores["scores"]
        if (each["name"], each["of"]) == ("BLEU", "model")
    )
    assert kept > 95


def test_the_other_translates_chinese():
    translator = Translator.load("tatoeba-zh-en")
    assert "tea" in translator.translate("我喜欢喝茶。")
    assert (
        translator.translate("机器学习") == SHIPPED["tatoeba-zh-en"]["probe"]
    )


def test_the_readme_shows_what_they_say():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r'^\$ minitransformer (.*) "(.*)"\n(.*)$', readme, re.M)
    assert len(shown) == 2
    for command, text, printed in shown:
        name = NAMES[1] if NAMES[1] in command else NAMES[0]
        assert Translator.load(name).translate(text) == printed


def test_saved_whole_they_compute_the_same(tmp_path):
    """Rounding is done once: a shipped model is an ordinary one."""
    shipped = Translator.load("storybook-en-fr")
    shipped.save(tmp_path / "whole")
    again = Translator.load(tmp_path / "whole")
    for ours, theirs in zip(
        shipped.model.parameters(), again.model.parameters(), strict=True
    ):
        assert_close(ours, theirs, rtol=0, atol=0)
