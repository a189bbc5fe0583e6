"""Read an INI file, and know the line of everything.

The standard library's `configparser` forgets the lines, stops at the first error and quotes whole
lines in its messages, secrets included. This reader goes on to the end and quotes no value. It
knows nothing of what the sections and settings mean.

::

    # a comment                   also ; at the beginning, and ' #' or ' ;' further on
    [cluster small]               a section
    NAME = value                  a setting, also with a colon; case does not matter in its name
    NAME = one,
        two                       a deeper indentation continues the value
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from mscourse.cluster.remarks import Place, Remarks

_LINE_END = re.compile(r"\r\n|\r|\n")
_INLINE_COMMENT = re.compile(r"(?:^|\s)[#;].*")
_HEADER = re.compile(r"\[([^\[\]]*)\]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")

# A continuation line that looks like this was meant to be a setting. '==' is a version's.
_LIKE_A_SETTING = re.compile(r"\w+\s*=(?!=)")

# What may be shown as the name of a setting. Anything else may be a secret, broken over two lines.
_SHOWABLE = re.compile(r"[A-Za-z][A-Za-z0-9_ -]{0,31}")


@dataclass
class Entry:
    """A setting as it is written.

    Attributes
    ----------
    name : str
        In capitals.
    value : str
        Without comments; lines are separated by a line feed. It may be a secret, so that it is not
        in the representation.
    place : Place
        Its first line.
    """

    name: str
    value: str = field(repr=False)
    place: Place

    @property
    def shown_name(self) -> str:
        """The name for messages."""
        return self.name if _SHOWABLE.fullmatch(self.name) else "with this name"


@dataclass
class Section:
    """A section as it is written.

    Attributes
    ----------
    title : str
        What is in the brackets, with single blanks.
    place : Place
        The line of the header.
    entries : dict of str to Entry
        By name, in the order of the file.
    """

    title: str
    place: Place
    entries: dict[str, Entry] = field(default_factory=dict)


def decode(content: bytes, path: Path, remarks: Remarks) -> str:
    """Make text of a file's bytes; what is no text becomes an error and question marks."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(_LINE_END.findall(content[: error.start].decode("utf-8", "replace"))) + 1
        remarks.error(Place(path, line), "This is not UTF-8 text. Save the file as UTF-8.")
        return content.decode("utf-8-sig", "replace")


def read_ini(text: str, path: Path, remarks: Remarks) -> list[Section]:
    """Read the sections of a text; errors of its form are added to the remarks."""
    reader = _Reader(path, remarks)
    for number, line in enumerate(_LINE_END.split(text), 1):
        reader.take(Place(path, number), line)
    return reader.sections


class _Reader:
    """Reads line by line. Knows the section and the setting that the next line may belong to."""

    def __init__(self, path: Path, remarks: Remarks) -> None:
        self.sections: list[Section] = []
        self._remarks = remarks
        self._section: Section | None = None
        self._entry: Entry | None = None
        self._indent = 0

    def take(self, place: Place, line: str) -> None:
        if _CONTROL.search(line):
            self._remarks.error(place, "The line has a control character. Is this a text file?")
            return
        content = _INLINE_COMMENT.sub("", line).strip()
        if not content:
            return
        indent = len(line) - len(line.lstrip())
        continued = self._entry if indent > self._indent else None
        if self._is_header(content, may_be_value=continued is not None):
            self._take_header(place, content)
        elif continued is not None:
            self._continue(place, content, continued)
        else:
            self._indent = indent
            self._take_setting(place, content)

    @staticmethod
    def _is_header(content: str, *, may_be_value: bool) -> bool:
        """Whether a line begins a section; an address such as [::1] in a value does not."""
        form = r"\[\s*[A-Za-z][^:\]]*\]" if may_be_value else r"\[.*"
        return re.fullmatch(form, content) is not None

    def _take_header(self, place: Place, content: str) -> None:
        match = _HEADER.fullmatch(content)
        if match is None:
            self._remarks.error(place, "A section begins with its name in brackets: [cluster NAME]")
        # After a broken header settings are read all the same, for what is wrong with them.
        self._section = Section(" ".join(match[1].split()) if match else "", place)
        self._entry = None
        if match:
            self.sections.append(self._section)

    def _continue(self, place: Place, content: str, entry: Entry) -> None:
        if _LIKE_A_SETTING.match(content):
            self._remarks.error(
                place,
                f"The line continues the setting of line {entry.place.line}, but looks like one of "
                "its own. Let both begin in the same column.",
            )
        else:
            entry.value = f"{entry.value}\n{content}".strip()

    def _take_setting(self, place: Place, content: str) -> None:
        name, *rest = re.split(r"\s*[=:]\s*", content, maxsplit=1)
        entry = Entry(name.upper(), rest[0] if rest else "", place)
        self._entry = entry
        if not rest or not name:
            self._remarks.error(place, "A setting is written as NAME = value; a comment begins #.")
        elif self._section is None:
            self._remarks.error(place, "A setting stands in a section, such as [cluster NAME].")
        elif entry.name in self._section.entries:
            first = self._section.entries[entry.name].place
            self._remarks.error(
                place, f"The setting {entry.shown_name} is already in line {first.line}."
            )
        else:
            self._section.entries[entry.name] = entry
