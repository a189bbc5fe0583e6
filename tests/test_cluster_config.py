"""The configuration of clusters: what it means, what is wrong with it, and its template."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mscourse.cli import main
from mscourse.cluster import obsolete
from mscourse.cluster.commands import describe
from mscourse.cluster.config import VARIABLE, find_config, read_config
from mscourse.cluster.inifile import decode, read_ini
from mscourse.cluster.remarks import Place, Remarks
from mscourse.cluster.settings import Config, Host, Secret
from mscourse.cluster.table import CLUSTER, SECTIONS
from mscourse.cluster.template import template, write_template
from mscourse.cluster.values import Number, Whole
from mscourse.errors import ClusterConfigError, ClusterError

# What the tutorial that this course grew from configures, told anew.
TUTORIAL = """\
[global]
DEFAULT_TEMPLATE=iptemplate

[key mykey]
KEY_LOCATION=~/.ssh/mykey.rsa

[plugin ipcluster]
SETUP_CLASS = starcluster.plugins.ipcluster.IPCluster

[plugin ipclusterstop]
SETUP_CLASS = starcluster.plugins.ipcluster.IPClusterStop

[plugin ipclusterrestart]
SETUP_CLASS = starcluster.plugins.ipcluster.IPClusterRestartEngines

[plugin pypackages]
SETUP_CLASS = starcluster.plugins.pypkginstaller.PyPkgInstaller
PACKAGES = scikit-learn, psutil

# the cluster to start by default
[cluster iptemplate]
KEYNAME = mykey
CLUSTER_SIZE = 1
CLUSTER_USER = ipuser
CLUSTER_SHELL = bash
REGION = us-west-2
NODE_IMAGE_ID = ami-5b3fb632
NODE_INSTANCE_TYPE = c1.xlarge  # 8 CPUs
DISABLE_QUEUE = True
SPOT_BID = 0.10
PLUGINS = pypackages, ipcluster
"""

KEY = "[key k]\nKEY_LOCATION = ~/.ssh/k\n"
SMALL = KEY + "[cluster c]\nKEYNAME = k\n"  # what is appended begins in line 5


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    """Let no test see, or write, the configuration and the keys of whoever runs it."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def write(tmp_path):
    def write(text, name="cluster.ini", mode=0o600):
        path = tmp_path / name
        path.write_text(text)
        path.chmod(mode)
        return path

    return write


@pytest.fixture
def read(write):
    """Read a text; the configuration."""
    return lambda text: read_config(write(text))


@pytest.fixture
def errors(write):
    """Read a text that is wrong; the errors as ``LINE: text``."""

    def errors(text):
        path = write(text)
        with pytest.raises(ClusterConfigError) as caught:
            read_config(path)
        lines = str(caught.value).splitlines()
        assert all(line.startswith(f"{path}:") for line in lines)
        return [line.removeprefix(f"{path}:").strip() for line in lines]

    return errors


def warned(config):
    return [f"{each.place.line}: {each.text}" for each in config.warnings]


# -- what it means -------------------------------------------------------------------------------


def test_the_configuration_of_the_tutorial_means_what_it_meant(read):
    config = read(TUTORIAL)
    cluster = config.template()
    assert cluster == config.templates["iptemplate"] == config.template("iptemplate")
    assert cluster.provider == "ec2"
    assert cluster.key == config.keys["mykey"]
    assert cluster.key.key_location == Path.home() / ".ssh" / "mykey.rsa"
    assert (cluster.cluster_size, cluster.cluster_user, cluster.cluster_shell) == (
        1, "ipuser", "bash",
    )  # fmt: skip
    assert (cluster.region, cluster.spot_bid) == ("us-west-2", 0.10)
    assert cluster.packages == ("scikit-learn", "psutil")
    # What is gone has been replaced.
    assert cluster.node_instance_type == ("c5.2xlarge",)
    assert cluster.node_image_id is None


def test_what_is_obsolete_in_the_tutorial_is_named_with_its_line(read):
    about = dict(line.split(": ", 1) for line in warned(read(TUTORIAL)))
    expected = {
        "8": "IPCluster is obsolete: every cluster runs ipyparallel",
        "11": "IPClusterStop is obsolete",
        "14": "IPClusterRestartEngines is obsolete",
        "17": "PyPkgInstaller is obsolete: its packages are added to PACKAGES",
        "27": "ami-5b3fb632 is obsolete",
        "28": "c1.xlarge is obsolete: c5.2xlarge is used",
        "29": "DISABLE_QUEUE is obsolete: there is no Sun Grid Engine",
    }
    assert about.keys() == expected.keys()
    for line, text in expected.items():
        assert text in about[line]


