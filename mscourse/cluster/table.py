"""The table of settings: each section, each setting, its kind of value, its default and its help.

Reading, the template that is written, and the report of ``mscourse cluster check`` all come from
this one table.
"""

from __future__ import annotations

from mscourse.cluster import settings as records
from mscourse.cluster.schema import SectionKind, Setting
from mscourse.cluster.values import (
    Choice,
    HostName,
    LocalPath,
    Name,
    Network,
    NodePath,
    Number,
    Package,
    SecretText,
    Several,
    Text,
    Truth,
    Whole,
)

# The regions of the usual accounts, to find misspelt ones. AWS adds more: others get a warning.
REGIONS = (  # noqa: SIM905 (a list of 34 lines is no easier to read)
    "af-south-1 ap-east-1 ap-east-2 ap-northeast-1 ap-northeast-2 ap-northeast-3 ap-south-1 "
    "ap-south-2 ap-southeast-1 ap-southeast-2 ap-southeast-3 ap-southeast-4 ap-southeast-5 "
    "ap-southeast-6 ap-southeast-7 ca-central-1 ca-west-1 eu-central-1 eu-central-2 eu-north-1 "
    "eu-south-1 eu-south-2 eu-west-1 eu-west-2 eu-west-3 il-central-1 me-central-1 me-south-1 "
    "mx-central-1 sa-east-1 us-east-1 us-east-2 us-west-1 us-west-2"
).split()

_REGION = Text(r"[a-z]{2,}(-[a-z]+)+-[0-9]{1,2}", "a region such as us-west-2")
_ZONE = Text(r"[a-z]{2,}(-[a-z]+)+-[0-9]{1,2}[a-z]", "a zone such as us-west-2a")
_INSTANCE_TYPE = Text(r"[a-z][a-z0-9-]{0,31}\.[a-z0-9-]{1,31}", "an instance type as c5.xlarge")
_ACCOUNT = Text(r"[a-z_][a-z0-9_-]{0,31}", "an account's name, of small letters, digits, _ -")

GLOBAL = SectionKind(
    "global",
    "What is true of all clusters.",
    records.GlobalSettings,
    (
        Setting(
            "DEFAULT_TEMPLATE",
            Name("cluster"),
            "the cluster template that is used if none is named",
            unset="the only one, if there is only one",
            refers_to="cluster",
        ),
        Setting(
            "REFRESH_INTERVAL",
            Whole(1, 600),
            "seconds between two looks at machines that are starting",
            field="refresh_interval_s",
        ),
        Setting(
            "INCLUDE",
            Several(LocalPath()),
            "other files with sections, read as if they stood here",
            example="~/.mscourse/keys.ini",
        ),
    ),
    is_named=False,
)

AWS_INFO = SectionKind(
    "aws info",
    "How to reach AWS. Best left empty: credentials are found as the `aws` command finds them.",
    records.AwsInfo,
    (
        Setting(
            "AWS_PROFILE",
            Text(r"[^\s,\[\]]{1,128}", "the name of a profile in ~/.aws/config"),
            "the profile of ~/.aws/config whose credentials are used",
            field="profile",
            unset="AWS's own choice",
            example="default",
        ),
        Setting(
            "AWS_REGION_NAME",
            _REGION,
            "the region of templates that name none",
            field="region_name",
            unset="that of the profile",
            example="us-west-2",
        ),
        Setting(
            "AWS_ACCESS_KEY_ID",
            SecretText(),
            "discouraged: a file is no place for credentials",
            field="access_key_id",
            unset="AWS's own choice",
        ),
        Setting(
            "AWS_SECRET_ACCESS_KEY",
            SecretText(),
            "discouraged: a file is no place for credentials",
            field="secret_access_key",
            unset="AWS's own choice",
        ),
        Setting(
            "AWS_SESSION_TOKEN",
            SecretText(),
            "discouraged: a file is no place for credentials",
            field="session_token",
            unset="AWS's own choice",
        ),
    ),
    is_named=False,
)

KEY = SectionKind(
    "key",
    "A key pair for ssh. NAME is its name at EC2.",
    records.Key,
    (
        Setting(
            "KEY_LOCATION",
            LocalPath(),
            "the private key's file on this machine",
            required="always",
            example="~/.ssh/mykey.rsa",
        ),
    ),
)

VOLUME = SectionKind(
    "volume",
    "A disk of its own, which outlives the cluster: VOLUME_ID of one that is there, or SIZE_GB.",
    records.Volume,
    (
        Setting(
            "VOLUME_ID",
            Text(r"vol-([0-9a-f]{8}|[0-9a-f]{17})", "a volume's id such as vol-0123456789abcdef0"),
            "the volume, if there is one",
            unset="a new one is made",
            example="vol-0123456789abcdef0",
        ),
        Setting(
            "SIZE_GB",
            Whole(1, 16384),
            "size of a volume to be made",
            unset="it has its size",
            example="20",
        ),
        Setting(
            "MOUNT_PATH",
            NodePath(),
            "where the master has it",
            required="always",
            example="/data",
        ),
    ),
)

PERMISSION = SectionKind(
    "permission",
    "Ports to open. A cluster needs none: ssh from your address is always open.",
    records.Permission,
    (
        Setting("FROM_PORT", Whole(-1, 65535), "the first port", required="always", example="8888"),
        Setting("TO_PORT", Whole(-1, 65535), "the last port", required="always", example="8888"),
        Setting("IP_PROTOCOL", Choice(("tcp", "udp", "icmp")), "what kind of port"),
        Setting(
            "CIDR_IP",
            Network(),
            "who may come in; 0.0.0.0/0 is the whole world",
            unset="your own address",
            example="203.0.113.0/24",
        ),
    ),
)

