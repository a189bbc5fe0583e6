"""What EC2 is asked for when it is asked for one machine."""

from __future__ import annotations

import json
import math
from typing import Any

from mscourse.cluster.ec2plan import Offer, Plan
from mscourse.cluster.settings import ClusterSettings

# How long a machine may be without an agent, beside the time that a start may take.
_UNATTENDED_MINUTES = 30

_GUARD = "/usr/local/sbin/mscourse-guard"

# /run is empty after each boot, so that the time counts from there.
_GUARD_SCRIPT = """\
#!/bin/sh
# Whoever started this machine may be gone before an agent of mscourse looks after it, or the agent
# may have been killed, or not be there after a reboot. Then it is not to cost for ever.
seen=/run/mscourse-guard
if [ ! -e "$seen" ] || pgrep -f 'mscourse[.]cluster[.]agent' >/dev/null; then touch "$seen"; fi
if [ -n "$(find "$seen" -mmin +%(minutes)d)" ]; then shutdown -h now; fi
"""

_GUARD_UNITS = {
    "service": f"[Service]\nType=oneshot\nExecStart={_GUARD}\n",
    "timer": ("[Timer]\nOnBootSec=1min\nOnUnitActiveSec=2min\n[Install]\nWantedBy=timers.target\n"),
}


def run_arguments(plan: Plan, name: str, offer: Offer, group_id: str) -> dict[str, Any]:
    """The arguments of ``RunInstances`` for one node, without tags and token."""
    request = plan.request
    arguments: dict[str, Any] = {
        "ImageId": offer.image.id,
        "InstanceType": offer.instance_type.name,
        "MinCount": 1,
        "MaxCount": 1,
        "KeyName": plan.key_name,
        "NetworkInterfaces": [
            {
                "DeviceIndex": 0,
                "SubnetId": offer.subnet,
                "Groups": [group_id],
                "AssociatePublicIpAddress": True,
                "DeleteOnTermination": True,
            }
        ],
        "BlockDeviceMappings": [
            {
                "DeviceName": offer.image.root_device,
                "Ebs": {
                    "VolumeType": "gp3",
                    "VolumeSize": offer.root_gb,
                    "Encrypted": True,
                    "DeleteOnTermination": True,
                },
            }
        ],
        # Without a token from version 2, any program on the node that can be made to fetch a page
        # gives away what the metadata hold; and no container is to reach them.
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 1,
        },
        # A cluster that has nothing to do shuts itself down: then it costs its disks at most.
        "InstanceInitiatedShutdownBehavior": "terminate" if offer.is_spot else "stop",
        "UserData": user_data(request.settings),
    }
    if offer.instance_type.is_burstable:
        # Otherwise what it computes beyond its share costs extra, whatever the price or the bid.
        arguments["CreditSpecification"] = {"CpuCredits": "standard"}
    if offer.is_spot:
        arguments["InstanceMarketOptions"] = {
            "MarketType": "spot",
            "SpotOptions": {
                "MaxPrice": f"{request.spot_bid:g}",
                "SpotInstanceType": "one-time",
                "InstanceInterruptionBehavior": "terminate",
            },
        }
    return arguments


def user_data(settings: ClusterSettings) -> str:
    """What a node does first: make the account that the key logs in to, and guard itself.

    This is cloud-init's configuration, which is YAML; JSON is YAML as well. The guard is a timer of
    systemd, which all current images have.
    """
    content: dict[str, Any] = {
        "write_files": [
            {
                "path": _GUARD,
                "permissions": "0755",
                "content": guard_script(settings.start_timeout_s),
            },
            *(
                {"path": f"/etc/systemd/system/mscourse-guard.{kind}", "content": unit}
                for kind, unit in _GUARD_UNITS.items()
            ),
        ],
        "runcmd": [
            ["systemctl", "daemon-reload"],
            ["systemctl", "enable", "--now", "mscourse-guard.timer"],
        ],
        # Instead of the image's own account, which has the key of the instance.
        "user": {
            "name": settings.cluster_user,
            "shell": "/bin/bash",
            "lock_passwd": True,
            "sudo": ["ALL=(ALL) NOPASSWD:ALL"],
        },
    }
    if settings.cluster_user == "root":
        content["disable_root"] = False  # or its key would only tell to log in as somebody else
    shell = settings.cluster_shell
    if shell not in ("bash", "sh"):
        # Not before it is installed: an account whose shell is missing lets nobody in.
        content["packages"] = [shell]
        change = f'path=$(command -v {shell}) && usermod --shell "$path" {settings.cluster_user}'
        content["runcmd"].append(["sh", "-c", change])
    elif shell == "sh":
        content["user"]["shell"] = "/bin/sh"
    return "#cloud-config\n" + json.dumps(content, indent=1) + "\n"


def guard_script(start_timeout_s: float) -> str:
    """Give the script that switches a machine off which no agent has looked after for long."""
    return _GUARD_SCRIPT % {"minutes": _UNATTENDED_MINUTES + math.ceil(start_timeout_s / 60)}
