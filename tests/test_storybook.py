"""The storybook: right French, known truth, and no way round the meaning."""

import itertools
import random
from collections import Counter, defaultdict

import pytest
from sacrebleu.metrics.bleu import BLEU

from minitransformer import story_lexicon as lexicon
from minitransformer import story_tables as tables
from minitransformer import storybook
from minitransformer.story_french import (
    agree,
    irregular_verb,
    plural,
    regular_verb,
    starts_with_vowel_sound,
)
from minitransformer.story_grammar import Maker, settle, starts_like_a_vowel
from minitransformer.story_patterns import PATTERNS
from minitransformer.storybook import HELD_OUT_PAIRS, splits, tell, words
from tools import story_page

SUBJECTS = {
    "il": ("m", 0),
    "elle": ("f", 0),
    "ils": ("m", 1),
    "elles": ("f", 1),
}


@pytest.fixture(scope="module")
def some():
    """Take 3,000 stories as they come, whatever their split."""
    return [pair for pair, _ in itertools.islice(storybook.stories(5), 3_000)]


@pytest.fixture(scope="module")
def corpus():
    return splits(6_000, 200, 400, 400)


def french(*side):
    return [word for word, _ in settle([(w, (1,)) for w in side], True)]


# By hand ---


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("chat", "chats"),
        ("souris", "souris"),
        ("prix", "prix"),
        ("manteau", "manteaux"),
        ("cheveu", "cheveux"),
        ("cheval", "chevaux"),
        ("bleu", "bleus"),
    ],
)
def test_plurals(one, many):
    assert plural(one) == many


def test_participles_agree():
    assert agree("écrit", False, False) == "écrit"
    assert agree("écrit", True, False) == "écrite"
    assert agree("écrit", True, True) == "écrites"
    assert agree("pris", False, True) == "pris"


def test_verbs():
    eat = regular_verb("manger")
    assert eat.present == ("mange", "mangeons", "mangez", "mange", "mangent")
    assert eat.imperfect[1] == "mangions"
    assert eat.imperfect[3] == "mangeait"
    throw = regular_verb("lancer")
    assert throw.present[1] == "lançons"
    assert throw.imperfect[2:4] == ("lanciez", "lançait")
    buy = regular_verb("acheter", "achèt")
    assert buy.present[::3] == ("achète", "achète")
    assert buy.future[4] == "achèteront"
    have = irregular_verb("avoir ai avons avez a ont av aur eu")
    assert have.future == ("aurai", "aurons", "aurez", "aura", "auront")
    assert have.participle == "eu"


def test_elision_and_contraction():
    assert french("le|l'", "chat") == ["le", "chat"]
    assert french("le|l'", "animal") == ["l'", "animal"]
    assert french("le|l'", "hibou") == ["le", "hibou"]
    assert french("le|l'", "hôtel") == ["l'", "hôtel"]
    assert french("de|d'", "le|l'", "chat") == ["du", "chat"]
    assert french("de|d'", "le|l'", "âne") == ["de", "l'", "âne"]
    assert french("à", "les", "rois") == ["aux", "rois"]
    assert french("de|d'", "anciens") == ["d'", "anciens"]
    assert french("un", "vieux|vieil", "ami") == ["un", "vieil", "ami"]
    assert french("parce", "que|qu'", "elle") == ["parce", "qu'", "elle"]
    assert not starts_with_vowel_sound("haute")
    merged = settle([("à", (1,)), ("le|l'", (2,)), ("roi", (3,))], True)
    assert merged == [("au", (1, 2)), ("roi", (3,))]


def test_a_and_an():
    expected = {
        "owl": True,
        "apple": True,
        "honest": True,
        "useful": False,
        "horse": False,
        "uncle": True,
    }
    assert {word: starts_like_a_vowel(word) for word in expected} == expected


def test_an_adjective_before_a_plural_turns_des_into_de():
    noun = lexicon.NOUNS["house"]
    make = Maker(random.Random(0))
    before = make.nominal(noun, "a", True, lexicon.ADJECTIVES["big"])
    after = make.nominal(noun, "a", True, lexicon.ADJECTIVES["red"])
    assert [w for w, _ in settle(before.fr, True)] == [
        "de",
        "grandes",
        "maisons",
    ]
    assert [w for w, _ in after.fr] == ["des", "maisons", "rouges"]
    assert [w for w, _ in settle(before.en, False)] == [
        "some",
        "big",
        "houses",
    ]


def test_words():
    assert words("L'animal n'a pas dormi aujourd'hui.") == [
        *("L'", "animal", "n'", "a", "pas", "dormi", "aujourd'hui", "."),
    ]
    assert words("The baker's dog, so to speak!") == [
        *("The", "baker", "'s", "dog", ",", "so", "to", "speak", "!"),
    ]
    assert words("Est-ce qu'il dort ?") == ["Est-ce", "qu'", "il", "dort", "?"]


