"""Texts of configurations, and fixtures that read them, for modules with these ``pytest_plugins``.

PYTEST_DONT_REWRITE: those modules import the texts before pytest imports the plugin.
"""

from __future__ import annotations

import pytest

from mscourse.cluster.config import VARIABLE, read_config
from mscourse.errors import ClusterConfigError

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


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    """Let no test see, or write, the configuration and the keys of whoever runs it."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def write(tmp_path, own_home):
    """Write a file; give its path."""

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
    """The warnings of a configuration as ``LINE: text``."""
    return [f"{each.place.line}: {each.text}" for each in config.warnings]
