"""Scores by hand, against sacreBLEU itself, and where the truth is known."""

import math
from contextlib import contextmanager

import pytest
import sacrebleu
import torch
from hypothesis import given
from hypothesis import strategies as st

from minitransformer import evaluation
from minitransformer.errors import UserError
from minitransformer.evaluation import (
    CopyBaseline,
    DictionaryBaseline,
    Score,
    alignment_error,
    attention_links,
    best_alignment,
    bleu,
    bleu_tokenizer,
    bootstrap_interval,
    chrf,
    join_words,
    pronoun_accuracy,
    split_words,
    views,
    word_probabilities,
)
from minitransformer.recording import recorded_attention
from minitransformer.storybook import Pronoun, StoryPair, words

OURS = [
    "the small cat sleeps on the red roof.",
    "she opened the window because it was hot.",
    "we will travel to the sea on Monday.",
]
FIRST = [
    "the little cat sleeps on the red roof.",
    "she opened the window since it was hot.",
    "on Monday we will travel to the sea.",
]
SECOND = ["a small cat is asleep on the red roof.", None, "we go on Monday."]


def ragged():
    return [
        [one for one in several if one is not None]
        for several in zip(FIRST, SECOND, strict=True)
    ]


# By hand ---


def test_bleu_by_hand():
    # a b c d e against a b c d f: 4/5, 3/4, 2/3, 1/2 of the n-grams, and no
    # penalty, since the lengths agree.
    value = bleu(["a b c d e"], [["a b c d f"]]).value
    assert value == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 / 2) ** 0.25)


def test_a_short_translation_is_punished():
    # Every n-gram is right, but 5 words stand for 6.
    value = bleu(["a b c d e"], [["a b c d e f"]]).value
    assert value == pytest.approx(100 * math.exp(1 - 6 / 5))


def test_a_second_reference_can_only_help():
    one = bleu(OURS, [[first] for first in FIRST])
    more = bleu(OURS, ragged())
    assert more.value > one.value + 1


def test_alignment_error_by_hand():
    # Three links found, four true, two of them shared: 1 - 2 * 2 / 7.
    found = [{(0, 0), (1, 2)}, {(3, 1)}]
    gold = [{(0, 0), (1, 1)}, {(3, 1), (2, 1)}]
    score = alignment_error(found, gold)
    assert score.value == pytest.approx(100 * 3 / 7)
    low, high = score.interval
    assert low < score.value < high
    assert alignment_error(gold, gold).value == 0
    assert alignment_error([{(5, 5)}], [{(0, 0)}]).value == 100


def test_links_add_over_source_tokens_and_average_over_target_tokens():
    weights = torch.tensor(
        [
            [0.30, 0.30, 0.35, 0.05],  # word 0 of the target: 0.6 beats 0.35
            [0.30, 0.20, 0.10, 0.40],  # word 1, two tokens: (0.5 + 0.4) / 2
            [0.30, 0.10, 0.60, 0.00],  # beats (0.1 + 0.6) / 2
        ]
    )
    links = attention_links(weights, [0, 0, 1], [0, 1, 1])
    assert links == {(0, 0), (0, 1)}


def test_links_ignore_the_columns_behind_the_words():
    weights = torch.tensor([[0.1, 0.2, 0.7], [0.2, 0.1, 0.7]])
    assert attention_links(weights, [0, 1], [0, 1]) == {(1, 0), (0, 1)}


def test_words_by_hand():
    text = "L'âne (qui rit) n'a pas dit : « oui »."
    assert split_words(text) == [
        *["L'", "âne", "(", "qui", "rit", ")", "n'", "a", "pas", "dit", ":"],
        *["«", "oui", "»", "."],
    ]
    assert join_words(split_words("It's 3 o'clock, (yes) sir!")) == (
        "It's 3 o'clock, (yes) sir!"
    )
    assert split_words("他有3只猫，very cute。") == [
        *["他", "有", "3", "只", "猫", "，", "very", "cute", "。"]
    ]
    assert join_words(["你", "好", "，", "Li", "！"]) == "你好，Li！"


# Against sacreBLEU ---


