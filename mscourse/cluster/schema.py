"""What is said of a setting and of a kind of sections; which there are is in `table`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from mscourse.cluster.settings import Provider
from mscourse.cluster.values import Kind


@dataclass(frozen=True)
class Setting:
    """A setting of a section.

    Attributes
    ----------
    name : str
        As it is written in the file.
    kind : Kind
        What is allowed.
    help : str
        What it is for, in one line.
    field : str
        Its name in the record; by default the name in small letters.
    unset : str
        What it means that it is not set, where the default alone does not say so.
    required : {"never", "always", "ec2", "ssh"}
        Whether the section must have it: a cluster perhaps with one provider only.
    refers_to : str or None
        The kind of section that it names.
    only : {"ec2", "ssh"} or None
        The provider that it is for; None is for both.
    example : str
        A value for the template, where the default is none.
    """

    name: str
    kind: Kind
    help: str
    field: str = ""
    unset: str = ""
    required: Literal["never", "always", "ec2", "ssh"] = "never"
    refers_to: str | None = None
    only: Provider | None = None
    example: str = ""

    @property
    def attribute(self) -> str:
        """Its name in the record."""
        return self.field or self.name.lower()


@dataclass(frozen=True)
class SectionKind:
    """A kind of sections.

    Attributes
    ----------
    name : str
        Such as ``"cluster"``.
    help : str
        What it is for.
    record : type
        What is made of it; it has the defaults.
    settings : tuple of Setting
        What it may have.
    is_named : bool
        Whether there are several, each with a name.
    """

    name: str
    help: str
    record: type[Any]
    settings: tuple[Setting, ...]
    is_named: bool = True

    @property
    def form(self) -> str:
        """How it is written."""
        return f"[{self.name} NAME]" if self.is_named else f"[{self.name}]"

    def default(self, setting: Setting) -> object:
        """The value of a setting that is not set."""
        return next(
            (field.default for field in fields(self.record) if field.name == setting.attribute),
            None,
        )