def test_every_setting_of_a_cluster_reaches_its_record(read):
    config = read(
        "[global]\nrefresh_interval = 5\n"
        "[aws info]\nAWS_PROFILE = course\nAws_Region_Name: eu-west-1\n" + KEY + "[volume v]\n"
        "VOLUME_ID = vol-0123456789abcdef0\nMOUNT_PATH = /data\n[volume new]\nSIZE_GB = 20\n"
        "MOUNT_PATH = /scratch/\n[permission p]\nFROM_PORT = 80\nTO_PORT = 81\n"
        "CIDR_IP = 10.1.0.0/16\nIP_PROTOCOL = UDP\n[cluster full]\nPROVIDER = ec2\nKEYNAME = k\n"
        "CLUSTER_SIZE = 9\nCLUSTER_USER = me\nCLUSTER_SHELL = zsh\nREGION = us-west-2\n"
        "AVAILABILITY_ZONE = us-west-2a, us-west-2b\nNODE_IMAGE_ID = ami-0123456789abcdef0\n"
        "NODE_INSTANCE_TYPE = c7i-flex.large,\n  m5.large\nMASTER_INSTANCE_TYPE = m3.large\n"
        "SPOT_BID = .5\nFORCE_SPOT_MASTER = yes\nVOLUMES = v, new\nPERMISSIONS = p\n"
        "PACKAGES = numpy>=2,<3, dask[array,bag]\n  psutil==6.0\nDATA_FOLDER = ~/d//e/\n"
        "WHEELS = wheels\nNODE_PYTHON = /opt/python3\n"
        "ENGINES_PER_NODE = 3\nIDLE_STOP_MINUTES = 0\nBUDGET_USD = 7.5\nSTART_TIMEOUT_S = 99\n"
    )
    cluster = config.template()
    given = {field.name: getattr(cluster, field.name) for field in fields(cluster)}
    assert given == {
        "name": "full",
        "provider": "ec2",
        "hosts": (),
        "key": config.keys["k"],
        "cluster_size": 9,
        "cluster_user": "me",
        "cluster_shell": "zsh",
        "region": "us-west-2",
        "availability_zones": ("us-west-2a", "us-west-2b"),
        "node_image_id": "ami-0123456789abcdef0",
        "node_instance_type": ("c7i-flex.large", "m5.large"),
        "master_instance_type": "m5.large",
        "spot_bid": 0.5,
        "force_spot_master": True,
        "volumes": (config.volumes["v"], config.volumes["new"]),
        "permissions": (config.permissions["p"],),
        "packages": ("numpy<3,>=2", "dask[array,bag]", "psutil==6.0"),
        "wheels": config.path.parent / "wheels",
        "node_python": "/opt/python3",
        "data_folder": "~/d/e",
        "engines_per_node": 3,
        "idle_stop_minutes": 0,
        "budget_usd": 7.5,
        "start_timeout_s": 99,
    }
    defaults = vars(type(cluster))
    assert all(
        given[name] != defaults[name] for name in given.keys() - {"name", "provider", "hosts"}
    )
    assert config.settings.refresh_interval_s == 5
    assert (config.aws.profile, config.aws.region_name) == ("course", "eu-west-1")
    assert (config.volumes["new"].size_gb, config.volumes["new"].mount_path) == (20, "/scratch")
    rows = dict(line.split(maxsplit=1) for line in describe(cluster)[1:])
    assert rows["KEYNAME"] == f"k ({Path.home()}/.ssh/k)"
    assert rows["VOLUMES"] == "v (vol-0123456789abcdef0) at /data, new (new, 20 GB) at /scratch"
    assert rows["PERMISSIONS"] == "p (udp 80 to 81, 10.1.0.0/16)"
    assert len(warned(config)) == 1  # m3.large


def test_the_table_and_the_records_have_the_same_settings():
    for kind in SECTIONS.values():
        of_table = {each.attribute for each in kind.settings}
        of_record = {each.name for each in fields(kind.record)} - {"name"}
        if kind.name == "plugin":
            of_record -= {"packages", "node_engines"}
        assert of_table - {"extends", "plugins"} == of_record
        assert len(of_table) == len(kind.settings)


def test_machines_reached_by_ssh_are_a_cluster_too(read):
    config = read(
        "[cluster lab]\nPROVIDER = SSH\n"
        "HOSTS = ann@lab01, lab02:2222,\n   root@[fe80::1]:1, 10.0.0.7:65535\n"
    )
    cluster = config.template("lab")
    assert cluster.provider == "ssh"
    assert cluster.hosts == (
        Host("lab01", "ann"),
        Host("lab02", None, 2222),
        Host("fe80::1", "root", 1),
        Host("10.0.0.7", None, 65535),
    )
    assert [str(host) for host in cluster.hosts] == [
        "ann@lab01", "lab02:2222", "root@[fe80::1]:1", "10.0.0.7:65535",
    ]  # fmt: skip
    assert cluster.cluster_size == 4
    assert (cluster.key, cluster.region) == (None, None)
    assert warned(config) == []


def test_a_template_takes_over_what_it_does_not_set(read):
    config = read(
        SMALL + "CLUSTER_SIZE = 3\nSPOT_BID = 1\nPACKAGES = psutil\nCLUSTER_SHELL = zsh\n"
        "[cluster middle]\nEXTENDS = c\nCLUSTER_SIZE = 5\nSPOT_BID = none\nPACKAGES =\n"
        "[cluster last]\nEXTENDS = middle\nCLUSTER_SHELL = sh\n"
        "[cluster lab]\nEXTENDS = last\nPROVIDER = ssh\nHOSTS = a, b, c, d, e, f\n"
    )
    last, lab = config.template("last"), config.template("lab")
    assert (last.cluster_size, last.spot_bid, last.packages) == (5, None, ())
    assert (last.key, last.cluster_shell) == (config.keys["k"], "sh")
    assert config.template("c").cluster_size == 3
    # What only EC2 has is not taken over by a classroom; the rest is.
    assert (lab.cluster_size, lab.key, lab.cluster_shell) == (5, config.keys["k"], "bash")


def test_plugins_become_settings(read):
    config = read(
        "[plugin p]\nSETUP_CLASS = starcluster.plugins.pypkginstaller.PyPkgInstaller\n"
        "PACKAGES = psutil, xgboost\nINSTALL_COMMAND = pip install -U %s\n"
        "[plugin i]\nSETUP_CLASS = starcluster.plugins.ipcluster.IPCluster\nNODE_ENGINES = 4\n"
        "ENABLE_NOTEBOOK = True\nNOTEBOOK_PASSWD = hunter2\n"
        "[plugin t]\nSETUP_CLASS = starcluster.plugins.tmux.TmuxControlCenter\nENVAR = 1\n"
        + SMALL + "PLUGINS = p, i, t\nPACKAGES = pandas, psutil\n"
        "[cluster own]\nEXTENDS = c\nENGINES_PER_NODE = 2\n"
        "[cluster bare]\nEXTENDS = c\nPLUGINS = none\nPACKAGES = none\n"
    )  # fmt: skip
    assert config.template("c").packages == ("pandas", "psutil", "xgboost")
    assert config.template("c").engines_per_node == 4
    assert config.template("own").engines_per_node == 2
    assert config.template("bare").packages == ()
    assert config.template("bare").engines_per_node is None
    about = [line.split(": ")[1].removesuffix(" is obsolete") for line in warned(config)]
    assert [line.rpartition(".")[2] for line in about] == [
        "PyPkgInstaller", "INSTALL_COMMAND", "IPCluster", "ENABLE_NOTEBOOK", "NOTEBOOK_PASSWD",
        "TmuxControlCenter",
    ]  # fmt: skip


