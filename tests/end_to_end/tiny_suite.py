"""A suite that takes seconds: for what happens around measuring, not for results."""

TINY = """
schema: 1
name: tiny
summary: "seconds, not results"
reference: vanilla
variants: [vanilla, vanilla+flash]
model: {arch: decoder, width: 32, heads: 2, ff: 64, dec_layers: 1, vocab: 512}
matrix: {workload: [train_step], dtype: [fp32], length: [16, 32, 64, 128]}
tokens_per_step: 128
measure: {launches: 2, rounds: 2, max_rounds: 3, clean_share: 0.01, warmup_s: 0.02, min_sample_s: 0.002}
"""
