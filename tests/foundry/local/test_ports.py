"""Ports: free ones, remembered ones, and never the same for two instances."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from foundry.local import ports
from foundry.local.instance import BLOCK_SIZE, Ports
from foundry.local.ports import PortClaims


@pytest.fixture
def claims() -> Iterator[Callable[[], PortClaims]]:
    made: list[PortClaims] = []

    def make() -> PortClaims:
        made.append(PortClaims())
        return made[-1]

    yield make
    for one in made:
        one.release()


def test_two_instances_that_start_together_share_no_port(claims: Callable[[], PortClaims]) -> None:
    first, _ = ports.find("0000002a", None, claims())
    second, _ = ports.find("0000002a", None, claims())
    assert abs(first.block - second.block) >= BLOCK_SIZE
    assert not set(first.named().values()) & set(second.named().values())


def test_remembered_ports_stay(claims: Callable[[], PortClaims]) -> None:
    mine = claims()
    first, _ = ports.find("00000007", None, mine)
    mine.release()
    again, reasons = ports.find("00000007", first, claims())
    assert again == first
    assert reasons == []


def test_a_port_that_somebody_took_is_chosen_again_and_said(claims: Callable[[], PortClaims]) -> None:
    mine = claims()
    before, _ = ports.find("00000007", None, mine)
    mine.release()
    with (
        socket.create_server(("127.0.0.1", before.serve)),
        socket.create_server(("127.0.0.1", before.block + 5)),
    ):
        after, reasons = ports.find("00000007", before, claims(), patience_s=0.1)
    assert after.serve != before.serve
    assert after.block != before.block
    assert any(f"port {before.serve} is taken" in reason for reason in reasons)
    assert any(str(before.block) in reason for reason in reasons)


def test_ranges_of_a_block_are_disjoint_and_inside() -> None:
    some = Ports(serve=1, control=2, dashboard=3, block=20_000)
    singles = {port for port in some.named().values() if port >= 20_000}
    ranges = [set(some.ingress), set(some.ingress_grpc), set(some.workers), singles]
    assert len(set.union(*ranges)) == sum(len(one) for one in ranges)
    assert max(some.workers) < 20_000 + BLOCK_SIZE


def test_lingering_connections_do_not_make_a_port_taken() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    client = socket.create_connection(("127.0.0.1", port))
    accepted, _ = server.accept()
    accepted.close()  # the server's side closes first: TIME_WAIT on our port
    client.close()
    server.close()
    assert ports.is_free(port)


def test_own_ports_that_are_being_let_go_of_are_waited_for(claims: Callable[[], PortClaims]) -> None:
    mine = claims()
    before, _ = ports.find("00000007", None, mine)
    mine.release()
    holder = socket.create_server(("127.0.0.1", before.block + 5))
    letting_go = threading.Timer(0.3, holder.close)
    letting_go.start()
    after, reasons = ports.find("00000007", before, claims(), patience_s=10)
    letting_go.join()
    assert (
        after.block == before.block
    )  # the three public ports may have gone to another instance on this machine meanwhile
    assert not any(reason.startswith(f"ports {before.block}-") for reason in reasons)
