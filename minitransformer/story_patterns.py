"""The storybook's patterns: each builds one sentence of a kind."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from minitransformer import story_lexicon as lexicon
from minitransformer import story_tables as tables
from minitransformer.story_french import agree, regular_verb
from minitransformer.story_grammar import (
    IL,
    ILS,
    JE,
    VOUS,
    Maker,
    Nominal,
    Phrase,
    Side,
)
from minitransformer.story_lexicon import (
    ADJECTIVES,
    SUITED,
    TAGS,
    VERBS,
    Noun,
    Verb,
)

_ACTION_NAMES = (
    "eat drink buy sell see find lose take open close clean wash paint"
    " read write break repair build visit help meet hear forget draw cut"
    " choose follow feed wear hide throw leave touch steal push pull use"
    " borrow keep prepare fill carry"
)
_OTHER_NAMES = (
    "know like look_at listen_to look_for wait_for invite thank cross"
    " want have"
)
_ORDER_NAMES = (
    "eat drink buy sell take open close clean wash paint read write"
    " repair visit help look_at listen_to look_for wait_for draw cut"
    " choose follow feed hide push pull touch use keep prepare fill carry"
    " invite thank"
)
_ACTIONS = tuple(_ACTION_NAMES.split())
_DIRECT = _ACTIONS + tuple(_OTHER_NAMES.split())
_ORDERS = tuple(_ORDER_NAMES.split())
# An adjective and a predicate of one row would contradict each other.
_CLASHES = [
    set(row.split())
    for row in (
        "big small bulky",
        "old young new modern",
        "red blue green white black yellow grey brown pink",
        "heavy light",
        "clean dirty muddy",
        "full empty overloaded crowded cluttered",
        "wide narrow",
        "long narrow",
        "wet dry flooded muddy",
        "empty flooded",
        "hot cold burnt raw",
        "open closed blocked",
        "slow fast",
        "easy difficult",
        "rich poor",
        "happy sad angry",
        "strong weak sick injured tired",
        "noisy quiet crowded",
        "interesting boring funny",
        "useful useless broken",
        "soft hard comfortable",
        "thick thin",
        "fresh rotten ripe raw",
        "French English Italian",
        "beautiful pretty",
        "sweet sour salty spicy bitter delicious rotten burnt",
        "brave frightened nervous shy afraid",
        "solid fragile broken cracked",
        "new broken torn cracked",
        "good bad boring delicious useless",
        "lazy busy serious",
        "calm angry",
        "deep narrow",
        "expensive cheap",
        "quiet dangerous",
    )
]
_NO_PROGRESSIVE = ("see", "hear", "forget", "find", "lose")
# What is not said of an object, since the verb says or denies it already.
_ODD = {
    "open": "open closed",
    "close": "open closed",
    "fill": "full empty",
    "wash": "clean dirty wet dry",
    "clean": "clean dirty",
    "build": "old new closed open full empty famous flooded crowded noisy",
    "write": "old torn wet famous",
    "break": "broken cracked",
    "repair": "broken",
    "wear": "torn useless",
    "eat": "rotten",
    "choose": "rotten",
}
_TO: tables.Preposition = (("in",), ("à",))
_WITH_A = (
    "hospital school theatre factory museum market hotel library"
    " restaurant office"
)
_GO = Verb(
    "go", "goes", "went", "gone", "going", (), lexicon.ALLER, (), False, ()
)
_FIT = Verb(
    "fit",
    "fits",
    "fit",
    "fit",
    "fitting",
    ("in",),
    regular_verb("rentrer", etre=True),
    ("dans",),
    True,
    (),
)
# Where things are: "in" or the like, what, where.
_THERE = (
    (tables.IN, "animal", "outdoors"),
    (tables.IN, "stranger", "edifice"),
    (tables.IN, "small", "container_in"),
    (tables.ON, "small", "surface"),
    (tables.ON, "breakable", "surface"),
    (tables.UNDER, "small", "furniture"),
    (tables.IN, "furnishing", "furnished"),
    (tables.ON, "countable", "surface"),
)


@cache
def _predicates(noun: Noun) -> tuple[str, ...]:
    """List the adjectives that can be said of a noun."""
    return tuple(
        name
        for name in SUITED[noun.en[0]]
        if ADJECTIVES[name].use != "attribute"
    )


def _clash(one: str, other: str) -> bool:
    """Say whether "the one thing is other" would be odd."""
    return one == other or any(one in row and other in row for row in _CLASHES)


_DESCRIBED = tuple(
    noun for noun in lexicon.NOUNS.values() if _predicates(noun)
)
_SUITING = {
    name: [
        noun for noun in lexicon.NOUNS.values() if name in SUITED[noun.en[0]]
    ]
    for name in ADJECTIVES
}
_COMPARED = tuple(
    name
    for name, adjective in ADJECTIVES.items()
    if adjective.gradable and adjective.use in ("both", "predicate")
)
_GROUP_NAMES = (
    "adult job young animal way fruit vegetable dish stuff drink clothes"
    " vehicle pulled breakable container load furniture bedding instrument"
    " text small picture idea opening building room nature plant family"
)
_GROUPS = tuple(_GROUP_NAMES.split())


@dataclass
class Draft:
    """A sentence in the making.

    Attributes:
        phrase: Its words.
        pronouns: (link of the pronoun, antecedent) pairs.
        mark: What ends it.
    """

    phrase: Phrase
    pronouns: tuple[tuple[int, Nominal], ...] = ()
    mark: str = "."


def transitive(make: Maker) -> Draft:
    """The farmer sold the old horse yesterday."""
    verb = VERBS[make.choose(_DIRECT)]
    subject = make.person()
    negative = make.chance(0.25)
    tense = make.choose(("past", "past", "past", "future", "now", "habit"))
    if tense == "now" and verb.base in _NO_PROGRESSIVE:
        tense = "habit"
    if tense == "habit" and negative and not verb.state:
        tense = "past"  # what is not done every day is done some day
    adverb = None
    if tense == "habit" and not negative and make.chance(0.5):
        adverb = make.choose(tables.OFTEN)
    if (tense, verb.base) == ("habit", verb.past) and adverb is None:
        tense = "future"  # "we read" would be the past as well
    phrase = subject + make.verb(verb, subject, tense, negative, adverb)
    phrase += _object(make, verb, negative)
    dated = tense == "habit" or make.chance(0.5)
    if dated and not verb.state and adverb is None:
        phrase += make.when(tense)
    return Draft(phrase)


def _object(make: Maker, verb: Verb, definite: bool) -> Nominal:
    """Build an object with no attribute that the verb makes odd."""
    if verb.state and verb.base not in ("have", "want"):
        definite = True
    odd = _ODD.get(verb.base, "").split()
    return make.thing(verb.suits, definite, odd)


def two_clauses(make: Maker) -> Draft:
    """Paul washed the car, but the singer did not wash the bus."""
    joint = make.choose((("and", "et"), ("but", "mais")))
    tense = make.choose(("past", "past", "future"))
    clauses: list[Phrase] = []
    for _ in range(2):
        verb = VERBS[make.choose(_DIRECT)]
        subject = make.person()
        while clauses and subject.en[0][0] in ("he", "she"):
            subject = make.person()  # it might stand for anybody before
        negative = make.chance(0.2)
        clause = subject + make.verb(verb, subject, tense, negative)
        clauses.append(clause + _object(make, verb, negative))
    comma = make.words(",", ",") if joint[0] == "but" else Phrase()
    return Draft(clauses[0] + comma + make.words(*joint) + clauses[1])


def giving(make: Maker) -> Draft:
    """The queen gave a ring to the dancer."""
    verb = VERBS[make.choose(("give", "show", "bring", "lend", "send"))]
    subject = make.person()
    negative = make.chance(0.2)
    tense = make.choose(("past", "past", "future"))
    phrase = subject + make.verb(verb, subject, tense, negative)
    phrase += make.thing(verb.suits, definite=negative)
    phrase += make.place(tables.TO, make.choose_noun(TAGS["stranger"]))
    if make.chance(0.3):
        phrase += make.when(tense)
    return Draft(phrase)


def plain(make: Maker) -> Draft:
    """The cousin is dancing in the garden."""
    verb = lexicon.PLAIN_VERBS[make.choose(tuple(lexicon.PLAIN_VERBS))]
    subject = make.person()
    negative = make.chance(0.2)
    tense = make.choose(("past", "future", "now", "habit"))
    phrase = subject + make.verb(verb, subject, tense, negative)
    where = make.choose(verb.suits)
    at_a_house = where.en[0] in _WITH_A.split()
    phrase += make.place(_TO if at_a_house else tables.IN, where)
    if make.chance(0.5):
        phrase += make.when(tense)
    return Draft(phrase)


def going(make: Maker) -> Draft:
    """Emma went to the market with her aunt."""
    subject = make.person()
    while subject.person == JE:  # "je" does not show its gender in English
        subject = make.person()
    tense = make.choose(("past", "future", "habit"))
    phrase = subject + make.verb(_GO, subject, tense, make.chance(0.2))
    phrase += make.place(tables.TO, make.choose(TAGS["destination"]))
    if make.chance(0.4):
        noun = make.choose_noun(TAGS["family"])
        determiner = make.determiner(noun, tables.POSSESSIVES)
        phrase += make.words("with", "avec") + make.nominal(noun, determiner)
    if make.chance(0.4):
        phrase += make.when(tense)
    return Draft(phrase)


def question(make: Maker) -> Draft:
    """Did the nurse find the key?"""
    verb = VERBS[make.choose(_DIRECT)]
    subject = make.person()
    while subject.person == JE:
        subject = make.person()
    past = not verb.state or make.chance(0.6)
    tense = "past" if past else "habit"
    ask = "did" if past else "does" if subject.person == IL else "do"
    own = make.words(ask, "est-ce que|qu'")
    finite = make.verb(verb, subject, tense)
    base = [(verb.base, finite.en[0][1]), *finite.en[1:]]
    phrase = own + subject + Phrase(base, finite.fr)
    return Draft(phrase + _object(make, verb, False), mark="?")


def order(make: Maker) -> Draft:
    """Do not open the window!"""
    verb = VERBS[make.choose(_ORDERS)]
    own = (make.link(),)
    en: Side = [(verb.base, own)]
    fr: Side = [(verb.fr.present[VOUS], own)]
    negative = make.chance(0.4)
    if negative:
        no = (make.link(),)
        en = [("do", own), ("not", no), *en]
        fr = [("ne|n'", no), *fr, ("pas", no)]
    phrase = Phrase(en, fr) + make.particles(verb, own)
    return Draft(phrase + _object(make, verb, negative), mark="!")


def modal(make: Maker) -> Draft:
    """The children must wash the car."""
    subject = make.person()
    en, french = make.choose(
        (("must", lexicon.DEVOIR), ("can", lexicon.POUVOIR), ("want", None))
    )
    verb = VERBS[make.choose(_ORDERS)]
    negative = make.chance(0.3)
    own = (make.link(),)
    if french is None:
        want = make.verb(VERBS["want"], subject, "habit", negative)
        to = Phrase([("to", want.en[-1][1])], [])
        phrase = subject + want + to
    else:
        fr: Side = [(french.present[subject.person], own)]
        english: Side = [(en, own)]
        if negative:
            no = (make.link(),)
            fr = [("ne|n'", no), *fr, ("pas", no)]
            english = [*english, ("not", no)]
            if en == "can":
                english = [("cannot", (*own, *no))]
        phrase = subject + Phrase(english, fr)
    phrase += make.infinitive(verb)
    return Draft(phrase + _object(make, verb, True))


def description(make: Maker) -> Draft:
    """Our old clock is very heavy."""
    noun = make.choose(_DESCRIBED)
    name = make.choose(_predicates(noun))
    adjective = ADJECTIVES[name]
    many = not noun.mass and make.chance(0.3)
    determiner = make.determiner(
        noun, ("the", "the", "this", *tables.POSSESSIVES)
    )
    attribute = make.attribute(noun) if make.chance(0.35) else None
    if attribute is not None and _clash(attribute.en, name):
        attribute = None
    subject = make.nominal(noun, determiner, many, attribute)
    degree = ""
    if adjective.gradable and make.chance(0.5):
        degree = make.choose(("too", "very"))
    tense = make.choose(("now", "past", "past"))
    return Draft(
        subject
        + make.predicate(subject, adjective, tense, degree, make.chance(0.2))
    )


def comparison(make: Maker) -> Draft:
    """The river is wider than the street."""
    name = make.choose(_COMPARED)
    adjective = ADJECTIVES[name]
    first = make.choose(_SUITING[name])
    group = next(tag for tag in _GROUPS if first in TAGS[tag])
    others = [n for n in TAGS[group] if n in _SUITING[name] and n != first]
    if not others:
        return comparison(make)
    second = make.choose(others)
    many = not (first.mass or second.mass) and make.chance(0.25)
    subject, other = (
        make.nominal(
            noun,
            make.determiner(noun, ("the", "this", "my", "your")),
            many,
        )
        for noun in (first, second)
    )
    make.pairs += [(noun.en[0], name) for noun in (first, second)]
    phrase = subject + make.copula(
        lexicon.ETRE, subject, make.choose(("now", "past"))
    )
    more, own = make.link(), make.link()
    en: Side = [("more", (more,)), (name, (own,))]
    if len(adjective.comparative) == 1:
        en = [(adjective.comparative[0], (more, own))]
    form = adjective.fr[subject.gender, subject.many]
    fr: Side = [("plus", (more,)), (form, (own,))]
    than = make.words("than", "que|qu'")
    return Draft(phrase + Phrase(en, fr) + than + other)


def existence(make: Maker) -> Draft:
    """There are three owls in the barn."""
    inside, nouns, places = make.choose(_THERE)
    noun = make.choose(TAGS[nouns])
    where = make.choose([n for n in TAGS[places] if n is not noun])
    around = 1 if places == "outdoors" else 3
    preposition = make.choose((inside, *tables.ANYWHERE[:around]))
    adjective = make.attribute(noun) if make.chance(0.35) else None
    what = make.nominal(noun, "a", False, adjective)
    if make.chance(0.5):
        number = make.choose(tables.NUMBERS)
        what = make.nominal(noun, "the", True, adjective, number)
    be = ("are" if what.many else "is", "il y a")
    if make.chance(0.5):
        be = ("were" if what.many else "was", "il y avait")
    phrase = make.words(f"there {be[0]}", be[1]) + what
    return Draft(phrase + make.place(preposition, where))


def subject_relative(make: Maker) -> Draft:
    """The boy who lost the map is very tired."""
    noun = make.choose(TAGS["stranger"])
    many = make.chance(0.25)
    subject = make.subject(noun, make.choose(("the", "this")), many)
    verb = VERBS[make.choose(_ACTIONS)]
    phrase = subject + make.words("who", "qui")
    phrase += make.verb(verb, subject, "past") + _object(make, verb, False)
    adjective = ADJECTIVES[make.choose(_predicates(noun))]
    tense = make.choose(("now", "past"))
    degree = "very" if adjective.gradable and make.chance(0.5) else ""
    return Draft(phrase + make.predicate(subject, adjective, tense, degree))


def object_relative(make: Maker) -> Draft:
    """The letter that the judge wrote was long."""
    verb = VERBS[make.choose(_ACTIONS)]
    odd = _ODD.get(verb.base, "").split()
    said = {
        noun: [name for name in _predicates(noun) if name not in odd]
        for noun in verb.suits
        if noun not in TAGS["person"]
    }
    nouns = [noun for noun, names in said.items() if names]
    if not nouns:
        return object_relative(make)
    noun = make.choose(nouns)
    many = not noun.mass and make.chance(0.3)
    thing = make.nominal(noun, make.choose(("the", "this")), many)
    who = make.person()
    inner = make.verb(verb, who, "past")
    # The participle agrees with an object that stands before it.
    form, links = inner.fr[-1]
    form = agree(form, noun.gender == "f", many)
    inner = Phrase(inner.en, [*inner.fr[:-1], (form, links)])
    phrase = thing + make.words("that", "que|qu'") + who + inner
    adjective = ADJECTIVES[make.choose(said[noun])]
    degree = "very" if adjective.gradable and make.chance(0.4) else ""
    return Draft(phrase + make.predicate(thing, adjective, "past", degree))


# A pronoun whose antecedent only the meaning tells ---


@dataclass(frozen=True)
class Scene:
    """Two nouns, and what may be the reason of what happens between them.

    Attributes:
        english: Verb, or words between the two nouns.
        negative: Whether it did not happen.
        subjects: Tag of the first noun.
        objects: Tag of the second.
        of_subject: Predicates that give a reason if said of the first.
        of_object: If said of the second.
    """

    english: str
    negative: bool
    subjects: str
    objects: str
    of_subject: str
    of_object: str


_SLEEPERS = "dog cat rabbit fox goat pig lion panther bear mouse squirrel duck"
SCENES = (
    Scene(
        "cross",
        True,
        "animal",
        "way",
        "tired sick injured frightened nervous lazy slow weak sleepy hungry",
        "wide deep dangerous flooded blocked muddy slippery crowded long",
    ),
    Scene(
        "cross",
        False,
        "animal",
        "way",
        "brave curious hungry thirsty",
        "narrow empty",
    ),
    Scene(
        "take",
        True,
        "driven",
        "street road bridge tunnel avenue boulevard",
        "heavy slow overloaded fragile broken",
        "narrow blocked flooded dangerous muddy slippery crowded",
    ),
    Scene(
        "eat",
        True,
        "animal",
        "meal",
        "tired sick injured frightened nervous sleepy sad",
        "spicy salty sour bitter burnt rotten raw dry hard",
    ),
    Scene(
        "eat",
        False,
        "animal",
        "meal",
        "hungry curious",
        "delicious fresh ripe sweet",
    ),
    Scene(
        "sleep_on",
        True,
        _SLEEPERS,
        "resting",
        "nervous frightened hungry thirsty injured",
        "hard narrow",
    ),
    Scene(
        "sleep_on",
        False,
        _SLEEPERS,
        "resting",
        "tired sleepy sick lazy",
        "soft comfortable",
    ),
    Scene(
        "enter",
        True,
        "animal -ant -spider",
        "shelter",
        "frightened nervous tired lazy shy",
        "dark closed full crowded cluttered flooded",
    ),
    Scene(
        "enter",
        False,
        "animal -ant -spider",
        "shelter",
        "curious hungry tired thirsty frightened",
        "open empty quiet",
    ),
    Scene(
        "pull",
        True,
        "strong",
        "pulled",
        "tired sick injured weak lazy hungry thirsty",
        "heavy overloaded full stuck broken",
    ),
    Scene(
        "carry",
        True,
        "strong",
        "portable",
        "tired sick injured weak lazy hungry thirsty",
        "heavy bulky full broken fragile",
    ),
    Scene(
        "drink",
        True,
        "animal",
        "drink",
        "tired sick frightened nervous sleepy",
        "bitter sour sweet",
    ),
)


def reason(make: Maker) -> Draft:
    """The animal did not cross the street because it was too tired."""
    scene = make.choose(SCENES)
    of_subject = make.chance(0.5)
    first, second = _two_nouns(
        make,
        lexicon.nouns_of(scene.subjects),
        lexicon.nouns_of(scene.objects),
        of_subject,
    )
    asked, other = (first, second) if of_subject else (second, first)
    names = (scene.of_subject if of_subject else scene.of_object).split()
    fits = [
        name
        for name in names
        if name in SUITED[asked.en[0]] and name not in SUITED[other.en[0]]
    ]
    if not fits:
        return reason(make)
    name = make.choose(fits)
    adjective = ADJECTIVES[name]
    reasons = f"{scene.of_subject} {scene.of_object}"
    pair = _both(make, first, second, name, reasons)
    verb = VERBS[scene.english]
    phrase = pair[0] + make.verb(verb, pair[0], "past", scene.negative)
    phrase += pair[1] + make.words("because", "parce que|qu'")
    antecedent = pair[0] if of_subject else pair[1]
    it = _pronoun(make, antecedent)
    degree = ""
    if scene.negative and adjective.gradable:
        degree = "too"
    elif adjective.gradable and make.chance(0.5):
        degree = "very"
    phrase += it + make.predicate(it, adjective, "past", degree)
    return Draft(phrase, ((it.head, antecedent),))


def fitting(make: Maker) -> Draft:
    """The guitar did not fit in the suitcase because it was too big."""
    of_first = make.chance(0.5)
    first, second = _two_nouns(
        make, TAGS["fit_in"], TAGS["fit_into"], of_first
    )
    names = "big long bulky thick" if of_first else "small narrow full"
    chosen = first if of_first else second
    fits = [name for name in names.split() if name in SUITED[chosen.en[0]]]
    if not fits:
        return fitting(make)
    name = make.choose(fits)
    adjective = ADJECTIVES[name]
    pair = _both(make, first, second, "big small " + name, names)
    phrase = pair[0] + make.verb(_FIT, pair[0], "past", negative=True)
    phrase += pair[1] + make.words("because", "parce que|qu'")
    antecedent = pair[0] if of_first else pair[1]
    it = _pronoun(make, antecedent)
    degree = "too" if adjective.gradable else ""
    phrase += it + make.predicate(it, adjective, "past", degree)
    return Draft(phrase, ((it.head, antecedent),))


def consequence(make: Maker) -> Draft:
    """The goat broke the vase, so it must be replaced."""
    of_first = make.chance(0.5)
    first, second = _two_nouns(
        make,
        lexicon.nouns_of("strong cat fox duck goose wolf rabbit bird"),
        TAGS["breakable"],
        of_first,
    )
    names = [
        name
        for name in ("frightened", "sad", "ashamed")
        if name in SUITED[first.en[0]] and name not in SUITED[second.en[0]]
    ]
    pair = _both(make, first, second, "broken frightened sad")
    phrase = pair[0] + make.verb(VERBS["break"], pair[0], "past") + pair[1]
    phrase += make.words(",", ",") + make.words("so", "donc")
    antecedent = pair[0] if of_first else pair[1]
    it = _pronoun(make, antecedent)
    if of_first:
        adjective = ADJECTIVES[make.choose(names)]
        degree = "very" if make.chance(0.5) else ""
        phrase += it + make.predicate(it, adjective, "now", degree)
    else:
        result = make.choose(
            [r for r in lexicon.RESULTS if second.en[0] in r.suits]
        )
        make.pairs.append((second.en[0], result.en))
        participle = agree(result.fr, it.gender == "f", it.many)
        french = {"must": lexicon.DEVOIR, "can": lexicon.POUVOIR}
        modal_verb = french[result.modal].present[it.person]
        phrase += it + make.words(result.modal, modal_verb)
        phrase += make.words("be", "être") + make.words(result.en, participle)
    return Draft(phrase, ((it.head, antecedent),))


def _both(
    make: Maker, first: Noun, second: Noun, said: str, reasons: str = ""
) -> tuple[Nominal, Nominal]:
    """Build both nouns, singular or plural together: number tells nothing.

    Args:
        make: The maker.
        first: The subject.
        second: The object.
        said: What will be said; no attribute contradicts it or repeats it.
        reasons: What might have been said; no attribute gives such a reason.
    """
    many = not second.mass and make.chance(0.25)
    built = []
    for noun in (first, second):
        adjective = make.attribute(noun) if make.chance(0.3) else None
        if adjective is not None and (
            adjective.en in reasons.split()
            or any(_clash(adjective.en, name) for name in said.split())
        ):
            adjective = None
        determiner = make.determiner(
            noun, ("the", "the", "the", "this", "my", "our")
        )
        built.append(make.nominal(noun, determiner, many, adjective))
    return built[0], built[1]


def _pronoun(make: Maker, antecedent: Nominal) -> Nominal:
    """Build "it" or "they", which French says by the noun's gender."""
    many = antecedent.many
    french = {"m": "il", "f": "elle"}[antecedent.gender] + "s" * many
    head = make.link()
    return Nominal(
        [("they" if many else "it", (head,))],
        [(french, (head,))],
        ILS if many else IL,
        antecedent.gender,
        antecedent.noun,
        head,
    )


