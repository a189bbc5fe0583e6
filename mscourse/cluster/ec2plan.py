"""What a launch will do, worked out by asking only: nothing is started or changed here.

A node may be had as one of several *offers*: a type, in a zone, at a price. They are put in the
order in which they are tried::

    spot       by price per core, the cheapest first; none above the bid
    on demand  by type as the template lists them, then by zone

and among equals the zone of the master comes first, as traffic between zones costs money.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

from mscourse.cluster.ec2images import Image, find_images
from mscourse.cluster.ec2network import default_network, find_group, my_network
from mscourse.cluster.ec2session import AwsSession
from mscourse.cluster.ec2volumes import WantedVolume, find_volumes
from mscourse.cluster.instancetypes import InstanceType, describe_types
from mscourse.cluster.nodes import MASTER, Node, Request
from mscourse.cluster.prices import on_demand_prices, spot_history
from mscourse.cluster.settings import ClusterSettings
from mscourse.errors import CloudError

# An image's own disk, of 8 GB for Ubuntu, has no room for packages and splits.
ROOT_GB = 30

# In most regions; a little more in some.
GP3_USD_PER_GB_HOUR = 0.08 / 730
PUBLIC_ADDRESS_USD_PER_HOUR = 0.005


@dataclass(frozen=True)
class Offer:
    """A machine that can be asked for.

    Attributes
    ----------
    instance_type : InstanceType
    zone, subnet : str
    image : Image
    is_spot : bool
    usd_per_hour : float or None
        What it costs now; None if that is not known.
    """

    instance_type: InstanceType
    zone: str
    subnet: str
    image: Image
    is_spot: bool
    usd_per_hour: float | None

    @property
    def root_gb(self) -> int:
        """Size of its own disk."""
        return max(ROOT_GB, self.image.root_gb)

    @property
    def extra_usd_per_hour(self) -> float:
        """What its own disk and its address cost besides."""
        return self.root_gb * GP3_USD_PER_GB_HOUR + PUBLIC_ADDRESS_USD_PER_HOUR

    def __str__(self) -> str:
        how = "spot" if self.is_spot else "on demand"
        price = "price unknown" if self.usd_per_hour is None else f"{self.usd_per_hour:.4f} USD/h"
        return f"{self.instance_type.name} in {self.zone}, {how}, {price}"


@dataclass(frozen=True)
class Plan:
    """All that a launch needs to know.

    Attributes
    ----------
    request : Request
    key_name : str
    vpc : str
    group_id : str or None
        The security group, if there is one from before.
    my_network : ipaddress.IPv4Network
    home : str or None
        The zone of the master, if it is known.
    offers : mapping of sequences of Offer
        By name of the node, in the order in which they are tried.
    volumes : tuple of WantedVolume
        For the master; empty if it is there already.
    remarks : tuple of str
        What should be known.
    """

    request: Request
    key_name: str
    vpc: str
    group_id: str | None
    my_network: IPv4Network
    home: str | None
    offers: Mapping[str, Sequence[Offer]]
    volumes: tuple[WantedVolume, ...]
    remarks: tuple[str, ...]


def make_plan(session: AwsSession, request: Request, there: Sequence[Node]) -> Plan:
    """Work out how to launch what is wanted.

    Parameters
    ----------
    session : AwsSession
    request : Request
    there : sequence of Node
        Those of the cluster that are there already.

    Raises
    ------
    CloudError
        It cannot be done.
    """
    settings = request.settings
    if taken := [node.name for node in there if node.name in request.names]:
        raise CloudError(
            f"The cluster {request.cluster} has {', '.join(taken)} already. Choose another name "
            "for the cluster, or terminate it first."
        )
    if settings.key is None:
        raise CloudError(f"[cluster {settings.name}] needs KEYNAME: without a key nobody gets in.")
    if not settings.key.key_location.is_file():
        raise CloudError(
            f"{settings.key.key_location}: There is no such file. The private key of [key "
            f"{settings.key.name}] has to be there, or nobody could log in to what is rented. "
            "Copy it from where it is, or make another one with `mscourse cluster createkey`."
        )
    # That the key is missing, EC2 would only say when it is asked to start a machine.
    session.call("describe_key_pairs", KeyNames=[settings.key.name])
    vpc, subnets = default_network(session)
    # Only the master has them; one that is there already has got them.
    of_master = settings.volumes if MASTER in request.names else ()
    volumes = find_volumes(session, request.cluster, of_master)
    group = find_group(session, request.cluster)
    choice = _Choice(session, request, subnets)
    disk_zone = next((each.zone for each in volumes if each.zone is not None), None)
    home = next((node.zone for node in there if node.is_master), disk_zone)
    offers = {
        name: choice.offers(name, home, disk_zone if name == MASTER else None)
        for name in request.names
    }
    return Plan(
        request=request,
        key_name=settings.key.name,
        vpc=vpc,
        group_id=None if group is None else str(group["GroupId"]),
        my_network=my_network(),
        home=home,
        offers=offers,
        volumes=volumes,
        remarks=tuple(choice.remarks),
    )


def types_for(settings: ClusterSettings, name: str) -> tuple[str, ...]:
    """The types that will do for this node, the one liked best first."""
    if name == MASTER and settings.master_instance_type is not None:
        return (settings.master_instance_type,)
    return settings.node_instance_type


def by_preference(offers: Sequence[Offer], types: Sequence[str], home: str | None) -> list[Offer]:
    """Put offers in the order in which they are tried; `home` is the zone of the master."""

    def place(offer: Offer) -> tuple[float, int, bool, str]:
        price = offer.usd_per_hour if offer.is_spot and offer.usd_per_hour is not None else 0.0
        liking = types.index(offer.instance_type.name)
        return price / offer.instance_type.cores, liking, offer.zone != home, offer.zone

    return sorted(offers, key=place)


class _Choice:
    """What there is to choose from, asked once for all nodes."""

    def __init__(self, session: AwsSession, request: Request, subnets: Mapping[str, str]) -> None:
        self._session = session
        self._request = request
        self._subnets = subnets
        self.remarks: list[str] = []
        settings = request.settings
        names = list(
            dict.fromkeys(each for name in request.names for each in types_for(settings, name))
        )
        self._types = describe_types(session, names)
        self._images = find_images(
            session,
            settings.node_image_id,
            (each.architecture for each in self._types.values()),
        )
        self._remark_on_what_is_asked()
        self._zones = self._wanted_zones()
        offerings = session.listing(
            "describe_instance_type_offerings",
            "InstanceTypeOfferings",
            LocationType="availability-zone",
            Filters=[{"Name": "instance-type", "Values": names}],
        )
        self._pairs = {(each["InstanceType"], each["Location"]) for each in offerings}
        self._spot_usd: dict[tuple[str, str], float] = {}
        self._on_demand_usd: dict[str, float | None] = {}
        self._ask_prices()

    def offers(self, name: str, home: str | None, only_zone: str | None) -> list[Offer]:
        """The offers for a node in the order in which they are tried; at least one."""
        wanted = types_for(self._request.settings, name)
        types = [each for each in wanted if self._types[each].architecture in self._images]
        if not types:
            self._raise_wrong_architecture(wanted)
        if not (zones := [z for z in self._zones if only_zone in (None, z)]):
            raise CloudError(
                f"The volume of the master is in {only_zone}, where no machine may be: see "
                "AVAILABILITY_ZONES, and the default subnets of the account."
            )
        pairs = [(each, zone) for each in types for zone in zones if (each, zone) in self._pairs]
        if not pairs:
            raise CloudError(
                f"No zone of {', '.join(zones)} has {', '.join(types)}. Name other types in "
                "NODE_INSTANCE_TYPE, or other AVAILABILITY_ZONES."
            )
        is_spot = self._request.is_spot(name)
        if is_spot:
            pairs = self._affordable(pairs)
        elif self._request.settings.budget_usd is not None:
            pairs = self._priced(pairs)
        offers = [self._offer(*pair, is_spot) for pair in pairs]
        return by_preference(offers, wanted, home)

    def _offer(self, name: str, zone: str, is_spot: bool) -> Offer:
        instance_type = self._types[name]
        return Offer(
            instance_type,
            zone,
            self._subnets[zone],
            self._images[instance_type.architecture],
            is_spot,
            self._spot_usd[name, zone] if is_spot else self._on_demand_usd[name],
        )

    def _affordable(self, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Those whose spot price is known and within the bid; of the others a remark."""
        bid = self._request.spot_bid
        assert bid is not None
        priced = {pair: self._spot_usd[pair] for pair in pairs if pair in self._spot_usd}
        if not priced:
            raise CloudError(
                f"There are no spot instances of {', '.join(sorted({p[0] for p in pairs}))} in "
                f"{self._session.region}. Name other types, or leave out SPOT_BID."
            )
        for (name, zone), usd in priced.items():
            if usd > bid:
                self._remark(
                    f"{name} in {zone} costs {usd:.4f} USD/h now, above your bid of {bid:g}: "
                    "it is left out."
                )
        affordable = [pair for pair, usd in priced.items() if usd <= bid]
        if not affordable:
            (name, zone), usd = min(priced.items(), key=lambda item: item[1])
            raise CloudError(
                f"Nothing can be had for your bid of {bid:g} USD/h: the cheapest is {name} in "
                f"{zone}, for {usd:.4f}. Raise SPOT_BID, or name more types or zones."
            )
        return affordable

    def _priced(self, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Those whose price is known: what nobody knows the price of would keep to no budget."""
        priced = [pair for pair in pairs if self._on_demand_usd[pair[0]] is not None]
        if not priced:
            raise CloudError(
                f"BUDGET_USD cannot be kept: what {', '.join(sorted({p[0] for p in pairs}))} costs "
                f"on demand in {self._session.region} is not known. Let your account call "
                "pricing:GetProducts, name other types, or leave out BUDGET_USD."
            )
        return priced

    def _ask_prices(self) -> None:
        names = list(self._types)
        request = self._request
        if any(request.is_spot(name) for name in request.names):
            now = spot_history(self._session, names, days=0)
            self._spot_usd = {(each.instance_type, each.zone): each.current_usd for each in now}
        on_demand = [name for name in request.names if not request.is_spot(name)]
        rented = {each for name in on_demand for each in types_for(request.settings, name)}
        prices = on_demand_prices(self._session, [name for name in names if name in rented])
        self._on_demand_usd = {name: price.usd_per_hour for name, price in prices.items()}
        for price in prices.values():
            if price.usd_per_hour is None:
                self._remark(f"What {price.instance_type} costs on demand is not known.")
            elif not price.is_listed:
                self._remark(f"AWS's price list cannot be had; prices are {price.source}.")

    def _wanted_zones(self) -> list[str]:
        wanted = self._request.settings.availability_zones
        if not wanted:
            return list(self._subnets)
        for zone in wanted:
            if zone not in self._subnets:
                self._remark(f"{zone} has no default subnet: it is left out.")
        if not (zones := [zone for zone in wanted if zone in self._subnets]):
            raise CloudError(
                f"None of AVAILABILITY_ZONES = {', '.join(wanted)} has a default subnet. There "
                f"are: {', '.join(self._subnets) or 'none'}."
            )
        return zones

    def _remark_on_what_is_asked(self) -> None:
        for image in self._images.values():
            if image.deprecated_at is not None and self._request.settings.node_image_id:
                self._remark(
                    f"The image {image} is deprecated as of {image.deprecated_at}. Better leave "
                    "out NODE_IMAGE_ID, or set it to a newer one."
                )
        for each in self._types.values():
            if each.architecture not in self._images:
                self._remark(
                    f"{each.name} is a machine for {each.architecture}, and the image is not: it "
                    "is left out."
                )
            if each.is_burstable:
                self._remark(
                    f"{each.name} computes at full speed for a short time only, then at a part of "
                    "it. For a search better take a C or M type."
                )

    def _raise_wrong_architecture(self, types: Sequence[str]) -> None:
        image = next(iter(self._images.values()))
        machines = ", ".join(f"{name} ({self._types[name].architecture})" for name in types)
        raise CloudError(
            f"The image {image} is for {image.architecture} machines, and not for {machines}. Set "
            "NODE_IMAGE_ID to an image for them, or leave it out for the current Ubuntu."
        )

    def _remark(self, line: str) -> None:
        if line not in self.remarks:
            self.remarks.append(line)
