"""Exact numbers."""

from __future__ import annotations

import decimal
import functools
from decimal import Decimal

# Exact or an error: no result is ever rounded.
EXACT = decimal.Context(prec=6000, traps=[decimal.Inexact, decimal.DivisionByZero, decimal.InvalidOperation])


def exact(value: object) -> Decimal | None:
    """Return the decimal that was written, or None when `value` is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return _as_written(value)


@functools.lru_cache(maxsize=16384, typed=True)
def _as_written(value: float) -> Decimal | None:
    number = Decimal(value) if isinstance(value, int) else Decimal(str(value))
    return number if number.is_finite() else None


def plain(number: Decimal) -> int | float:
    """Return a number that JSON can carry: an integer where it is one."""
    whole = int(number)
    return whole if whole == number else float(number)


def ceiling_of_ratio(dividend: Decimal, divisor: Decimal | int = 1) -> int:
    """Return the smallest whole number of `divisor` that makes up `dividend`; call within EXACT."""
    quotient, rest = divmod(dividend, divisor)
    return int(quotient) + (rest > 0)
