"""Tokenizer: what goes in comes out, and words keep their tokens."""

import os
import subprocess
import sys
import unicodedata

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minitransformer.config import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from minitransformer.errors import UserError
from minitransformer.text import JOINER, SPACE, Tokenizer, normalize

LINES = [
    "The animal crossed the street, and the street was wide.",
    "An animal! It's tired; they don't run. I'm not 3, I'm 14.",
    "L'animal a traversé la rue. L'arbre n'est pas l'animal.",
    "« Oui », dit-elle à l’homme : « ça va ? »",
    "Der Löwe schläft (im Wald) über Straßen.",
    "小猫喜欢睡觉。小狗喜欢小猫，我也喜欢！",
    "J'ai un animal, l'animal a un arbre.",
    "d s t m r e v l D S T M R E V L x̂ _",
]
CHARACTERS = sorted({*"".join(map(normalize, LINES))})
WORDS = sorted({word for line in LINES for word in normalize(line).split()})


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(LINES, 250)


def names(tokenizer, text):
    return tokenizer.tokens(tokenizer.encode(text))


# By hand ---


def test_merges_are_those_found_by_hand():
    # "a b" is the most frequent pair, then "ab c".
    made = Tokenizer.train(["xabc abc", "xabc"], 4 + 4 + 2 + 2)
    merges = {"ab", "abc"}
    assert merges < set(made.tokens(range(made.vocab_size)))
    assert names(made, "zabx")[-2:] == ["ab", "x"]


def test_special_ids_are_those_of_the_config(tokenizer):
    ids = [PAD_ID, BOS_ID, EOS_ID, UNK_ID]
    assert ids == [0, 1, 2, 3]
    assert tokenizer.tokens(ids) == ["<pad>", "<bos>", "<eos>", "<unk>"]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("street street. (street)", "▁street ▁street . ▁(‿ ▁street )"),
        ("l'animal, un animal", "▁l'‿ ▁animal , ▁un ▁animal"),
        ("L’homme", "▁L’‿ ▁homme"),
        ("don't I'm it's", "▁don 't ▁I 'm ▁it 's"),
        ("DON'T", "▁DON 'T"),
        ("m'dame", "▁m'‿ ▁dame"),
        ("s'il n'est", "▁s'‿ ▁il ▁n'‿ ▁est"),
        ("dit-elle", "▁dit -‿ ▁elle"),
        ("14 x", "1 4 ▁x"),
        ("小猫睡觉，我睡", "小猫睡觉 ， 我睡"),
        ("小猫Tom睡", "小猫 ‿ ▁Tom 睡"),
    ],
)
def test_text_is_cut_into_pieces(tokenizer, text, pieces):
    inside = tokenizer._tokenizer
    marked = inside.normalizer.normalize_str(normalize(text))
    cut = inside.pre_tokenizer.pre_tokenize_str(marked)
    assert [piece for piece, _ in cut] == pieces.split()


def test_a_word_has_the_same_token_everywhere(tokenizer):
    texts = ["animal", "un animal", "l'animal", "(animal)", "animal."]
    assert all("▁animal" in names(tokenizer, text) for text in texts)


def test_normalize():
    assert normalize("\u3000e\u0301te\u0301\t\r\n x ") == "été x"
    assert normalize(" \n") == ""


# Properties ---


# An accent may join its letter to make a character never seen.
KNOWN_TEXT = (
    st.text(CHARACTERS, max_size=30)
    .map(normalize)
    .filter(lambda text: {*text} <= {*CHARACTERS})
)


@settings(max_examples=300, deadline=None)
@given(KNOWN_TEXT)
@example("a . b")
@example("« oui »")
@example("l' animal")
@example("l 'animal")
@example("l'animal's l's ' s 's")
@example("don't don 't don' t")
@example("小 猫 a小 猫a，a ，小")
@example("1 a1 1a a 1 . 1")
@example("- a -a a- a-a - -")
@example("I'mx I'M x̂'s x̂")
def test_decoding_undoes_encoding(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(WORDS)), st.booleans())
def test_decoding_undoes_encoding_of_words(tokenizer, words, spaced):
    text = normalize((" " if spaced else "").join(words))
    assert tokenizer.decode(tokenizer.encode(text)) == text


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text_can_be_encoded(tokenizer, text):
    ids = tokenizer.encode(text)
    assert all(UNK_ID <= i < tokenizer.vocab_size for i in ids)
    assert len(tokenizer.word_ids(text)) == len(ids)
    known = {*CHARACTERS, SPACE, JOINER, "?"}  # "?" for half a character
    unknown = sum(c not in known for c in normalize(text))
    assert ids.count(UNK_ID) == unknown


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 249), max_size=20))
def test_any_ids_can_be_decoded(tokenizer, ids):
    text = tokenizer.decode([i % tokenizer.vocab_size for i in ids])
    assert text == normalize(text)
    assert not {SPACE, JOINER} & {*text}


@settings(max_examples=200, deadline=None)
@given(KNOWN_TEXT)
def test_tokens_know_their_words(tokenizer, text):
    owners = tokenizer.word_ids(text)
    assert owners == sorted(owners)
    assert sorted({*owners}) == list(range(len(text.split())))
    pieces = {}
    for owner, token in zip(owners, names(tokenizer, text), strict=True):
        bare = token.replace(SPACE, "").replace(JOINER, "")
        pieces[owner] = pieces.get(owner, "") + bare
    assert list(pieces.values()) == text.split()


