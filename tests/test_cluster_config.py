"""The configuration of clusters: what it means, the files it is in, and its secrets."""

from __future__ import annotations

import os
import re
from dataclasses import fields
from pathlib import Path

import pytest
from configtexts import KEY, SMALL, TUTORIAL, warned

from mscourse.cli import main
from mscourse.cluster import obsolete
from mscourse.cluster.commands import describe
from mscourse.cluster.config import VARIABLE, find_config, read_config
from mscourse.cluster.settings import Config, Host, Secret
from mscourse.cluster.table import SECTIONS
from mscourse.errors import ClusterConfigError

# Where `write`, `read` and `errors` come from. No test sees, or writes, what is of whoever runs it.
pytest_plugins = ["configtexts"]
pytestmark = pytest.mark.usefixtures("own_home")


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
        "[cluster lab]\nPROVIDER = SSH\nHOSTS = ann@lab01, lab02:2222,\n   root@10.0.0.7:65535\n"
    )
    cluster = config.template("lab")
    assert cluster.provider == "ssh"
    assert cluster.hosts == (
        Host("lab01", "ann"),
        Host("lab02", None, 2222),
        Host("10.0.0.7", "root", 65535),
    )
    assert [str(host) for host in cluster.hosts] == [
        "ann@lab01", "lab02:2222", "root@10.0.0.7:65535",
    ]  # fmt: skip
    assert cluster.cluster_size == 3
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
