"""Checkpoints: what comes back is what went in, or an error says why not."""

import errno
import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from minitransformer import Transformer, TransformerConfig
from minitransformer.checkpoints import (
    FORMAT,
    digest,
    load_config,
    load_tensors,
    load_weights,
    save_config,
    save_tensors,
    save_weights,
)
from minitransformer.errors import UserError
from minitransformer.text import Tokenizer

# Put one finished file after the other in the place of the last.
REPLACE = """
import os, sys
os.chdir(sys.argv[1])
while True:
    for update in (0, 1):
        os.link(f"{update}.safetensors", "next")
        os.replace("next", "last.safetensors")
"""
LINES = ["a red fox ran", "the owl slept", "un renard rouge courait"]


def build(shared=True, tied=True):
    source = Tokenizer.train(LINES, 60)
    target = source if shared else Tokenizer.train(LINES[2:], 40)
    config = TransformerConfig(
        source_vocab_size=source.vocab_size,
        target_vocab_size=None if shared else target.vocab_size,
        d_model=12,
        num_heads=3,
        d_ff=20,
        num_encoder_layers=1,
        num_decoder_layers=2,
        tie_embeddings=tied,
    )
    return Transformer(config).eval(), source, target


@pytest.fixture
def saved(tmp_path):
    model, source, target = build()
    save_config(tmp_path, model.config, source, target, {"corpus": "mine"})
    save_weights(tmp_path, model.config, model.state_dict(), {"update": 7})
    return tmp_path, model


def logits(model):
    source = torch.tensor([[4, 5, 6, 2], [7, 2, 0, 0]])
    target = torch.tensor([[1, 8, 9], [1, 5, 4]])
    with torch.no_grad():
        return model(source, target)


# Properties ---


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_a_model_comes_back_as_it_was(tmp_path, shared, tied):
    model, source, target = build(shared, tied)
    save_config(tmp_path, model.config, source, target, {"corpus": "mine"})
    save_weights(tmp_path, model.config, model.state_dict(), {"update": 7})
    config, source2, target2, about = load_config(tmp_path)
    assert config == model.config
    assert (source2 is target2) == shared
    assert source2.to_json() == source.to_json()
    assert target2.to_json() == target.to_json()
    assert about == {"corpus": "mine"}
    again = Transformer(config).eval()
    assert load_weights(tmp_path, again)["update"] == 7
    assert torch.equal(logits(again), logits(model))
    assert (again.output.weight is again.target_embedding.weight) == tied


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_small_weights_take_a_quarter_and_compute_alike(
    tmp_path, shared, tied
):
    model, source, target = build(shared, tied)
    save_config(tmp_path, model.config, source, target, {})
    weights = model.state_dict()
    save_weights(tmp_path, model.config, weights, {}, small=True)
    again = Transformer(model.config).eval()
    load_weights(tmp_path, again)
    for name, weight in again.state_dict().items():
        off = (weight - weights[name]).abs().max()
        assert off <= weights[name].abs().max() / 250
    assert not torch.equal(logits(again), logits(model))  # it was rounded
    assert_close(logits(again), logits(model), rtol=0, atol=0.1)
    matrices = [p for p in model.parameters() if p.ndim == 2]
    others = sum(p.numel() for p in model.parameters() if p.ndim != 2)
    rows = sum(len(p) for p in matrices)
    room = sum(p.numel() for p in matrices) + 4 * (rows + others)
    size = (tmp_path / "model.safetensors").stat().st_size
    assert room < size < room + 12_000  # the header


def test_weights_written_before_a_choice_existed_are_read(tmp_path):
    model, source, target = build(shared=True, tied=True)
    save_config(tmp_path, model.config, source, target, {})
    save_weights(tmp_path, model.config, model.state_dict(), {})
    path = tmp_path / "model.safetensors"
    tensors, facts = load_tensors(path)
    del facts["config"]["final_norm"]
    save_tensors(path, tensors, facts)
    again = Transformer(model.config).eval()
    load_weights(tmp_path, again)
    assert torch.equal(logits(again), logits(model))


@pytest.mark.skipif(sys.platform == "win32", reason="open files stay there")
def test_a_file_is_read_while_a_training_replaces_it(tmp_path):
    for update in (0, 1, "last"):
        path = tmp_path / f"{update}.safetensors"
        save_tensors(path, {"a": torch.randn(3, 5)}, {"update": update})
    training = subprocess.Popen([sys.executable, "-c", REPLACE, tmp_path])
    try:
        while load_tensors(path)[1]["update"] == "last":
            assert training.poll() is None
        found = [load_tensors(path)[1]["update"] for _ in range(2_000)]
    finally:
        training.kill()
        training.wait()
    assert set(found) == {0, 1}


def test_tied_weights_are_stored_once(saved):
    folder, model = saved
    size = (folder / "model.safetensors").stat().st_size
    numbers = sum(p.numel() for p in model.parameters())
    assert 4 * numbers < size < 4 * numbers + 8_000


