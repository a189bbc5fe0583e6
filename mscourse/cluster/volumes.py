"""Mount the volumes of a cluster on its master: what is on them outlives the cluster."""

from __future__ import annotations

import shlex

from mscourse.cluster import nodefiles
from mscourse.cluster.ec2volumes import AttachedVolume
from mscourse.cluster.nodes import Node
from mscourse.cluster.ssh import Ssh

# Only what was made for the cluster, and has never been used, is formatted.
_MOUNT = (
    nodefiles.AS_ROOT
    + """\
if findmnt %(path)s >/dev/null; then exit 0; fi
for _ in $(seq 60); do
    for device in %(devices)s; do if [ -e "$device" ]; then break 2; fi; done
    sleep 1
done
if [ ! -e "$device" ]; then echo "The disk does not show up." >&2; exit 1; fi
if %(is_new)s; then
    # 2 means that there is nothing on it. Anything else may be a disk that cannot be read.
    found=0
    as_root blkid -p "$device" >/dev/null || found=$?
    if [ "$found" = 2 ]; then as_root mkfs.ext4 -q "$device"; fi
fi
as_root mkdir -p %(path)s
as_root mount "$device" %(path)s
if %(is_new)s; then as_root chown %(user)s %(path)s; fi
"""
)


def mount_volume(ssh: Ssh, node: Node, volume: AttachedVolume, user: str) -> None:
    """Mount a volume that is attached to a node; format it if it was made for the cluster.

    Parameters
    ----------
    ssh : Ssh
    node : Node
    volume : AttachedVolume
        One of which the template does not say where is left alone.
    user : str
        Who owns the folder of a new one.

    Raises
    ------
    NodeError
        If the disk does not show up, or cannot be mounted.
    """
    if volume.volume is None:
        return
    script = _MOUNT % {
        "devices": shlex.join(volume.paths),
        "path": shlex.quote(volume.volume.mount_path),
        "is_new": "true" if volume.is_of_cluster else "false",
        "user": shlex.quote(user),
    }
    does = f"the volume {volume.volume.name} ({volume.id}) was mounted"
    ssh.run(node, script, does=does, timeout_s=300)
