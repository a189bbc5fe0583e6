"""What is wrong with a configuration of clusters, and with the form of its file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from configtexts import KEY, SMALL
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mscourse.cluster.commands import describe
from mscourse.cluster.config import read_config
from mscourse.cluster.inifile import decode, read_ini
from mscourse.cluster.remarks import Place, Remarks
from mscourse.cluster.settings import Config
from mscourse.cluster.table import CLUSTER, SECTIONS
from mscourse.cluster.values import Number, Whole
from mscourse.errors import ClusterConfigError, ClusterError

# Where `write`, `read` and `errors` come from. No test sees, or writes, what is of whoever runs it.
pytest_plugins = ["configtexts"]
pytestmark = pytest.mark.usefixtures("own_home")


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
        ("[cluster c]\n", "of a key, of at most 255 characters of ASCII without [ and ]"),
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


@pytest.mark.parametrize("name", ["me@laptop", "key (1)", "k/1=2,3", "-k", "k" * 255])
def test_the_key_of_ec2_may_have_any_name_that_ec2_takes(read, name):
    config = read(f"[key {name}]\nKEY_LOCATION = k\n[cluster c]\nKEYNAME = {name}\n")
    assert config.template().key.name == name


@pytest.mark.parametrize("name", ["schlüssel", "k" * 256])
def test_the_key_of_ec2_has_no_name_that_ec2_refuses(errors, name):
    found = errors(f"[key {name}]\nKEY_LOCATION = k\n[cluster c]\nKEYNAME = {name}\n")
    assert "of at most 255 characters of ASCII" in found[0]


@pytest.mark.parametrize("host", ["[2001:db8::1]", "root@[fe80::1]:22"])
def test_hosts_are_not_named_by_an_address_of_ipv6(errors, host):
    [found] = errors(f"[cluster c]\nPROVIDER = ssh\nHOSTS = lab01, {host}\n")
    assert found.startswith(f"3: HOSTS must not be an address of IPv6, such as '{host}'")
    assert "Give the name of the host" in found


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
