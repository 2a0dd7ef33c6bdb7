"""What a starting replica tells, and what becomes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from foundry.engines.phases import PhaseReporter, ReplicaPhase
from foundry.types.deployment import DeploymentPhase


def read(home: Path, replica: str) -> ReplicaPhase:
    return ReplicaPhase.model_validate_json(
        (home / "run" / "engines" / "chat" / f"{replica}.json").read_bytes()
    )


def test_each_phase_is_a_file_and_one_log_line(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as lines:
        reporter = PhaseReporter(tmp_path, "chat", "r1")
        reporter.report(DeploymentPhase.PULLING, "a model", 10.0)
        reporter.report(DeploymentPhase.PULLING, "a model", 50.0)
        reporter.report(DeploymentPhase.LOADING)
    assert [line["phase"] for line in lines] == ["pulling", "loading"]
    state = read(tmp_path, "r1")
    assert (state.phase, state.pid, state.eta_s) == (DeploymentPhase.LOADING, os.getpid(), None)
    reporter.report(DeploymentPhase.READY)
    assert read(tmp_path, "r1").eta_s == 0
    reporter.withdraw()
    assert list((tmp_path / "run" / "engines" / "chat").glob("*.json")) == []


def test_words_about_a_failure_outlive_the_replica(tmp_path: Path) -> None:
    reporter = PhaseReporter(tmp_path, "chat", "r1")
    reporter.report(DeploymentPhase.FAILED, "no such folder")
    reporter.withdraw()
    assert read(tmp_path, "r1").detail == "no such folder"


def test_the_next_start_expects_what_the_last_one_took(tmp_path: Path) -> None:
    PhaseReporter(tmp_path, "chat", "r1").report(DeploymentPhase.READY)
    (tmp_path / "run" / "engines" / "chat" / "last_start").write_text(json.dumps({"seconds": 40.0}))
    second = PhaseReporter(tmp_path, "chat", "r2")
    second.report(DeploymentPhase.LOADING)
    assert read(tmp_path, "r2").eta_s == pytest.approx(40.0, abs=2)


@pytest.mark.parametrize("content", ["", "{}", '{"seconds": "soon"}', "[]"])
def test_a_damaged_expectation_is_none(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "run" / "engines" / "chat"
    folder.mkdir(parents=True)
    (folder / "last_start").write_text(content)
    PhaseReporter(tmp_path, "chat", "r1").report(DeploymentPhase.LOADING)
    assert read(tmp_path, "r1").eta_s is None


def test_a_new_replica_clears_what_a_killed_one_left(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from foundry.engines.phases import PhaseReporter; "
        "from foundry.types.deployment import DeploymentPhase; "
        "PhaseReporter(Path(sys.argv[1]), 'chat', 'dead').report(DeploymentPhase.LOADING)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, stdout=subprocess.DEVNULL)
    assert read(tmp_path, "dead").phase is DeploymentPhase.LOADING
    PhaseReporter(tmp_path, "chat", "alive").report(DeploymentPhase.LOADING)
    folder = tmp_path / "run" / "engines" / "chat"
    assert [path.name for path in folder.glob("*.json")] == ["alive.json"]
