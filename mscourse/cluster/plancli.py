# ruff: noqa: T201 (a command prints)
"""The command ``mscourse cluster plan``: what a search would take, and what it would cost.

What only the command itself needs is imported when it runs.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mscourse.cluster.plan import Plan
    from mscourse.cluster.planprices import InstancePrice

_FORM = "TYPE:CORES:USD[:SPOT_USD[:INTERRUPTIONS]]"


def add_plan_command(commands: Any) -> None:
    """Add ``plan`` to the subparsers of ``mscourse cluster``.

    It sets ``run``, a function of the parsed arguments that returns the exit status.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "plan",
        help="predict how long a search takes on clusters of several sizes, and what it costs",
        description="Predict how long a search takes on clusters of several sizes, and what it "
        "costs, from evaluations that were timed. Nothing is started. Cores of all types count as "
        "fast as those where the evaluations were timed. Exit status: 1 if nothing meets the "
        "deadline or the budget.",
        epilog="In the table, busy is the part of the engines' time that evaluations take, and "
        "client the part of its time that the client is busy: near 100%, more engines bring "
        "nothing. Worst is the worst of three rounds, each with other draws.",
    )
    parser.set_defaults(run=lambda options: run_plan(options, parser))
    measured = parser.add_mutually_exclusive_group(required=True)
    measured.add_argument("--journal", metavar="FILE", help="the journal of a search of this kind")
    measured.add_argument(
        "--seconds",
        metavar="S",
        type=float,
        nargs="+",
        help="how long some evaluations took; needs --evaluations",
    )
    parser.add_argument(
        "--evaluations",
        metavar="N",
        type=int,
        help="how many are to do (default: those that the journal lacks; all if it is complete)",
    )
    parser.add_argument(
        "--sizes",
        metavar="N",
        type=int,
        nargs="+",
        default=[1, 2, 4, 8],
        help="numbers of nodes, the master included (default: 1 2 4 8)",
    )
    parser.add_argument(
        "--price",
        metavar=_FORM,
        type=_price,
        action="append",
        default=[],
        help="a type of machine, its cores, USD per hour on demand and as a spot instance, and how "
        "often a spot instance is interrupted per hour, as in c5.xlarge:4:0.17:0.07:0.02; may be "
        "repeated; nothing is asked of the network",
    )
    parser.add_argument(
        "--types",
        metavar="TYPE",
        nargs="+",
        default=[],
        help="types of which EC2 is asked cores and prices, such as c5.xlarge, in the region of "
        "the configuration; the spot price is the average of a week",
    )
    parser.add_argument(
        "--interruptions",
        metavar="RATE",
        type=float,
        help="how often a spot instance of --types is interrupted per hour (default: 0.05, once in "
        "20 hours of a node, a careful guess). EC2 does not tell; AWS publishes how often it "
        "happens to which type at https://aws.amazon.com/ec2/spot/instance-advisor/",
    )
    parser.add_argument(
        "--deadline", metavar="MINUTES", type=float, help="choose the cheapest that is done by then"
    )
    parser.add_argument(
        "--budget", metavar="USD", type=float, help="choose the quickest that costs no more"
    )
    parser.add_argument(
        "--engines-per-node",
        metavar="N",
        type=int,
        help="engines of each node (default: its cores)",
    )
    parser.add_argument(
        "--boot",
        metavar="SECONDS",
        type=float,
        default=180.0,
        help="from launch until a node's engines have joined (default: 180)",
    )
    parser.add_argument("--picture", metavar="FILE", help="draw it, for example into plan.png")
    parser.add_argument(
        "--seed", metavar="N", type=int, default=0, help="of all that is drawn (default: 0)"
    )


def run_plan(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Print a plan, and what was chosen; return 1 if nothing meets the deadline or the budget."""
    from mscourse.cluster.plan import measured_in, plan
    from mscourse.errors import ParameterError

    if options.journal is not None:
        durations_s, n_to_do, is_complete = measured_in(options.journal)
        if is_complete and options.evaluations is None:
            print(
                f"All {n_to_do} evaluations of the journal are done: this is what as many would "
                "take again. --evaluations N is for another number.",
                file=sys.stderr,
            )
    elif options.evaluations is None:
        parser.error("--seconds needs --evaluations: how many are to do?")
    else:
        durations_s, n_to_do = options.seconds, options.evaluations
    names = [name for name, _ in options.price] + options.types
    if not names:
        parser.error("one of --price and --types is needed: which machines?")
    if len(set(names)) < len(names):
        parser.error("--price, --types: give each type once.")
    if options.interruptions is not None and not options.types:
        parser.error("--interruptions is for --types; in --price it is the last part.")
    prices = dict(options.price)
    if options.types:
        prices |= _ask(options)
    made = plan(
        durations_s,
        n_to_do if options.evaluations is None else options.evaluations,
        prices,
        sizes=options.sizes,
        engines_per_node=options.engines_per_node,
        boot_s=options.boot,
        seed=options.seed,
    )
    print(made)
    for remark in made.remarks():
        print(remark)
    deadline_s = None if options.deadline is None else 60 * options.deadline
    if options.picture is not None:
        _draw(made, options.picture, deadline_s=deadline_s, budget_usd=options.budget)
    if deadline_s is None and options.budget is None:
        return 0
    try:
        chosen = made.choose(deadline_s=deadline_s, budget_usd=options.budget)
    except ParameterError as error:
        print(f"mscourse: {error}", file=sys.stderr)
        return 1
    print(f"Chosen: {chosen} at worst.")
    return 0


def _price(text: str) -> tuple[str, InstancePrice]:
    """Read a type of machine and its price."""
    from mscourse.cluster.planprices import InstancePrice

    name, *numbers = text.split(":")
    try:
        if not name or not 2 <= len(numbers) <= 4:
            raise ValueError("there must be three to five parts")
        return name, InstancePrice(int(numbers[0]), *map(float, numbers[1:]))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not of the form {_FORM}, as in c5.xlarge:4:0.17:0.07:0.02: {error}"
        ) from error


def _ask(options: argparse.Namespace) -> dict[str, InstancePrice]:
    """Ask EC2 for prices, and tell them."""
    from mscourse.cluster.commands import load_config
    from mscourse.cluster.ec2 import Ec2Provider
    from mscourse.cluster.planprices import INTERRUPTIONS_PER_HOUR, ask_ec2

    rate = INTERRUPTIONS_PER_HOUR if options.interruptions is None else options.interruptions
    provider = Ec2Provider(load_config(options))
    try:
        prices = ask_ec2(provider, options.types, interruptions_per_hour=rate)
    finally:
        provider.close()
    for name, price in prices.items():
        print(f"{name}: {price.source}.", file=sys.stderr)
    return prices


def _draw(
    made: Plan, path: str, *, deadline_s: float | None = None, budget_usd: float | None = None
) -> None:
    """Draw a plan into a file, with no window and no change to what others draw."""
    from mscourse.extras import comes_with

    with comes_with("notebook", "Pictures"):
        from mscourse.plots.picture import picture
        from mscourse.plots.plans import SIZE_IN, time_against_cost

    with picture(path, SIZE_IN) as ax:
        time_against_cost(made, ax, deadline_s=deadline_s, budget_usd=budget_usd)
    print(f"Drew {path}.")
