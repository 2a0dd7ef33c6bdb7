"""Tables. One module a noun; importing this package registers them all on `Base.metadata`.

What it does not know: requests, services. Relationships are `lazy="raise"`: a query says what it loads.
"""

from control_api.models.base import Base
from control_api.models.cluster import Cluster, StoredSnapshot
from control_api.models.declared import Block, GatewayFileState, Guardrail, Limit
from control_api.models.deployment import Deployment
from control_api.models.key import Key
from control_api.models.organization import Organization, Project
from control_api.models.route import Route, RouteTarget

__all__ = [
    "Base",
    "Block",
    "Cluster",
    "Deployment",
    "GatewayFileState",
    "Guardrail",
    "Key",
    "Limit",
    "Organization",
    "Project",
    "Route",
    "RouteTarget",
    "StoredSnapshot",
]
