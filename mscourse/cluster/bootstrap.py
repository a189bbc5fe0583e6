"""Make a machine ready to be a node: an account, this package, and a Python with what it needs.

Plain OpenSSH and a POSIX system are enough. What is there already is used again, so that a second
start takes seconds. On the node, all lies in ``~/.mscourse``:

    packages/HASH/mscourse    this package, as it is here: both sides are of one version
    environments/HASH         a virtual environment, for the same packages the same one
    wheels/HASH               wheels that were sent, for nodes that reach no package index
    clusters/NAME             what belongs to one cluster; see `mscourse.cluster.services`
"""

from __future__ import annotations

import hashlib
import shlex
import sys
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

import mscourse
from mscourse.cluster import nodefiles
from mscourse.cluster.nodes import Node
from mscourse.cluster.settings import ClusterSettings
from mscourse.cluster.ssh import Ssh
from mscourse.errors import NodeError

# Who may log in to a new instance; it depends on the image.
_FIRST_USERS = ("ubuntu", "ec2-user", "admin", "debian", "root")

_OLDEST_PYTHON = (3, 11)

# Of what is looked for on a node; the lines are NAME=VALUE.
_FACTS = """\
echo "home=$HOME"
echo "address=$(echo "${SSH_CONNECTION:-}" | cut -d ' ' -f 3)"
if [ -e ~/.mscourse/packages/%(package)s/complete ]; then echo package=yes; fi
for python in %(pythons)s; do
    if version=$("$python" -c 'import sys; print("%%d.%%d" %% sys.version_info[:2])' 2>/dev/null)
    then echo "python=$version $(command -v "$python")"; fi
done
"""

# An account as cloud-init would make it, for whoever may log in already.
_ACCOUNT = (
    nodefiles.AS_ROOT
    + """\
if ! id %(user)s >/dev/null 2>&1; then
    # No password is right, but the account is not locked: sshd without PAM would refuse it.
    as_root useradd --create-home --shell %(shell)s --password '*' %(user)s
fi
home=$(getent passwd %(user)s | cut -d : -f 6)
if [ "$(id -un)" != %(user)s ]; then
    as_root install -d -m 700 -o %(user)s "$home/.ssh"
    as_root install -m 600 -o %(user)s "$HOME/.ssh/authorized_keys" "$home/.ssh/authorized_keys"
fi
# So that it can switch the machine off when nobody needs it.
if [ %(user)s != root ] && [ -d /etc/sudoers.d ]; then
    echo '%(user)s ALL=(ALL) NOPASSWD:ALL' | as_root tee /etc/sudoers.d/mscourse >/dev/null
fi
"""
)

_MAY_HALT = '[ "$(id -u)" = 0 ] || sudo -n true'

_APT = (
    nodefiles.AS_ROOT
    + """\
export DEBIAN_FRONTEND=noninteractive
apt_get() { as_root apt-get -o DPkg::Lock::Timeout=240 -qq "$@"; }
"""
)

# Debian and Ubuntu have the part of Python that makes environments in a package of its own: one
# for each version.
_SYSTEM_PACKAGES = f"""\
{_APT}
if ! %(python)s -c 'import ensurepip' 2>/dev/null || ! command -v rsync >/dev/null; then
    # A machine that has just booted sets itself up, and holds apt's lock meanwhile.
    if command -v cloud-init >/dev/null; then
        as_root cloud-init status --wait >/dev/null || true
    fi
    for pause in 5 15 30 0; do
        # `update` does not wait for the lock of the lists.
        if apt_get update; then break; fi
        sleep $pause
    done
    apt_get install -y python%(version)s-venv rsync >/dev/null
fi
"""

# The Python of this machine's version, on a machine that is there for us: of the system, if it has
# it, or else as uv brings it.
_SAME_PYTHON = f"""\
{_APT}
wanted=python%(version)s
apt_get install -y $wanted $wanted-venv rsync >/dev/null 2>&1 || true
if ! found=$(command -v $wanted); then
    uv=~/.mscourse/uv/bin
    if [ ! -x $uv/uv ]; then
        %(python)s -m venv ~/.mscourse/uv
        $uv/python -m pip install --quiet --disable-pip-version-check uv
    fi
    $uv/uv python install --quiet %(version)s
    found=$($uv/uv python find %(version)s)
fi
echo "python=$found"
"""

_SAME_PYTHON_WITHIN_S = 300.0

_ENVIRONMENT = """\
mkdir -p ~/.mscourse/environments
environment=%(environment)s
# Another start on this host may be at it.
if command -v flock >/dev/null; then exec 9>"$environment.lock"; flock 9; fi
if [ ! -e "$environment/complete" ]; then
    rm -rf "$environment"
    if command -v uv >/dev/null; then
        uv venv --quiet --python %(python)s "$environment"
        uv pip install --quiet --python "$environment/bin/python" %(options)s %(requirements)s
    else
        %(python)s -m venv "$environment"
        "$environment/bin/python" -m pip install --quiet --disable-pip-version-check \
            %(options)s %(requirements)s
    fi
    touch "$environment/complete"
fi
"""


