"""What AWS's errors mean: what was refused, whether another try can help, and what to do.

The message of an error has three parts: what was refused, AWS's own words, and what to do now.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from mscourse.errors import CloudError

# "elsewhere": another type or zone may have it. "limit": this account may have no more, wherever.
# "again": the same call may do in a moment. "fatal": nothing of this helps.
Remedy = Literal["elsewhere", "limit", "again", "fatal"]

# Of AWS's own words. A refused signature is explained with the whole request, which has tokens.
_MOST_WORDS = 300

# What follows is thousands of characters that only an administrator can decode.
_ENCODED = re.compile(r"\s*Encoded authorization failure message:.*", re.DOTALL)


class AwsError(CloudError):
    """AWS has refused a call, or could not be asked.

    Attributes
    ----------
    code : str
        AWS's name for the error; empty if no answer came.
    remedy : str
        What may help, of `Remedy`.
    words : str
        AWS's own words.
    """

    def __init__(self, message: str, *, code: str = "", remedy: Remedy = "fatal", words: str = ""):
        super().__init__(message)
        self.code = code
        self.remedy = remedy
        self.words = words or message


@dataclass(frozen=True)
class _Meaning:
    codes: tuple[str, ...]
    what: str
    do: str
    remedy: Remedy = "fatal"


_MEANINGS = (
    _Meaning(
        (
            "InsufficientInstanceCapacity",
            "InsufficientHostCapacity",
            "InsufficientCapacity",
            "InsufficientFreeAddressesInSubnet",
        ),
        "there is no room for such a machine there at the moment",
        "Name more types in NODE_INSTANCE_TYPE or more AVAILABILITY_ZONES, or try later.",
        "elsewhere",
    ),
    _Meaning(
        ("SpotMaxPriceTooLow",),
        "the bid is below the current price",
        "Raise SPOT_BID; `mscourse cluster spothistory` shows what spot instances cost.",
        "elsewhere",
    ),
    _Meaning(
        ("Unsupported", "UnsupportedOperation"),
        "this zone does not have such a machine",
        "Name other types in NODE_INSTANCE_TYPE, or other AVAILABILITY_ZONES.",
        "elsewhere",
    ),
    _Meaning(
        ("VcpuLimitExceeded", "InstanceLimitExceeded"),
        "the account may not have more machines of this kind at once",
        "Start fewer or smaller nodes, terminate others, or ask AWS for more (Service Quotas, "
        "Amazon EC2, Running On-Demand instances).",
        "limit",
    ),
    _Meaning(
        ("MaxSpotInstanceCountExceeded", "SpotInstanceCountLimitExceeded"),
        "the account may not have more spot instances at once",
        "Start fewer or smaller nodes, terminate others, or ask AWS for more (Service Quotas, "
        "Amazon EC2, All Spot Instance Requests).",
        "limit",
    ),
    _Meaning(
        ("VolumeLimitExceeded", "AddressLimitExceeded", "NetworkInterfaceLimitExceeded"),
        "the account may not have more of these at once",
        "Start fewer nodes, remove what is not used, or ask AWS for more (Service Quotas).",
        "limit",
    ),
    _Meaning(
        ("UnauthorizedOperation", "AccessDenied", "AccessDeniedException"),
        "these credentials are not allowed to do this",
        "Ask who administers the account for this permission, or use another AWS_PROFILE.",
    ),
    _Meaning(
        (
            "AuthFailure",
            "InvalidClientTokenId",
            "UnrecognizedClientException",
            "SignatureDoesNotMatch",
            "IncompleteSignature",
            "MissingAuthenticationToken",
        ),
        "AWS does not know these credentials",
        "Check them with `aws sts get-caller-identity`, and the clock of this machine; then set "
        "AWS_PROFILE, or run `aws configure`.",
    ),
    _Meaning(
        ("ExpiredToken", "ExpiredTokenException", "RequestExpired"),
        "the credentials have expired",
        "Get new ones (for single sign-on: `aws sso login`), and check the clock of this machine.",
    ),
    _Meaning(
        ("InvalidKeyPair.NotFound",),
        "there is no such key pair in this region",
        "Set KEYNAME to one that is there (`aws ec2 describe-key-pairs`), or make one with "
        "`mscourse cluster createkey`. A key pair is of one region.",
    ),
    _Meaning(
        ("InvalidAMIID.NotFound", "InvalidAMIID.Malformed", "InvalidAMIID.Unavailable"),
        "there is no such image in this region",
        "Set NODE_IMAGE_ID to an image of this region, or leave it out for the current Ubuntu.",
    ),
    _Meaning(
        ("InvalidInstanceType",),
        "there is no such instance type in this region",
        "Correct NODE_INSTANCE_TYPE or MASTER_INSTANCE_TYPE; `aws ec2 describe-instance-types` "
        "lists those of a region.",
    ),
    _Meaning(
        ("InvalidVolume.NotFound",),
        "there is no such volume in this region",
        "Correct the VOLUME_ID of the [volume]; `aws ec2 describe-volumes` lists those there are.",
    ),
    _Meaning(
        ("AuthFailure.ServiceLinkedRoleCreationNotPermitted",),
        "these credentials may not make the role that an account needs for its first spot instance",
        "Ask who administers the account for `aws iam create-service-linked-role "
        "--aws-service-name spot.amazonaws.com`, once; or leave out SPOT_BID.",
    ),
    _Meaning(
        ("OptInRequired", "PendingVerification", "Blocked"),
        "the account cannot be used for this yet",
        "Follow AWS's words; it is a matter of the account, not of mscourse.",
    ),
    _Meaning(
        (
            "RequestLimitExceeded",
            "Throttling",
            "ThrottlingException",
            "TooManyRequestsException",
            "EC2ThrottledException",
        ),
        "too many calls are made from this account",
        "Try again in a few minutes.",
        "again",
    ),
)

_BY_CODE = {code: meaning for meaning in _MEANINGS for code in meaning.codes}
_UNKNOWN = _Meaning((), "", "")


def remedy_for(code: str, status: int = 400) -> Remedy:
    """Tell what may help after an error of this code, which came with this HTTP status."""
    if code in _BY_CODE:
        return _BY_CODE[code].remedy
    return "again" if status >= 500 else "fatal"


def is_throttled(code: str) -> bool:
    """Whether AWS has not even looked at the call."""
    return code in _BY_CODE and _BY_CODE[code].remedy == "again"


def refused(
    operation: str, region: str, code: str, words: str, *, status: int = 400, secrets: Iterable[str]
) -> AwsError:
    """Make the exception for an answer that is an error.

    Parameters
    ----------
    operation, region : str
        The call.
    code, words : str
        AWS's answer.
    status : int
        Of HTTP.
    secrets : iterable of str
        What must not be in the message.
    """
    meaning = _BY_CODE.get(code, _UNKNOWN)
    said = f"{code}: {clean(words, secrets)}" if code != "SignatureDoesNotMatch" else code
    what = f": {meaning.what}" if meaning.what else ""
    message = f"AWS refused {operation} in {region}{what}. AWS says: {said}"
    message += "" if message.endswith(".") else "."
    return AwsError(
        f"{message} {meaning.do}".rstrip(),
        code=code,
        remedy=remedy_for(code, status),
        words=said.rstrip("."),
    )


def clean(words: str, secrets: Iterable[str]) -> str:
    """Put AWS's words on one line, without what must not show."""
    words = " ".join(_ENCODED.sub("", words).split())
    for secret in secrets:
        words = words.replace(secret, "***")
    return words if len(words) <= _MOST_WORDS else words[:_MOST_WORDS] + " ..."
