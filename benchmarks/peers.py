"""Other libraries' Transformers, with the weights of ours.

torch comes with one; the others are measured where ``make peers`` has put
them. Each is built to our sizes, given our weights, and asked for the same
logits before anything is timed. They take our ids: PAD 0, BOS 1, EOS 2.
"""

import logging
import math
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer import Transformer
from minitransformer.config import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from minitransformer.ctranslate2_export import write_ctranslate2
from minitransformer.data import Batch
from minitransformer.decoding import beam_search, greedy_decode
from minitransformer.text import SPECIAL_TOKENS

SIZES: dict[str, Any] = {  # three layers of each, 256 wide
    "source_vocab_size": 8_000,
    "d_model": 256,
    "d_ff": 1_024,
    "num_heads": 8,
    "num_encoder_layers": 3,
    "num_decoder_layers": 3,
    "norm_first": False,  # Marian knows no other
}
SMALL = SIZES | {"source_vocab_size": 200, "d_model": 32, "d_ff": 64}
PACKAGES = "ctranslate2", "joeynmt", "transformers", "x-transformers"
Found = list[list[int]]  # each sentence's ids, without BOS and EOS


def copy_into(theirs: nn.Module, **ours: nn.Module | Tensor) -> None:
    """Copy weights to the submodules of these names."""
    for name, source in ours.items():
        target = theirs.get_submodule(name.replace("__", "."))
        if isinstance(source, Tensor):
            source = SimpleNamespace(weight=source)
        with torch.no_grad():
            target.weight.copy_(source.weight)
            if getattr(source, "bias", None) is not None:
                target.bias.copy_(source.bias)


def smoothed_loss(logits: Tensor, batch: Batch, smoothing: float) -> Tensor:
    """Return torch's own cross-entropy per label."""
    return F.cross_entropy(
        logits.flatten(0, 1),
        batch.labels.flatten(),
        ignore_index=PAD_ID,
        label_smoothing=smoothing,
    )


def padding_mask(source: Tensor) -> Tensor | None:
    """Return where padding is, or ``None`` if nothing is padded.

    A mask that hides nothing costs a peer time; ours needs none either.
    """
    hidden = source == PAD_ID
    return hidden if bool(hidden.any()) else None


def until_eos(rows: list[list[int]]) -> Found:
    """Cut each row at its EOS."""
    return [row[: row.index(EOS_ID)] if EOS_ID in row else row for row in rows]


class Ours:
    """This package, under the names the peers use."""

    def __init__(self, model: Transformer):
        self.model = model

    def search(self, source: Tensor, beams: int, limit: int) -> Found:
        if beams == 1:
            return greedy_decode(self.model, source, limit)
        found = beam_search(self.model, source, beams, 1.0, limit)
        return [hypotheses[0].ids for hypotheses in found]


class TorchTransformer(nn.Module):
    """``nn.Transformer`` as a careful user writes it.

    Args:
        ours: Its weights are copied.
        drop_weights: Whether attention weights are dropped too, as it does
            unless told otherwise, and as no other model here does.
    """

    def __init__(self, ours: Transformer, drop_weights: bool = False):
        super().__init__()
        config = ours.config
        self.width = config.d_model
        self.embedding = nn.Embedding(config.source_vocab_size, self.width)
        self.positions = ours.source_positions.table
        self.dropout = nn.Dropout(config.dropout)
        with warnings.catch_warnings():  # torch says so of every pre-norm
            warnings.filterwarnings("ignore", message="enable_nested_tensor")
            self.transformer = nn.Transformer(
                self.width,
                config.num_heads,
                config.num_encoder_layers,
                config.num_decoder_layers,
                config.d_ff,
                config.dropout,
                batch_first=True,
                norm_first=config.norm_first,
            )
        for module in self.transformer.modules():
            if isinstance(module, nn.MultiheadAttention) and not drop_weights:
                module.dropout = 0.0
        # a path for inference alone, which warns that it is a prototype
        self.transformer.encoder.use_nested_tensor = False
        copy_into(self, embedding=ours.source_embedding)
        for stack, layers, norm in (
            (self.transformer.encoder, ours.encoder, ours.encoder_norm),
            (self.transformer.decoder, ours.decoder, ours.decoder_norm),
        ):
            if config.norm_first:
                copy_into(stack, norm=norm)
            else:
                stack.norm = None
            for their, our in zip(stack.layers, layers, strict=True):
                self.copy_layer(their, our)

    def copy_layer(self, their: nn.Module, our: nn.Module) -> None:
        pairs = [(their.self_attn, our.self_attention)]
        norms = [our.add_norm1, our.add_norm2]
        if hasattr(our, "cross_attention"):
            pairs.append((their.multihead_attn, our.cross_attention))
            norms.append(our.add_norm3)
        for packed, own in pairs:
            parts = own.w_q, own.w_k, own.w_v
            with torch.no_grad():
                packed.in_proj_weight.copy_(
                    torch.cat([p.weight for p in parts])
                )
                packed.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
            copy_into(packed, out_proj=own.w_o)
        for number, part in enumerate(norms, 1):
            copy_into(their, **{f"norm{number}": part.norm})
        inner = our.feed_forward
        copy_into(their, linear1=inner.linear1, linear2=inner.linear2)

    def embed(self, ids: Tensor) -> Tensor:
        embedded = self.embedding(ids) * math.sqrt(self.width)  # (B, T, D)
        return self.dropout(embedded + self.positions[: ids.shape[1]])

    def logits(self, batch: Batch) -> Tensor:
        hidden_keys = padding_mask(batch.source)
        hidden = self.transformer(
            self.embed(batch.source),
            self.embed(batch.decoder_input),
            tgt_mask=nn.Transformer.generate_square_subsequent_mask(
                batch.decoder_input.shape[1]
            ),
            src_key_padding_mask=hidden_keys,
            tgt_key_padding_mask=None,  # the causal mask hides it already
            memory_key_padding_mask=hidden_keys,
            tgt_is_causal=True,
        )
        return hidden @ self.embedding.weight.T

    def loss(self, batch: Batch, smoothing: float) -> Tensor:
        return smoothed_loss(self.logits(batch), batch, smoothing)


