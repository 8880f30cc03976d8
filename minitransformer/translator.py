"""From a sentence to its translation: a model and its two tokenizers."""

import inspect
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from minitransformer.checkpoints import (
    load_config,
    load_weights,
    save_config,
    save_weights,
)
from minitransformer.config import BOS_ID, EOS_ID, UNK_ID
from minitransformer.data import encode_source, pad
from minitransformer.decoding import LENGTH_PENALTY, beam_search
from minitransformer.errors import UserError
from minitransformer.exporting import export_model
from minitransformer.model import Transformer
from minitransformer.packed_decoder import lay_out
from minitransformer.processor import choose_device
from minitransformer.recording import recorded_attention
from minitransformer.sampling import sample
from minitransformer.text import Tokenizer, normalize

# After Latin letters a sentence ends at a space (not in 3.5), if what is next
# may begin one, but not at a title; Chinese writes no space, and needs none.
# Looking behind a mark, a run of marks is tried once, not from each of them.
SENTENCE_END = re.compile(
    r"\b(?P<title>Mr|Mrs|Ms|Dr|St|M|Mme|Mlle)\.\s+"
    r"|(?<![.!?])[.!?]+[\"'”’»)\]]*\s+(?=(?P<next>\S))"
    r"|[。！？]+[”’」』）]*\s*"
)
SHIPPED = Path(str(resources.files("minitransformer"))) / "models"
UNSPACED = ("zh", "ja")  # languages that write no space between sentences


@dataclass(frozen=True)
class Attended:
    """A translation, and where the model looked while writing it.

    Attributes:
        source_tokens: What the encoder read, ``S`` tokens, EOS last.
        target_tokens: What the decoder read, ``T`` tokens, BOS first.
        predicted_tokens: What each of these rows had to predict: the target
            tokens moved by one, EOS last.
        maps: Layer name to weights ``(H, T, S)``, as `recorded_attention`
            names them.
        translation: The text.
    """

    source_tokens: list[str]
    target_tokens: list[str]
    predicted_tokens: list[str]
    maps: dict[str, Tensor]
    translation: str


