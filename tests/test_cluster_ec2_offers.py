"""Which machine of EC2 a node becomes: types, zones, prices, images; and a plan that tells it."""

from __future__ import annotations

import pytest
from rig.ec2 import UBUNTU, FakeEc2
from rig.rent import Rent, changes

from mscourse.cluster.nodes import MASTER, Request
from mscourse.cluster.settings import Volume
from mscourse.errors import CloudError

# Where `ec2` and `rent` come from.
pytest_plugins = ["rig.rent"]


def test_spot_nodes_are_the_cheapest_per_core_and_the_master_is_on_demand(rent: Rent) -> None:
    master, first, second = rent.launch(spot_bid=0.2)
    assert not master.is_spot
    for node in (first, second):
        assert node.is_spot
        assert node.instance_type == "c5a.xlarge"
        assert node.zone == "us-east-1a"
        usd = rent.ec2.spot_price("c5a.xlarge", "us-east-1a")
        extra_usd = 30 * 0.08 / 730 + 0.005  # its disk and its address
        assert node.usd_per_hour == pytest.approx(usd + extra_usd, abs=1e-4)


def test_the_price_per_core_decides_not_the_price(ec2: FakeEc2) -> None:
    ec2.spot_usd = {("c5.2xlarge", f"us-east-1{zone}"): 0.09 for zone in "abc"}
    with Rent(ec2, node_instance_type=("c5.xlarge", "c5.2xlarge")) as rent:
        _, node = rent.launch(2, spot_bid=0.2)
    assert node.instance_type == "c5.2xlarge"


def test_the_master_may_be_a_spot_instance(rent: Rent) -> None:
    master, _ = rent.launch(2, spot_bid=0.2, force_spot_master=True)
    assert master.is_spot
    assert "DescribeSpotPriceHistory" in rent.ec2.actions()
    assert "GetProducts" not in rent.ec2.actions()


def test_what_costs_more_than_the_bid_is_left_out_and_said(rent: Rent) -> None:
    rent.ec2.spot_usd = {("c5a.xlarge", f"us-east-1{zone}"): 0.5 for zone in "abc"}
    _, node = rent.launch(2, spot_bid=0.09)
    assert node.instance_type == "c5.xlarge"
    assert "c5a.xlarge in us-east-1b costs 0.5000 USD/h now, above your bid of 0.09" in rent.told()


def test_a_bid_that_is_too_low_is_told_before_anything_is_started(rent: Rent) -> None:
    error = rent.refused(spot_bid=0.01)
    assert "Nothing can be had for your bid of 0.01 USD/h: the cheapest is c5a.xlarge" in error
    assert "Raise SPOT_BID" in error
    assert not changes(rent.ec2)


def test_a_price_that_rises_in_between_sends_to_the_next_offer(rent: Rent) -> None:
    rent.ec2.fail("RunInstances", "SpotMaxPriceTooLow", containing="c5a.xlarge")
    _, node = rent.launch(2, spot_bid=0.2)
    assert node.instance_type == "c5.xlarge"
    assert "SpotMaxPriceTooLow" in rent.told()


def test_without_room_the_next_zone_and_then_the_next_type_is_asked(rent: Rent) -> None:
    rent.ec2.fail("RunInstances", "InsufficientInstanceCapacity", containing="c5.xlarge")
    nodes = rent.launch()
    assert {node.instance_type for node in nodes} == {"c5a.xlarge"}
    asked = [call.parameters["InstanceType"] for call in rent.runs()]
    # Each zone is asked once, not again for each node: what is full is full.
    n_zones = asked.count("c5.xlarge")
    assert n_zones > 1
    assert asked == ["c5.xlarge"] * n_zones + ["c5a.xlarge"] * 3
    assert "master: not c5.xlarge in us-east-1a, on demand" in rent.told()


def test_a_zone_without_room_is_left_for_another(rent: Rent) -> None:
    rent.ec2.fail("RunInstances", "InsufficientInstanceCapacity", times=1)
    master, node, _ = rent.launch()
    assert (master.instance_type, master.zone) == ("c5.xlarge", "us-east-1b")
    assert node.zone == master.zone


def test_nodes_that_are_added_are_near_the_master(rent: Rent) -> None:
    rent.ec2.fail("RunInstances", "InsufficientInstanceCapacity", times=2)
    (master,) = rent.launch(1)
    assert master.zone == "us-east-1c"
    request = Request("lab", rent.settings, ["node001"])
    (node,) = rent.provider.launch(request, rent.lines.append)
    assert node.zone == "us-east-1c"


