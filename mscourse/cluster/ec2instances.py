"""The instances of EC2 as nodes of clusters: what their tags say, and waiting for them.

All that is known of a cluster is in the tags of what it has at EC2. There is no file here that
could be lost, or say something else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mscourse.cluster.ec2errors import AwsError
from mscourse.cluster.ec2session import AwsSession
from mscourse.cluster.nodes import Node, NodeState, by_name
from mscourse.cluster.settings import ClusterSettings, Config, Host, Key
from mscourse.errors import CloudError

CLUSTER_TAG = "mscourse:cluster"
NODE_TAG = "mscourse:node"
TEMPLATE_TAG = "mscourse:template"
USER_TAG = "mscourse:user"
PRICE_TAG = "mscourse:usd-per-hour"
SPOT_TAG = "mscourse:spot"
BID_TAG = "mscourse:bid"
VERSION_TAG = "mscourse:version"
LAUNCH_TAG = "mscourse:launch"
VOLUME_TAG = "mscourse:volume"

Instance = Mapping[str, Any]

# Those that cost something, or can be started again.
_ALIVE = ("pending", "running", "stopping", "stopped")

_STATES: Mapping[str, NodeState] = {
    "pending": "pending",
    "running": "running",
    "stopping": "stopping",
    "stopped": "stopped",
    "shutting-down": "terminated",
    "terminated": "terminated",
}

# A filter takes no more values.
_MOST_VALUES = 200

# A machine is rarely ready in less than 10 s; one of a test is at once.
FIRST_LOOK_S = 0.2
_SLOWER = 1.5


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Write tags as EC2 wants them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def tag_filter(key: str, value: str) -> dict[str, Any]:
    """Make a filter for things with this tag."""
    return {"Name": f"tag:{key}", "Values": [value]}


def tags_of(thing: Mapping[str, Any]) -> dict[str, str]:
    """Read the tags of a thing."""
    return {each["Key"]: each["Value"] for each in thing.get("Tags", ())}


def state_of(instance: Instance) -> str:
    """EC2's word for the state."""
    return str(instance["State"]["Name"])


def node_state(instance: Instance) -> NodeState:
    """Our word for the state."""
    return _STATES[state_of(instance)]


def has_address(instance: Instance) -> bool:
    return bool(instance.get("PublicIpAddress") or instance.get("PrivateIpAddress"))


def why_ended(instance: Instance) -> str:
    """EC2's reason for the state of an instance."""
    reason = instance.get("StateReason") or {}
    told = str(reason.get("Message") or reason.get("Code") or "")
    return told or str(instance.get("StateTransitionReason") or "EC2 gives no reason")


def find_instances(
    session: AwsSession, filters: Iterable[Mapping[str, Any]], *, states: Sequence[str] = _ALIVE
) -> list[Instance]:
    """List the instances with these properties, in these states."""
    reservations = session.listing(
        "describe_instances",
        "Reservations",
        Filters=[*filters, {"Name": "instance-state-name", "Values": list(states)}],
    )
    return [instance for each in reservations for instance in each["Instances"]]


def find_by_id(session: AwsSession, ids: Iterable[str]) -> dict[str, Instance]:
    """Look up instances, in any state; those that EC2 does not know (yet, or anymore) are left out.

    Filters are used, since EC2 refuses a list of ids if it does not know one of them, and for some
    seconds it does not know one that it has just started.
    """
    wanted = list(ids)
    found: list[Instance] = []
    for begin in range(0, len(wanted), _MOST_VALUES):
        filters = [{"Name": "instance-id", "Values": wanted[begin : begin + _MOST_VALUES]}]
        found += find_instances(session, filters, states=list(_STATES))
    return {each["InstanceId"]: each for each in found}


def list_nodes(session: AwsSession, config: Config, cluster: str | None = None) -> list[Node]:
    """List the nodes of a cluster or of all, as `Provider.nodes` does."""
    filters = (
        [{"Name": "tag-key", "Values": [CLUSTER_TAG]}]
        if cluster is None
        else [tag_filter(CLUSTER_TAG, cluster)]
    )
    nodes = [as_node(each, config) for each in find_instances(session, filters)]
    return sorted(nodes, key=lambda node: (node.cluster, by_name(node)))


def as_node(instance: Instance, config: Config) -> Node:
    """Make a node of an instance."""
    tags = tags_of(instance)
    template = tags.get(TEMPLATE_TAG, "")
    settings = config.templates.get(template)
    user = tags.get(USER_TAG) or (settings or ClusterSettings(template)).cluster_user
    address = instance.get("PublicIpAddress") or instance.get("PrivateIpAddress")
    if state_of(instance) == "stopped":
        address = None  # it gets another one when it is started
    return Node(
        cluster=tags.get(CLUSTER_TAG, ""),
        name=tags.get(NODE_TAG) or instance["InstanceId"],
        id=instance["InstanceId"],
        host=Host(address, user=user) if address else None,
        state=node_state(instance),
        template=template,
        private_address=instance.get("PrivateIpAddress"),
        key=_key(instance, config, settings),
        instance_type=instance.get("InstanceType"),
        zone=instance.get("Placement", {}).get("AvailabilityZone"),
        is_spot=instance.get("InstanceLifecycle") == "spot",
        usd_per_hour=_number(tags.get(PRICE_TAG)),
        spot_bid=_number(tags.get(BID_TAG)),
        launched_at=instance.get("LaunchTime"),
    )


