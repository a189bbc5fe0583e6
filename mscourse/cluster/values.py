"""The kinds of values that a setting can have: what is allowed, and reading it.

Each kind has ``allowed``, a phrase such as "a whole number from 1 to 500", and ``read``, which
makes a value of a text or raises a ValueError that says what it must be. No message quotes a
secret.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from packaging.requirements import InvalidRequirement, Requirement

from mscourse.cluster.remarks import did_you_mean, quoted
from mscourse.cluster.settings import Host, Secret

# Names travel to ssh and into paths: a first letter that is no dash keeps them from being options.
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"
# EC2 has pairs of keys such as "me@laptop (1)"; brackets would end the title of a section.
_KEY_NAME = r"(?! )[ -Z\\^-~]{1,255}(?<! )"
_HOST = re.compile(
    r"(?:(?P<user>[A-Za-z_][A-Za-z0-9_.-]*)@)?"
    r"(?P<host>[A-Za-z0-9][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>\d{1,5}))?",
    re.ASCII,
)

# A comma that separates packages: not the one of 'numpy>=2,<3', nor the one of 'dask[array,bag]'.
_BETWEEN_PACKAGES = re.compile(r"\n|,(?![^\[\n]*\])(?!\s*[<>=!~])")

# Who logs in, in an address: a password, or a token. The user of ssh is neither.
_CREDENTIALS = re.compile(r"(?<!ssh)://[^/\s]*@|://[^/\s@]*:[^/\s]*@")

# Folders without which a node cannot run or be reached. A volume would hide what is in them.
_SYSTEM_FOLDERS = re.compile(
    r"/|/(bin|boot|dev|etc|home|lib|lib64|opt|proc|root|run|sbin|sys|tmp|usr|var)"
)


class Kind(Protocol):
    """A kind of values."""

    @property
    def allowed(self) -> str:
        """What is allowed, as a phrase after "must be"."""

    def read(self, text: str, folder: Path) -> object:
        """Make a value of a text.

        Parameters
        ----------
        text : str
            What was written; not empty.
        folder : pathlib.Path
            Where the file lies, which relative paths start from.

        Raises
        ------
        ValueError
            It is not allowed. The message begins with "must be".
        """


def _refusal(kind: Kind, text: str, more: str = "") -> ValueError:
    return ValueError(f"must be {kind.allowed}, not {quoted(text)}.{more}")


@dataclass(frozen=True)
class Whole:
    """A whole number."""

    low: int
    high: int

    @property
    def allowed(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    def read(self, text: str, folder: Path) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or not self.low <= int(text) <= self.high:
            raise _refusal(self, text)
        return int(text)


@dataclass(frozen=True)
class Number:
    """A number, such as a price."""

    low: float
    high: float

    @property
    def allowed(self) -> str:
        return f"a number from {self.low:g} to {self.high:g}"

    def read(self, text: str, folder: Path) -> float:
        # Python's own float would take 'nan', and '0_10' for 10.
        is_number = re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)", text)
        if not is_number or not self.low <= float(text) <= self.high:
            raise _refusal(self, text)
        return float(text)


@dataclass(frozen=True)
class Truth:
    """Yes or no."""

    allowed: str = "True or False"

    def read(self, text: str, folder: Path) -> bool:
        if text.lower() in ("true", "yes", "on", "1"):
            return True
        if text.lower() in ("false", "no", "off", "0"):
            return False
        raise _refusal(self, text)


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    options: tuple[str, ...]

    @property
    def allowed(self) -> str:
        return f"one of {', '.join(self.options)}"

    def read(self, text: str, folder: Path) -> str:
        if text.lower() not in self.options:
            raise _refusal(self, text, did_you_mean(text, self.options))
        return text.lower()


@dataclass(frozen=True)
class Text:
    """A text of a certain form."""

    pattern: str
    allowed: str

    def read(self, text: str, folder: Path) -> str:
        if not re.fullmatch(self.pattern, text, re.ASCII):
            raise _refusal(self, text)
        return text


@dataclass(frozen=True)
class Name:
    """A name that a section has, or is given.

    The keys of EC2 have names of their own.
    """

    of: str

    @property
    def allowed(self) -> str:
        if self.of == "key":
            return "the name of a key, of at most 255 characters of ASCII without [ and ]"
        return f"the name of a {self.of}, of letters, digits, . _ -"

    def read(self, text: str, folder: Path) -> str:
        if not re.fullmatch(_KEY_NAME if self.of == "key" else _NAME, text):
            raise _refusal(self, text)
        return text


@dataclass(frozen=True)
class Several:
    """A list, separated by commas or lines."""

    each: Kind

    @property
    def allowed(self) -> str:
        return f"a list with commas, each {self.each.allowed}"

    def read(self, text: str, folder: Path) -> tuple[object, ...]:
        is_packages = isinstance(self.each, Package)
        pieces = _BETWEEN_PACKAGES.split(text) if is_packages else re.split(r"[,\n]", text)
        words = [piece.strip() for piece in pieces if piece.strip()]
        values = tuple(self.each.read(word, folder) for word in words)
        for index, value in enumerate(values):
            if value in values[:index]:
                raise ValueError(f"must not name {quoted(words[index])} twice.")
        return values


@dataclass(frozen=True)
class Package:
    """What pip is to install."""

    allowed: str = "a package for pip, such as psutil or numpy>=2,<3"

    def read(self, text: str, folder: Path) -> str:
        if _CREDENTIALS.search(text):
            raise ValueError("must not have a password or token in an address.")
        try:
            return str(Requirement(text))
        except (InvalidRequirement, RecursionError):  # a thousand brackets
            hint = " Write an address as NAME @ ADDRESS." if "://" in text else ""
            raise _refusal(self, text, hint) from None


@dataclass(frozen=True)
class HostName:
    """A machine that is reached by ssh."""

    allowed: str = "a host as user@host:port, of which user and port can be left out"

    def read(self, text: str, folder: Path) -> Host:
        match = _HOST.fullmatch(text)
        port = int(match["port"]) if match and match["port"] else None
        if match is None or (port is not None and not 1 <= port <= 65535):
            raise _refusal(self, text)
        if match["host"].startswith("["):
            raise ValueError(
                f"must not be an address of IPv6, such as {quoted(text)}: the nodes of a cluster "
                "reach each other by IPv4. Give the name of the host, or its address of IPv4."
            )
        return Host(match["host"], match["user"], port)


@dataclass(frozen=True)
class LocalPath:
    """A file or folder on this machine; ``~`` and ``$NAME`` are expanded."""

    allowed: str = "the path of a file"

    def read(self, text: str, folder: Path) -> Path:
        path = os.path.expanduser(os.path.expandvars(text))  # noqa: PTH111 (Path's raises)
        if path.startswith("~") or "\n" in path:
            raise _refusal(self, text)
        return folder / path


@dataclass(frozen=True)
class NodePath:
    """A folder or a program on a node. It ends up in commands, so its letters are few."""

    in_home: bool = False
    what: str = "a folder"

    @property
    def allowed(self) -> str:
        start = "/ or ~/" if self.in_home else "/"
        return f"{self.what} that begins with {start}, of letters, digits, / . _ -"

    def read(self, text: str, folder: Path) -> str:
        start = "(?:~/|/)" if self.in_home else "/"
        is_path = re.fullmatch(start + r"[A-Za-z0-9_./-]*", text) and ".." not in text.split("/")
        path = os.path.normpath(text).replace("//", "/") if is_path else "~"
        if path == "~":
            raise _refusal(self, text)
        if _SYSTEM_FOLDERS.fullmatch(path):
            raise ValueError(
                f"must be a folder of its own, such as /data: {path} belongs to the system."
            )
        return path


@dataclass(frozen=True)
class Network:
    """The addresses that may come in."""

    allowed: str = "an IPv4 network such as 203.0.113.0/24"

    def read(self, text: str, folder: Path) -> ipaddress.IPv4Network:
        try:
            network = ipaddress.IPv4Network(text, strict=False)
        except ValueError:
            raise _refusal(self, text) from None
        if "/" in text and str(network.network_address) != text.partition("/")[0]:
            raise _refusal(self, text, f" Did you mean {network}?")
        return network


@dataclass(frozen=True)
class SecretText:
    """A text that is never shown."""

    allowed: str = "a text of one line"

    def read(self, text: str, folder: Path) -> Secret:
        if "\n" in text:
            raise ValueError(f"must be {self.allowed}.")
        return Secret(text)
