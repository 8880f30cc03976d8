"""Train a translator, and go on where a killed run stopped."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint
from tqdm import tqdm

from minitransformer.checkpoints import (
    load_tensors,
    save_tensors,
    save_weights,
)
from minitransformer.config import PAD_ID
from minitransformer.data import (
    Batch,
    Example,
    bucketed,
    endless_batches,
    make_batch,
)
from minitransformer.errors import UserError
from minitransformer.loss import output_loss
from minitransformer.processor import computes_bf16
from minitransformer.recurrent import TranslationModel
from minitransformer.workers import Workers


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How to train. All of it decides the weights; nothing else does.

    Attributes:
        updates: Number of optimizer updates.
        batch_tokens: Size of a batch; see `bucketed`.
        accumulate: Batches whose gradients each worker adds up for one
            update.
        learning_rate: The highest rate.
        warmup: Updates over which the rate rises to it, in a straight line.
        schedule: What follows: ``"inverse_sqrt"`` (Vaswani et al., 2017,
            section 5.3), ``"cosine"`` or ``"linear"`` to zero.
        betas: AdamW's two memories (Loshchilov and Hutter, 2019).
        weight_decay: Share of each matrix taken off, times the rate.
        clip: Greatest norm of the gradient.
        label_smoothing: Share of the target spread over the vocabulary
            (Szegedy et al., 2016, section 7).
        average: Memory of the running average of the weights that is
            validated and kept; 0 keeps the last weights themselves.
        validate_every: Updates between validations and checkpoints.
        patience: Validations without a better loss before stopping early; 0
            never stops early.
        precision: ``"fp32"``, ``"bf16"`` (autocast), or ``"auto"``: bf16
            where the processor computes with it.
        seed: Decides the first weights, the order and the dropout.
    """

    updates: int = 10_000
    batch_tokens: int = 2_048
    accumulate: int = 1
    learning_rate: float = 1e-3
    warmup: int = 400
    schedule: str = "cosine"
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    clip: float = 1.0
    label_smoothing: float = 0.1
    average: float = 0.998
    validate_every: int = 500
    patience: int = 0
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 1 if field.name in _COUNTS else 0
            if field.type in (int, float) and not least <= value < math.inf:
                raise UserError(
                    f"{field.name}={value} must be at least {least}."
                )
        for name in ("label_smoothing", "average"):
            if getattr(self, name) >= 1:
                raise UserError(
                    f"{name}={getattr(self, name)} must be below 1."
                )
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise UserError(
                    f"{name}={getattr(self, name)!r} is unknown: choose one of"
                    f" {', '.join(known)}."
                )
        object.__setattr__(self, "betas", tuple(self.betas))


_COUNTS = ("updates", "batch_tokens", "accumulate", "validate_every")
_CHOICES = {
    "schedule": ("inverse_sqrt", "cosine", "linear"),
    "precision": ("auto", "fp32", "bf16"),
}


def rate_at(update: int, options: TrainingOptions) -> float:
    """Return the learning rate of an update, counted from 0.

    >>> options = TrainingOptions(warmup=4, updates=20, learning_rate=1.0)
    >>> [round(rate_at(update, options), 2) for update in (0, 3, 4, 12, 19)]
    [0.25, 1.0, 1.0, 0.5, 0.01]
    """
    top = options.learning_rate
    if update < options.warmup:
        return top * (update + 1) / options.warmup
    if options.schedule == "inverse_sqrt":
        return top * math.sqrt(max(options.warmup, 1) / (update + 1))
    done = update - options.warmup
    done_share = done / max(options.updates - options.warmup, 1)
    if options.schedule == "linear":
        return top * (1 - done_share)
    return top * (1 + math.cos(math.pi * done_share)) / 2


def translation_loss(
    model: TranslationModel, batch: Batch, label_smoothing: float = 0.0
) -> Tensor:
    """Return the cross-entropy of a batch, summed over its labels.

    With smoothing ε each label is worth ``1 - ε``, and ε is spread evenly
    over the vocabulary. Padding counts nothing, and costs no logits.

    Args:
        model: The model.
        batch: The batch.
        label_smoothing: ε.

    Returns:
        A scalar, in nats.
    """
    memory = model.encode(batch.source)
    hidden = model.decode_hidden(batch.decoder_input, memory, batch.source)
    real = batch.labels != PAD_ID  # (B, T)
    return output_loss(
        hidden[real], model.output.weight, batch.labels[real], label_smoothing
    )


