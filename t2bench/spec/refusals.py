"""What cannot work, or would silently be something else: one small rule each, with the reason in words.

A refused case is a row of the report with its reason; it is never run, and never dropped. Each reason names the cure.
Rules about a fused kernel's limits follow PyTorch's own checks (`aten/src/ATen/native/transformers`).
"""

from __future__ import annotations

from collections.abc import Callable

from t2bench.spec import refusals_modes, refusals_own, refusals_recurrent
from t2bench.spec.case import Case

FLASH_MAX_HEAD_DIM = 256
MAX_ELEMENTS = 1 << 50  # with 4 bytes each and thousands of them, still within 64 bits
CUDA_ONLY = {"sdpa_efficient": "memory-efficient", "sdpa_cudnn": "cuDNN"}


def refusal(case: Case) -> str | None:
    """Why a case must not be run, or None."""
    for rule in (*RULES, *refusals_modes.RULES, *refusals_own.RULES, *refusals_recurrent.RULES):
        if reason := rule(case):
            return reason
    return None


def tensor_too_large(case: Case) -> str | None:
    """Sizes whose products no machine holds, and torch cannot even count."""
    model, positions = case.model, case.batch * case.length
    elements = {
        "attention scores": positions * case.length * model.heads,
        "queries": positions * model.heads * model.dim_per_head,
        "logits": positions * model.padded_vocab,
        "feed-forward activations": positions * model.ff * 2,
        "token table": model.padded_vocab * model.width,
        "projection": model.width * max(2 * model.ff, 3 * model.heads * model.dim_per_head),
        "positions": model.position.max_len * model.width,
    }
    name, largest = max(elements.items(), key=lambda item: item[1])
    if largest <= MAX_ELEMENTS:
        return None
    return f"its {name} would have {largest:.0e} numbers, more than any machine holds; use smaller sizes"


def learned_table_too_short(case: Case) -> str | None:
    """Learned positions end with their table."""
    position = case.model.position
    if case.workload.kind == "attention" or position.kind != "learned" or case.last_length <= position.max_len:
        return None
    return (
        f"learned positions end at max_len {position.max_len}, and the length is {case.last_length}; "
        "raise position.max_len or use another position"
    )


def fused_kernel_needs_cuda(case: Case) -> str | None:
    """Two of the fused kernels exist on CUDA only."""
    kernel = CUDA_ONLY.get(case.model.attention)
    if kernel is None or case.device == "cuda":
        return None
    return f"PyTorch has no {kernel} attention kernel for CPUs; use sdpa_flash or math there"


def dropout_in_cpu_flash(case: Case) -> str | None:
    """Dropout makes scaled_dot_product_attention leave flash on a CPU."""
    on_flash = case.device == "cpu" and case.model.attention == "sdpa_flash"
    if not on_flash or not case.workload.trains or case.model.attention_dropout == 0.0:
        return None
    return (
        "PyTorch's flash kernel for CPUs has no dropout: it would silently run math; "
        "set attention_dropout: 0.0 or attention: math"
    )


def fused_kernel_needs_16_bits(case: Case) -> str | None:
    """CUDA's flash and cuDNN kernels have no fp32 version."""
    names = {"sdpa_flash": "flash", "sdpa_cudnn": "cuDNN"}
    name = names.get(case.model.attention)
    if name is None or case.device != "cuda" or case.dtype not in ("fp32", "tf32"):
        return None
    return f"the {name} attention kernel on CUDA computes in bf16 and fp16 only; use dtype bf16, or sdpa_efficient"


def flash_head_too_wide(case: Case) -> str | None:
    """CUDA's flash kernel holds a head in registers and shared memory, up to a limit."""
    width = case.model.dim_per_head
    if case.device != "cuda" or case.model.attention != "sdpa_flash" or width <= FLASH_MAX_HEAD_DIM:
        return None
    return (
        f"the flash attention kernel on CUDA takes heads of at most {FLASH_MAX_HEAD_DIM} features, these have {width}; "
        "use more heads or sdpa_efficient"
    )


RULES: tuple[Callable[[Case], str | None], ...] = (
    tensor_too_large,
    learned_table_too_short,
    fused_kernel_needs_cuda,
    dropout_in_cpu_flash,
    fused_kernel_needs_16_bits,
    flash_head_too_wide,
)
