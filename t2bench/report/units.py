"""Numbers as people read them: units, intervals, effects, exact polynomials. The only place that rounds.

Rules: what is not known is `n/a`, never 0. A number shows the digits that its interval supports, and rounding never
moves a bound across 1, so that what is printed cannot contradict the verdict beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from t2bench.analysis.results import Effect, Interval

NA = "n/a"

_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_BYTES = ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))
_THOUSANDS = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def known(value: float | None) -> bool:
    """Whether there is a number to show."""
    return value is not None and math.isfinite(value)


def scale(value: float, unit: str) -> tuple[float, str]:
    """(divisor, shown unit) that put `value` between 1 and 1000 (1024 for bytes) where the unit has a ladder."""
    size = abs(value)
    if unit == "s":
        ladder: Sequence[tuple[float, str]] = _SECONDS
    elif unit == "bytes":
        ladder = _BYTES
    elif unit == "1":
        return 1.0, ""
    else:
        name = {"flops": "FLOP", "count": ""}.get(unit, unit)
        ladder = [(step, f"{prefix}{name}" if unit == "flops" else f"{prefix} {name}") for step, prefix in _THOUSANDS]
    for step, name in ladder:
        # 0.9995 so that a value about to be rounded up to the next unit is already shown in it.
        if size >= step * 0.9995:
            return step, name.strip()
    return (ladder[-1][0], ladder[-1][1].strip())


def digits(value: float, significant: int = 3) -> str:
    """A plain decimal with that many significant digits; never an exponent, never fewer integer digits than it has."""
    if value == 0:
        return "0"
    decimals = max(0, significant - 1 - math.floor(math.log10(abs(value))))
    # 9.996 has its digits counted before it becomes 10.0.
    rounded = round(value, decimals)
    if rounded and math.floor(math.log10(abs(rounded))) > math.floor(math.log10(abs(value))):
        decimals = max(0, decimals - 1)
    return f"{value:.{decimals}f}"


def quantity(value: float | None, unit: str, significant: int = 3) -> str:
    """For example `412 ms`, `1.21 GiB`, `51.5 GFLOP`, `12.4 k tokens/s`; `n/a` for None."""
    if value is None or not math.isfinite(value):
        return NA
    step, name = scale(value, unit)
    return f"{digits(value / step, significant)} {name}".rstrip()


def together(values: Sequence[float | None], unit: str, separator: str = " / ") -> str:
    """Several values in the unit of the largest: `1.21 / 1.34 / 0.80 GiB`."""
    present = [value for value in values if value is not None and math.isfinite(value)]
    if not present:
        return NA
    step, name = scale(max(present, key=abs), unit)
    largest = max(map(abs, present)) / step
    decimals = max(0, 2 - math.floor(math.log10(largest))) if largest else 0
    shown = [NA if v is None or not math.isfinite(v) else f"{v / step:.{decimals}f}" for v in values]
    return f"{separator.join(shown)} {name}".rstrip()


def interval(value: Interval | None, unit: str = "1", suffix: str = "") -> str:
    """For example `412 ms [401, 423]`; without bounds (one launch) the value alone, with three digits."""
    if value is None or not math.isfinite(value.value):
        return NA
    step, name = scale(value.value, unit)
    name = f" {name}" if name else suffix
    if value.low is None or value.high is None:
        return f"{digits(value.value / step)}{name}"
    low, middle, high = value.low / step, value.value / step, value.high / step
    places = _places(low, middle, high)
    return f"{middle:.{places}f}{name} [{low:.{places}f}, {high:.{places}f}]"


def _places(low: float, middle: float, high: float) -> int:
    """Decimals for a value and its bounds: the Particle Data Group's rule on the half width, kept between limits."""
    half = (high - low) / 2
    first = math.floor(math.log10(half)) if half > 0 else -3
    places = -first + (1 if half / 10.0**first < 3.55 else 0)
    size = math.floor(math.log10(abs(middle))) if middle else 0
    places = max(1 - size, min(places, 3 - size), 0)
    while places < 6 and _crosses_one(low, high, places):
        places += 1
    while places < 6 and low > 0 and round(low, places) == 0:
        places += 1
    return places


