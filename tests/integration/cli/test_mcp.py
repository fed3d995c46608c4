"""The MCP server as an assistant starts it: a process of its own, spoken to over its standard input and output."""

import asyncio
import json
import sys

import pytest

mcp = pytest.importorskip("mcp")

from tests.field.owners import Owner  # noqa: E402

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]


def ask(server, tmp_path, *calls):
    """Start the server, list its tools and make the calls; (tools by name, results)."""

    async def talk():
        command = mcp.StdioServerParameters(
            command=sys.executable,
            args=["-m", "prefect_intelligent", "mcp"],
            env=server.env(PREFECT_INTELLIGENT_DATA_DIR=str(tmp_path / "data")),
            cwd=str(tmp_path),
        )
        async with mcp.Client(command, read_timeout_seconds=120.0) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            return tools, [await client.call_tool(name, arguments) for name, arguments in calls]

    return asyncio.run(talk())


def test_five_read_only_tools_answer_as_their_commands_do(prefect_server, prefect_api, api, tmp_path):
    owner = Owner(api, api.pool(limit=0))
    run = owner.run(in_s=-1.0)
    pool = {"pool": owner.pool}
    tools, results = ask(
        prefect_server,
        tmp_path,
        ("why", {"subject": run}),
        ("eta", pool),
        ("explain", pool),
        ("health", pool),
        ("report", pool),
    )
    assert set(tools) == {"why", "eta", "explain", "health", "report"}
    assert all(tool.annotations.read_only_hint for tool in tools.values())
    assert not any(result.is_error for result in results)
    why, eta, explain, health, report = (json.loads(result.content[0].text) for result in results)
    assert why["reasons"][0]["reason"] == "pool_zero"
    assert why["advice"].startswith("prefect work-pool set-concurrency-limit")
    assert [row["run"] for row in eta["runs"]] == [run]
    assert eta["runs"][0]["start_p50_s"] is None
    assert "There is no decision" in explain["text"]
    assert health == {"deployments": []}
    assert report["total"]["runs"] == 0


def test_what_cannot_be_answered_is_an_error_in_words_and_the_server_goes_on(
    prefect_server, prefect_api, api, tmp_path
):
    owner = Owner(api)
    _, (unknown, option, fine) = ask(
        prefect_server,
        tmp_path,
        ("why", {"subject": "no-such-flow/d"}),
        ("why", {"subject": "--config=/etc/passwd"}),
        ("why", {"subject": owner.name}),
    )
    assert unknown.is_error
    assert "no-such-flow/d" in unknown.content[0].text
    assert option.is_error
    assert not fine.is_error
    assert json.loads(fine.content[0].text)["reasons"][0]["reason"] == "no_schedule"
