"""Models on the disk: safetensors for numbers, JSON for all else.

A model is a folder with ``config.json`` (sizes, languages, where it comes
from), its tokenizers, and ``model.safetensors``. Nothing is ever unpickled.
Each file is written whole or not at all, and carries what is needed to notice
that it was cut short or altered.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from minitransformer.compact import compact, restore
from minitransformer.config import TransformerConfig
from minitransformer.errors import UserError
from minitransformer.files import atomic_write, read_json, write_json
from minitransformer.recurrent import RecurrentConfig, TranslationModel
from minitransformer.text import Tokenizer

FORMAT = 1  # raise it whenever an old file would be misread
WEIGHTS = "model.safetensors"


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of some tensors' names, shapes and bytes."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> None:
    """Write tensors and JSON facts to one file, whole or not at all.

    Args:
        path: The ``.safetensors`` file.
        tensors: What to keep; shared storage is written once for each name.
        facts: Anything JSON can hold.

    Raises:
        UserError: If the disk is full or the place can't be written to.
    """
    copies = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in tensors.items()
    }
    header = {
        "format": str(FORMAT),
        "sha256": digest(copies),
        "facts": json.dumps(facts, sort_keys=True),
    }
    with atomic_write(path) as temporary:
        try:
            save_file(copies, temporary, metadata=header)
        except SafetensorError as error:
            raise OSError(None, str(error)) from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote, also while it writes the next one.

    Returns:
        The tensors, and the facts.

    Raises:
        UserError: If the file is missing, cut short, altered, or of another
            format.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing: check the model's folder.")
    try:
        # One read: safe_open opens the path twice, for the header and for the
        # numbers, and between the two a training may replace the file.
        content = path.read_bytes()
        tensors = load(content)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is damaged or no safetensors file: copy or train the"
            " model again."
        ) from error
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end]).get("__metadata__", {})
    if header.get("format") != str(FORMAT):
        raise UserError(
            f"{path} has format {header.get('format')!r}, and this version"
            f" reads format {FORMAT}: use the minitransformer that wrote it,"
            " or train again."
        )
    if header.get("sha256") != digest(tensors):
        raise UserError(
            f"{path} was altered after it was written: copy or train the"
            " model again."
        )
    return tensors, json.loads(header["facts"])


def save_config(
    folder: Path,
    config: TransformerConfig,
    source_tokenizer: Tokenizer,
    target_tokenizer: Tokenizer,
    about: Mapping[str, Any],
) -> None:
    """Write all of a model but its weights.

    Args:
        folder: Where; it is made if need be.
        config: The model's sizes.
        source_tokenizer: For the source language.
        target_tokenizer: For the target language; the same object where the
            two share one vocabulary.
        about: Anything worth knowing of the model that JSON can hold.
    """
    tokenizers = {"source": source_tokenizer, "target": target_tokenizer}
    if source_tokenizer is target_tokenizer:
        tokenizers = {"shared": source_tokenizer}
    hashes = {}
    for name, tokenizer in tokenizers.items():
        file = folder / f"{name}.tokenizer.json"
        tokenizer.save(file)
        hashes[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    write_json(
        folder / "config.json",
        {
            "format": FORMAT,
            "config": asdict(config),
            "tokenizers": hashes,
            "about": dict(about),
        },
    )


def save_weights(
    folder: Path,
    config: TransformerConfig | RecurrentConfig,
    weights: Mapping[str, Tensor],
    facts: Mapping[str, Any],
    small: bool = False,
) -> None:
    """Write a model's weights beside its `save_config`.

    Args:
        folder: Where to.
        config: The model's.
        weights: Its ``state_dict``.
        facts: Anything JSON can hold.
        small: Whether to `compact` them.
    """
    again = set()  # the target embedding, once more
    if config.tie_embeddings:
        again.add("output.weight")
        if config.target_vocab_size is None:
            again.add("target_embedding.weight")
    kept = {k: v for k, v in weights.items() if k not in again}
    save_tensors(
        folder / WEIGHTS,
        compact(kept) if small else kept,
        {
            **facts,
            "config": asdict(config),
            "tokenizers": _tokenizer_hashes(folder),
        },
    )


def _tokenizer_hashes(folder: Path) -> Any:
    """Return what config.json notes of its tokenizers, if it is there."""
    file = folder / "config.json"
    return read_json(file)["tokenizers"] if file.exists() else None


def load_config(
    folder: Path,
) -> tuple[TransformerConfig, Tokenizer, Tokenizer, dict[str, Any]]:
    """Read what `save_config` wrote.

    Returns:
        The config, the two tokenizers (one object where they are shared), and
        what was noted about the model.

    Raises:
        UserError: If the folder holds no model, or one that is damaged or of
            another format.
    """
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{folder} holds no model: name a folder that `minitransformer"
            " train` wrote."
        )
    content = read_json(folder / "config.json")
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise UserError(
            f"{folder} has format {found!r}, and this version reads format"
            f" {FORMAT}: use the minitransformer that wrote it, or train"
            " again."
        )
    try:
        config = TransformerConfig(**content["config"])
        hashes, about = dict(content["tokenizers"]), dict(content["about"])
    except (KeyError, TypeError, ValueError, UserError) as error:
        raise UserError(
            f"{folder / 'config.json'} is not as it was written ({error}):"
            " copy the model again."
        ) from error
    tokenizers = []
    for name, expected in hashes.items():
        file = folder / name
        if not file.is_file():
            raise UserError(f"{file} is missing: copy the model again.")
        if hashlib.sha256(file.read_bytes()).hexdigest() != expected:
            raise UserError(
                f"{file} was altered after it was written: copy the model"
                " again."
            )
        tokenizers.append(Tokenizer.load(file))
    if not 1 <= len(tokenizers) <= 2:
        raise UserError(
            f"{folder} names {len(tokenizers)} tokenizers, not one or two:"
            " copy the model again."
        )
    return config, tokenizers[0], tokenizers[-1], about


def load_weights(folder: Path, model: TranslationModel) -> dict[str, Any]:
    """Read a model's weights into ``model``.

    Returns:
        The facts that were saved with them.

    Raises:
        UserError: If the file is damaged, or is another model's.
    """
    path = folder / WEIGHTS
    tensors, facts = load_tensors(path)
    try:
        config = type(model.config)(**facts["config"])
    except (KeyError, TypeError, UserError):
        config = None  # another kind of model's
    if config != model.config:
        raise UserError(
            f"{path} belongs to a model of another config than config.json"
            " beside it: copy the whole folder again."
        )
    hashes = facts.get("tokenizers")  # older files have none
    if hashes and hashes != _tokenizer_hashes(folder):
        raise UserError(
            f"{path} was learned with other tokenizers than those beside it:"
            " copy the whole folder again."
        )
    weights = restore(tensors)
    try:
        if model.config.tie_embeddings:
            if model.target_embedding is model.source_embedding:
                shared = weights["source_embedding.weight"]
                weights["target_embedding.weight"] = shared
            weights["output.weight"] = weights["target_embedding.weight"]
        model.load_state_dict(weights)
    except (KeyError, RuntimeError) as error:
        raise UserError(
            f"{path} lacks some of the weights that its config asks for: copy"
            " the whole folder again."
        ) from error
    return facts