def test_tensors_of_every_kind_come_back(tmp_path):
    tensors = {
        "b": torch.randn(3, 5).bfloat16(),
        "a": torch.arange(7, dtype=torch.uint8),
        "scalar": torch.tensor(4.5, dtype=torch.float64),
        "part": torch.randn(5, 4)[:, 1:3],
        "none": torch.empty(0, 3),
    }
    path = tmp_path / "some.safetensors"
    facts = {"text": "été", "list": [1, 2.5]}
    save_tensors(path, tensors, facts)
    found, found_facts = load_tensors(path)
    assert found_facts == facts
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert_close(found[name], tensor, rtol=0, atol=0)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_tensors_are_as_readable_as_any_file(tmp_path):
    before = os.umask(0o022)
    try:
        save_tensors(tmp_path / "a", {"x": torch.ones(2)}, {})
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_the_digest_sees_name_shape_type_and_numbers():
    x = torch.arange(6.0)
    others = [{"y": x}, {"x": x.view(2, 3)}, {"x": x.int()}, {"x": x + 1e-6}]
    seen = {digest(tensors) for tensors in [{"x": x}, *others]}
    assert len(seen) == 5


# Edges ---


def altered(path):
    """Turn over one bit of the last number."""
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "cut short": (
        "model.safetensors",
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        "damaged",
    ),
    "header cut": (
        "model.safetensors",
        lambda path: path.write_bytes(path.read_bytes()[:20]),
        "damaged",
    ),
    "empty": ("model.safetensors", lambda path: path.write_bytes(b""), "dama"),
    "altered": ("model.safetensors", altered, "altered"),
    "gone": ("model.safetensors", lambda path: path.unlink(), "is missing"),
    "no tokenizer": (
        "shared.tokenizer.json",
        lambda path: path.unlink(),
        "is missing",
    ),
    "other tokenizer": (
        "shared.tokenizer.json",
        lambda path: path.write_text(path.read_text() + " "),
        "altered",
    ),
    "config cut": (
        "config.json",
        lambda path: path.write_text(path.read_text()[:40]),
        "damaged or no JSON",
    ),
    "config of a list": (
        "config.json",
        lambda path: path.write_text("[]"),
        "format None",
    ),
    "no config": ("config.json", lambda path: path.unlink(), "no model"),
}


def load_all(folder, model):
    load_config(folder)
    load_weights(folder, model)


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(saved, kind):
    folder, model = saved
    file, damage, message = DAMAGE[kind]
    damage(folder / file)
    with pytest.raises(UserError, match=message) as caught:
        load_all(folder, model)
    assert file in str(caught.value) or str(folder) in str(caught.value)


def edit(folder, change):
    path = folder / "config.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_another_format_is_named(saved):
    folder, model = saved
    edit(folder, lambda content: content.update(format=FORMAT + 1))
    with pytest.raises(UserError, match=f"format {FORMAT + 1}"):
        load_config(folder)
    path = folder / "model.safetensors"
    save_file({"x": torch.ones(2)}, path, metadata={"format": "99"})
    with pytest.raises(UserError, match="'99'"):
        load_weights(folder, model)


def test_a_config_that_is_not_ours_is_named(saved):
    folder, _ = saved
    edit(folder, lambda content: content["config"].update(num_heads=5))
    with pytest.raises(UserError, match="num_heads=5"):
        load_config(folder)
    edit(folder, lambda content: content["config"].update(wings=2))
    with pytest.raises(UserError, match="wings"):
        load_config(folder)
    edit(folder, lambda content: content["config"].pop("wings"))
    edit(folder, lambda content: content["config"].update(num_heads=3))
    edit(folder, lambda content: content.pop("tokenizers"))
    with pytest.raises(UserError, match="tokenizers"):
        load_config(folder)


def test_a_number_of_tokenizers_that_cannot_be(saved):
    folder, _ = saved
    edit(folder, lambda content: content.update(tokenizers={}))
    with pytest.raises(UserError, match="0 tokenizers"):
        load_config(folder)


def test_weights_of_another_config_are_named(saved):
    folder, _ = saved
    edit(folder, lambda content: content["config"].update(dropout=0.3))
    config, *_ = load_config(folder)
    with pytest.raises(UserError, match="another config"):
        load_weights(folder, Transformer(config))


def test_weights_learned_with_other_tokenizers_are_named(saved):
    folder, model = saved
    other = Tokenizer.train([*LINES[::-1], "a fox, a fox"], 60)
    save_config(folder, model.config, other, other, {})
    with pytest.raises(UserError, match="learned with other tokenizers"):
        load_all(folder, model)


def test_missing_weights_are_named(tmp_path):
    model, source, target = build(shared=False)
    save_config(tmp_path, model.config, source, target, {})
    for name in ("decoder.1.add_norm1.norm.weight", "target_embedding.weight"):
        weights = model.state_dict()
        del weights[name]
        save_weights(tmp_path, model.config, weights, {})
        with pytest.raises(UserError, match="lacks some of the weights"):
            load_weights(tmp_path, model)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_weights(saved, monkeypatch, call):
    folder, model = saved
    before = (folder / "model.safetensors").read_bytes()
    names = sorted(os.listdir(folder))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(UserError, match="No space left on device"):
            save_weights(
                folder, model.config, model.state_dict(), {"update": 8}
            )
    assert (folder / "model.safetensors").read_bytes() == before
    assert sorted(os.listdir(folder)) == names
