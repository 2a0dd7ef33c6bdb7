"""The parts of one gateway replica, made from its settings and joined. What it does not know: when they run (`app.py`)."""

from __future__ import annotations

from dataclasses import dataclass

from foundry.gateway.blocks import Countries, Networks
from foundry.gateway.cache.answers import AnswerCache
from foundry.gateway.cache.assembly import answer_cache
from foundry.gateway.delivery import Delivery
from foundry.gateway.guardrails.workers import Workers
from foundry.gateway.inner import Inner
from foundry.gateway.intake import Intake
from foundry.gateway.lifecycle import Lifecycle
from foundry.gateway.limits.wire import LedgerClient
from foundry.gateway.limits.wiring import Limits
from foundry.gateway.progress import Progress
from foundry.gateway.routing.wiring import Routing
from foundry.gateway.signing import public_key_from_pem
from foundry.gateway.snapshot import SnapshotStore
from foundry.gateway.stateful.desk import Desk
from foundry.gateway.stateful.state import State
from foundry.gateway.surface import Surface, endpoints
from foundry.gateway.transport import Transport
from foundry.metrics.open_streams import OpenStreams
from foundry.metrics.spool import Spool
from foundry.metrics.writer import Shipper
from foundry.settings import Settings


class Traffic:
    """Inference requests from outside that are being served."""

    __slots__ = ("in_flight",)

    def __init__(self) -> None:
        self.in_flight = 0


@dataclass(frozen=True, slots=True)
class Plant:
    """What every request shares: connections, configuration, records."""

    transport: Transport
    workers: Workers
    snapshots: SnapshotStore
    spool: Spool
    shipper: Shipper
    progress: Progress
    delivery: Delivery

    @classmethod
    def of(cls, settings: Settings, gateway_id: str, *, sends_request_id: bool) -> Plant:
        """Raises ConfigurationError when a secret is missing."""
        gateway = settings.gateway
        transport = Transport(
            connect_timeout_s=gateway.connect_timeout_s, read_timeout_s=gateway.read_timeout_s
        )
        workers = Workers(gateway.guard_workers)
        snapshots = SnapshotStore(
            settings.home / "snapshots" / f"{gateway.cluster}.json",
            cluster=gateway.cluster,
            public_key=public_key_from_pem(settings.secret("snapshot_public.pem")),
            engine_token=settings.secret("engine.token"),
            workers=workers,
            countries=Countries(gateway.country_database) if gateway.country_database else None,
        )
        folder = settings.home / "spool" / gateway_id
        spool = Spool(folder, segment_bytes=gateway.spool_segment_bytes, max_bytes=gateway.spool_max_bytes)
        shipper = Shipper(
            folder, settings, interval_s=gateway.ship_interval_s, batch_rows=gateway.ship_batch_rows
        )
        progress = Progress(OpenStreams(folder), cluster=gateway.cluster, gateway=gateway_id)
        delivery = Delivery(
            transport=transport,
            sink=spool,
            progress=progress,
            cluster=gateway.cluster,
            gateway=gateway_id,
            sends_request_id=sends_request_id,
        )
        return cls(transport, workers, snapshots, spool, shipper, progress, delivery)


@dataclass(frozen=True, slots=True)
class Works:
    """What serves: the lifecycle for inference, the desk for everything else, and what both of them use."""

    limits: Limits
    routing: Routing
    cache: AnswerCache
    state: State
    lifecycle: Lifecycle
    surface: Surface
    desk: Desk

    @classmethod
    def of(
        cls, settings: Settings, gateway_id: str, plant: Plant, traffic: Traffic, ledger: LedgerClient | None
    ) -> Works:
        """Everything is made here once; nothing runs yet."""
        gateway, delivery = settings.gateway, plant.delivery
        inner = Inner()
        limits = Limits(settings, gateway_id, ledger)
        routing = Routing(plant.transport, plant.snapshots, delivery.settle)
        cache = answer_cache(gateway, delivery, inner)
        state = State(settings, inner, delivery, busy=lambda: traffic.in_flight > gateway.batch_yield_above)
        intake = Intake(max_body_bytes=gateway.max_body_bytes, body_timeout_s=gateway.body_timeout_s)
        lifecycle = Lifecycle(
            snapshots=plant.snapshots,
            intake=intake,
            delivery=delivery,
            limiter=limits.limiter,
            routing=routing,
            cache=cache,
            responses=state.responses_entry,
            pepper=bytes.fromhex(settings.secret("key_pepper")),
            trusted_proxies=Networks(gateway.trusted_proxies),
            inner=inner,
        )
        inner.bind(lifecycle)
        surface = Surface(endpoints(state))
        return cls(
            limits, routing, cache, state, lifecycle, surface, Desk(surface, lifecycle, intake, delivery)
        )
