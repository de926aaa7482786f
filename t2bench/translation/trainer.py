"""Trainer: the training of any variant on sentence pairs, in pieces, exactly continued after each.

One update: `accumulate` batches of the plan, the mean loss of a target token over all of them (so that it is the update
of one batch of all their pairs), its gradient clipped, one step of Adam. The plan follows from the seed and the lengths
of the text, so all variants of a seed see the same pairs together in the same order. On a CPU equal seeds give equal
weights, bit for bit, in however many pieces.

Matrix products are in the case's dtype. 16 bits without autocast are possible in bf16 only, where updates that are
small beside a weight are lost; fp16 goes with autocast, and with a scaled loss (Micikevicius et al. 2018, section 3.2),
whose scale is found on the way: updates with infinite gradients are left out.

Shape letters: B batch, T length, D width, N labels.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from t2bench.models.init import mixed_seed
from t2bench.models.precision import PRECISIONS
from t2bench.models.transformer import Transformer, build
from t2bench.quality.batching import BatchStream, EncodedPairs, gather, plan_batches
from t2bench.spec.model import ModelSpec
from t2bench.spec.quality import Recipe
from t2bench.translation import checkpoint
from t2bench.translation.inputs import Feed, check_trainable, feed
from t2bench.translation.selection import Selection
from t2bench.translation.watch import Diverged, Watch

__all__ = ["Diverged", "Progress", "Trainer"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Where a training is.

    Attributes:
        step: updates so far.
        loss: nats for each target token over the updates of the last `advance`, label smoothing included; NaN before
            the first.
        lr: learning rate of the last update.
        tokens: source and target tokens trained on so far, ends and begins included, padding not.
        time_s: seconds spent in `advance` so far, before a checkpoint included.
        cpu_s: the same in seconds of this process's processors.
    """

    step: int
    loss: float
    lr: float
    tokens: int
    time_s: float
    cpu_s: float