def test_which_template_is_meant(read):
    one = read(SMALL)
    assert one.template().name == "c"
    two = read(SMALL + "[cluster d]\nEXTENDS = c\n")
    with pytest.raises(
        ClusterConfigError, match=r"set DEFAULT_TEMPLATE in .global.\. There are: c, d"
    ):
        two.template()
    assert two.template("d").name == "d"
    named = read("[global]\nDEFAULT_TEMPLATE = d\n" + SMALL + "[cluster d]\nEXTENDS = c\n")
    assert named.template().name == "d"
    assert named.template("c").name == "c"
    with pytest.raises(ClusterConfigError, match=r"no \[cluster smalll\]. Did you mean small\?"):
        read(SMALL.replace("cluster c", "cluster small")).template("smalll")


def test_a_configuration_without_clusters_is_one_with_a_warning(read):
    config = read("")
    assert warned(config) == ["1: There is no section [cluster NAME], so nothing to start."]
    assert config == Config(config.path, warnings=config.warnings)
    with pytest.raises(ClusterConfigError, match="There are: none"):
        config.template()


def test_the_region_of_all_clusters_and_that_of_one(read):
    config = read(
        "[aws info]\nAWS_REGION_NAME = eu-west-1\n" + SMALL
        + "NODE_IMAGE_ID = ami-0123456789abcdef0\n[cluster d]\nKEYNAME = k\nREGION = us-east-1\n"
    )  # fmt: skip
    assert config.template("c").region == "eu-west-1"
    assert config.template("d").region == "us-east-1"
    assert read(SMALL).template().region is None


def test_old_machine_types_lead_to_current_ones_once(read):
    config = read(SMALL + "NODE_INSTANCE_TYPE = m3.xlarge, m5.xlarge, m1.small\n")
    assert config.template().node_instance_type == ("m5.xlarge", "t3.small")
    assert [line.split(" is")[0] for line in warned(config)] == ["5: m3.xlarge", "5: m1.small"]
    assert obsolete.INSTANCE_TYPES.keys().isdisjoint(obsolete.INSTANCE_TYPES.values())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SMALL + "REGION = us-wset-2\n", "5: REGION is us-wset-2, a region that is not known"),
        (SMALL + "REGION = us-wset-2\n", "Did you mean us-west-2?"),
        (SMALL + "REGION = us-east-1\nNODE_IMAGE_ID = ami-12345678\n", "6: ami-12345678 has an id"),
        (SMALL + "SUBNET_ID = subnet-1\n", "5: SUBNET_ID is obsolete: the default network"),
        ("[aws info]\nAWS_USER_ID = 12\n" + SMALL, "2: AWS_USER_ID is obsolete: AWS knows"),
        ("[global]\nWEB_BROWSER = x\n" + SMALL, "2: WEB_BROWSER is obsolete: "),
        (
            SMALL + "[volume v]\nSIZE_GB = 1\nMOUNT_PATH = /d\nDEVICE = /dev/sdj\n",
            "8: DEVICE is obsolete: ",
        ),
        (
            SMALL + "[permission p]\nFROM_PORT = 8888\nTO_PORT = 8889\nCIDR_IP = 0.0.0.0/0\n",
            "8: DANGER: [permission p] opens the ports 8888 to 8889 to THE WHOLE WORLD.",
        ),
        (
            SMALL + "[permission p]\nFROM_PORT = 1\nTO_PORT = 2\nCIDR_IP = 128.0.0.0/1\n",
            "to 2147483648 addresses",
        ),
    ],
)
def test_a_warning_says_what_and_where(read, text, says):
    (line,) = warned(read(text))
    assert says in line


# -- what is wrong -------------------------------------------------------------------------------


