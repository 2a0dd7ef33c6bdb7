"""Deployments and routes as callers see them: wanting, changing, refusing, deleting."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import TypeAdapter

from control_api.auth.subject import Subject
from control_api.deployments import service as deployments
from control_api.organizations import service as organizations
from control_api.projects import service as projects
from control_api.routes import service as routes
from foundry.errors import Conflict, NotFound
from foundry.types.control import ProviderTargetSpec, RouteWrite, TargetSpec
from foundry.types.deployment import DeploymentSpec
from tests.control_api.conftest import DEPLOYMENT, ENGINE_ROUTE, Api
from tests.control_api.test_snapshots import settled

pytestmark = pytest.mark.postgres


async def test_a_deployment_is_wanted_changed_and_deleted(api: Api) -> None:
    made = (await api.client.put("/v1/deployments/smollm2", json=DEPLOYMENT)).json()
    assert (made["generation"], made["observed_generation"], made["status"]["phase"]) == (1, 0, "queued")
    same = (await api.client.put("/v1/deployments/smollm2", json=DEPLOYMENT)).json()
    assert same == made
    changed = (await api.client.put("/v1/deployments/smollm2", json=DEPLOYMENT | {"replicas": 2})).json()
    assert (changed["id"], changed["generation"], changed["spec"]["replicas"]) == (made["id"], 2, 2)
    assert (await api.client.get("/v1/deployments")).json()["items"] == [changed]
    gone = await api.client.delete("/v1/deployments/smollm2")
    assert (gone.status_code, gone.json()["status"]["phase"]) == (202, "deleting")
    again = await api.client.put("/v1/deployments/smollm2", json=DEPLOYMENT)
    assert (again.status_code, again.json()["code"]) == (409, "conflict")


async def test_a_route_needs_its_deployment_and_keeps_it(api: Api) -> None:
    await api.client.put("/v1/deployments/smollm2", json=DEPLOYMENT)
    vendor = {
        "kind": "provider",
        "provider": "openai",
        "model": "gpt-4o-mini",
        "base_url": None,
        "price": None,
    }
    body = {"targets": [*ENGINE_ROUTE["targets"], vendor]}
    made = await api.client.put("/v1/routes/org/smol", json=body)
    assert made.status_code == 200, made.text
    got = (await api.client.get("/v1/routes/org/smol")).json()
    assert got == made.json()
    given = [TypeAdapter[TargetSpec](TargetSpec).validate_python(target) for target in body["targets"]]
    assert got["targets"] == [
        target.model_dump(mode="json") for target in given
    ]  # in the order of preference
    wrong_task = await api.client.put("/v1/routes/e", json=ENGINE_ROUTE | {"task": "embed"})
    assert (wrong_task.status_code, wrong_task.json()["param"]) == (400, "targets[0].deployment")
    used = await api.client.delete("/v1/deployments/smollm2")
    assert (used.status_code, "org/smol" in used.json()["detail"]) == (409, True)
    other_task = await api.client.put("/v1/deployments/smollm2", json=DEPLOYMENT | {"task": "embed"})
    assert other_task.status_code == 409
    assert (await api.client.delete("/v1/routes/org/smol")).status_code == 204
    assert (await api.client.delete("/v1/deployments/smollm2")).status_code == 202
    late = await api.client.put("/v1/routes/late", json=ENGINE_ROUTE)
    assert (late.status_code, "being deleted" in late.json()["detail"]) == (400, True)


async def test_adapters_are_model_names_and_stay_while_routes_use_them(api: Api) -> None:
    adapted = DEPLOYMENT | {"adapters": {"poet": "file:///poet", "bard": "file:///bard"}}
    await api.client.put("/v1/deployments/smollm2", json=adapted)
    engine = {"kind": "engine", "deployment": "smollm2"}
    body = {"targets": [engine | {"adapter": "poet", "weight": 2}, engine]}
    made = await api.client.put("/v1/routes/verse", json=body)
    assert made.status_code == 200, made.text
    got = (await api.client.get("/v1/routes/verse")).json()
    assert got == made.json()
    assert [target["adapter"] for target in got["targets"]] == ["poet", None]
    (entry,) = (await settled(api)).routes
    assert [(target.target_id, target.model) for target in entry.targets] == [
        ("engine/smollm2/poet", "poet"),
        ("engine/smollm2", DEPLOYMENT["served_model_name"]),
    ]
    unknown = await api.client.put("/v1/routes/v2", json={"targets": [engine | {"adapter": "clerk"}]})
    assert (unknown.status_code, unknown.json()["param"]) == (400, "targets[0].adapter")
    assert "known are bard, poet" in unknown.json()["detail"]
    fewer = DEPLOYMENT | {"adapters": {"bard": "file:///bard"}}
    lost = await api.client.put("/v1/deployments/smollm2", json=fewer)
    assert (lost.status_code, "verse (adapter poet)" in lost.json()["detail"]) == (409, True)
    assert (await api.client.put("/v1/routes/verse", json={"targets": [engine]})).is_success
    assert (await api.client.put("/v1/deployments/smollm2", json=fewer)).is_success


async def test_concurrent_writers_of_one_name_make_one_row(api: Api) -> None:
    specs = [DEPLOYMENT | {"replicas": n} for n in range(1, 9)]
    answers = await asyncio.gather(*(api.client.put("/v1/deployments/smollm2", json=spec) for spec in specs))
    assert {answer.status_code for answer in answers} <= {200, 409}
    won = [answer.json() for answer in answers if answer.status_code == 200]
    final = (await api.client.get("/v1/deployments/smollm2")).json()
    assert final["generation"] == len(won)  # no update was lost
    assert len({answer["generation"] for answer in won}) == len(won)


async def test_another_organisation_sees_nothing_and_takes_nothing(api: Api) -> None:
    await api.client.put("/v1/deployments/smollm2", json=DEPLOYMENT)
    target = ProviderTargetSpec(provider="openai", model="gpt")
    await api.client.put("/v1/routes/r", json={"targets": [target.model_dump()]})
    async with api.runtime.database.write() as session:
        other = await organizations.ensure(session, "other")
        project = await projects.ensure(session, other.id, "default")
    stranger = Subject(key_id="key_x", organization_id=other.id, project_id=project.id, scopes=("admin",))
    async with api.runtime.database.write() as session:
        with pytest.raises(NotFound):
            await deployments.get(session, stranger, "smollm2")
        with pytest.raises(NotFound):
            await deployments.delete(session, stranger, "smollm2")
        with pytest.raises(NotFound):
            await routes.delete(session, stranger, "r")
        with pytest.raises(Conflict):
            await deployments.put(session, stranger, DeploymentSpec.model_validate(DEPLOYMENT))
        with pytest.raises(Conflict):
            await routes.put(session, stranger, "r", RouteWrite(targets=(target,)))


async def test_a_read_session_cannot_write(api: Api) -> None:
    subject = Subject(key_id="k", organization_id="org", project_id="prj", scopes=())
    async with api.runtime.database.read() as session:
        with pytest.raises(Exception, match="read-only transaction"):
            await deployments.put(session, subject, DeploymentSpec.model_validate(DEPLOYMENT))  # type: ignore[arg-type]  # that is the test


async def test_providers_tell_whether_their_secret_is_set(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    answer = await api.client.get("/v1/providers")
    rows = {row["name"]: row for row in answer.json()["items"]}
    assert (rows["openai"]["secret_set"], rows["groq"]["secret_set"]) == (True, False)
    assert "sk-test" not in answer.text