@dataclass(frozen=True)
class Ready:
    """What a node has, once it is ready.

    Attributes
    ----------
    home : str
        The home folder there.
    python : str
        An interpreter that has all packages.
    package_folder : str
        Where it finds this package.
    address : str
        Where other nodes reach it.
    """

    home: str
    python: str
    package_folder: str
    address: str


@dataclass(frozen=True)
class _Facts:
    """What was found on a node: its interpreters, each with its version, and the one to take."""

    home: str
    address: str
    has_package: bool
    interpreters: dict[str, str]

    @property
    def python(self) -> str | None:
        """The interpreter to make an environment of."""
        # That of this machine's version if it is there: functions that are sent by value are of
        # one version of Python.
        same = [path for path, version in self.interpreters.items() if version == _version_here()]
        new_enough = [path for path, version in self.interpreters.items() if _is_new(version)]
        return next(iter([*same, *new_enough]), None)


class Bootstrap:
    """Makes nodes ready.

    Parameters
    ----------
    ssh : Ssh
    settings : ClusterSettings
        Of the template.
    """

    def __init__(self, ssh: Ssh, settings: ClusterSettings) -> None:
        self._ssh = ssh
        self._settings = settings
        self._package = _package_files()
        self._package_hash = _hash_of_files(self._package)
        self._requirements = requirements(settings.packages)

    def prepare(self, node: Node, deadline_s: float) -> Ready:
        """Make a node ready. It may be so already.

        Parameters
        ----------
        node : Node
        deadline_s : float
            Of ``time.monotonic``, for the first answer.

        Raises
        ------
        NodeError
            If it does not answer, or lacks something.
        """
        if node.instance_type is not None:
            self._make_account(node, deadline_s)
            # Else it could not switch itself off when nobody needs it.
            self._ssh.run(node, _MAY_HALT, does="its account may switch it off")
        facts = self._facts(node, deadline_s)
        package_folder = f".mscourse/packages/{self._package_hash}"
        if not facts.has_package:
            self._ssh.unpack(node, package_folder, self._package)
        python = self._settings.node_python
        if python is None:
            python, version = self._make_environment(node, facts)
        elif not _is_new(facts.interpreters.get(python, "0")):
            version = facts.interpreters.get(python, "not there")
            raise NodeError(f"{node}: {python} (NODE_PYTHON) is {version}; Python 3.11 is needed.")
        else:
            version = facts.interpreters[python]
        if version != _version_here():
            # An engine would die of the bytecode of another version, without a word.
            warnings.warn(
                f"{node} has Python {version}, and here is {_version_here()}: functions and "
                "classes that are defined in a notebook cannot travel there. Name a Python "
                f"{_version_here()} of the nodes in NODE_PYTHON, or use Python {version} here.",
                stacklevel=1,
            )
        return Ready(
            home=facts.home,
            python=python,
            package_folder=f"{facts.home}/{package_folder}",
            address=_address(node, facts),
        )

    # -- steps -----------------------------------------------------------------------------------

    def _make_account(self, node: Node, deadline_s: float) -> None:
        """Make the cluster's account, unless it lets us in already."""
        wanted = self._settings.cluster_user
        script = _ACCOUNT % {"user": wanted, "shell": f"/bin/{self._settings.cluster_shell}"}
        while True:
            for user in (wanted, *_FIRST_USERS):
                try:
                    self._ssh.run(node, "true", does="ssh answered", timeout_s=20, user=user)
                except NodeError as error:
                    if self._ssh.is_cancelled:
                        raise
                    if "Permission denied" in str(error):
                        continue
                    break  # nobody can log in yet
                if user != wanted:
                    self._ssh.run(node, script, does=f"{wanted} had an account", user=user)
                return
            if time.monotonic() > deadline_s:
                # It says itself why not.
                self._ssh.run(node, "true", does="ssh answered", timeout_s=20, user=wanted)
            time.sleep(0.5)

    def _facts(self, node: Node, deadline_s: float) -> _Facts:
        candidates = [
            f"python{_version_here()}",
            "python3",
            "python3.14",
            "python3.13",
            "python3.12",
            "python3.11",
        ]
        if self._settings.node_python is not None:
            candidates = [self._settings.node_python]
        script = _FACTS % {"package": self._package_hash, "pythons": " ".join(candidates)}
        printed = self._ssh.run_when_up(node, script, deadline_s, does="it told what it has")
        found: dict[str, str] = {}
        interpreters: dict[str, str] = {}
        for line in printed.splitlines():
            name, _, value = line.partition("=")
            if name == "python":
                version, _, path = value.partition(" ")
                interpreters.setdefault(path, version)
            else:
                found[name] = value
        return _Facts(found["home"], found["address"], "package" in found, interpreters)

    def _make_environment(self, node: Node, facts: _Facts) -> tuple[str, str]:
        """Make an environment that has all packages; give its interpreter, and of what version."""
        python = facts.python
        if python is None:
            found = ", ".join(facts.interpreters.values()) or "none"
            raise NodeError(
                f"{node}: Python 3.11 or newer is needed there; it has {found}. Install one, or "
                "name one in NODE_PYTHON."
            )
        if node.instance_type is not None:
            script = _SYSTEM_PACKAGES % {"python": python, "version": facts.interpreters[python]}
            self._ssh.run(node, script, does="the system's packages were there", timeout_s=600)
            python = self._same_python(node, python, facts)
        options = ""
        if self._settings.wheels is not None:
            options = f"--no-index --find-links {self._send_wheels(node)}"
        content = "\n".join([facts.interpreters[python], *self._requirements])
        name = f".mscourse/environments/{hashlib.sha256(content.encode()).hexdigest()[:16]}"
        environment = f"{facts.home}/{name}"
        script = _ENVIRONMENT % {
            "environment": shlex.quote(environment),
            "python": shlex.quote(python),
            "options": options,
            "requirements": shlex.join(self._requirements),
        }
        does = "the packages were installed"
        self._ssh.run(node, script, does=does, timeout_s=self._settings.start_timeout_s)
        return f"{environment}/bin/python", facts.interpreters[python]

    def _same_python(self, node: Node, python: str, facts: _Facts) -> str:
        """Have a rented node get a Python of this machine's version, if it can."""
        # Without a package index there is none to be had.
        if facts.interpreters[python] == _version_here() or self._settings.wheels is not None:
            return python
        script = _SAME_PYTHON % {"version": _version_here(), "python": shlex.quote(python)}
        does = f"it had Python {_version_here()}"
        try:
            printed = self._ssh.run(node, script, does=does, timeout_s=_SAME_PYTHON_WITHIN_S)
        except NodeError:
            if self._ssh.is_cancelled:
                raise
            return python  # of which a warning tells
        found = printed.rpartition("python=")[2].strip()
        facts.interpreters[found] = _version_here()
        return found

    def _send_wheels(self, node: Node) -> str:
        folder = self._settings.wheels
        assert folder is not None
        wheels = sorted(folder.glob("*.whl")) if folder.is_dir() else []
        if not wheels:
            raise NodeError(f"There are no wheels in {folder} (WHEELS).")
        names = "\n".join(f"{each.name} {each.stat().st_size}" for each in wheels)
        target = f".mscourse/wheels/{hashlib.sha256(names.encode()).hexdigest()[:16]}/"
        self._ssh.run(node, f"mkdir -p {target}", does="it had a folder for wheels")
        self._ssh.rsync(node, [str(each) for each in wheels], target, to_node=True)
        return target


