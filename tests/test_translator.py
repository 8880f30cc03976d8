"""Translating one text or many, and what cannot be translated."""

import json
import re
import time
import warnings

import pytest
import torch
from torch.testing import assert_close

from minitransformer import translator as module
from minitransformer.config import BOS_ID, EOS_ID
from minitransformer.decoding import LENGTH_PENALTY, beam_search
from minitransformer.errors import UserError
from minitransformer.translator import (
    Translator,
    find_model,
    split_sentences,
)

TEXTS = [
    "the cat sees the dog.",
    "the boy reads a book in the morning in the house by the sea.",
    "a bird sings.",
    "The river is wide. The girl is tired! Do you see?",
    "we eat.",
]
LONG = "the cat and " * 1667  # 5,001 words


@pytest.fixture
def recorder(monkeypatch):
    """Record what is given to beam search."""
    calls = []

    def spy(model, source, *arguments, **named):
        calls.append(source)
        return beam_search(model, source, *arguments, **named)

    monkeypatch.setattr(module, "beam_search", spy)
    return calls


# Sentences ---


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("It is 3.5 m. Or 4.", ["It is 3.5 m.", "Or 4."]),
        (
            "We saw Mr. Li and Dr. Wu. They left.",
            ["We saw Mr. Li and Dr. Wu.", "They left."],
        ),
        ('He said "Stop." She went on.', ['He said "Stop."', "She went on."]),
        ("Animals, e.g. cats, sleep.", ["Animals, e.g. cats, sleep."]),
        ("Des os, p. ex. écrasés.", ["Des os, p. ex. écrasés."]),
        ("Плоды, т. е. яблоки. Да.", ["Плоды, т. е. яблоки.", "Да."]),
        ("It rained. 3 came. École!", ["It rained.", "3 came.", "École!"]),
        ("Ça va. « oui », dit-il.", ["Ça va.", "« oui », dit-il."]),
        ("კარგია. წავიდეთ.", ["კარგია.", "წავიდეთ."]),  # has no capitals
        ("Wait... What?!", ["Wait...", "What?!"]),
        ("Ça va ? Oui !", ["Ça va ?", "Oui !"]),
        ("你好。“你好吗？”我很好！", ["你好。", "“你好吗？”", "我很好！"]),
        ("你好。a 很好！", ["你好。", "a 很好！"]),
        ("Mr... No, M. ... Li. St.", ["Mr...", "No, M. ...", "Li.", "St."]),
        ("No mark", ["No mark"]),
        ("...", ["..."]),
        ("", []),
    ],
)
def test_sentences_by_hand(text, sentences):
    assert split_sentences(text) == sentences


@pytest.mark.parametrize("text", ["!" * 16_000 + "x", "Mr. " * 8_000])
def test_a_long_text_is_split_at_once(text):
    start = time.process_time()
    assert split_sentences(text) == [text.strip()]
    assert time.process_time() - start < 1  # it took some ten seconds


# Translating ---


def test_one_text_is_a_string_and_many_are_a_list(translator):
    one = translator.translate(TEXTS[0])
    assert isinstance(one, str)
    assert translator.translate(TEXTS[:1]) == [one]
    assert translator.translate(tuple(TEXTS[:1])) == [one]
    assert translator.translate([]) == []


@pytest.mark.parametrize("batch_size", [1, 2, 64])
@pytest.mark.parametrize("beam_size", [1, 3])
def test_order_and_company_do_not_matter(translator, batch_size, beam_size):
    alone = [translator.translate(text, beam_size=beam_size) for text in TEXTS]
    assert len(set(alone)) > 2
    assert alone != alone[::-1]
    together = translator.translate(
        TEXTS, beam_size=beam_size, batch_size=batch_size
    )
    assert together == alone
    turned = translator.translate(TEXTS[::-1], beam_size=beam_size)
    assert turned == alone[::-1]


def test_the_output_is_what_beam_search_finds(translator):
    source = translator.source_tokenizer.encode(TEXTS[0])
    found = beam_search(
        translator.model, torch.tensor([[*source, EOS_ID]]), max_len=41
    )
    expected = translator.target_tokenizer.decode(found[0][0].ids)
    assert translator.translate(TEXTS[0]) == expected


@pytest.mark.parametrize("method", ["translate", "translate_lines"])
def test_choices_reach_the_search(translator, monkeypatch, method):
    seen = []

    def spy(model, source, beam_size, length_penalty, max_len):
        seen.append((beam_size, length_penalty))
        return beam_search(model, source, beam_size, length_penalty, max_len)

    monkeypatch.setattr(module, "beam_search", spy)
    translate = getattr(translator, method)
    translate(TEXTS[:1], beam_size=3, length_penalty=0.7)
    translate(TEXTS[:1])
    assert seen == [(3, 0.7), (4, LENGTH_PENALTY)]


