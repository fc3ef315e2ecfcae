"""A source of known vulnerabilities for `pip-audit --vulnerability-service osv`: OSV's API over entries of its own."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from packaging.version import Version


@dataclass(frozen=True, slots=True)
class Advisory:
    """A hole of a package's versions below `fixed`."""

    id: str
    package: str
    fixed: str

    def entry(self) -> dict[str, object]:
        """As OSV has it (ossf.github.io/osv-schema)."""
        package = {"name": self.package, "ecosystem": "PyPI"}
        events = [{"introduced": "0"}, {"fixed": self.fixed}]
        affected = [{"package": package, "ranges": [{"type": "ECOSYSTEM", "events": events}]}]
        return {"schema_version": "1.6.0", "id": self.id, "summary": "a hole", "affected": affected}


@dataclass
class Source:
    """A running source; `asked` are the packages that it was asked about, with their versions."""

    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)


@contextlib.contextmanager
def serving(advisories: Sequence[Advisory]) -> Iterator[Source]:
    """A source that knows these, and nothing else."""
    source = Source()

    class Query(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name, version = asked["package"]["name"], asked["version"]
            source.asked.append((name, version))
            found = [
                a.entry() for a in advisories if a.package == name and Version(version) < Version(a.fixed)
            ]
            body = json.dumps({"vulns": found} if found else {}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Query) as server:
        source.url = f"http://127.0.0.1:{server.server_port}/v1/query"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield source
        finally:
            server.shutdown()
            thread.join()
