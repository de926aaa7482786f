"""What a recurrent variant costs: parameters, floating-point operations, bytes of decoding state.

The conventions are those of `t2bench.spec.cost`. With hidden size h (`ff`), g gates (RNN 1, GRU 3, LSTM 4), width d and
n layers, a stack whose input has d features takes per position

    one direction       2 g h (d + h) + 2 (n - 1) g h (h + h)
    both directions     the same with h/2 each way, twice, and h features between layers

attention over S states of the encoder 2 S (d + h) per position when additive (a score v . tanh(...) over d features, a
weighted sum over h) and 4 S h as a dot product; the context adds 2 g h h to the bottom layer's input. *Executed* FLOPs
differ from *model* FLOPs in three things only: the gradient of additive scores by the query is a sum, no matrix
product; a chunked loss computes its logits twice; and without a cache the text is read again for each new token.
"""

from __future__ import annotations

from t2bench.spec.case import DTYPE_BYTES, WorkloadSpec
from t2bench.spec.model import ModelSpec

GATES = {"rnn": 1, "gru": 3, "lstm": 4}


def num_params(spec: ModelSpec) -> dict[str, int]:
    """Parameters by component of `t2bench.spec.cost.ParamCount`."""
    gates, hidden, width = GATES[spec.recurrence], spec.ff, spec.width
    table = spec.padded_vocab * width
    cells = sum(_matrices(spec, *shape) + _biases(spec, *shape[1:]) for shape in _stacks(spec).values())
    attention = 0
    if spec.attends:
        cells += hidden // 2 * hidden + hidden  # the first state
    if _is_additive(spec):
        cells += gates * hidden * (width + hidden + hidden) + 2 * gates * hidden
        attention = (hidden + 1) * width + hidden * width + width  # query, key, v
    return {
        "embedding": table * (1 + spec.has_source_table),
        "recurrent": cells,
        "cross_attention": attention,
        "feed_forward": (_num_out(spec) + 1) * width,
        "output_head": table * spec.has_output_table,
    }


def model_flops(spec: ModelSpec, workload: WorkloadSpec, batch: int, length: int) -> int:
    """Floating-point operations of one step, as `t2bench.spec.cost.model_flops`."""
    return _forward_flops(spec, workload, batch, length) * (3 if workload.trains else 1)


def executed_flops(spec: ModelSpec, workload: WorkloadSpec, batch: int, length: int) -> int:
    """Floating-point operations of one step, as `t2bench.spec.cost.executed_flops`."""
    again = spec.cache == "off" and workload.generates
    total = _forward_flops(spec, workload, batch, length, again=again) * (3 if workload.trains else 1)
    if not workload.trains:
        return total
    if _is_additive(spec):
        total -= 2 * batch * length * length * spec.width
    if spec.loss == "chunked":
        total += 2 * batch * length * spec.width * spec.padded_vocab
    return total


def state_bytes(spec: ModelSpec, length: int, dtype: str) -> int:
    """Bytes that decoding keeps for one sequence: the states, however many tokens there were.

    With attention also the states of a source of `length` tokens, and their keys if scores are additive.
    """
    numbers = spec.num_dec_layers * spec.ff * (2 if spec.recurrence == "lstm" else 1)
    if spec.attends:
        numbers += length * (spec.ff + (spec.width if _is_additive(spec) else 0))
    return numbers * DTYPE_BYTES[dtype]


def _forward_flops(spec: ModelSpec, workload: WorkloadSpec, batch: int, length: int, *, again: bool = False) -> int:
    """Of reading everything once: sources and targets, a prompt and what is generated after it.

    With `again` all but what is made of the source alone is made again for each new token.
    """
    read = scored = length
    if workload.generates:
        scored = workload.new_tokens if workload.kind == "decode" else 1
        read = scored if spec.arch == "encdec" else length + scored - 1
        if again:
            read = sum(range(read - scored + 1, read + 1))
    per_source, per_target, once = 0, 0, 0
    shapes = _stacks(spec)
    if "encoder" in shapes and spec.arch == "encdec":
        per_source += _matrices(spec, *shapes["encoder"])
    elif "encoder" in shapes:
        per_target += _matrices(spec, *shapes["encoder"])
    if "decoder" in shapes:
        per_target += _matrices(spec, *shapes["decoder"])
    if spec.attends:
        once += spec.ff // 2 * spec.ff
        per_target += length * (spec.width + spec.ff if _is_additive(spec) else 2 * spec.ff)
    if _is_additive(spec):
        per_source += spec.ff * spec.width
        gates = GATES[spec.recurrence] * spec.ff
        per_target += gates * (spec.width + spec.ff + spec.ff) + spec.ff * spec.width
    # Generation reads everything out of the last layer, but scores only what it takes a token from.
    per_target += _num_out(spec) * spec.width
    logits = scored * spec.width * spec.padded_vocab
    return 2 * batch * (length * per_source + read * per_target + once + logits)


def _is_additive(spec: ModelSpec) -> bool:
    return spec.attends and spec.score == "additive"


def _num_out(spec: ModelSpec) -> int:
    """Features that the last linear layer reads: states, contexts, and the embedding."""
    return spec.ff * (2 if spec.attends else 1) + (spec.width if _is_additive(spec) else 0)


def _stacks(spec: ModelSpec) -> dict[str, tuple[int, int, int]]:
    """The stacks that torch.nn computes: name -> (input features, layers, directions)."""
    found = {}
    if spec.num_enc_layers:
        directions = 2 if spec.arch == "encoder" or spec.attends else 1
        found["encoder"] = (spec.width, spec.enc_layers, directions)
    if spec.num_dec_layers:
        additive = _is_additive(spec)
        found["decoder"] = (spec.ff if additive else spec.width, spec.dec_layers - additive, 1)
    return found


def _matrices(spec: ModelSpec, num_in: int, layers: int, directions: int) -> int:
    """Numbers in the matrices of a stack."""
    if not layers:
        return 0
    each = spec.ff // directions
    gates = directions * GATES[spec.recurrence] * each
    return gates * (num_in + each) + (layers - 1) * gates * (spec.ff + each)


def _biases(spec: ModelSpec, layers: int, directions: int) -> int:
    """Numbers in the biases of a stack: torch.nn has two for each gate."""
    return layers * 2 * GATES[spec.recurrence] * (spec.ff // directions) * directions