def test_a_long_text_is_translated_sentence_by_sentence(translator):
    parts = ["The cat sees.", "The dog sings!", "We eat bread?"]
    translations = translator.translate(parts)
    assert translator.translate(" ".join(parts)) == " ".join(translations)
    many = " ".join(parts * 20)
    with pytest.raises(UserError, match="split it"):
        translator.translate(re.sub("[.!?]", "", many))
    assert translator.translate(many) == " ".join(translations * 20)


def test_chinese_sentences_are_joined_without_space(translator):
    facts = {"target_language": "zh-CN"}
    chinese = Translator(
        translator.model,
        translator.source_tokenizer,
        translator.target_tokenizer,
        facts,
    )
    parts = ["The cat sees.", "The dog sings!"]
    assert chinese.translate(" ".join(parts)) == "".join(
        chinese.translate(parts)
    )


def test_splitting_can_be_turned_off(translator, recorder):
    translator.translate_lines(["The cat sees. The dog sings."], split=False)
    (source,) = recorder
    assert source.shape[0] == 1


def test_sentences_of_like_length_share_a_batch(translator, recorder):
    translator.translate(TEXTS, batch_size=2)
    lengths = [(source != 0).sum(1).tolist() for source in recorder]
    flat = [length for batch in lengths for length in batch]
    assert flat == sorted(flat, reverse=True)
    assert max(map(len, lengths)) == 2


def test_a_batch_holds_one_bucket_of_lengths(translator, recorder):
    # Or else a short sentence's limit would depend on a long companion.
    translator.translate(["the " * 9, "the " * 20, "the " * 10])
    assert [source.shape for source in recorder] == [(1, 21), (2, 11)]


def test_progress_counts_finished_texts(translator):
    texts = [
        "The boy reads a book by the sea. The river is too wide. We eat.",
        "A bird sings.",
    ]
    finished = []
    translator.translate_lines(texts, batch_size=1, progress=finished.append)
    # The longest come first, and the bird before the last of the others.
    assert finished == [0, 0, 1, 2]


def test_spaces_and_unicode_forms_do_not_matter(translator, recorder):
    expected = translator.translate("the c\u00e1t sees")
    assert translator.translate("  the\n\tca\u0301t  sees ") == expected
    # A tiny model says the same of much, so look at what it is given, too.
    composed, decomposed = recorder
    assert torch.equal(composed, decomposed)


# Attention ---


def test_attention_has_a_map_for_every_layer(translator):
    found = translator.attention("the cat sees the dog.")
    S, T = len(found.source_tokens), len(found.target_tokens)
    assert S != T
    shapes = {name: tuple(w.shape) for name, w in found.maps.items()}
    assert shapes == {
        "encoder.0.self_attention": (3, S, S),
        "decoder.0.self_attention": (3, T, T),
        "decoder.0.cross_attention": (3, T, S),
        "decoder.1.self_attention": (3, T, T),
        "decoder.1.cross_attention": (3, T, S),
    }
    for weights in found.maps.values():
        assert_close(weights.sum(-1), torch.ones(weights.shape[:2]))
    assert found.source_tokens[-1] == "<eos>"
    assert found.target_tokens[0] == "<bos>"
    assert found.predicted_tokens[-1] == "<eos>"
    assert found.predicted_tokens[:-1] == found.target_tokens[1:]


def test_attention_translates_like_translate(translator):
    text = "a bird sings."
    assert translator.attention(text).translation == translator.translate(text)


def test_attention_reads_a_given_translation(translator):
    found = translator.attention("a bird sings.", "un oiseau chante.")
    assert found.translation == "un oiseau chante."
    ids = translator.target_tokenizer.encode("un oiseau chante.")
    names = translator.target_tokenizer.tokens([BOS_ID, *ids])
    assert found.target_tokens == names


def test_attention_fits_even_a_translation_that_was_cut(translator):
    text = "the cat sees the dog in the tree by"
    found = translator.attention(text)
    assert len(found.target_tokens) <= 41


# Save and load ---


def test_saved_and_loaded_it_translates_alike(
    translator, tmp_path, monkeypatch
):
    translator.save(tmp_path / "model")
    again = Translator.load(tmp_path / "model")
    assert again.facts == translator.facts
    assert again.translate(TEXTS) == translator.translate(TEXTS)
    assert not again.model.training
    assert Translator.load(str(tmp_path / "model")).device.type == "cpu"
    with pytest.raises(UserError, match="no device 'warp'"):
        Translator.load(tmp_path / "model", device="warp")
    fastest = {"auto": torch.device("meta")}  # which every machine has
    monkeypatch.setattr(module, "choose_device", fastest.get)
    there = Translator.load(tmp_path / "model", device="auto")
    assert there.device.type == "meta"


