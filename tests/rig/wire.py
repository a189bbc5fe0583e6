"""The language of AWS: a call as it travels over HTTP, and answers to it."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

#: Of what EC2 answers.
NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"

Parameters = Mapping[str, str]
Start = Callable[..., Any]


@dataclass(frozen=True)
class Call:
    """A call that was made; the parameters are as they travel, ``Filter.1.Value.1``."""

    action: str
    parameters: Parameters

    def tags(self, kind: str) -> dict[str, str]:
        """The tags that things of this kind get by the call."""
        for key, value in self.parameters.items():
            if re.fullmatch(r"TagSpecification\.\d+\.ResourceType", key) and value == kind:
                start = key.removesuffix("ResourceType") + "Tag."
                names = [k for k in self.parameters if k.startswith(start) and k.endswith(".Key")]
                return {
                    self.parameters[name]: self.parameters[name.removesuffix("Key") + "Value"]
                    for name in names
                }
        return {}


class RefusedError(Exception):
    """A call that is answered with an error."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


def read_call(environ: Mapping[str, Any], body: bytes) -> Call:
    """Read a call from a request, in the form of EC2 or in that of services with JSON."""
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        asked = {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in json.loads(body).items()
        }
        return Call(target.rpartition(".")[2], asked)
    asked = dict(urllib.parse.parse_qsl(body.decode()))
    return Call(asked.pop("Action", ""), asked)


def snake(action: str) -> str:
    """Write the name of a call in small letters, as boto3 does."""
    return re.sub(r"(?<!^)([A-Z])", r"_\1", action).lower()


def reply(start: Start, status: int, content: bytes, is_json: bool) -> list[bytes]:
    """Answer a request."""
    kind = "application/x-amz-json-1.1" if is_json else "text/xml"
    start(f"{status} X", [("Content-Type", kind), ("Content-Length", str(len(content)))])
    return [content]


def error_text(error: RefusedError, is_json: bool) -> bytes:
    """Write an error as AWS does."""
    if is_json:
        return json.dumps({"__type": error.code, "message": error.message}).encode()
    return (
        f"<Response><Errors><Error><Code>{error.code}</Code><Message>{escape(error.message)}"
        "</Message></Error></Errors><RequestID>r</RequestID></Response>"
    ).encode()
