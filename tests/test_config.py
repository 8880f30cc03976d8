"""The configuration: what it holds, and what it refuses."""

import json
from dataclasses import FrozenInstanceError, asdict

import pytest

from minitransformer.config import (
    BOS_ID,
    EOS_ID,
    PAD_ID,
    UNK_ID,
    TransformerConfig,
)
from minitransformer.errors import UserError


def test_the_special_ids():
    assert (PAD_ID, BOS_ID, EOS_ID, UNK_ID) == (0, 1, 2, 3)


def test_only_the_source_vocabulary_must_be_said():
    assert asdict(TransformerConfig(source_vocab_size=31)) == {
        "source_vocab_size": 31,
        "target_vocab_size": None,
        "d_model": 256,
        "num_heads": 8,
        "num_encoder_layers": 3,
        "num_decoder_layers": 3,
        "d_ff": 1024,
        "dropout": 0.1,
        "max_len": 256,
        "positions": "sinusoidal",
        "norm_first": True,
        "final_norm": True,
        "tie_embeddings": True,
    }


def test_it_survives_json():
    config = TransformerConfig(
        source_vocab_size=31, target_vocab_size=37, dropout=0, norm_first=False
    )
    read = json.loads(json.dumps(asdict(config)))
    assert TransformerConfig(**read) == config


def test_the_decoder_chooses_from_the_target_vocabulary_if_there_is_one():
    assert TransformerConfig(source_vocab_size=31).output_vocab_size == 31
    both = TransformerConfig(source_vocab_size=31, target_vocab_size=37)
    assert both.output_vocab_size == 37


def test_it_is_fixed_and_spelled_out():
    config = TransformerConfig(source_vocab_size=31)
    with pytest.raises(FrozenInstanceError):
        config.d_model = 8
    with pytest.raises(TypeError):
        TransformerConfig(31)


# Edges ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(
            ({name: bad}, f"{name}={bad!r} must be a whole number from 1 up")
            for name in (
                "source_vocab_size",
                "target_vocab_size",
                "d_model",
                "num_heads",
                "num_encoder_layers",
                "num_decoder_layers",
                "d_ff",
                "max_len",
            )
            for bad in (0, -3, 2.0, "8", True)
        ),
        (
            {"source_vocab_size": None},
            "source_vocab_size=None must be a whole number",
        ),
        (
            {"target_vocab_size": 0},
            "from 1 up, or None to share the source's",
        ),
        (
            {"d_model": 10, "num_heads": 4},
            "d_model=10 can't be split over num_heads=4: choose a width",
        ),
        *(
            (
                {"dropout": bad},
                f"dropout={bad!r} must be a number from 0 up to below 1",
            )
            for bad in (1, 1.0, -0.1, float("nan"), "0.1", None, True)
        ),
        (
            {"positions": "rotary"},
            "positions='rotary' is unknown: choose 'sinusoidal' or 'learned'",
        ),
        ({"positions": None}, "positions=None is unknown"),
        ({"norm_first": "no"}, "norm_first='no' must be True or False"),
        ({"tie_embeddings": 1}, "tie_embeddings=1 must be True or False"),
    ],
    ids=str,
)
def test_an_impossible_value_is_named(changes, message):
    with pytest.raises(UserError) as caught:
        TransformerConfig(**({"source_vocab_size": 31} | changes))
    assert message in str(caught.value)
