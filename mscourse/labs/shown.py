"""Names that somebody else has chosen, as they may be shown: they must not steer a terminal."""

from __future__ import annotations

#: Two characters that show nothing: one keeps letters apart, one joins them. Python counts them as
#: not printable, and Persian and Indian names are not spelt right without them.
JOINERS = "\u200c\u200d"


def is_printable(text: str) -> bool:
    """Whether a text has nothing but characters that are shown, and joiners between them."""
    return all(each.isprintable() or each in JOINERS for each in text)


def printable(text: str) -> str:
    """The text, with a question mark for each character that may do more than be shown."""
    return "".join(each if is_printable(each) else "?" for each in text)
