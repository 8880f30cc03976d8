"""The storybook's lexicon: the tables of ``story_tables``, read and inflected.

``NOUNS``, ``ADJECTIVES`` and ``VERBS`` are keyed by their English word.
``SUITED[noun]`` lists what may sensibly be said of a noun; a pronoun's
predicate is always one that suits its antecedent and nothing else in sight.
"""

from dataclasses import dataclass
from functools import cache

from minitransformer import story_tables as tables
from minitransformer.story_french import (
    FrenchVerb,
    irregular_verb,
    plural,
    regular_verb,
)


@dataclass(frozen=True, slots=True, eq=False)
class Noun:
    """A noun in both languages; ``en`` and ``fr`` are (singular, plural)."""

    en: tuple[str, str]
    fr: tuple[str, str]
    gender: str
    mass: bool


@dataclass(frozen=True, slots=True, eq=False)
class Adjective:
    """An adjective in both languages.

    Attributes:
        en: The English word or words.
        fr: (gender, is plural) -> French form.
        before: Whether it stands before its noun in French.
        gradable: Whether ``too`` and ``very`` go with it.
        use: ``"both"``, ``"attribute"``, ``"predicate"``, or ``"avoir"``:
            a predicate that French builds with *avoir* ("avoir faim").
        comparative: The English comparative.
    """

    en: str
    fr: dict[tuple[str, bool], str]
    before: bool
    gradable: bool
    use: str
    comparative: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Verb:
    """A verb in both languages, and the nouns that suit its object.

    ``particle`` is English ("look at"), ``link`` is French ("dormir sur").
    The past of a ``state`` is the imperfect, of all else the compound past.
    """

    base: str
    third: str
    past: str
    participle: str
    ing: str
    particle: tuple[str, ...]
    fr: FrenchVerb
    link: tuple[str, ...]
    state: bool
    suits: tuple[Noun, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A predicate of consequence: ``must be replaced``."""

    modal: str
    en: str
    fr: str
    suits: frozenset[str]


# A fixed phrase in both languages: words with a number each; words of equal
# number are aligned.
Words = tuple[tuple[str, int], ...]
Phrase = tuple[Words, Words]


def _rows(table: str) -> list[str]:
    """Split a table into its rows."""
    return [row for row in table.split("\n") if row]


def _english_plural(word: str) -> str:
    """Return the regular English plural."""
    if word.endswith(("s", "x", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


def _read_nouns() -> tuple[dict[str, Noun], dict[str, list[Noun]]]:
    """Read the noun table; return nouns by English word, and by group."""
    nouns: dict[str, Noun] = {}
    groups: dict[str, list[Noun]] = {}
    group: list[Noun] = []
    mass = False
    for row in _rows(tables.NOUNS_TABLE):
        if row.startswith("#"):
            name, *flags = row[1:].split()
            group, mass = groups.setdefault(name, []), bool(flags)
            continue
        english, french, gender = row.split()
        one, _, many = english.partition("/")
        un, _, des = french.partition("/")
        noun = Noun(
            (one, many or _english_plural(one)),
            (un, des or plural(un)),
            gender,
            mass,
        )
        nouns[one] = noun
        group.append(noun)
    return nouns, groups


NOUNS, TAGS = _read_nouns()


@cache
def nouns_of(names: str) -> tuple[Noun, ...]:
    """Return the nouns that a row of tags and words stands for, in order.

    ``-name`` takes a noun or the nouns of a tag out again.
    """
    found: dict[str, Noun] = {}
    for name in names.split():
        word = name.lstrip("-")
        members = TAGS[word] if word in TAGS else [NOUNS[word]]
        for noun in members:
            if name.startswith("-"):
                found.pop(noun.en[0], None)
            else:
                found[noun.en[0]] = noun
    return tuple(found.values())


def _read_tags() -> None:
    """Add the tags that are made of other tags."""
    for row in _rows(tables.TAGS_TABLE):
        tag, _, names = row.partition(":")
        TAGS[tag] = TAGS.get(tag, []) + list(nouns_of(names))


_read_tags()

# They take no possessive: "ma femme" is a wife and "ma fille" a daughter, and
# streets and rivers are nobody's.
UNOWNED = frozenset(
    nouns_of(
        "man woman boy girl thief pirate witch giant"
        " way nature -field -garden -courtyard -meadow"
    )
)


def _read_adjective(english: str, french: str, flags: str) -> Adjective:
    """Read one adjective."""
    letters, _, comparative = flags.partition(" ")
    masculine, *rest = [french] if "f" in letters else french.split()
    base = masculine.split("|")[0]
    if "f" in letters or "h" in letters:
        feminine = many = many_feminine = base
    else:
        regular = base if base.endswith("e") else base + "e"
        feminine = rest[0] if rest else regular
        many, many_feminine = plural(base), plural(feminine)
    forms = {
        ("m", False): masculine,
        ("f", False): feminine,
        ("m", True): many,
        ("f", True): many_feminine,
    }
    use = "both"
    for letter, name in (
        ("a", "attribute"),
        ("p", "predicate"),
        ("h", "avoir"),
    ):
        if letter in letters:
            use = name
    return Adjective(
        english,
        forms,
        "b" in letters,
        "g" in letters,
        use,
        (comparative,) if comparative else ("more", english),
    )


def _read_adjectives() -> tuple[dict[str, Adjective], dict[str, list[str]]]:
    """Read the adjectives, and for each noun the adjectives that suit it."""
    adjectives: dict[str, Adjective] = {}
    suited: dict[str, list[str]] = {name: [] for name in NOUNS}
    for row in _rows(tables.ADJECTIVES_TABLE):
        english, french, flags, names = row.split(" | ")
        adjectives[english] = _read_adjective(english, french, flags)
        for noun in nouns_of(names):
            suited[noun.en[0]].append(english)
    return adjectives, suited


ADJECTIVES, SUITED = _read_adjectives()


def _read_french_verb(text: str) -> tuple[FrenchVerb, tuple[str, ...]]:
    """Read the French side of a verb row, and its preposition if any."""
    text, _, link = text.partition(" @")
    if text.startswith("="):
        verb = irregular_verb(text[1:])
    elif text.startswith("+"):
        verb = regular_verb(text[1:], etre=True)
    else:
        infinitive, strong, future, *_ = (*text.split(), "", "")
        verb = regular_verb(infinitive, strong, future)
    return verb, (link,) if link else ()


def _read_verbs(table: str) -> dict[str, Verb]:
    """Read a verb table, by English base form."""
    verbs = {}
    for row in _rows(table):
        english, french, names = row.split(" | ")
        name, third, past, participle, ing = english.split()
        base, _, particle = name.partition("_")
        fr, link = _read_french_verb(french)
        verbs[name] = Verb(
            base,
            third,
            past,
            participle,
            ing,
            (particle,) if particle else (),
            fr,
            link,
            names.startswith("!"),
            nouns_of(names.lstrip("!")),
        )
    return verbs


VERBS = _read_verbs(tables.VERBS_TABLE)
PLAIN_VERBS = _read_verbs(tables.PLAIN_VERBS_TABLE)
ETRE = irregular_verb(tables.BE_FORMS)
AVOIR = VERBS["have"].fr
POUVOIR = irregular_verb(tables.CAN_FORMS)
DEVOIR = irregular_verb(tables.MUST_FORMS)
ALLER = irregular_verb(tables.GO_FORMS, etre=True)


def _read_results() -> tuple[Result, ...]:
    """Read the predicates of consequence."""
    results = []
    for row in _rows(tables.RESULTS_TABLE):
        words, names = row.split(" | ")
        modal, english, french = words.split()
        suits = frozenset(noun.en[0] for noun in nouns_of(names))
        results.append(Result(modal, english, french, suits))
    return tuple(results)


RESULTS = _read_results()


def _words(side: str) -> Words:
    """Read ``"la:2 semaine:2 dernière:1"``."""
    pairs = (word.rpartition(":") for word in side.split())
    return tuple((text, int(number)) for text, _, number in pairs)


def _read_when() -> dict[str, tuple[Phrase, ...]]:
    """Read the adverbials of time, by the time they speak of."""
    phrases: dict[str, list[Phrase]] = {}
    for row in _rows(tables.WHEN_TABLE):
        time, english, french = row.split(" | ")
        phrase = (_words(english), _words(french))
        phrases.setdefault(time, []).append(phrase)
    return {time: tuple(rows) for time, rows in phrases.items()}


WHEN = _read_when()
