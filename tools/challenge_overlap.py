"""Check that no sentence of challenge-zh-en is in tatoeba-zh-en.

python tools/challenge_overlap.py

Case, punctuation and spaces make no difference. The first time, it fetches
Tatoeba.
"""

import sys

from minitransformer.challenge import challenge_items
from minitransformer.corpora import load_corpus
from minitransformer.pairs import fold


def main() -> int:
    """Print what is in both; return how many sentences that is."""
    known = {
        fold(text)
        for pairs in load_corpus("tatoeba-zh-en").splits.values()
        for pair in pairs
        for text in (pair.source, *pair.all_references)
    }
    ours = [
        text
        for item in challenge_items()
        for text in (item.source, *item.references)
    ]
    both = [text for text in ours if fold(text) in known]
    for text in both:
        print(text)
    print(f"{len(ours)} texts of ours, {len(both)} of them in tatoeba-zh-en")
    return len(both)


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