# Properties of every story ---


def test_alignments_fit_and_leave_no_word_alone(some):
    for pair in some:
        source, target = words(pair.source), words(pair.target)
        assert pair.alignment == tuple(sorted(set(pair.alignment)))
        left = {i for i, _ in pair.alignment}
        right = {j for _, j in pair.alignment}
        assert left == set(range(len(source))), pair
        assert right == set(range(len(target))), pair
        assert (len(source) - 1, len(target) - 1) in pair.alignment


def test_sentences_look_like_sentences(some):
    for pair in some:
        for text in (pair.source, pair.target):
            assert text[0].isupper()
            assert text[-1] in ".?!"
            assert "|" not in text
            assert "  " not in text
            assert text == " ".join(text.split())
        assert " de le " not in pair.target
        assert " à le " not in pair.target


def test_pronouns_point_at_their_nouns(some):
    seen = Counter()
    for pair in some:
        source, target = words(pair.source), words(pair.target)
        for pronoun in pair.pronouns:
            it = source[pronoun.source_index].lower()
            french = target[pronoun.target_index].lower()
            gender, many = SUBJECTS[french]
            assert gender == pronoun.gender
            assert it == ("they" if many else "it")
            noun = source[pronoun.source_antecedent]
            entry = next(
                n for n in lexicon.NOUNS.values() if n.en[many] == noun
            )
            assert target[pronoun.target_antecedent] == entry.fr[many]
            assert entry.gender == gender
            link = pronoun.source_antecedent, pronoun.target_antecedent
            assert link in pair.alignment
            assert (pronoun.source_index, pronoun.target_index) in (
                pair.alignment
            )
            seen[french] += 1
    assert min(seen[word] for word in SUBJECTS) > 30


def test_his_and_her_belong_to_the_subject(some):
    fits = Counter()
    for pair in some:
        source = words(pair.source)
        known = source[0] in ("He", "She", "The")
        if pair.pattern not in ("giving", "transitive") or not known:
            continue
        entry = next(
            (n for n in lexicon.NOUNS.values() if n.en[0] == source[1]), None
        )
        gender = "f" if source[0] == "She" else "m"
        if source[0] == "The":
            if entry is None:  # an adjective, or a plural
                continue
            gender = entry.gender
        own = {"m": "his", "f": "her"}[gender]
        other = {"m": "her", "f": "his"}[gender]
        assert other not in source
        fits[own] += own in source
    assert min(fits["his"], fits["her"]) > 3


def test_nobody_meets_himself_and_nobody_owns_a_river(some):
    for pair in some:
        source = [word.lower() for word in words(pair.source)]
        for noun in lexicon.TAGS["person"]:
            assert sum(source.count(form) for form in set(noun.en)) <= 1
        for noun in lexicon.UNOWNED:
            for form in {*noun.en} & {*source}:
                before = source[source.index(form) - 1]
                assert before not in tables.POSSESSIVES


def test_a_pair_is_called_by_the_pattern_it_shows(some):
    marks = {
        "object_relative": "that",
        "subject_relative": "who",
        "comparison": "than",
        "reason": "because",
    }
    for pair in some:
        if pair.pattern in marks:
            assert marks[pair.pattern] in words(pair.source), pair.source


def test_english_decides_the_french():
    french = {}
    for pair, _ in itertools.islice(storybook.stories(6), 8_000):
        truth = pair.target, pair.alignment, pair.pronouns
        assert french.setdefault(pair.source, truth) == truth
    assert len(french) > 6_000


def test_all_patterns_and_the_whole_lexicon_are_told(some):
    assert {pair.pattern for pair in some} == {
        pattern.__name__ for pattern, _ in PATTERNS
    }
    assert len(PATTERNS) >= 12
    told = set()
    for pair, _ in itertools.islice(storybook.stories(7), 8_000):
        told.update(word.lower() for word in words(pair.source))
    nouns = {noun.en[0] for noun in lexicon.NOUNS.values()}
    missing = {
        noun.en[0]
        for noun in lexicon.NOUNS.values()
        if told.isdisjoint(form.lower() for form in noun.en)
    }
    assert len(missing) < 0.03 * len(nouns), missing
    assert {name.lower() for name in lexicon.ADJECTIVES} <= told
    lemmas = [lexicon.NOUNS, lexicon.ADJECTIVES]
    lemmas += [lexicon.VERBS, lexicon.PLAIN_VERBS]
    assert sum(map(len, lemmas)) >= 300


# Splits ---


