"""The instance metadata service of EC2, in its second version only, beside a pretend instance.

What it says comes from a JSON file, which is read at each request: paths below
``/latest/meta-data/``, and what to answer there. What is not in it does not exist, as the notice
of an interruption until there is one::

    {
        "instance-id": "i-0123456789abcdef0",
        "instance-type": "c6i.xlarge",
        "instance-life-cycle": "spot",
        "placement/region": "eu-central-1",
        "spot/instance-action": {"action": "terminate", "time": "2030-01-01T12:00:00Z"}
    }

Run as a program, with the file's path, in the network of an instance.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ADDRESS = "169.254.169.254"

_METADATA = "/latest/meta-data/"
_LONGEST_TTL_S = 21600


def write_metadata(file: Path, metadata: Mapping[str, Any]) -> None:
    """Say what the service says from now on; a request sees all of it or nothing."""
    new = file.with_name(f"{file.name}.new")
    new.write_text(json.dumps(dict(metadata)))
    new.replace(file)


def update_metadata(file: Path, changes: Mapping[str, Any]) -> None:
    """Change what it says at some paths; None takes a path away."""
    metadata = json.loads(file.read_text()) if file.exists() else {}
    metadata |= changes
    write_metadata(file, {path: value for path, value in metadata.items() if value is not None})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    file: Path
    tokens: dict[str, float] = {}  # noqa: RUF012  # a new handler comes for each connection

    def do_PUT(self) -> None:
        if self.path != "/latest/api/token":
            self._answer(404)
        elif "X-Forwarded-For" in self.headers:
            self._answer(403)
        else:
            ttl = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
            if not ttl.isdigit() or not 1 <= int(ttl) <= _LONGEST_TTL_S:
                self._answer(400)
                return
            token = secrets.token_urlsafe(32)
            self.tokens[token] = time.monotonic() + int(ttl)
            self._answer(200, token)

    def do_GET(self) -> None:
        token = self.headers.get("X-aws-ec2-metadata-token", "")
        if self.tokens.get(token, 0.0) < time.monotonic():
            self._answer(401)
            return
        metadata = json.loads(self.file.read_text()) if self.file.exists() else {}
        path = self.path.removeprefix(_METADATA)
        if path == self.path or path not in metadata:
            self._answer(404)
        else:
            value = metadata[path]
            self._answer(200, value if isinstance(value, str) else json.dumps(value))

    def _answer(self, status: int, text: str = "") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 (its name there)
        pass


def main() -> None:
    """Serve until the machine ends."""
    _Handler.file = Path(sys.argv[1])
    service = ThreadingHTTPServer((ADDRESS, 80), _Handler)
    print("It serves.", flush=True)  # noqa: T201 (whoever has started it waits for that)
    service.serve_forever()


if __name__ == "__main__":
    main()
