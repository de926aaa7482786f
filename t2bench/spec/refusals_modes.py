"""What cannot work because of how a case is run: its dtype, workload, compilation, quantization, ragged batches.

One small rule each, as in `t2bench.spec.refusals`, which asks them all; the rules about attention back ends are there.
"""

from __future__ import annotations

from collections.abc import Callable

from t2bench.spec.case import Case


def precision_of_the_device(case: Case) -> str | None:
    """TF32 is a mode of tensor cores; fp16 exists on CPUs, but hardly any has arithmetic for it."""
    if case.device != "cpu":
        return None
    if case.dtype == "tf32":
        return "TF32 is a mode of NVIDIA's tensor cores, which a CPU has not; use fp32 or bf16 there"
    if case.dtype == "fp16":
        return "CPUs convert fp16 for every operation, so its times say nothing; use bf16 or fp32 there"
    if case.dtype == "fp16_autocast":
        return "CPUs convert fp16 for every operation, so its times say nothing; use bf16_autocast there"
    return None


def autocast_of_the_operator(case: Case) -> str | None:
    """Autocast chooses dtypes inside a model; the attention operator is given its inputs in one."""
    if case.workload.kind != "attention" or not case.dtype.endswith("_autocast"):
        return None
    plain = case.dtype.removesuffix("_autocast")
    return f"autocast chooses the dtypes within a model, and the attention operator has none to choose; use {plain}"


def encoder_does_not_generate(case: Case) -> str | None:
    """An encoder sees the tokens that it would have to generate."""
    if not case.workload.generates or case.model.arch != "encoder":
        return None
    return "an encoder sees all its tokens at once and generates none; use forward, or arch: decoder"


def generation_with_memories(case: Case) -> str | None:
    """Segment memories and a cache are two ways of keeping the past."""
    if not case.workload.generates or not case.model.memory:
        return None
    return (
        "segment memories are fed from one training step to the next; generation keeps the past in its cache: memory: 0"
    )


def generation_of_documents(case: Case) -> str | None:
    """One text is generated, and a document pattern separates several."""
    if not case.workload.generates or case.model.pattern.kind != "document":
        return None
    return "one text is generated at a time, and pattern document separates several; use pattern: full"


def compiled_decoding_needs_fixed_shapes(case: Case) -> str | None:
    """A compiled step holds for one shape, and a cache that grows has a new one for every token."""
    model = case.model
    if model.compile == "off" or not case.workload.generates or model.cache == "static":
        return None
    return (
        f"a compiled step holds for one shape, and with cache {model.cache} every token has another; use cache: static"
    )


def cuda_graphs_on_cpu(case: Case) -> str | None:
    """On a CPU the mode is the default one under another name."""
    if case.model.compile != "reduce-overhead" or case.device != "cpu":
        return None
    return "reduce-overhead records CUDA graphs; on a CPU it is compile: default under another name"


def compiled_ragged_batches(case: Case) -> str | None:
    """Without padding every batch has a shape of its own."""
    if case.model.compile == "off" or not case.workload.ragged or case.model.padding == "mask":
        return None
    return f"a compiled step holds for one shape, and every {case.model.padding} batch has another; use padding: mask"


def compiled_operator(case: Case) -> str | None:
    """The operator alone is one kernel: there is nothing to fuse it with."""
    if case.model.compile == "off" or case.workload.kind != "attention":
        return None
    return "compile applies to models; the attention operator alone is what its back end says"


def ragged_patterns(case: Case) -> str | None:
    """Prefix and document batches have their own structure, which short sequences would break."""
    kind = case.model.pattern.kind
    if not case.workload.ragged or (kind not in ("prefix", "document") and not case.model.memory):
        return None
    what = "segment memories continue" if case.model.memory else f"pattern {kind} divides"
    return f"{what} sequences of full length; ragged batches have short ones: use a workload without ragged"


def quantized_training(case: Case) -> str | None:
    """Quantized weights have no gradient."""
    if case.model.quant == "none" or not case.workload.trains:
        return None
    return f"{case.model.quant} weights are made from trained ones and have no gradient; use forward, prefill or decode"


def quantized_nothing(case: Case) -> str | None:
    """The attention operator and recurrent cells have no linear layers that torchao could quantize."""
    if case.model.quant == "none":
        return None
    if case.workload.kind == "attention":
        return "the attention operator has no weights to quantize; use quant: none"
    if case.model.recurrence != "none":
        return "torchao quantizes linear layers, and the weights of recurrent cells are none; use quant: none"
    return None


def quantized_dtype(case: Case) -> str | None:
    """What the kernels of a quantization accept."""
    quant = case.model.quant
    if quant == "none":
        return None
    if case.dtype not in ("fp32", "bf16"):
        return f"{quant} weights are multiplied by fp32 or bf16 activations, not {case.dtype}; use dtype bf16"
    if quant in ("fp8", "int4wo") and case.device == "cpu":
        needs = {"fp8": "fp8 arithmetic needs a GPU of the Hopper generation or later"}
        what = needs.get(quant, "torchao has int4 kernels for CUDA only")
        return f"{what}; use int8wo or int8dyn on a CPU"
    if quant in ("fp8", "int4wo") and case.dtype != "bf16":
        return f"{quant} kernels take bf16 activations only; use dtype bf16"
    return None


def learning_without_a_target(case: Case) -> str | None:
    """Sentence pairs are for models that write one text after reading another."""
    if not case.workload.learns:
        return None
    model = case.model
    if model.arch == "encoder":
        return "an encoder writes no text, so it cannot learn to translate; use arch: encdec or decoder"
    if model.memory:
        return "segment memories continue one long text, and sentence pairs are many short ones: memory: 0"
    if model.pattern.kind == "document":
        return "a sentence pair is one text, and pattern document separates several; use pattern: full"
    if case.dtype in ("bf16", "fp16"):
        return f"weights that are kept in {case.dtype} lose small updates; use {case.dtype}_autocast or fp32"
    return None


def compiled_batches_of_every_shape(case: Case) -> str | None:
    """Batches of sentence pairs are as long as their longest sentence."""
    if case.model.compile == "off" or not case.workload.learns:
        return None
    return "a compiled step holds for one shape, and every batch of sentence pairs has another; use compile: off"


RULES: tuple[Callable[[Case], str | None], ...] = (
    precision_of_the_device,
    autocast_of_the_operator,
    encoder_does_not_generate,
    generation_with_memories,
    generation_of_documents,
    compiled_operator,
    cuda_graphs_on_cpu,
    compiled_decoding_needs_fixed_shapes,
    compiled_ragged_batches,
    ragged_patterns,
    learning_without_a_target,
    compiled_batches_of_every_shape,
    quantized_training,
    quantized_nothing,
    quantized_dtype,
)