def test_all_errors_are_told_at_once_in_the_order_of_the_file(errors):
    assert issubclass(ClusterConfigError, ClusterError)
    found = errors(
        "[global]\nDEFAULT_TEMPLATE = smalll\nREFRESH_INTERVALL = 3\n[clustre x]\n[key]\n"
        "[cluster small]\nKEYNAME = nokey\nCLUSTER_SIZE = many\nSPOT_BID = 1000\nnonsense\n"
    )
    assert [line.split(": ")[0] for line in found] == ["2", "3", "4", "5", "7", "8", "9", "10"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        # sections
        ("[clustre x]\n", "1: There is no section 'clustre x'. Did you mean [cluster NAME]?"),
        ("[aws]\n", "1: There is no section 'aws'. Did you mean [aws info]? There are: [global], "),
        ("[cluster]\n", "1: The section needs a name: [cluster NAME]"),
        ("[global x]\n", "1: The section [global] has no name."),
        (SMALL + "[cluster -o]\nEXTENDS = c\n", "5: NAME in [cluster NAME] must be the name"),
        (SMALL + "[cluster a b]\nEXTENDS = c\n", "5: NAME in [cluster NAME] must be the name"),
        (KEY + KEY, "3: The section [key k] is already at "),
        # settings
        (SMALL + "CLUSTER_SISE = 2\n", "5: [cluster c] has no setting CLUSTER_SISE. Did you mean"),
        (SMALL + "CLUSTER_SISE = 2\n", "CLUSTER_SIZE? It can have: EXTENDS, PROVIDER, HOSTS, "),
        (SMALL + "FROM_PORT = 2\n", "FROM_PORT. It belongs in [permission NAME]."),
        (SMALL + "keyname = k\n", "5: The setting KEYNAME is already in line 4."),
        (SMALL + "AVAILABILITY_ZONE = us-west-2a\nAVAILABILITY_ZONES = us-west-2a\n",
         "6: AVAILABILITY_ZONES is there already, by another name."),
        ("[key k]\n" + "[cluster c]\nKEYNAME = k\n", "1: [key k] needs KEY_LOCATION: the path"),
        ("[cluster c]\n", "1: [cluster c] needs KEYNAME: the name of a key"),
        ("[cluster c]\n", "of letters, digits, . _ - and blanks"),
        ("[cluster c]\nKEYNAME = none\n", "2: [cluster c] needs KEYNAME: the name of a key"),
        ("[cluster c]\nPROVIDER = ssh\n", "1: [cluster c] needs HOSTS: a list"),
        ("[cluster c]\nPROVIDER = ssh\nHOSTS =\n", "3: [cluster c] needs HOSTS: a list"),
        # values
        (SMALL + "CLUSTER_SIZE = 0\n",
         "5: CLUSTER_SIZE must be a whole number from 1 to 500, not '0'."),
        (SMALL + "CLUSTER_SIZE = 501\n", "5: CLUSTER_SIZE must be"),
        (SMALL + "CLUSTER_SIZE = 2.5\n", "5: CLUSTER_SIZE must be"),
        (SMALL + "CLUSTER_SIZE =   # two\n", "5: CLUSTER_SIZE is empty: it must be a whole number"),
        (SMALL + "CLUSTER_SIZE = none\n", "5: CLUSTER_SIZE must be"),
        (SMALL + f"CLUSTER_SIZE = {'9' * 5000}\n", "9...'."),
        (SMALL + "SPOT_BID = nan\n", "5: SPOT_BID must be a number from 0.001 to 100, not 'nan'."),
        (SMALL + "SPOT_BID = 0_10\n", "5: SPOT_BID must be"),
        (SMALL + "SPOT_BID = -1\n", "5: SPOT_BID must be"),
        (SMALL + "FORCE_SPOT_MASTER = maybe\n", "must be True or False, not 'maybe'."),
        (SMALL + "CLUSTER_SHELL = bsh\n", "tcsh, sh, not 'bsh'. Did you mean bash?"),
        (SMALL + "CLUSTER_USER = a b\n", "5: CLUSTER_USER must be an account's name"),
        (SMALL + "REGION = us-west-2a\n", "5: REGION must be a region such as us-west-2, not"),
        (SMALL + "NODE_INSTANCE_TYPE = c5.xlarge, c1.xlarge:3\n", "not 'c1.xlarge:3'."),
        (SMALL + "NODE_INSTANCE_TYPE =\n", "5: NODE_INSTANCE_TYPE is empty"),
        (SMALL + "NODE_INSTANCE_TYPE = m5.large,\n m5.large\n", "must not name 'm5.large' twice."),
        (SMALL + "REGION = eu-west-1\nNODE_IMAGE_ID = ubuntu\n", "must be an image's id such as"),
        (SMALL + "REGION = eu-west-1\n  eu-west-2\n", "5: REGION must be a region"),
        (SMALL + "PACKAGES = --index-url=x\n", "5: PACKAGES must be a package for pip"),
        (SMALL + "PACKAGES = git+https://x.org/y\n", "Write an address as NAME @ ADDRESS."),
        (SMALL + f"PACKAGES = a; {'(' * 3000}\n", "5: PACKAGES must be a package for pip"),
        (SMALL + "DATA_FOLDER = data\n", "DATA_FOLDER must be a folder that begins with / or ~/"),
        (SMALL + "DATA_FOLDER = ~/\n", "5: DATA_FOLDER must be a folder"),
        (SMALL + "DATA_FOLDER = /data/../data2\n", "5: DATA_FOLDER must be a folder"),
        (SMALL + "DATA_FOLDER = /data;reboot\n", "5: DATA_FOLDER must be a folder"),
        ("[key k]\nKEY_LOCATION = ~nobodyhere/k\n", "2: KEY_LOCATION must be the path of a file"),
        ("[key k]\nKEY_LOCATION = /a\n /b\n", "2: KEY_LOCATION must be the path of a file"),
        ("[cluster c]\nPROVIDER = ssh\nHOSTS = -oProxyCommand=x\n", "3: HOSTS must be a host as"),
        ("[cluster c]\nPROVIDER = ssh\nHOSTS = a:0\n", "3: HOSTS must be a host as"),
        ("[cluster c]\nPROVIDER = ssh\nHOSTS = a:65536\n", "3: HOSTS must be a host as"),
        ("[cluster c]\nPROVIDER = ssh\nHOSTS = a@b@c\n", "3: HOSTS must be a host as"),
        # names that lead nowhere
        ("[global]\nDEFAULT_TEMPLATE = smalll\n" + SMALL.replace("cluster c", "cluster small"),
         "2: DEFAULT_TEMPLATE: there is no [cluster smalll]. Did you mean small? There are: small"),
        (KEY + "[cluster c]\nKEYNAME = kk\n", "4: KEYNAME: there is no [key kk]. Did you mean k?"),
        (SMALL + "PLUGINS = p\n", "5: PLUGINS: there is no [plugin p]. There are: none"),
        (SMALL + "VOLUMES = v\n", "5: VOLUMES: there is no [volume v]."),
        (SMALL + "PERMISSIONS = p\n", "5: PERMISSIONS: there is no [permission p]."),
        (SMALL + "EXTENDS = d\n", "5: EXTENDS: there is no [cluster d]."),
        (SMALL + "EXTENDS = c\n", "5: EXTENDS goes round in a circle: c -> c"),
        (SMALL + "EXTENDS = d\n[cluster d]\nEXTENDS = e\n[cluster e]\nEXTENDS = c\n"
         "[cluster leads-there]\nEXTENDS = d\n",
         "5: EXTENDS goes round in a circle: c -> d -> e -> c"),
        # plugins
        (SMALL + "[plugin p]\nPACKAGES = x\n", "5: [plugin p] needs SETUP_CLASS"),
        (SMALL + "[plugin p]\nSETUP_CLASS = starcluster.plugins.ipcluster.IPClustr\n",
         "Did you mean starcluster.plugins.ipcluster.IPCluster? Known are: "),
        (SMALL + "[plugin p]\nSETUP_CLASS = mine.Plugin\n", "plugins of your own do not run"),
        (SMALL + "[plugin p]\nSETUP_CLASS = no class\n", "6: SETUP_CLASS must be the dotted name"),
        (SMALL + "[plugin p]\nSETUP_CLASS = starcluster.plugins.pypkginstaller.PyPkgInstaller\n"
         "PACKAGE = x\n", "7: [plugin p] has no setting PACKAGE. Did you mean PACKAGES?"),
        (SMALL + "[plugin p]\nSETUP_CLASS = starcluster.plugins.ipcluster.IPCluster\n"
         "NODE_ENGINES = x\n", "7: NODE_ENGINES must be a whole number"),
        # what does not go together
        ("[cluster c]\nPROVIDER = ec3\nHOSTS = a\n",
         "2: PROVIDER must be one of ec2, ssh, not 'ec3'. Did you mean ec2?"),
        (SMALL + "HOSTS = a\n", "5: HOSTS means something with PROVIDER = ssh only, and [clust"),
        ("[cluster c]\nPROVIDER = ssh\nHOSTS = a\nSPOT_BID = 1\n", "4: SPOT_BID means something"),
        ("[cluster c]\nPROVIDER = ssh\nHOSTS = a, b\nCLUSTER_SIZE = 3\n",
         "4: CLUSTER_SIZE is 3, but [cluster c] has 2 in HOSTS."),
        (SMALL + "NODE_IMAGE_ID = ami-0123456789abcdef0\n", "5: NODE_IMAGE_ID needs REGION"),
        (SMALL + "REGION = eu-west-1\nNODE_IMAGE_ID = ami-0123456789abcdef0\n[cluster d]\n"
         "EXTENDS = c\nREGION = us-west-2\n",
         "9: REGION is set anew, but NODE_IMAGE_ID is still that of [cluster c]"),
        (SMALL + "REGION = eu-west-1\nAVAILABILITY_ZONES = eu-west-1a, eu-west-2a\n",
         "6: AVAILABILITY_ZONES has eu-west-2a, which is not in the region eu-west-1."),
        (SMALL + "[volume v]\nMOUNT_PATH = /d\n", "5: [volume v] needs either VOLUME_ID"),
        (SMALL + "[volume v]\nMOUNT_PATH = /d\nSIZE_GB = 1\nVOLUME_ID = vol-01234567\n",
         "5: [volume v] needs either VOLUME_ID"),
        (SMALL + "[volume v]\nMOUNT_PATH = /home/\nSIZE_GB = 1\n",
         "6: MOUNT_PATH must be a folder of its own, such as /data: /home belongs to the system."),
        (SMALL + "VOLUMES = v, w\n[volume v]\nMOUNT_PATH = /d\nSIZE_GB = 1\n[volume w]\n"
         "MOUNT_PATH = /d/\nSIZE_GB = 1\n", "5: VOLUMES has v and w, both with MOUNT_PATH = /d."),
        (SMALL + "[permission p]\nFROM_PORT = 9\nTO_PORT = 8\n", "7: FROM_PORT and TO_PORT must"),
        (SMALL + "[permission p]\nFROM_PORT = -1\nTO_PORT = 8\n", "7: FROM_PORT and TO_PORT must"),
        (SMALL + "[permission p]\nFROM_PORT = 1\nTO_PORT = 2\nCIDR_IP = 10.0.0.9/8\n",
         "not '10.0.0.9/8'. Did you mean 10.0.0.0/8?"),
        (SMALL + "[permission p]\nFROM_PORT = 1\nTO_PORT = 2\nCIDR_IP = home\n",
         "8: CIDR_IP must be an IPv4 network such as"),
        ("[aws info]\nAWS_ACCESS_KEY_ID = x\n", "2: AWS_ACCESS_KEY_ID is of no use without AWS"),
        ("[aws info]\nAWS_PROFILE = p\nAWS_ACCESS_KEY_ID = x\nAWS_SECRET_ACCESS_KEY = y\n",
         "3: Give AWS_PROFILE or keys, not both."),
        # form
        ("[cluster c\n", "1: A section begins with its name in brackets"),
        ("[cluster c] x\n", "1: A section begins with its name in brackets"),
        (SMALL + "CLUSTER_SIZE 2\n", "5: A setting is written as NAME = value"),
        (SMALL + "= 2\n", "5: A setting is written as NAME = value"),
        ("KEYNAME = k\n", "1: A setting stands in a section"),
        (SMALL + "  CLUSTER_SIZE = 2\n", "5: The line continues the setting of line 4, but looks"),
        (SMALL + "REGION = a\x00b\n", "5: The line has a control character."),
    ],
)  # fmt: skip
def test_one_mistake_is_one_error_that_says_what_where_and_what_is_allowed(errors, text, says):
    (line,) = errors(text)
    assert says in line


