"""Hand a trained translator to an engine that is made for serving."""

import shutil
from pathlib import Path
from uuid import uuid4

from minitransformer.ctranslate2_export import write_ctranslate2
from minitransformer.errors import UserError
from minitransformer.model import Transformer
from minitransformer.onnx_export import write_onnx
from minitransformer.text import Tokenizer

FORMATS = ("ctranslate2", "onnx")


def export_model(
    model: Transformer,
    source_tokenizer: Tokenizer,
    target_tokenizer: Tokenizer,
    format: str,
    path: str | Path,
    quantization: str | None = None,
) -> None:
    """Write a model, and its tokenizers, for another engine.

    Args:
        model: The model.
        source_tokenizer: Of the source language.
        target_tokenizer: Of the target language.
        format: ``"ctranslate2"``, see `write_ctranslate2`, or ``"onnx"``, see
            `write_onnx`.
        path: The folder to make; it appears whole or not at all.
        quantization: For CTranslate2 alone: ``"int8"`` and the like.

    Raises:
        UserError: If the format is unknown, its library is not installed, or
            the folder exists or can't be written.
    """
    if format not in FORMATS:
        raise UserError(
            f"format={format!r} is unknown: choose ctranslate2 or onnx."
        )
    if format == "onnx" and quantization is not None:
        raise UserError(
            f"quantization={quantization!r} is for ctranslate2 alone: leave"
            " it out for onnx."
        )
    path = Path(path)
    if path.exists():
        raise UserError(f"{path} exists already: choose another folder.")
    parts = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
    try:
        parts.mkdir(parents=True)
        source_tokenizer.save(parts / "source.tokenizer.json")
        target_tokenizer.save(parts / "target.tokenizer.json")
        if format == "onnx":
            write_onnx(model, parts)
        else:
            write_ctranslate2(
                model, source_tokenizer, target_tokenizer, parts, quantization
            )
        parts.rename(path)
    except OSError as error:
        raise UserError(
            f"{path} can't be written ({error.strerror or error}): make room"
            " or choose another place."
        ) from error
    finally:
        shutil.rmtree(parts, ignore_errors=True)
