"""`foundry.toml`, watched: applied whole or not at all, hot, and told with line and column."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from foundry.settings import Settings
from tests.control_api.conftest import DEPLOYMENT, Api, running
from tests.control_api.test_snapshots import settled

pytestmark = pytest.mark.postgres

GOOD = """
[providers.lab]
base_url = "http://vllm.lab.internal:8000"
secret_env = "LAB_KEY"

[[prices]]
provider = "lab"
model = "qwen"
effective_from = 2026-01-01
input_per_mtok_usd = 0.05
output_per_mtok_usd = 0.15

[routes.chat]
guardrails = ["house"]
targets = [{ kind = "provider", provider = "lab", model = "qwen" }, { kind = "engine", deployment = "smollm2" }]

[limits.daily]
meter = "usd"
scope = "project"
amount = 10
window = "day"

[guardrails.house]
guards = [{ kind = "secrets" }]

[blocks.lan]
cidrs = ["10.0.0.0/8"]
"""


def save(settings: Settings, text: str) -> None:
    """As an editor saves: a new file in the old one's place."""
    temporary = settings.home / "foundry.toml.new"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(settings.config_file)


async def config(api: Api, status: str, *, after: str | None = None) -> dict[str, Any]:
    """The configuration's state once it has that status and was looked at after that moment."""
    async with asyncio.timeout(20):
        while True:
            found = (await api.client.get("/v1/gateway/config")).json()
            if found["status"] == status and found["checked_at"] != after:
                return found
            await asyncio.sleep(0.05)


async def test_a_file_is_applied_and_its_names_are_its_own(api: Api, settings: Settings) -> None:
    assert (await config(api, "absent"))["path"] == str(settings.config_file)
    save(settings, GOOD)
    state = await config(api, "applied")
    assert [(one["severity"], one["path"], one["line"]) for one in state["problems"]] == [
        ("warning", "routes.chat.targets[1].deployment", 15)
    ]
    snapshot = await settled(api)
    (route,) = snapshot.routes
    assert route.project_ids is None  # visible to every project
    lab, engine = route.targets
    assert lab.price is not None
    assert (lab.price.price_id, str(lab.price.input_per_mtok_usd)) == ("lab/qwen@2026-01-01", "0.05")
    assert (engine.phase, "made yet" in engine.phase_detail) == ("queued", True)  # type: ignore[union-attr]  # an engine
    assert snapshot.providers["lab"]["secret_env"] == "LAB_KEY"
    for path in ("routes/chat", "limits/daily", "guardrails/house", "blocks/lan"):
        got = (await api.client.get(f"/v1/{path}")).json()
        assert got["source"] == "file"
        body = got["spec"] if "spec" in got else {"targets": got["targets"]}
        for answer in (
            await api.client.put(f"/v1/{path}", json=body),
            await api.client.delete(f"/v1/{path}"),
        ):
            assert (answer.status_code, "configuration file" in answer.json()["detail"]) == (409, True)
    providers = {row["name"]: row for row in (await api.client.get("/v1/providers")).json()["items"]}
    assert (providers["lab"]["source"], providers["openai"]["source"]) == ("file", "shipped")


async def test_a_bad_file_changes_nothing_and_says_where(api: Api, settings: Settings) -> None:
    save(settings, GOOD)
    good = await config(api, "applied")
    before = await settled(api)
    save(settings, GOOD.replace('"lab", model', '"lob", model') + "\n[blocks.none]\n")
    state = await config(api, "rejected")
    assert [(one["path"], one["line"], one["column"], one["value"]) for one in state["problems"]] == [
        ("routes.chat.targets[0].provider", 15, 44, '"lob"'),
        ("routes.chat.targets[1].deployment", 15, 101, '"smollm2"'),
        ("blocks.none", 29, 9, ""),
    ]
    assert "'lab'" in state["problems"][0]["message"]
    assert (state["applied_at"], state["content_hash"]) == (good["applied_at"], good["content_hash"])
    assert await settled(api) == before
    save(settings, "[[[")
    syntax = await config(api, "rejected", after=state["checked_at"])
    assert [(one["line"], one["path"]) for one in syntax["problems"]] == [(1, "")]
    settings.config_file.unlink()
    gone = await config(api, "rejected", after=syntax["checked_at"])
    assert "stays in force" in gone["problems"][0]["message"]
    assert await settled(api) == before


async def test_a_change_reaches_the_snapshot_and_what_leaves_the_file_goes(
    api: Api, settings: Settings
) -> None:
    vendor = {"kind": "provider", "provider": "openai", "model": "m"}
    assert (await api.client.put("/v1/routes/mine", json={"targets": [vendor]})).is_success
    assert (await api.client.put("/v1/routes/chat", json={"targets": [vendor]})).is_success
    save(settings, GOOD)
    state = await config(api, "applied")
    assert "made by a call before" in " ".join(one["message"] for one in state["problems"])
    assert {route.name for route in (await settled(api)).routes} == {"mine", "chat"}
    mine = {"targets": [vendor], "routing": {"fallbacks": ["chat"]}, "guardrails": ["house"]}
    assert (await api.client.put("/v1/routes/mine", json=mine)).is_success
    save(settings, "")
    state = await config(api, "applied", after=state["checked_at"])
    assert {one["path"] for one in state["problems"]} == {
        "routes.mine.guardrails[0]",
        "routes.mine.routing.fallbacks[0]",
    }
    snapshot = await settled(api)
    assert [route.name for route in snapshot.routes] == ["mine"]
    assert (snapshot.limits, snapshot.guardrails, snapshot.blocks, snapshot.providers) == ((), (), (), {})


async def test_a_target_waits_for_its_deployment(api: Api, settings: Settings) -> None:
    save(settings, GOOD)
    waiting = await config(api, "applied")
    wrong = await api.client.put("/v1/deployments/smollm2", json=DEPLOYMENT | {"task": "embed"})
    assert (wrong.status_code, "chat" in wrong.json()["detail"]) == (409, True)
    assert (await api.client.put("/v1/deployments/smollm2", json=DEPLOYMENT)).is_success
    state = await config(api, "applied", after=waiting["checked_at"])
    assert state["problems"] == []
    (route,) = (await settled(api)).routes
    assert route.targets[1].phase_detail == "waiting for the reconciler"  # type: ignore[union-attr]  # an engine
    kept = await api.client.delete("/v1/deployments/smollm2")
    assert (kept.status_code, "chat" in kept.json()["detail"]) == (409, True)


async def test_a_second_process_takes_over_and_finds_nothing_to_do(api: Api, settings: Settings) -> None:
    save(settings, GOOD)
    await config(api, "applied")
    version = (await settled(api)).version
    async with running(settings) as other:
        assert (await config(other, "applied"))["path"] == str(settings.config_file)
        save(
            settings,
            GOOD + "\n[limits.more]\nmeter = 'requests'\nscope = 'key'\namount = 5\nwindow = 'day'\n",
        )
        async with asyncio.timeout(20):
            while (await other.client.get("/v1/limits/more")).status_code != 200:
                await asyncio.sleep(0.05)
    assert (await settled(api)).version == version + 1