def test_splits_share_no_sentence(corpus):
    sizes = {name: len(pairs) for name, pairs in corpus.items()}
    assert sizes == {
        "train": 6_000,
        "valid": 200,
        "test": 400,
        "compositional": 400,
    }
    every = [pair.source for pairs in corpus.values() for pair in pairs]
    assert len(set(every)) == len(every)


def test_a_seed_decides_the_corpus():
    first, again, other = (splits(50, 5, 5, 5, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_nobody_can_change_the_corpus_of_others():
    first = splits(5, 1, 1, 1)
    with pytest.raises(TypeError):
        first["test"] = ()
    assert all(isinstance(pairs, tuple) for pairs in first.values())
    assert splits(5, 1, 1, 1) is first


def test_a_sentence_belongs_to_one_split_whatever_the_seed():
    home = {}
    for seed in (1, 2, 3):
        stories = itertools.islice(storybook.stories(seed), 2_000)
        for pair, split in stories:
            assert home.setdefault(pair.source, split) == split


def test_what_is_held_out_is_never_said_elsewhere(corpus):
    seen = defaultdict(set)
    rng = random.Random(0)
    for _ in range(4_000):
        before = rng.getstate()
        pair, held_out = tell(rng)
        rng.setstate(before)
        make = Maker(rng)
        pattern, _ = storybook.draft(make)
        assert pattern == pair.pattern
        assert held_out == any(said in HELD_OUT_PAIRS for said in make.pairs)
        for said in make.pairs:
            seen[said in HELD_OUT_PAIRS].add(said)
    assert seen[True].isdisjoint(seen[False])
    known_nouns = {noun for noun, _ in seen[False]}
    known_words = {word for _, word in seen[False]}
    learnable = [
        noun in known_nouns and word in known_words
        for noun, word in seen[True]
    ]
    assert sum(learnable) > 0.95 * len(learnable)


def test_every_held_out_word_has_partners_left():
    partners = defaultdict(set)
    for noun, names in lexicon.SUITED.items():
        for name in names:
            if (noun, name) not in HELD_OUT_PAIRS:
                partners[noun].add(name)
                partners[name].add(noun)
    assert len(HELD_OUT_PAIRS) > 100
    for noun, word in HELD_OUT_PAIRS - {
        (noun, result.en)
        for result in lexicon.RESULTS
        for noun in result.suits
    }:
        assert len(partners[noun]) >= 2, noun
        assert len(partners[word]) >= 2, word


# Hardness ---


def test_sentences_have_about_ten_words(corpus):
    lengths = [len(words(pair.source)) for pair in corpus["train"]]
    assert 9 < sum(lengths) / len(lengths) < 12


def test_the_best_dictionary_stays_under_forty_bleu(corpus):
    counts = defaultdict(Counter)
    for pair in corpus["train"]:
        source = [word.lower() for word in words(pair.source)]
        target = [word.lower() for word in words(pair.target)]
        for i, j in pair.alignment:
            counts[source[i]][target[j]] += 1
    translations = []
    for pair in corpus["test"]:
        by_word = [
            counts[word.lower()].most_common(1)[0][0]
            for word in words(pair.source)
            if counts[word.lower()]
        ]
        text = " ".join(by_word).replace("' ", "'").replace(" .", ".")
        translations.append(text[0].upper() + text[1:])
    truth = [[pair.target for pair in corpus["test"]]]
    score = BLEU().corpus_score(translations, truth).score
    assert 10 < score < 40


def test_no_simple_rule_finds_the_pronoun(corpus):
    gender = {
        form: noun.gender
        for noun in lexicon.NOUNS.values()
        for form in noun.fr
    }
    right = Counter()
    total = 0
    for pair in corpus["train"]:
        target = words(pair.target)
        for pronoun in pair.pronouns:
            before = [
                gender[word.lower()]
                for word in target[: pronoun.target_index]
                if word.lower() in gender
            ]
            right["nearest"] += before[-1] == pronoun.gender
            right["first"] += before[0] == pronoun.gender
            right["always il"] += pronoun.gender == "m"
            total += 1
    assert total > 1_000
    for rule, count in right.items():
        assert 0.35 < count / total < 0.60, (rule, count / total)


def test_there_are_millions_of_sentences():
    # Of one pattern alone, "The girl gave a book to the king.": subjects,
    # verbs, objects with one adjective, receivers; past and future.
    people = len(lexicon.TAGS["stranger"])
    objects = sum(
        len(lexicon.SUITED[noun.en[0]])
        for name in ("give", "show", "bring", "lend", "send")
        for noun in lexicon.VERBS[name].suits
    )
    assert people * objects * people * 2 > 1_000_000


# The page ---


def test_the_page_is_what_the_grammar_says():
    page = (story_page.BOOK / "storybook.md").read_text(encoding="utf-8")
    assert page == story_page.render(), "run tools/story_page.py"
