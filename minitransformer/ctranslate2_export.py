"""Write a model for CTranslate2, an engine made for serving."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from minitransformer.attention import MultiHeadAttention
from minitransformer.config import BOS_ID, EOS_ID, UNK_ID
from minitransformer.errors import UserError
from minitransformer.layers import DecoderLayer, EncoderLayer
from minitransformer.model import Transformer
from minitransformer.residual import LayerNorm
from minitransformer.text import SPECIAL_TOKENS, Tokenizer


def write_ctranslate2(
    model: Transformer,
    source_tokenizer: Tokenizer,
    target_tokenizer: Tokenizer,
    folder: Path,
    quantization: str | None = None,
) -> None:
    """Write a folder that ``ctranslate2.Translator`` reads.

    The engine takes the names of tokens and adds EOS to the source itself.

    Args:
        model: The model.
        source_tokenizer: Of the source language.
        target_tokenizer: Of the target language.
        folder: An existing folder, which gets the files.
        quantization: ``None`` for float32, or ``"int8"`` and the like.

    Raises:
        UserError: If CTranslate2 is not installed or cannot quantize so.
    """
    try:
        from ctranslate2.specs import Activation, TransformerSpec
    except ImportError:
        raise UserError(
            "CTranslate2 is not installed: run"
            " `pip install minitransformer[export]`."
        ) from None
    config = model.config
    spec = TransformerSpec.from_config(
        (config.num_encoder_layers, config.num_decoder_layers),
        config.num_heads,
        pre_norm=config.norm_first,
        no_final_norm=not config.final_norm,
        activation=Activation.RELU,
    )
    (source_embedding,) = spec.encoder.embeddings
    _weight(source_embedding, model.source_embedding)
    _weight(spec.decoder.embeddings, model.target_embedding)
    _weight(spec.decoder.projection, model.output)
    spec.encoder.position_encodings.encodings = _array(
        model.source_positions.table
    )
    spec.decoder.position_encodings.encodings = _array(
        model.target_positions.table
    )
    for part, layers, norm in (
        (spec.encoder, model.encoder, model.encoder_norm),
        (spec.decoder, model.decoder, model.decoder_norm),
    ):
        for theirs, ours in zip(part.layer, layers, strict=True):
            _layer(theirs, cast(EncoderLayer | DecoderLayer, ours))
        if isinstance(norm, LayerNorm):
            _norm(part.layer_norm, norm)
    spec.register_source_vocabulary(_names(source_tokenizer))
    spec.register_target_vocabulary(_names(target_tokenizer))
    spec.config.add_source_eos = True
    spec.config.bos_token = SPECIAL_TOKENS[BOS_ID]
    spec.config.decoder_start_token = SPECIAL_TOKENS[BOS_ID]
    spec.config.eos_token = SPECIAL_TOKENS[EOS_ID]
    spec.config.unk_token = SPECIAL_TOKENS[UNK_ID]
    spec.validate()
    try:
        spec.optimize(quantization=quantization)
    except ValueError as error:
        raise UserError(
            f"CTranslate2 has no quantization {quantization!r}: {error}."
        ) from None
    spec.save(str(folder))


def _names(tokenizer: Tokenizer) -> list[str]:
    """List the tokens in the order of their ids."""
    return tokenizer.tokens(range(tokenizer.vocab_size))


def _array(*tensors: torch.Tensor) -> np.ndarray[Any, Any]:
    """Stack tensors to one array of its own: quantizing changes it."""
    return torch.cat(tensors).detach().float().cpu().numpy().copy()


def _weight(theirs: Any, ours: nn.Embedding | nn.Linear) -> None:
    theirs.weight = _array(ours.weight)


def _linear(theirs: Any, *ours: nn.Linear) -> None:
    """Pack projections of one input into one matrix."""
    theirs.weight = _array(*(linear.weight for linear in ours))
    theirs.bias = _array(*(linear.bias for linear in ours))


def _norm(theirs: Any, ours: LayerNorm) -> None:
    theirs.gamma, theirs.beta = _array(ours.weight), _array(ours.bias)


def _attention(theirs: Any, ours: MultiHeadAttention) -> None:
    """Copy a self-attention (qkv, o) or a cross-attention (q, kv, o)."""
    *inward, outward = theirs.linear
    if len(inward) == 1:
        _linear(inward[0], ours.w_q, ours.w_k, ours.w_v)
    else:
        _linear(inward[0], ours.w_q)
        _linear(inward[1], ours.w_k, ours.w_v)
    _linear(outward, ours.w_o)


def _layer(theirs: Any, ours: EncoderLayer | DecoderLayer) -> None:
    """Copy a layer; each of its norms stands with its sublayer there."""
    _attention(theirs.self_attention, ours.self_attention)
    parts = [theirs.self_attention, theirs.ffn]
    norms = [ours.add_norm1.norm, ours.add_norm2.norm]
    if isinstance(ours, DecoderLayer):
        _attention(theirs.attention, ours.cross_attention)
        parts.insert(1, theirs.attention)
        norms.append(ours.add_norm3.norm)
    for part, norm in zip(parts, norms, strict=True):
        _norm(part.layer_norm, norm)
    _linear(theirs.ffn.linear_0, ours.feed_forward.linear1)
    _linear(theirs.ffn.linear_1, ours.feed_forward.linear2)
