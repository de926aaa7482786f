"""Our trainer beside a plain loop around torch.nn.Transformer: the same pairs, batches, geometry, loss and optimizer.

    python tests/benchmarks/trainer.py
    python tests/benchmarks/trainer.py --data DIR --corpus NAME --direction en-de

Both take turns in one process, on one thread of the CPU, in an order that alternates. The time is that of the process's
processors, which neighbours on the machine disturb less than the clock on the wall. The ratio is the median of the
rounds'. Text is generated unless a folder of corpora is given.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from t2bench.quality.batching import IGNORE, BatchStream, EncodedPairs, PairBatch, Ragged, plan_batches  # noqa: E402
from t2bench.quality.corpora import read_corpus  # noqa: E402
from t2bench.quality.language import LanguageSpec, make_corpus  # noqa: E402
from t2bench.quality.tokenizer import TokenizerSpec, make_tokenizer  # noqa: E402
from t2bench.spec.model import ModelSpec  # noqa: E402
from t2bench.spec.quality import Recipe  # noqa: E402
from t2bench.translation.trainer import Trainer  # noqa: E402

TOKENS, MAX_LENGTH, WARM_UP = 1024, 128, 5
VOCAB = {"synthetic": 600, "folder": 4000}
RECIPE = Recipe()


class Peer(nn.Module):
    """The same architecture of torch's parts: pre-norm, one tied table, sinusoidal positions."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.table = nn.Embedding(spec.vocab, spec.width)
        nn.init.normal_(self.table.weight, std=spec.width**-0.5)
        self.core = nn.Transformer(
            spec.width, spec.heads, spec.enc_layers, spec.dec_layers, spec.ff, spec.dropout,
            batch_first=True, norm_first=True,
        )  # fmt: skip
        for module in self.core.modules():
            if isinstance(module, nn.MultiheadAttention):
                module.dropout = 0.0  # ours has none on probabilities by default
        self.dropout = nn.Dropout(spec.dropout)
        angle_MF = torch.arange(MAX_LENGTH)[:, None] * torch.exp(
            torch.arange(0, spec.width, 2) * (-math.log(10000.0) / spec.width)
        )
        self.register_buffer("positions_MD", torch.stack((angle_MF.sin(), angle_MF.cos()), dim=-1).flatten(1))
        self.scale = math.sqrt(spec.width)

    def _embedded(self, tokens_BT: Tensor) -> Tensor:
        return self.dropout(self.table(tokens_BT) * self.scale + self.positions_MD[: tokens_BT.shape[1]])

    def forward(self, source_BS: Tensor, tokens_BT: Tensor, is_padding_BS: Tensor | None) -> Tensor:
        length = tokens_BT.shape[1]
        x_BTD = self.core(
            self._embedded(source_BS),
            self._embedded(tokens_BT),
            tgt_mask=torch.ones(length, length, dtype=torch.bool).triu(1),
            tgt_is_causal=True,
            src_key_padding_mask=is_padding_BS,
            memory_key_padding_mask=is_padding_BS,
        )
        return F.linear(x_BTD, self.table.weight)


class Plain:
    """A loop as one would write it: Adam fused, the gradient clipped, masks only where there is padding."""

    def __init__(self, spec: ModelSpec, pairs: EncodedPairs) -> None:
        torch.manual_seed(0)
        self.model = Peer(spec)
        plan = plan_batches(pairs, tokens=TOKENS, seed=0, max_length=MAX_LENGTH)
        self.stream = BatchStream(pairs, plan)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), betas=(RECIPE.beta1, RECIPE.beta2), eps=RECIPE.eps, fused=True
        )
        self.step = 0

    def advance(self, until: int) -> float:
        """Train up to an update; the mean loss."""
        losses = []
        while self.step < until:
            self.step += 1
            losses.append(self._update(next(self.stream)))
        return float(torch.stack(losses).mean())

    def _update(self, batch: PairBatch) -> Tensor:
        source_BS = torch.from_numpy(batch.source_BS)
        is_padding_BS = torch.arange(source_BS.shape[1]) >= torch.from_numpy(batch.source_lengths_B)[:, None]
        logits_BTV = self.model(
            source_BS, torch.from_numpy(batch.input_BT), is_padding_BS if is_padding_BS.any() else None
        )
        loss = F.cross_entropy(
            logits_BTV.flatten(0, 1), torch.from_numpy(batch.labels_BT).flatten(), ignore_index=IGNORE,
            label_smoothing=RECIPE.label_smoothing,
        )  # fmt: skip
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), RECIPE.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = RECIPE.learning_rate(self.step, 1)
        self.optimizer.step()
        return loss.detach()


