"""What moto, which answers for EC2, does not answer, and what it does not check.

Prices, the current Ubuntu, tokens that make a call repeatable, and mistakes that EC2 refuses.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

from rig.wire import NAMESPACE, Parameters, RefusedError

UBUNTU = {"x86_64": "ami-0000000000000a640", "arm64": "ami-0000000000000a4e0"}

_MACHINES = {"amd64": "x86_64", "arm64": "arm64"}

# USD per hour of a spot instance on an ordinary day in the first zone.
_SPOT_USD = {"c5.xlarge": 0.07, "c5a.xlarge": 0.06, "m5.xlarge": 0.08, "c7g.xlarge": 0.05}
_ZONES = ("a", "b", "c")
_PRICE_HOURS = 6
_PRICE_DAYS = 7
_PAGE = 40


class Answers:
    """The calls that are not left to moto, by their names: `_answer_...` and `_check_...`.

    A check gives an answer only to a call that was made before; otherwise moto goes on.
    """

    region: str
    spot_usd: dict[tuple[str, str], float]
    on_demand_usd: dict[str, float]
    _tokens: dict[str, tuple[Parameters, bytes]]

    # What moto does not answer

    def _answer_get_parameter(self, asked: Parameters) -> tuple[int, bytes, bool]:
        machine = re.search(r"/ubuntu/server/24\.04/stable/current/(\w+)/", asked["Name"])
        if machine is None:
            raise RefusedError("ParameterNotFound", asked["Name"])
        value = {"Name": asked["Name"], "Type": "String", "Version": 1}
        value["Value"] = UBUNTU[_MACHINES[machine[1]]]
        return 200, json.dumps({"Parameter": value}).encode(), True

    def _answer_get_products(self, asked: Parameters) -> tuple[int, bytes, bool]:
        if not self.on_demand_usd:
            raise RefusedError(
                "AccessDeniedException", "not authorized to perform pricing:GetProducts"
            )
        filters = {each["Field"]: each["Value"] for each in json.loads(asked["Filters"])}
        usd = self.on_demand_usd.get(filters["instanceType"])
        products = [] if usd is None else [_product(usd), _product(0.0)]
        return 200, json.dumps({"FormatVersion": "aws_v1", "PriceList": products}).encode(), True

    def _answer_describe_spot_price_history(self, asked: Parameters) -> tuple[int, bytes, bool]:
        known = {each["InstanceType"] for each in self._backend.describe_instance_types()}
        wanted = (value for key, value in asked.items() if key.startswith("InstanceType."))
        types = [name for name in wanted if name in known]
        since = datetime.fromisoformat(asked["StartTime"])
        points = [
            (name, self.region + letter, time_, usd)
            for name in types
            for letter in _ZONES
            for time_, usd in self._spot_prices(name, self.region + letter, since)
        ]
        begin = int(asked.get("NextToken") or 0)
        items = "".join(
            f"<item><instanceType>{name}</instanceType>"
            "<productDescription>Linux/UNIX</productDescription>"
            f"<spotPrice>{usd:.6f}</spotPrice>"
            f"<timestamp>{time_:%Y-%m-%dT%H:%M:%S.000Z}</timestamp>"
            f"<availabilityZone>{zone}</availabilityZone></item>"
            for name, zone, time_, usd in points[begin : begin + _PAGE]
        )
        after = str(begin + _PAGE) if begin + _PAGE < len(points) else ""
        name = "DescribeSpotPriceHistoryResponse"
        text = (
            f'<{name} xmlns="{NAMESPACE}"><requestId>r</requestId>'
            f"<spotPriceHistorySet>{items}</spotPriceHistorySet><nextToken>{after}</nextToken></{name}>"
        )
        return 200, text.encode(), False

    def _spot_prices(self, name: str, zone: str, since: datetime) -> list[tuple[datetime, float]]:
        """The newest first, as EC2 does, to the one that held when the time began."""
        place = _ZONES.index(zone[-1])
        now = datetime.now(UTC).replace(microsecond=0)
        prices = []
        for hours in range(1, 24 * _PRICE_DAYS, _PRICE_HOURS):
            wave = 1 + 0.15 * place + 0.1 * ((hours * 7919 + place * 31) % 17) / 17
            usd = _SPOT_USD.get(name, 0.1) * wave
            prices.append((now - timedelta(hours=hours), self.spot_usd.get((name, zone), usd)))
            if prices[-1][0] <= since:
                break
        return prices

    def spot_price(self, name: str, zone: str) -> float:
        """The spot price now."""
        return self._spot_prices(name, zone, datetime.now(UTC))[0][1]

    # What moto does not check

    def _check_run_instances(self, asked: Parameters) -> bytes | None:
        token = asked.get("ClientToken", "")
        if token in self._tokens:
            before, answer = self._tokens[token]
            if _without_signature(before) != _without_signature(asked):
                raise RefusedError("IdempotentParameterMismatch", "The token is of another call.")
            return answer
        if asked.get("KeyName") not in self._backend.key_pairs:
            name = asked.get("KeyName")
            raise RefusedError("InvalidKeyPair.NotFound", f"The key pair '{name}' does not exist")
        image = self._backend.amis.get(asked["ImageId"])
        if image is None:
            name = asked["ImageId"]
            raise RefusedError("InvalidAMIID.NotFound", f"The image id '[{name}]' does not exist")
        type_ = asked["InstanceType"]
        found = self._backend.describe_instance_types([type_])[0]
        if image.architecture not in found["ProcessorInfo"]["SupportedArchitectures"]:
            raise RefusedError("InvalidParameterValue", "The architectures do not match.")
        bid = asked.get("InstanceMarketOptions.SpotOptions.MaxPrice")
        subnet = asked.get("NetworkInterface.1.SubnetId") or asked.get("SubnetId", "")
        zone = self._backend.get_subnet(subnet).availability_zone
        if bid is not None and float(bid) < self.spot_price(type_, zone):
            raise RefusedError(
                "SpotMaxPriceTooLow", f"Your Spot request price of {bid} is too low."
            )
        return None

    def _check_delete_security_group(self, asked: Parameters) -> bytes | None:
        for instance in self._instances():
            groups = {group.id for nic in instance.nics.values() for group in nic.group_set}
            if instance.state != "terminated" and asked["GroupId"] in groups:
                raise RefusedError("DependencyViolation", "resource has a dependent object")
        return None


def _product(usd: float) -> str:
    """An entry of the price list."""
    dimension = {"unit": "Hrs", "pricePerUnit": {"USD": f"{usd:.10f}"}}
    return json.dumps({"terms": {"OnDemand": {"a": {"priceDimensions": {"b": dimension}}}}})


def _without_signature(asked: Parameters) -> dict[str, str]:
    return {key: value for key, value in asked.items() if key not in ("Version", "Signature")}