def test_only_the_zones_of_the_template_are_used(ec2: FakeEc2) -> None:
    with Rent(ec2, availability_zones=("us-east-1c", "us-east-1z")) as rent:
        assert {node.zone for node in rent.launch(2, spot_bid=0.2)} == {"us-east-1c"}
        assert "us-east-1z has no default subnet" in rent.told()
    none = pytest.raises(CloudError, match=r"None of AVAILABILITY_ZONES.*us-east-1a")
    with Rent(ec2, availability_zones=("us-east-1z",)) as rent, none:
        rent.provider.plan(Request("other", rent.settings, [MASTER]))


def test_arm_machines_get_the_image_for_arm(ec2: FakeEc2) -> None:
    with Rent(ec2, node_instance_type=("c7g.xlarge",), master_instance_type="c5.large") as rent:
        master, node = rent.launch(2)
    assert (master.instance_type, node.instance_type) == ("c5.large", "c7g.xlarge")
    images = [call.parameters["ImageId"] for call in rent.runs()]
    assert images == [UBUNTU["x86_64"], UBUNTU["arm64"]]


def test_burstable_machines_do_not_cost_more_than_they_say(ec2: FakeEc2) -> None:
    with Rent(ec2, node_instance_type=("t3.large",), master_instance_type="c5.large") as rent:
        rent.launch(2)
        master, node = (call.parameters for call in rent.runs())
        assert "CreditSpecification.CpuCredits" not in master
        assert node["CreditSpecification.CpuCredits"] == "standard"
        assert "t3.large computes at full speed for a short time only" in rent.told()


def test_an_image_of_ones_own_is_checked(ec2: FakeEc2) -> None:
    mine = "ami-0123456789abcdef0"
    with Rent(ec2, node_image_id=mine) as rent:
        error = rent.refused()
        assert "AWS refused DescribeImages in us-east-1: there is no such image" in error
        assert "InvalidAMIID.NotFound" in error
        assert "Set NODE_IMAGE_ID" in error
        ec2.add_image(mine, deprecated_at="2025-01-01T00:00:00.000Z")
        (node,) = rent.launch(1)
        assert ec2.alive()[node.name].image_id == mine
        assert f"The image {mine} (ubuntu-24.04-x86_64) is deprecated as of 2025" in rent.told()


def test_an_image_of_the_wrong_architecture_is_refused(ec2: FakeEc2) -> None:
    mine = "ami-0123456789abcdef0"
    ec2.add_image(mine, architecture="arm64")
    with Rent(ec2, node_image_id=mine) as rent:
        error = rent.refused()
        assert f"The image {mine} (ubuntu-24.04-arm64) is for arm64 machines" in error
        assert "c5.xlarge (x86_64)" in error
        assert not changes(ec2)
    with Rent(ec2, node_image_id=mine, node_instance_type=("c5.xlarge", "c7g.xlarge")) as rent:
        (node,) = rent.launch(1)
        assert node.instance_type == "c7g.xlarge"
        assert "c5.xlarge is a machine for x86_64, and the image is not" in rent.told()


def test_what_nobody_knows_the_price_of_keeps_to_no_budget(ec2: FakeEc2) -> None:
    unpriced, priced = ("m6g.large", "m5.large")
    with Rent(ec2, node_instance_type=(unpriced,), budget_usd=5.0) as rent:
        error = rent.refused(1)
        assert f"BUDGET_USD cannot be kept: what {unpriced} costs on demand" in error
        assert "pricing:GetProducts" in error
        assert not changes(ec2)
    with Rent(ec2, node_instance_type=(unpriced,)) as rent:
        steps = [step.does for step in rent.provider.plan(rent.request(1))]
        assert f"Note: What {unpriced} costs on demand is not known." in steps
    with Rent(ec2, node_instance_type=(unpriced, priced), budget_usd=5.0) as rent:
        assert [node.instance_type for node in rent.launch(1)] == [priced]


def test_a_plan_tells_all_and_changes_nothing(ec2: FakeEc2) -> None:
    with Rent(ec2, volumes=(Volume("results", "/data", size_gb=100),)) as rent:
        steps = rent.provider.plan(rent.request(spot_bid=0.2))
    assert changes(ec2) == []
    text = "\n".join(step.does for step in steps)
    assert "CreateSecurityGroup mscourse-lab" in text
    assert "tcp 22 from 203.0.113.7/32" in text
    assert "RunInstances master: c5.xlarge in us-east-1a, on demand, 0.1700 USD/h" in text
    assert "RunInstances node002: c5a.xlarge in us-east-1a, spot" in text
    assert "MaxPrice 0.2" in text
    assert UBUNTU["x86_64"] in text
    assert "about right, from a table of mscourse; see AWS's price page" in text
    assert "CreateVolume results: 100 GB" in text
    spot_usd = ec2.spot_price("c5a.xlarge", "us-east-1a")
    extra_usd = 3 * (30 * 0.08 / 730 + 0.005) + 100 * 0.08 / 730
    total_usd = sum(step.usd_per_hour for step in steps)
    assert total_usd == pytest.approx(0.17 + 2 * spot_usd + extra_usd, abs=1e-3)