class TranslationLoss(nn.Module):
    """`translation_loss` as a module, which workers can share.

    Args:
        model: The model.
        label_smoothing: ε.
    """

    def __init__(self, model: TranslationModel, label_smoothing: float):
        super().__init__()
        self.model = model
        self.label_smoothing = label_smoothing

    def forward(self, batch: Batch) -> Tensor:
        """Return the summed loss of a batch."""
        return translation_loss(self.model, batch, self.label_smoothing)


def layers_of(model: TranslationModel) -> list[nn.Module]:
    """List the layers of both stacks; a recurrent model has none."""
    stacks = model.encoder, model.decoder
    lists = [each for each in stacks if isinstance(each, nn.ModuleList)]
    return [layer for stack in lists for layer in stack]


def recompute_layers(model: TranslationModel) -> None:
    """Let each layer remember its input alone, and work again for the rest.

    The gradient needs what a layer computed on the way. Computing that a
    second time, when its turn comes, leaves one layer's share in memory at
    a time (Chen et al., 2016). Weights, coins and gradient stay the same to
    the last bit; the time grows by another forward pass.

    Args:
        model: Is changed in place.
    """
    for layer in layers_of(model):
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)


def choose_precision(wanted: str, device: torch.device) -> str:
    """Turn ``"auto"`` into ``"bf16"`` where the device computes with it."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(False) else "fp32"
    if device.type != "cpu":
        return "fp32"
    return "bf16" if computes_bf16() else "fp32"


class Trainer:
    """A model in training, with all that decides how it goes on.

    Args:
        model: The model; its weights are changed in place.
        train: Examples to learn from.
        valid: Examples to choose the best weights by.
        options: How to train.
        device: Where to compute.
        workers: The processes that train the model together.
        recompute: Whether to `recompute_layers`.
    """

    def __init__(
        self,
        model: TranslationModel,
        train: Sequence[Example],
        valid: Sequence[Example],
        options: TrainingOptions,
        device: torch.device | str = "cpu",
        workers: Workers | None = None,
        recompute: bool = False,
    ):
        self.device = torch.device(device)
        self.workers = workers or Workers()
        self.model = model.to(self.device)
        self.averaged = copy.deepcopy(self.model).eval()
        if recompute:
            recompute_layers(self.model)
        self.options = options
        objective = self._shard(self.model, options.label_smoothing)
        self.objective = self.workers.share(objective, self.device)
        self.judge = self._shard(self.averaged, 0.0)
        self.train = train
        self.valid = [
            make_batch(group)
            for group in bucketed(valid, 2 * options.batch_tokens, seed=0)
        ]
        self.precision = choose_precision(options.precision, self.device)
        decayed = [p for p in model.parameters() if p.ndim > 1]
        others = [p for p in model.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": options.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=options.learning_rate,
            betas=options.betas,
            eps=1e-9,
            fused=self.device.type in ("cpu", "cuda"),
        )
        self.updates = 0
        self.best_loss = math.inf
        self.checks_since_best = 0
        self.core_seconds = 0.0
        self.steepest = 0.0  # greatest norm of a gradient since a checkpoint
        self.history: list[dict[str, float]] = []

    def _shard(
        self, model: TranslationModel, label_smoothing: float
    ) -> nn.Module:
        """Return the loss as a module, divided if the workers divide it."""
        loss = TranslationLoss(model, label_smoothing)
        return self.workers.shard(loss, layers_of(model))

    def update(self, batches: Sequence[Batch]) -> tuple[float, int]:
        """Make one update from one or more batches.

        Adding up the gradients of several batches, each weighted by its
        tokens, equals one big batch (if dropout is off).

        Args:
            batches: Those of all workers, as many for each; a worker takes
                its own.

        Returns:
            The loss per token, in nats, and the number of tokens.

        Raises:
            UserError: If the loss or its gradient is not finite; nothing is
                updated.
        """
        self.model.train()
        num_tokens = sum(batch.num_tokens for batch in batches)
        rank, size = self.workers.rank, self.workers.size
        *others, last = batches[rank::size]
        with self._unshared():
            total = sum(
                self._add_gradient(each, num_tokens) for each in others
            )
        total += self._add_gradient(last, num_tokens)
        (total,) = self.workers.sum(total, device=self.device)
        self._check_finite("loss", total)
        norm = self.workers.whole(
            nn.utils.clip_grad_norm_(
                self.model.parameters(), self.options.clip
            )
        ).item()
        self._check_finite("gradient's norm", norm)
        self.steepest = max(self.steepest, norm)
        rate = rate_at(self.updates, self.options)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.updates += 1
        self._average()
        return total / num_tokens, num_tokens

    def _check_finite(self, name: str, value: float) -> None:
        """Stop before a number that is none reaches the weights."""
        if not math.isfinite(value):
            self.optimizer.zero_grad()  # or it would stay for the next one
            raise UserError(
                f"The {name} is {value} at update {self.updates}: train again"
                " with a lower learning rate; the last good checkpoint is"
                " kept."
            )

    def _add_gradient(self, batch: Batch, num_tokens: int) -> float:
        """Add the gradient of a batch's share of the loss; return its sum."""
        with self._autocast():
            loss: Tensor = self.objective(batch.to(self.device))
        share = self.workers.size / num_tokens  # they take the mean
        (loss * share).backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _unshared(self) -> AbstractContextManager[None]:
        """Keep gradients to this worker: they will be shared with more."""
        if isinstance(self.objective, DistributedDataParallel):
            return self.objective.no_sync()
        return nullcontext()

    @torch.no_grad()
    def _average(self) -> None:
        """Move the running average towards the weights.

        Early on the memory is short, or the first weights would linger.
        """
        early = (1 + self.updates) / (20 + self.updates)
        memory = min(self.options.average, early)
        torch._foreach_lerp_(
            list(self.averaged.parameters()),
            list(self.model.parameters()),
            1 - memory,
        )

    @torch.no_grad()
    def validate(self) -> float:
        """Return the loss per token of the averaged weights, unsmoothed."""
        total, num_tokens = 0.0, 0
        rank, size = self.workers.rank, self.workers.size
        for start in range(0, len(self.valid), size):
            # Workers that gather weights together need a batch each.
            batch = self.valid[min(start + rank, len(self.valid) - 1)]
            with self._autocast():
                loss = self.judge(batch.to(self.device))
            if start + rank < len(self.valid):
                total += float(loss)
                num_tokens += batch.num_tokens
        total, count = self.workers.sum(total, num_tokens, device=self.device)
        return total / count

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type,
            torch.bfloat16,
            enabled=self.precision == "bf16",
        )

    def save(self, path: Path) -> None:
        """Write everything that decides how training goes on."""
        tensors = {}
        for name, state in self._random_states().items():
            states = self.workers.gather(state, self.device)
            for rank, each in enumerate(states):
                tensors[f"{name}.{rank}" if rank else name] = each
        whole = self.workers.whole
        for name, tensor in self.model.named_parameters():
            tensors[f"model.{name}"] = whole(tensor)
            for key, value in self.optimizer.state.get(tensor, {}).items():
                tensors[f"{key}.{name}"] = whole(value)
        for name, tensor in self.averaged.named_parameters():
            tensors[f"averaged.{name}"] = whole(tensor)
        if not self.workers.leads:
            return
        facts = {
            "updates": self.updates,
            "best_loss": self.best_loss,
            "checks_since_best": self.checks_since_best,
            "core_seconds": self.core_seconds,
            "history": self.history,
            "precision": self.precision,
            "workers": self.workers.size,
        }
        save_tensors(path, tensors, facts)

    @torch.no_grad()
    def load(self, path: Path) -> None:
        """Read what `save` wrote.

        Raises:
            UserError: If the file is damaged, or was written by another
                number of workers.
        """
        tensors, facts = load_tensors(path)
        size = facts.get("workers", 1)
        if size != self.workers.size:
            raise UserError(
                f"{path.parent} was trained by {size} processes, not"
                f" {self.workers.size}: resume with as many."
            )
        self.updates = facts["updates"]
        self.best_loss = facts["best_loss"]
        self.checks_since_best = facts["checks_since_best"]
        self.core_seconds = facts["core_seconds"]
        self.history = facts["history"]
        self.precision = facts["precision"]
        part_of = self.workers.part_of
        tensors = {k: v.to(self.device) for k, v in tensors.items()}
        for name, tensor in self.averaged.named_parameters():
            tensor.copy_(part_of(tensors[f"averaged.{name}"], tensor))
        for name, tensor in self.model.named_parameters():
            tensor.copy_(part_of(tensors[f"model.{name}"], tensor))
            if f"step.{name}" in tensors:
                self.optimizer.state[tensor] = {
                    "step": tensors[f"step.{name}"],
                    **{
                        key: part_of(tensors[f"{key}.{name}"], tensor)
                        for key in ("exp_avg", "exp_avg_sq")
                    },
                }
        rank = f".{self.workers.rank}" if self.workers.rank else ""
        torch.set_rng_state(tensors[f"rng{rank}"].cpu())
        if f"cuda_rng{rank}" in tensors:
            state = tensors[f"cuda_rng{rank}"].cpu()
            torch.cuda.set_rng_state(state, self.device)

    def _random_states(self) -> dict[str, Tensor]:
        """Return what decides this worker's next random numbers."""
        states = {"rng": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda_rng"] = torch.cuda.get_rng_state(self.device)
        return states

    @property
    def finished(self) -> bool:
        """Whether all updates are made, or patience has run out."""
        patience = self.options.patience
        return self.updates >= self.options.updates or (
            0 < patience <= self.checks_since_best
        )

    def run(self, folder: Path, report: Callable[[str], None]) -> None:
        """Train to the end, keeping the best and the last state on disk.

        Args:
            folder: Gets ``model.safetensors``, the best weights so far, and
                ``last.safetensors``, all that is needed to go on.
            report: Called with a line at each validation.
        """
        wanted = self.options.accumulate * self.workers.size
        batches = endless_batches(
            self.train,
            self.options.batch_tokens,
            self.options.seed,
            skip=self.updates * wanted,
        )
        meter = _Meter(
            self.updates, self.options.updates, not self.workers.leads
        )
        if not self.updates:  # weights never stand without a state to go on
            self.save(folder / "last.safetensors")
        with meter.bar:
            while not self.finished:
                group = list(islice(batches, wanted))
                meter.add(*self.update(group))
                if (
                    self.updates % self.options.validate_every == 0
                    or self.updates == self.options.updates
                ):
                    self._checkpoint(folder, meter)
                    if self.workers.leads:
                        report(meter.line(self.history[-1]))

    def _checkpoint(self, folder: Path, meter: "_Meter") -> None:
        """Validate, and write the best weights and the whole state."""
        (spent,) = self.workers.sum(meter.core_seconds(), device=self.device)
        self.core_seconds += spent
        valid_loss = self.validate()
        self._check_finite("validation loss", valid_loss)
        self.checks_since_best += 1
        facts = {
            "update": self.updates,
            "train_loss": meter.loss(),
            "valid_loss": valid_loss,
            "gradient_norm": self.steepest,
        }
        self.steepest = 0.0
        self.history.append(facts)
        if valid_loss < self.best_loss:
            self.best_loss = valid_loss
            self.checks_since_best = 0
            weights = {
                name: self.workers.whole(tensor)
                for name, tensor in self.averaged.state_dict().items()
            }
            if self.workers.leads:
                save_weights(folder, self.averaged.config, weights, facts)
        self.save(folder / "last.safetensors")


class _Meter:
    """Measures a run: loss since the last line, speed, time left."""

    def __init__(self, done: int, updates: int, silent: bool):
        self.first, self.updates = done, updates
        self.started = time.monotonic()
        self.core_started = time.process_time()
        self.loss_sum, self.tokens, self.all_tokens = 0.0, 0, 0
        self.bar = tqdm(
            initial=done,
            total=updates,
            unit="update",
            disable=silent or None,  # a bar is for a terminal only
        )

    def add(self, loss: float, tokens: int) -> None:
        self.loss_sum += loss * tokens
        self.tokens += tokens
        self.all_tokens += tokens
        self.bar.set_postfix_str(
            f"loss {loss:.2f}, {self.speed():,.0f} tokens/s", refresh=False
        )
        self.bar.update()

    def speed(self) -> float:
        return self.all_tokens / (time.monotonic() - self.started)

    def loss(self) -> float:
        loss, self.loss_sum = self.loss_sum / self.tokens, 0.0
        self.tokens = 0
        return loss

    def core_seconds(self) -> float:
        now = time.process_time()
        spent, self.core_started = now - self.core_started, now
        return spent

    def line(self, facts: dict[str, float]) -> str:
        done = int(facts["update"])
        elapsed = time.monotonic() - self.started
        left = elapsed * (self.updates - done) / (done - self.first) / 60
        return (
            f"update {done:,} of {self.updates:,}:"
            f" loss {facts['train_loss']:.3f},"
            f" validation {facts['valid_loss']:.3f},"
            f" gradient up to {facts['gradient_norm']:.1f},"
            f" {self.speed():,.0f} tokens/s, {left:.0f} min left"
        )
