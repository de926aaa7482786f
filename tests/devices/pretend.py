"""A device that computes on the CPU and refuses tensors that are not on it, as CUDA does.

Importing this module changes torch for the whole process. It needs what torch offers, as an experiment, for devices
written in Python: where that is missing, importing raises ImportError or AttributeError, and `try_out` says whether it
is what it was.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend


class HostTensor(RuntimeError):
    """A tensor, or a generator, of the host was given to an operator together with tensors of the device."""


class _Backend(_DummyBackendModule):
    """What torch asks a device about."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


_setup_privateuseone_for_python_backend("pretend", _Backend())
DEVICE = torch.device("pretend", 0)

COPIES = {"aten::copy_", "aten::_to_copy"}  # the two that move between devices
INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}


class Pretend(torch.Tensor):
    """A tensor of the device: says that it lives there, and keeps its values in a CPU tensor that nobody else sees.

    Finds: an operator that is given tensors of both places; `numpy()` of a tensor that was not copied to the host
    first; a random draw on the device by a generator of the host. What CUDA allows is allowed: numbers in tensors
    without axes where operators work element by element, and indices on the host.

    Cannot find: which kernels a device has, in which precision they compute and how fast; what is wrong in streams,
    pinned memory and the host's waiting; memory; whatever the code does only where the device is called `cuda`. It has
    no autocast, no inference mode and no generator; and of the recurrent layers of torch.nn no fused cell: an LSTM, and
    any of them on a packed sequence, do not run. Compiled code does not come by here.
    """

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> Pretend:
        return torch.Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            layout=values.layout,
            device=DEVICE,
        )

    def __init__(self, values: torch.Tensor) -> None:
        self.values_on_host = values

    def __repr__(self) -> str:
        return f"Pretend({self.values_on_host})"

    # torch reads the memory itself, and this tensor has none.
    def tolist(self) -> Any:
        return self.values_on_host.tolist()

    # A file holds the values, and who reads it says where to.
    def __reduce_ex__(self, protocol: int) -> Any:
        return self.values_on_host.__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class OnDevice(TorchDispatchMode):
    """While it is entered, tensors can be made on the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    leaves = tree_leaves((args, kwargs))
    device = kwargs.get("device")
    takes = any(isinstance(leaf, Pretend) for leaf in leaves)
    makes = takes if device is None else device.type == DEVICE.type
    if not takes and not makes:
        return func(*args, **kwargs)
    name = func._schema.name
    if name not in COPIES:
        _refuse_host(func, tree_leaves((args[0], args[2:], kwargs)) if name in INDEXING else leaves)
    found = func(*tree_map(_to_host, args), **tree_map(_to_host, kwargs))
    if name == "aten::copy_":
        return args[0]
    if not makes:
        return found
    wrapped = tree_map(lambda leaf: Pretend(leaf) if isinstance(leaf, torch.Tensor) else leaf, found)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if takes else wrapped


def _refuse_host(func: Any, leaves: list[Any]) -> None:
    written = leaves[0] if func._schema.is_mutable else None
    for leaf in leaves:
        if isinstance(leaf, torch.Generator):
            raise HostTensor(f"{func}: a generator of the host draws on the device")
        if isinstance(leaf, torch.Tensor) and not isinstance(leaf, Pretend):
            if leaf.dim() == 0 and torch.Tag.pointwise in func.tags and leaf is not written:
                continue
            raise HostTensor(f"{func}: a {leaf.dtype} tensor of shape {tuple(leaf.shape)} is still on the host")


def _to_host(leaf: Any) -> Any:
    if isinstance(leaf, Pretend):
        return leaf.values_on_host
    return torch.device("cpu") if isinstance(leaf, torch.device) and leaf.type == DEVICE.type else leaf


def _empty_strided(size: Any, stride: Any, *, dtype: Any = None, **_: Any) -> Pretend:
    return Pretend(torch.empty_strided(size, stride, dtype=dtype, device="cpu"))


def _copy(to: Pretend, source: torch.Tensor, non_blocking: bool = False) -> Pretend:
    to.values_on_host.copy_(_to_host(source))
    return to


# What torch calls, without asking Python, where it makes a tensor of a Python list: `torch.tensor`, indexing by a list.
_KERNELS = torch.library.Library("aten", "IMPL")
_KERNELS.impl("empty_strided", _empty_strided, "PrivateUse1")
_KERNELS.impl("copy_", _copy, "PrivateUse1")
# Tensors made in inference mode have no version counter, which views of a tensor written in Python need.
torch.inference_mode = lambda mode=True: torch.no_grad() if mode else torch.enable_grad()
# Modules move by assigning `.data`, which cannot change the class of a tensor.
torch.__future__.set_overwrite_module_params_on_conversion(True)


def try_out() -> None:
    """Train and save a layer on the device, index by a list, and be refused: an error if this torch is another one."""
    layer = torch.nn.Linear(3, 2).to(DEVICE)
    layer(torch.ones(4, 3, device=DEVICE)[:, [2, 0, 1]]).sum().backward()
    torch.optim.AdamW(layer.parameters(), fused=True).step()
    torch.save(layer.state_dict(), BytesIO())
    if layer.weight.grad.tolist() != [[4.0] * 3] * 2:
        raise RuntimeError("wrong gradient")
    try:
        layer.weight + torch.ones(2, 3)
    except HostTensor:
        return
    raise RuntimeError("a tensor of the host is not refused")
