"""How the platform's state looks: a live table on a terminal, one line per change elsewhere, and what to do next.

Pure functions from state to text or rich objects. What it does not know: where the state comes from.
"""

from __future__ import annotations

import time

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from foundry.local.instance import Instance
from foundry.local.state import SETTLED, PlatformState, ServiceState

_STYLES = {
    "ready": "green",
    "done": "green",
    "failed": "bold red",
    "backoff": "yellow",
    "waiting": "dim",
    "stopped": "dim",
}
_SYMBOLS = {"ready": "●", "done": "●", "failed": "✗", "backoff": "↻", "waiting": "○", "stopped": "○"}
_SLOW_AFTER_S = 4.0
"""A phase that lasts longer shows its last log line."""


def duration(seconds: float) -> str:
    """Seconds as a person says them: "8 s", "2 min 05 s", "3 h 20 min"."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def progress(service: ServiceState, now: float) -> str:
    """How far a service is: percent where known, else for how long it has been at it."""
    if service.phase in SETTLED:
        return f"{service.ready_after_s:.1f} s" if service.ready_after_s is not None else ""
    if service.phase == "backoff" and service.retry_at is not None:
        return f"again in {max(0.0, service.retry_at - now):.0f} s"
    elapsed = duration(now - service.since)
    return f"{service.percent:.0f}% · {elapsed}" if service.percent is not None else elapsed


def table(state: PlatformState, now: float | None = None) -> RenderableType:
    """The platform as a table; under it the last log line of each slow service."""
    now = time.time() if now is None else now
    grid = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for service in state.services:
        style = _STYLES.get(service.phase, "cyan")
        restarts = f" ({service.restarts} restarts)" if service.restarts else ""
        grid.add_row(
            Text(f"{_SYMBOLS.get(service.phase, '◌')} {service.name}", style=style),
            Text(service.phase, style=style),
            Text(progress(service, now), style="dim"),
            Text(service.detail + restarts, overflow="ellipsis", no_wrap=True),
        )
    slow = [s for s in state.services if _is_slow(s, now)]
    lines = [
        Text(f"  {s.name}: {s.last_log_line}", style="dim", overflow="ellipsis", no_wrap=True) for s in slow
    ]
    head = Text(f"{state.phase} · {duration(now - state.started_at)}", style="bold")
    return Group(head, grid, *lines)


def _is_slow(service: ServiceState, now: float) -> bool:
    moving = service.phase in {"starting", "backoff", "failed"}
    return moving and bool(service.last_log_line) and now - service.since > _SLOW_AFTER_S


class PlainLines:
    """State to lines for a log or a pipe: one per change of phase, and a sign of life for what is slow."""

    def __init__(self, *, reminder_s: float = 15.0) -> None:
        self._shown: dict[str, str] = {}
        self._told_at: dict[str, float] = {}
        self._reminder_s = reminder_s

    def changes(self, state: PlatformState, now: float | None = None) -> list[str]:
        """Lines for what changed since the last call."""
        now = time.time() if now is None else now
        lines: list[str] = []
        for service in state.services:
            mark = f"{service.phase}:{service.restarts}"
            slow = _is_slow(service, now) and now - self._told_at.get(service.name, now) >= self._reminder_s
            if self._shown.get(service.name) != mark or slow:
                self._shown[service.name] = mark
                self._told_at[service.name] = now
                lines.append(self._line(state, service, now, log=slow))
        return lines

    def _line(self, state: PlatformState, service: ServiceState, now: float, *, log: bool) -> str:
        parts = [f"[{now - state.started_at:6.1f} s] {service.name}: {service.phase}"]
        parts += [part for part in (progress(service, now), service.detail) if part and part != "0 s"]
        parts += [f"| {service.last_log_line}"] if log else []
        return " · ".join(parts)


def welcome(instance: Instance, *, model: str | None, show_key: bool, program: str = "foundry") -> str:
    """What a person needs after a start: URLs, key, a curl and three lines of Python. program: how to call us."""
    key_file = instance.layout.secrets / "admin.key"
    key = f"{instance.admin_key}   (shown this once; kept in {key_file})" if show_key else f"in {key_file}"
    lines = [
        f"OpenAI base URL  {instance.openai_url}",
        f"Control API      {instance.control_url}",
        f"Ray dashboard    {instance.dashboard_url}   (asks for a token: {instance.layout.secrets / 'ray.token'})",
        f"Admin key        {key}",
    ]
    if model is None:
        return "\n".join(
            [*lines, "", f"No model is deployed: `{program} up --model hf://org/name` deploys one."]
        )
    ask = f'{{"model":"{model}","messages":[{{"role":"user","content":"What is the capital of France?"}}]}}'
    return "\n".join(
        [
            *lines,
            "",
            f'eval "$({program} env)"      # sets OPENAI_BASE_URL and OPENAI_API_KEY',
            "",
            'curl "$OPENAI_BASE_URL/chat/completions" -H "Authorization: Bearer $OPENAI_API_KEY" \\',
            f"  -H 'Content-Type: application/json' -d '{ask}'",
            "",
            "from openai import OpenAI",
            f'answer = OpenAI().chat.completions.create(model="{model}", messages=[{{"role": "user", "content": "Hello!"}}])',
            "print(answer.choices[0].message.content)",
        ]
    )
