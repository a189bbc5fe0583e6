"""Write a configuration to begin with: every setting is there, with its help, from the table."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from mscourse.cluster.schema import SectionKind, Setting
from mscourse.cluster.settings import Provider
from mscourse.cluster.table import CLUSTER, SECTIONS, as_text
from mscourse.cluster.values import SecretText
from mscourse.errors import ClusterConfigError

_HEADING = """\
# Clusters of mscourse. Check this file with `mscourse cluster check`.
#
# Remove the # before a setting to use it; what follows it here is its default or an example.
# A later line that is indented goes on with a value. The value none takes back what a template
# has from the one that it EXTENDS. The names of StarCluster are understood.
"""

# What the template sets: enough for a first cluster.
_ACTIVE = {
    ("global", "DEFAULT_TEMPLATE"): "smallcluster",
    ("key", "KEY_LOCATION"): "~/.ssh/mykey.rsa",
    ("cluster", "KEYNAME"): "mykey",
    ("cluster", "CLUSTER_SIZE"): "2",
    ("cluster", "REGION"): "us-west-2",
}

_NAMES = {"key": "mykey", "volume": "results", "permission": "notebook", "cluster": "smallcluster"}

# Sections that are there as comments only.
_OPTIONAL = ("volume", "permission")


def template() -> str:
    """Write the text of the template."""
    parts = [_HEADING]
    for kind in SECTIONS.values():
        if kind.name != "plugin":  # nobody begins with what is obsolete
            parts.append(_section(kind, _NAMES.get(kind.name, ""), kind.name not in _OPTIONAL))
    parts.append(_section(CLUSTER, "classroom", False, "ssh"))
    return "\n".join(parts)


def _section(kind: SectionKind, name: str, is_active: bool, provider: Provider = "ec2") -> str:
    """Write a section; one that is not active is a comment."""
    header = f"[{kind.name} {name}]" if kind.is_named else f"[{kind.name}]"
    about = "Machines that are there already." if provider == "ssh" else kind.help
    lines = [f"# {about}", header if is_active else f"#{header}"]
    for setting in kind.settings:
        if setting.only not in (None, provider) or setting.name == "PLUGINS":
            continue
        lines += [f"# {setting.help}", f"# {_range(kind, setting, provider)}"]
        active = _ACTIVE.get((kind.name, setting.name)) if is_active else None
        inactive = _commented(kind, setting, provider)
        lines.append(f"{setting.name} = {active}" if active else inactive)
    return "\n".join(lines) + "\n"


def _range(kind: SectionKind, setting: Setting, provider: Provider) -> str:
    """Say what is allowed, and what holds if nothing is said."""
    allowed = setting.kind.allowed
    if setting.required in ("always", provider):
        return f"({allowed}; required)"
    default = as_text(kind.default(setting), setting.unset)
    if setting.name == "CLUSTER_SIZE" and provider == "ssh":
        default = "all HOSTS"
    return f"({allowed}; default: {default or 'none'})"


def _commented(kind: SectionKind, setting: Setting, provider: Provider) -> str:
    if isinstance(setting.kind, SecretText):
        return f"#{setting.name} ="
    if setting.name == "PROVIDER":
        return f"#PROVIDER = {provider}"
    example = setting.example or as_text(kind.default(setting))
    return f"#{setting.name} = {example}"


def write_template(path: Path, *, overwrite: bool = False) -> None:
    """Write the template into a file that only its owner can read.

    The file may later hold keys, and so may a folder that has to be made for it.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    overwrite : bool
        Whether to replace one that is there.

    Raises
    ------
    ClusterConfigError
        It is there already, or cannot be written; nothing has changed.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if overwrite:
            # Beside the old file, until it is whole; and new, whoever could read the old one.
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        else:
            try:
                handle, name = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), str(path)
            except FileExistsError:
                raise ClusterConfigError(
                    f"{path}: The file is there already. Use --force to replace it, or -o for "
                    "another one."
                ) from None
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(template())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ClusterConfigError(f"{path}: It cannot be written: {error.strerror}.") from error
