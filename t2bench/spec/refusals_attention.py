"""What an attention back end cannot do, on a device, in a dtype, with a mask or with scores.

One small rule each, as in `t2bench.spec.refusals`, which asks them all. The limits follow PyTorch's own checks
(`aten/src/ATen/native/transformers`) and those of the flash-attention packages.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from t2bench.spec.case import Case

SDPA = frozenset({"sdpa", "sdpa_math", "sdpa_flash", "sdpa_efficient", "sdpa_cudnn"})
PACKAGES = {"fa2": "flash-attn", "fa3": "flash-attn-3 (for Hopper)", "fa4": "flash-attn-4 (flash_attn.cute)"}
SEQUENCES = frozenset({"varlen", *PACKAGES})  # kernels for sequences one after the other
CUDA_ONLY = {
    "sdpa_efficient": "PyTorch has no memory-efficient attention kernel for CPUs",
    "sdpa_cudnn": "PyTorch has no cuDNN attention kernel for CPUs",
    "varlen": "torch.nn.attention.varlen has no kernel for CPUs",
    **{name: f"{package} has kernels for CUDA only" for name, package in PACKAGES.items()},
}
IN_16_BITS = {
    "sdpa_flash": "the flash attention kernel on CUDA computes",
    "sdpa_cudnn": "the cuDNN attention kernel on CUDA computes",
    "varlen": "torch.nn.attention.varlen computes",
    **{name: f"{package} computes" for name, package in PACKAGES.items()},
}
WITHOUT_DROPOUT = {"flex": "FlexAttention", "varlen": "torch.nn.attention.varlen", "fa3": "fa3", "fa4": "fa4"}
SOFTCAPS = frozenset({"math", "flex", *PACKAGES})
MAX_HEAD_DIM = {"sdpa_flash": 256, "varlen": 256, "fa2": 256, "fa3": 256, "fa4": 128}
BIASES = ("alibi", "t5_bias", "txl")  # added to the scores


def installed(backend: str) -> bool:
    """Whether the package of a back end is there; found without importing it."""
    if backend == "fa3":
        return find_spec("flash_attn_interface") is not None or find_spec("flash_attn_3") is not None
    if backend not in PACKAGES:
        return True
    package = find_spec("flash_attn")
    if package is None or package.submodule_search_locations is None:
        return False
    part = {"fa2": "flash_attn_interface.py", "fa4": "cute"}[backend]
    return any((Path(folder) / part).exists() for folder in package.submodule_search_locations)


def needs_cuda(case: Case) -> str | None:
    """Most of the fused kernels exist on CUDA only."""
    reason = CUDA_ONLY.get(case.model.attention)
    if reason is None or case.device == "cuda":
        return None
    return f"{reason}; use sdpa_flash or math there"


def not_installed(case: Case) -> str | None:
    """Packages that torch does not bring along."""
    backend = case.model.attention
    if case.device != "cuda" or installed(backend):
        return None
    return f"{backend} needs the package {PACKAGES[backend]}, which is not installed; pip install it, or use sdpa_flash"


def needs_16_bits(case: Case) -> str | None:
    """CUDA's flash and cuDNN kernels have no fp32 version."""
    reason = IN_16_BITS.get(case.model.attention)
    if reason is None or case.device != "cuda" or case.dtype not in ("fp32", "tf32"):
        return None
    return f"{reason} in bf16 and fp16 only; use dtype bf16, or sdpa_efficient"


def head_too_wide(case: Case) -> str | None:
    """CUDA's flash kernels hold a head in registers and shared memory, up to a limit."""
    width, backend = case.model.dim_per_head, case.model.attention
    limit = MAX_HEAD_DIM.get(backend)
    if case.device != "cuda" or limit is None or width <= limit:
        return None
    return f"{backend} takes heads of at most {limit} features on CUDA, these have {width}; use more heads or math"


def dropout_of_weights(case: Case) -> str | None:
    """Kernels that never have the weights whole, and draw no random numbers on the way."""
    backend = case.model.attention
    if not case.workload.trains or case.model.attention_dropout == 0.0:
        return None
    if backend == "sdpa_flash" and case.device == "cpu":
        return (
            "PyTorch's flash kernel for CPUs has no dropout: it would silently run math; "
            "set attention_dropout: 0.0 or attention: math"
        )
    if backend == "fa2" and case.model.attention_softcap is not None:
        return "fa2 has dropout or a soft cap, not both; set attention_dropout: 0.0 or attention: math"
    if backend in WITHOUT_DROPOUT:
        return f"{WITHOUT_DROPOUT[backend]} has no dropout; set attention_dropout: 0.0 or attention: math"
    return None


def additive_scores(case: Case) -> str | None:
    """Additive scores are no dot products."""
    backend = case.model.attention
    if case.model.score != "additive" or backend == "math":
        return None
    return f"{backend} computes dot products, and additive scores are another function; use attention: math"


def capped_scores(case: Case) -> str | None:
    """A cap lies between the scores and the softmax, inside the kernel."""
    backend = case.model.attention
    if case.model.attention_softcap is None or backend in SOFTCAPS:
        return None
    return f"{backend} has no soft cap on scores; use attention: math or flex"


