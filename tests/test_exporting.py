"""Exported models: the same translations by CTranslate2 and ONNX Runtime."""

import copy
import sys

import ctranslate2
import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from minitransformer.config import BOS_ID, EOS_ID, TransformerConfig
from minitransformer.data import encode_source, pad
from minitransformer.decoding import greedy_decode
from minitransformer.errors import UserError
from minitransformer.exporting import export_model
from minitransformer.model import Transformer
from minitransformer.text import Tokenizer
from minitransformer.translator import Translator

SOURCES = [
    "the cat sees the dog.",
    "a bird sings.",
    "we eat the bread in the morning.",
    "the girl is tired!",
]
TARGETS = ["le chat voit le chien.", "un oiseau chante.", "nous mangeons."]


def make_model(source_vocab_size, target_vocab_size, **choices):
    """Build a model whose every number differs, biases and norms too."""
    config = TransformerConfig(
        source_vocab_size=source_vocab_size,
        target_vocab_size=target_vocab_size,
        d_model=24,
        num_heads=3,
        num_encoder_layers=2,
        num_decoder_layers=3,
        d_ff=44,
        max_len=40,
        **choices,
    )
    model = Transformer(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


@pytest.fixture(scope="module")
def pair_of_tokenizers():
    return Tokenizer.train(SOURCES, 70), Tokenizer.train(TARGETS, 60)


@pytest.fixture
def random_translator(pair_of_tokenizers):
    def make(shared=False, **choices):
        source, target = pair_of_tokenizers
        if shared:
            target = source
        size = None if shared else target.vocab_size
        model = make_model(source.vocab_size, size, **choices)
        return Translator(model, source, target)

    return make


def by_ctranslate2(folder, translator, lines):
    """Translate greedily with CTranslate2; return the tokens' names."""
    engine = ctranslate2.Translator(str(folder), intra_threads=1)
    found = engine.translate_batch(
        [names(translator, line) for line in lines],
        beam_size=1,
        max_decoding_length=30,
    )
    return [each.hypotheses[0] for each in found]


def names(translator, line):
    """Cut a source sentence up, as the engine wants it."""
    tokenizer = translator.source_tokenizer
    return tokenizer.tokens(tokenizer.encode(line))


def by_us(translator, lines):
    """Translate greedily; return the ids."""
    ids = encode_source(translator.source_tokenizer, lines)
    return greedy_decode(translator.model, pad(ids), 30)


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"norm_first": False},
        {"final_norm": False},
        {"positions": "learned"},
        {"tie_embeddings": False},
        {"shared": True},
        {"shared": True, "tie_embeddings": False},
    ],
    ids=str,
)
def test_ctranslate2_agrees(random_translator, tmp_path, choices):
    translator = random_translator(**choices)
    translator.export("ctranslate2", tmp_path / "engine")
    tokens = translator.target_tokenizer.tokens
    theirs = by_ctranslate2(tmp_path / "engine", translator, SOURCES)
    assert theirs == [tokens(ids) for ids in by_us(translator, SOURCES)]
    engine = ctranslate2.Translator(str(tmp_path / "engine"))
    size = translator.model.config.output_vocab_size
    for line in SOURCES:  # a random model babbles: score other words too
        ids = (4 + torch.randperm(size - 4)[: len(line)]).tolist()
        (found,) = engine.score_batch([names(translator, line)], [tokens(ids)])
        source = pad(encode_source(translator.source_tokenizer, [line]))
        logits = translator.model(source, torch.tensor([[BOS_ID, *ids]]))
        labels = torch.tensor([*ids, EOS_ID])
        expected = -cross_entropy(logits[0], labels, reduction="none")
        assert_close(
            torch.tensor(found.log_probs), expected.detach(), rtol=0, atol=1e-4
        )


def test_quantized_weights_are_copies(random_translator, tmp_path):
    translator = random_translator()
    before = copy.deepcopy(translator.model.state_dict())
    translator.export("ctranslate2", tmp_path / "whole")
    translator.export("ctranslate2", tmp_path / "small", "int8")
    sizes = [
        (tmp_path / name / "model.bin").stat().st_size
        for name in ("whole", "small")
    ]
    assert sizes[1] < 0.6 * sizes[0]
    assert by_ctranslate2(tmp_path / "small", translator, SOURCES[:1])
    assert_close(translator.model.state_dict(), before, rtol=0, atol=0)


def test_tokenizers_come_along(translator, tmp_path):
    translator.export("ctranslate2", tmp_path / "engine")
    theirs = by_ctranslate2(tmp_path / "engine", translator, SOURCES)
    tokens = translator.target_tokenizer.tokens
    assert theirs == [tokens(ids) for ids in by_us(translator, SOURCES)]
    for side in ("source", "target"):
        saved = Tokenizer.load(tmp_path / "engine" / f"{side}.tokenizer.json")
        kept = getattr(translator, f"{side}_tokenizer")
        assert saved.to_json() == kept.to_json()


def test_onnx_agrees(random_translator, tmp_path):
    translator = random_translator()
    model = translator.model
    translator.export("onnx", tmp_path / "engine")
    start, step = (
        onnxruntime.InferenceSession(tmp_path / "engine" / f"{name}.onnx")
        for name in ("start", "step")
    )
    ids = encode_source(translator.source_tokenizer, SOURCES)
    for batch in (pad(ids), pad(ids[1:2])):
        memory, mask = start.run(None, {"source": batch.numpy()})
        L, _, B, H, _, d_k = memory.shape
        past = np.zeros((L, 2, B, H, 0, d_k), np.float32)
        tokens = np.full(B, BOS_ID)
        state = model.start(batch)
        for length in range(1, 12):
            logits, past = step.run(
                None,
                {
                    "tokens": tokens,
                    "past": past,
                    "memory": memory,
                    "mask": mask,
                },
            )
            expected = model.step(torch.from_numpy(tokens), state)
            assert_close(torch.from_numpy(logits), expected.detach())
            assert past.shape == (L, 2, B, H, length, d_k)
            tokens = logits.argmax(1)
            assert (tokens != EOS_ID).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tensorrt",), "choose ctranslate2 or onnx"),
        (("onnx", "int8"), "for ctranslate2 alone"),
        (("ctranslate2", "int3"), "no quantization 'int3'"),
    ],
)
def test_what_cannot_be_asked_for(
    random_translator, tmp_path, arguments, message
):
    format, *more = arguments
    with pytest.raises(UserError, match=message):
        random_translator().export(format, tmp_path / "engine", *more)
    assert not list(tmp_path.iterdir())


def test_places_that_will_not_do(random_translator, tmp_path):
    translator = random_translator()
    with pytest.raises(UserError, match="exists already"):
        translator.export("ctranslate2", tmp_path)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match="can't be written"):
        translator.export("ctranslate2", file / "engine")
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("format", "library"),
    [("ctranslate2", "ctranslate2.specs"), ("onnx", "onnxscript")],
)
def test_a_missing_library_is_named(
    random_translator, tmp_path, monkeypatch, format, library
):
    monkeypatch.setitem(sys.modules, library, None)
    translator = random_translator()
    with pytest.raises(UserError, match=r"pip install minitransformer\[exp"):
        export_model(
            translator.model,
            translator.source_tokenizer,
            translator.target_tokenizer,
            format,
            tmp_path / "engine",
        )
    assert not list(tmp_path.iterdir())
