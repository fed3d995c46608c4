"""`prefect-intelligent mcp`: five commands as read-only tools of the Model Context Protocol, over stdio.

A tool is its command, asked for JSON: what an assistant is told is what an operator reads.
"""

from __future__ import annotations

import io
import json
import threading
from contextlib import redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any, Final

from prefect_intelligent import __version__
from prefect_intelligent.cli.options import Config, Pool
from prefect_intelligent.errors import InvalidInputError, MissingExtraError

if TYPE_CHECKING:
    from mcp.server import MCPServer

_INSTRUCTIONS: Final = (
    "Answers about a work pool of a Prefect server: why a run does not start, when runs start and end, why the "
    "controller decided as it did, which deployments are healthy, what runs have cost. Nothing is changed. Advice "
    "names commands for a person to run."
)
_ONE_AT_A_TIME: Final = threading.Lock()  # commands print to the one standard output of the process


def command(*, pool: Pool = None, config: Config = None) -> int:
    """Serve until standard input ends."""
    make_server(pool, config).run("stdio")
    return 0


def make_server(pool: str | None = None, config: str | None = None) -> MCPServer[Any]:
    """The server with its tools.

    Args:
        pool: Work pool of questions that name none.
        config: Settings file.

    Raises:
        MissingExtraError: The SDK is not installed.
    """
    try:
        from mcp.server import MCPServer
        from mcp.types import ToolAnnotations
    except ImportError as error:
        raise MissingExtraError("the MCP server", "mcp") from error

    server: MCPServer[Any] = MCPServer(
        "prefect-intelligent", version=__version__, instructions=_INSTRUCTIONS, log_level="WARNING"
    )
    common = [] if config is None else [f"--config={config}"]

    def about(name: str | None) -> list[str]:
        chosen = name or pool
        return common if chosen is None else [*common, f"--pool={chosen}"]

    def why(subject: str) -> Any:
        """Why a run does not start: every reason, the one thing to do, and when it starts otherwise.

        The subject is the id or the name of a flow run, or "flow/deployment" for its next run.
        """
        return answer("why", _positional(subject), *common)

    def eta(run: str | None = None, pool: str | None = None) -> Any:
        """When runs start and end (Unix seconds, median and 90 %), and how likely they are to be late.

        One run by its id, or all live runs of the pool (without one, the pool of the settings).
        """
        return answer("eta", *([] if run is None else [_positional(run)]), *about(pool))

    def explain(queue: str | None = None, pool: str | None = None) -> Any:
        """The controller's last decision on a pool, queue by queue or for one work queue, with its reasons."""
        return answer("explain", *([] if queue is None else [f"--queue={queue}"]), *about(pool))

    def health(last: str = "30d", pool: str | None = None) -> Any:
        """Status, score and error budget of each deployment over a span such as 30d, worst first."""
        return {"deployments": answer("health", f"--last={last}", *about(pool))}

    def report(last: str = "7d", pool: str | None = None) -> Any:
        """Waiting, lateness, failures and money of a span such as 7d, by queue, deployment, version and hour."""
        return answer("report", f"--last={last}", *about(pool))

    for tool in (why, eta, explain, health, report):
        hints = ToolAnnotations(read_only_hint=True, destructive_hint=False, open_world_hint=False)
        server.add_tool(tool, annotations=hints, structured_output=False)
    return server


def answer(*words: str) -> Any:
    """What a command prints as JSON; its text where it has nothing to show.

    Raises:
        ToolError: The command cannot answer; the message is what it says on standard error.
    """
    from mcp.server.mcpserver.exceptions import ToolError

    from prefect_intelligent.cli import main

    said, told = io.StringIO(), io.StringIO()
    with _ONE_AT_A_TIME, redirect_stdout(said), redirect_stderr(told):
        code = main([*words, "--json"])
    if code > 1:
        raise ToolError(told.getvalue().strip() or f"{words[0]} ended with exit code {code}")
    try:
        return json.loads(said.getvalue())
    except ValueError:
        return {"text": said.getvalue().strip()}


def _positional(text: str) -> str:
    """An argument that cannot be taken for an option.

    Raises:
        InvalidInputError: It begins with a dash.
    """
    if text.startswith("-"):
        raise InvalidInputError("argument", text, "must not begin with a dash")
    return text
