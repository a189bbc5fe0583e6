"""What instances cost: spot prices over time, and prices on demand, each with its source."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from mscourse.cluster.ec2errors import AwsError
from mscourse.cluster.instancetypes import usd_from_table
from mscourse.errors import ParameterError

if TYPE_CHECKING:
    from mscourse.cluster.ec2session import AwsSession

# EC2 keeps the history of spot prices for 90 days.
MOST_DAYS = 90

# AWS answers questions about the prices of all regions at a few places only.
_PRICE_LIST_REGION = "us-east-1"

_FROM_TABLE = "about right, from a table of mscourse; see AWS's price page"

# With a bid, the price of this kind of machine counts.
_PRODUCT = "Linux/UNIX"


@dataclass(frozen=True)
class SpotPrices:
    """The spot price of a type in a zone, over time.

    Attributes
    ----------
    instance_type, zone : str
    times : tuple of datetime
        From when on each price held, with time zone, in order. The first one may lie before the
        time that was asked for.
    usd_per_hour : tuple of float
        The prices.
    since, until : datetime
        The time that was asked for.
    """

    instance_type: str
    zone: str
    times: tuple[datetime, ...]
    usd_per_hour: tuple[float, ...]
    since: datetime
    until: datetime

    @property
    def current_usd(self) -> float:
        """The price now, per hour."""
        return self.usd_per_hour[-1]

    @property
    def maximum_usd(self) -> float:
        """The highest price per hour."""
        return max(self.usd_per_hour)

    @property
    def average_usd(self) -> float:
        """What an hour cost on average: each price counts for as long as it held."""
        starts = [max(time, self.since) for time in self.times]
        ends = [*starts[1:], self.until]
        lengths_s = [(end - start).total_seconds() for start, end in zip(starts, ends, strict=True)]
        total_s = sum(lengths_s)
        if total_s <= 0:
            return self.current_usd
        pairs = zip(self.usd_per_hour, lengths_s, strict=True)
        return sum(usd * length_s for usd, length_s in pairs) / total_s


@dataclass(frozen=True)
class OnDemandPrice:
    """What a type costs on demand.

    Attributes
    ----------
    instance_type, region : str
    usd_per_hour : float or None
        None if it is not known.
    source : str
        Where the price comes from.
    is_listed : bool
        Whether that is AWS's own list, as of now.
    """

    instance_type: str
    region: str
    usd_per_hour: float | None
    source: str
    is_listed: bool = False


def spot_history(
    session: AwsSession,
    types: Sequence[str],
    days: float = 7,
    *,
    zones: Iterable[str] = (),
    now: datetime | None = None,
) -> list[SpotPrices]:
    """Ask EC2 for the spot prices of types in each zone.

    Parameters
    ----------
    session : AwsSession
    types : sequence of str
    days : float
        How far back; 0 asks for the current price alone.
    zones : iterable of str
        Those that count; by default all of the region.
    now : datetime, optional
        The end; with time zone.

    Returns
    -------
    list of SpotPrices
        By type in the order given, then by zone. A pair without spot instances is left out.
    """
    if not 0 <= days <= MOST_DAYS:
        raise ParameterError(f"days is {days}; EC2 keeps spot prices from 0 to {MOST_DAYS} days.")
    until = now or datetime.now(UTC)
    since = until - timedelta(days=days)
    answers = session.listing(
        "describe_spot_price_history",
        "SpotPriceHistory",
        InstanceTypes=list(types),
        ProductDescriptions=[_PRODUCT],
        StartTime=since,
        EndTime=until,
    )
    wanted = set(zones)
    series: dict[tuple[str, str], dict[datetime, float]] = {}
    for each in answers:
        if not wanted or each["AvailabilityZone"] in wanted:
            prices = series.setdefault((each["InstanceType"], each["AvailabilityZone"]), {})
            prices[each["Timestamp"]] = float(each["SpotPrice"])
    found = [_spot_prices(*pair, prices, since, until) for pair, prices in series.items()]
    order = {name: place for place, name in enumerate(types)}
    return sorted(found, key=lambda each: (order.get(each.instance_type, len(order)), each.zone))


def _spot_prices(
    instance_type: str,
    zone: str,
    prices: dict[datetime, float],
    since: datetime,
    until: datetime,
) -> SpotPrices:
    times = sorted(prices)
    # Of the prices from before, the last one still held when the time began.
    first = max((place for place, time in enumerate(times) if time <= since), default=0)
    times = times[first:]
    usd = tuple(prices[time] for time in times)
    return SpotPrices(instance_type, zone, tuple(times), usd, since, until)


def on_demand_prices(session: AwsSession, types: Iterable[str]) -> dict[str, OnDemandPrice]:
    """Look up what types cost on demand: in AWS's price list, else in the table of this package.

    Parameters
    ----------
    session : AwsSession
    types : iterable of str

    Returns
    -------
    dict of OnDemandPrice
        By type. A price that is not known is no error: it has a source that says so.
    """
    prices = {}
    may_ask = True
    for name in dict.fromkeys(types):
        usd = None
        if may_ask:
            usd, may_ask = _ask_price_list(session, name)
        prices[name] = _on_demand_price(name, session.region, usd)
    return prices


def _on_demand_price(name: str, region: str, listed_usd: float | None) -> OnDemandPrice:
    if listed_usd is not None:
        return OnDemandPrice(name, region, listed_usd, "AWS's price list", True)
    usd = usd_from_table(name, region)
    if usd is None:
        return OnDemandPrice(name, region, None, "not known")
    return OnDemandPrice(name, region, usd, _FROM_TABLE)


def _ask_price_list(session: AwsSession, name: str) -> tuple[float | None, bool]:
    """Ask for one price; also whether it makes sense to ask for another one."""
    wanted = {
        "instanceType": name,
        "regionCode": session.region,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
        "marketoption": "OnDemand",
    }
    try:
        answer = session.call(
            "get_products",
            service="pricing",
            region=_PRICE_LIST_REGION,
            is_repeatable=False,  # there is the table
            ServiceCode="AmazonEC2",
            Filters=[
                {"Type": "TERM_MATCH", "Field": field, "Value": value}
                for field, value in wanted.items()
            ],
        )
    except AwsError:
        # Not allowed, or out of reach. A price is told with its source, so nothing is hidden.
        return None, False
    prices = [usd for each in answer.get("PriceList", ()) for usd in _hourly_usd(each)]
    return (min(prices) if prices else None), True


def _hourly_usd(product: str | dict[str, Any]) -> list[float]:
    """The prices in an entry of the price list; those of 0 are of what was paid in advance."""
    entry = json.loads(product) if isinstance(product, str) else product
    return [
        usd
        for term in entry.get("terms", {}).get("OnDemand", {}).values()
        for dimension in term.get("priceDimensions", {}).values()
        if dimension.get("unit") == "Hrs"
        and (usd := float(dimension.get("pricePerUnit", {}).get("USD", 0))) > 0
    ]
