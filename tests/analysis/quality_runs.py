"""Runs of trainings that never happened: outputs are references with words lost and changed, scored by sacreBLEU."""

import gzip
import hashlib
import json
import math
from dataclasses import dataclass, field

import numpy as np
from sacrebleu.metrics import BLEU, CHRF

from t2bench.records import Metric, Record, Run
from t2bench.spec.model import ModelSpec

WORDS = [f"{a}{b}" for a in ("ba", "ke", "lo", "mi", "tus", "ven") for b in ("ra", "so", "tin", "dal", "qu", "ne", "x")]

SCORED = {}  # the same texts are scored once


@dataclass
class Learner:
    """How a variant translates: the share of words it gets wrong, and how much that differs between seeds."""

    wrong: float = 0.3
    spread: float = 0.01
    diverged: tuple = ()
    empty: int = 0
    val_loss: float = 1.8
    pace: float = 1.0  # updates that a given quality takes, in those of the reference
    copies: str = ""  # writes exactly what this other variant writes


@dataclass
class QualityRuns:
    variants: dict = field(default_factory=lambda: {"vanilla": Learner(), "rope": Learner(wrong=0.22)})
    seeds: int = 3
    tests: tuple = ("test",)
    decodings: tuple = ("greedy",)
    sentences: int = 220
    synthetic: bool = True
    workload: str = "translate"
    target: float | None = 20.0
    margin: float = 0.5
    corpus: str = "synthetic"
    direction: str = "xa-xb"
    lowercase: bool = False
    signature: str = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"
    decode: tuple = ({"method": "greedy"},)
    ladder: tuple = ()
    groups: tuple = ("fp32/L64",)
    details: bool = True
    text_seed: int = 0
    in_training: int = 0
    test_seed: int = 0
    floors: dict = field(default_factory=lambda: {"copy": 0.5, "retrieval": 7.1})

    def make(self, path):
        path.mkdir(parents=True, exist_ok=True)
        (path / "translations").mkdir(exist_ok=True)
        records, plan = [], {}
        for tail in self.groups:
            group = f"{self.workload}/{tail}"
            plan[group] = [f"{group}/{name}" for name in self.variants]
            for place, name in enumerate(self.variants):
                for launch in range(self.seeds):
                    records.append(self._record(path, group, place, name, launch))
        suite = {
            "name": "tiny-quality",
            "device": "cpu",
            "reference": next(iter(self.variants)),
            "ladder": list(self.ladder),
            "measure": {"launches": 3},
            "quality": {"seeds": self.seeds},
            # Each has a function of its own; variants of one function have claims of their own.
            "variants": [
                {"name": name, "model": ModelSpec(arch="encdec", ff=64 * (1 + number)).to_dict()}
                for number, name in enumerate(self.variants)
            ],
        }
        environment = {"run": "tiny-quality-1", "suite": suite, "plan": {"groups": plan}, "argv": ["t2bench", "run"]}
        return Run(path=path, suite=suite, environment=environment, records=tuple(records))

    def text(self, test):
        rng = np.random.default_rng([self.text_seed, self.test_seed, *test.encode()])
        lengths = rng.integers(4, 24, self.sentences)
        return [" ".join(rng.choice(WORDS, n)) + " ." for n in lengths]

    def output(self, name, seed, test, decoding):
        learner = self.variants[name]
        if learner.copies:
            return self.output(learner.copies, seed, test, decoding)
        rng = np.random.default_rng([seed, *name.encode(), *test.encode()])
        wrong = learner.wrong + learner.spread * np.random.default_rng([seed, *name.encode()]).standard_normal()
        wrong += {"greedy": 0.0}.get(decoding, -0.01)
        lines = []
        for line in self.text(test):
            words = line.split()
            fate, other = rng.random(len(words)), rng.integers(len(WORDS), size=len(words))
            made = [w if f > wrong else WORDS[k] for w, f, k in zip(words, fate, other, strict=True) if f > wrong / 9]
            lines.append(" ".join(made))
        return [*[""] * learner.empty, *lines[learner.empty :]]

    def _record(self, path, group, place, name, launch):
        learner, seed = self.variants[name], launch
        base = {
            "run": "tiny-quality-1",
            "case": f"{group}/{name}",
            "group": group,
            "variant": name,
            "workload": self.workload,
            "axes": {"length": 64, "batch": 16, "dtype": "fp32", "device": "cpu", "seed": seed, "ghost": False},
            "pass_": "quality",
            "launch": launch,
        }
        about = {"quality": {"spec": self._spec(), "corpus": self._corpus()}}
        if seed in learner.diverged:
            curve = self._curve(learner, 20.0, seed)[:2]
            about["curve"] = curve
            return Record(**base, status="diverged", reason="loss NaN at step 180", observed=about)
        outputs, scores = [], []
        for test in self.tests:
            for decoding in self.decodings:
                lines = self.output(name, seed, test, decoding)
                entry, output = self._score(test, decoding, lines)
                scores.append(entry)
                outputs.append(output)
        first = scores[0]
        curve = self._curve(learner, first["bleu"], seed)
        about |= {"curve": curve, "scores": scores, "selected": {"select": "last", "steps": [900]}, "probes": []}
        if self.details:
            samples = [
                {"test": t, "row": row, "source": line.upper(), "reference": line}
                for t in self.tests
                for row, line in enumerate(self.text(t)[:5])
            ]
            body = {"case": base["case"], "seed": seed, "outputs": outputs, "samples": samples}
            file = f"translations/{place}-{group.replace('/', '-')}-{seed}.json.gz"
            packed = gzip.compress(json.dumps(body).encode())
            (path / file).write_bytes(packed)
            about |= {"details": file, "details_sha256": hashlib.sha256(packed).hexdigest()}
        return Record(**base, status="ok", metrics=self._metrics(first, learner, curve), observed=about)

    def _score(self, test, decoding, lines):
        references = [self.text(test)]
        sha256 = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        key = (sha256, hashlib.sha256("\n".join(references[0]).encode()).hexdigest())
        if key not in SCORED:
            bleu, chrf = BLEU(force=True), CHRF()
            b = np.array(bleu._extract_corpus_statistics(lines, references))
            c = np.array(chrf._extract_corpus_statistics(lines, references))
            score = bleu._aggregate_and_compute(b)
            words = np.array([len(line.split()) for line in references[0]])
            buckets = [
                {
                    "low": low,
                    "high": high,
                    "n": int(at.sum()),
                    "bleu": bleu._aggregate_and_compute(b[at]).score,
                    "chrf": 1.0,
                }
                for low, high in ((1, 8), (9, 12), (13, 17), (18, None))
                for at in [(words >= low) & (words <= (high or 10**9))]
            ]
            SCORED[key] = (score, chrf._aggregate_and_compute(c).score, b.tolist(), c.tolist(), buckets)
        score, chrf_score, b, c, buckets = SCORED[key]
        entry = {
            "test": test,
            "decoding": decoding,
            "num_sentences": len(lines),
            "bleu": score.score,
            "chrf": chrf_score,
            "chrfpp": chrf_score - 1.0,
            "ter": 100 - score.score,
            "brevity_penalty": score.bp,
            "length_ratio": score.sys_len / score.ref_len,
            "exact_match": 0.01,
            "empty": sum(not line for line in lines),
            "cut": 0,
            "bleu_lc_tok": score.score + 0.4,
            "signatures": {
                "bleu": self.signature,
                "chrf": "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.6.0",
            },
            "floors": self.floors,
            "buckets": buckets,
            "time_s": 2.0,
            "sentences_per_s": 150.0,
            "sha256": sha256,
        }
        return entry, {"test": test, "decoding": decoding, "hypotheses": lines, "bleu_stats": b, "chrf_stats": c}

    def _curve(self, learner, bleu, seed):
        points = []
        for step in range(90, 901, 90):
            share = 1 - math.exp(-3 * step / 900 / learner.pace)
            points.append(
                {
                    "step": step,
                    "tokens": step * 1024,
                    "time_s": step * 0.1 * (1 + 0.05 * seed),
                    "cpu_s": step * 0.1,
                    "energy_j": None,
                    "train_loss": 6 - 4 * share,
                    "lr": 1e-3,
                    "val_loss": learner.val_loss + 4 * (1 - share),
                    "val_bleu": bleu * share / (1 - math.exp(-3 / learner.pace)),
                    "val_chrf": 40.0,
                }
            )
        return points

    def _metrics(self, first, learner, curve):
        values = {name: first[name] for name in ("bleu", "chrf", "chrfpp", "ter", "brevity_penalty", "length_ratio")}
        values |= {"exact_match": first["exact_match"], "val_loss": learner.val_loss, "val_bleu": curve[-1]["val_bleu"]}
        values |= {
            "train_tokens": 921600.0,
            "num_params": 1_175_040.0,
            "empty_outputs": first["empty"],
            "cut_outputs": 0,
        }
        found = {name: Metric(value=value, unit="1") for name, value in values.items()}
        found["train_time_s"] = Metric(value=curve[-1]["time_s"], unit="s")
        found["train_tokens_per_s"] = Metric(value=921600 / curve[-1]["time_s"] / learner.pace, unit="tokens/s")
        found["decode_sentences_per_s"] = Metric(value=150.0, unit="sentences/s")
        if self.target is not None:
            hit = next((point for point in curve if point["val_bleu"] >= self.target), None)
            found["time_to_quality_s"] = Metric(value=hit and hit["time_s"], unit="s")
            found["tokens_to_quality"] = Metric(value=hit and hit["tokens"], unit="tokens")
        return found

    def _spec(self):
        recipe = {"steps": 900, "target": self.target}
        return {"corpus": {"name": self.corpus}, "recipe": recipe, "decode": list(self.decode), "margin": self.margin}

    def _corpus(self):
        seeds = {
            name: f"{self.text_seed}{self.test_seed if name in self.tests else ''}"
            for name in ("train", "val", *self.tests)
        }
        splits = {
            name: {"pairs": 9, "source_sha256": f"s{name}{seed}", "target_sha256": f"t{name}{seed}"}
            for name, seed in seeds.items()
        }
        for name in self.tests:
            splits[name]["in_training"] = self.in_training
        corpus = {"corpus": self.corpus, "synthetic": self.synthetic, "direction": self.direction, "used": splits}
        return {**corpus, "lowercase": self.lowercase, "tokenizer": {"kind": "bpe", "vocab": 500}}
