"""What the client makes of a server that refuses, stalls, talks nonsense or is not there."""

import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from prefect.settings import (
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_TLS_INSECURE_SKIP_VERIFY,
    temporary_settings,
)

from prefect_intelligent.errors import (
    ConflictError,
    InvalidInputError,
    OrchestratorAccessDeniedError,
    OrchestratorUnavailableError,
)
from prefect_intelligent.prefect_client.api import PrefectApi
from tests.real_prefect import RealServer, free_port


class Scripted(ThreadingHTTPServer):
    """Answers from `script` (status, body, seconds to wait), the last entry for ever."""

    daemon_threads = True

    def __init__(self, *script):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = list(script)
        self.hits = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/api"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):  # the client asks for a CSRF token before its first write
        self.send_error(404)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        server = self.server
        status, body, wait_s = server.script[min(server.hits, len(server.script) - 1)]
        server.hits += 1
        time.sleep(wait_s)
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        if status == 503:
            self.send_header("Retry-After", "30")
        if status == 429:
            self.send_header("Retry-After", server.retry_after)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def ask(server, **options):
    return PrefectApi(server.url, **options).call("POST", "/x", {})


def test_a_rate_limit_is_waited_for_if_that_is_short():
    server = Scripted((429, b"{}", 0), (200, b'{"a": 1}', 0))
    server.retry_after = "0.6"
    started = time.monotonic()
    assert ask(server) == {"a": 1}
    assert server.hits == 2
    assert time.monotonic() - started >= 0.6


def test_a_call_that_must_not_be_made_twice_is_made_again_after_a_rate_limit_for_it_was_not_done():
    server = Scripted((429, b"{}", 0), (200, b'{"a": 1}', 0))
    server.retry_after = "0.01"
    assert PrefectApi(server.url).call("POST", "/x", {}, attempts=1) == {"a": 1}


def test_a_server_that_wants_no_call_for_long_is_not_called():
    server = Scripted((429, b"{}", 0), (200, b'{"a": 1}', 0))
    server.retry_after = "3600"
    api = PrefectApi(server.url)
    for says in ("429", "not asked, the server wants no call for 60 s more"):
        with pytest.raises(OrchestratorUnavailableError, match=says):
            api.call("POST", "/x", {})
    assert server.hits == 1
    api._quiet_until = 0.0  # the time is over
    assert api.call("POST", "/x", {}) == {"a": 1}


@pytest.mark.parametrize("value", ["Wed, 21 Oct 2026 07:28:00 GMT", "-5", ""])
def test_a_retry_after_of_another_form_is_no_reason_to_wait(value):
    server = Scripted((429, b"{}", 0), (200, b'{"a": 1}', 0))
    server.retry_after = value
    assert ask(server) == {"a": 1}


def test_a_passing_503_is_tried_again_and_its_retry_after_is_not_waited_for():
    server = Scripted((503, b"{}", 0), (503, b"{}", 0), (200, b'{"a": 1}', 0))
    started = time.monotonic()
    assert ask(server) == {"a": 1}
    assert server.hits == 3
    assert time.monotonic() - started < 25  # its Retry-After says 30


def test_a_storm_of_503_ends_after_the_given_attempts():
    server = Scripted((503, b'{"detail": "database is locked"}', 0))
    with pytest.raises(OrchestratorUnavailableError, match="database is locked"):
        ask(server, attempts=2, patience=1)
    assert server.hits == 3
    down = Scripted((502, b"{}", 0))
    with pytest.raises(OrchestratorUnavailableError):
        ask(down, attempts=2, patience=1)
    assert down.hits == 2


@pytest.mark.parametrize("status", [400, 404, 409, 422])
def test_a_refusal_is_a_conflict_and_not_repeated(status):
    server = Scripted((status, b'{"detail": "no  such\\nqueue"}', 0))
    with pytest.raises(ConflictError, match=f"{status} no such queue"):
        ask(server)
    assert server.hits == 1


def test_not_found_may_be_an_answer():
    assert PrefectApi(Scripted((404, b"{}", 0)).url).call("POST", "/x", {}, absent_ok=True) is None


@pytest.mark.parametrize("status", [401, 403])
def test_a_missing_right_says_which_setting_to_look_at_and_is_not_asked_for_again(status):
    server = Scripted((status, b"{}", 0))
    with pytest.raises(OrchestratorAccessDeniedError, match="check PREFECT_API_KEY or PREFECT_API_AUTH_STRING"):
        ask(server, attempts=3)
    assert server.hits == 1


def test_a_refused_csrf_token_says_nothing_about_the_credentials():
    with pytest.raises(OrchestratorUnavailableError, match="CSRF"):
        ask(Scripted((403, b'{"detail": "Invalid CSRF token"}', 0)), attempts=1)