def _address(node: Node, facts: _Facts) -> str:
    """Tell where other nodes reach a node."""
    told = [node.private_address, facts.address]
    if node.instance_type is None:
        # What is known of a host may be what it had yesterday: it may get another one each day.
        told.reverse()
    return next(filter(None, told), str(node.host))


def requirements(packages: Iterable[str]) -> list[str]:
    """List what a node installs: what this package needs, in the versions of this machine.

    An estimator is pickled here and unpickled there; scikit-learn promises that this works
    between equal versions only.

    Parameters
    ----------
    packages : iterable of str
        Requirements besides those. If they leave the version open, it is that of this machine.
    """
    names = [
        each
        for each in map(Requirement, metadata.requires("mscourse") or [])
        if each.marker is None or each.marker.evaluate({"extra": ""})
    ]
    wanted = {each.name: each for each in [*names, *map(Requirement, packages)]}
    own = {each.name for each in names}
    return [_pinned(each, must_be=name in own) for name, each in wanted.items()]


def _pinned(requirement: Requirement, *, must_be: bool) -> str:
    if requirement.url or (requirement.specifier and not must_be):
        return str(requirement)
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return str(requirement)
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}=={version.partition('+')[0]}"


def _package_files() -> dict[str, bytes]:
    """Read the files of this package, and what its installation says of it."""
    folder = Path(mscourse.__file__).parent
    paths = (path for path in folder.rglob("*") if path.is_file())
    files = {
        str(Path("mscourse") / path.relative_to(folder)): path.read_bytes()
        for path in sorted(paths)
        if "__pycache__" not in path.parts
    }
    said = metadata.distribution("mscourse").read_text("METADATA") or ""
    files[f"mscourse-{mscourse.__version__}.dist-info/METADATA"] = said.encode()
    return files


def _hash_of_files(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()[:16]


def _version_here() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _is_new(version: str) -> bool:
    return tuple(map(int, version.split("."))) >= _OLDEST_PYTHON
