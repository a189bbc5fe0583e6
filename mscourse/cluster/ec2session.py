"""Calls to AWS: with whose credentials they are made, and when they are made again.

boto3 is imported here only, and only when there is a call to make.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mscourse.cluster.ec2errors import AwsError, clean, is_throttled, refused
from mscourse.cluster.settings import AwsInfo, Secret
from mscourse.errors import CloudError
from mscourse.extras import comes_with

# AWS asks to wait longer each time; how long is by chance, so that many callers do not come back
# at once.
FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 8.0

# While AWS says that there are too many calls. It lets calls through at a steady rate, so a minute
# of silence means something else.
THROTTLED_FOR_S = 120.0

# After no answer, or one of trouble at AWS.
_MOST_TRIES = 4

_CONNECT_WITHIN_S = 10
_ANSWER_WITHIN_S = 60


class AwsSession:
    """Makes calls to AWS in one region.

    Parameters
    ----------
    aws : AwsInfo
        What the configuration says; the rest is found as the ``aws`` command finds it.
    region : str or None
        None leaves it to `aws`, then to AWS's own configuration.

    Raises
    ------
    MissingPackageError
        boto3 is not installed.
    CloudError
        There is no such profile, or no region is known.
    """

    def __init__(self, aws: AwsInfo, region: str | None = None) -> None:
        with comes_with("cluster", "Clusters on EC2"):
            import boto3
            import botocore.exceptions
            import botocore.parsers
        self._errors = botocore.exceptions
        self._unreadable = botocore.parsers.ResponseParserError
        self._clients: dict[str, Any] = {}
        self._known_secrets = {
            each.reveal()
            for each in (aws.access_key_id, aws.secret_access_key, aws.session_token)
            if each is not None
        }
        with self._plainly("Session", region or "this region"):
            self._session = boto3.Session(
                profile_name=aws.profile,
                region_name=region or aws.region_name,
                aws_access_key_id=_revealed(aws.access_key_id),
                aws_secret_access_key=_revealed(aws.secret_access_key),
                aws_session_token=_revealed(aws.session_token),
            )
        if self._session.region_name is None:
            raise CloudError(
                "No region is named. Set REGION in the [cluster], or AWS_REGION_NAME in [aws info]."
            )
        self.region: str = self._session.region_name

    def __repr__(self) -> str:
        return f"AwsSession({self.region!r})"

    def call(
        self,
        operation: str,
        *,
        service: str = "ec2",
        region: str | None = None,
        is_repeatable: bool = True,
        settling: str = "",
        **arguments: Any,
    ) -> dict[str, Any]:
        """Make a call, again if it was throttled or lost.

        Parameters
        ----------
        operation : str
            A method of the client of boto3, such as ``"run_instances"``.
        service, region : str
            By default EC2 in the region of the session.
        is_repeatable : bool
            Whether the call may be made once more when no answer came: because it changes nothing,
            or has a token, or is refused the second time.
        settling : str
            The code of an error that means that AWS does not know yet what it has just made.

        Raises
        ------
        AwsError
            It was refused, or cannot be made.
        """
        where = region or self.region
        name = "".join(part.capitalize() for part in operation.split("_"))
        with self._plainly(name, where):
            method = getattr(self._client(service, where), operation)
        began_s = time.monotonic()
        n_tries = 0
        while True:
            n_tries += 1
            try:
                with self._plainly(name, where):
                    answer: dict[str, Any] = method(**arguments)
                return answer
            except AwsError as error:
                is_late = time.monotonic() - began_s > THROTTLED_FOR_S
                if is_throttled(error.code):
                    may_again = not is_late
                elif settling and error.code == settling:
                    may_again = n_tries < _MOST_TRIES + 2
                else:
                    may_again = error.remedy == "again" and n_tries < _MOST_TRIES and is_repeatable
                if not may_again:
                    raise
            pause_s = min(FIRST_PAUSE_S * 2 ** (n_tries - 1), _LONGEST_PAUSE_S)
            time.sleep(pause_s * random.uniform(0.5, 1.0))

    def listing(self, operation: str, key: str, **arguments: Any) -> list[dict[str, Any]]:
        """Make a call that lists things, until all pages have come."""
        things: list[dict[str, Any]] = []
        while True:
            answer = self.call(operation, **arguments)
            things += answer.get(key, [])
            if not (token := answer.get("NextToken")):
                return things
            arguments["NextToken"] = token

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def _client(self, service: str, region: str) -> Any:
        from botocore.config import Config

        key = f"{service} {region}"
        if key not in self._clients:
            self._clients[key] = self._session.client(
                service,
                region_name=region,
                config=Config(
                    # `call` does that: botocore would wait for room in one zone while there is
                    # some in another.
                    retries={"total_max_attempts": 1, "mode": "standard"},
                    connect_timeout=_CONNECT_WITHIN_S,
                    read_timeout=_ANSWER_WITHIN_S,
                    user_agent_extra="mscourse",
                ),
            )
        return self._clients[key]

    def _secrets(self) -> set[str]:
        """What must not be in any message."""
        try:
            found = self._session.get_credentials()
            frozen = found.get_frozen_credentials() if found is not None else None
        except Exception:  # noqa: BLE001 (an error is being told already; this one comes next time)
            frozen = None
        values = {frozen.access_key, frozen.secret_key, frozen.token} if frozen else set()
        return {each for each in values | self._known_secrets if each and len(each) > 3}

    @contextmanager
    def _plainly(self, operation: str, region: str) -> Iterator[None]:
        """Turn the errors of boto3 into ours.

        They are not chained: the request, which they may show, has tokens.
        """
        errors = self._errors
        try:
            yield
        except errors.ClientError as error:
            told = error.response.get("Error", {})
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
            code, words = str(told.get("Code", "")), str(told.get("Message", ""))
            raise refused(
                operation, region, code, words, status=status, secrets=self._secrets()
            ) from None
        except errors.BotoCoreError as error:
            raise self._unasked(operation, region, error) from None
        except self._unreadable:
            raise AwsError(
                f"{operation} in {region}: the answer is not one of AWS. Perhaps a proxy or a "
                "login page of the network has answered; look at AWS_ENDPOINT_URL and HTTPS_PROXY.",
                remedy="again",
            ) from None

    def _unasked(self, operation: str, region: str, error: Exception) -> AwsError:
        """Make the exception for a call that was not answered, or not even made."""
        errors = self._errors
        words = clean(str(error), self._known_secrets)
        begin = f"{operation} in {region} could not be asked of AWS: "
        end = "" if words.endswith(".") else "."
        if isinstance(error, errors.ProfileNotFound):
            return AwsError(
                f"{words}{end} Correct AWS_PROFILE; `aws configure list-profiles` lists those that "
                "there are."
            )
        if isinstance(error, (errors.NoCredentialsError, errors.PartialCredentialsError)):
            return AwsError(
                f"{begin}there are no credentials ({words}). Run `aws configure` or `aws sso "
                "login`, or name a profile with AWS_PROFILE in [aws info]."
            )
        if isinstance(
            error, (errors.CredentialRetrievalError, errors.TokenRetrievalError, errors.SSOError)
        ):
            return AwsError(
                f"{begin}the credentials cannot be had or have expired ({words}). Run `aws sso "
                "login`, or name another profile with AWS_PROFILE in [aws info]."
            )
        if isinstance(error, (errors.HTTPClientError, errors.ConnectionError)):
            return AwsError(
                f"{begin}no answer came ({words}). Check the network of this machine, and that "
                f"{region} is a region.",
                remedy="again",
            )
        return AwsError(f"{begin}{words}{end}")


def _revealed(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()
