"""A loopback double of Ray Serve's REST API on the dashboard: scripted states, the real paths, status codes and shapes."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web


class ServeDouble:
    """Keeps what was submitted; a test says how far each application has come."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.puts: list[dict[str, Any]] = []
        self.applications: dict[str, dict[str, Any]] = {}
        self.log_line = ""
        self.refuse: tuple[int, str] | None = None
        """Answer every PUT with this status and text."""
        self.during_put: Callable[[], Awaitable[object]] | None = None
        """Runs before a PUT is answered."""
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self, port: int) -> None:
        app = web.Application()
        app.router.add_get("/api/serve/applications/", self._get)
        app.router.add_put("/api/serve/applications/", self._put)
        app.router.add_get("/api/v0/logs/file", self._log)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{port}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def set_state(
        self, name: str, status: str, *, message: str = "", replicas: int = 0, wanted: int = 1
    ) -> None:
        """Bring an application into a state; `replicas` of them are RUNNING, or STARTING while it deploys."""
        state = "STARTING" if status in {"DEPLOYING", "DEPLOY_FAILED"} else "RUNNING"
        rows = [
            {
                "replica_id": f"r{n}",
                "state": state,
                "actor_id": f"a{n}",
                "pid": 100 + n,
                "start_time_s": float(n),
            }
            for n in range(replicas)
        ]
        part = {
            "name": "Engine",
            "status": status,
            "message": message,
            "target_num_replicas": wanted,
            "replicas": rows,
        }
        self.applications[name] |= {"status": status, "message": message, "deployments": {"Engine": part}}

    def _authorised(self, request: web.Request) -> web.Response | None:
        shown = request.headers.get("Authorization", "")
        if not shown:
            return web.Response(status=401, text="Unauthorized: Missing authentication token")
        if shown != f"Bearer {self.token}":
            return web.Response(status=403, text="Forbidden: Invalid authentication token")
        return None

    async def _get(self, request: web.Request) -> web.Response:
        refusal = self._authorised(request)
        details = {
            "controller_info": {},
            "proxies": {},
            "applications": self.applications,
            "target_capacity": None,
        }
        return refusal or web.json_response(details)

    async def _put(self, request: web.Request) -> web.Response:
        if (refusal := self._authorised(request)) is not None:
            return refusal
        if self.refuse is not None:
            return web.Response(status=self.refuse[0], text=self.refuse[1])
        config = await request.json()
        if self.during_put is not None:
            await self.during_put()
        self.puts.append(config)
        wanted = {row["name"]: row for row in config["applications"]}
        self.applications = {
            name: self.applications.get(name)
            or {
                "name": name,
                "route_prefix": row["route_prefix"],
                "status": "DEPLOYING",
                "message": "",
                "last_deployed_time_s": time.time() - 1,
                "deployments": {},
            }
            for name, row in wanted.items()
        }
        return web.Response()

    async def _log(self, request: web.Request) -> web.Response:
        return self._authorised(request) or web.Response(text=f"INFO first line\n{self.log_line}\n")


@asynccontextmanager
async def serve_double(token: str, port: int) -> AsyncGenerator[ServeDouble]:
    double = ServeDouble(token)
    await double.start(port)
    try:
        yield double
    finally:
        await double.stop()
