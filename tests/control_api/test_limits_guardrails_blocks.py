"""Limits, guardrail profiles and blocking rules: by name, checked against each other, and in the snapshot."""

from __future__ import annotations

from typing import Any

import pytest

from tests.control_api.conftest import Api
from tests.control_api.test_snapshots import settled

pytestmark = pytest.mark.postgres

LIMIT = {"name": "daily", "meter": "requests", "scope": "key", "amount": "100", "window": "day"}
PROFILE = {"name": "house", "guards": [{"kind": "secrets", "action": "redact"}]}
BLOCK = {"name": "lan", "cidrs": ["10.0.0.0/8"], "allow": True}
VENDOR = {"kind": "provider", "provider": "openai", "model": "gpt-4o-mini"}
NOUNS = {"limits": LIMIT, "guardrails": PROFILE, "blocks": BLOCK}


async def put(api: Api, noun: str, body: dict[str, Any]) -> None:
    answer = await api.client.put(f"/v1/{noun}/{body['name']}", json=body)
    assert answer.status_code == 200, answer.text


async def refusal(api: Api, path: str, body: dict[str, Any]) -> str:
    answer = await api.client.put(path, json=body)
    assert answer.status_code == 400, answer.text
    return answer.json()["detail"]


@pytest.mark.parametrize("noun", NOUNS)
async def test_each_is_made_replaced_listed_and_deleted(api: Api, noun: str) -> None:
    body = NOUNS[noun]
    path = f"/v1/{noun}/{body['name']}"
    made = (await api.client.put(path, json=body)).json()
    assert (made["name"], made["source"]) == (body["name"], "api")
    assert made["spec"].items() >= body.items() or noun == "guardrails"
    again = (await api.client.put(path, json=body)).json()
    assert again == made
    assert (await api.client.get(path)).json() == made
    assert (await api.client.get(f"/v1/{noun}")).json()["items"] == [made]
    other = await api.client.put(f"/v1/{noun}/other", json=body)
    assert (other.status_code, other.json()["param"]) == (400, "name")
    assert (await api.client.delete(path)).status_code == 204
    assert (await api.client.get(path)).status_code == (await api.client.delete(path)).status_code == 404


async def test_the_snapshot_carries_all_of_it(api: Api) -> None:
    for noun, body in NOUNS.items():
        await put(api, noun, body)
    embed = {"task": "embed", "targets": [VENDOR | {"model": "text-embedding-3-small"}]}
    assert (await api.client.put("/v1/routes/embed", json=embed)).status_code == 200
    shares = {"weight": 3, "max_concurrency": 8}
    route = {
        "targets": [VENDOR | shares, VENDOR | {"model": "gpt-4o", "canary_percent": 5}],
        "routing": {"policy": "weighted", "retries": {"attempts": 1}, "midstream": "continue"},
        "guardrails": ["house"],
        "cache": {"ttl_s": 60, "semantic": {"embedding_route": "embed"}},
    }
    made = await api.client.put("/v1/routes/chat", json=route)
    assert made.status_code == 200, made.text
    key = (await api.client.post("/v1/keys", json={"name": "k", "guardrails": ["house"]})).json()
    snapshot = await settled(api)
    entry = next(entry for entry in snapshot.routes if entry.name == "chat")
    assert (entry.routing.policy, entry.routing.retries.attempts) == ("weighted", 1)
    assert entry.cache is not None
    assert entry.cache.semantic is not None
    assert [(target.weight, target.canary_percent) for target in entry.targets] == [(3, None), (1, 5)]
    assert next(one for one in snapshot.keys if one.key_id == key["id"]).guardrails == ("house",)
    assert [one.name for one in (*snapshot.limits, *snapshot.guardrails, *snapshot.blocks)] == [
        "daily",
        "house",
        "lan",
    ]
    got = (await api.client.get("/v1/routes/chat")).json()
    assert got == made.json()
    assert (got["routing"]["policy"], got["guardrails"], got["source"]) == ("weighted", ["house"], "api")