@pytest.mark.parametrize("tokenize", ["13a", "char", "none"])
@pytest.mark.parametrize("lowercase", [False, True])
def test_bleu_is_sacrebleu(tokenize, lowercase):
    score = bleu([one.title() for one in OURS], ragged(), tokenize, lowercase)
    theirs = sacrebleu.metrics.BLEU(tokenize=tokenize, lowercase=lowercase)
    expected = theirs.corpus_score(
        [one.title() for one in OURS], [FIRST, SECOND]
    )
    assert score.value == expected.score
    assert score.signature == str(theirs.get_signature())
    assert "nrefs:var" in score.signature
    assert f"tok:{tokenize}" in score.signature
    assert f"version:{sacrebleu.__version__}" in score.signature


def test_chrf_is_sacrebleu():
    score = chrf(OURS, ragged())
    theirs = sacrebleu.metrics.CHRF()
    assert score.value == theirs.corpus_score(OURS, [FIRST, SECOND]).score
    assert score.name == "chrF2"
    assert score.signature == str(theirs.get_signature())


def test_a_missing_reference_is_no_empty_reference():
    empty = [[first, ""] for first in FIRST]
    assert "nrefs:2" in bleu(OURS, empty).signature
    assert "nrefs:1" in bleu(OURS, [[one] for one in FIRST]).signature


def test_chinese_is_scored_by_character():
    assert bleu_tokenizer("zh-CN") == "zh"
    score = bleu(
        ["我喜欢这只猫。"], [["我喜欢那只猫。"]], bleu_tokenizer("zh")
    )
    assert 0 < score.value < 100
    assert "tok:zh" in score.signature


@pytest.mark.parametrize(
    ("language", "tokenizer"),
    [
        ("ja", "char"),
        ("ja-JP", "char"),
        ("th", "char"),
        ("kmr", "13a"),  # Kurdish, which has spaces; Khmer is "km"
        ("fr", "13a"),
        ("und", "13a"),
    ],
)
def test_a_language_without_spaces_is_scored_by_character(language, tokenizer):
    assert bleu_tokenizer(language) == tokenizer


def test_one_wrong_word_of_japanese_is_not_everything():
    score = bleu(
        ["私は猫が好きです。"], [["私は犬が好きです。"]], bleu_tokenizer("ja")
    )
    assert 0 < score.value < 100


def test_the_interval_is_sacrebleus_and_repeatable():
    score = bleu(OURS, ragged(), n_bootstrap=200)
    assert score == bleu(OURS, ragged(), n_bootstrap=200)
    low, high = score.interval
    assert low < score.value < high
    assert "bs:200|seed:12345" in score.signature
    theirs = sacrebleu.metrics.BLEU()
    expected = theirs.corpus_score(OURS, [FIRST, SECOND], n_bootstrap=200)
    assert (low + high) / 2 == pytest.approx(expected._mean, abs=1e-4)
    assert (high - low) / 2 == pytest.approx(expected._ci, abs=1e-4)


# Properties ---


def test_the_bootstrap_interval_covers_a_known_deviation():
    # 400 coins of chance 1/2: the ratio's deviation is 2.5 per cent.
    hits, totals = [0, 1] * 200, [1] * 400
    low, high = bootstrap_interval(hits, totals, 4_000)
    assert 100 / 2 - low == pytest.approx(1.96 * 2.5, rel=0.05)
    assert high - 100 / 2 == pytest.approx(1.96 * 2.5, rel=0.05)
    few = bootstrap_interval(hits, totals, 50, seed=1)
    assert bootstrap_interval(hits, totals, 50, seed=2) != few


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20))
def test_a_perfect_ratio_has_no_spread(totals):
    if sum(totals):
        assert bootstrap_interval(totals, totals, 50) == (100.0, 100.0)


# Printable characters that are neither marks nor Chinese.
WORDS = st.text(alphabet="abcéœŁж9", min_size=1, max_size=5)


@given(st.lists(WORDS, min_size=1, max_size=7), st.sampled_from(".!?"))
def test_splitting_and_joining_words_is_lossless(some, end):
    text = " ".join(some) + end
    assert join_words(split_words(text)) == text


def test_scores_print_what_a_reader_needs():
    score = Score("BLEU", 34.25, (33.04, 35.46), "tok:13a")
    assert str(score) == "BLEU 34.2 [33.0, 35.5]  tok:13a"
    assert str(Score("AER", 7.0)) == "AER 7.0"


# Storybook ---


