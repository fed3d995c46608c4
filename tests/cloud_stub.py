"""A server in the shape of Prefect Cloud, in front of a real one.

What Cloud has and an open-source server has not: a workspace in the address, an API key, a limit to the rate of calls.
What it lacks: the routes of administration and the CSRF token; here also the event stream, so that what needs it has to
do without.
"""

from __future__ import annotations

import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

ACCOUNT, WORKSPACE = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"
KEY = "pnu_stub"
LACKS = ("/admin/", "/csrf-token", "/events/in", "/events/out")
_HOP = {"connection", "transfer-encoding", "content-length", "content-encoding", "host", "authorization", "keep-alive"}


class CloudStub:
    """The server; `start` it and `stop` it.

    Args:
        behind: API of a real server.
        throttle_every: Each so-many-th call is answered 429, and the one after it is not; 0 for never.
    """

    def __init__(self, behind: str, throttle_every: int = 7) -> None:
        self.behind, self.throttle_every = behind, throttle_every
        self.calls = 0
        self.throttled = 0
        self.lacked: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._http = httpx.Client(timeout=60.0)
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, headers, body = stub.answer(self)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_PATCH = do_PUT = do_DELETE = do_GET

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def api_url(self) -> str:
        """PREFECT_API_URL of the workspace."""
        return f"{self.cloud_url}/accounts/{ACCOUNT}/workspaces/{WORKSPACE}"

    @property
    def cloud_url(self) -> str:
        """PREFECT_CLOUD_API_URL."""
        return f"http://127.0.0.1:{self._server.server_port}/api"

    def start(self) -> CloudStub:
        """Begin to answer."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
        self._http.close()

    def answer(self, request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a request."""
        body = request.rfile.read(int(request.headers.get("content-length") or 0))
        prefix = f"/api/accounts/{ACCOUNT}/workspaces/{WORKSPACE}"
        if not request.path.startswith(f"{prefix}/"):
            self.refused[request.path] += 1
            return 404, {}, b'{"detail": "Not Found"}'
        if request.headers.get("authorization") != f"Bearer {KEY}":
            self.refused[request.path] += 1
            return 401, {}, b'{"detail": "Invalid authentication credentials"}'
        route = request.path.removeprefix(prefix)
        if route.startswith(LACKS):
            self.lacked[route] += 1
            return 404, {}, b'{"detail": "Not Found"}'
        with self._lock:
            self.calls += 1
            if self.throttle_every and self.calls % self.throttle_every == 0:
                self.throttled += 1
                return 429, {"Retry-After": "0.05"}, b'{"detail": "Rate limit exceeded"}'
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        found = self._http.request(request.command, self.behind + route, content=body, headers=headers)
        kept = {name: value for name, value in found.headers.items() if name.lower() not in _HOP and name != "date"}
        return found.status_code, kept, found.content
