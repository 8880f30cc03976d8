"""Write book/storybook.md: what the storybook is, and thirty pairs of it.

python tools/story_page.py
"""

import itertools
from pathlib import Path

from minitransformer import story_lexicon as lexicon
from minitransformer import storybook
from minitransformer.story_patterns import PATTERNS

BOOK = Path(__file__).parents[1] / "book"
SEED = 30

PAGE = """\
# The storybook

A translator can only be judged where the right answer is known. For most text
nobody knows which word translates which, or what "it" stands for. So this
course has a corpus of its own, made by a grammar that builds both languages at
once. It is small enough to train on with a laptop, and its truth is complete:

- Each English sentence has exactly one French translation. A perfect learner
  reaches 100 BLEU.
- Each pair comes with its **word alignment**, so an attention head can be
  scored as an aligner.
- Each "it" and "they" comes with its **antecedent**, the noun it stands for.

{{py:func}}`~minitransformer.storybook.splits` makes the corpus, the same on
every machine, in some seconds and without a network.

## What is hard about it

French makes the learner decide what English leaves open.

- **Agreement.** Articles, adjectives and participles take the gender and
  number of a noun that may be far away: *La lettre que le juge a écrite*.
- **Order.** Most adjectives follow the noun, some precede it: *le grand
  château*, *la porte rouge*. "Not" is two words around the verb.
- **Sound.** *le* becomes *l'* before a vowel, *de le* becomes *du*.
- **Tense.** An action in the past is *a mangé*, a state *était*; some verbs
  take *être*.
- **The pronoun.** "It" is *il* or *elle*, by the gender of the noun it stands
  for. Which noun that is, only the meaning tells:

> The animal did not cross the street because **it** was too tired.
> → *parce qu'**il** était trop fatigué* (l'animal)
>
> The animal did not cross the street because **it** was too wide.
> → *parce qu'**elle** était trop large* (la rue)

The predicate always suits one of the two nouns and not the other, and the two
nouns nearly always differ in gender. A rule that takes the nearest noun, the
first noun, or always *il* is right in little more than half of the cases; a
dictionary that knows the best French word for each English word stays below
40 BLEU. The tests of the package measure both.

## Patterns

The lexicon holds {nouns} nouns, {adjectives} adjectives and {verbs} verbs. A
sentence follows one of {patterns} patterns:

| pattern | such as |
| --- | --- |
{examples}

## Alignment

Words of one unit are all linked with each other; every word has a link.

- An article is linked with the article, an adjective with the adjective.
- A verb and its helpers are one unit: "did open" with *a ouvert*, "will
  see" with *verra*. "Not" is another: with *ne* and *pas*.
- A contraction belongs to both its parts: *du* is linked as *de* and as *le*.
- "'s" is linked with *de* and with the article that French needs there.

## Splits

A checksum of the English sentence puts it in "train", "valid" or "test", so
no sentence can be in two of them. The **compositional** test is another thing:
{held_out} pairs of a noun and what is said of it, one in {share} of those that
could be, are never seen together in the other splits. A sentence
with such a pair can only be translated by a learner who knows the two words
from other company.

## Thirty pairs

As they come from seed {seed}, none left out.

| English | French | "it" is |
| --- | --- | --- |
{pairs}
"""


def render() -> str:
    """Return the text of the page."""
    told = (pair for pair, _ in storybook.stories(SEED))
    rows = []
    for pair in itertools.islice(told, 30):
        nouns = [
            storybook.words(pair.source)[pronoun.source_antecedent]
            for pronoun in pair.pronouns
        ]
        rows.append(f"| {pair.source} | {pair.target} | {' '.join(nouns)} |")
    examples = [
        f"| {pattern.__name__.replace('_', ' ')} |"
        f" {(pattern.__doc__ or '').strip()} |"
        for pattern, _ in PATTERNS
    ]
    return PAGE.format(
        nouns=len(lexicon.NOUNS),
        adjectives=len(lexicon.ADJECTIVES),
        verbs=len(lexicon.VERBS) + len(lexicon.PLAIN_VERBS),
        patterns=len(PATTERNS),
        examples="\n".join(examples),
        held_out=len(storybook.HELD_OUT_PAIRS),
        share=storybook.HELD_OUT,
        seed=SEED,
        pairs="\n".join(rows),
    )


if __name__ == "__main__":
    page = BOOK / "storybook.md"
    page.write_text(render(), encoding="utf-8", newline="\n")