def story(source, target, *pronouns):
    """Make a pair; each pronoun is its word number in source and target."""
    marks = tuple(Pronoun(s, t, 0, 0, "m") for s, t in pronouns)
    return StoryPair(source, target, "ours", (), marks)


def at(text, word):
    return words(text).index(word)


STORIES = [
    (
        "the dog sleeps because it is tired.",
        "le chien dort parce qu'il est fatigué.",
        "it",
        "il",
    ),
    (
        "the car stops because it is old.",
        "la voiture s'arrête parce qu'elle est vieille.",
        "it",
        "elle",
    ),
    (
        "the doors creak because they are old.",
        "les portes grincent car elles sont vieilles.",
        "they",
        "elles",
    ),
]


@pytest.fixture
def stories():
    return [
        story(s, t, (at(s, english), at(t, french)))
        for s, t, english, french in STORIES
    ]


def test_right_pronouns_count_whatever_stands_around_them(stories):
    exact = [pair.target for pair in stories]
    assert pronoun_accuracy(exact, stories).value == 100
    loose = ["Il mange.", "la dame est là, elle chante.", "Elles !"]
    assert pronoun_accuracy(loose, stories).value == 100


def test_wrong_gender_number_or_none_at_all_is_wrong(stories):
    wrong = ["elle dort.", "ils dorment.", "la porte est vieille."]
    score = pronoun_accuracy(wrong, stories)
    assert (score.value, score.interval) == (0.0, (0.0, 0.0))
    assert score.signature == "n:3"
    one = [stories[0].target, *wrong[1:]]
    assert pronoun_accuracy(one, stories).value == pytest.approx(100 / 3)


def test_the_second_pronoun_is_held_against_the_second():
    source = "he says that it sleeps."
    target = "il dit qu'elle dort."
    pair = story(source, target, (at(source, "it"), at(target, "elle")))
    assert pronoun_accuracy(["il sait qu'elle dort."], [pair]).value == 100
    assert pronoun_accuracy(["elle dit qu'il dort."], [pair]).value == 0
    assert pronoun_accuracy(["elle dort."], [pair]).value == 0


@pytest.fixture
def aligned():
    """Two pairs of equal word order, with their gold alignment."""
    pairs = [
        ("the cat sees the dog.", "le chat voit le chien."),
        ("the girl reads a book.", "la fille lit un livre."),
        ("the boy is tired.", "le garçon est fatigué."),
    ]
    return [
        StoryPair(s, t, "ours", tuple((i, i) for i in range(6 - short)), ())
        for (s, t), short in zip(pairs, (0, 0, 1), strict=True)
    ]


def test_a_head_that_aligns_is_found(translator, aligned, monkeypatch):
    # Head 2 of layer 1 is made to look at the word it has just read.
    encode = translator.source_tokenizer.encode
    rows = {
        len(encode(pair.source)) + 1: (
            translator.source_tokenizer.word_ids(
                pair.source, words(pair.source)
            ),
            translator.target_tokenizer.word_ids(
                pair.target, words(pair.target)
            ),
        )
        for pair in aligned
    }
    assert len(rows) == 3

    def planted(model):
        @contextmanager
        def record(model):
            with recorded_attention(model) as maps:
                yield maps
            weights = maps["decoder.1.cross_attention"]
            weights[:, 2] = 0.01
            for one, (source, target) in zip(
                weights, rows.values(), strict=True
            ):
                for t, word in enumerate(target):
                    one[2, t + 1, source.index(word)] = 1.0

        return record(model)

    monkeypatch.setattr(evaluation, "recorded_attention", planted)
    both = translator.source_tokenizer, translator.target_tokenizer
    found = views(translator.model, *both, aligned)
    assert len(found) == 2 * 3 * 2  # layers, heads, rows
    best = "decoder.1.cross_attention, head 2, reading"
    assert [set(pair.alignment) for pair in aligned] == found[best]
    score = best_alignment(translator.model, *both, aligned, aligned)
    assert score.value == 0
    assert score.signature == f"n:3|{best}"


def test_the_head_is_not_chosen_on_what_it_is_scored_on(aligned, monkeypatch):
    tune, test = aligned[:2], aligned[2:]

    def planted(model, source_tokenizer, target_tokenizer, pairs):
        right = [set(pair.alignment) for pair in pairs]
        wrong = [{(s + 9, t) for s, t in links} for links in right]
        heads = "ab" if pairs == tune else "ba"
        return dict(zip(heads, (right, wrong), strict=True))

    monkeypatch.setattr(evaluation, "views", planted)
    score = best_alignment(None, None, None, tune, test)
    assert (score.value, score.signature) == (100, "n:1|a")