def _two_nouns(
    make: Maker,
    first: Sequence[Noun],
    second: Sequence[Noun],
    of_first: bool,
) -> tuple[Noun, Noun]:
    """Choose two nouns, nearly always of different gender.

    Where the genders are equal any guess would do. The noun that the pronoun
    stands for is as often feminine as masculine, so "always il" is no good
    guess either.
    """
    wanted = make.choose("mf")
    while True:
        one, other = make.choose(first), make.choose(second)
        asked = one if of_first else other
        if asked.gender != wanted or one is other:
            continue
        if one.gender != other.gender or make.chance(0.1):
            return one, other


PATTERNS: tuple[tuple[Callable[[Maker], Draft], int], ...] = (
    (transitive, 16),
    (two_clauses, 12),
    (giving, 6),
    (plain, 6),
    (going, 5),
    (question, 7),
    (order, 5),
    (modal, 7),
    (description, 8),
    (comparison, 5),
    (existence, 6),
    (subject_relative, 6),
    (object_relative, 7),
    (reason, 26),
    (fitting, 8),
    (consequence, 6),
)
_DECK = tuple(pattern for pattern, weight in PATTERNS for _ in range(weight))


def draft(make: Maker) -> tuple[str, Draft]:
    """Build a sentence of any pattern, and name the pattern."""
    pattern = make.choose(_DECK)
    return pattern.__name__, pattern(make)