def test_a_shared_vocabulary_survives(translator, make_model, tmp_path):
    tokenizer = translator.source_tokenizer
    model = make_model(
        source_vocab_size=tokenizer.vocab_size, target_vocab_size=None
    )
    shared = Translator(model, tokenizer, tokenizer)
    shared.save(tmp_path)
    again = Translator.load(tmp_path)
    assert again.source_tokenizer is again.target_tokenizer
    assert again.translate(TEXTS[:2]) == shared.translate(TEXTS[:2])


@pytest.fixture
def saved(translator, tmp_path):
    translator.save(tmp_path / "model")
    return tmp_path / "model"


def damage_nothing(folder):
    (folder / "config.json").unlink()


def damage_config(folder):
    (folder / "config.json").write_text("{")


def damage_format(folder):
    path = folder / "config.json"
    content = json.loads(path.read_text()) | {"format": 99}
    path.write_text(json.dumps(content))


def damage_sizes(folder):
    path = folder / "config.json"
    content = json.loads(path.read_text())
    content["config"]["d_ff"] += 1
    path.write_text(json.dumps(content))


def damage_length(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def damage_weights(folder):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def damage_tokenizer(folder):
    path = folder / "source.tokenizer.json"
    path.write_text(path.read_text().replace("unk", "unc"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_nothing, "no model"),
        (damage_config, "damaged"),
        (damage_format, "format 99"),
        (damage_sizes, "another config"),
        (damage_length, "damaged"),
        (damage_weights, "altered"),
        (damage_tokenizer, "altered"),
    ],
)
def test_a_damaged_checkpoint_is_refused(saved, damage, message):
    damage(saved)
    with pytest.raises(UserError, match=message):
        Translator.load(saved)


def test_an_unknown_model_lists_the_known(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHIPPED", tmp_path)
    with pytest.raises(UserError, match=r"no model 'klingon'.*checkpoint\."):
        find_model("klingon")
    for name in ("storybook-en-fr", "other"):
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match="one of other, storybook-en-fr"):
        find_model("klingon")
    assert find_model("other") == tmp_path / "other"


# Edges ---


@pytest.mark.parametrize("empty", ["", "   ", "\n\t\u3000"])
def test_an_empty_text_is_refused(translator, empty):
    with pytest.raises(UserError, match="The text is empty"):
        translator.translate(empty)
    with pytest.raises(UserError, match=r"texts\[1\] is empty"):
        translator.translate(["the cat", empty])
    with pytest.raises(UserError, match="The text is empty"):
        translator.attention(empty)
    with pytest.raises(UserError, match="The translation is empty"):
        translator.attention("the cat", empty)


def test_a_sentence_too_long_names_length_and_limit(translator):
    n = len(translator.source_tokenizer.encode(LONG)) + 1
    message = f"The text has a sentence of {n} tokens.* reads 41 at most"
    with pytest.raises(UserError, match=message):
        translator.translate(LONG)
    with pytest.raises(UserError, match=r"texts\[1\] has a sentence"):
        translator.translate(["the cat.", f"the dog. {LONG}"])
    with pytest.raises(UserError, match="The text has a sentence"):
        translator.attention(LONG)
    with pytest.raises(UserError, match="The translation has a sentence"):
        translator.attention("the cat", "le chat " * 50)


def test_the_longest_sentence_that_fits_is_translated(translator):
    assert len(translator.source_tokenizer.encode("the")) == 1
    assert isinstance(translator.translate("the " * 40), str)
    with pytest.raises(UserError, match="41 at most"):
        translator.translate("the " * 41)


def test_what_is_no_text_is_refused(translator):
    with pytest.raises(UserError, match=r"texts\[1\] is 7"):
        translator.translate(["the cat", 7])
    with pytest.raises(UserError, match="batch_size=0"):
        translator.translate("the cat", batch_size=0)
    with pytest.raises(UserError, match="beam_size=0"):
        translator.translate("the cat", beam_size=0)


def test_another_script_is_a_warning(translator):
    with pytest.warns(UserWarning, match="The text is mostly in letters"):
        assert isinstance(translator.translate("我喜欢这只猫。"), str)
    with pytest.warns(UserWarning, match=r"texts\[1\] and 1 more are .*'en'"):
        translator.translate(["the cat", "кошка спит", "我们"])


@pytest.mark.parametrize("method", ["translate", "translate_lines", "sample"])
def test_a_warning_points_at_the_caller(translator, method):
    text = ["кошка"] if method == "translate_lines" else "кошка"
    with pytest.warns(UserWarning, match="letters") as caught:
        getattr(translator, method)(text)
    assert [warning.filename for warning in caught] == [__file__]


def test_one_strange_name_is_no_warning(translator):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(translator.translate("the cat sees 我."), str)
        assert isinstance(translator.translate("12 + 7 = 19 !?"), str)