def test_views_do_not_depend_on_the_batch(translator, aligned):
    both = translator.source_tokenizer, translator.target_tokenizer
    together = views(translator.model, *both, aligned)
    alone = views(translator.model, *both, aligned, batch_size=1)
    assert together == alone


# Baselines ---


def test_the_copy_baseline_copies():
    assert CopyBaseline().translate(OURS) == OURS


def test_the_dictionary_learns_words_apart():
    # No pair says which word is which: only the repetition does.
    pairs = [
        ("the cat sleeps", "le chat dort"),
        ("the dog sleeps", "le chien dort"),
        ("the cat eats", "le chat mange"),
        ("the dog eats bread", "le chien mange du pain"),
        ("a cat drinks", "un chat boit"),
        ("a dog eats", "un chien mange"),
    ]
    baseline = DictionaryBaseline.fit(pairs, iterations=20)
    for english, french in [
        ("cat", "chat"),
        ("dog", "chien"),
        ("sleeps", "dort"),
        ("eats", "mange"),
    ]:
        assert baseline.best[english] == french
    assert baseline.translate(["the dog drinks Rosa."]) == [
        "le chien boit Rosa."
    ]
    assert "" not in baseline.best


PAIRS = [(["x", "y"], ["c", "d"]), (["x"], ["c"])]


def test_one_step_of_model_1_by_hand():
    # With the empty word, c and d are shared by three in the first sentence,
    # c by two in the second: x has 1/3 + 1/2 of c, 1/3 of d; y 1/3 of each.
    table = word_probabilities(PAIRS, iterations=1)
    expected = {
        ("", "c"): 5 / 7,
        ("", "d"): 2 / 7,
        ("x", "c"): 5 / 7,
        ("x", "d"): 2 / 7,
        ("y", "c"): 1 / 2,
        ("y", "d"): 1 / 2,
    }
    assert table == pytest.approx(expected)


def test_two_steps_of_model_1_by_hand():
    # Now c counts 10/27 for x and 7/27 for y, d 4/15 and 7/15; and 1/2 more.
    table = word_probabilities(PAIRS, iterations=2)
    assert table["x", "c"] == pytest.approx(235 / 307)
    assert table["y", "d"] == pytest.approx(9 / 14)


def test_the_dictionary_reads_no_more_than_it_may():
    def pairs():
        yield "x", "c"
        raise AssertionError("read a second pair")

    assert DictionaryBaseline.fit(pairs(), max_pairs=1).best == {"x": "c"}


# Edges ---


def test_bad_input_is_named(stories):
    with pytest.raises(UserError, match=r"3 translations .* against 2"):
        bleu(OURS, [["a"], ["b"]])
    with pytest.raises(UserError, match="nothing to score"):
        chrf([], [])
    with pytest.raises(UserError, match="Sentence 1 needs a list"):
        bleu(["a", "b"], [["a"], []])
    with pytest.raises(UserError, match="not 'b'"):
        bleu(["a", "b"], [["a"], "b"])
    with pytest.raises(UserError, match=r"1 translations .* against 3"):
        pronoun_accuracy(["il"], stories)
    with pytest.raises(UserError, match="has a pronoun"):
        pronoun_accuracy(["oui."], [story("yes.", "oui.")])
    with pytest.raises(UserError, match="no link"):
        alignment_error([set()], [set()])
    with pytest.raises(UserError, match="one pair or more"):
        DictionaryBaseline.fit([])
    with pytest.raises(UserError, match=r"Weights \(2, 3\)"):
        attention_links(torch.rand(2, 3), [0, 1, 2, 3], [0, 1])


def test_an_empty_translation_scores_but_does_not_break():
    assert bleu(["", *OURS[1:]], ragged()).value < bleu(OURS, ragged()).value
    assert bleu([""], [["a b"]]).value == 0.0
    nothing = bleu(["x y z"], [["a b"]], n_bootstrap=20)
    assert (nothing.value, nothing.interval) == (0.0, (0.0, 0.0))
    assert chrf([""], [["a b"]]).value == 0.0
    assert attention_links(torch.rand(2, 3), [0, 1], []) == set()
