"""`hub <noun> <verb>`: the one door for people. Thin: parses, calls, prints.

Each command imports what it runs, and no more: a worker's child must be up again quickly.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from hub import telemetry
from hub.errors import HubError
from hub.event import show_reference
from hub.settings import Settings

main_app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
kafka = typer.Typer(no_args_is_help=True, help="Our own Kafka, for demo, tests and one machine.")
config = typer.Typer(no_args_is_help=True, help="Routes, destinations and tenants.")
park = typer.Typer(no_args_is_help=True, help="Deliveries that wait for a person.")
subject = typer.Typer(no_args_is_help=True, help="People whose data is sealed here.")
apikey = typer.Typer(no_args_is_help=True, help="Keys with which websites post.")
run = typer.Typer(hidden=True, help="Processes that `hub worker` starts.")
for name, group in (
    ("kafka", kafka),
    ("config", config),
    ("park", park),
    ("subject", subject),
    ("apikey", apikey),
    ("run", run),
):
    main_app.add_typer(group, name=name)

out = Console()


class OnOff(StrEnum):
    ON = "on"
    OFF = "off"


@contextmanager
def spoken_errors() -> Iterator[None]:
    """Print our own errors as one line and exit 1: their text already names the remedy."""
    try:
        yield
    except HubError as error:
        print(f"hub: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


def settings(process: str) -> Settings:
    found = Settings.from_env()
    telemetry.setup(process, found.log_level)
    return found


@main_app.command()
def intake(
    port: Annotated[int | None, typer.Option(help="Default HUB_INTAKE_PORT, else 8080.")] = None,
) -> None:
    """The HTTP door: POST /v1/verzoeken, GET /v1/verzoeken/{referentie}."""
    from hub.app.intake import run_intake

    with spoken_errors():
        found = settings("intake")
        run_intake(found.model_copy(update={"intake_port": port}) if port else found)


@main_app.command()
def worker() -> None:
    """Routing, status and delivery, each in a process of its own, started again when it dies."""
    from hub.app.worker import run_worker

    with spoken_errors():
        raise typer.Exit(run_worker(settings("worker")))


@run.command()
def way(slot: Annotated[int, typer.Option()]) -> None:
    from hub.app.way import run_way

    with spoken_errors():
        run_way(settings("way"), slot)


@run.command()
def delivery(slot: Annotated[int, typer.Option()]) -> None:
    from hub.app.delivery import run_delivery

    with spoken_errors():
        raise typer.Exit(run_delivery(settings("delivery"), slot))


@kafka.command("start")
def kafka_start(
    brokers: Annotated[
        int | None,
        typer.Option(min=1, max=9, help="At the first start: one, or three that replicate."),
    ] = None,
) -> None:
    """Start our own Kafka; where it runs already, say where."""
    from hub.broker.local import LocalKafka

    with spoken_errors():
        found = settings("kafka")
        endpoint = LocalKafka.of(found).start(brokers)
        print(f"Kafka runs at {endpoint.bootstrap} (data in {found.home / 'kafka'})")


@kafka.command("stop")
def kafka_stop() -> None:
    """Stop our own Kafka; its data stays."""
    from hub.broker.local import LocalKafka

    with spoken_errors():
        found = settings("kafka")
        LocalKafka.of(found).stop()
        print("Kafka is stopped; `hub kafka start` brings it back at the same address")


@kafka.command("status")
def kafka_status() -> None:
    """Where our own Kafka runs; exit 1 if it does not."""
    from hub.broker.local import LocalKafka

    with spoken_errors():
        found = settings("kafka")
        endpoint = LocalKafka.of(found).status()
        if endpoint is None:
            print("Kafka does not run; start it: hub kafka start")
            raise typer.Exit(1)
        print(f"Kafka runs at {endpoint.bootstrap}, processes {', '.join(map(str, endpoint.pids))}")


@config.command("check")
def config_check() -> None:
    """Say what is wrong in the configuration: file, line, remedy. Exit 1 if anything is."""
    from hub import configuration
    from hub.connector import discover

    with spoken_errors():
        found = settings("config")
        problems = configuration.check(found.config, discover())
        for problem in problems:
            print(problem)
        if problems:
            raise typer.Exit(1)
        print(f"{found.config}: in order")


@main_app.command()
def status(reference: str) -> None:
    """Every step of one request, by the number that the citizen has."""
    from hub.app import operators

    with spoken_errors():
        report = operators.request_report(settings("status"), reference)
        print(f"{show_reference(report.reference)}  {report.status.word}  ({report.handler})")
        table = Table("time", "step", "destination", "attempt", "reason", "code", "text")
        for step in report.outcomes:
            table.add_row(
                f"{step.time.astimezone():%Y-%m-%d %H:%M:%S}",
                step.kind,
                step.destination or ", ".join(step.destinations),
                str(step.attempt),
                step.reason or "",
                step.code,
                step.text,
            )
        out.print(table)


@park.command("list")
def park_list(
    destination: Annotated[str | None, typer.Option(help="GMxxxx/name; default all.")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """What waits for a person: the head of each lane with its reason, and how many behind it."""
    from hub.app import operators

    with spoken_errors():
        rows = operators.parked(settings("park"), destination)
        if as_json:
            print(json.dumps([asdict(row) for row in rows], default=str))
            return
        table = Table("event", "reference", "destination", "reason", "code", "since", "text")
        for row in rows:
            table.add_row(
                row.event_id,
                show_reference(row.reference),
                row.destination,
                row.reason or "(behind)",
                row.code,
                f"{row.parked_at.astimezone():%Y-%m-%d %H:%M}",
                row.text,
            )
        out.print(table if rows else "nothing is parked")


@park.command("resend")
def park_resend(event_id: str, by: Annotated[str, typer.Option(help="Who asks.")] = "") -> None:
    """Send a parked delivery again, ahead of the citizen's later ones."""
    from hub.app import operators

    with spoken_errors():
        operators.resend(settings("park"), event_id, by)
        print(f"{event_id}: asked; the owner of its queue does it within a second")


