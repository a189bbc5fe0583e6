"""What machines cost: prices that are given, or those that EC2 tells, and what a search adds up to.

EC2 itself is asked by a provider that is given; boto3 is not needed here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mscourse.cluster.simulation import Simulation
from mscourse.cluster.usage import LEAST_CHARGED_S
from mscourse.cluster.virtual import check_number
from mscourse.errors import CloudError, ParameterError

if TYPE_CHECKING:
    from mscourse.cluster.ec2 import Ec2Provider

# Spot prices follow the week: what they are now says less than their average.
SPOT_DAYS = 7

# Per hour: once in 20 hours of a node. No API tells how often it is. Most types do better, but a
# plan that is too careful is the smaller evil.
INTERRUPTIONS_PER_HOUR = 0.05


@dataclass(frozen=True)
class InstancePrice:
    """What a type of machine has, and what it costs.

    Attributes
    ----------
    cores : int
    on_demand_usd : float
        Per hour.
    spot_usd : float or None
        Per hour; None: it is not to be had as a spot instance.
    interruptions_per_hour : float
        How often a spot instance is taken away: 0.05 is once in 20 hours.
    speed : float
        How fast a core is, compared to one where the durations were measured: 2 takes half as long.
    source : str
        Where this comes from, in words.
    """

    cores: int
    on_demand_usd: float
    spot_usd: float | None = None
    interruptions_per_hour: float = 0.0
    speed: float = 1.0
    source: str = field(default="given", kw_only=True)

    def __post_init__(self) -> None:
        check_number("cores", self.cores, at_least=1)
        for name in ("on_demand_usd", "spot_usd", "interruptions_per_hour", "speed"):
            value = getattr(self, name)
            if value is not None:
                check_number(name, value, at_least=0.0)
        if not self.speed:
            raise ParameterError("speed must be above 0; 1 is as fast as what was measured.")


def ask_ec2(
    provider: Ec2Provider,
    types: Sequence[str],
    *,
    interruptions_per_hour: float = INTERRUPTIONS_PER_HOUR,
) -> dict[str, InstancePrice]:
    """Ask EC2 what types have and cost, in the region of a provider.

    Parameters
    ----------
    provider : Ec2Provider
    types : sequence of str
    interruptions_per_hour : float
        How often a spot instance of any of them is taken away. EC2 does not tell.

    Returns
    -------
    dict of InstancePrice
        By type. The spot price is the average of the last week, in the zone where that is lowest.

    Raises
    ------
    CloudError
        If EC2 does not answer, has no such type, or nobody knows what one costs on demand.
    """
    types = list(dict.fromkeys(types))
    cores = provider.cores(types)
    on_demand = provider.on_demand_prices(types)
    history = provider.spot_history(types, SPOT_DAYS)
    prices = {}
    for name in types:
        zones = [each for each in history if each.instance_type == name]
        cheapest = min(zones, key=lambda each: each.average_usd, default=None)
        spot_usd = None if cheapest is None else cheapest.average_usd
        listed = on_demand[name]
        if listed.usd_per_hour is None:
            spot = "" if spot_usd is None else f":{spot_usd:.4g}:{interruptions_per_hour:g}"
            raise CloudError(
                f"What {name} costs on demand in {provider.region} is not known: AWS's price list "
                "cannot be asked, or does not have it. Look it up, and instead of naming the type, "
                f"give --price {name}:{cores[name]}:USD{spot}"
            )
        prices[name] = InstancePrice(
            cores[name],
            listed.usd_per_hour,
            spot_usd,
            interruptions_per_hour,
            source=f"{cores[name]} cores, {listed.usd_per_hour:.4g} USD per hour on demand in "
            f"{provider.region} ({listed.source}), "
            + (
                "not to be had as a spot instance"
                if cheapest is None
                else f"{spot_usd:.4g} as a spot instance (average of {SPOT_DAYS} days in "
                f"{cheapest.zone})"
            ),
        )
    return prices


def cost_usd(simulation: Simulation, price: InstancePrice, *, is_spot: bool) -> float:
    """Add up what all machines cost; node 0 is the master.

    Each one is billed by the second, and for a minute at least.
    """
    total_usd = 0.0
    for life in simulation.lives:
        usd = price.on_demand_usd
        if is_spot and life.node and price.spot_usd is not None:
            usd = price.spot_usd
        total_usd += usd * max(LEAST_CHARGED_S, math.ceil(life.ended_s - life.launched_s)) / 3600
    return total_usd