async def test_one_vendor_model_at_two_addresses_has_two_target_ids(api: Api) -> None:
    here, there = (
        VENDOR | {"base_url": "https://eu.example.com"},
        VENDOR | {"base_url": "https://us.example.com"},
    )
    assert (await api.client.put("/v1/routes/two", json={"targets": [here, there]})).status_code == 200
    (entry,) = (await settled(api)).routes
    assert [target.target_id for target in entry.targets] == ["openai/gpt-4o-mini", "openai/gpt-4o-mini#2"]


async def test_what_cannot_hold_is_refused_with_a_next_step(api: Api) -> None:
    chat = {"targets": [VENDOR]}
    assert "no guardrail profile 'hose'" in await refusal(
        api, "/v1/routes/r", chat | {"guardrails": ["hose"]}
    )
    lost = chat | {"routing": {"fallbacks": ["nowhere"]}}
    assert "no route 'nowhere'" in await refusal(api, "/v1/routes/r", lost)
    assert "canary or a shadow" in await refusal(
        api, "/v1/routes/r", {"targets": [VENDOR | {"canary_percent": 5}]}
    )
    timeless = await api.client.put("/v1/limits/daily", json=LIMIT | {"window": None})
    assert (timeless.status_code, timeless.json()["errors"][0]["location"]) == (400, "body.window")
    assert "no route 'x'" in await refusal(api, "/v1/limits/daily", LIMIT | {"routes": ["x"]})
    assert "host bits" in await refusal(api, "/v1/blocks/lan", BLOCK | {"cidrs": ["10.0.0.1/8"]})
    assert "without guards" in await refusal(api, "/v1/guardrails/house", PROFILE | {"guards": []})
    key = await api.client.post("/v1/keys", json={"name": "k", "guardrails": ["hose"]})
    assert (key.status_code, key.json()["param"]) == (400, "guardrails[0]")


GUARD: dict[str, Any] = {"kind": "jailbreak", "action": "block", "stages": ["input"]}


@pytest.mark.parametrize(
    ("guard", "param", "words"),
    [
        ({"kind": "jailbrake"}, "guards[0].kind", "use one of"),
        (
            {"kind": "json_schema", "action": "redact", "stages": ["output"]},
            "guards[0].action",
            "cannot redact",
        ),
        ({"kind": "json_schema"}, "guards[0].stages", "works at the stages"),
        ({"options": {"treshold": 1}}, "guards[0].options.treshold", "treshold"),
    ],
)
async def test_a_guard_that_could_not_work_is_refused(
    api: Api, guard: dict[str, Any], param: str, words: str
) -> None:
    answer = await api.client.put("/v1/guardrails/house", json={"name": "house", "guards": [GUARD | guard]})
    assert (answer.status_code, answer.json()["param"]) == (400, param), answer.text
    assert words in answer.json()["detail"]


async def test_a_rule_about_countries_needs_a_country_database(api: Api) -> None:
    answer = await api.client.put("/v1/blocks/abroad", json={"name": "abroad", "countries": ["DE"]})
    assert (answer.status_code, answer.json()["param"]) == (400, "countries")
    assert "gateway.country_database" in answer.json()["detail"]


async def test_fallbacks_may_not_come_back(api: Api) -> None:
    for name, fallbacks in (("c", []), ("b", ["c"]), ("a", ["b"])):
        body = {"targets": [VENDOR], "routing": {"fallbacks": fallbacks}}
        assert (await api.client.put(f"/v1/routes/{name}", json=body)).status_code == 200
    closing = {"targets": [VENDOR], "routing": {"hold": {"overflow_route": "a"}}}
    assert "a -> b -> c -> a" in await refusal(api, "/v1/routes/c", closing)


async def test_what_is_used_stays(api: Api) -> None:
    await put(api, "guardrails", PROFILE)
    assert (
        await api.client.put("/v1/routes/chat", json={"targets": [VENDOR], "guardrails": ["house"]})
    ).is_success
    await put(api, "limits", LIMIT | {"routes": ["chat"]})
    used = await api.client.delete("/v1/guardrails/house")
    assert (used.status_code, "route chat" in used.json()["detail"]) == (409, True)
    named = await api.client.delete("/v1/routes/chat")
    assert (named.status_code, "limit daily" in named.json()["detail"]) == (409, True)
    for path in ("/v1/limits/daily", "/v1/routes/chat", "/v1/guardrails/house"):
        assert (await api.client.delete(path)).status_code == 204
