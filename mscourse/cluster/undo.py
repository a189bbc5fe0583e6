"""Undo what a start has begun, whatever comes between: machines that are forgotten cost money.

What cannot be undone is told, with what to do about it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from mscourse.cluster.nodes import Node, Progress
from mscourse.errors import ClusterError

# Whoever presses Ctrl-C often does it twice. What was started is removed all the same; but who
# insists is obeyed, and told what is left.
_MOST_INTERRUPTS = 3


def insist(undo: Callable[[], None]) -> str:
    """Undo something, from the beginning if that is interrupted; say why it failed, or nothing."""
    for _ in range(_MOST_INTERRUPTS):
        try:
            undo()
        except KeyboardInterrupt:
            continue
        except Exception as error:  # noqa: BLE001 (whatever it is, what is left must be told)
            return str(error) or repr(error)
        return ""
    return "The removal was interrupted."


def unfailing(progress: Progress) -> Progress:
    """Tell what is going on, but go on as well if nobody reads it."""

    def tell(line: str) -> None:
        with suppress(Exception):
            progress(line)

    return tell


def what_is_left(problem: str, nodes: Sequence[Node]) -> list[str]:
    """Say in lines what may be left of nodes that `insist` could not take back; nothing if it did.

    Parameters
    ----------
    problem : str
        What `insist` has said.
    nodes : sequence of Node
    """
    if not problem:
        return []
    return [
        f"Not all that was started could be taken back. {problem}",
        f"There may be left: {', '.join(map(str, nodes))}.",
        f"See `mscourse cluster list`; `mscourse cluster terminate {nodes[0].cluster}` ends it.",
    ]


def unattended(cluster: str) -> list[str]:
    """Say in lines that the agents of a cluster have ended, but perhaps not its machines."""
    return [
        f"The machines of {cluster} may run on, and nothing on them looks after what they cost.",
        f"`mscourse cluster stop {cluster}` switches them off; `restart` has them work again.",
    ]


def raise_with(left: Sequence[str], error: BaseException) -> None:
    """Raise an error that also says what is left, if anything is."""
    if left:
        raise ClusterError("\n".join([str(error) or "It was interrupted.", *left])) from error
