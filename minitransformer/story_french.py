"""French word forms for the storybook: plurals, verbs, and joined sounds.

A word may be written ``"le|l'"``: the left form stands before a consonant,
the right one before a vowel sound. Joining the words of a sentence picks the
form and contracts ``de + le`` to ``du``, so no other rule has to know.
"""

from dataclasses import dataclass

VOWELS = frozenset("aeiouyàâéèêëîïôùûœ")

# An h that blocks elision ("le hibou", not "l'hibou") cannot be heard from
# the spelling, so the storybook's few are listed.
ASPIRATED = frozenset(
    [
        *("hibou", "hiboux", "haut", "haute", "hauts", "hautes"),
        *("haricot", "haricots", "huit"),
    ]
)

CONTRACTIONS = {
    ("de", "le"): "du",
    ("de", "les"): "des",
    ("à", "le"): "au",
    ("à", "les"): "aux",
}


def starts_with_vowel_sound(word: str) -> bool:
    """Say whether ``le``, ``de``, ``que`` ... lose their vowel before it.

    >>> [starts_with_vowel_sound(w) for w in ("Emma", "homme", "hibou")]
    [True, True, False]
    """
    word = word.lower()
    first = word[0]
    if first == "h":
        return word not in ASPIRATED
    return first in VOWELS


def plural(word: str) -> str:
    """Return the regular French plural of a noun or masculine adjective.

    >>> [plural(w) for w in ("chat", "souris", "oiseau", "cheval")]
    ['chats', 'souris', 'oiseaux', 'chevaux']
    """
    if word.endswith(("s", "x", "z")):
        return word
    if word.endswith(("eau", "eu")) and word != "bleu":
        return word + "x"
    if word.endswith("al"):
        return word[:-2] + "aux"
    return word + "s"


def agree(participle: str, feminine: bool, many: bool) -> str:
    """Make a past participle agree in gender and number.

    >>> agree("mangé", True, True), agree("pris", False, True)
    ('mangées', 'pris')
    """
    if feminine:
        participle += "e"
    return plural(participle) if many else participle


@dataclass(frozen=True, slots=True)
class FrenchVerb:
    """A French verb: every form that the storybook may ask for.

    The finite forms stand in the order je, nous, vous, il, ils.
    """

    infinitive: str
    participle: str
    with_etre: bool
    present: tuple[str, ...]
    imperfect: tuple[str, ...]
    future: tuple[str, ...]


def _finite(
    forms: tuple[str, ...], imperfect: str, future: str
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Add the endings of the imperfect and of the future to their stems."""
    short = imperfect  # "nous mangions": no e before an i
    if imperfect.endswith("ge"):
        short = imperfect[:-1]
    elif imperfect.endswith("ç"):
        short = imperfect[:-1] + "c"
    past = tuple(
        (short if end[0] == "i" else imperfect) + end
        for end in ("ais", "ions", "iez", "ait", "aient")
    )
    later = tuple(future + end for end in ("ai", "ons", "ez", "a", "ont"))
    return forms, past, later


def regular_verb(
    infinitive: str, strong: str = "", future: str = "", etre: bool = False
) -> FrenchVerb:
    """Conjugate a verb in -er.

    Args:
        infinitive: The verb, such as ``"acheter"``.
        strong: The stem before a silent ending, if it differs (``"achèt"``).
        future: The stem of the future, if it is not ``strong + "er"``.
        etre: Whether the compound past is built with être.

    >>> regular_verb("manger").present
    ('mange', 'mangeons', 'mangez', 'mange', 'mangent')
    >>> regular_verb("acheter", "achèt").future[3]
    'achètera'
    """
    stem = infinitive[:-2]
    soft = stem  # before a and o: "mangeons", "lançons"
    if stem.endswith("g"):
        soft = stem + "e"
    elif stem.endswith("c"):
        soft = stem[:-1] + "ç"
    silent = strong or stem
    present = (
        silent + "e",
        soft + "ons",
        stem + "ez",
        silent + "e",
        silent + "ent",
    )
    return FrenchVerb(
        infinitive,
        stem + "é",
        etre,
        *_finite(present, soft, future or silent + "er"),
    )


def irregular_verb(row: str, etre: bool = False) -> FrenchVerb:
    """Read one row: infinitive, five presents, imperfect, future, participle.

    >>> irregular_verb(
    ...     "lire lis lisons lisez lit lisent lis lir lu"
    ... ).imperfect[4]
    'lisaient'
    """
    infinitive, *present, imperfect, future, participle = row.split()
    return FrenchVerb(
        infinitive,
        participle,
        etre,
        *_finite(tuple(present), imperfect, future),
    )
