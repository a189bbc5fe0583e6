"""Bring persisted splits to the nodes: once per node, checked there, and left in its memory.

No shared file system is needed. Run as ``python -m mscourse.cluster.transfer FOLDER`` on a node,
it reads what has come and compares it with the checksums, which also warms the page cache.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mscourse.cluster.nodes import Node
from mscourse.cluster.services import folder_of, quoted_path
from mscourse.cluster.ssh import Ssh
from mscourse.errors import MSCourseError
from mscourse.manifest import MANIFEST, read_manifest

if TYPE_CHECKING:
    from mscourse.splits import Splits

# To read at 50 MB/s, which is a slow disk.
_SLOWEST_BYTES_PER_S = 50e6
_IMPORTS_WITHIN_S = 60.0

# What the node's orders say of its interpreter and of this package, for bash.
_CHECK = """\
said() { sed -n 's/^ "'"$1"'": "\\(.*\\)",\\{0,1\\}$/\\1/p' "$HOME/%(orders)s"; }
PYTHONPATH=$(said package_folder) "$(said python)" -m mscourse.cluster.transfer %(folder)s
"""


@dataclass(frozen=True)
class Sent:
    """How splits came to a node.

    Attributes
    ----------
    n_bytes : int
        Size of the files.
    elapsed_s : float
        Seconds for copying and checking.
    """

    n_bytes: int
    elapsed_s: float


def send_splits(ssh: Ssh, node: Node, splits: Splits, data_folder: str) -> Sent:
    """Copy splits to a node with rsync, and check them there.

    Parameters
    ----------
    ssh : Ssh
    node : Node
    splits : Splits
    data_folder : str
        On the node; a leading ~/ is its home folder.

    Raises
    ------
    NodeError
        If they do not arrive whole.
    """
    start_s = time.monotonic()
    folder = f"{data_folder}/{splits.folder_on_nodes}"
    ssh.run(node, f"mkdir -p {quoted_path(folder)}", does="the splits had a folder")
    # What was cut off goes on where it was. Only with the manifest does it count as being there.
    for options in (["--partial", "--delete", f"--exclude=/{MANIFEST}"], []):
        source, target = f"{splits.folder}/", f"{folder.removeprefix('~/')}/"
        ssh.rsync(node, [source], target, to_node=True, options=options)
    _check(ssh, node, folder, splits.n_bytes)
    return Sent(splits.n_bytes, time.monotonic() - start_s)


def relay_splits(ssh: Ssh, source: Node, target: Node, names: Iterable[str], folder: str) -> None:
    """Copy splits from one node to another one, through this machine, which need not have them."""
    for name in names:
        there = quoted_path(f"{folder}/{name}")
        told = ssh.run(source, f"du -sk {there}", does="it told a size")
        n_bytes = 1024 * int(told.splitlines()[-1].split()[0])
        # A leading dot hides it from whoever lists what has been sent: it may be cut off.
        partial = f"{folder}/.{name}.partial"
        new = quoted_path(partial)
        takes = f"rm -rf {new} && mkdir -p {new} && tar -xf - -C {new}"
        ssh.relay(source, target, f"tar -cf - -C {there} .", takes, does=f"{name} was copied")
        _check(ssh, target, partial, n_bytes)
        ssh.run(target, f"rm -rf {there}; mv {new} {there}", does=f"{name} had its name")


def _check(ssh: Ssh, node: Node, folder: str, n_bytes: int) -> None:
    orders = f"{folder_of(node.cluster)}/node.json"
    script = _CHECK % {"orders": orders, "folder": quoted_path(folder)}
    within_s = _IMPORTS_WITHIN_S + n_bytes / _SLOWEST_BYTES_PER_S
    ssh.run(node, script, does=f"{folder} was found to be whole", timeout_s=within_s)


def main() -> int:
    """Check the splits in the folder that is named on the command line."""
    from mscourse.splits import Splits  # not needed by the commands, which import this

    folder = Path(sys.argv[1])
    try:
        Splits(folder, read_manifest(folder)).verify()
    except MSCourseError as error:
        print(error, file=sys.stderr)  # noqa: T201 (ssh brings it to whoever asked)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
