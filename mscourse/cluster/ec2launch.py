"""Start the machines of a plan, or leave nothing behind.

::

    security group ── the nodes, one call each ── wait until they run ── volumes of the master
         └───────────────────────┴──── whatever goes wrong ────┴──────────────┘
                                              │
                              remove all that this launch has made

All that is made is noted before or as soon as it is known. A call whose answer was lost may have
started a machine all the same: that is found by the tag that all machines of this launch have.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager

import mscourse
from mscourse.cluster import ec2network
from mscourse.cluster.ec2errors import AwsError
from mscourse.cluster.ec2instances import (
    BID_TAG,
    CLUSTER_TAG,
    LAUNCH_TAG,
    NODE_TAG,
    PRICE_TAG,
    SPOT_TAG,
    TEMPLATE_TAG,
    USER_TAG,
    VERSION_TAG,
    Instance,
    await_end,
    find_instances,
    has_address,
    removal_commands,
    state_of,
    tag_filter,
    tag_list,
    tags_of,
    terminate_instances,
    wait_for,
    why_ended,
)
from mscourse.cluster.ec2machine import run_arguments
from mscourse.cluster.ec2plan import Offer, Plan, by_preference, types_for
from mscourse.cluster.ec2session import AwsSession
from mscourse.cluster.ec2volumes import attach_volume, made_volumes, make_volume
from mscourse.cluster.nodes import MASTER, Progress
from mscourse.cluster.undo import insist, unfailing
from mscourse.errors import CloudError

# A machine of a call without an answer is seen within seconds.
SETTLES_WITHIN_S = 10.0

# Machines that were just started end within a minute or two.
_END_WITHIN_S = 300.0


def launch(
    session: AwsSession, plan: Plan, progress: Progress, *, longest_pause_s: float
) -> list[Instance]:
    """Start machines, and wait until they run and have an address.

    Parameters
    ----------
    session : AwsSession
    plan : Plan
    progress : callable
    longest_pause_s : float
        Between two looks.

    Returns
    -------
    list of instances
        As EC2 describes them; fewer than asked for if some did not come.

    Raises
    ------
    CloudError
        The master, or nothing at all, could be had. All is removed, or the message tells what
        is left.
    """
    work = _Launch(session, plan, progress, longest_pause_s)
    try:
        return work.run()
    except BaseException as error:
        left = work.undo()
        if not left:
            raise
        what = str(error) or "The launch was interrupted."
        raise CloudError(f"{what}\nNot all that was started could be removed. {left}") from error


class _Launch:
    def __init__(
        self, session: AwsSession, plan: Plan, progress: Progress, longest_pause_s: float
    ) -> None:
        self._session = session
        self._plan = plan
        self._request = plan.request
        self._progress = progress
        self._longest_pause_s = longest_pause_s
        self._nonce = secrets.token_hex(8)
        self._home = plan.home  # until the master is somewhere else
        self._useless: dict[tuple[str, str, bool], str] = {}  # what was refused, and why
        self._limits: dict[bool, tuple[int, AwsError]] = {}  # by spot: so many cores are too many
        self._missing: dict[str, str] = {}  # nodes that did not come, and why
        # What is to be removed if the launch fails.
        self._started: dict[str, str] = {}  # instance: node
        self._volumes: list[str] = []
        self._group_id: str | None = None
        self._is_unanswered = False

    def run(self) -> list[Instance]:
        if not self._request.names:
            return []
        for remark in self._plan.remarks:
            self._progress(remark)
        group_id = self._ensure_group()
        self._start_all(group_id)
        running = self._await_running()
        self._check_what_came(running)
        self._attach_volumes(running)
        return list(running.values())

    def _tags(self) -> dict[str, str]:
        """What all that this launch makes has in common."""
        return {
            "Name": ec2network.group_name(self._request.cluster),
            CLUSTER_TAG: self._request.cluster,
            TEMPLATE_TAG: self._request.settings.name,
            VERSION_TAG: mscourse.__version__,
            LAUNCH_TAG: self._nonce,
        }

    def _token(self, what: str) -> str:
        """Name a call: two calls with one token start one thing, however often they are made."""
        text = f"{self._request.cluster} {what} {self._nonce}"
        return hashlib.sha256(text.encode()).hexdigest()[:40]

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """Make something and note it; if that is cut short, it is looked for by its tag."""
        self._is_unanswered = True
        try:
            yield
        except AwsError as error:
            # An error that EC2 has answered with says that nothing was made; trouble does not.
            self._is_unanswered = error.remedy == "again"
            raise
        self._is_unanswered = False

    def _ensure_group(self) -> str:
        request, plan = self._request, self._plan
        group_id = plan.group_id
        if group_id is None:
            with self._noting():
                group_id = ec2network.make_group(
                    self._session, request.cluster, plan.vpc, self._tags()
                )
                self._group_id = group_id
        rules = ec2network.wanted_rules(request.settings.permissions, plan.my_network)
        ec2network.set_rules(self._session, group_id, rules, self._progress)
        self._progress(
            f"Security group {ec2network.group_name(request.cluster)} ({group_id}) lets in "
            f"{', '.join(str(each) for each in rules)}."
        )
        return group_id

    def _start_all(self, group_id: str) -> None:
        for place, name in enumerate(self._request.names):
            try:
                offer = self._start(name, group_id)
            except AwsError as error:
                if error.remedy not in ("elsewhere", "limit"):
                    raise
                if not self._started:
                    raise  # whoever has nothing is best told by the exception
                # The others would be refused for the same reason: they are of the same kind.
                for each in self._request.names[place:]:
                    self._lose(each, error.words)
                return
            if name == MASTER:
                self._home = offer.zone

    def _start(self, name: str, group_id: str) -> Offer:
        """Start one node as the first offer that EC2 accepts.

        Limits of an account are of cores: what has fewer may still fit.
        """
        types = types_for(self._request.settings, name)
        last: AwsError | None = None
        for attempt, offer in enumerate(by_preference(self._plan.offers[name], types, self._home)):
            pair = offer.instance_type.name, offer.zone, offer.is_spot
            limit = self._limits.get(offer.is_spot)
            is_too_large = limit is not None and offer.instance_type.cores >= limit[0]
            if pair in self._useless or is_too_large:
                continue
            try:
                instance = self._run_instance(name, offer, group_id, attempt)
            except AwsError as error:
                if error.remedy == "limit":
                    self._limits[offer.is_spot] = offer.instance_type.cores, error
                elif error.remedy != "elsewhere":
                    raise
                self._useless[pair] = error.words
                self._progress(f"{name}: not {offer}: {error.words}.")
                last = error
                continue
            self._progress(f"{name}: {offer} ({instance}).")
            return offer
        limit = self._limits.get(self._request.is_spot(name))
        if limit is not None:
            raise limit[1]  # it says what to do about it
        tried = "; ".join(
            f"{type_} in {zone}: {words}" for (type_, zone, _), words in self._useless.items()
        )
        raise AwsError(
            f"No machine could be had for {name} of {self._request.cluster}. {tried}. Name more "
            "types in NODE_INSTANCE_TYPE or more AVAILABILITY_ZONES, raise SPOT_BID, or try later.",
            code=last.code if last else "",
            remedy="elsewhere",
            words=f"no machine could be had ({tried})",
        )

    def _run_instance(self, name: str, offer: Offer, group_id: str, attempt: int) -> str:
        arguments = run_arguments(self._plan, name, offer, group_id)
        arguments["ClientToken"] = self._token(f"{name} {attempt}")
        tags = self._tags() | {
            "Name": f"{self._request.cluster}-{name}",
            NODE_TAG: name,
            USER_TAG: self._request.settings.cluster_user,
            SPOT_TAG: str(offer.is_spot).lower(),
        }
        if self._request.spot_bid is not None:
            tags[BID_TAG] = f"{self._request.spot_bid:g}"
        if offer.usd_per_hour is not None:
            # All of it, since a budget counts with it.
            tags[PRICE_TAG] = f"{offer.usd_per_hour + offer.extra_usd_per_hour:.4f}"
        kinds = ["instance", "volume", "network-interface"]
        kinds += ["spot-instances-request"] if offer.is_spot else []
        arguments["TagSpecifications"] = [
            {"ResourceType": kind, "Tags": tag_list(tags)} for kind in kinds
        ]
        with self._noting():
            answer = self._session.call(
                "run_instances", settling="InvalidGroup.NotFound", **arguments
            )
            instance_id = str(answer["Instances"][0]["InstanceId"])
            self._started[instance_id] = name
        return instance_id

    def _await_running(self) -> dict[str, Instance]:
        """Wait for the machines; those that do not get to run are terminated."""
        settings = self._request.settings
        running: dict[str, Instance] = {}

        def is_done(instance_id: str, instance: Instance | None) -> bool:
            if instance is None or state_of(instance) == "pending":
                return False
            if state_of(instance) != "running":
                return True
            if not has_address(instance):
                return False
            if instance_id not in running:
                running[instance_id] = instance
                self._progress(f"{self._started[instance_id]} runs ({instance_id}).")
            return True

        seen = wait_for(
            self._session,
            list(self._started),
            is_done,
            timeout_s=settings.start_timeout_s,
            longest_pause_s=self._longest_pause_s,
        )
        failed = [each for each in self._started if each not in running]
        for each in failed:
            instance = seen.get(each)
            if instance is not None and state_of(instance) not in ("pending", "running"):
                why = f"{each} is {state_of(instance)}: {why_ended(instance)}"
            else:
                why = f"{each} does not run after {settings.start_timeout_s} s"
            self._lose(self._started[each], why)
        if failed:
            terminate_instances(self._session, failed)
            for each in failed:
                del self._started[each]
        return running

    def _check_what_came(self, running: dict[str, Instance]) -> None:
        names = {self._started[each] for each in running}
        is_master_missing = MASTER in self._request.names and MASTER not in names
        if running and not is_master_missing:
            return
        told = "; ".join(f"{name}: {why}" for name, why in self._missing.items())
        which = "the master" if is_master_missing else "no node"
        raise CloudError(
            f"{self._request.cluster}: {which} {'did not come' if is_master_missing else 'came'} "
            f"({told}). What was started is terminated. Try again, or name other types or zones."
        )

    def _attach_volumes(self, running: dict[str, Instance]) -> None:
        settings = self._request.settings
        master = next((each for each in running if self._started[each] == MASTER), None)
        for wanted in self._plan.volumes if master is not None else ():
            assert master is not None
            zone = running[master]["Placement"]["AvailabilityZone"]
            volume_id = wanted.id
            if volume_id is None:
                token = self._token(f"volume {wanted.volume.name}")
                with self._noting():
                    volume_id = make_volume(self._session, wanted.volume, zone, self._tags(), token)
                    self._volumes.append(volume_id)
                self._progress(
                    f"Made the volume {wanted.volume.name} ({volume_id}, {wanted.volume.size_gb} "
                    "GB). It stays when the cluster is terminated."
                )
            attach_volume(
                self._session,
                volume_id,
                master,
                wanted.device,
                timeout_s=settings.start_timeout_s,
            )
            self._progress(f"The master has the volume {wanted.volume.name} ({volume_id}).")

    def _lose(self, name: str, why: str) -> None:
        self._missing[name] = why
        self._progress(f"{name} did not come: {why}.")

    def undo(self) -> str:
        """Remove what was made; say what is left and how to remove it, or nothing."""
        problem = insist(self._remove)
        if not (self._started or self._volumes or self._group_id or self._is_unanswered):
            return ""
        commands = removal_commands(
            self._session,
            self._request.cluster,
            self._started,
            self._volumes,
            self._group_id,
        )
        return f"{problem} {commands}"

    def _remove(self) -> None:
        if self._is_unanswered:
            self._find_unanswered()
        if self._started:
            ids = list(self._started)
            terminate_instances(self._session, ids, settles_within_s=SETTLES_WITHIN_S)
            unfailing(self._progress)(f"Terminating what was started: {', '.join(ids)}.")
            # A group or a volume that a machine has cannot be deleted.
            await_end(
                self._session,
                ids,
                timeout_s=_END_WITHIN_S,
                longest_pause_s=self._longest_pause_s,
            )
            self._started.clear()
        while self._volumes:
            self._session.call("delete_volume", VolumeId=self._volumes[-1])
            self._volumes.pop()
        if self._group_id is not None:
            ec2network.delete_group(self._session, self._group_id, timeout_s=_END_WITHIN_S)
            self._group_id = None

    def _find_unanswered(self) -> None:
        """Find what a call that was not answered has made, if it has made anything."""
        deadline_s = time.monotonic() + SETTLES_WITHIN_S
        pause_s = 0.2
        while True:
            found = find_instances(self._session, [tag_filter(LAUNCH_TAG, self._nonce)])
            new = [each["InstanceId"] for each in found if each["InstanceId"] not in self._started]
            self._started |= dict.fromkeys(new, "a node")
            for each in made_volumes(self._session, self._request.cluster):
                is_ours = tags_of(each).get(LAUNCH_TAG) == self._nonce
                if is_ours and each["VolumeId"] not in self._volumes:
                    self._volumes.append(each["VolumeId"])
                    new.append(each["VolumeId"])
            group = ec2network.find_group(self._session, self._request.cluster)
            if group is not None and tags_of(group).get(LAUNCH_TAG) == self._nonce:
                new += [] if self._group_id else [str(group["GroupId"])]
                self._group_id = str(group["GroupId"])
            if new or time.monotonic() > deadline_s:
                self._is_unanswered = False
                return
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 2.0)
