"""The command line as a person meets it: exit statuses, messages, quoting, speed."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner

from foundry.cli import logs as log_command
from foundry.cli import render
from foundry.cli.app import app
from foundry.cli.ask import events
from foundry.cli.platform import config_lines
from foundry.cli.usage import parse_since, table
from foundry.errors import ConfigurationError, InvalidParameter, Unavailable
from foundry.local import instance as instances
from foundry.local.instance import Instance, Ports
from foundry.local.secrets import ensure
from foundry.local.state import PlatformState, ServicePhase, ServiceState
from foundry.settings import environment


def foundry(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "foundry.cli", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**environment(), **variables}
    )


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    """Started once, not running, in a home whose name needs quoting nowhere and breaks everywhere."""
    made = instances.load_or_create(tmp_path / "a home's $HOME")
    ensure(made.layout.secrets)
    made = msgspec.structs.replace(made, ports=Ports(serve=8000, control=8100, dashboard=8265, block=20_000))
    made.save()
    return made


def state(*services: ServiceState, age_s: float = 10.0) -> PlatformState:
    return PlatformState(
        instance_id="00000001", supervisor_pid=1, started_at=1000.0 - age_s, services=list(services)
    )


def line(name: str, phase: ServicePhase, **fields: object) -> ServiceState:
    return ServiceState(name=name, kind="process", phase=phase, since=990.0, **fields)  # type: ignore[arg-type]  # fields as the test names them


def test_env_is_safe_to_eval(instance: Instance) -> None:
    said = foundry("env", "--home", str(instance.home))
    assert said.returncode == 0
    variables = dict(shlex.split(row)[1].split("=", 1) for row in said.stdout.splitlines())
    assert variables == {"OPENAI_BASE_URL": "http://127.0.0.1:8000/v1", "OPENAI_API_KEY": instance.admin_key}


def test_errors_are_one_line_on_stderr_and_stdout_stays_empty(tmp_path: Path) -> None:
    said = foundry("env", FOUNDRY_HOME=str(tmp_path / "none"))
    assert said.returncode == 1
    assert said.stdout == ""
    assert said.stderr == f"foundry: there is no instance in {tmp_path / 'none'}: run `foundry up`\n"


def test_commands_that_need_a_running_platform_say_so(instance: Instance) -> None:
    for command in (
        ["models"],
        ["usage"],
        ["limits", "list"],
        ["routes", "rm", "x"],
        ["keys", "list"],
        ["chat", "hello"],
        ["deployments", "list"],
    ):
        said = CliRunner().invoke(app, [*command, "--home", str(instance.home)])
        assert isinstance(said.exception, Unavailable)
        assert "is not running: run `foundry up`" in str(said.exception)


def test_status_of_what_does_not_run(instance: Instance) -> None:
    said = foundry("status", "--json", "--home", str(instance.home))
    assert said.returncode == 3
    content = json.loads(said.stdout)
    assert content["running"] is False
    assert content["ports"]["serve"] == 8000


def test_down_of_what_does_not_run_is_fine(instance: Instance) -> None:
    said = foundry("down", "--home", str(instance.home))
    assert (said.returncode, said.stderr) == (0, "")
    assert "nothing was running" in said.stdout


def test_help_and_status_are_quick_and_import_nothing_heavy(instance: Instance) -> None:
    heavy = ["ray", "torch", "vllm", "httpx", "pydantic_settings", "sqlalchemy", "rich.live"]
    code = f"""
import sys; sys.argv = ["foundry", "status", "--home", {str(instance.home)!r}]
from foundry.cli import main
try: main()
except SystemExit: pass
print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment()
    )
    assert done.stderr.strip() == "[]"
    before = time.process_time()
    assert foundry("--help").returncode == 0
    assert time.process_time() - before < 0.5


def test_the_table_shows_progress_and_the_slow_ones_last_line() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    slow = line("model", "starting", percent=42.0, detail="pypi://m", last_log_line="converting 42%")
    ready = line("postgres", "ready", ready_after_s=1.25)
    again = line("ray", "backoff", retry_at=1004.0, restarts=2, detail="ended with status 1")
    console.print(render.table(state(slow, ready, again), now=1000.0))
    text = console.export_text()
    assert "42% · 10 s" in text
    assert "model: converting 42%" in text
    assert "1.2 s" in text
    assert "again in 4 s" in text
    assert "(2 restarts)" in text


