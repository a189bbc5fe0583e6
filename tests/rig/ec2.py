"""A pretend EC2: moto's, served on this computer, with what moto lacks in front of it.

::

    boto3 ── http ── faults, checks, tokens, prices ── moto ── instances that boot, end, vanish
                                                                    │
                                          hooks: on_pending, on_running, on_ended, on_notice

What it adds: errors on demand, answers that are lost, and time: machines that boot slowly or never,
that end slowly, and spot instances that are taken back; and what `rig.ec2answers` has.
"""

from __future__ import annotations

import base64
import contextlib
import io
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any

# moto reads it when it is asked for images the first time: without, it has none, and is fast.
os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"

from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.base_backend import BackendDict
from moto.core.model_instances import reset_model_data
from moto.ec2.models import ec2_backends
from moto.ec2.models.amis import Ami
from moto.ec2.models.instances import StateReason
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from rig.ec2answers import UBUNTU, Answers
from rig.wire import (
    NAMESPACE,
    Call,
    Parameters,
    RefusedError,
    Start,
    error_text,
    read_call,
    reply,
    snake,
)

SECRET = "fake-secret-that-nobody-may-see"

_PENDING, _RUNNING, _SHUTTING_DOWN, _TERMINATED, _STOPPING, _STOPPED = 0, 16, 32, 48, 64, 80
_STATES = {
    _PENDING: "pending",
    _RUNNING: "running",
    _SHUTTING_DOWN: "shutting-down",
    _TERMINATED: "terminated",
    _STOPPING: "stopping",
    _STOPPED: "stopped",
}

# What it knows is elsewhere; to make it takes a second.
_MOTO = DomainDispatcherApplication(create_backend_app)


@dataclass
class _Fault:
    action: str
    code: str
    times: float
    containing: str
    status: int
    message: str
    is_answer_lost: bool


