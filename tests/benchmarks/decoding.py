"""Our greedy and beam search beside those of transformers' Marian: one geometry, equal batches, equal lengths.

    python tests/benchmarks/decoding.py [--sentences 256] [--repeats 3]

Weights are random and no text ends by itself: both sides write exactly `--length` tokens for each sentence, so that
both do the same work. The parties take turns on one thread; what is printed is CPU time, the median over repeats.

Shape letters: B batch, S source length.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from transformers import MarianConfig, MarianMTModel

from t2bench.models.transformer import Transformer, build
from t2bench.quality.batching import Ragged
from t2bench.quality.tokenizer import BOS, EOS, PAD
from t2bench.spec.model import ModelSpec
from t2bench.spec.quality import Decoding
from t2bench.translation.translator import Translator

SPEC = ModelSpec(
    width=128, heads=4, ff=256, enc_layers=2, dec_layers=2, vocab=4000, norm_place="pre", final_norm=True,
    attention="sdpa",
)  # fmt: skip
SEARCHES = {"greedy": 1, "beam 5": 5}


class Endless(Transformer):
    """A model whose texts never end by themselves."""

    def logits(self, x_BTD: Tensor) -> Tensor:
        """See Transformer."""
        logits_BTV = super().logits(x_BTD)
        logits_BTV[..., EOS] = -torch.inf
        return logits_BTV


def ours(source: Ragged, length: int, tokens: int) -> Callable[[int], int]:
    """Translate everything with so many hypotheses; returns the tokens written."""
    model = build(SPEC).eval()
    model.__class__ = Endless

    def translate(beam: int) -> int:
        decoding = Decoding(
            method="greedy" if beam == 1 else "beam", beam=beam, max_extra=length - int(source.lengths[0])
        )
        translator = Translator(model, tokens=tokens * beam, dtype="fp32")
        return sum(len(text) for part in translator.translate(source, decoding, seed=0) for text in part.tokens)

    return translate


def marian(source: Ragged, length: int, tokens: int) -> Callable[[int], int]:
    """The same by `generate`."""
    config = MarianConfig(
        vocab_size=SPEC.vocab, d_model=SPEC.width, encoder_layers=SPEC.enc_layers, decoder_layers=SPEC.dec_layers,
        encoder_attention_heads=SPEC.heads, decoder_attention_heads=SPEC.heads, encoder_ffn_dim=SPEC.ff,
        decoder_ffn_dim=SPEC.ff, activation_function="relu", scale_embedding=True, max_position_embeddings=256,
        pad_token_id=PAD, eos_token_id=EOS, bos_token_id=BOS, decoder_start_token_id=BOS, forced_eos_token_id=None,
    )  # fmt: skip
    model = MarianMTModel(config).eval()
    size = tokens // (int(source.lengths[0]) + 1)

    def translate(beam: int) -> int:
        written = 0
        for start in range(0, len(source), size):
            rows = range(start, min(start + size, len(source)))
            source_BS = torch.tensor([[*source[row].tolist(), EOS] for row in rows])
            with torch.inference_mode():
                found_BT = model.generate(
                    source_BS, attention_mask=torch.ones_like(source_BS), num_beams=beam, do_sample=False,
                    min_new_tokens=length, max_new_tokens=length,
                )  # fmt: skip
            written += found_BT[:, 1:].numel()
        return written

    return translate


def main() -> None:
    """Print sentences a second of both, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("sentences", 256), ("repeats", 3), ("length", 16), ("tokens", 1024)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.filterwarnings("ignore")
    source = Ragged.of(torch.randint(4, SPEC.vocab, (args.sentences, args.length - 2)).tolist())
    parties = {
        "t2bench": ours(source, args.length, args.tokens),
        "transformers": marian(source, args.length, args.tokens),
    }
    for search, beam in SEARCHES.items():
        times: dict[str, list[float]] = {name: [] for name in parties}
        for repeat in range(args.repeats + 1):
            for name, translate in random.sample(sorted(parties.items()), len(parties)):
                start = time.process_time()
                written = translate(beam)
                if repeat:  # the first is for warming up
                    times[name].append(time.process_time() - start)
                if written != args.sentences * args.length:
                    raise SystemExit(f"{name} wrote {written} tokens, expected {args.sentences * args.length}")
        speeds = {name: args.sentences / statistics.median(each) for name, each in times.items()}
        ratio = speeds["t2bench"] / speeds["transformers"]
        shown = ", ".join(f"{name} {speed:.0f}" for name, speed in speeds.items())
        print(f"{search:8} sentences per CPU second: {shown}; ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
