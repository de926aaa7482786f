"""A user's own module in the place of ours: what it must be able to do, and its loss.

    forward(tokens_BT, *, source_BS=None, lengths_B=None, source_lengths_B=None) -> logits_BTV

is all that is asked for: int64 tokens in, logits of at least `spec.vocab` entries for each position out. An argument
that a workload does not need is not passed, so a decoder's `forward(tokens_BT)` will do; padded batches need
`lengths_B` (`source_lengths_B` of an encoder-decoder). The loss is the mean cross-entropy of those logits, in float32.
A module that can do better (never holding all logits, say) defines both of

    hidden(tokens_BT, ...) -> x_BTD        loss(x_BTD, labels_BT) -> scalar; labels of -100 do not count

and takes `label_smoothing` in its loss as well if it is to be trained with a recipe that asks for some.

Shape letters: B batch, T length, S source length, V vocabulary, D whatever the module's own hidden states are.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from t2bench.models.factories import FactoryError, get
from t2bench.models.loss import of_scores
from t2bench.spec.model import ModelSpec

OPTIONAL = ("source_BS", "lengths_B", "source_lengths_B")


class Own(nn.Module):
    """A user's module with the interface of `Transformer`. Make one with `build_own`.

    Args:
        spec: the variant; `spec.factory` names its factory.
        module: what the factory made.

    Raises:
        FactoryError: the module lacks something that is asked for.
    """

    encoder = decoder = None

    def __init__(self, spec: ModelSpec, module: nn.Module) -> None:
        super().__init__()
        self.spec = spec
        self.module = module
        if not isinstance(module, nn.Module):
            raise FactoryError(f"{self._who} returned a {type(module).__name__}, not a torch.nn.Module")
        has = [name for name in ("hidden", "loss") if callable(getattr(module, name, None))]
        if len(has) == 1:
            missing = "loss" if has == ["hidden"] else "hidden"
            raise FactoryError(f"{self._who}: a module with {has[0]}() needs {missing}() too, or neither")
        self.splits = len(has) == 2
        self.takes = self._arguments()

    @property
    def _who(self) -> str:
        return f"factory {self.spec.factory!r}"

    def _arguments(self) -> frozenset[str]:
        """The optional arguments that the module takes, in each method that gets them."""
        found = set(OPTIONAL)
        for method in ("forward", "hidden") if self.splits else ("forward",):
            parameters = inspect.signature(getattr(self.module, method)).parameters.values()
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                found &= {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
        if self.spec.arch == "encdec" and "source_BS" not in found:
            raise FactoryError(f"{self._who}: forward of an encoder-decoder takes source_BS, this one does not")
        return frozenset(found)

    def forward(self, tokens_BT: Tensor, **given: Tensor | None) -> Tensor:
        """Logits for every position.

        Args:
            tokens_BT: token ids, int64.
            given: `source_BS`, `lengths_B`, `source_lengths_B` as in `Transformer.forward`.

        Returns:
            logits_BTV in the module's dtype.

        Raises:
            FactoryError: the module does not take what the batch needs, or its logits have another shape.
        """
        logits_BTV = self.module(tokens_BT, **self._passed(given))
        return self._checked(logits_BTV, tokens_BT)

    def hidden(self, tokens_BT: Tensor, **given: Tensor | None) -> Tensor:
        """What `loss` takes: the module's own hidden states, or else its logits; otherwise as `forward`."""
        if not self.splits:
            return self.forward(tokens_BT, **given)
        x_BTD: Tensor = self.module.hidden(tokens_BT, **self._passed(given))  # type: ignore[operator]
        return x_BTD

    def loss(self, x_BTD: Tensor, labels_BT: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy over the labels that count, from `hidden`'s output; a scalar, float32 at least.

        Raises:
            FactoryError: the module's own loss is no scalar, or knows nothing of the label smoothing that is asked for.
        """
        if not self.splits:
            scores_BTV = x_BTD.to(torch.promote_types(x_BTD.dtype, torch.float32))
            return of_scores(
                scores_BTV.flatten(0, 1), labels_BT.flatten(), smoothing=label_smoothing, vocab=self.spec.vocab
            )
        smoothing = {"label_smoothing": label_smoothing} if label_smoothing else {}
        if smoothing and "label_smoothing" not in inspect.signature(self.module.loss).parameters:  # type: ignore[arg-type]
            raise FactoryError(
                f"{self._who}: its loss() takes no label_smoothing, and the recipe has {label_smoothing:g}; "
                "add the argument, or set label_smoothing: 0"
            )
        found = self.module.loss(x_BTD, labels_BT, **smoothing)  # type: ignore[operator]
        if not isinstance(found, Tensor) or found.ndim != 0:
            raise FactoryError(f"{self._who}: loss() returned {_words(found)}, expected a scalar tensor")
        return found

    def _passed(self, given: dict[str, Tensor | None]) -> dict[str, Tensor]:
        needed = {name: x for name, x in given.items() if x is not None}
        for name in needed:
            if name not in self.takes:
                raise FactoryError(f"{self._who}: this batch needs the argument {name}, which forward does not take")
        return needed

    def _checked(self, logits: object, tokens_BT: Tensor) -> Tensor:
        expected = tuple(tokens_BT.shape)
        if isinstance(logits, Tensor) and logits.shape[:-1] == expected and logits.shape[-1] >= self.spec.vocab:
            return logits
        want = f"logits of shape ({', '.join(map(str, expected))}, {self.spec.vocab})"
        raise FactoryError(f"{self._who}: forward returned {_words(logits)}, expected {want}")


def build_own(spec: ModelSpec, *, device: torch.device | str, dtype: torch.dtype, seed: int) -> Own:
    """Make a user's module.

    It is made in float32 on the CPU, after `torch.manual_seed(seed)`, so that equal seeds are equal weights on every
    device; then its floating-point parameters and buffers are converted.

    Args:
        spec: the variant; `spec.factory` names a factory that a plugin has registered.
        device: where it shall live; `meta` allocates nothing.
        dtype: of its parameters and buffers.
        seed: of its weights.

    Raises:
        FactoryError: there is no such factory, or the module lacks something.
    """
    factory = get(spec.factory)
    on_meta = torch.device(device).type == "meta"
    torch.manual_seed(seed)
    with torch.device("meta" if on_meta else "cpu"):
        model = Own(spec, factory(spec))
    if not any(True for _ in model.parameters()):
        raise FactoryError(f"factory {spec.factory!r}: its module has no parameters")
    _convert(model, device, dtype)
    return model


def _convert(model: nn.Module, device: torch.device | str, dtype: torch.dtype) -> None:
    """What `model.to(device, dtype)` does, for fake tensors too; a tensor that is shared stays shared."""
    every: dict[str, Any] = {"recurse": False, "remove_duplicate": False}
    moved: dict[int, Tensor] = {}
    for module in model.modules():
        for name, tensor in [*module.named_parameters(**every), *module.named_buffers(**every)]:
            if id(tensor) not in moved:
                new = tensor.detach().to(device=device, dtype=dtype if tensor.is_floating_point() else tensor.dtype)
                is_parameter = isinstance(tensor, nn.Parameter)
                moved[id(tensor)] = nn.Parameter(new, requires_grad=tensor.requires_grad) if is_parameter else new
            setattr(module, name, moved[id(tensor)])


def _words(value: object) -> str:
    """A return value in a user's words."""
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
