"""A gateway in a process of its own, for tests that kill it.

Run: `python -m tests.support.gateway_process HOME GATEWAY_ID SETTINGS_JSON [PORT METRICS_URL]`; prints its root URL on the first line.
With a port it is one of several on one home, whose ledger of limits cannot be reached (its snapshot has no limits to hold).
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from foundry.errors import LimitsUnavailable
from foundry.gateway.app import Gateway
from foundry.gateway.limits.wire import Calls, Reply, Report
from foundry.settings import ControlSettings, GatewaySettings, MetricsSettings, Settings
from tests.support.asgi import serve_asgi


class _NoLedger:
    async def sync(self, report: Report) -> Reply:
        raise LimitsUnavailable(f"no ledger for {report.replica}")

    async def watch(self, replica: str, epoch: str, seen: int) -> Calls:
        raise LimitsUnavailable(f"no ledger for {replica} ({epoch}, {seen})")


async def _main(
    home: Path, gateway_id: str, fields: dict[str, object], port: int = 0, metrics_url: str = ""
) -> None:
    settings = Settings(
        home=home,
        gateway=GatewaySettings.model_validate({"cluster": "test", **fields}),
        control=ControlSettings(url="http://127.0.0.1:9"),
        metrics=MetricsSettings(url=metrics_url) if metrics_url else MetricsSettings(),
    )
    gateway = Gateway(settings, gateway_id=gateway_id, ledger=_NoLedger() if port else None)
    await gateway.start()
    async with serve_asgi(gateway, port) as url:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    PORT = int(sys.argv[4]) if sys.argv[4:] else 0
    METRICS_URL = sys.argv[5] if sys.argv[5:] else ""
    asyncio.run(_main(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), PORT, METRICS_URL))
