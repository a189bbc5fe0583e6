"""What EC2 tells an instance of itself: whether it is about to be taken away.

A spot instance gets a notice two minutes before, and sometimes a recommendation to move before
that (docs of EC2, "Spot Instance interruption notices" and "EC2 instance rebalance
recommendations"). The service is version 2, which wants a token.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime

_SERVICE = "http://169.254.169.254/latest/"
_WITHIN_S = 2.0
_TOKEN_LIVES_S = 21600

# EC2 recommends to look every 5 s.
_LOOK_PERIOD_S = 5.0

# The service is of this machine alone: no proxy that the environment names reaches it.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Notice:
    """This instance will be taken away.

    Attributes
    ----------
    action : str
        ``"terminate"``, ``"stop"`` or ``"hibernate"``.
    at : datetime
        When.
    """

    action: str
    at: datetime


class Metadata:
    """Asks the metadata service of EC2, not more often than it likes.

    Attributes
    ----------
    notice : Notice or None
        Of an interruption.
    rebalance_at : str or None
        When it was recommended to move to another instance.
    """

    def __init__(self, service: str = _SERVICE) -> None:
        self._service = service
        self._token: str | None = None
        self._asked_s = float("-inf")
        self.notice: Notice | None = None
        self.rebalance_at: str | None = None

    def look(self) -> None:
        """Ask if it is time to. A service that does not answer, or not this, has said nothing."""
        now_s = time.monotonic()
        if now_s - self._asked_s < _LOOK_PERIOD_S:
            return
        self._asked_s = now_s
        # Whoever looks after the node must not end for an answer that is odd.
        with contextlib.suppress(KeyError, ValueError):
            if self.notice is None and (said := self._get("meta-data/spot/instance-action")):
                action, at = str(said["action"]), str(said["time"])
                self.notice = Notice(action, datetime.fromisoformat(at).astimezone(UTC))
        with contextlib.suppress(KeyError):
            if said := self._get("meta-data/events/recommendations/rebalance"):
                self.rebalance_at = str(said["noticeTime"])

    def _get(self, path: str) -> dict[str, str] | None:
        for _ in range(2):  # a token may have expired
            try:
                if self._token is None:
                    lives = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_LIVES_S)}
                    self._token = self._ask("api/token", "PUT", lives)
                said = self._ask(path, "GET", {"X-aws-ec2-metadata-token": self._token})
                content = json.loads(said)
                return content if isinstance(content, dict) else None
            except urllib.error.HTTPError as error:
                error.close()
                if error.code != 401:
                    return None  # 404: there is no such notice
                self._token = None
            except (OSError, ValueError, http.client.HTTPException):
                return None
        return None

    def _ask(self, path: str, method: str, headers: dict[str, str]) -> str:
        request = urllib.request.Request(  # noqa: S310  # the address is ours
            self._service + path, method=method, headers=headers
        )
        with _OPENER.open(request, timeout=_WITHIN_S) as answer:
            return str(answer.read().decode())
