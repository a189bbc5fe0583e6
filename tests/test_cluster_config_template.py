"""The template of a configuration of clusters, and the commands that write and check one."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from configtexts import TUTORIAL

from mscourse.cli import main
from mscourse.cluster.config import VARIABLE
from mscourse.cluster.table import CLUSTER, SECTIONS
from mscourse.cluster.template import template, write_template
from mscourse.errors import ClusterConfigError

# Where `write`, `read` and `errors` come from. No test sees, or writes, what is of whoever runs it.
pytest_plugins = ["configtexts"]
pytestmark = pytest.mark.usefixtures("own_home")


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


def test_check_tells_of_wheels_that_are_not_there(write, tmp_path, monkeypatch, capsys):
    key = tmp_path / "key"
    key.write_text("")
    key.chmod(0o600)
    path = write(
        f"[key k]\nKEY_LOCATION = {key}\n"
        "[cluster c]\nKEYNAME = k\nPROVIDER = ssh\nHOSTS = lab01\nWHEELS = wheels\n"
    )
    monkeypatch.setenv(VARIABLE, str(path))
    assert main(["cluster", "check"]) == 1
    output = capsys.readouterr()
    assert "[cluster c]" in output.out
    assert f"there are no wheels in {path.parent / 'wheels'} (WHEELS)" in output.err
    (path.parent / "wheels").mkdir()
    (path.parent / "wheels" / "numpy-2.0-py3-none-any.whl").write_text("")
    assert main(["cluster", "check"]) == 0


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
