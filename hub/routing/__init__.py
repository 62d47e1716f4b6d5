"""Where a request goes: a pure function of its envelope and the route table."""

from hub.configuration.routes import EVERY_MUNICIPALITY, Route, RouteTable
from hub.errors import Away, Refused
from hub.event import Envelope
from hub.topics import QueueName

__all__ = ["EVERY_MUNICIPALITY", "Route", "RouteTable", "route"]


def route(envelope: Envelope, table: RouteTable) -> tuple[QueueName, ...]:
    """The queues of `envelope`, by the rows that counted when it was admitted.

    Raises Refused `no_route`, and Away for a version of the table that this one never had.
    Failure policy: the latter means that intake runs on rows unknown here, or that a row was
    edited. Guessing could send a citizen's later request to another system than the earlier one,
    so the request waits until this process runs on the whole table; the lag shows it.
    """
    service, handler = envelope.service, envelope.municipality_code
    try:
        chosen = table.recall(envelope.route_version, service, handler, envelope.admitted_at)
    except LookupError:
        raise Away(
            f"request {envelope.id} was admitted under route version "
            f"{envelope.route_version[:12]}, which this process's routes.toml never had at "
            f"{envelope.admitted_at.isoformat()}; give every process the same config/routes.toml "
            "with no row edited or taken out, and restart the worker"
        ) from None
    if chosen is None:
        raise Refused(
            "no_route",
            f"no route for {service} of {handler} at {envelope.admitted_at.isoformat()}; "
            "append a row to routes.toml",
        )
    return (chosen.queue(handler),)