def test_status_shows_what_is_wrong_with_the_file_and_nothing_else() -> None:
    shown = state(line("postgres", "ready"))
    assert config_lines(shown) == []
    shown.config_status, shown.config_problems = "rejected", ["foundry.toml:3:1: error: rutes: unknown table"]
    assert "stays in force" in config_lines(shown)[0]
    assert config_lines(shown)[1].strip() == shown.config_problems[0]


def test_plain_lines_tell_each_change_once_and_remind_of_the_slow() -> None:
    plain = render.PlainLines(reminder_s=15)
    first = state(line("ray", "starting", detail="Ray", last_log_line="raylet"))
    assert len(plain.changes(first, now=1000.0)) == 1
    assert plain.changes(first, now=1001.0) == []
    (reminder,) = plain.changes(first, now=1016.0)
    assert reminder.endswith("| raylet")
    assert plain.changes(state(line("ray", "ready", ready_after_s=3.0)), now=1017.0) == [
        "[  27.0 s] ray: ready · 3.0 s"
    ]


def test_welcome_shows_the_key_only_when_told_to(instance: Instance) -> None:
    shown = render.welcome(instance, model="m", show_key=True)
    hidden = render.welcome(instance, model="m", show_key=False)
    assert instance.admin_key in shown
    assert instance.admin_key not in hidden
    assert str(instance.layout.secrets / "admin.key") in hidden
    compile("\n".join(shown.splitlines()[-3:]), "<example>", "exec")


def test_usage_sums_decimals_and_counts_the_unpriced() -> None:
    row = {
        "received_at": "2026-01-01T00:00:00+00:00",
        "route": "m",
        "input_tokens": 1,
        "output_tokens": 2,
        "status": 200,
    }
    rows = [
        {**row, "cost_usd": "0.1", "price_status": "priced", "ttft_ms": 12.4},
        {**row, "cost_usd": "0.2", "price_status": "priced", "ttft_ms": None},
        {**row, "cost_usd": None, "price_status": "unknown", "ttft_ms": None},
    ]
    footers = [str(column.footer) for column in table(rows).columns]
    assert footers == ["3 records", "", "3", "6", "", "0.3 + 1 unpriced", ""]


def test_since_takes_ages_and_times() -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    assert parse_since("12h", now) == now - timedelta(hours=12)
    assert parse_since("2026-01-01T00:00:00+00:00", now) == now - timedelta(days=1)
    with pytest.raises(InvalidParameter, match="'soon'"):
        parse_since("soon", now)


def test_stream_events_end_at_done() -> None:
    lines = ['data: {"a": 1}', "", ": comment", 'data: {"a": 2}', "data: [DONE]", 'data: {"a": 3}']
    assert [event["a"] for event in events(iter(lines))] == [1, 2]


def test_logs_finds_services_and_replicas_and_names_what_there_is(instance: Instance) -> None:
    instance.layout.log("metrics").write_text("one\ntwo\n")
    serve = instance.layout.logs / "ray-last" / "serve"
    serve.mkdir(parents=True)
    (serve / "replica_gateway_gateway_ab12cd34.log").write_text("hello\n")
    (serve / "replica_smollm2_engine_ab12cd34.log").write_text("engine\n")
    assert log_command.files_of(instance, "gateway")[0].read_text() == "hello\n"
    assert log_command.files_of(instance, "smollm2")[0].read_text() == "engine\n"
    said = foundry("logs", "metrics", "-n", "1", "--home", str(instance.home))
    assert said.stdout == "two\n"
    missing = foundry("logs", "nope", "--home", str(instance.home))
    assert missing.returncode == 1
    assert "gateway, metrics, smollm2" in missing.stderr


def test_adding_a_deployment_names_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="smollm2, minilm, whisper-tiny, piper-joe"):
        CliRunner().invoke(app, ["deployments", "add", "parrot"], catch_exceptions=False)
    broken = tmp_path / "spec.json"
    broken.write_text('{"name": "x"}')
    with pytest.raises(ConfigurationError, match="is no DeploymentSpec"):
        CliRunner().invoke(app, ["deployments", "add", str(broken)], catch_exceptions=False)
