"""Show clusters as text: lists, tables, and the dashboard."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from mscourse.cluster.nodes import Node, Step
from mscourse.cluster.prices import OnDemandPrice, SpotPrices
from mscourse.cluster.services import NodeReport

# What a node says of itself is a second or two old. Older than this, its agent hangs.
_FRESH_S = 30.0


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay out rows, the first one with the names of the columns, in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return list(lines)


def list_of_clusters(nodes: Iterable[Node]) -> list[str]:
    """Show all clusters, a line for each node."""
    lines: list[str] = []
    by_cluster: dict[str, list[Node]] = {}
    for node in nodes:
        by_cluster.setdefault(node.cluster, []).append(node)
    for cluster, members in by_cluster.items():
        usd = sum(node.usd_per_hour or 0 for node in members if node.state == "running")
        cost = f", {usd:.4g} USD per hour" if usd else ""
        lines.append(f"{cluster}  (template {members[0].template}{cost})")
        rows = [["node", "state", "host", "id", "type", "zone", "paid"]]
        rows += [_row(node) for node in members]
        lines += [f"  {line}" for line in table(rows)]
    return lines or ["There are no clusters."]


def _row(node: Node) -> list[str]:
    return [
        node.name,
        node.state,
        str(node.host or "-"),
        "-" if node.id == str(node.host) else node.id,
        node.instance_type or "-",
        node.zone or "-",
        _how_paid(node),
    ]


def _how_paid(node: Node) -> str:
    if node.instance_type is None:
        return "-"
    price = "" if node.usd_per_hour is None else f" {node.usd_per_hour:.4g} USD/h"
    return ("spot" if node.is_spot else "on demand") + price


def dashboard(cluster: str, reports: Sequence[NodeReport], budget_usd: float | None) -> list[str]:
    """Show what a cluster is doing: nodes, engines, queue, and cost so far."""
    master = next((each.status for each in reports if each.node.is_master), None)
    lines = [f"{cluster}  {datetime.now().astimezone():%H:%M:%S}"]
    rows = [["node", "state", "engines", "at work", "load", "started again", "paid"]]
    rows += [_report_row(each) for each in reports]
    lines += table(rows)
    lines += [f"{each.node.name}: {remark}" for each in reports if (remark := _remark(each))]
    if master is None:
        return [*lines, "The master does not answer."]
    lines.append(
        f"engines {_or_dash(master.engines_in_all)}, queued or running {_or_dash(master.queued)}, "
        f"messages done {_or_dash(master.completed)}"
        + ("" if master.idle_s is None or master.idle_s < 10 else f", idle {_span(master.idle_s)}")
    )
    if any(each.node.usd_per_hour for each in reports):
        rate = sum(each.node.usd_per_hour or 0 for each in reports if each.node.state == "running")
        budget = "" if budget_usd is None else f" of a budget of {budget_usd:g}"
        lines.append(
            f"cost so far {master.spent_usd or 0:.2f} USD{budget}, {rate:.4g} USD per hour"
        )
    return lines


def _report_row(report: NodeReport) -> list[str]:
    node, status = report.node, report.status
    if status is None:
        state = "no answer" if report.error else (node.state if node.state != "running" else "idle")
        return [node.name, state, "-", "-", "-", "-", _how_paid(node)]
    return [
        node.name,
        status.state,
        str(status.n_engines),
        str(status.n_busy),
        f"{status.load:.1f} of {status.n_cores}",
        str(status.n_restarts),
        _how_paid(node),
    ]


def _remark(report: NodeReport) -> str:
    status = report.status
    if status is None:
        return report.error.splitlines()[0] if report.error else ""
    if time.time() - status.at_s > _FRESH_S:
        return f"said nothing for {_span(time.time() - status.at_s)}"
    if status.notice is not None:
        at = datetime.fromisoformat(status.notice["at"])
        left_s = max(0.0, (at - datetime.now(UTC)).total_seconds())
        return f"will be taken away ({status.notice['action']}) in {left_s:.0f} s"
    if status.rebalance is not None:
        return "may be taken away soon (rebalance recommendation)"
    return status.why


def spot_prices(prices: Sequence[SpotPrices], on_demand: Mapping[str, OnDemandPrice]) -> list[str]:
    """Show prices per hour of each type and zone, and what they save."""
    rows = [["type", "zone", "now", "at most", "on average", "on demand", "saves"]]
    for each in prices:
        full_usd = on_demand[each.instance_type].usd_per_hour
        rows.append(
            [
                each.instance_type,
                each.zone,
                f"{each.current_usd:.4f}",
                f"{each.maximum_usd:.4f}",
                f"{each.average_usd:.4f}",
                "-" if full_usd is None else f"{full_usd:.4f}",
                "-" if full_usd is None else f"{100 * (1 - each.average_usd / full_usd):.0f} %",
            ]
        )
    sources = dict.fromkeys(
        f"{each.instance_type} on demand: {each.source}." for each in on_demand.values()
    )
    return [*table(rows), "In USD per hour.", *sources]


def steps(planned: Sequence[Step]) -> list[str]:
    """Show what would be done, and what it costs."""
    lines = [
        f"would {step.does}"
        + (f"  ({step.usd_per_hour:.4g} USD per hour)" * bool(step.usd_per_hour))
        for step in planned
    ]
    usd = sum(step.usd_per_hour for step in planned)
    return [*lines, f"In all {usd:.4g} USD per hour, from then on. Nothing was done."]


def _or_dash(number: int | None) -> str:
    return "-" if number is None else str(number)


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