class Marian(nn.Module):
    """Hugging Face's ``MarianMTModel``, which is post-norm."""

    def __init__(self, ours: Transformer):
        super().__init__()
        from transformers import MarianConfig, MarianMTModel
        from transformers.utils import logging as transformers_logging

        transformers_logging.set_verbosity_error()
        config = ours.config
        if config.norm_first:
            raise ValueError("Marian's layers are post-norm")
        sides = {
            "layers": (config.num_encoder_layers, config.num_decoder_layers),
            "attention_heads": (config.num_heads, config.num_heads),
            "ffn_dim": (config.d_ff, config.d_ff),
        }
        self.model = MarianMTModel(
            MarianConfig(
                **{f"encoder_{name}": both[0] for name, both in sides.items()},
                **{f"decoder_{name}": both[1] for name, both in sides.items()},
                vocab_size=config.source_vocab_size,
                d_model=config.d_model,
                dropout=config.dropout,
                activation_dropout=config.dropout,
                attention_dropout=0.0,
                activation_function="relu",
                max_position_embeddings=config.max_len,
                pad_token_id=PAD_ID,
                bos_token_id=BOS_ID,
                eos_token_id=EOS_ID,
                decoder_start_token_id=BOS_ID,
                forced_eos_token_id=None,
                tie_word_embeddings=True,
                scale_embedding=True,
            )
        )
        base = self.model.model
        copy_into(base, shared=ours.source_embedding)
        for side, layers in (
            (base.encoder, ours.encoder),
            (base.decoder, ours.decoder),
        ):
            copy_into(side, embed_positions=ours.source_positions.table)
            for their, our in zip(side.layers, layers, strict=True):
                self.copy_layer(their, our)

    def copy_layer(self, their: nn.Module, our: nn.Module) -> None:
        parts = {"self_attn": our.self_attention}
        norms = {"self_attn_layer_norm": our.add_norm1.norm}
        last = our.add_norm2.norm
        if hasattr(our, "cross_attention"):
            parts["encoder_attn"] = our.cross_attention
            norms["encoder_attn_layer_norm"] = our.add_norm2.norm
            last = our.add_norm3.norm
        for name, own in parts.items():
            copy_into(
                their.get_submodule(name),
                q_proj=own.w_q,
                k_proj=own.w_k,
                v_proj=own.w_v,
                out_proj=own.w_o,
            )
        copy_into(their, **norms, final_layer_norm=last)
        inner = our.feed_forward
        copy_into(their, fc1=inner.linear1, fc2=inner.linear2)

    def logits(self, batch: Batch) -> Tensor:
        found: Tensor = self.model(
            input_ids=batch.source,
            attention_mask=(batch.source != PAD_ID).long(),
            decoder_input_ids=batch.decoder_input,
            use_cache=False,
        ).logits
        return found

    def loss(self, batch: Batch, smoothing: float) -> Tensor:
        return smoothed_loss(self.logits(batch), batch, smoothing)

    @torch.inference_mode()
    def search(self, source: Tensor, beams: int, limit: int) -> Found:
        rows = self.model.generate(
            input_ids=source,
            attention_mask=(source != PAD_ID).long(),
            num_beams=beams,
            early_stopping=beams > 1,  # as we stop
            do_sample=False,
            max_new_tokens=limit,
        )
        return until_eos(rows[:, 1:].tolist())