class Trainer:
    """One training of one variant.

    Args:
        spec: the variant.
        recipe: how it is trained.
        train: the pairs.
        tokens: padded tokens a side that a batch may have.
        max_length: pairs with more tokens on a side (begin or end id included) are left out.
        seed: of the weights, of dropout and of the order of the data.
        dtype: a key of `t2bench.models.precision.PRECISIONS`.
        device: where.

    Attributes:
        model: the model; whole and usable between two `advance`.
        step: updates so far.

    Raises:
        ValueError: the variant cannot be trained to translate, or not in this dtype.
        DataError: no pair fits.
    """

    def __init__(
        self,
        spec: ModelSpec,
        recipe: Recipe,
        train: EncodedPairs,
        *,
        tokens: int,
        max_length: int,
        seed: int,
        dtype: str,
        device: torch.device,
    ) -> None:
        if dtype == "fp16":
            raise ValueError("weights in fp16 cannot hold small updates, nor can a scaled loss: use fp16_autocast")
        self._spec, self._recipe, self._train, self._tokens_a_side, self._device = spec, recipe, train, tokens, device
        self._plan = plan_batches(train, tokens=tokens, seed=seed, max_length=max_length)
        source_lengths = self._plan.source_lengths[self._plan.rows]
        target_lengths = self._plan.target_lengths[self._plan.rows]
        check_trainable(
            spec,
            longest_source=int(source_lengths.max()),
            longest_target=int(target_lengths.max()),
            longest_pair=int((source_lengths + target_lengths).max()),
        )
        self._precision = PRECISIONS[dtype]
        self._precision.set_matmul()
        self.model: Transformer = build(spec, device=device, dtype=self._precision.parameters, seed=seed)
        self._parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self._optimizer = _optimizer(self._parameters, recipe)
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._precision.autocast == torch.float16)
        self._stream = BatchStream(train, self._plan)
        self._selection, self._watch = Selection(recipe), Watch()
        self._random = _first_random(mixed_seed(seed, "dropout"), device)
        self.step = self._tokens = 0
        self._loss, self._lr, self._time_s, self._cpu_s = math.nan, 0.0, 0.0, 0.0
        self._identity = {
            "variant": spec.digest,
            "recipe": asdict(recipe),
            "batches": self._plan.digest(0),
            "seed": seed,
            "dtype": dtype,
        }

    def advance(self, until: int, *, max_s: float) -> Progress:
        """Train.

        Args:
            until: updates after which it stops.
            max_s: seconds after which it stops, if that is earlier; at least one update is made.

        Returns:
            Where the training is.

        Raises:
            Diverged: it has failed; the message says how.
        """
        began, cpu_began = time.perf_counter(), time.process_time()
        counts: list[int] = []
        losses: list[float] = []
        scaled = self._scaler.is_enabled()
        self.model.train()
        with self._own_random():
            while self.step < until:
                counts.append(self._update())
                if self._watch.is_due:
                    losses += self._watch.look(scaled=scaled)
                if time.perf_counter() - began >= max_s:
                    break
            losses += self._watch.look(scaled=scaled)
        if counts:
            self._loss = sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)
        self._time_s += time.perf_counter() - began
        self._cpu_s += time.process_time() - cpu_began
        return Progress(
            step=self.step,
            loss=self._loss,
            lr=self._lr,
            tokens=self._tokens,
            time_s=self._time_s,
            cpu_s=self._cpu_s,
        )

    def loss_of(self, pairs: EncodedPairs) -> float:
        """Nats for each target token of a split, end included: no label smoothing, no dropout, every pair counts."""
        longest = 1 + int(max(pairs.source.lengths.max(), pairs.target.lengths.max()))
        plan = plan_batches(pairs, tokens=max(self._tokens_a_side, longest), seed=0)
        was_training = self.model.training
        self.model.eval()
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        count = 0
        with torch.no_grad():
            for rows in plan.in_order():
                fed = feed(self._spec, gather(pairs, rows), self._device)
                total += self._mean_loss(fed, 0.0).double() * fed.num_labels
                count += fed.num_labels
        self.model.train(was_training)
        return float(total) / count

    def remember(self, score: float) -> None:
        """Tell how good the present weights are on the validation text, and keep them if `recipe.select` may need them.

        Args:
            score: more is better.
        """
        self._selection.remember(self.model, self.step, score)

    def select(self) -> tuple[int, ...]:
        """Put the weights that are to be judged into the model, and say which steps they are of.

        To be called at the end: from then on the model is no longer the one that was being trained.
        """
        return self._selection.put(self.model, self.step)

    def save(self, path: Path) -> None:
        """Write a checkpoint from which the identical training goes on."""
        state = {
            "identity": self._identity,
            "step": self.step,
            "tokens": self._tokens,
            "loss": self._loss,
            "lr": self._lr,
            "time_s": self._time_s,
            "cpu_s": self._cpu_s,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "stream": self._stream.state,
            "random": self._random,
            "watch": self._watch.state,
            "selection": self._selection.state,
        }
        checkpoint.write(path, state)

    def load(self, path: Path) -> int:
        """Go on from a checkpoint.

        Returns:
            Its step.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged, or of another training. Nothing has changed then.
        """
        state = checkpoint.read(path)
        differs = [name for name, value in self._identity.items() if state["identity"].get(name) != value]
        if differs:
            raise ValueError(f"{path}: checkpoint of another training: {', '.join(differs)} differ")
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self._stream = BatchStream(self._train, self._plan, state=state["stream"])
        self._random = state["random"]
        self._watch = Watch(**state["watch"])
        self._selection.load(state["selection"])
        self.step, self._tokens = state["step"], state["tokens"]
        self._loss, self._lr = state["loss"], state["lr"]
        self._time_s, self._cpu_s = state["time_s"], state["cpu_s"]
        return self.step

    def _update(self) -> int:
        """One update; the number of labels it was made of. Nothing in here waits for the device."""
        recipe = self._recipe
        feeds = [feed(self._spec, next(self._stream), self._device) for _ in range(recipe.accumulate)]
        num_labels = sum(fed.num_labels for fed in feeds)
        self._optimizer.zero_grad(set_to_none=True)
        parts = []
        for fed in feeds:
            loss = self._mean_loss(fed, recipe.label_smoothing) * (fed.num_labels / num_labels)
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            parts.append(loss.detach())
        self._scaler.unscale_(self._optimizer)
        norm = self._clipped()
        self.step += 1
        self._lr = recipe.learning_rate(self.step, self._spec.width)
        for group in self._optimizer.param_groups:
            group["lr"] = self._lr
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._tokens += sum(fed.num_tokens for fed in feeds)
        self._watch.add(self.step, torch.stack(parts).sum(), norm)
        return num_labels

    def _mean_loss(self, fed: Feed, smoothing: float) -> Tensor:
        """Mean loss of a batch's labels, by no more logits than there are labels."""
        batch = fed.batch
        with self._precision.forward(self._device.type):
            x_BTD: Tensor = self.model.hidden(batch.tokens_BT, **batch.given)
            labels_BT = batch.labels_BT
            # What a user's own module calls hidden may have another shape.
            if fed.labelled_N is not None and not self._spec.factory:
                x_BTD = x_BTD.flatten(0, 1).index_select(0, fed.labelled_N)[None]
                labels_BT = labels_BT.flatten().index_select(0, fed.labelled_N)[None]
            loss: Tensor = self.model.loss(x_BTD, labels_BT, label_smoothing=smoothing)
        return loss

    def _clipped(self) -> Tensor:
        """Clip the gradient; its norm before."""
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self._recipe.clip:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self._recipe.clip, norm)
        return norm

    @contextlib.contextmanager
    def _own_random(self) -> Iterator[None]:
        """Random numbers as this training left off with them; afterwards the process has its own again."""
        on_cuda = self._device.type == "cuda"
        with torch.random.fork_rng(devices=[self._device] if on_cuda else []):
            torch.set_rng_state(self._random["cpu"])
            if on_cuda:
                torch.cuda.set_rng_state(self._random["cuda"], self._device)
            yield
            self._random = _random_state(self._device)


def _optimizer(parameters: list[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """Adam or AdamW; weight decay is for matrices."""
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=recipe.lr, betas=(recipe.beta1, recipe.beta2), eps=recipe.eps, fused=True)


def _random_state(device: torch.device) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def _first_random(seed: int, device: torch.device) -> dict[str, Tensor]:
    """State of torch's generators for a seed; they themselves stay as they are."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        return _random_state(device)
