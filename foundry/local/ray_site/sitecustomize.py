"""Binds the gRPC server of Serve's replicas to loopback, in every Python process of a local instance's Ray.

Ray Serve 2.60 binds it to `[::]:0` with no setting for the address. It demands Ray's token, but a laptop should not listen to its
network at all. When Ray's own helper for opening gRPC ports is imported, it is wrapped; nothing else is touched. In a
cluster, where nodes must reach each other, this folder is not on the path.
What it does not know: Serve, replicas.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_MODULE = "ray._common.tls_utils"
_ANYWHERE = ("[::]:", "0.0.0.0:")


class _NarrowingLoader(Loader):
    def __init__(self, real: Loader) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._real.exec_module(module)
        open_port = module.add_port_to_grpc_server

        def on_loopback(server: Any, address: str) -> int:  # Any: grpc is not imported here
            for anywhere in _ANYWHERE:
                if address.startswith(anywhere):
                    address = f"127.0.0.1:{address.removeprefix(anywhere)}"
            return open_port(server, address)

        module.add_port_to_grpc_server = on_loopback  # type: ignore[attr-defined]  # replaced on purpose


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _MODULE:
            return None
        sys.meta_path.remove(self)  # once; and the lookup below must not meet us again
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _NarrowingLoader(spec.loader)
        return spec


sys.meta_path.insert(0, _Finder())
