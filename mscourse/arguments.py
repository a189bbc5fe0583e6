"""Kinds of arguments that several commands take, so that they are checked and told alike."""

from __future__ import annotations

import argparse
from typing import Any


def positive(kind: type[int] | type[float]) -> Any:
    """Make a type for `argparse`: a positive number of this kind."""

    def number(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not a positive number")
        return value

    number.__name__ = kind.__name__  # argparse says it when the text is no number at all
    return number