class Translator:
    """Translate text with a trained model.

    Args:
        model: The model, on the device it should run on.
        source_tokenizer: Of the source language.
        target_tokenizer: Of the target language; may be the same object.
        facts: What is known of the model, such as ``corpus``,
            ``source_language`` and ``target_language``.
    """

    def __init__(
        self,
        model: Transformer,
        source_tokenizer: Tokenizer,
        target_tokenizer: Tokenizer,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model.eval()
        self.source_tokenizer = source_tokenizer
        self.target_tokenizer = target_tokenizer
        self.facts = dict(facts or {})

    @classmethod
    def load(
        cls, path_or_name: str | Path, device: str = "cpu"
    ) -> "Translator":
        """Load a checkpoint folder, or a model that comes with the package.

        Args:
            path_or_name: A folder that `save` or training wrote, or a name
                such as ``"storybook-en-fr"``.
            device: Where the model should run; see `choose_device`.

        Raises:
            UserError: If there is no such model or device, or its files are
                damaged.
        """
        place = choose_device(device)
        folder = find_model(path_or_name)
        config, source_tokenizer, target_tokenizer, about = load_config(folder)
        model = Transformer(config)
        load_weights(folder, model)
        lay_out(model)
        return cls(model.to(place), source_tokenizer, target_tokenizer, about)

    def save(self, path: str | Path, small: bool = False) -> None:
        """Write a checkpoint folder that `load` reads.

        Args:
            path: The folder.
            small: Whether to round the weights to a quarter of the room; see
                `compact`.

        Raises:
            UserError: If the folder cannot be written.
        """
        folder = Path(path)
        save_config(
            folder,
            self.model.config,
            self.source_tokenizer,
            self.target_tokenizer,
            self.facts,
        )
        weights = self.model.state_dict()
        save_weights(folder, self.model.config, weights, {}, small)

    def export(
        self, format: str, path: str | Path, quantization: str | None = None
    ) -> None:
        """Write a folder for an engine that serves faster than torch.

        Args:
            format: ``"ctranslate2"`` or ``"onnx"``.
            path: The folder to make.
            quantization: For CTranslate2 alone: ``"int8"`` and the like.

        Raises:
            UserError: See `export_model`.
        """
        export_model(
            self.model,
            self.source_tokenizer,
            self.target_tokenizer,
            format,
            path,
            quantization,
        )

    @property
    def device(self) -> torch.device:
        """The device the model is on."""
        return self.model.output.weight.device

    @overload
    def translate(
        self,
        text: str,
        beam_size: int = ...,
        length_penalty: float = ...,
        batch_size: int = ...,
    ) -> str: ...

    @overload
    def translate(
        self,
        text: list[str] | tuple[str, ...],
        beam_size: int = ...,
        length_penalty: float = ...,
        batch_size: int = ...,
    ) -> list[str]: ...

    def translate(
        self,
        text: str | list[str] | tuple[str, ...],
        beam_size: int = 4,
        length_penalty: float = LENGTH_PENALTY,
        batch_size: int = 64,
    ) -> str | list[str]:
        """Translate one text or many.

        A text may hold several sentences; each is translated on its own.
        Sentences of like length share a batch, and a text gets the same
        translation alone or among others.

        Args:
            text: One text, or a list of them.
            beam_size: Hypotheses kept per sentence; 1 is greedy decoding.
            length_penalty: See `beam_search`.
            batch_size: Sentences translated together.

        Returns:
            The translation, or the translations in the order of the texts.

        Raises:
            UserError: If a text is empty, or a sentence has more tokens than
                the model can read.
        """
        alone = isinstance(text, str)
        translations = self.translate_lines(
            [text] if isinstance(text, str) else text,
            beam_size=beam_size,
            length_penalty=length_penalty,
            batch_size=batch_size,
            place=("The text" if alone else "texts[{}]").format,
        )
        return translations[0] if alone else translations

    def translate_lines(
        self,
        lines: Sequence[str],
        *,
        beam_size: int = 4,
        length_penalty: float = LENGTH_PENALTY,
        batch_size: int = 64,
        split: bool = True,
        place: Callable[[int], str] = "Line {}".format,
        progress: Callable[[int], object] | None = None,
    ) -> list[str]:
        """Translate many texts; like `translate`, with more to choose.

        Args:
            lines: The texts.
            beam_size: As in `translate`.
            length_penalty: As in `translate`.
            batch_size: As in `translate`.
            split: Translate each sentence of a text on its own.
            place: What an error should call the text of an index.
            progress: Called with the number of texts finished so far, again
                and again.
        """
        if batch_size < 1:
            raise UserError(f"{batch_size=} must be 1 or more.")
        owners, sources = self._prepare(lines, split, place)
        waiting = Counter(owners)  # for each text, its unfinished sentences
        outputs = [""] * len(sources)
        for batch in _batches(sources, batch_size):
            source = self._pad([sources[i] for i in batch])
            found = beam_search(
                self.model,
                source,
                beam_size,
                length_penalty,
                self._output_limit(len(sources[batch[0]])),
            )
            for i, hypotheses in zip(batch, found, strict=True):
                outputs[i] = self.target_tokenizer.decode(hypotheses[0].ids)
                waiting[owners[i]] -= 1
            if progress:
                progress(sum(count == 0 for count in waiting.values()))
        parts: list[list[str]] = [[] for _ in lines]
        for owner, output in zip(owners, outputs, strict=True):
            parts[owner].append(output)
        return [self._space().join(sentences) for sentences in parts]

    def _prepare(
        self, lines: Sequence[str], split: bool, place: Callable[[int], str]
    ) -> tuple[list[int], list[list[int]]]:
        """Check the texts and turn each sentence into ids.

        Returns:
            For each sentence, the index of its text, and its ids.
        """
        owners: list[int] = []
        sentences: list[str] = []
        strange: list[str] = []
        for i, line in enumerate(lines):
            if not isinstance(line, str):
                raise UserError(f"{place(i)} is {line!r}: give a string.")
            text = normalize(line)
            if not text:
                raise UserError(
                    f"{place(i)} is empty: give at least one word to"
                    " translate."
                )
            if self._is_strange(text):
                strange.append(place(i))
            parts = split_sentences(text) if split else [text]
            sentences += parts
            owners += [i] * len(parts)
        sources = encode_source(self.source_tokenizer, sentences)
        for owner, ids, sentence in zip(
            owners, sources, sentences, strict=True
        ):
            self._check_length(ids, sentence, place(owner))
        if strange:
            self._warn_of(strange)
        return owners, sources

    def sample(
        self,
        text: str,
        count: int = 1,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
    ) -> list[str]:
        """Draw translations of a text by chance; see `sampling.sample`.

        Args:
            text: One text; each of its sentences is translated on its own.
            count: Translations to draw. Some may be the same.
            temperature: Below 1 the likely words gain, above 1 they lose.
            top_k: Draw among so many of the likeliest words.
            top_p: Draw among the fewest words that have this probability.
            seed: The same seed gives the same translations.

        Returns:
            ``count`` translations, as they were drawn.

        Raises:
            UserError: As in `translate`, or if a choice is impossible.
        """
        _, sources = self._prepare([text], True, "The text".format)
        found = sample(
            self.model,
            self._pad(sources),
            count,
            temperature,
            top_k,
            top_p,
            seed,
            max(self._output_limit(len(ids)) for ids in sources),
        )
        decode = self.target_tokenizer.decode
        return [
            self._space().join(decode(sentence.ids) for sentence in drawn)
            for drawn in zip(*found, strict=True)
        ]

    def attention(self, text: str, translation: str | None = None) -> Attended:
        """Translate one sentence and keep every attention map.

        Args:
            text: One sentence.
            translation: Look at how the model reads this translation; without
                it, at the model's own.

        Raises:
            UserError: If a text is empty or too long for the model.
        """
        sources = self._encode_source(normalize(text), "The text")
        source = self._pad([sources])  # (1, S)
        if translation is None:
            limit = self._output_limit(len(sources))
            found = beam_search(self.model, source, max_len=limit)
            ids = found[0][0].ids
            translation = self.target_tokenizer.decode(ids)
            # One that was cut short leaves no room for BOS: show the rest.
            ids = ids[: self.model.config.max_len - 1]
        else:
            ids = self._encode_target(translation)
        target = self._pad([[BOS_ID, *ids]])  # (1, T)
        with torch.no_grad(), recorded_attention(self.model) as maps:
            self.model(source, target)
        names = self.target_tokenizer.tokens
        return Attended(
            self.source_tokenizer.tokens(sources),
            names([BOS_ID, *ids]),
            names([*ids, EOS_ID]),
            {name: weights[0] for name, weights in maps.items()},
            translation,
        )

    def _encode_source(self, sentence: str, place: str) -> list[int]:
        """Turn a sentence into ids with EOS, if it has words and fits."""
        if not sentence:
            raise UserError(
                f"{place} is empty: give at least one word to translate."
            )
        ids = [*self.source_tokenizer.encode(sentence), EOS_ID]
        self._check_length(ids, sentence, place)
        return ids

    def _encode_target(self, translation: str) -> list[int]:
        """Turn a given translation into ids, if it has words and fits."""
        translation = normalize(translation)
        if not translation:
            raise UserError(
                "The translation is empty: give one, or None for the"
                " model's own."
            )
        ids = self.target_tokenizer.encode(translation)
        self._check_length([BOS_ID, *ids], translation, "The translation")
        return ids

    def _check_length(self, ids: list[int], sentence: str, place: str) -> None:
        limit = self.model.config.max_len
        if len(ids) > limit:
            raise UserError(
                f"{place} has a sentence of {len(ids)} tokens"
                f" ({sentence[:30]!r}...), but the model reads {limit} at"
                " most: split it into shorter sentences."
            )

    def _space(self) -> str:
        """Say what stands between two sentences of the target language."""
        language = str(self.facts.get("target_language", ""))
        return "" if language.startswith(UNSPACED) else " "

    def _pad(self, rows: list[list[int]]) -> Tensor:
        """Make a ``(B, S)`` tensor where the model is."""
        return pad(rows).to(self.device)

    def _output_limit(self, length: int) -> int:
        """Say how long a translation may be; alike for all of a batch."""
        return min(self.model.config.max_len, 2 * _bucket(length) + 10)

    def _is_strange(self, text: str) -> bool:
        """Tell whether most letters of a text are none the model knows."""
        ids = [
            id_ for id_ in self.source_tokenizer.encode(text) if id_ != UNK_ID
        ]
        known = "".join(self.source_tokenizer.tokens(ids))
        return 2 * _count_letters(known) < _count_letters(text)

    def _warn_of(self, strange: list[str]) -> None:
        others = f" and {len(strange) - 1} more" if strange[1:] else ""
        verb = "are" if strange[1:] else "is"
        language = self.facts.get("source_language", "und")
        expected = f" (it reads {language!r})" if language != "und" else ""
        warnings.warn(
            f"{strange[0]}{others} {verb} mostly in letters the model has"
            f" never seen{expected}: expect nonsense.",
            stacklevel=_levels_inside(),
        )


def find_model(path_or_name: str | Path) -> Path:
    """Find a checkpoint folder, or the folder of a model we ship.

    Raises:
        UserError: If there is neither; the message lists the names.
    """
    folder = Path(path_or_name)
    if folder.exists():
        return folder
    names = sorted(path.name for path in SHIPPED.glob("*") if path.is_dir())
    if str(path_or_name) in names:
        return SHIPPED / path_or_name
    raise UserError(
        f"There is no model {str(path_or_name)!r}: give the folder of a"
        " checkpoint" + (f", or one of {', '.join(names)}." if names else ".")
    )


def split_sentences(text: str) -> list[str]:
    """Cut a text after each sentence.

    >>> split_sentences("It costs 3.5 euros. Mr. Li paid! Did you?")
    ['It costs 3.5 euros.', 'Mr. Li paid!', 'Did you?']
    >>> split_sentences("你好！我叫小明。")
    ['你好！', '我叫小明。']
    """
    sentences, start = [], 0
    for match in SENTENCE_END.finditer(text):
        following = match["next"] or ""
        # Before a small letter, as in "e.g. this", the sentence goes on; but
        # islower() would never end one in Georgian, which has no capitals.
        if not match["title"] and following == following.title():
            sentences.append(text[start : match.end()].strip())
            start = match.end()
    rest = text[start:].strip()
    return [*sentences, rest] if rest else sentences


def _bucket(length: int) -> int:
    """Round a length up to a multiple of 16."""
    return -(-length // 16) * 16


def _batches(
    sources: Sequence[Sequence[int]], batch_size: int
) -> Iterator[list[int]]:
    """Yield the indexes of sentences of like length, the longest first.

    A batch holds one bucket only. So the limit on a translation, and with it
    the translation, does not depend on the company a sentence is in.
    """
    order = sorted(range(len(sources)), key=lambda i: -len(sources[i]))
    for _, group in groupby(order, key=lambda i: _bucket(len(sources[i]))):
        bucket = list(group)
        for start in range(0, len(bucket), batch_size):
            yield bucket[start : start + batch_size]


def _levels_inside() -> int:
    """Count the calls inside this file, to warn of the line that led here."""
    frame, levels = inspect.currentframe(), 0
    while frame and frame.f_globals is globals():
        frame, levels = frame.f_back, levels + 1
    return levels


def _count_letters(text: str) -> int:
    return sum(map(str.isalpha, text))
