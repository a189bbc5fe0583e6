"""What StarCluster had and nobody has any more: named in warnings, with what takes its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mscourse.cluster.values import Kind, Package, Several, Whole

# Another name for the same setting.
ALIASES = {"AVAILABILITY_ZONE": "AVAILABILITY_ZONES"}

_OWN_CONFIGURATION = "what AWS's own configuration says is used instead"

# Settings that are read over: what to know instead.
SETTINGS = {
    "global": {
        "ENABLE_EXPERIMENTAL": "there are no such features",
        "WEB_BROWSER": "prices are printed, not shown in a browser",
    },
    "aws info": {
        "AWS_USER_ID": "AWS knows the account from the credentials",
        "EC2_CERT": "EC2 has no certificates any more",
        "EC2_PRIVATE_KEY": "EC2 has no certificates any more",
        **dict.fromkeys(
            [
                "AWS_PORT",
                "AWS_EC2_PATH",
                "AWS_S3_PATH",
                "AWS_IS_SECURE",
                "AWS_REGION_HOST",
                "AWS_S3_HOST",
                "AWS_PROXY",
                "AWS_PROXY_PORT",
                "AWS_PROXY_USER",
                "AWS_PROXY_PASS",
                "AWS_VALIDATE_CERTS",
            ],
            _OWN_CONFIGURATION,
        ),
    },
    "volume": {
        "DEVICE": "EC2 and the node find a free one",
        "PARTITION": "volumes are used whole",
    },
    "cluster": {
        "DISABLE_QUEUE": "there is no Sun Grid Engine; engines have the scheduler of mscourse",
        "MASTER_IMAGE_ID": "the master has the image of NODE_IMAGE_ID",
        "VPC_ID": "the default network of the region is used",
        "SUBNET_ID": "the default network of the region is used",
        "USERDATA_SCRIPTS": "make an image of your own, and name it in NODE_IMAGE_ID",
        "DISABLE_CLOUDINIT": "a node is set up through ssh",
        "DNS_PREFIX": "nodes are always called master, node001, node002, ...",
    },
}

# Settings whose values are secrets, although nobody reads them.
SECRET_SETTINGS = frozenset({"AWS_PROXY_PASS", "NOTEBOOK_PASSWD"})

# Old machine types, and the current ones with as many or a few more cores and as much memory.
INSTANCE_TYPES = {
    "t1.micro": "t3.micro",
    "m1.small": "t3.small",
    "m1.medium": "t3.medium",
    "m1.large": "m5.large",
    "m1.xlarge": "m5.xlarge",
    "m2.xlarge": "r5.large",
    "m2.2xlarge": "r5.xlarge",
    "m2.4xlarge": "r5.2xlarge",
    "m3.medium": "t3.medium",
    "m3.large": "m5.large",
    "m3.xlarge": "m5.xlarge",
    "m3.2xlarge": "m5.2xlarge",
    "c1.medium": "c5.large",
    "c1.xlarge": "c5.2xlarge",
    "c3.large": "c5.large",
    "c3.xlarge": "c5.xlarge",
    "c3.2xlarge": "c5.2xlarge",
    "c3.4xlarge": "c5.4xlarge",
    "c3.8xlarge": "c5.9xlarge",
    "cc1.4xlarge": "c5.4xlarge",
    "cc2.8xlarge": "c5.9xlarge",
    "cr1.8xlarge": "r5.8xlarge",
    "cg1.4xlarge": "g4dn.4xlarge",
    "g2.2xlarge": "g4dn.2xlarge",
    "hi1.4xlarge": "i4i.4xlarge",
    "hs1.8xlarge": "d3.4xlarge",
    "i2.xlarge": "i4i.xlarge",
    "i2.2xlarge": "i4i.2xlarge",
    "i2.4xlarge": "i4i.4xlarge",
    "i2.8xlarge": "i4i.8xlarge",
}

# Images that StarCluster published, and that of the tutorial this course grew from. They are of
# Ubuntu 9 to 13: no current machine type starts them, and no current Python runs there.
IMAGES = frozenset(
    {
        "ami-0af31963",
        "ami-12b6477b",
        "ami-3393a45a",
        "ami-4583572c",
        "ami-52a0c53b",
        "ami-5b3fb632",
        "ami-6b211202",
        "ami-765b3e1f",
        "ami-7c5c3915",
        "ami-899d49e0",
        "ami-8cf913e5",
        "ami-999d49f0",
    }
)

# Ids of images were this short until 2018.
SHORT_IMAGE_ID_LETTERS = len("ami-12345678")


@dataclass(frozen=True)
class OldPlugin:
    """A class of StarCluster.

    Attributes
    ----------
    instead : str
        What takes its place.
    settings : mapping of str to Kind
        Settings that are used.
    gone : mapping of str to str
        Settings that are read over, and why.
    takes_any : bool
        Whether further settings are read over without a word: there is one about the class.
    """

    instead: str
    settings: Mapping[str, Kind] = field(default_factory=dict)
    gone: Mapping[str, str] = field(default_factory=dict)
    takes_any: bool = False


_NOTEBOOK_GONE = "no notebook server is started on the cluster; JupyterLab runs on your machine"

_IPCLUSTER = OldPlugin(
    "every cluster runs ipyparallel, without a plugin",
    {"NODE_ENGINES": Whole(1, 1024)},
    {
        "ENABLE_NOTEBOOK": _NOTEBOOK_GONE,
        "NOTEBOOK_PASSWD": _NOTEBOOK_GONE,
        "NOTEBOOK_DIRECTORY": _NOTEBOOK_GONE,
        "PACKER": "ipyparallel has the right one",
        "MASTER_ENGINES": "the master has as many engines as the other nodes",
        "LOG_LEVEL": "it is always the same",
    },
)

_NOT_DONE = "nothing takes its place; if you need it, make an image of your own (NODE_IMAGE_ID)"

PLUGINS = {
    "starcluster.plugins.ipcluster.IPCluster": _IPCLUSTER,
    "starcluster.plugins.ipcluster.IPClusterStop": OldPlugin(
        "engines stop with their cluster, without a plugin"
    ),
    "starcluster.plugins.ipcluster.IPClusterRestartEngines": replace(
        _IPCLUSTER, instead="engines are looked after by the cluster, without a plugin"
    ),
    "starcluster.plugins.pypkginstaller.PyPkgInstaller": OldPlugin(
        "its packages are added to PACKAGES of the clusters that name it",
        {"PACKAGES": Several(Package())},
        {"INSTALL_COMMAND": "packages are installed by pip"},
    ),
    "starcluster.plugins.tmux.TmuxControlCenter": OldPlugin(
        "run tmux on the master yourself", takes_any=True
    ),
    "starcluster.plugins.sge.SGEPlugin": OldPlugin(
        "engines have the scheduler of mscourse", takes_any=True
    ),
    **{
        f"starcluster.plugins.{name}": OldPlugin(_NOT_DONE, takes_any=True)
        for name in (
            "boto.BotoPlugin",
            "condor.CondorPlugin",
            "hadoop.Hadoop",
            "mpich2.MPICH2Setup",
            "mysql.MysqlCluster",
            "pkginstaller.PackageInstaller",
            "users.CreateUsers",
            "xvfb.XvfbSetup",
        )
    },
}
