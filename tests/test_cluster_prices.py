"""What instances cost: spot prices over time, prices on demand with their source, and cores."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rig.ec2 import FakeEc2

from mscourse.cluster.ec2 import Ec2Provider
from mscourse.cluster.instancetypes import describe_types, type_from_table, usd_from_table
from mscourse.cluster.prices import SpotPrices, _spot_prices
from mscourse.cluster.settings import Config
from mscourse.errors import CloudError, ParameterError

# Where `ec2` comes from.
pytest_plugins = ["rig.rent"]


@pytest.fixture
def provider(ec2: FakeEc2) -> Iterator[Ec2Provider]:
    provider = Ec2Provider(Config(Path("cluster.ini")))
    yield provider
    provider.close()


def test_spot_prices_come_for_each_type_and_zone(ec2: FakeEc2, provider: Ec2Provider) -> None:
    types = ["m5.xlarge", "c5.xlarge"]
    prices = provider.spot_history(types, days=7)
    zones = [f"us-east-1{letter}" for letter in "abc"]
    assert [(each.instance_type, each.zone) for each in prices] == [
        (name, zone) for name in types for zone in zones
    ]
    for each in prices:
        assert len(each.times) == len(each.usd_per_hour) == 28
        assert list(each.times) == sorted(each.times)
        assert each.current_usd == pytest.approx(
            ec2.spot_price(each.instance_type, each.zone), abs=1e-6
        )
        assert min(each.usd_per_hour) <= each.average_usd <= each.maximum_usd
        assert (each.until - each.since).days == 7
    # All pages of the answer have been asked for.
    assert ec2.actions().count("DescribeSpotPriceHistory") == 5


def test_the_price_from_before_counts_from_the_beginning(provider: Ec2Provider) -> None:
    (first, *_) = provider.spot_history(["c5.xlarge"], days=0.5)
    assert first.times[0] <= first.since < first.times[1]
    (now, *_) = provider.spot_history(["c5.xlarge"], days=0)
    assert now.usd_per_hour == (now.average_usd,) == (first.current_usd,)


def test_of_the_prices_from_before_only_the_last_one_counts() -> None:
    end = datetime(2026, 1, 11, tzinfo=UTC)
    prices = {end - timedelta(hours=hours): usd for hours, usd in ((9, 0.9), (7, 0.1), (1, 0.2))}
    found = _spot_prices("c5.xlarge", "us-east-1a", prices, end - timedelta(hours=5), end)
    assert found.usd_per_hour == (0.1, 0.2)
    assert found.average_usd == pytest.approx((4 * 0.1 + 0.2) / 5)


@pytest.mark.parametrize("days", [-1, 91])
def test_the_history_has_an_end(provider: Ec2Provider, days: float) -> None:
    with pytest.raises(ParameterError, match=r"EC2 keeps spot prices from 0 to 90 days"):
        provider.spot_history(["c5.xlarge"], days)


def test_an_average_weighs_each_price_by_the_time_that_it_held() -> None:
    end = datetime(2026, 1, 11, tzinfo=UTC)
    times = tuple(end - timedelta(hours=hours) for hours in (30, 6, 3))
    prices = SpotPrices(
        "c5.xlarge", "us-east-1a", times, (0.1, 0.4, 0.2), end - timedelta(hours=10), end
    )
    assert prices.average_usd == pytest.approx((4 * 0.1 + 3 * 0.4 + 3 * 0.2) / 10)
    assert prices.maximum_usd == 0.4
    assert prices.current_usd == 0.2


def test_prices_on_demand_come_from_the_price_list(ec2: FakeEc2, provider: Ec2Provider) -> None:
    ec2.on_demand_usd = {"c5.xlarge": 0.171}
    prices = provider.on_demand_prices(["c5.xlarge", "m5.xlarge", "x9.odd"])
    listed, table, unknown = prices.values()
    assert (listed.usd_per_hour, listed.source) == (0.171, "AWS's price list")
    assert listed.is_listed
    assert table.usd_per_hour == 0.192
    assert table.source == "about right, from a table of mscourse; see AWS's price page"
    assert (unknown.usd_per_hour, unknown.source) == (None, "not known")
    assert not unknown.is_listed
    (call, *_) = [call for call in ec2.calls if call.action == "GetProducts"]
    assert '"us-east-1"' in call.parameters["Filters"]


def test_without_the_price_list_it_is_asked_once(ec2: FakeEc2, provider: Ec2Provider) -> None:
    prices = provider.on_demand_prices(["c5.xlarge", "m5.xlarge"])
    assert [each.usd_per_hour for each in prices.values()] == [0.17, 0.192]
    assert ec2.actions() == ["GetProducts"]


@pytest.mark.parametrize(
    ("name", "region", "usd"),
    [
        ("t3.micro", "us-east-1", 0.0104),
        ("t3.2xlarge", "us-west-2", 0.3328),
        ("c5.large", "us-east-1", 0.085),
        ("c5.4xlarge", "us-east-1", 0.68),
        ("m5.xlarge", "eu-west-1", 0.214),
        ("c7g.large", "us-east-1", 0.0725),
        ("c5.micro", "us-east-1", None),
        ("c5.metal", "us-east-1", None),
        ("c5.large", "ap-south-1", None),
        ("nonsense", "us-east-1", None),
    ],
)
def test_the_table_scales_with_the_size(name: str, region: str, usd: float | None) -> None:
    assert usd_from_table(name, region) == usd


def test_cores_and_architectures_are_ec2s(ec2: FakeEc2, provider: Ec2Provider) -> None:
    names = ["c7g.2xlarge", "t3.micro", "c5.xlarge"]
    assert provider.cores(names) == {"c7g.2xlarge": 8, "t3.micro": 2, "c5.xlarge": 4}
    described = describe_types(provider._session, names)
    # What the table says is the same.
    assert [type_from_table(name) for name in names] == list(described.values())
    assert described["c7g.2xlarge"].architecture == "arm64"
    assert described["c5.xlarge"].architecture == "x86_64"


def test_cores_are_known_also_to_those_who_may_not_ask(ec2: FakeEc2, provider: Ec2Provider) -> None:
    ec2.fail("DescribeInstanceTypes", "UnauthorizedOperation")
    assert provider.cores(["c5.xlarge", "m5.large"]) == {"c5.xlarge": 4, "m5.large": 2}
    with pytest.raises(CloudError, match="not allowed"):
        provider.cores(["c5.xlarge", "x9.odd"])