class Joey(nn.Module):
    """JoeyNMT's model; its ids of PAD and UNK differ from ours."""

    def __init__(self, ours: Transformer):
        super().__init__()
        from joeynmt.model import build_model
        from joeynmt.transformer_layers import MultiHeadedAttention
        from joeynmt.vocabulary import Vocabulary

        logging.getLogger("joeynmt.model").setLevel(logging.ERROR)

        config = ours.config
        # their order: UNK, PAD, BOS, EOS
        self.to_theirs = torch.arange(config.source_vocab_size)
        self.to_theirs[[UNK_ID, PAD_ID, BOS_ID, EOS_ID]] = torch.arange(4)
        self.to_ours = self.to_theirs.argsort()
        unk, pad, bos, eos = (
            SPECIAL_TOKENS[i] for i in (UNK_ID, PAD_ID, BOS_ID, EOS_ID)
        )
        vocabulary = Vocabulary(
            [f"word{i}" for i in range(config.source_vocab_size - 4)],
            SimpleNamespace(
                **{"unk_token": unk, "unk_id": 0, "pad_token": pad},
                **{"pad_id": 1, "bos_token": bos, "bos_id": 2},
                **{"eos_token": eos, "eos_id": 3, "sep_token": None},
                **{"sep_id": None, "lang_tags": []},
            ),
        )
        sizes = {
            "type": "transformer",
            "num_heads": config.num_heads,
            "hidden_size": config.d_model,
            "ff_size": config.d_ff,
            "dropout": config.dropout,
            "layer_norm": "pre" if config.norm_first else "post",
            "embeddings": {
                "embedding_dim": config.d_model,
                "scale": True,
                "dropout": config.dropout,
            },
        }
        layers = config.num_encoder_layers, config.num_decoder_layers
        self.model = build_model(
            {
                "encoder": {**sizes, "num_layers": layers[0]},
                "decoder": {**sizes, "num_layers": layers[1]},
                "tied_embeddings": True,
                "tied_softmax": True,
            },
            vocabulary,
            vocabulary,
        )
        self.model.loss_function = ("crossentropy", 0.1)
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = 1e-5
            elif isinstance(module, MultiHeadedAttention):
                module.dropout.p = 0.0  # of the weights
        copy_into(
            self.model,
            src_embed__lut=ours.source_embedding.weight[self.to_ours],
        )
        for side, layers, norm in (
            (self.model.encoder, ours.encoder, ours.encoder_norm),
            (self.model.decoder, ours.decoder, ours.decoder_norm),
        ):
            if config.norm_first:
                copy_into(side, layer_norm=norm)
            for their, our in zip(side.layers, layers, strict=True):
                self.copy_layer(their, our)

    def copy_layer(self, their: nn.Module, our: nn.Module) -> None:
        if hasattr(our, "cross_attention"):
            parts = {
                "trg_trg_att": our.self_attention,
                "src_trg_att": our.cross_attention,
            }
            norms = {
                "x_layer_norm": our.add_norm1.norm,
                "dec_layer_norm": our.add_norm2.norm,
            }
            last = our.add_norm3.norm
        else:
            parts = {"src_src_att": our.self_attention}
            norms = {"layer_norm": our.add_norm1.norm}
            last = our.add_norm2.norm
        for name, own in parts.items():
            copy_into(
                their.get_submodule(name),
                q_layer=own.w_q,
                k_layer=own.w_k,
                v_layer=own.w_v,
                output_layer=own.w_o,
            )
        inner = our.feed_forward
        copy_into(
            their,
            **norms,
            feed_forward__layer_norm=last,
            feed_forward__pwff_layer__0=inner.linear1,
            feed_forward__pwff_layer__3=inner.linear2,
        )

    def arguments(self, batch: Batch) -> dict[str, Any]:
        mask = (batch.source != PAD_ID)[:, None]  # (B, 1, S)
        return {
            "src": self.to_theirs[batch.source],
            "src_length": mask.sum(-1).squeeze(1),
            "src_mask": mask,
            "trg_input": self.to_theirs[batch.decoder_input],
            "trg_mask": (batch.decoder_input != PAD_ID)[:, None],
        }

    def logits(self, batch: Batch) -> Tensor:
        found = self.model._encode_decode(**self.arguments(batch))[0]
        return found[..., self.to_theirs]

    def loss(self, batch: Batch, smoothing: float) -> Tensor:
        """Return JoeyNMT's own loss, whose smoothing is set above."""
        labels = self.to_theirs[batch.labels]
        loss, *_ = self.model(
            return_type="loss", trg=labels, **self.arguments(batch)
        )
        return loss / batch.num_tokens

    @torch.inference_mode()
    def search(self, source: Tensor, beams: int, limit: int) -> Found:
        from joeynmt.search import beam_search as joey_beam
        from joeynmt.search import greedy as joey_greedy

        mask = (source != PAD_ID)[:, None]  # (B, 1, S)
        output, hidden, _, _ = self.model(
            return_type="encode",
            src=self.to_theirs[source],
            src_length=mask.sum(-1).squeeze(1),
            src_mask=mask,
        )
        common = {
            "model": self.model,
            "src_mask": mask,
            "max_output_length": limit,
            "encoder_output": output,
            "encoder_hidden": hidden,
        }
        if beams == 1:
            rows, *_ = joey_greedy(**common)
        else:
            rows, *_ = joey_beam(beam_size=beams, alpha=1.0, **common)
        return until_eos(self.to_ours[torch.as_tensor(rows)].tolist())