def scores_of_the_query(case: Case) -> str | None:
    """Shaw's and Transformer-XL's positions make a bias of their own for every query."""
    kind, backend = case.model.position.kind, case.model.attention
    if kind == "shaw" and backend != "math":
        return f"shaw positions add to the values as well, for which {backend} has no place; use attention: math"
    if kind == "txl" and backend not in ("math", "flex"):
        return (
            f"txl positions give each query a bias of its own, as large as the scores that {backend} exists to avoid; "
            "use attention: math or flex"
        )
    return None


def bias_of_the_distance(case: Case) -> str | None:
    """ALiBi and T5's bias: a tensor that a kernel must take, and for T5 make a gradient of."""
    kind, backend = case.model.position.kind, case.model.attention
    if kind not in ("alibi", "t5_bias"):
        return None
    if kind == "alibi" and backend == "fa2":
        if case.model.attention_softcap is None:
            return None
        return "fa2 caps the scores before it adds alibi's bias, not after; use attention: math or flex"
    if backend in SEQUENCES or (backend == "sdpa_flash" and case.device == "cuda"):
        ways = "math, flex, sdpa_efficient" + (" or fa2 (from its slopes)" if kind == "alibi" else "")
        return f"{backend} takes no bias, which {kind} adds to the scores; use {ways}"
    if kind == "t5_bias" and case.workload.trains and backend == "sdpa_flash":
        return (
            "PyTorch's flash kernel for CPUs makes no gradient for a trained bias: it would silently run math; "
            "use attention: math"
        )
    if kind == "t5_bias" and case.workload.trains and backend == "sdpa_cudnn":
        return "cuDNN's kernel makes no gradient for a trained bias; use sdpa_efficient, flex or math"
    return None


def mask_beyond_the_flag(case: Case) -> str | None:
    """CUDA's flash kernel takes the causal flag and no mask; those for sequences take windows and documents too."""
    model, backend = case.model, case.model.attention
    flash = backend == "sdpa_flash" and case.device == "cuda"
    if not flash and backend not in SEQUENCES:
        return None
    pattern = model.pattern
    what = ""
    if pattern.kind == "prefix" or (flash and pattern.kind != "full"):
        what = f"pattern {pattern.kind}"
    elif pattern.global_tokens:
        what = "pattern.global_tokens"
    elif case.workload.generates and model.cache == "static":
        what = "cache static, whose empty places are masked,"
    if what:
        return f"{what} needs a mask, and {backend} takes none; use flex, sdpa_efficient or math"
    if (case.workload.ragged or case.workload.learns) and model.padding == "mask" and model.arch != "decoder":
        return f"{backend} takes no padding mask; use padding: packed, or sdpa_efficient"
    return None


def packed_patterns(case: Case) -> str | None:
    """What does not hold within each of several sequences in one row."""
    model = case.model
    if model.padding == "mask":
        return None
    if model.pattern.global_tokens:
        return f"global tokens are those of one sequence, and a {model.padding} row has several; use padding: mask"
    if model.attention == "flex" and model.position.kind in BIASES:
        return f"flex has no {model.position.kind} bias within packed sequences; use padding: mask, or attention: math"
    return None


def nested_tensors(case: Case) -> str | None:
    """What torch does with jagged nested tensors: scaled_dot_product_attention, with the causal flag or without."""
    model, backend = case.model, case.model.attention
    if model.padding != "nested":
        return None
    if backend not in SDPA:
        return f"nested tensors go through scaled_dot_product_attention, not {backend}; use padding: packed, or sdpa"
    if model.pattern.kind != "full" or model.position.kind in BIASES:
        what = model.pattern.kind if model.pattern.kind != "full" else model.position.kind
        return f"nested tensors take no mask and no bias, which {what} needs; use padding: packed"
    if case.device == "cpu" and (backend not in ("sdpa", "sdpa_math") or model.arch != "encoder"):
        return "on CPUs PyTorch has only its math kernel for nested tensors, and no causal mask; use padding: packed"
    return None


def flex_backward_on_cpu(case: Case) -> str | None:
    """FlexAttention's kernel for CPUs is for inference."""
    if case.model.attention != "flex" or case.device != "cpu" or not case.workload.trains:
        return None
    return "FlexAttention has no backward pass on CPUs; use sdpa_flash or math there"


def flex_generation(case: Case) -> str | None:
    """FlexAttention is compiled for each pair of lengths."""
    if case.model.attention != "flex" or not (case.workload.kind == "decode" or case.workload.learns):
        return None
    return "FlexAttention is compiled anew for each length, and every token has another; use sdpa_flash or math"


def _of_attention(rule: Callable[[Case], str | None]) -> Callable[[Case], str | None]:
    """The rule for transformers of ours; recurrent models and other modules have no back end to refuse."""

    def asked(case: Case) -> str | None:
        ours = case.model.recurrence == "none" and not case.model.factory
        return rule(case) if ours else None

    asked.__name__, asked.__doc__ = rule.__name__, rule.__doc__
    return asked


RULES: tuple[Callable[[Case], str | None], ...] = tuple(
    _of_attention(rule)
    for rule in (
        needs_cuda,
        not_installed,
        needs_16_bits,
        head_too_wide,
        dropout_of_weights,
        additive_scores,
        capped_scores,
        scores_of_the_query,
        bias_of_the_distance,
        mask_beyond_the_flag,
        packed_patterns,
        nested_tensors,
        flex_backward_on_cpu,
        flex_generation,
    )
)
