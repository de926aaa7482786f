"""Exact, noise-free counters of one step: FLOPs, bytes kept for backward, peak bytes, bytes touched, operators.

Nothing here depends on time, so that two runs of the same code give the same integers, on real tensors and under
FakeTensorMode alike (which allocates nothing: enter it *before* `count`, so that the counters see the same operators).

Conventions:
    executed_flops follow the kernels. A multiply-add is 2 FLOPs; element-wise work is not counted. Fused attention
    costs 4 B H T S K forward and 2.5 times that backward, because it computes the scores again (Dao 2023, section 4.1);
    with a causal mask it skips the upper half, so both are halved. Explicit attention does neither.
    Bytes are logical: what the tensors need, without an allocator's rounding, scratch space or fragmentation.
"""

from __future__ import annotations

import gc
import math
import re
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from t2bench.models import recompute

# Operators with matrix products inside. One that is dispatched without a formula makes the FLOP count incomplete.
_HEAVY = re.compile(
    r"(^|_)(mm|bmm|addmm|baddbmm|addbmm|mv|addmv|dot|vdot|matmul|linear|convolution|conv\dd|attention|lstm|gru|rnn"
    r"|einsum|gemm|addr|cdist|encoder)(_|$|\d)"
)
_BOOKKEEPING = frozenset({"prim", "profiler"})  # questions about a tensor (fake ones ask more) and profiler marks

