"""What EC2 is asked for when it is asked for one machine."""

from __future__ import annotations

import json
from typing import Any

from mscourse.cluster.ec2plan import ROOT_GB, Offer, Plan
from mscourse.cluster.settings import ClusterSettings


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
                    "VolumeSize": max(ROOT_GB, offer.image.root_gb),
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
    """What a node does first: make the account that the key logs in to.

    This is cloud-init's configuration, which is YAML; JSON is YAML as well.
    """
    content: dict[str, Any] = {
        # Instead of the image's own account, which has the key of the instance.
        "user": {
            "name": settings.cluster_user,
            "shell": "/bin/bash",
            "lock_passwd": True,
            "sudo": ["ALL=(ALL) NOPASSWD:ALL"],
        }
    }
    shell = settings.cluster_shell
    if shell not in ("bash", "sh"):
        # Not before it is installed: an account whose shell is missing lets nobody in.
        content["packages"] = [shell]
        change = f'path=$(command -v {shell}) && usermod --shell "$path" {settings.cluster_user}'
        content["runcmd"] = [["sh", "-c", change]]
    elif shell == "sh":
        content["user"]["shell"] = "/bin/sh"
    return "#cloud-config\n" + json.dumps(content, indent=1) + "\n"