NUMBERS = [
    each
    for each in CLUSTER.settings
    if isinstance(each.kind, Whole | Number) and each.only != "ssh"
]


@pytest.mark.parametrize("setting", NUMBERS, ids=lambda each: each.name)
def test_the_ends_of_a_range_are_allowed_and_what_is_beyond_is_not(read, errors, setting):
    low, high = setting.kind.low, setting.kind.high
    for allowed in (low, high):
        cluster = read(SMALL + f"{setting.name} = {allowed}\n").template()
        assert getattr(cluster, setting.attribute) == allowed
    for beyond in (low - 1, high + 1):
        assert (
            f"{setting.name} must be {setting.kind.allowed}"
            in errors(SMALL + f"{setting.name} = {beyond}\n")[0]
        )


def test_the_key_of_ec2_may_have_blanks_in_its_name(read):
    config = read("[key my  key]\nKEY_LOCATION = k\n[cluster c]\nKEYNAME = my key\n")
    assert config.template().key.name == "my key"


def test_one_address_is_a_network(read):
    text = "[permission p]\nFROM_PORT = 1\nTO_PORT = 1\nCIDR_IP = 203.0.113.9\n"
    permission = read(SMALL + text).permissions["p"]
    assert str(permission.cidr_ip) == "203.0.113.9/32"