def test_clients_that_were_sent_away_together_do_not_come_back_together(monkeypatch):
    waits = []
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=waits.append, time=time.time)
    monkeypatch.setattr("prefect_intelligent.prefect_client.api.time", clock)
    for _ in range(2):
        with pytest.raises(OrchestratorUnavailableError):
            ask(Scripted((503, b"{}", 0)), attempts=3, patience=5)
    whole_s = [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]
    assert all(whole / 2 <= wait <= whole for wait, whole in zip(waits, 2 * whole_s, strict=True))
    assert waits[:7] != waits[7:]


def test_a_server_that_stalls_costs_the_time_out_and_no_more():
    server = Scripted((200, b"{}", 60.0))
    api = PrefectApi(server.url, timeout_s=0.3, attempts=1)
    with pytest.raises(OrchestratorUnavailableError):
        api.call("POST", "/x", {})
    assert api.waited_s < 50.0


def test_all_calls_together_keep_to_the_time_given():
    api = PrefectApi(Scripted((503, b"{}", 0.05)).url, attempts=50)
    started = time.monotonic()
    with api.within(0.5), pytest.raises(OrchestratorUnavailableError):
        api.call("POST", "/x", {})
    with api.within(0.0), pytest.raises(OrchestratorUnavailableError, match="no time left"):
        api.call("POST", "/x", {})
    assert time.monotonic() - started < 20.0  # fifty attempts with their pauses take 45 s


def test_nonsense_is_an_unavailable_server():
    with pytest.raises(OrchestratorUnavailableError, match="not JSON"):
        ask(Scripted((200, b"<html>", 0)))


def test_nobody_there():
    with pytest.raises(OrchestratorUnavailableError):
        PrefectApi(f"http://127.0.0.1:{free_port()}/api", attempts=1).call("GET", "/health")


def test_no_address_and_a_bad_one_are_the_users_to_correct():
    with pytest.raises(InvalidInputError, match="PREFECT_API_URL"):
        PrefectApi()
    with pytest.raises((InvalidInputError, OrchestratorUnavailableError), match="not-a-url"):
        PrefectApi("not-a-url", attempts=1).call("GET", "/health")


@pytest.mark.server
def test_a_server_with_a_password_and_csrf_protection_is_talked_to(tmp_path):
    from prefect.settings import PREFECT_API_AUTH_STRING, temporary_settings

    locks = {
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_API_AUTH_STRING": "admin:secret",
    }
    server = RealServer(tmp_path, settings=locks).start()
    try:
        with pytest.raises(OrchestratorAccessDeniedError, match="PREFECT_API_AUTH_STRING"):
            PrefectApi(server.api_url).call("POST", "/work_pools/filter", {})
        with temporary_settings({PREFECT_API_AUTH_STRING: "admin:secret"}):
            api = PrefectApi(server.api_url)
        api.call("POST", "/work_pools/", {"name": "p", "type": "process"})
        assert [pool["name"] for pool in api.call("POST", "/work_pools/filter", {})] == ["p"]
    finally:
        server.stop()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A file with a certificate for 127.0.0.1, which is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return path


@pytest.fixture
def secured(certificate):
    """A server behind TLS that says yes."""
    server = Scripted((200, b'{"a": 1}', 0))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return server


def test_a_server_whose_certificate_nobody_vouches_for_is_not_talked_to(secured):
    with pytest.raises(OrchestratorUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        PrefectApi(secured.url.replace("http", "https"), attempts=1).call("POST", "/x", {})
    assert secured.hits == 0


def test_the_authority_and_the_check_itself_follow_prefects_settings(secured, certificate):
    url = secured.url.replace("http", "https")
    with temporary_settings({PREFECT_API_SSL_CERT_FILE: str(certificate)}):
        assert PrefectApi(url, attempts=1).call("POST", "/x", {}) == {"a": 1}
        # It vouches for 127.0.0.1 and for no other name.
        with pytest.raises(OrchestratorUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            PrefectApi(url.replace("127.0.0.1", "localhost"), attempts=1).call("POST", "/x", {})
    with temporary_settings({PREFECT_API_TLS_INSECURE_SKIP_VERIFY: True}):
        assert PrefectApi(url, attempts=1).call("POST", "/x", {}) == {"a": 1}


def test_an_authority_that_cannot_be_read_is_named_at_once(tmp_path):
    with (
        temporary_settings({PREFECT_API_SSL_CERT_FILE: str(tmp_path / "gone.pem")}),
        pytest.raises(InvalidInputError, match=r"PREFECT_API_SSL_CERT_FILE.*gone\.pem"),
    ):
        PrefectApi("https://127.0.0.1/api")
