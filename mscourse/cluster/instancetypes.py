"""Instance types: their cores, and what the usual ones cost on demand when AWS cannot be asked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mscourse.cluster.ec2errors import AwsError
from mscourse.errors import CloudError

if TYPE_CHECKING:
    from mscourse.cluster.ec2session import AwsSession

_REGIONS = ("us-east-1", "us-west-2", "eu-west-1")

# About what a .large costs on demand with Linux in the regions above, in USD per hour; the other
# sizes cost in proportion. Used where the price list cannot be asked, and never without saying
# that it is not exact; see https://aws.amazon.com/ec2/pricing/on-demand/.
_LARGE_USD: dict[str, tuple[float, float, float]] = {
    "t3": (0.0832, 0.0832, 0.0912),
    "c5": (0.085, 0.085, 0.096),
    "c5a": (0.077, 0.077, 0.087),
    "c6i": (0.085, 0.085, 0.0912),
    "c7g": (0.0725, 0.0725, 0.0775),
    "m5": (0.096, 0.096, 0.107),
    "m6i": (0.096, 0.096, 0.107),
    "r5": (0.126, 0.126, 0.141),
    "r6i": (0.126, 0.126, 0.141),
}

# In terms of a .large. Only the T family has the small ones.
_SMALL_SIZES = {"nano": 1 / 16, "micro": 1 / 8, "small": 1 / 4, "medium": 1 / 2}

# A .large of any of these families has two virtual cores, and the small ones as well.
_LARGE_CORES = 2

# Families whose processors are ARM's have a g behind the generation: c7g, m6gd.
_ARM = re.compile(r"[a-z]+[0-9]+[a-z]*g[a-z]*")


@dataclass(frozen=True)
class InstanceType:
    """A kind of machine.

    Attributes
    ----------
    name : str
    cores : int
        Virtual ones, as the machine's system counts them.
    architecture : {"x86_64", "arm64"}
    """

    name: str
    cores: int
    architecture: str

    @property
    def is_burstable(self) -> bool:
        """Whether it computes at full speed for some time only: the T families."""
        return re.match(r"t[0-9]", self.name) is not None


def describe_types(session: AwsSession, names: Iterable[str]) -> dict[str, InstanceType]:
    """Ask EC2 about instance types.

    Parameters
    ----------
    session : AwsSession
    names : iterable of str

    Returns
    -------
    dict
        By name, in the order of `names`.

    Raises
    ------
    CloudError
        One does not exist in the region. If EC2 does not let us ask, those of the usual families
        are known without.
    """
    wanted = list(dict.fromkeys(names))
    try:
        answers = session.listing("describe_instance_types", "InstanceTypes", InstanceTypes=wanted)
    except AwsError as error:
        guessed = [type_from_table(name) for name in wanted]
        if error.code not in ("UnauthorizedOperation", "AccessDenied") or None in guessed:
            raise
        return {each.name: each for each in guessed if each is not None}
    types = {
        each["InstanceType"]: InstanceType(
            each["InstanceType"],
            each["VCpuInfo"]["DefaultVCpus"],
            _architecture(each["ProcessorInfo"]["SupportedArchitectures"]),
        )
        for each in answers
    }
    if missing := [name for name in wanted if name not in types]:
        raise CloudError(f"EC2 does not describe {', '.join(missing)} in {session.region}.")
    return {name: types[name] for name in wanted}


def _architecture(supported: list[str]) -> str:
    return "arm64" if "arm64" in supported else "x86_64" if "x86_64" in supported else supported[0]


def type_from_table(name: str) -> InstanceType | None:
    """Tell what is known of a type without asking; None if nothing is."""
    family, _, size = name.partition(".")
    scale = _scale(family, size)
    if scale is None:
        return None
    cores = max(_LARGE_CORES, round(_LARGE_CORES * scale))
    return InstanceType(name, cores, "arm64" if _ARM.fullmatch(family) else "x86_64")


def usd_from_table(name: str, region: str) -> float | None:
    """Tell what a type cost per hour on demand about; None if it is not known."""
    family, _, size = name.partition(".")
    scale = _scale(family, size)
    if scale is None or region not in _REGIONS:
        return None
    return round(_LARGE_USD[family][_REGIONS.index(region)] * scale, 6)


def _scale(family: str, size: str) -> float | None:
    """How many times a .large a size is; None if it is not known."""
    if family not in _LARGE_USD:
        return None
    if size in _SMALL_SIZES:
        return _SMALL_SIZES[size] if family.startswith("t") else None
    if size == "large":
        return 1.0
    number = re.fullmatch(r"([0-9]*)xlarge", size)
    return None if number is None else 2.0 * int(number[1] or 1)
