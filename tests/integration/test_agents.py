"""Tool-using conversations through the gateway on every provider: an SDK, an agent framework, a coding tool."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from support.cases import CASES, Case
from support.gateway import Gateway, environment
from support.replay import Answer, Upstream
from support.turns import Turn, conversation
from support.whole import KEY, Whole

EACH = pytest.mark.parametrize("case", CASES, ids=[case.provider for case in CASES])
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TURNS = (Turn(tool="get_weather", arguments={"city": "Paris"}), Turn("It is sunny in Paris."))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    """One embedded gateway: what differs between topologies is not what an agent sees."""
    with Upstream(Answer.of({})) as upstream:
        env = environment(upstream.url, GATEWAY_API_KEY=KEY)
        with Gateway("embedded", tmp_path_factory.mktemp("agents"), env) as gateway:
            yield Whole(gateway, upstream)


def script(whole: Whole, case: Case, *turns: Turn) -> None:
    whole.upstream.reset(script=conversation(case.provider, turns))


@EACH
@pytest.mark.parametrize("stream", [False, True])
async def test_the_openai_sdk_calls_a_tool_and_answers(running: Whole, case: Case, stream: bool) -> None:
    script(running, case, *TURNS)
    history: list[Any] = [{"role": "user", "content": "How is the weather in Paris?"}]
    async with running.sdk() as sdk:
        first = await ask(sdk, case.name, history, stream)
        assert first.tool_calls
        (call,) = first.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Paris"})
        history.append(first.model_dump(exclude_none=True))
        history.append({"role": "tool", "tool_call_id": call.id, "content": "sunny, 25 degrees"})
        second = await ask(sdk, case.name, history, stream)
    assert second.content == "It is sunny in Paris."
    assert "sunny, 25 degrees" in running.upstream.requests[1].body.decode()
    if case.provider == "gemini":
        assert "c2lnbmF0dXJl" in running.upstream.requests[1].body.decode(), "the thought signature went back"


async def ask(sdk: openai.AsyncOpenAI, model: str, history: list[Any], stream: bool) -> Any:
    if not stream:
        whole = await sdk.chat.completions.create(model=model, messages=history, tools=[WEATHER])
        return whole.choices[0].message
    async with sdk.chat.completions.stream(model=model, messages=history, tools=[WEATHER]) as events:
        final = await events.get_final_completion()
    return final.choices[0].message


@EACH
@pytest.mark.parametrize("stream", [False, True])
async def test_an_agent_framework_calls_a_tool_and_answers(running: Whole, case: Case, stream: bool) -> None:
    script(running, case, *TURNS)
    asked: list[str] = []

    def get_weather(city: str) -> str:
        """The weather in a city."""
        asked.append(city)
        return "sunny, 25 degrees"

    async with running.sdk() as sdk:
        model = OpenAIChatModel(case.name, provider=OpenAIProvider(openai_client=sdk))
        agent = Agent(model, tools=[get_weather])
        if stream:
            async with agent.run_stream("How is the weather in Paris?") as result:
                output = await result.get_output()
        else:
            output = (await agent.run("How is the weather in Paris?")).output
    assert (asked, output) == (["Paris"], "It is sunny in Paris.")
    assert "sunny, 25 degrees" in running.upstream.requests[1].body.decode()


@EACH
def test_a_coding_tool_does_its_work(running: Whole, case: Case, tmp_path: Path) -> None:
    script(
        running,
        case,
        Turn(tool="bash", arguments={"command": "echo made by the agent > made.txt"}),
        Turn(tool="bash", arguments={"command": "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"}),
    )
    env = environment(None) | {
        "HOME": str(tmp_path),
        "MSWEA_GLOBAL_CONFIG_DIR": str(tmp_path / "config"),
        "MSWEA_CONFIGURED": "true",
        "MSWEA_COST_TRACKING": "ignore_errors",
        "MSWEA_SILENT_STARTUP": "1",
        "OPENAI_API_KEY": KEY,
        "OPENAI_API_BASE": f"{running.gateway.http}/v1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    options = ["--task", "Make a file.", "--model", f"openai/{case.name}", "--yolo", "--exit-immediately"]
    command = [sys.executable, "-m", "minisweagent.run.mini", *options, "--output", str(tmp_path / "run.json")]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert (tmp_path / "made.txt").read_text() == "made by the agent\n", done.stdout + done.stderr
    assert len(running.upstream.requests) == 2