def test_icmp_has_types_instead_of_ports(read):
    text = "[permission p]\nFROM_PORT = -1\nTO_PORT = -1\nIP_PROTOCOL = icmp\n"
    assert read(SMALL + text).permissions["p"].from_port == -1


def test_the_current_ubuntu_is_in_every_region(read):
    config = read(
        SMALL + "NODE_IMAGE_ID = none\n[cluster d]\nEXTENDS = c\nREGION = us-west-2\n"
        "[cluster e]\nEXTENDS = d\nREGION = eu-west-1\n"
    )
    assert [each.region for each in config.templates.values()] == [None, "us-west-2", "eu-west-1"]


def test_volumes_without_a_folder_are_not_said_to_share_one(errors):
    found = errors(SMALL + "VOLUMES = v, w\n[volume v]\nSIZE_GB = 1\n[volume w]\nSIZE_GB = 1\n")
    assert [line.split(": ")[0] for line in found] == ["6", "8"]


def test_errors_of_one_template_are_not_repeated_by_those_that_extend_it(errors):
    found = errors(
        SMALL + "NODE_IMAGE_ID = ami-0123456789abcdef0\n"
        "[cluster d]\nEXTENDS = c\n[cluster e]\nEXTENDS = d\n"
    )
    assert len(found) == 1


# -- files ---------------------------------------------------------------------------------------


def test_the_file_is_the_given_one_or_that_of_the_environment_or_the_usual_one(monkeypatch):
    assert find_config() == Path.home() / ".mscourse" / "cluster.ini"
    monkeypatch.setenv(VARIABLE, "~/of-the-environment.ini")
    assert find_config() == Path.home() / "of-the-environment.ini"
    assert find_config("~/given.ini") == Path.home() / "given.ini"
    monkeypatch.setenv(VARIABLE, "")
    assert find_config().name == "cluster.ini"


def test_a_missing_file_is_an_error_that_says_how_to_make_one(tmp_path):
    with pytest.raises(ClusterConfigError, match=r"no such file\. Write one with `mscourse cl"):
        read_config(tmp_path / "none.ini")
    with pytest.raises(ClusterConfigError, match="is not a file"):
        read_config(tmp_path)
    with pytest.raises(ClusterConfigError, match="cannot be read: File name too long"):
        read_config(tmp_path / ("x" * 300))


@pytest.mark.timeout(20)
def test_what_is_no_ordinary_file_is_not_waited_for(tmp_path, write):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ClusterConfigError, match="pipe is not a file"):
        read_config(tmp_path / "pipe")
    path = write("[global]\nINCLUDE = /dev/zero\n" + SMALL)
    with pytest.raises(ClusterConfigError, match=":2: /dev/zero is not a file"):
        read_config(path)
    with pytest.raises(ClusterConfigError, match="too large"):
        read_config(write("#" * (2**20 + 1)))


def test_included_files_are_read_as_if_they_stood_there(write, errors):
    keys = write("[key k]\nKEY_LOCATION = here.pem\n", "keys.ini")
    path = write("[global]\nINCLUDE = keys.ini\n[cluster c]\nKEYNAME = k\n")
    assert read_config(path).template().key.key_location == path.parent / "here.pem"

    keys.write_text("[key k]\nKEY_LOCATIN = here.pem\n[global]\n")
    with pytest.raises(ClusterConfigError) as caught:
        read_config(path)
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == [
        f"{keys}:1", f"{keys}:2", f"{keys}:3",
    ]  # fmt: skip
    for include, says in [("no.ini", "There is no file "), ("cluster.ini", "is already at ")]:
        found = errors(f"[global]\nINCLUDE = {include}\n" + SMALL)
        assert any(says in line for line in found)


def test_text_of_other_encodings_and_line_ends(write, tmp_path):
    path = write("")
    path.write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode())
    assert read_config(path).template().key.name == "k"
    path.write_bytes(SMALL.encode() + b"# \xe9\n")
    with pytest.raises(ClusterConfigError) as caught:
        read_config(path)
    assert str(caught.value) == f"{path}:5: This is not UTF-8 text. Save the file as UTF-8."


# -- secrets -------------------------------------------------------------------------------------

ID, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG=bPxRfiCYEXAMPLEKEY"
CREDENTIALS = f"[aws info]\nAWS_ACCESS_KEY_ID = {ID}\nAWS_SECRET_ACCESS_KEY = {SECRET}\n"


def test_a_secret_does_not_show(read, capsys):
    config = read(CREDENTIALS + SMALL)
    assert config.aws.access_key_id.reveal() == ID
    assert config.aws.secret_access_key.reveal() == SECRET
    assert config.aws.secret_access_key == Secret(SECRET) != Secret(ID)
    assert hash(config.aws.secret_access_key) == hash(Secret(SECRET))
    assert config.aws.secret_access_key != SECRET
    shown = f"{config!r} {config.aws} {config.aws.secret_access_key:}" + str(warned(config))
    assert "'***'" not in shown
    assert shown.count("***") == 5
    assert main(["cluster", "--config", str(config.path), "check"]) == 0
    output = capsys.readouterr()
    for text in (shown, output.out, output.err):
        assert ID not in text
        assert SECRET not in text
    assert "3: A file is no place for credentials." not in output.err
    assert f"warning: {config.path}:2: A file is no place for credentials." in output.err