class XTransformers(nn.Module):
    """x-transformers' encoder-decoder: the same sizes, its own weights.

    Its own loss would read one more position of each sentence, whose logits
    it throws away, and smooth nothing.
    """

    def __init__(self, ours: Transformer):
        super().__init__()
        from x_transformers import XTransformer

        config = ours.config
        sides = {
            "num_tokens": config.source_vocab_size,
            "heads": config.num_heads,
            "attn_dim_head": config.d_model // config.num_heads,
            "ff_mult": config.d_ff / config.d_model,
            "max_seq_len": config.max_len,
            "attn_flash": True,
            "ff_dropout": config.dropout,
            "ff_sublayer_dropout": config.dropout,
            "attn_sublayer_dropout": config.dropout,
            "emb_dropout": config.dropout,
        }
        self.model = XTransformer(
            dim=config.d_model,
            **{f"enc_{name}": value for name, value in sides.items()},
            **{f"dec_{name}": value for name, value in sides.items()},
            enc_depth=config.num_encoder_layers,
            dec_depth=config.num_decoder_layers,
            tie_token_emb=True,
            ignore_index=PAD_ID,
            pad_value=PAD_ID,
        )
        decoder = self.model.decoder.net
        decoder.to_logits.weight = decoder.token_emb.emb.weight

    def loss(self, batch: Batch, smoothing: float) -> Tensor:
        hidden = padding_mask(batch.source)
        mask = None if hidden is None else ~hidden
        encoded = self.model.encoder(
            batch.source, mask=mask, return_embeddings=True
        )
        logits = self.model.decoder.net(
            batch.decoder_input, context=encoded, context_mask=mask
        )
        return smoothed_loss(logits, batch, smoothing)


class CTranslate2:
    """The engine that `Translator.export` writes for."""

    def __init__(
        self,
        ours: Transformer,
        quantization: str | None = None,
        threads: int = 1,
    ):
        import ctranslate2

        self.names = [
            *SPECIAL_TOKENS,
            *(f"word{i}" for i in range(4, ours.config.source_vocab_size)),
        ]
        self.ids = {name: i for i, name in enumerate(self.names)}
        tokenizer: Any = SimpleNamespace(
            vocab_size=len(self.names),
            tokens=lambda ids: [self.names[i] for i in ids],
        )
        with tempfile.TemporaryDirectory() as folder:
            write_ctranslate2(
                ours, tokenizer, tokenizer, Path(folder), quantization
            )
            self.engine = ctranslate2.Translator(
                folder,
                compute_type=quantization or "float32",
                intra_threads=threads,
            )

    def search(self, source: Tensor, beams: int, limit: int) -> Found:
        # the engine adds EOS itself
        rows = [
            [self.names[i] for i in row if i not in (PAD_ID, EOS_ID)]
            for row in source.tolist()
        ]
        found = self.engine.translate_batch(
            rows, beam_size=beams, max_decoding_length=limit
        )
        return [
            [self.ids[name] for name in one.hypotheses[0]] for one in found
        ]


def installed(
    kinds: dict[str, Any], ours: Transformer
) -> tuple[dict[str, Any], list[str]]:
    """Build the peers that are here, and name those that are not."""
    built: dict[str, Any] = {}
    missing = []
    for name, kind in kinds.items():
        try:
            built[name] = kind(ours)
        except ImportError:
            missing.append(name)
    return built, missing


def check_logits(ours: Transformer, peer: Any, batch: Batch) -> None:
    """Stop if a peer doesn't give our logits."""
    with torch.no_grad():
        expected = ours(batch.source, batch.decoder_input)
        found = peer.logits(batch)
    real = batch.labels != PAD_ID
    torch.testing.assert_close(
        found[real], expected[real], rtol=1e-3, atol=1e-3
    )