@dataclass(eq=False)
class FakeEc2(Answers):
    """Use it in a ``with`` block, which also sets the environment so that boto3 finds it.

    Attributes
    ----------
    region : str
    public_addresses : bool
        Whether instances have public addresses; without, they are reached at their private ones.
    boots_after_s, ends_after_s : float
        How long instances are pending, and shutting down or stopping.
    never_boots : set of str
        Nodes that stay pending for ever.
    dies : dict
        Nodes that end instead of running, and the code of the reason.
    spot_usd : dict
        Spot prices by (type, zone) that differ from the ordinary ones.
    on_demand_usd : dict
        The price list, by type; empty: it cannot be asked, as in most accounts of a course.
    on_pending, on_running, on_ended, on_notice : callable
        Hooks. The first is called with the private address of an instance, before anybody is told
        of it. The others are called in threads: with an instance (a dict with InstanceId,
        PrivateIpAddress, Tags, KeyName and UserData) that runs; with the id of one that was stopped
        or has ended; with the id of one that is about to be taken back, and when.
    on_call : callable
        Called with each call before it is answered.
    calls : list of Call
    """

    region: str = "us-east-1"
    public_addresses: bool = True
    boots_after_s: float = 0.0
    ends_after_s: float = 0.0
    never_boots: set[str] = field(default_factory=set)
    dies: dict[str, str] = field(default_factory=dict)
    spot_usd: dict[tuple[str, str], float] = field(default_factory=dict)
    on_demand_usd: dict[str, float] = field(default_factory=dict)
    on_pending: Callable[[str], None] = lambda address: None
    on_running: Callable[[dict[str, Any]], None] = lambda instance: None
    on_ended: Callable[[str], None] = lambda instance_id: None
    on_notice: Callable[[str, datetime], None] = lambda instance_id, when: None
    on_call: Callable[[Call], None] = lambda call: None
    calls: list[Call] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self._faults: list[_Fault] = []
        self._tokens: dict[str, tuple[Parameters, bytes]] = {}
        self._timers: set[threading.Timer] = set()
        self._before = contextlib.ExitStack()
        self._lock = threading.RLock()

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find this EC2, and nothing of a real one."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "AKIAFAKEFAKEFAKEFAKE",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "MSCOURSE_MY_ADDRESS": "203.0.113.7",
        }

    def __enter__(self) -> FakeEc2:
        self._server = make_server(
            "127.0.0.1", 0, self, threaded=True, request_handler=_SilentHandler
        )
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.port}"
        self._forget()
        unset = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_PROFILE")
        self._before.enter_context(_environment(self.environment, unset))
        return self

    def __exit__(self, *exception: object) -> None:
        self._before.close()
        self._stop_timers()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._forget()

    def clear(self) -> None:
        """Be as at first, for the next test: it takes a fifth of the time of a new one."""
        self._stop_timers()
        fresh = FakeEc2(self.region)
        for each in fields(self):
            if each.name != "url":
                setattr(self, each.name, getattr(fresh, each.name))
        self._faults.clear()
        self._tokens.clear()
        self._forget()

    def _stop_timers(self) -> None:
        for timer in list(self._timers):
            timer.cancel()
            timer.join()
        self._timers.clear()

    def _forget(self) -> None:
        """Forget everything that moto knows, and begin with the current Ubuntu."""
        BackendDict.reset()
        reset_model_data()
        for architecture, image_id in UBUNTU.items():
            self.add_image(image_id, architecture=architecture)

    # What tests ask for

    def fail(
        self,
        action: str,
        code: str,
        *,
        times: float = float("inf"),
        containing: str = "",
        message: str = "",
        is_answer_lost: bool = False,
    ) -> None:
        """Let calls fail.

        Parameters
        ----------
        action, code : str
            The call, and the error.
        times : float
            How often; by default always.
        containing : str
            Only calls with a parameter that has this text.
        is_answer_lost : bool
            Do what is asked, and answer with the error all the same.
        """
        status = {"InsufficientInstanceCapacity": 500, "InternalError": 500}.get(code, 400)
        if code in ("RequestLimitExceeded", "Throttling"):
            status = 503
        self._faults.append(
            _Fault(action, code, times, containing, status, message or f"{code}.", is_answer_lost)
        )

    def add_key(self, name: str) -> None:
        self._backend.create_key_pair(name, "ed25519", {})

    def add_image(
        self, image_id: str, *, architecture: str = "x86_64", deprecated_at: str | None = None
    ) -> None:
        image = Ami(
            self._backend,
            image_id,
            name=f"ubuntu-24.04-{architecture}",
            architecture=architecture,
            public=True,
            virtualization_type="hvm",
            root_device_type="ebs",
            region_name=f"{self.region}a",
        )
        image.deprecation_time = deprecated_at
        self._backend.amis[image_id] = image

    def alive(self, cluster: str | None = None) -> dict[str, Any]:
        """The instances that have not ended, by the names of their nodes."""
        instances = {}
        for each in self._instances():
            tags = _tags(each)
            if each.state != "terminated" and cluster in (None, tags.get("mscourse:cluster")):
                instances[tags.get("mscourse:node", each.id)] = each
        return instances

    def actions(self) -> list[str]:
        return [call.action for call in self.calls]

    def interrupt(self, instance_id: str, *, after_s: float = 120.0, notice: bool = True) -> None:
        """Take a spot instance back, after a notice."""
        if notice:
            when = datetime.now(UTC) + timedelta(seconds=after_s)
            self._later(0, self.on_notice, instance_id, when)
        self._later(after_s, self._take_back, instance_id)

    def shut_down(self, instance_id: str) -> None:
        """Do what happens when an instance shuts itself down."""
        instance = self._backend.get_instance(instance_id)
        code = "Client.InstanceInitiatedShutdown"
        if instance.instance_initiated_shutdown_behavior == "terminate":
            self._end(instance, code)
        else:
            instance.stop()
            self._set(instance, _STOPPED, code)
        self._later(0, self.on_ended, instance_id)

    # What boto3 asks for

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        environ["wsgi.input"] = io.BytesIO(body)
        is_json = "HTTP_X_AMZ_TARGET" in environ
        call = read_call(environ, body)
        with self._lock:
            self.calls.append(call)
        self.on_call(call)
        try:
            fault = self._next_fault(call)
            if fault is not None and not fault.is_answer_lost:
                raise RefusedError(fault.code, fault.message, fault.status)
            with self._lock:  # moto shows machines that it has made in part only
                answer = self._answer(call, environ)
            if fault is not None:
                raise RefusedError(fault.code, fault.message, fault.status)
        except RefusedError as error:
            return reply(start, error.status, error_text(error, is_json), is_json)
        return reply(start, *answer)

    def _next_fault(self, call: Call) -> _Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.action != call.action or fault.times <= 0:
                    continue
                if any(fault.containing in value for value in call.parameters.values()):
                    fault.times -= 1
                    return fault
        return None

    def _answer(self, call: Call, environ: dict[str, Any]) -> tuple[int, bytes, bool]:
        own = getattr(self, f"_answer_{snake(call.action)}", None)
        if own is not None:
            return own(call.parameters)
        check = getattr(self, f"_check_{snake(call.action)}", None)
        if check is not None and (answer := check(call.parameters)) is not None:
            return 200, answer, False
        status, content = self._ask_moto(environ)
        if status == 200:
            ids = re.findall(rb"<instanceId>(i-[0-9a-f]+)<", content)
            instances = [self._backend.get_instance(each.decode()) for each in dict.fromkeys(ids)]
            if call.action == "RunInstances":
                self._tokens[call.parameters["ClientToken"]] = call.parameters, content
            if call.action in ("RunInstances", "StartInstances"):
                for instance in instances:
                    self._boot(instance)
            elif call.action == "StopInstances":
                for instance in instances:
                    self._leave(instance, _STOPPING, _STOPPED)
        if not self.public_addresses:
            content = re.sub(rb"<(ipAddress|publicIp)>[^<]*</\1>", b"", content)
        return status, content, "HTTP_X_AMZ_TARGET" in environ

    def _ask_moto(self, environ: dict[str, Any]) -> tuple[int, bytes]:
        got: list[str] = []

        def start(status: str, headers: object, exception: object = None) -> Callable[..., None]:
            got.append(status)
            return lambda data: None

        content = b"".join(_MOTO(environ, start))
        return int(got[0].split()[0]), content

    # Machines that come and go

    def _answer_terminate_instances(self, asked: Parameters) -> tuple[int, bytes, bool]:
        """End instances when they have shut down, and not at once; none, if one is unknown."""
        ids = [value for key, value in asked.items() if key.startswith("InstanceId.")]
        known = {each.id: each for each in self._instances()}
        if missing := [each for each in ids if each not in known]:
            raise RefusedError(
                "InvalidInstanceID.NotFound", f"The instance IDs '{missing}' do not exist"
            )
        items = ""
        for each in ids:
            state = "terminated"
            if known[each].state not in ("terminated", "shutting-down"):
                state = "shutting-down"
                self._leave(known[each], _SHUTTING_DOWN, _TERMINATED)
            items += (
                f"<item><instanceId>{each}</instanceId><currentState><name>{state}</name>"
                "</currentState></item>"
            )
        name = "TerminateInstancesResponse"
        text = (
            f'<{name} xmlns="{NAMESPACE}"><requestId>r</requestId><instancesSet>{items}'
            f"</instancesSet></{name}>"
        )
        return 200, text.encode(), False

    @property
    def _backend(self) -> Any:
        return ec2_backends[DEFAULT_ACCOUNT_ID][self.region]

    def _instances(self) -> list[Any]:
        return [each for r in self._backend.reservations.copy().values() for each in r.instances]

    def _boot(self, instance: Any) -> None:
        node = _tags(instance).get("mscourse:node", "")
        self._set(instance, _PENDING)
        self.on_pending(instance.private_ip)
        if node not in self.never_boots:
            self._later(self.boots_after_s, self._run, instance, node)

    def _run(self, instance: Any, node: str) -> None:
        with self._lock:
            if instance.state != "pending":
                return  # terminated before it ran
            if node in self.dies:
                self._end(instance, self.dies[node])
                return
            self._set(instance, _RUNNING)
        self.on_running(
            {
                "InstanceId": instance.id,
                "PrivateIpAddress": instance.private_ip,
                "Tags": _tags(instance),
                "KeyName": instance.key_name,
                "UserData": _text(instance.user_data),
            }
        )

    def _leave(self, instance: Any, at_first: int, at_last: int) -> None:
        def finish() -> None:
            if instance.state != _STATES[at_first]:
                return
            if at_last == _TERMINATED:
                self._end(instance, "Client.UserInitiatedShutdown")
            else:
                self._set(instance, at_last, "Client.UserInitiatedShutdown")
            self.on_ended(instance.id)

        self._set(instance, at_first, "Client.UserInitiatedShutdown")
        self._later(self.ends_after_s, finish)

    def _take_back(self, instance_id: str) -> None:
        instance = self._backend.get_instance(instance_id)
        if instance.state != "terminated":
            self._end(instance, "Server.SpotInstanceTermination")
            self.on_ended(instance_id)

    def _end(self, instance: Any, code: str) -> None:
        with self._lock:
            instance.terminate()
            self._set(instance, _TERMINATED, code)

    def _set(self, instance: Any, state: int, code: str = "") -> None:
        instance._state.code, instance._state.name = state, _STATES[state]
        instance.state_reason = StateReason(f"{code}: so it is" if code else "", code)

    def _later(self, after_s: float, do: Callable[..., None], *arguments: object) -> None:
        def run() -> None:
            try:
                do(*arguments)
            finally:
                self._timers.discard(timer)

        timer = threading.Timer(after_s, run)
        timer.daemon = True
        self._timers.add(timer)
        timer.start()


class _SilentHandler(WSGIRequestHandler):
    def log_request(self, *arguments: object) -> None:
        pass


def _tags(instance: Any) -> dict[str, str]:
    return {each["key"]: each["value"] for each in instance.get_tags()}


def _text(user_data: object) -> str:
    return base64.b64decode(str(user_data)).decode() if user_data else ""


@contextlib.contextmanager
def _environment(values: Mapping[str, str], unset: Iterable[str]) -> Any:
    before = dict(os.environ)
    os.environ.update(values)
    for name in unset:
        os.environ.pop(name, None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