@pytest.mark.parametrize(
    "text",
    [
        f"AWS_SECRET_ACCESS_KEY = {SECRET}\n",
        f"[aws info]\nAWS_SECRET_ACCES_KEY = {SECRET}\n",
        f"[aws info]\nAWS_SECRET_ACCESS_KEY\n{SECRET}\n",
        f"[aws info]\nAWS_SECRET_ACCESS_KEY =\n{SECRET}\n",
        f"[aws info]\nAWS_SECRET_ACCESS_KEY = x\n  {SECRET}\n",
        f"[aws info]\nAWS_SECRET_ACCESS_KEY = x\n  wJal={SECRET}\n",
        f"[aws info]\n{SECRET.replace('=', '').replace('/', '')} = x\n",
        f"[aws info]\n{SECRET}",
        SMALL + f"PACKAGES = x @ https://{SECRET.replace('/', '')}@y.org/x\n",
        SMALL + f"PACKAGES = git+ssh://me:{SECRET.replace('/', '')}@y.org/x\n",
    ],
)
def test_no_error_quotes_a_secret(write, text):
    with pytest.raises(ClusterConfigError) as caught:
        read_config(write(text))
    for piece in re.split("[/=]", SECRET):
        assert piece.lower() not in str(caught.value).lower()
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "text",
    [
        CREDENTIALS + SMALL,
        SMALL + "[plugin i]\nSETUP_CLASS = starcluster.plugins.ipcluster.IPCluster\n"
        "NOTEBOOK_PASSWD = x\n",
    ],
)
def test_secrets_that_others_can_read_are_warned_of(write, text):
    def warns(mode):
        return [each for each in read_config(write(text, mode=mode)).warnings if "600" in each.text]

    assert not warns(0o600)
    assert len(warns(0o640)) == len(warns(0o604)) == 1
    assert read_config(write(SMALL, mode=0o644)).warnings == ()


def test_secrets_in_an_included_file_are_warned_of_there(write):
    included = write(CREDENTIALS, "aws.ini", 0o644)
    config = read_config(write("[global]\nINCLUDE = aws.ini\n" + SMALL, mode=0o644))
    (warning,) = [each for each in config.warnings if "chmod" in each.text]
    assert str(warning).startswith(f"{included}:2: ")
    assert f"chmod 600 {included}" in warning.text


def test_a_key_that_others_can_read_is_warned_of(write):
    key = write("key", "k.pem", 0o644)
    path = write("[key k]\nKEY_LOCATION = k.pem\n[cluster c]\nKEYNAME = k\n")
    (warning,) = read_config(path).warnings
    assert f"chmod 600 {key}" in warning.text
    key.chmod(0o600)
    assert read_config(path).warnings == ()


# -- the form of the file ------------------------------------------------------------------------


def test_the_reader_knows_comments_continuations_and_lines():
    text = (
        "; a comment\n# another\n[ key   my key ]  # its comment\n"
        "one = 1 ; said inline\nTwo: a#b;c = d\n\n  # between\n  more, ;end\n\ton\nthree =\n"
        "   [::1]\nfour=\n[x]\n  indented = 1\n  so.too = 2\n    and on\n   [y]\nz = 1"
    )
    remarks = Remarks()
    sections = read_ini(text, Path("f"), remarks)
    assert remarks.errors == ()
    assert [(each.title, each.place.line) for each in sections] == [
        ("key my key", 3), ("x", 13), ("y", 17),
    ]  # fmt: skip
    entries = [entry for each in sections for entry in each.entries.values()]
    assert [(each.name, each.value, each.place.line) for each in entries] == [
        ("ONE", "1", 4),
        ("TWO", "a#b;c = d\nmore,\non", 5),
        ("THREE", "[::1]", 10),
        ("FOUR", "", 12),
        ("INDENTED", "1", 14),
        ("SO.TOO", "2\nand on", 15),
        ("Z", "1", 18),
    ]
    assert "more" not in repr(sections)


def test_after_a_broken_header_no_setting_lands_in_the_section_before():
    remarks = Remarks()
    (section,) = read_ini("[a]\nx = 1\n[b\nx = 2\ny = 3\n", Path("f"), remarks)
    assert [each.value for each in section.entries.values()] == ["1"]
    assert [each.place.line for each in remarks.errors] == [3]


# Written from pieces that mean something, a text gets further than one of any letters.
PIECES = st.lists(
    st.sampled_from(
        [
            *(f"{each.name} =" for kind in SECTIONS.values() for each in kind.settings),
            *(f"[{name} " for name in SECTIONS),
            *[
                "\n",
                "\n",
                "\n",
                "\n  ",
                "]",
                "] \n",
                " x",
                " y",
                ", ",
                "#",
                ";",
                "=",
                ":",
                "1",
                "-",
                "..",
            ],
            *["ssh", "ec2", "x.y", "a@b:1", "none", "x==1", "/", "~", "~/", "$HOME", "0.0.0.0/0"],
            *["starcluster.plugins.pypkginstaller.PyPkgInstaller", "us-west-2", "ami-01234567"],
        ]
    ),
    max_size=40,
).map("".join)
TEXTS = st.one_of(PIECES, st.text(max_size=200)).map(str.encode)


