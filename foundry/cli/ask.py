"""`foundry chat`: one question to the gateway, streamed to the terminal; tokens and cost on standard error.

It speaks HTTP with `httpx` as any client would. What it does not know: engines, prices.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foundry.cli.context import DEFAULT_HOME, HomeOption, control, running
from foundry.cli.resources import first_chat_route
from foundry.errors import FoundryError, NotFound, UpstreamBroke, UpstreamRefused, UpstreamUnreachable

if TYPE_CHECKING:
    import httpx

    from foundry.local.instance import Instance

_TIMEOUT_S = 300.0
_COST_WAIT_S = 3.0
"""Usage is shipped every second: how long we wait for the cost of what we just asked."""


def chat(
    prompt: Annotated[str, typer.Argument(help="What to ask; '-' reads it from standard input.")],
    home: HomeOption = DEFAULT_HOME,
    model: Annotated[str | None, typer.Option(help="Route to ask; default: the first chat route.")] = None,
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    temperature: Annotated[float, typer.Option(min=0, help="0: always the most likely answer.")] = 0.0,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer in tokens.")] = None,
    no_stream: Annotated[bool, typer.Option("--no-stream", help="Wait for the whole answer.")] = False,
) -> None:
    """Ask a model and stream the answer.

    Examples:  foundry chat "What is the capital of France?"    git diff | foundry chat - --system "Write a commit message"
    """
    instance = running(home)
    route = model or first_chat_route(instance)
    if route is None:
        raise NotFound("no chat route exists: `foundry up --model hf://org/name` deploys a model")
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": sys.stdin.read() if prompt == "-" else prompt})
    body: dict[str, Any] = {
        "model": route,
        "messages": messages,
        "stream": not no_stream,
    }  # Any: free-form JSON
    body |= {
        name: value
        for name, value in (("temperature", temperature), ("max_tokens", max_tokens))
        if value is not None
    }
    if not no_stream:
        body["stream_options"] = {"include_usage": True}
    began = time.monotonic()
    usage, headers = _ask(instance, body)
    _say_cost(instance, route, usage, headers, time.monotonic() - began)


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(chat)


def _ask(instance: Instance, body: dict[str, Any]) -> tuple[dict[str, Any], httpx.Headers]:
    import httpx

    client = httpx.Client(
        base_url=instance.openai_url,
        headers={"Authorization": f"Bearer {instance.admin_key}"},
        timeout=_TIMEOUT_S,
        trust_env=False,
    )
    try:
        with client, client.stream("POST", "/chat/completions", json=body) as response:
            if not response.is_success:
                raise _refusal(response)
            if not body["stream"]:
                answer = json.loads(response.read())
                print(answer["choices"][0]["message"]["content"] or "")
                return answer.get("usage") or {}, response.headers
            return _print_stream(response), response.headers
    except httpx.TransportError as error:
        raise UpstreamUnreachable(
            f"{instance.openai_url} broke off: {error}; see `foundry status`"
        ) from error


def _print_stream(response: httpx.Response) -> dict[str, Any]:
    usage: dict[str, Any] = {}
    for event in events(response.iter_lines()):
        if "error" in event:
            print()
            raise UpstreamBroke(f"the answer broke off: {event['error'].get('message', event['error'])}")
        usage = event.get("usage") or usage
        for choice in event.get("choices", []):
            print(choice.get("delta", {}).get("content") or "", end="", flush=True)
    print()
    return usage


def events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """JSON events of a server-sent stream, up to `[DONE]`."""
    for line in lines:
        data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
        if data == "[DONE]":
            return
        if data:
            yield json.loads(data)


def _refusal(response: httpx.Response) -> FoundryError:
    content = response.read()
    try:
        error = json.loads(content)["error"]
        words = f"{error.get('message')} (code {error.get('code')})"
    except (ValueError, KeyError, TypeError, AttributeError):
        words = content[:200].decode("utf-8", errors="replace")
    request_id = response.headers.get("x-request-id", "none")
    return UpstreamRefused(
        f"{response.status_code}: {words}, request {request_id}", status=response.status_code
    )


def _say_cost(
    instance: Instance, route: str, usage: dict[str, Any], headers: httpx.Headers, elapsed_s: float
) -> None:
    cost = headers.get("x-foundry-cost-usd")
    if cost is None and sys.stderr.isatty():
        cost = _recorded_cost(instance, headers.get("x-request-id", ""))
    tokens = f"{usage.get('prompt_tokens', '?')} in, {usage.get('completion_tokens', '?')} out"
    parts = [route, f"{tokens} tokens", f"{elapsed_s:.1f} s", *([f"${cost}"] if cost else [])]
    sys.stderr.write(f"[{' · '.join(parts)}]\n")


def _recorded_cost(instance: Instance, request_id: str) -> str | None:
    deadline = time.monotonic() + _COST_WAIT_S
    try:
        with control(instance) as client:
            while time.monotonic() < deadline:
                rows = client.usage(limit=1, request_id=request_id)
                if rows:
                    return None if rows[0].get("cost_usd") is None else str(rows[0]["cost_usd"])
                time.sleep(0.3)
    except FoundryError:
        return None  # the answer was given; its price can be seen later with `foundry usage`
    return None