def _crosses_one(low: float, high: float, places: int) -> bool:
    """Whether rounding would put a bound on or across 1 that is not there."""
    return (low > 1 >= round(low, places)) or (high < 1 <= round(high, places))


def inverse(value: Interval) -> Interval:
    """1 / interval: a time ratio becomes a speed-up."""
    low = None if value.high is None or value.high <= 0 else 1 / value.high
    high = None if value.low is None or value.low <= 0 else 1 / value.low
    return Interval(value=1 / value.value, low=low, high=high)


def times(value: Interval | None) -> str:
    """A ratio: `2.31x [2.27, 2.36]`."""
    return interval(value, "1", "x")


def percent(value: float | None) -> str:
    """A share or relative difference: `3.1 %`."""
    return NA if value is None or not math.isfinite(value) else f"{digits(100 * value, 2)} %"


def difference(value: float | None) -> str:
    """A difference that a test can see: `3.1 %`; from twofold on `a factor of 14`."""
    if value is None or not math.isfinite(value) or value < 1:
        return percent(value)
    return f"a factor of {digits(1 + value, 2)}"


def change(value: Interval | None) -> str:
    """A ratio as a relative difference: `-2.2 % [-4.6, +0.4]`; bounds stay on their side of 0."""
    if value is None or not math.isfinite(value.value):
        return NA
    if value.low is None or value.high is None:
        return f"{100 * (value.value - 1):+.1f} %"
    wide = max(abs(value.value - 1), value.high - value.low) >= 0.2
    places = max(_places(value.low, value.value, value.high) - 2, 0 if wide else 1)
    low, middle, high = (
        f"{round(100 * (x - 1), places) + 0.0:+.{places}f}" for x in (value.low, value.value, value.high)
    )
    return f"{middle} % [{low}, {high}]"


def speed_up(effect: Effect) -> Interval:
    """Reference / variant of a time effect: above 1 is faster."""
    return inverse(effect.ratio)


def in_words(effect: Effect, *, lower: str = "faster", higher: str = "slower") -> str:
    """The effect as its verdict says it: `2.31x [2.27, 2.36] faster`, `not distinguishable (could have seen 3.1 %)`.

    `lower` and `higher` are the words for a ratio below and above 1; the factor shown is always the one above 1 that
    fits the word.
    """
    if effect.doubt:
        return f"not judged: {effect.doubt}"
    if effect.verdict == "not distinguishable":
        seen = f" (could have seen {percent(effect.mde)})" if known(effect.mde) else ""
        return f"not distinguishable{seen}"
    down = effect.ratio.value < 1
    factor = inverse(effect.ratio) if down else effect.ratio
    sentence = f"{times(factor)} {lower if down else higher}"
    return f"{sentence} in a single launch, which allows no interval" if effect.verdict == "undecidable" else sentence


def polynomial(coefficients: tuple[Fraction, Fraction, Fraction], unit: str) -> str:
    """For example `12 L^2 + 3072 L bytes, exact`."""
    terms = ""
    for coefficient, power in zip(reversed(coefficients), (" L^2", " L", ""), strict=True):
        if coefficient == 0:
            continue
        sign = "-" if coefficient < 0 else "+"
        terms += (
            f" {sign} {abs(coefficient)}{power}"
            if terms
            else f"{'-' if coefficient < 0 else ''}{abs(coefficient)}{power}"
        )
    return f"{terms or '0'} {unit}, exact"


def term(coefficient: Fraction, power: str = "L^2") -> str:
    """One term of such a polynomial: `12 L^2`, or `none` when it is absent."""
    return f"{coefficient} {power}" if coefficient else f"no {power} term"


def at_length(value: Interval | None) -> str:
    """A length: `L=812 [700, 930]`, whole tokens."""
    if value is None or not math.isfinite(value.value):
        return NA
    bounds = "" if value.low is None or value.high is None else f" [{value.low:.0f}, {value.high:.0f}]"
    return f"L={value.value:.0f}{bounds}"
