"""The web application: one page, its state, a stream of its changes and, if allowed, a few actions.

Without a token it is served on loopback only. It is read-only unless actions are allowed; then each action needs the
CSRF token of this process in a header, and is recorded.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse, StreamingResponse

from prefect_intelligent.dashboard import assets
from prefect_intelligent.dashboard.broadcast import Refresher, State, StateBroadcaster, replace_nonfinite
from prefect_intelligent.dashboard.details import DetailReader
from prefect_intelligent.dashboard.state import ACKNOWLEDGED
from prefect_intelligent.errors import OrchestratorError, UnknownNameError
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.steering.kill_switch import set_switch

_FILES: Final[Mapping[str, tuple[Callable[[], str], str]]] = {
    "/": (assets.live_page, "text/html; charset=utf-8"),
    "/app.css": (assets.style, "text/css; charset=utf-8"),
    "/app.js": (assets.script, "text/javascript; charset=utf-8"),
}
_COOKIE: Final = "prefect_intelligent_dashboard"
_LOCAL: Final = ("localhost", "127.0.0.1", "[::1]", "testserver")
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_MAX_BODY: Final = 4096
_MAX_LISTENERS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardConfig:
    """Configuration of the application.

    Attributes:
        pool: Name of the work pool.
        build: Builds the state.
        interval_s: Seconds between two builds.
        token: Required with every request; None serves loopback only.
        actions: History in which actions are recorded and take effect; None is read-only.
        details: Reads what the pages of deployments, datasets and all pools show; None has none.
        look_back: Gives the sections that look back, over so many seconds; None has only the span of the state.
        why: Gives the sentences that say why a run does not start; None has no answer.
    """

    pool: str
    build: Callable[[], State]
    interval_s: float = 2.0
    token: str | None = None
    actions: HistoryStore | None = None
    details: DetailReader | None = None
    look_back: Callable[[float], State] | None = None
    why: Callable[[str], Sequence[str]] | None = None


SPANS: Final[Mapping[str, float]] = {"24h": 86400.0, "7d": 7 * 86400.0, "30d": 30 * 86400.0}
"""How far the pages can look back, seconds by name."""
_Span = Literal["24h", "7d", "30d"]


def create_app(config: DashboardConfig, broadcaster: StateBroadcaster | None = None) -> FastAPI:
    """The application; while it runs, a thread of its own builds the state."""
    states = broadcaster or StateBroadcaster()
    csrf = secrets.token_urlsafe(32)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        refresher = Refresher(states, config.build, config.interval_s)
        refresher.start()
        yield
        refresher.end()

    app = FastAPI(title="prefect-intelligent", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        refusal = _refuse(request, config, csrf)
        response = refusal if refusal is not None else await call_next(request)
        for name, value in HEADERS.items():
            response.headers[name] = value
        return response

    @app.get("/")
    @app.get("/app.css")
    @app.get("/app.js")
    def page(request: Request) -> Response:
        if request.url.path == "/" and config.token is not None and "token" in request.query_params:
            answer = RedirectResponse("/", status_code=303)
            answer.set_cookie(
                _COOKIE, config.token, httponly=True, samesite="strict", secure=request.url.scheme == "https"
            )
            return answer
        content, kind = _FILES[request.url.path]
        return Response(content(), media_type=kind)

    @app.get("/runbooks/{rule}")
    def runbook(rule: str) -> Response:
        text = assets.runbook(rule)
        if text is None:
            return JSONResponse({"error": "there is no such alert"}, status_code=404)
        return Response(text, media_type="text/html; charset=utf-8")

    def detail(template: str, found: Mapping[str, Any] | None, span: str) -> Response:
        if found is None:
            return JSONResponse({"error": f"the history knows no such {template}"}, status_code=404)
        text = assets.detail_page(template, {**found, "span": span, "spans": tuple(SPANS)})
        return Response(text, media_type="text/html; charset=utf-8")

    @app.get("/deployment")
    def deployment(name: Annotated[str, Query(max_length=1000)], span: _Span = "7d") -> Response:
        found = None if config.details is None else config.details.deployment(name, SPANS[span])
        return detail("deployment", found, span)

    @app.get("/dataset")
    def dataset(name: Annotated[str, Query(max_length=1000)]) -> Response:
        found = None if config.details is None else config.details.dataset(name)
        return detail("dataset", found, "30d")

    @app.get("/pools")
    def pools(span: _Span = "7d") -> Response:
        found = None if config.details is None else {"pools": config.details.pools(SPANS[span])}
        return detail("pools", found, span)

    @app.get("/api/look-back")
    def look_back(span: _Span) -> JSONResponse:
        return JSONResponse(replace_nonfinite(config.look_back(SPANS[span]) if config.look_back else {}))

    @app.get("/api/session")
    def session() -> dict[str, Any]:
        return {
            "pool": config.pool,
            "actions": config.actions is not None,
            "csrf": csrf if config.actions else None,
            "details": config.details is not None,
            "spans": list(SPANS) if config.look_back else [],
        }

    @app.get("/api/state")
    def state() -> JSONResponse:
        return JSONResponse(states.state)

    @app.get("/api/runs")
    def runs(
        limit: Annotated[int, Query(ge=1, le=500)] = 100, offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0
    ) -> JSONResponse:
        rows = list(states.state.get("gantt", {}).items())
        return JSONResponse({"total": len(rows), "rows": rows[offset : offset + limit]})

    @app.get("/api/why/{run}")
    def why(run: str) -> JSONResponse:
        if config.why is None:
            return JSONResponse({"error": "this page does not ask Prefect"}, status_code=404)
        try:
            return JSONResponse({"lines": list(config.why(run))})
        except UnknownNameError as error:
            return JSONResponse({"error": str(error)}, status_code=404)
        except OrchestratorError as error:
            return JSONResponse({"error": str(error)}, status_code=503)

    @app.get("/api/stream")
    async def stream() -> Response:
        if states.listeners >= _MAX_LISTENERS:
            return JSONResponse({"error": "too many listeners"}, status_code=503)
        return StreamingResponse(states.stream(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    @app.post("/api/actions/{name}")
    async def act(name: str, request: Request) -> JSONResponse:
        history, pool = config.actions, config.pool
        if history is None:
            return JSONResponse({"error": "read-only: start the dashboard with --allow-actions"}, status_code=403)
        client = request.client.host if request.client else "?"
        details: dict[str, str] = {}
        if name in ("steer-on", "steer-off"):
            try:
                set_switch(history, pool, "on" if name == "steer-on" else "off", time.time(), f"dashboard {client}")
            except OrchestratorError as error:
                return JSONResponse({"error": str(error)}, status_code=503)
        elif name == "acknowledge":
            body = await _read(request)
            if not body or len(body) > _MAX_BODY:
                return JSONResponse({"error": "name one alert"}, status_code=422)
            details["alert"] = body.decode("utf-8", "replace")
            history.append(ACKNOWLEDGED, pool, time.time(), details)
        else:
            return JSONResponse({"error": "there is no such action"}, status_code=404)
        now_s = time.time()
        record = {"at_s": now_s, "action": name, "by": client, "through": "dashboard"} | details
        history.append("audit", pool, now_s, record)
        return JSONResponse({"done": name})

    return app


async def _read(request: Request) -> bytes:
    """The body, read until it is complete or longer than `_MAX_BODY`, so that no request fills the memory."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MAX_BODY:
            break
    return body


def _refuse(request: Request, config: DashboardConfig, csrf: str) -> Response | None:
    """The response that refuses the request; None if it is allowed."""
    if config.token is None:
        host = request.headers.get("host", "")
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if name not in _LOCAL:  # DNS rebinding: a foreign name that resolves to this machine
            return JSONResponse({"error": "only as localhost; elsewhere a token is needed"}, status_code=421)
    elif not _has_token(request, config.token):
        return JSONResponse({"error": "a token is needed: open /?token=..."}, status_code=401)
    if request.method not in ("GET", "HEAD"):
        origin = request.headers.get("origin")
        if origin is not None and origin.split("://", 1)[-1] != request.headers.get("host"):
            return JSONResponse({"error": "posted from another site"}, status_code=403)
        if config.actions is not None and not _same(request.headers.get("x-csrf-token", ""), csrf):
            return JSONResponse({"error": "the session has changed: load the page again"}, status_code=403)
    return None


def _has_token(request: Request, token: str) -> bool:
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    return any(
        _same(candidate, token)
        for candidate in (given, request.cookies.get(_COOKIE, ""), request.query_params.get("token", ""))
    )


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())
