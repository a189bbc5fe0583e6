"""What a configuration says, as typed records: what the rest of the package works with.

All names are resolved: a cluster has its key, its volumes and its permissions, not their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeVar

from mscourse.cluster.remarks import Remark, did_you_mean
from mscourse.errors import ClusterConfigError

_V = TypeVar("_V")

Provider = Literal["ec2", "ssh"]


class Secret:
    """A text that does not show: not when it is printed, logged, or in an error."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Give the text away, to whom it is for."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


@dataclass(frozen=True)
class Host:
    """A machine that is there already and is reached by ssh.

    Attributes
    ----------
    name : str
        Its name or address, or an alias of ssh's own configuration.
    user, port : str and int, or None
        None leaves it to ssh's own configuration.
    """

    name: str
    user: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        user = "" if self.user is None else f"{self.user}@"
        name = f"[{self.name}]" if ":" in self.name else self.name
        return f"{user}{name}" + ("" if self.port is None else f":{self.port}")


@dataclass(frozen=True)
class GlobalSettings:
    """The section ``[global]``; `include` has the files that were read as well."""

    default_template: str | None = None
    refresh_interval_s: int = 30
    include: tuple[Path, ...] = ()


@dataclass(frozen=True)
class AwsInfo:
    """The section ``[aws info]``: how to reach AWS. None leaves it to AWS's own configuration."""

    profile: str | None = None
    region_name: str | None = None
    access_key_id: Secret | None = None
    secret_access_key: Secret | None = None
    session_token: Secret | None = None


@dataclass(frozen=True)
class Key:
    """A key pair for ssh: its name at EC2, and where its private half is on this machine."""

    name: str
    key_location: Path

    def __str__(self) -> str:
        return f"{self.name} ({self.key_location})"


@dataclass(frozen=True)
class Volume:
    """A disk of its own: one that is there (`volume_id`), or one to be made (`size_gb`)."""

    name: str
    mount_path: str
    volume_id: str | None = None
    size_gb: int | None = None

    def __str__(self) -> str:
        what = self.volume_id or f"new, {self.size_gb} GB"
        return f"{self.name} ({what}) at {self.mount_path}"


@dataclass(frozen=True)
class Permission:
    """Ports that are opened.

    Attributes
    ----------
    from_port, to_port : int
        The first and the last one. For ICMP, type and code.
    cidr_ip : ipaddress.IPv4Network or None
        Who may come in; None is the address of whoever starts the cluster.
    """

    name: str
    from_port: int
    to_port: int
    ip_protocol: str = "tcp"
    cidr_ip: IPv4Network | None = None

    def __str__(self) -> str:
        who = "your address" if self.cidr_ip is None else self.cidr_ip
        return f"{self.name} ({self.ip_protocol} {self.from_port} to {self.to_port}, {who})"


@dataclass(frozen=True)
class Plugin:
    """A plugin of StarCluster. What it did is in the settings of the clusters that name it."""

    name: str
    setup_class: str
    packages: tuple[str, ...] = ()
    node_engines: int | None = None


@dataclass(frozen=True)
class ClusterSettings:
    """A cluster template, all that it extends included.

    With the provider ``"ssh"``, what only EC2 has is as if it had never been given.

    Attributes
    ----------
    name : str
        The template's name.
    provider : str
        ``"ec2"`` starts machines, ``"ssh"`` uses those in `hosts`.
    cluster_size : int
        Nodes, the master included.
    cluster_user, cluster_shell : str
        The account on the nodes of EC2, and its shell.
    key : Key or None
        None leaves it to ssh's own configuration; never so on EC2.
    region : str or None
        None leaves it to AWS's own configuration.
    availability_zones : tuple of str
        Empty: any.
    node_image_id : str or None
        None: the current Ubuntu of the region.
    node_instance_type : tuple of str
        Any of them will do, the first one is liked best.
    master_instance_type : str or None
        None: as the other nodes.
    spot_bid : float or None
        The most that one node may cost, in USD per hour; None: on demand, not spot.
    wheels : pathlib.Path or None
        A folder of wheels here, from which nodes install; None: the package index.
    node_python : str or None
        An interpreter on the nodes that has all packages; None: an environment is made.
    engines_per_node : int or None
        None: one per core.
    idle_stop_minutes : int
        0: never.
    budget_usd : float or None
        None: no limit.
    """

    name: str
    provider: Provider = "ec2"
    hosts: tuple[Host, ...] = ()
    key: Key | None = None
    cluster_size: int = 2
    cluster_user: str = "ipuser"
    cluster_shell: str = "bash"
    region: str | None = None
    availability_zones: tuple[str, ...] = ()
    node_image_id: str | None = None
    node_instance_type: tuple[str, ...] = ("c5.xlarge", "c5a.xlarge", "m5.xlarge")
    master_instance_type: str | None = None
    spot_bid: float | None = None
    force_spot_master: bool = False
    volumes: tuple[Volume, ...] = ()
    permissions: tuple[Permission, ...] = ()
    packages: tuple[str, ...] = ()
    wheels: Path | None = None
    node_python: str | None = None
    data_folder: str = "~/data"
    engines_per_node: int | None = None
    idle_stop_minutes: int = 30
    budget_usd: float | None = None
    start_timeout_s: int = 600


@dataclass(frozen=True)
class Config:
    """A configuration without errors.

    Attributes
    ----------
    path : pathlib.Path
        The file it was read from.
    settings : GlobalSettings
    aws : AwsInfo
    templates, keys, volumes, permissions, plugins : mappings
        By name, in the order of the file.
    warnings : tuple of Remark
        What works, but should be known; each has a place and a text.
    """

    path: Path
    settings: GlobalSettings = GlobalSettings()
    aws: AwsInfo = AwsInfo()
    templates: Mapping[str, ClusterSettings] = field(default_factory=lambda: MappingProxyType({}))
    keys: Mapping[str, Key] = field(default_factory=lambda: MappingProxyType({}))
    volumes: Mapping[str, Volume] = field(default_factory=lambda: MappingProxyType({}))
    permissions: Mapping[str, Permission] = field(default_factory=lambda: MappingProxyType({}))
    plugins: Mapping[str, Plugin] = field(default_factory=lambda: MappingProxyType({}))
    warnings: tuple[Remark, ...] = ()

    @property
    def default_template(self) -> str | None:
        """The name of the template that is used if none is named."""
        if self.settings.default_template is not None:
            return self.settings.default_template
        return next(iter(self.templates)) if len(self.templates) == 1 else None

    def template(self, name: str | None = None) -> ClusterSettings:
        """Look up a template; by default the one of DEFAULT_TEMPLATE, or the only one.

        Raises
        ------
        ClusterConfigError
            There is none of this name, or no default.
        """
        wanted = self.default_template if name is None else name
        if wanted is not None and wanted in self.templates:
            return self.templates[wanted]
        there = ", ".join(self.templates) or "none; write a section [cluster NAME]"
        if wanted is None:
            raise ClusterConfigError(
                f"{self.path}: Name a template, or set DEFAULT_TEMPLATE in [global]. "
                f"There are: {there}"
            )
        raise ClusterConfigError(
            f"{self.path}: There is no [cluster {wanted}].{did_you_mean(wanted, self.templates)} "
            f"There are: {there}"
        )
