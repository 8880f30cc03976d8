"""Text to token ids and back: byte-pair encoding (Sennrich et al., 2016)."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as RustTokenizer

from minitransformer.config import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from minitransformer.errors import UserError
from minitransformer.files import write_text

SPECIAL_TOKENS = ["<pad>", "<bos>", "<eos>", "<unk>"]
SPECIAL_IDS = {PAD_ID, BOS_ID, EOS_ID, UNK_ID}

SPACE = "▁"  # stands for a space; before every word of an alphabet
JOINER = "‿"  # before SPACE: the text has no space here

# Chinese and Japanese write no spaces between words.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}"
LETTER = rf"[\p{{L}}\p{{M}}&&[^{UNSPACED}]]"
ENDING = rf"(?i:s|t|d|m|re|ve|ll)(?!{LETTER})"  # of it's, don't, we'd, I'm ...
APOSTROPHE = "['’]"
WORD_START = (
    rf"(?<!{LETTER})(?<!{SPACE})(?={LETTER})"
    rf"(?!(?<={LETTER}{APOSTROPHE}){ENDING})"
)
PIECE = "|".join(
    [
        rf"(?<={LETTER}){APOSTROPHE}{ENDING}",
        rf"{SPACE}?{LETTER}+(?:{APOSTROPHE}{JOINER})?",
        rf"[{UNSPACED}]+",
        rf"{SPACE}?[^\s{SPACE}{JOINER}\p{{L}}\p{{M}}]{JOINER}?",
    ]
)


def normalize(text: str) -> str:
    r"""Give text one spelling: NFC, single spaces, none at the ends.

    >>> normalize("  cafe\u0301\t\n noir ")
    'café noir'
    """
    return " ".join(unicodedata.normalize("NFC", text).split())


class Tokenizer:
    """Cut text into pieces of words that are in a vocabulary, as ids.

    Text is cut into words, numbers' digits and punctuation marks first, and
    byte-pair encoding works inside each. ``▁`` starts a word; ``‿▁`` starts
    one that follows without a space, so that ``l'animal`` and ``animal.``
    share the token ``▁animal`` with ``un animal``.

    Make one with `train`, `load` or `from_json`.
    """

    def __init__(self, tokenizer: RustTokenizer) -> None:
        # Without this, "<eos>" typed by a user would be read as EOS.
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer

    @classmethod
    def train(
        cls,
        lines: Iterable[str],
        vocab_size: int,
        max_characters: int = 3000,
    ) -> "Tokenizer":
        """Learn a vocabulary: the same lines always give the same one.

        Args:
            lines: Text of one language, or of all that share the vocabulary.
            vocab_size: Tokens wanted, four special ones included. Fewer are
                made if the text has no more pairs to merge.
            max_characters: Characters kept, the most frequent ones. It only
                matters for Chinese; the others become UNK.

        Raises:
            UserError: If there is no text, or ``vocab_size`` does not hold
                its characters.
        """
        tokenizer = _untrained()
        texts = [_clean(line) for line in lines]
        characters = _characters(tokenizer, texts)[:max_characters]
        if not characters:
            raise UserError(
                "There is no text to learn a vocabulary from: give some lines."
            )
        # The marks are always known, whatever the text is.
        alphabet = sorted({*characters, SPACE, JOINER})
        smallest = len(alphabet) + len(SPECIAL_TOKENS)
        if vocab_size < smallest:
            raise UserError(
                f"{vocab_size=} is too small for the {len(alphabet)}"
                f" characters of the text: ask for {smallest} or more."
            )
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            special_tokens=SPECIAL_TOKENS,
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    @property
    def vocab_size(self) -> int:
        """Number of tokens, the special ones included."""
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Turn text into ids, without BOS or EOS."""
        return self._tokenizer.encode(_clean(text)).ids

    def encode_batch(self, lines: Iterable[str]) -> list[list[int]]:
        """Turn many lines into ids, faster than one by one."""
        texts = [_clean(line) for line in lines]
        return [coded.ids for coded in self._tokenizer.encode_batch(texts)]

    def decode(self, ids: Iterable[int]) -> str:
        """Turn ids into text, without the special tokens.

        Raises:
            UserError: If an id is not in the vocabulary.
        """
        # A tensor's elements must be ints to be found in a set.
        numbers = [i for i in map(int, ids) if i not in SPECIAL_IDS]
        names = self.tokens(numbers)
        text = "".join(names).replace(JOINER + SPACE, "").replace(JOINER, "")
        return normalize(text.replace(SPACE, " "))

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Name the token of each id.

        Raises:
            UserError: If an id is not in the vocabulary.
        """
        return [self._token(int(i)) for i in ids]

    def word_ids(
        self, text: str, words: Sequence[str] | None = None
    ) -> list[int]:
        """Say for each token of ``text`` which word it belongs to.

        Args:
            text: The text, as given to `encode`.
            words: Its words in order, if they are not just what stands
                between spaces. Joined, they must be the text without spaces.

        Returns:
            For each token, the index of the word its first character is in.

        Raises:
            UserError: If the words are not those of the text.
        """
        text = _clean(text)
        if words is None:
            words = text.split()
        if "".join(_clean(word) for word in words).replace(
            " ", ""
        ) != text.replace(" ", ""):
            raise UserError(
                f"The words {list(words)} are not those of {text!r}: give"
                " every word and punctuation mark, in order."
            )
        owners = [
            index
            for index, word in enumerate(words)
            for _ in _clean(word).replace(" ", "")
        ]
        found, start = [], 0
        for token in self.tokens(self.encode(text)):
            found.append(owners[start])
            unknown = token == SPECIAL_TOKENS[UNK_ID]  # of one character
            start += 1 if unknown else len(_unmarked(token))
        return found

    def to_json(self) -> str:
        """Write everything down as JSON."""
        return self._tokenizer.to_str()

    @classmethod
    def from_json(cls, text: str) -> "Tokenizer":
        """Make the tokenizer that `to_json` wrote down.

        Raises:
            UserError: If it's not one of ours.
        """
        try:
            tokenizer = RustTokenizer.from_str(text)
            specials = [tokenizer.id_to_token(i) for i in range(4)]
        except Exception as error:  # the library raises no narrower class
            raise UserError(
                "This is not the JSON of a tokenizer: it may be damaged."
            ) from error
        if specials != SPECIAL_TOKENS:
            raise UserError(
                f"The tokenizer's first tokens are {specials}, not"
                f" {SPECIAL_TOKENS}: train one with Tokenizer.train."
            )
        return cls(tokenizer)

    def save(self, path: str | Path) -> None:
        """Write the tokenizer to a JSON file.

        Raises:
            UserError: If the file can't be written.
        """
        write_text(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read the tokenizer that `save` wrote.

        Raises:
            UserError: If the file is missing, or no tokenizer.
        """
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{path} is missing: check the path.") from None
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path} is no tokenizer file of ours, or is damaged: give"
                " one that Tokenizer.save wrote."
            ) from error

    def _token(self, index: int) -> str:
        token = None
        if 0 <= index < self.vocab_size:
            token = self._tokenizer.id_to_token(index)
        if token is None:
            raise UserError(
                f"Token id {index} is not in the vocabulary of"
                f" {self.vocab_size}: use the tokenizer the ids came from."
            )
        return token


def _untrained() -> RustTokenizer:
    """Set up how text is marked and cut; the merges are still to learn."""
    tokenizer = RustTokenizer(models.BPE(unk_token=SPECIAL_TOKENS[UNK_ID]))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(" ", SPACE),
            normalizers.Replace(Regex(rf"^(?={LETTER})"), SPACE),
            normalizers.Replace(Regex(WORD_START), JOINER + SPACE),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE), "isolated")
    return tokenizer


def _clean(text: str) -> str:
    """Normalise, and take our two marks out of the user's text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode(errors="replace").decode()
    text = text.replace(SPACE, "_").replace(JOINER, "_")
    return normalize(text)


def _unmarked(token: str) -> str:
    return token.replace(SPACE, "").replace(JOINER, "")


def _characters(tokenizer: RustTokenizer, texts: Iterable[str]) -> list[str]:
    """List the characters of marked text, the most frequent ones first."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(tokenizer.normalizer.normalize_str(text))
    return sorted(
        counts, key=lambda character: (-counts[character], character)
    )