PLUGIN = SectionKind(
    "plugin",
    "Of StarCluster; what its plugins did is now in the settings of a cluster.",
    records.Plugin,
    (
        Setting(
            "SETUP_CLASS",
            Text(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", "the dotted name of a class"),
            "the class of StarCluster",
            required="always",
        ),
    ),
)

CLUSTER = SectionKind(
    "cluster",
    "A template: what `mscourse cluster start` makes a cluster of.",
    records.ClusterSettings,
    (
        Setting(
            "EXTENDS",
            Name("cluster"),
            "the template whose settings are taken over, unless they are set here",
            refers_to="cluster",
            unset="none",
            example="othercluster",
        ),
        Setting("PROVIDER", Choice(("ec2", "ssh")), "ec2 starts machines, ssh uses those in HOSTS"),
        Setting(
            "HOSTS",
            Several(HostName()),
            "the machines; the first one is the master",
            required="ssh",
            only="ssh",
            example="me@lab01, me@lab02:2222",
        ),
        Setting(
            "KEYNAME",
            Name("key"),
            "the [key NAME] to log in with",
            field="key",
            required="ec2",
            refers_to="key",
            unset="ssh's own choice",
            example="mykey",
        ),
        Setting(
            "CLUSTER_SIZE",
            Whole(1, 500),
            "nodes, the master included; with ssh all HOSTS by default",
        ),
        Setting(
            "CLUSTER_USER",
            _ACCOUNT,
            "the account on the nodes, made where it is missing; with ssh it is in HOSTS",
            only="ec2",
        ),
        Setting(
            "CLUSTER_SHELL",
            Choice(("bash", "zsh", "csh", "ksh", "tcsh", "sh")),
            "the shell of that account",
            only="ec2",
        ),
        Setting(
            "REGION",
            _REGION,
            "where the machines are; an image and a key are of one region",
            only="ec2",
            unset="AWS_REGION_NAME",
            example="us-west-2",
        ),
        Setting(
            "AVAILABILITY_ZONES",
            Several(_ZONE),
            "the zones of the region that will do",
            only="ec2",
            unset="any",
            example="us-west-2a, us-west-2b",
        ),
        Setting(
            "NODE_IMAGE_ID",
            Text(r"ami-([0-9a-f]{8}|[0-9a-f]{17})", "an image's id such as ami-0123456789abcdef0"),
            "the image of the nodes; goes with REGION",
            only="ec2",
            unset="the current Ubuntu",
            example="ami-0123456789abcdef0",
        ),
        Setting(
            "NODE_INSTANCE_TYPE",
            Several(_INSTANCE_TYPE),
            "machine types that will do, the one liked best first; more of them start sooner",
            only="ec2",
        ),
        Setting(
            "MASTER_INSTANCE_TYPE",
            _INSTANCE_TYPE,
            "the machine type of the master",
            only="ec2",
            unset="as the other nodes",
            example="m5.large",
        ),
        Setting(
            "SPOT_BID",
            Number(0.001, 100),
            "the most that a spot node may cost, in USD per hour; nodes are then spot instances",
            only="ec2",
            unset="on demand",
            example="0.10",
        ),
        Setting(
            "FORCE_SPOT_MASTER",
            Truth(),
            "make the master a spot instance too; if it is taken away, so is the cluster",
            only="ec2",
        ),
        Setting(
            "VOLUMES",
            Several(Name("volume")),
            "the [volume NAME]s of the master",
            refers_to="volume",
            only="ec2",
            unset="none",
            example="results",
        ),
        Setting(
            "PERMISSIONS",
            Several(Name("permission")),
            "the [permission NAME]s that open ports",
            refers_to="permission",
            only="ec2",
            unset="none",
            example="notebook",
        ),
        Setting(
            "PLUGINS",
            Several(Name("plugin")),
            "of StarCluster; better say it with PACKAGES and the like",
            refers_to="plugin",
            unset="none",
        ),
        Setting(
            "PACKAGES",
            Several(Package()),
            "Python packages for all nodes, besides those that mscourse needs",
            unset="none",
            example="xgboost, numpy>=2,<3",
        ),
        Setting(
            "WHEELS",
            LocalPath("the path of a folder"),
            "a folder of wheels on this machine, for nodes that reach no package index",
            unset="the package index",
            example="~/wheels",
        ),
        Setting(
            "NODE_PYTHON",
            NodePath(what="a program"),
            "a Python on the nodes that has all packages; then nothing is installed",
            unset="an environment of its own",
            example="/opt/course/bin/python",
        ),
        Setting("DATA_FOLDER", NodePath(in_home=True), "where each node keeps its copy of splits"),
        Setting(
            "ENGINES_PER_NODE",
            Whole(1, 1024),
            "engines on each node",
            unset="one per core",
            example="4",
        ),
        Setting(
            "IDLE_STOP_MINUTES",
            Whole(0, 10080),
            "stop a cluster that has done nothing for so long; 0 is never",
        ),
        Setting(
            "BUDGET_USD",
            Number(0.01, 100_000),
            "stop a cluster before it has cost more than this",
            only="ec2",
            unset="no limit",
            example="20",
        ),
        Setting(
            "START_TIMEOUT_S",
            Whole(30, 7200),
            "seconds after which a node that does not start is given up",
        ),
    ),
)

SECTIONS = {
    each.name: each for each in (GLOBAL, AWS_INFO, KEY, VOLUME, PERMISSION, PLUGIN, CLUSTER)
}


def as_text(value: object, unset: str = "") -> str:
    """Write a value as it would stand in a file; `unset` stands for none."""
    if value is None or value == ():
        return unset
    if isinstance(value, tuple):
        return ", ".join(as_text(each) for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