def read(args: argparse.Namespace) -> tuple[EncodedPairs, int]:
    """The training pairs as ids, and the number of ids."""
    if args.data:
        corpus, vocab = read_corpus(args.data / args.corpus, direction=args.direction), VOCAB["folder"]
    else:
        corpus, vocab = make_corpus(LanguageSpec()), VOCAB["synthetic"]
    text = corpus.train
    tokenizer = make_tokenizer(TokenizerSpec(kind="bpe", vocab=vocab), [*text.source, *text.target])
    source, target = (Ragged.of(tokenizer.encode(lines)) for lines in (text.source, text.target))
    return EncodedPairs(source=source, target=target), tokenizer.vocab


def compare(
    advances: dict[str, Callable[[int], float]], counts: list[int], rounds: int
) -> dict[str, tuple[list[float], float]]:
    """By party: tokens for each CPU second of each round, and the loss of the last; the parties take turns."""
    updates = (len(counts) - WARM_UP) // rounds
    for advance in advances.values():
        advance(WARM_UP)
    rates: dict[str, list[float]] = {name: [] for name in advances}
    losses = dict.fromkeys(advances, math.nan)
    for turn in range(rounds):
        first = WARM_UP + turn * updates
        for name in list(advances)[:: 1 if turn % 2 else -1]:
            began = time.process_time()
            losses[name] = advances[name](first + updates)
            rates[name].append(sum(counts[first : first + updates]) / (time.process_time() - began))
    return {name: (rates[name], losses[name]) for name in advances}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=24, help="turns of each party (24)")
    parser.add_argument("--updates", type=int, default=6, help="updates in a turn (6)")
    parser.add_argument("--attention", default="sdpa", help="our back end (sdpa, as torch.nn.Transformer has)")
    parser.add_argument("--loss", default="dense", help="our loss (dense, as torch has)")
    parser.add_argument("--data", type=Path, help="folder of corpora")
    parser.add_argument("--corpus", default="", help="corpus in that folder")
    parser.add_argument("--direction", default="", help="such as en-de")
    args = parser.parse_args()
    torch.set_num_threads(1)
    pairs, vocab = read(args)
    spec = ModelSpec(
        enc_layers=2, dec_layers=2, width=128, heads=4, ff=256, vocab=vocab, norm_place="pre", final_norm=True,
        dropout=0.05, attention=args.attention, loss=args.loss,
    )  # fmt: skip
    ours = Trainer(
        spec, RECIPE, pairs, tokens=TOKENS, max_length=MAX_LENGTH, seed=0, dtype="fp32", device=torch.device("cpu")
    )
    plain = Plain(spec, pairs)
    stream = BatchStream(pairs, plan_batches(pairs, tokens=TOKENS, seed=0, max_length=MAX_LENGTH))
    batches = [next(stream) for _ in range(WARM_UP + args.rounds * args.updates)]
    counts = [int(batch.source_lengths_B.sum() + batch.target_lengths_B.sum()) for batch in batches]
    parties = {"t2bench": lambda until: ours.advance(until, max_s=math.inf).loss, "torch.nn": plain.advance}
    found = compare(parties, counts, args.rounds)
    for (name, (rates, loss)), model in zip(found.items(), (ours.model, plain.model), strict=True):
        num_params = sum(parameter.numel() for parameter in model.parameters())
        median, low, high = statistics.median(rates), min(rates), max(rates)
        print(
            f"{name:10} {median:8.0f} tokens/CPU-s ({low:.0f} to {high:.0f}), {num_params} parameters, "
            f"loss of the last turn {loss:.3f}"
        )
    ratios = [ours / theirs for ours, theirs in zip(found["t2bench"][0], found["torch.nn"][0], strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    print(f"{'ratio':10} {statistics.median(ratios):8.3f} (middle half of the rounds {low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