# They only make room or rename it: no byte is read or written.
_UNTOUCHING = frozenset(
    {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "_unsafe_view", "_reshape_alias"}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """What one call did.

    Attributes:
        executed_flops: see the module's conventions.
        saved_bytes: the largest number of bytes that were kept for backward at one moment, by autograd or by selective
            checkpointing: unique storages, without those of the tensors in `held`.
        peak_bytes: the largest number of bytes alive at one moment, over all storages that the call uses: parameters,
            buffers, gradients, optimizer state, activations, temporaries that an operator returns.
        bytes_touched: inputs plus outputs of every operator but views: the traffic of an unfused run.
        uncounted: operators with matrix products that have no FLOP formula (sorted names); empty means complete.
        ops: operators dispatched. Equal for fake and real tensors, not for different versions of torch.
    """

    executed_flops: int
    saved_bytes: int
    peak_bytes: int
    bytes_touched: int
    uncounted: tuple[str, ...]
    ops: int


def count(fn: Callable[[], Any], *, held: Iterable[Tensor]) -> Counts:
    """Call `fn` once and count.

    Args:
        fn: the step. Its storages are followed until it returns; the garbage collector is off meanwhile, as it is
            while steps are timed, so that reference cycles do not make the peak depend on chance.
        held: what the model holds whether or not it trains (parameters, buffers, position tables): part of the peak,
            never part of the saved bytes.

    Returns:
        The counts of this call.
    """
    # torch imports this on first need. An import inside `fn` leaves cycles of frames that keep activations alive.
    import torch._dynamo  # noqa: F401

    storages = _Storages()
    saved = _Saved()
    for tensor in held:
        storages.use(tensor)
        saved.ignore(tensor)
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with saved_tensors_hooks(saved.pack, _unpack), recompute.watched(saved.hold), _Mode(storages) as mode:
            fn()
    finally:
        if was_enabled:
            gc.enable()
    return Counts(
        executed_flops=mode.flops,
        saved_bytes=saved.peak_bytes,
        peak_bytes=storages.peak_bytes,
        bytes_touched=mode.bytes_touched,
        uncounted=tuple(sorted(mode.uncounted)),
        ops=mode.ops,
    )


class _Storages:
    """Follows the storages that live while a call runs, through weak references: views never count twice."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._live_bytes = 0
        self._alive: dict[int, tuple[weakref.ref[Any], int]] = {}

    def use(self, tensor: Tensor) -> None:
        """An operator reads `tensor`. A storage not seen before was alive from the start, so also at the peak."""
        added = self._track(tensor)
        self.peak_bytes += added

    def create(self, tensor: Tensor) -> None:
        """An operator returned `tensor`: a new storage unless it is a view or was written in place."""
        self._track(tensor)
        self.peak_bytes = max(self.peak_bytes, self._live_bytes)

    def _track(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._alive:
            return 0
        nbytes = storage.nbytes()
        self._alive[key] = (weakref.ref(storage, lambda _: self._free(key)), nbytes)
        self._live_bytes += nbytes
        return nbytes

    def _free(self, key: int) -> None:
        self._live_bytes -= self._alive.pop(key)[1]


class _Packed:
    """A saved tensor in autograd's hands. When the graph lets go of it, the count goes down."""

    __slots__ = ("_key", "_owner", "tensor")

    def __init__(self, tensor: Tensor, key: int, owner: _Saved) -> None:
        self.tensor = tensor
        self._key = key
        self._owner = owner

    def __del__(self) -> None:
        self._owner.release(self._key)


class _Saved:
    """Bytes held by saved tensors, each storage once, however many nodes keep it."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._bytes = 0
        self._holders: dict[int, list[int]] = {}  # storage -> [number of saved tensors, bytes]
        self._ignored: set[int] = set()

    def ignore(self, tensor: Tensor) -> None:
        self._ignored.add(tensor.untyped_storage()._cdata)

    def pack(self, tensor: Tensor) -> Tensor | _Packed:
        key = self._take(tensor)
        return tensor if key is None else _Packed(tensor, key, self)

    def hold(self, holder: Any) -> None:
        """Count the tensor `holder.val` for as long as the holder lives."""
        key = self._take(holder.val)
        if key is not None:
            weakref.finalize(holder, self.release, key).atexit = False

    def _take(self, tensor: Tensor) -> int | None:
        """One more reason to keep a tensor: the key to release it by; None for those that do not count."""
        storage = tensor.untyped_storage()
        key: int = storage._cdata
        if key in self._ignored:
            return None
        if key in self._holders:
            self._holders[key][0] += 1
        else:
            self._holders[key] = [1, storage.nbytes()]
            self._bytes += storage.nbytes()
            self.peak_bytes = max(self.peak_bytes, self._bytes)
        return key

    def release(self, key: int) -> None:
        holder = self._holders[key]
        holder[0] -= 1
        if holder[0] == 0:
            self._bytes -= self._holders.pop(key)[1]


def _unpack(packed: Tensor | _Packed) -> Tensor:
    return packed.tensor if isinstance(packed, _Packed) else packed


class _Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operator that reaches a kernel, backward included."""

    def __init__(self, storages: _Storages) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0
        self.bytes_touched = 0
        self.ops = 0
        self.uncounted: set[str] = set()
        self._storages = storages

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operator and account for it."""
        kwargs = kwargs or {}
        if func.namespace in _BOOKKEEPING:
            return func(*args, **kwargs)
        packet = func._overloadpacket
        name = str(packet)
        formula = flop_registry.get(packet)
        if formula is None and name not in _FORMULAS:
            # Without autograd, composite operators (linear, matmul) arrive whole.
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        inputs = list(_tensors((args, kwargs)))
        for tensor in inputs:
            self._storages.use(tensor)
        result = func(*args, **kwargs)
        if name == "aten.mkldnn_rnn_layer":
            result = _with_workspace(result, _arguments(func, args, kwargs))
        outputs = list(_tensors(result))
        for tensor in outputs:
            self._storages.create(tensor)
        self.ops += 1
        if not func.is_view and packet.__name__ not in _UNTOUCHING:
            self.bytes_touched += sum(map(_touched, inputs)) + sum(map(_touched, outputs))
        if name in _FORMULAS:
            self.flops += _FORMULAS[name](func, args, kwargs)
        elif formula is not None:
            self.flops += int(formula(*args, **kwargs, out_val=result))
        elif func.namespace != "aten" or _HEAVY.search(packet.__name__):
            self.uncounted.add(name)
        return result


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in an operator's arguments or result."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)


def _touched(tensor: Tensor) -> int:
    """Bytes of a tensor, an expanded one counted as often as it is stored."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def _arguments(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """An operator's arguments by the names in its schema."""
    names = [argument.name for argument in func._schema.arguments]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def _attention_flops(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, products: tuple[int, int]) -> int:
    """FLOPs of a fused attention kernel on q (B,H,T,K), k (B,G,S,K), v (B,G,S,Kv).

    Args:
        func: the operator.
        args: its positional arguments.
        kwargs: its keyword arguments.
        products: how many matrix products have K and how many have Kv as the inner or outer size.
    """
    given = _arguments(func, args, kwargs)
    batch, heads, queries, dim = given["query"].shape
    keys, value_dim = given["key"].shape[-2], given["value"].shape[-1]
    flops = 2 * batch * heads * queries * keys * (products[0] * dim + products[1] * value_dim)
    return int(flops) // (2 if given.get("is_causal", False) else 1)


def _forward_flops(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    return _attention_flops(func, args, kwargs, products=(1, 1))  # Q K^T; P V


def _backward_flops(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    return _attention_flops(func, args, kwargs, products=(3, 2))  # Q K^T again, dQ, dK; dP, dV


def _with_workspace(result: tuple[Tensor, ...], given: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """The result of an LSTM layer on a CPU, with the workspace that fake tensors leave empty.

    oneDNN keeps it for the backward pass: per position two sets of gates (in 16 bits one of them in float32), a state,
    and six more (two of them in float32) as wide as the input where that is wider, each in whole cache lines. Paddings
    depend on its version: this is within 5 % of version 3.12 at sizes of more than a few pages.
    """
    *others, workspace = result
    if not given["train"] or workspace is None or workspace.numel():
        return result
    *positions, features = given["input"].shape
    hidden, size = given["hidden_size"], given["input"].element_size()
    wide = max(features, hidden)
    lines = [16 * hidden, 4 * hidden * size, hidden * size, *[4 * wide] * 2, *[wide * size] * 4]
    return (*others, workspace.new_empty(math.prod(positions) * sum(-(-line // 64) * 64 for line in lines)))


def _cells_flops(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, times: int) -> int:
    """FLOPs of layers of recurrent cells: every matrix among the weights meets every position of the input.

    Args:
        func: the operator: a layer in one direction (mkldnn) or all of them (cuDNN).
        args: its positional arguments.
        kwargs: its keyword arguments.
        times: matrix products per matrix: 1 forward; 2 backward, for the input's and the weight's gradient.
    """
    given = _arguments(func, args, kwargs)
    weights = [x for name, value in given.items() if re.fullmatch(r"weight\d?", name) for x in _tensors(value)]
    positions = math.prod(given["input"].shape[:-1])
    return int(2 * times * positions * sum(x.numel() for x in weights if x.ndim == 2))


def _cells_forward(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    return _cells_flops(func, args, kwargs, times=1)


def _cells_backward(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    return _cells_flops(func, args, kwargs, times=2)


def _of_mark(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """What a kernel that no mode sees says of itself, see `t2bench.attention.witness.marked`."""
    return int(_arguments(func, args, kwargs)["flops"])


# By operator name, so that a build of torch that lacks one is no error. torch counts nothing for the CPU kernel and
# does not halve causal attention in the others; it knows no recurrent cells.
_FORMULAS: dict[str, Callable[[Any, tuple[Any, ...], Mapping[str, Any]], int]] = (
    {
        f"aten._scaled_dot_product_{kernel}": _forward_flops
        for kernel in ("flash_attention_for_cpu", "flash_attention", "efficient_attention", "cudnn_attention")
    }
    | {
        f"aten._scaled_dot_product_{kernel}_backward": _backward_flops
        for kernel in ("flash_attention_for_cpu", "flash_attention", "efficient_attention", "cudnn_attention")
    }
    | {
        "aten.mkldnn_rnn_layer": _cells_forward,
        "aten.mkldnn_rnn_layer_backward": _cells_backward,
        "aten._cudnn_rnn": _cells_forward,
        "aten._cudnn_rnn_backward": _cells_backward,
    }
    | {
        f"t2bench_marks.{kernel}{phase}": _of_mark
        for kernel in ("flex_attention", "fa2", "fa3", "fa4")
        for phase in ("", "_backward")
    }
)
