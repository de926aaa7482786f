"""Hints: the word that a user most likely meant."""

from __future__ import annotations

import pytest

from t2bench.spec.errors import did_you_mean

ARCHITECTURES = ("encdec", "encoder", "decoder")


@pytest.mark.parametrize("word", ["encoder_decoder", "encoder-decoder", "Encoder Decoder", "enc_dec"])
def test_an_encoder_decoder_is_neither_of_the_two(word: str) -> None:
    assert did_you_mean(word, ARCHITECTURES) == ", did you mean encdec?"


def test_a_long_word_leads_to_its_abbreviation() -> None:
    assert did_you_mean("learning_rate", ("steps", "lr", "clip")) == ", did you mean lr?"


@pytest.mark.parametrize(("word", "meant"), [("encodr", "encoder"), ("decoders", "decoder"), ("endec", "encdec")])
def test_a_slip_comes_first(word: str, meant: str) -> None:
    assert did_you_mean(word, ARCHITECTURES) == f", did you mean {meant}?"


@pytest.mark.parametrize("word", ["encoder_only_thing_of_mine", "l", "_", "", "lr_"])
def test_no_abbreviation_is_invented(word: str) -> None:
    assert did_you_mean(word, ("xy", "zq")) == ""
