"""The storybook's grammar: phrases that are built in both languages at once.

A word carries the numbers of its links; words of both languages that share a
number are aligned. Nothing is translated afterwards: one choice makes both
sides, so the alignment is known and each English sentence has one French one.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from minitransformer import story_lexicon as lexicon
from minitransformer import story_tables as tables
from minitransformer.story_french import (
    CONTRACTIONS,
    FrenchVerb,
    agree,
    starts_with_vowel_sound,
)
from minitransformer.story_lexicon import Adjective, Noun, Verb

T = TypeVar("T")
Word = tuple[str, tuple[int, ...]]
Side = list[Word]
JE, NOUS, VOUS, IL, ILS = range(5)  # the order of a verb's forms
# What belongs to somebody, by person and gender.
OWN = {
    (IL, "m"): "his",
    (IL, "f"): "her",
    (ILS, "m"): "their",
    (ILS, "f"): "their",
}
BE = {
    "now": ("am", "are", "are", "is", "are"),
    "past": ("was", "were", "were", "was", "were"),
}


_ATTRIBUTES = {
    noun: tuple(
        lexicon.ADJECTIVES[name]
        for name in names
        if lexicon.ADJECTIVES[name].use in ("both", "attribute")
    )
    for noun, names in lexicon.SUITED.items()
}


@dataclass
class Phrase:
    """A stretch of both languages.

    Attributes:
        en: English words with their links.
        fr: French words with theirs.
    """

    en: Side = field(default_factory=list)
    fr: Side = field(default_factory=list)

    def __add__(self, other: "Phrase") -> "Phrase":
        return Phrase(self.en + other.en, self.fr + other.fr)


@dataclass
class Nominal(Phrase):
    """A phrase that can be a subject.

    Attributes:
        person: Index of the verb form it asks for.
        gender: ``"m"`` or ``"f"``.
        noun: Its noun, if it is not a name or a pronoun.
        head: The link of its noun.
    """

    person: int = IL
    gender: str = "m"
    noun: Noun | None = None
    head: int = 0

    @property
    def many(self) -> bool:
        """Whether it is plural."""
        return self.person in (NOUS, ILS)


class Maker:
    """Builds phrases at random, and notes which words it brought together.

    Args:
        rng: The source of every choice. Only ``random()`` is called, which
            gives the same numbers on every platform.

    Attributes:
        links: How many links were given out.
        pairs: Nouns with what was said of them.
        named: The nouns of the sentence so far.
        own: The possessive that fits the subject: "his", "her" or "their".
    """

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.links = 0
        self.pairs: list[tuple[str, str]] = []
        self.named: list[Noun] = []
        self.own: str | None = None

    def chance(self, p: float) -> bool:
        """Be true with probability ``p``."""
        return self.rng.random() < p

    def choose(self, options: Sequence[T]) -> T:
        """Take one of some options."""
        return options[int(self.rng.random() * len(options))]

    def choose_noun(self, nouns: Sequence[Noun]) -> Noun:
        """Take a noun that the sentence has not named yet."""
        noun = self.choose(nouns)
        while noun in self.named and len(nouns) > len(self.named):
            noun = self.choose(nouns)
        return noun

    def determiner(self, noun: Noun, options: Sequence[str]) -> str:
        """Take a determiner that suits a noun and the subject before it."""
        chosen = self.choose(options)
        if chosen not in tables.POSSESSIVES:
            return chosen
        if noun in lexicon.UNOWNED:
            return "the"
        return self.own or chosen if chosen in ("his", "her") else chosen

    def link(self) -> int:
        """Return a number for words that translate each other."""
        self.links += 1
        return self.links

    def words(self, en: str, fr: str) -> Phrase:
        """Translate some fixed words as one unit."""
        links = (self.link(),)
        return Phrase(
            [(word, links) for word in en.split()],
            [(word, links) for word in fr.split()],
        )

    def fixed(self, phrase: lexicon.Phrase) -> Phrase:
        """Translate a fixed phrase of the tables, aligned word by word."""
        first = self.links
        self.links += max(number for _, number in phrase[0])
        en, fr = phrase
        return Phrase(
            [(word, (first + number,)) for word, number in en],
            [(word, (first + number,)) for word, number in fr],
        )

    # Noun phrases ---

    def nominal(
        self,
        noun: Noun,
        determiner: str = "the",
        many: bool = False,
        adjective: Adjective | None = None,
        number: tuple[str, str] | None = None,
    ) -> Nominal:
        """Build determiner, adjective and noun, in each language's order."""
        head, link = self.link(), self.link()
        self.named.append(noun)
        gender, index = noun.gender, int(many)
        english, french = tables.DETERMINERS[determiner]
        en_det = english[index]
        fr_det = french[2 if many else "mf".index(gender)]
        en: Side = [(noun.en[index], (head,))]
        fr: Side = [(noun.fr[index], (head,))]
        if adjective is not None:
            self.pairs.append((noun.en[0], adjective.en))
            own = (self.link(),)
            en.insert(0, (adjective.en, own))
            form = (adjective.fr[gender, many], own)
            fr.insert(0 if adjective.before else 1, form)
            if fr_det == "des" and adjective.before:
                fr_det = "de|d'"  # "de grandes maisons"
        if number is not None:
            en_det, fr_det = number
        en.insert(0, (en_det, (link,)))
        fr.insert(0, (fr_det, (link,)))
        person = ILS if many else IL
        return Nominal(en, fr, person, gender, noun, head)

    def attribute(self, noun: Noun) -> Adjective | None:
        """Find an adjective that may stand beside a noun."""
        found = _ATTRIBUTES[noun.en[0]]
        return self.choose(found) if found else None

    def thing(
        self,
        nouns: Sequence[Noun],
        definite: bool = False,
        odd: Sequence[str] = (),
    ) -> Nominal:
        """Build an object: any determiner, number and adjective that fit.

        Args:
            nouns: What it may be.
            definite: Leave out "a", which French changes to "de" behind a
                negation.
            odd: Adjectives to leave out.
        """
        noun = self.choose_noun(nouns)
        adjective = self.attribute(noun) if self.chance(0.4) else None
        if adjective is not None and adjective.en in odd:
            adjective = None
        if not noun.mass and not definite and self.chance(0.08):
            return self.nominal(
                noun, "the", True, adjective, self.choose(tables.NUMBERS)
            )
        if noun not in lexicon.TAGS["person"] and self.chance(0.1):
            return self.owned(noun)
        determiners = ["the", "the", "the", "this", *tables.POSSESSIVES]
        if not (noun.mass or definite):
            determiners += ["a"] * 5
        determiner = self.determiner(noun, determiners)
        many = not noun.mass and self.chance(0.2)
        return self.nominal(noun, determiner, many, adjective)

    def owned(self, noun: Noun) -> Nominal:
        """Build "the baker's bicycle": the owner moves behind in French."""
        owner = self.nominal(self.choose_noun(lexicon.TAGS["job"]))
        head, of = self.link(), (self.link(),)
        en = [*owner.en, ("'s", of), (noun.en[0], (head,))]
        det = tables.DETERMINERS["the"][1]["mf".index(noun.gender)]
        fr = [(det, of), (noun.fr[0], (head,)), ("de|d'", of), *owner.fr]
        return Nominal(en, fr, IL, noun.gender, noun, head)

    def person(self) -> Nominal:
        """Build somebody: a noun, a name or a pronoun."""
        roll = self.rng.random()
        if roll < 0.14:
            name, gender = self.choose(tables.NAMES)
            same = self.words(name, name)
            self.own = OWN[IL, gender]
            return Nominal(same.en, same.fr, IL, gender)
        if roll < 0.30:
            en, fr, who, gender = self.choose(
                (
                    ("I", "je|j'", JE, "m"),
                    ("we", "nous", NOUS, "m"),
                    ("he", "il", IL, "m"),
                    ("she", "elle", IL, "f"),
                )
            )
            pair = self.words(en, fr)
            self.own = OWN.get((who, gender))
            return Nominal(pair.en, pair.fr, who, gender)
        noun = self.choose_noun(lexicon.TAGS["person"])
        adjective = self.attribute(noun) if self.chance(0.3) else None
        if noun in lexicon.TAGS["family"]:
            determiner = self.choose(tables.POSSESSIVES)
        else:
            determiner = self.choose(("the", "the", "the", "a", "this"))
        many = self.chance(0.22) and noun.en[0] not in ("mother", "father")
        return self.subject(noun, determiner, many, adjective)

    def subject(
        self,
        noun: Noun,
        determiner: str,
        many: bool,
        adjective: Adjective | None = None,
    ) -> Nominal:
        """Build somebody who may own things later in the sentence."""
        nominal = self.nominal(noun, determiner, many, adjective)
        self.own = OWN[nominal.person, noun.gender]
        return nominal

    # Verb phrases ---

    def copula(
        self,
        french: FrenchVerb,
        subject: Nominal,
        tense: str,
        negative: bool = False,
    ) -> Phrase:
        """Build "to be", which French says with être or with avoir."""
        link = (self.link(),)
        if tense == "future":
            en: Side = [("will", link), ("be", link)]
            fr = french.future[subject.person]
        else:
            en = [(BE[tense][subject.person], link)]
            forms = french.present if tense == "now" else french.imperfect
            fr = forms[subject.person]
        return self._maybe_not(en, [(fr, link)], negative)

    def _maybe_not(self, en: Side, fr: Side, negative: bool) -> Phrase:
        """Put "not" behind the first English word, "ne ... pas" around."""
        if negative:
            no = (self.link(),)
            en = [en[0], ("not", no), *en[1:]]
            fr = [("ne|n'", no), fr[0], ("pas", no), *fr[1:]]
        return Phrase(en, fr)

    def verb(
        self,
        verb: Verb,
        subject: Nominal,
        tense: str,
        negative: bool = False,
        adverb: tuple[str, str] | None = None,
    ) -> Phrase:
        """Build a verb in one of the tenses now, habit, past and future.

        "now" is the English progressive, which French says in the present;
        states have no progressive, and their past is the imperfect.
        """
        who, own = subject.person, (self.link(),)
        fr: Side = [(verb.fr.present[who], own)]
        if tense == "past" and not verb.state:
            fr = self._compound(verb.fr, subject, own)
        elif tense == "past":
            fr = [(verb.fr.imperfect[who], own)]
        elif tense == "future":
            fr = [(verb.fr.future[who], own)]
        en: Side
        if tense == "future":
            en = [("will", own), (verb.base, own)]
        elif tense == "now" and not verb.state:
            en = [(BE["now"][who], own), (verb.ing, own)]
        elif negative:
            do = "do" if who != IL else "does"
            en = [("did" if tense == "past" else do, own), (verb.base, own)]
        elif tense == "past":
            en = [(verb.past, own)]
        else:
            en = [(verb.third if who == IL else verb.base, own)]
        phrase = self._maybe_not(en, fr, negative)
        if adverb is not None:
            also = (self.link(),)
            phrase.en.insert(0, (adverb[0], also))
            phrase.fr.insert(1, (adverb[1], also))
        return phrase + self.particles(verb, own)

    def _compound(
        self, verb: FrenchVerb, subject: Nominal, own: tuple[int, ...]
    ) -> Side:
        """Build the compound past, with être or with avoir."""
        if not verb.with_etre:
            auxiliary = lexicon.AVOIR.present[subject.person]
            return [(auxiliary, own), (verb.participle, own)]
        form = agree(verb.participle, subject.gender == "f", subject.many)
        return [(lexicon.ETRE.present[subject.person], own), (form, own)]

    def particles(self, verb: Verb, own: tuple[int, ...]) -> Phrase:
        """Build what binds a verb to its object: "at", "sur", ..."""
        if verb.link and verb.particle:
            own = (self.link(),)
        en = [(word, own) for word in verb.particle]
        return Phrase(en, [(word, own) for word in verb.link])

    def infinitive(self, verb: Verb) -> Phrase:
        """Build a bare infinitive with its particles."""
        own = (self.link(),)
        phrase = Phrase([(verb.base, own)], [(verb.fr.infinitive, own)])
        return phrase + self.particles(verb, own)

    def predicate(
        self,
        subject: Nominal,
        adjective: Adjective,
        tense: str,
        degree: str = "",
        negative: bool = False,
    ) -> Phrase:
        """Build "is too tired": a form of be, a degree and an adjective."""
        if subject.noun is not None:
            self.pairs.append((subject.noun.en[0], adjective.en))
        french = lexicon.AVOIR if adjective.use == "avoir" else lexicon.ETRE
        phrase = self.copula(french, subject, tense, negative)
        if degree:
            phrase += self.words(
                degree, {"too": "trop", "very": "très"}[degree]
            )
        form = adjective.fr[subject.gender, subject.many]
        return phrase + self.words(adjective.en, form)

    def place(self, preposition: tables.Preposition, where: Noun) -> Phrase:
        """Build "near the church"."""
        own = (self.link(),)
        words = Phrase(
            [(word, own) for word in preposition[0]],
            [(word, own) for word in preposition[1]],
        )
        there = self.nominal(where)
        return words + Phrase(there.en, there.fr)

    def when(self, tense: str) -> Phrase:
        """Build an adverbial of time that fits a tense."""
        return self.fixed(self.choose(lexicon.WHEN[tense]))


def starts_like_a_vowel(word: str) -> bool:
    """Say whether English puts "an" before a word.

    >>> [starts_like_a_vowel(w) for w in ("owl", "useful", "honest", "cat")]
    [True, False, True, False]
    """
    if word.startswith(("us", "uni", "eu")):
        return False
    return word[0].lower() in "aeiou" or word == "honest"


def settle(side: Iterable[Word], french: bool) -> Side:
    """Choose each word's form by the word that follows, and contract."""
    settled: Side = []
    for text, links in reversed(list(side)):
        form, _, before_vowel = text.partition("|")
        if before_vowel and settled:
            following = settled[0][0]
            test = starts_with_vowel_sound if french else starts_like_a_vowel
            form = before_vowel if test(following) else form
        if french and settled and (form, settled[0][0]) in CONTRACTIONS:
            follower, more = settled.pop(0)
            form, links = CONTRACTIONS[form, follower], links + more
        settled.insert(0, (form, links))
    return settled