@settings(max_examples=400, deadline=None)
@given(content=st.one_of(TEXTS, st.binary(max_size=200)))
@example(content=b"[global]\nINCLUDE = cluster.ini, ., ~, /\x7f, //, $HOME\n")
@example(content=b"[key x]\nKEY_LOCATION = ~\xc3\xbcml/" + b"x" * 300 + b"\n")
@example(content=b"[cluster \xe2\x80\xa8]\n\xc3\x9f = 1\n")
def test_any_text_is_a_configuration_or_has_errors_with_their_lines(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzzed" / "cluster.ini"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    n_lines = len(re.findall(rb"\r\n|\r|\n", content)) + 1
    try:
        config = read_config(path)
    except ClusterConfigError as error:
        for line in str(error).split("\n"):
            match = re.match(re.escape(str(path)) + r":(\d+): \S", line)
            assert match, line
            assert 1 <= int(match[1]) <= n_lines
    else:
        assert isinstance(config, Config)
        for each in config.templates.values():
            assert describe(each)
        repr(config)


@given(text=st.text(max_size=80))
def test_a_value_written_plainly_is_read_as_it_is(text):
    plain = " ".join(re.sub(r"[\x00-\x1f\x7f]|(^|\s)[#;]", " ", text).split())
    plain = re.sub(r"(^|\s)[#;]", "", plain).strip()
    remarks = Remarks()
    decoded = decode(f"[s]\nname = {plain}\nnext = 1\n".encode(), Path("f"), remarks)
    (section,) = read_ini(decoded, Path("f"), remarks)
    assert section.entries["NAME"].value == plain
    assert section.entries["NEXT"].place == Place(Path("f"), 3)


# -- the template --------------------------------------------------------------------------------


def test_the_template_is_right_as_it_is(tmp_path, capsys):
    path = tmp_path / "new" / "cluster.ini"
    assert main(["cluster", "--config", str(path), "config"]) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["cluster.ini"]
    capsys.readouterr()
    assert main(["cluster", "--config", str(path), "check"]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert "[cluster smallcluster]  (the default)" in output.out


def test_the_template_has_each_setting_with_its_help():
    text = template()
    for kind in SECTIONS.values():
        for setting in kind.settings:
            if kind.name != "plugin" and setting.name != "PLUGINS":
                assert re.search(rf"^#?{setting.name} =", text, re.M), setting.name
                assert f"# {setting.help}\n" in text
    assert len(re.findall("^#?PROVIDER = ", text, re.M)) == 2


def test_every_example_of_the_template_can_be_used(read):
    text = re.sub(r"^#(?=[A-Z]+[A-Z_]* = |\[)", "", template(), flags=re.M)
    # What goes with something else only.
    text = re.sub(r"^(VOLUME_ID|EXTENDS|INCLUDE) .*\n", "", text, flags=re.M)
    config = read(text)
    assert config.warnings == ()
    assert config.templates.keys() == {"smallcluster", "classroom"}
    cluster = config.template()
    assert cluster.permissions == (config.permissions["notebook"],)
    for setting in CLUSTER.settings:
        if setting.example and setting.name not in ("EXTENDS", "HOSTS"):
            assert getattr(cluster, setting.attribute) not in (None, ())
    assert len(config.template("classroom").hosts) == 2


def test_the_template_overwrites_nothing_unless_it_is_forced(write, tmp_path, capsys):
    path = write("mine", mode=0o644)
    assert main(["cluster", "config", "-o", str(path)]) == 1
    assert "is there already. Use --force" in capsys.readouterr().err
    assert path.read_text() == "mine"
    assert main(["cluster", "config", "--force", "-o", str(path)]) == 0
    assert path.read_text() == template()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert main(["cluster", "config", "-o", str(path / "below")]) == 1
    assert "cannot be written" in capsys.readouterr().err
    assert {each.name for each in tmp_path.iterdir()} == {"cluster.ini"}


def test_a_template_that_cannot_be_written_leaves_what_was_there(write, monkeypatch, tmp_path):
    path = write("mine")

    def fails():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mscourse.cluster.template.template", fails)
    for target, overwrite in [(path, True), (tmp_path / "new.ini", False)]:
        with pytest.raises(ClusterConfigError, match="No space left on device"):
            write_template(target, overwrite=overwrite)
    assert path.read_text() == "mine"
    assert {each.name for each in tmp_path.iterdir()} == {"cluster.ini"}


# -- the command ---------------------------------------------------------------------------------


def test_the_template_can_be_printed(capsys):
    assert main(["cluster", "config", "-o", "-"]) == 0
    assert capsys.readouterr().out == template()
    assert not Path.home().exists()


def test_check_shows_what_the_tutorial_means_and_warns_on_standard_error(write, capsys):
    path = write(TUTORIAL)
    assert main(["cluster", "--config", str(path), "check"]) == 0
    output = capsys.readouterr()
    assert output.out.splitlines()[:3] == [str(path), "", "[cluster iptemplate]  (the default)"]
    rows = dict(re.findall(r"^  ([A-Z_]+) +(.*)$", output.out, re.M))
    assert rows["CLUSTER_SIZE"] == "1"
    assert rows["NODE_INSTANCE_TYPE"] == "c5.2xlarge"
    assert rows["PACKAGES"] == "scikit-learn, psutil"
    assert rows["SPOT_BID"] == "0.1"
    assert rows["ENGINES_PER_NODE"] == "one per core"
    assert "HOSTS" not in rows
    warnings = output.err.splitlines()
    assert len(warnings) == 7
    assert all(line.startswith(f"warning: {path}:") for line in warnings)


def test_check_of_a_wrong_file_prints_its_errors(write, monkeypatch, capsys):
    path = write("[cluster c]\nKEYNAM = k\n")
    monkeypatch.setenv(VARIABLE, str(path))
    assert main(["cluster", "check"]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert f"{path}:1: [cluster c] needs KEYNAME" in output.err
    assert f"{path}:2: [cluster c] has no setting KEYNAM. Did you mean KEYNAME?" in output.err


def test_the_command_alone_prints_its_help(capsys):
    assert main(["cluster"]) == 2
    assert "write a configuration to begin with" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        main(["cluster", "checks"])
    assert caught.value.code == 2


def test_the_command_imports_nothing_of_aws_and_no_heavy_package():
    code = (
        "import sys, mscourse.cluster.config, mscourse.cluster.cli, mscourse.cluster.template\n"
        "print(*({'boto3', 'botocore', 'numpy', 'sklearn', 'ipyparallel'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