@park.command("skip")
def park_skip(
    event_id: str,
    reason: Annotated[str, typer.Option(help="Shown in the status; nothing personal.")],
    by: Annotated[str, typer.Option(help="Who decides.")] = "",
) -> None:
    """Give up a parked delivery: it ends as rejected, and the citizen's later ones go on."""
    from hub.app import operators

    with spoken_errors():
        operators.skip(settings("park"), event_id, reason, by)
        print(f"{event_id}: asked; the owner of its queue does it within a second")


@subject.command("erase")
def subject_erase(
    reference: Annotated[str | None, typer.Argument(help="A request of this person.")] = None,
    bsn_stdin: Annotated[bool, typer.Option(help="Read a BSN from standard input.")] = False,
    municipality: Annotated[str | None, typer.Option(help="With --bsn-stdin: GMxxxx.")] = None,
) -> None:
    """Forget a person at one municipality: their key is deleted, what is sealed stays noise."""
    from hub.app import operators

    with spoken_errors():
        found = settings("subject")
        bsn = sys.stdin.readline().strip() if bsn_stdin else None
        count = operators.erase(found, reference, bsn, municipality)
        print(f"{count} subject(s) erased; other processes forget within 60 seconds")


@apikey.command("create")
def apikey_create(
    municipality: Annotated[str, typer.Option(help="GMxxxx: the tenant that posts.")],
    client: Annotated[str, typer.Option(help="Name of the website; stays when keys change.")],
) -> None:
    """Make a key and print it once; only its hash is kept."""
    from hub.app import operators

    with spoken_errors():
        print(operators.create_api_key(settings("apikey"), municipality, client))


@apikey.command("list")
def apikey_list(municipality: Annotated[str, typer.Option(help="GMxxxx: the tenant.")]) -> None:
    """The keys of a municipality by their ids, which open nothing."""
    from hub.app import operators

    with spoken_errors():
        table = Table("id", "client", "created", "expires", "revoked")
        for key in operators.api_keys(settings("apikey"), municipality):
            ended = f"{key.revoked_at:%Y-%m-%d}" if key.revoked_at else ""
            dates = (f"{key.created_at:%Y-%m-%d}", f"{key.expires_at:%Y-%m-%d}", ended)
            table.add_row(key.key_id, key.principal.client, *dates)
        out.print(table)


@apikey.command("revoke")
def apikey_revoke(
    key_id: Annotated[str, typer.Argument(help="As `hub apikey list` shows it.")],
    municipality: Annotated[str, typer.Option(help="GMxxxx: the tenant.")],
) -> None:
    """End a key: every intake refuses it within 5 seconds."""
    from hub.app import operators

    with spoken_errors():
        operators.revoke_api_key(settings("apikey"), municipality, key_id)
        print(f"{key_id}: revoked")


@main_app.command()
def demo(
    requests: Annotated[int | None, typer.Option(min=1, help="How many; default 300.")] = None,
    leave: Annotated[bool, typer.Option("--exit", help="Stop when all are done.")] = False,
    seed: Annotated[int, typer.Option(help="Same seed, same requests and faults.")] = 1,
    faults: Annotated[bool, typer.Option("--faults", help="Plant faults and kill things.")] = False,
    dedupe: Annotated[OnOff, typer.Option(help="Back-offices drop repeats by key.")] = OnOff.ON,
    results: Annotated[Path | None, typer.Option(help="Write figures to this folder.")] = None,
) -> None:
    """The main job on a real Kafka, with ten municipalities' back-offices and test persons."""
    from hub.demo.run import run_demo

    with spoken_errors():
        settings("demo")
        raise typer.Exit(run_demo(requests, leave, seed, faults, dedupe is OnOff.ON, results))


def main() -> None:
    main_app()