def _key(instance: Instance, config: Config, settings: ClusterSettings | None) -> Key | None:
    """The key that the instance was started with; its template may name another one by now."""
    of_template = None if settings is None else settings.key
    name = instance.get("KeyName")
    if of_template is not None and of_template.name == name:
        return of_template
    return config.keys.get(str(name), of_template)


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:  # somebody has edited the tag
        return None


def wait_for(
    session: AwsSession,
    ids: Iterable[str],
    is_done: Callable[[str, Instance | None], bool],
    *,
    timeout_s: float,
    longest_pause_s: float,
) -> dict[str, Instance]:
    """Look at instances until each one is done, or time is up.

    Parameters
    ----------
    ids : iterable of str
    is_done : callable
        Called with the id of an instance and what EC2 says of it: None if it does not know it.
    timeout_s : float
    longest_pause_s : float
        Between two looks. The first ones follow each other faster.

    Returns
    -------
    dict
        What EC2 said at last, by id; those that it does not know are left out.
    """
    waiting = list(dict.fromkeys(ids))
    seen: dict[str, Instance] = {}
    deadline_s = time.monotonic() + timeout_s
    pause_s = FIRST_LOOK_S
    while waiting:
        found = find_by_id(session, waiting)
        seen |= found
        waiting = [each for each in waiting if not is_done(each, found.get(each))]
        left_s = deadline_s - time.monotonic()
        if not waiting or left_s <= 0:
            break
        time.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * _SLOWER, longest_pause_s)
    return seen


def terminate_instances(
    session: AwsSession, ids: Iterable[str], *, settles_within_s: float = 0.0
) -> None:
    """Tell EC2 to end instances; it is no error if one has ended so long ago that it is forgotten.

    Parameters
    ----------
    session : AwsSession
    ids : iterable of str
    settles_within_s : float
        For so long, an instance that EC2 does not know is one that it does not know *yet*, as
        right after it was started.

    Raises
    ------
    CloudError
        EC2 refuses, or does not know an instance that was just started.
    """
    left = list(ids)
    deadline_s = time.monotonic() + settles_within_s
    while left:
        try:
            session.call("terminate_instances", InstanceIds=left)
            return
        except AwsError as error:
            if error.code != "InvalidInstanceID.NotFound":
                raise
            known = find_by_id(session, left)
            if time.monotonic() < deadline_s:
                time.sleep(FIRST_LOOK_S)
            elif settles_within_s or len(known) == len(left):
                raise
            else:
                left = list(known)


def await_end(
    session: AwsSession,
    ids: Iterable[str],
    *,
    timeout_s: float,
    longest_pause_s: float,
    state: str = "terminated",
) -> None:
    """Wait until instances have ended, or are stopped.

    Raises
    ------
    CloudError
        Some are not when time is up.
    """
    wanted = list(ids)
    seen = wait_for(
        session,
        wanted,
        lambda _, instance: instance is None or state_of(instance) in (state, "terminated"),
        timeout_s=timeout_s,
        longest_pause_s=longest_pause_s,
    )
    late = [
        f"{each} is {state_of(seen[each])}"
        for each in wanted
        if each in seen and state_of(seen[each]) not in (state, "terminated")
    ]
    if late:
        raise CloudError(
            f"Not {state} after {timeout_s:g} s: {', '.join(late)}. It may only be slow. Look with "
            f"`aws ec2 describe-instances --region {session.region} --instance-ids "
            f"{' '.join(wanted)}`, and do it again."
        )


def removal_commands(
    session: AwsSession,
    cluster: str,
    instances: Iterable[str],
    volumes: Iterable[str],
    group: str | None,
) -> str:
    """Tell what is left and how to remove it, in lines."""
    instances, volumes = list(instances), list(volumes)
    region = f"--region {session.region}"
    lines = []
    if instances:
        ids = " ".join(instances)
        lines.append(f"  instances: aws ec2 terminate-instances {region} --instance-ids {ids}")
    lines += [f"  volume: aws ec2 delete-volume {region} --volume-id {each}" for each in volumes]
    if group is not None:
        lines.append(f"  security group: aws ec2 delete-security-group {region} --group-id {group}")
    return "\n".join([f"Remove it with `mscourse cluster terminate {cluster}`, or with", *lines])