def test_tokens_know_words_that_are_not_between_spaces(tokenizer):
    text, words = "L'animal dort.", ["L'", "animal", "dort", "."]
    owners = tokenizer.word_ids(text, words)
    tokens = names(tokenizer, text)
    assert owners[tokens.index("▁animal")] == 1
    assert owners[-1] == 3
    assert sorted({*owners}) == [0, 1, 2, 3]


def test_an_unknown_character_counts_as_one(tokenizer):
    assert tokenizer.word_ids("жж a", ["ж", "ж", "a"])[-1] == 2


def test_many_lines_are_encoded_like_each(tokenizer):
    each = [tokenizer.encode(line) for line in LINES]
    assert tokenizer.encode_batch(LINES) == each
    assert tokenizer.encode_batch([]) == []


def test_training_again_gives_the_same_bytes(tokenizer):
    again = Tokenizer.train(iter(LINES), 250)
    assert again.to_json() == tokenizer.to_json()


def test_another_process_gives_the_same_bytes(tokenizer):
    program = (
        "import sys; from minitransformer.text import Tokenizer;"
        "made = Tokenizer.train(sys.stdin.read().split('\\n'), 250);"
        "sys.stdout.buffer.write(made.to_json().encode())"
    )
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", program],
        input="\n".join(LINES).encode(),
        env=os.environ | {"PYTHONHASHSEED": "7"},
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == tokenizer.to_json()


def test_saving_and_loading_changes_nothing(tokenizer, tmp_path):
    path = tmp_path / "new" / "tokenizer.json"
    tokenizer.save(path)
    loaded = Tokenizer.load(path)
    assert loaded.to_json() == tokenizer.to_json()
    assert loaded.encode_batch(LINES) == tokenizer.encode_batch(LINES)
    assert Tokenizer.from_json(loaded.to_json()).encode("<eos>") != [EOS_ID]


def test_rare_characters_give_way():
    lines = ["一二三四" * 5, "五"]
    made = Tokenizer.train(lines, 50, max_characters=4)
    assert UNK_ID not in made.encode("四三二一")
    assert made.encode("五") == [UNK_ID]


def test_a_pair_seen_once_is_not_merged():
    made = Tokenizer.train(["ab cd ab"], 50)
    assert names(made, "ab cd") == ["▁ab", "▁", "c", "d"]


def test_marks_are_known_whatever_the_text():
    made = Tokenizer.train(["小 小"], 50)
    assert UNK_ID not in made.encode("小 小")
    ids = made.encode("(a")  # both unknown, but not the marks between
    assert [i == UNK_ID for i in ids] == [True, False, False, True]


# Edges ---


def test_empty_text(tokenizer):
    assert tokenizer.encode(" \n") == []
    assert tokenizer.decode([]) == ""
    assert tokenizer.word_ids("") == []


def test_special_tokens_can_not_be_typed(tokenizer):
    ids = tokenizer.encode("<pad><bos> <eos>")
    assert not {PAD_ID, BOS_ID, EOS_ID} & {*ids}


def test_our_marks_can_not_be_typed(tokenizer):
    assert tokenizer.encode("a▁b‿c") == tokenizer.encode("a_b_c")


def test_half_a_character_is_no_reason_to_fail(tokenizer):
    assert tokenizer.encode("a\ud800") == tokenizer.encode("a?")


def test_special_tokens_are_not_decoded(tokenizer):
    ids = tokenizer.encode("la rue")
    ids = [BOS_ID, *ids, UNK_ID, EOS_ID, PAD_ID]
    assert tokenizer.decode(ids) == "la rue"
    assert tokenizer.decode(torch.tensor(ids)) == "la rue"


def test_one_spelling_of_an_accent(tokenizer):
    apart = unicodedata.normalize("NFD", "traversé")
    assert tokenizer.encode(apart) == tokenizer.encode("traversé")


@pytest.mark.parametrize("index", [-1, 250, 10**12])
def test_ids_outside_the_vocabulary(tokenizer, index):
    with pytest.raises(UserError, match=f"{index} is not in the vocabulary"):
        tokenizer.decode([index])


def test_words_of_another_text(tokenizer):
    with pytest.raises(UserError, match="are not those of"):
        tokenizer.word_ids("la rue", ["le", "rue"])


def test_vocabulary_too_small():
    with pytest.raises(UserError, match=r"ask for 9 or more\."):
        Tokenizer.train(["ab a.b"], 8)
    assert Tokenizer.train(["ab a.b"], 9).vocab_size == 9


@pytest.mark.parametrize("lines", [[], ["", " \n"]])
def test_no_text_to_learn_from(lines):
    with pytest.raises(UserError, match="no text to learn"):
        Tokenizer.train(lines, 100)


OTHER = '{"version":"1.0","model":{"type":"BPE","vocab":{},"merges":[]}}'


@pytest.mark.parametrize("text", ["", "{", "[]", OTHER])
def test_what_is_no_tokenizer(text, tmp_path):
    with pytest.raises(UserError, match="tokenizer"):
        Tokenizer.from_json(text)
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"bad\.json is no tokenizer"):
        Tokenizer.load(path)


def test_no_such_file(tmp_path):
    with pytest.raises(UserError, match=r"no\.json is missing"):
        Tokenizer.load(tmp_path / "no.json")
    with pytest.raises(UserError, match="no tokenizer file"):
        Tokenizer.load(tmp_path)
