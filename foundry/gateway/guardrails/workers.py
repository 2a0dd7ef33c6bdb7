"""The gateway's side of the worker process: starts it when a profile needs it, asks it from threads, replaces it when it hangs.

`Workers` keeps a bounded pool of threads; each talks to one worker process of its own, one question at a time, so an answer
that does not come in time costs that process its life and nobody else anything. What it does not know: guards, profiles.
"""

from __future__ import annotations

import asyncio
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec
import structlog

from foundry.errors import GuardrailUnavailable
from foundry.gateway.guardrails.base import Finding
from foundry.gateway.guardrails.worker import HEAD, Question, Reply
from foundry.settings import environment

log = structlog.get_logger()

T = TypeVar("T")
_LOAD_S = 60.0
"""Loading a guard's libraries for the first time is not counted against a request's timeout, but against this."""
_END_S = 2.0
_encoder = msgspec.msgpack.Encoder()
_reply = msgspec.msgpack.Decoder(Reply)


class Worker:
    """One worker process; used by one thread at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._loaded: set[tuple[str, str]] = set()

    def ask(self, question: Question, timeout_s: float) -> list[Finding]:
        """What the guard found. Raises GuardrailUnavailable when it fails or takes longer than `timeout_s`."""
        guard = (question.kind, question.options_json)
        if guard not in self._loaded or self._process is None or self._process.poll() is not None:
            self._exchange(Question(question.kind, question.options_json, []), _LOAD_S)
            self._loaded.add(guard)
        return self._exchange(question, timeout_s) if question.texts else []

    def close(self) -> None:
        """End the process: its stdin is closed, which ends it; killed when it does not."""
        process, self._process = self._process, None
        self._loaded.clear()
        if process is None or process.stdin is None or process.stdout is None:
            return
        try:
            process.stdin.close()
        except BrokenPipeError:
            log.debug("guard_worker_was_gone", pid=process.pid)
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def _exchange(self, question: Question, timeout_s: float) -> list[Finding]:
        deadline = time.monotonic() + timeout_s
        payload = _encoder.encode(question)
        try:
            process = self._started()
            assert process.stdin is not None  # noqa: S101  a pipe, as it was started
            process.stdin.write(HEAD.pack(len(payload)) + payload)
            process.stdin.flush()
            (size,) = HEAD.unpack(self._read(process, HEAD.size, deadline))
            reply = _reply.decode(self._read(process, size, deadline))
        except (OSError, TimeoutError) as error:
            self._kill()
            raise GuardrailUnavailable(f"guard '{question.kind}': {error}", retry_after_s=1.0) from error
        if reply.error:
            raise GuardrailUnavailable(f"guard '{question.kind}' failed: {reply.error}", retry_after_s=1.0)
        return reply.findings

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "foundry.gateway.guardrails.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**environment(), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                start_new_session=True,
            )
            log.info("guard_worker_started", pid=self._process.pid)
        return self._process

    def _read(self, process: subprocess.Popen[bytes], size: int, deadline: float) -> bytes:
        assert process.stdout is not None  # noqa: S101  a pipe, as it was started
        descriptor, parts = process.stdout.fileno(), b""
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while len(parts) < size:
            left_ms = (deadline - time.monotonic()) * 1000
            if left_ms <= 0 or not poll.poll(left_ms):
                raise TimeoutError("it did not answer in time")
            data = os.read(descriptor, size - len(parts))
            if not data:
                raise BrokenPipeError("its process died")
            parts += data
        return parts

    def _kill(self) -> None:
        if self._process is not None:
            log.warning("guard_worker_killed", pid=self._process.pid)
            self._process.kill()
        self.close()


class Workers:
    """A bounded pool: at most `size` threads, each with a worker process of its own once it was needed."""

    def __init__(self, size: int = 1) -> None:
        self._size = size
        self._executor: ThreadPoolExecutor | None = None
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._workers: list[Worker] = []
        self._loaded: set[tuple[str, str]] = set()
        """Guards that answered before."""

    async def ask(
        self, kind: str, options_json: str, texts: Sequence[str], timeout_s: float
    ) -> list[Finding]:
        """Ask a worker. Waiting for one that is busy counts against `timeout_s`, loading does not. Raises GuardrailUnavailable."""
        question, guard, began = (
            Question(kind, options_json, list(texts)),
            (kind, options_json),
            time.monotonic(),
        )
        waits_for_load = guard not in self._loaded

        def work() -> list[Finding]:
            left_s = timeout_s if waits_for_load else timeout_s - (time.monotonic() - began)
            if left_s <= 0:
                raise GuardrailUnavailable(f"guard '{kind}': every worker was busy", retry_after_s=1.0)
            found = self._worker().ask(question, left_s)
            self._loaded.add(guard)
            return found

        return await self.run(work)

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads(), work)

    def warm(self, guards: Sequence[tuple[str, str]]) -> None:
        """Load guards (kind and options as JSON) ahead of the first request, in the background."""
        for kind, options_json in guards:
            self._threads().submit(self._load, Question(kind, options_json, []))

    def close(self) -> None:
        """End the threads and their processes."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            workers = tuple(self._workers)
        for worker in workers:
            worker.close()

    def _load(self, question: Question) -> None:
        try:
            self._worker().ask(question, _LOAD_S)
        except GuardrailUnavailable as error:
            log.warning("guard_not_loaded", kind=question.kind, reason=error.message)

    def _threads(self) -> ThreadPoolExecutor:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._size, thread_name_prefix="guard")
        return self._executor

    def _worker(self) -> Worker:
        worker: Worker | None = getattr(self._mine, "worker", None)
        if worker is None:
            worker = self._mine.worker = Worker()
            with self._lock:
                self._workers.append(worker)
        return worker
