"""What a search would take on clusters of several sizes, and what it would cost.

Each row of a plan is a search that was simulated, see `mscourse.cluster.simulation`, at prices that
are given, see `mscourse.cluster.planprices`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from numpy.typing import ArrayLike

from mscourse.cluster.planprices import InstancePrice, cost_usd
from mscourse.cluster.simulation import Simulation, simulate
from mscourse.cluster.virtual import Overheads, SimulatedNode, as_durations, check_number
from mscourse.errors import JournalError, ParameterError
from mscourse.journalfile import Content, entries
from mscourse.journalreport import read_journal

# From launch until the engines have joined: a machine's boot, then its set-up.
BOOT_S = 180.0

# Durations and interruptions are drawn anew in each round.
N_ROUNDS = 3

# A mean with a standard error up to this part of it goes without remark.
_CERTAIN = 0.03

# A client that is busy this part of the time is what limits the search.
CLIENT_IS_LIMIT = 0.9


@dataclass(frozen=True)
class PlanRow:
    """One cluster, and what the search would take on it.

    Attributes
    ----------
    instance_type : str
    n_nodes, n_engines : int
        The master is one of the nodes and has engines, too.
    is_spot : bool
        Whether the nodes are spot instances, but for the master.
    finish_s, cost_usd : float
        From launch to the last result, and for all machines: the mean of all rounds.
    latest_s, most_usd : float
        The worst of all rounds.
    busy_fraction, client_fraction : float
        As in `Simulation`: the mean of all rounds.
    n_interruptions, n_rerun : float
        The mean of all rounds.
    n_given_up : int
        Evaluations that outlived no engine: the most of all rounds.
    """

    instance_type: str
    n_nodes: int
    n_engines: int
    is_spot: bool
    finish_s: float
    cost_usd: float
    latest_s: float
    most_usd: float
    busy_fraction: float
    client_fraction: float
    n_interruptions: float
    n_rerun: float
    n_given_up: int

    def __str__(self) -> str:
        nodes = "1 node" if self.n_nodes == 1 else f"{self.n_nodes} nodes"
        kind = "spot" if self.is_spot else "on demand"
        return (
            f"{nodes} {self.instance_type} {kind}: {as_time(self.latest_s)}, "
            f"{as_usd(self.most_usd)}"
        )


@dataclass(frozen=True)
class Plan:
    """What a search would take on several clusters.

    Attributes
    ----------
    rows : tuple of PlanRow
        By type, on demand before spot, then by size.
    n_evaluations : int
        How many are to be done.
    mean_s, mean_error_s : float
        How long one of them takes, on average, where it was measured; and the standard error, since
        few were measured. It is infinite if it was only one.
    """

    rows: tuple[PlanRow, ...]
    n_evaluations: int
    mean_s: float
    mean_error_s: float

    def choose(
        self, *, deadline_s: float | None = None, budget_usd: float | None = None
    ) -> PlanRow:
        """Choose a cluster, by what it takes and costs in the worst of all rounds.

        Parameters
        ----------
        deadline_s : float, optional
            Seconds from launch within which the last result must be there.
        budget_usd : float, optional
            The most it may cost.

        Returns
        -------
        PlanRow
            The cheapest that meets the deadline; without a deadline, the quickest within the
            budget; without both, the cheapest.

        Raises
        ------
        ParameterError
            If none does; it tells what comes nearest.
        """
        for name, value in (("deadline_s", deadline_s), ("budget_usd", budget_usd)):
            if value is not None and not value > 0:
                raise ParameterError(f"{name} must be above 0; it is {value!r}.")
        in_time = [row for row in self.rows if deadline_s is None or row.latest_s <= deadline_s]
        within = [row for row in self.rows if budget_usd is None or row.most_usd <= budget_usd]
        both = [row for row in in_time if row in within]
        if both and deadline_s is None and budget_usd is not None:
            return min(both, key=_quickest)
        if both:
            return min(both, key=_cheapest)
        wanted = []
        if deadline_s is not None:
            wanted.append(f"is done within {as_time(deadline_s)}")
        if budget_usd is not None:
            wanted.append(f"costs at most {as_usd(budget_usd)}")
        says = [f"None of these {len(self.rows)} clusters {' and '.join(wanted)}."]
        if deadline_s is not None:
            limited = within if budget_usd is not None else []
            nearest = min(limited or self.rows, key=_quickest)
            says.append(f"The quickest{' within the budget' if limited else ''} is {nearest}.")
        if budget_usd is not None:
            limited = in_time if deadline_s is not None else []
            nearest = min(limited or self.rows, key=_cheapest)
            says.append(f"The cheapest{' in time' if limited else ''} is {nearest}.")
        says.append("Try other sizes or types, or allow for more.")
        raise ParameterError(" ".join(says))

    def __repr__(self) -> str:
        head = (
            "type",
            "nodes",
            "engines",
            "",
            "time",
            "USD",
            "worst time",
            "USD",
            "busy",
            "client",
        )
        digits = max((_digits(row.cost_usd) for row in self.rows), default=2)
        lines = [
            (
                row.instance_type,
                f"{row.n_nodes}",
                f"{row.n_engines}",
                "spot" if row.is_spot else "on demand",
                as_time(row.finish_s),
                f"{row.cost_usd:.{digits}f}",
                as_time(row.latest_s),
                f"{row.most_usd:.{digits}f}",
                f"{row.busy_fraction:.0%}",
                f"{row.client_fraction:.0%}",
            )
            for row in self.rows
        ]
        table = [head, *lines]
        widths = [max(len(line[column]) for line in table) for column in range(len(head))]
        is_text = (True, False, False, True, *[False] * 6)
        shown = [
            "  ".join(
                cell.ljust(width) if text else cell.rjust(width)
                for cell, width, text in zip(line, widths, is_text, strict=True)
            ).rstrip()
            for line in table
        ]
        return "\n".join([f"{self.n_evaluations:,} evaluations of {self.mean_s:.3g} s", *shown])

    __str__ = __repr__

    def remarks(self) -> Iterator[str]:
        """Say what is uncertain, and what is bad."""
        alone_s = self.n_evaluations * self.mean_s
        if alone_s <= min((row.finish_s for row in self.rows), default=0.0):
            yield (
                f"One engine like those that were timed would be done in {as_time(alone_s)}, "
                "sooner than any of these clusters."
            )
        if self.mean_error_s == math.inf:
            yield "Only one duration is known: a few more would tell how certain this is."
        elif self.mean_error_s > _CERTAIN * self.mean_s:
            yield (
                f"The mean duration is known to about {self.mean_error_s / self.mean_s:.0%}, since "
                "few were measured and they differ: times and costs are no more certain than that."
            )
        limited = [row for row in self.rows if row.client_fraction >= CLIENT_IS_LIMIT]
        if limited:
            least = min(row.n_engines for row in limited)
            yield (
                f"From {least} engines on, the client is busy all the time: more engines bring "
                "nothing."
            )
        given_up = [row for row in self.rows if row.n_given_up]
        if given_up:
            yield (
                f"On {given_up[0]}, up to {given_up[0].n_given_up} evaluations would be given up, "
                "since their engines are taken away again and again. Use spot instances for "
                "shorter evaluations only."
            )


def plan(
    durations_s: ArrayLike,
    n_evaluations: int,
    prices: Mapping[str, InstancePrice],
    *,
    sizes: Iterable[int] = (1, 2, 4, 8),
    engines_per_node: int | None = None,
    boot_s: float = BOOT_S,
    overheads: Overheads | None = None,
    n_rounds: int = N_ROUNDS,
    seed: int = 0,
) -> Plan:
    """Predict how long a search takes on several clusters, and what it costs.

    The master is an ordinary node that is always on demand, so that a cluster of one node is never
    a spot cluster. Only machines are in the costs; not disks, addresses and traffic.

    Parameters
    ----------
    durations_s : array of float
        Seconds that evaluations of this kind have taken: of a journal (see `measured_in`), or a
        few that were timed.
    n_evaluations : int
        How many are still to do.
    prices : mapping of str to InstancePrice
        The types of machines.
    sizes : iterable of int
        Numbers of nodes, the master included.
    engines_per_node : int, optional
        By default one per core. More than there are cores are not foreseen.
    boot_s : float
        From launch until the engines of a node have joined.
    overheads : Overheads, optional
        By default those of a typical machine.
    n_rounds : int
        How often each cluster is simulated, with other draws.
    seed : int
        The same one gives the same plan.

    Returns
    -------
    Plan

    Raises
    ------
    ParameterError
        If an argument cannot be right.

    Examples
    --------
    One thousand evaluations of a minute each, on machines of eight cores at 0.40 USD an hour:

    >>> from mscourse.cluster.plan import plan
    >>> from mscourse.cluster.planprices import InstancePrice
    >>> prices = {"eight-cores": InstancePrice(cores=8, on_demand_usd=0.40)}
    >>> plans = plan([58, 60, 62], 1000, prices, sizes=[1, 4])
    >>> [row.n_engines for row in plans.rows]
    [8, 32]
    >>> plans.choose(deadline_s=3600).n_nodes
    4
    """
    durations = as_durations(durations_s)
    sizes = sorted(set(sizes))
    if not prices or not sizes:
        raise ParameterError("A plan needs the price of at least one type, and at least one size.")
    check_number("n_rounds", n_rounds, at_least=1)
    check_number("boot_s", boot_s, at_least=0.0)
    for size in sizes:
        check_number("Each of sizes", size, at_least=1)
    for name, price in prices.items():
        if engines_per_node is not None and not 1 <= engines_per_node <= price.cores:
            raise ParameterError(
                f"engines_per_node must be from 1 to {price.cores}, the cores of {name}; it is "
                f"{engines_per_node}. With more, each one would be slower than what was measured."
            )
    rows = []
    for name, price in prices.items():
        for is_spot in (False, True):
            for size in sizes:
                if is_spot and (price.spot_usd is None or size == 1):
                    continue
                n_engines = price.cores if engines_per_node is None else engines_per_node
                rate = price.interruptions_per_hour if is_spot else 0.0
                nodes = [
                    SimulatedNode(n_engines, boot_s=boot_s, interruptions_per_hour=each)
                    for each in (0.0, *[rate] * (size - 1))
                ]
                rounds = [
                    simulate(
                        durations / price.speed,
                        nodes,
                        n_evaluations=n_evaluations,
                        overheads=overheads,
                        seed=seed + number,
                    )
                    for number in range(n_rounds)
                ]
                rows.append(_row(name, price, nodes, rounds, is_spot=is_spot))
    n = len(durations)
    error_s = float(durations.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    return Plan(tuple(rows), n_evaluations, float(durations.mean()), error_s)


def _row(
    name: str,
    price: InstancePrice,
    nodes: Sequence[SimulatedNode],
    rounds: Sequence[Simulation],
    *,
    is_spot: bool,
) -> PlanRow:
    costs = [cost_usd(each, price, is_spot=is_spot) for each in rounds]
    times = [each.finish_s for each in rounds]
    n = len(rounds)
    return PlanRow(
        instance_type=name,
        n_nodes=len(nodes),
        n_engines=sum(node.n_engines for node in nodes),
        is_spot=is_spot,
        finish_s=sum(times) / n,
        cost_usd=sum(costs) / n,
        latest_s=max(times),
        most_usd=max(costs),
        busy_fraction=sum(each.busy_fraction for each in rounds) / n,
        client_fraction=sum(each.client_fraction for each in rounds) / n,
        n_interruptions=sum(each.n_interruptions for each in rounds) / n,
        n_rerun=sum(each.n_rerun for each in rounds) / n,
        n_given_up=max(each.n_given_up for each in rounds),
    )


class Measured(NamedTuple):
    """What a journal tells.

    Attributes
    ----------
    durations_s : list of float
        Of each evaluation that came back, failed ones included.
    n_to_do : int
        What the latest launch planned and is not done; if all is done, as many as it planned.
    is_complete : bool
        Whether all is done.
    """

    durations_s: list[float]
    n_to_do: int
    is_complete: bool


def measured_in(path: str | Path) -> Measured:
    """Read how long the evaluations of a journal took, and how many are still to do.

    Parameters
    ----------
    path : path
        The journal. It is only read.

    Returns
    -------
    Measured

    Raises
    ------
    JournalError
        If it is no journal, or cannot be read.
    ParameterError
        If it has no evaluation yet.
    """
    path = Path(path)
    report = read_journal(path)
    latest: dict[tuple[str, int, int], float] = {}
    try:
        with path.open("rb") as file:
            for _, entry in entries(file, Content()):
                place = json.dumps(entry.params), entry.split, entry.outcome.n_train
                # One that has killed its engines has no duration.
                if math.isfinite(entry.outcome.elapsed_s) and entry.outcome.elapsed_s >= 0:
                    latest[place] = entry.outcome.elapsed_s
    except (OSError, ValueError) as error:
        raise JournalError(f"The journal {path} cannot be read: {error}.") from error
    if not latest:
        raise ParameterError(
            f"The journal {path} has no evaluation that came back, so that nothing can be "
            "predicted from it. Let the search do a few, or give their seconds."
        )
    n_total = report.n_total or report.n_done
    n_missing = n_total - report.n_done
    is_complete = n_missing <= 0
    return Measured(list(latest.values()), n_total if is_complete else n_missing, is_complete)


def as_time(seconds: float) -> str:
    """Write a duration as people do: ``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes = math.ceil(seconds / 60)
    if minutes < 100:
        return f"{seconds / 60:.1f} min"
    return f"{minutes // 60} h {minutes % 60:02} min"


def as_usd(usd: float) -> str:
    """Write an amount of money."""
    return f"{usd:.{_digits(usd)}f} USD"


def _digits(usd: float) -> int:
    return 2 if usd >= 0.1 or not usd else 3  # cents alone would make small clusters look alike


def _quickest(row: PlanRow) -> tuple[float, float]:
    return row.latest_s, row.most_usd


def _cheapest(row: PlanRow) -> tuple[float, float]:
    return row.most_usd, row.latest_s
