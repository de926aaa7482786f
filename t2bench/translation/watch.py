"""Watch: notices that a training has diverged, without making the host wait for the device after every update.

The loss and the norm of the gradient of every update stay on the device as they are and are looked at together, every
CHECK_EVERY updates and at the end of each piece of training: one wait for many updates, and none of them goes unseen.
Until then a diverged training goes on in vain; nothing is reported or saved of it.

    not finite   the loss or the norm is NaN or infinite. With loss scaling (fp16) an infinite norm is ordinary, the
                 update is left out and the scale lowered; MAX_SKIPPED in a row are not
    exploded     the loss has been EXPLODED_NATS above that of the first update for EXPLODED_STEPS updates in a row.
                 A model that has learned nothing is about as bad as a random one, never worse for long
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

CHECK_EVERY = 50
EXPLODED_NATS = 2.0
EXPLODED_STEPS = 100
MAX_SKIPPED = 20


class Diverged(Exception):
    """A training that cannot go on; the message says what happened, and at which update."""


@dataclass(slots=True)
class Watch:
    """The updates of one training.

    Attributes:
        first_loss: of the first update; None before it.
        num_above: updates in a row, up to now, whose loss was far above the first.
        num_skipped: updates in a row, up to now, that loss scaling has left out.
    """

    first_loss: float | None = None
    num_above: int = 0
    num_skipped: int = 0
    _unseen: list[tuple[int, Tensor, Tensor]] = field(default_factory=list)

    @property
    def state(self) -> dict[str, float | None]:
        """For a checkpoint; nothing must be unseen."""
        return {"first_loss": self.first_loss, "num_above": self.num_above, "num_skipped": self.num_skipped}

    @property
    def is_due(self) -> bool:
        """Whether it is time to look."""
        return len(self._unseen) >= CHECK_EVERY

    def add(self, step: int, loss: Tensor, norm: Tensor) -> None:
        """Note an update: its loss and the norm of its gradient, scalars on the device."""
        self._unseen.append((step, loss, norm))

    def look(self, *, scaled: bool) -> list[float]:
        """Wait for the device and look at all updates since the last time.

        Args:
            scaled: the loss is scaled, so that an update may be left out.

        Returns:
            Their losses.

        Raises:
            Diverged: one of them shows it.
        """
        if not self._unseen:
            return []
        unseen, self._unseen = self._unseen, []
        losses = torch.stack([loss.float() for _, loss, _ in unseen]).tolist()
        norms = torch.stack([norm.float() for _, _, norm in unseen]).tolist()
        for (step, _, _), loss, norm in zip(unseen, losses, norms, strict=True):
            self._see(step, loss, norm, scaled)
        return losses

    def _see(self, step: int, loss: float, norm: float, scaled: bool) -> None:
        if not math.isfinite(loss):
            raise Diverged(f"the loss is {loss} at update {step}")
        self.num_skipped = 0 if math.isfinite(norm) else self.num_skipped + 1
        if self.num_skipped and not scaled:
            raise Diverged(f"the norm of the gradient is {norm} at update {step}")
        if self.num_skipped >= MAX_SKIPPED:
            raise Diverged(f"no finite gradient in {MAX_SKIPPED} updates up to {step}, whatever the scale of the loss")
        if self.first_loss is None:
            self.first_loss = loss
        self.num_above = self.num_above + 1 if loss > self.first_loss + EXPLODED_NATS else 0
        if self.num_above >= EXPLODED_STEPS:
            raise Diverged(
                f"the loss has exploded: {loss:.4g} at update {step}, and more than {EXPLODED_NATS:g} above the "
                f"{self.first_loss:.4g} of the first update for {EXPLODED_STEPS} updates"
            )
