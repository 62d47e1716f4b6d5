"""The process of the door: where it listens, how it ends, what lives with it."""

import asyncio
import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from hub.errors import ConfigError
from hub.intake import create_app
from hub.intake.serving import listen
from hub.settings import Settings
from tests.desk import Desk
from tests.unit.test_intake import check_problem


async def test_the_application_sweeps_while_it_lives_and_closes_what_it_was_given(
    desk: Desk,
) -> None:
    closed = asyncio.Event()

    async def close() -> None:
        closed.set()

    swept = asyncio.Event()

    class Ends:
        async def run(self) -> None:
            swept.set()

    app = create_app(
        desk.admission,
        desk.api_keys,
        desk.status,
        desk.configuration,
        desk.gazetteer,
        sweeper=Ends(),  # type: ignore[arg-type] # a sweeper that ends, which ours never does
        close=close,
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:
        assert (await client.get("/v1/health")).status_code == 200
        async with app.router.lifespan_context(app):
            await swept.wait()
            await asyncio.sleep(0)
            check_problem(await client.get("/v1/health"), 503, "sweeper_ended")
            assert not closed.is_set()
    assert closed.is_set()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "hub.example"])
def test_plain_http_off_this_machine_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="HUB_INTAKE_BEHIND_TLS_PROXY"):
        listen(Settings(intake_host=host, intake_port=0))


def test_behind_a_proxy_it_may() -> None:
    listener = listen(Settings(intake_host="0.0.0.0", intake_port=0, intake_behind_tls_proxy=True))
    listener.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_address_in_use_says_so(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match="HUB_INTAKE_PORT"):
            listen(Settings(intake_host=host, intake_port=port))
    listen(Settings(intake_host=host, intake_port=0)).close()


def test_answers_do_not_wait_for_acks() -> None:
    """Without it each answer takes 40 ms more on a kept connection."""
    with listen(Settings(intake_port=0)) as listener:
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


SERVES = """
from fastapi import FastAPI
from hub.intake import serve
from hub.settings import Settings

app = FastAPI()
serve(Settings(intake_port=0), app)
print("closed after it", flush=True)
"""


@pytest.mark.slow
def test_a_signal_ends_it_well_and_leaves_the_caller_time_to_close() -> None:
    with subprocess.Popen([sys.executable, "-c", SERVES], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = process.stdout.readline().decode()
        port = int(re.search(r"port=(\d+)", said)[1])  # type: ignore[index] # else it fails
        with socket.create_connection(("127.0.0.1", port)):
            process.send_signal(signal.SIGTERM)
        rest = process.stdout.read().decode()
    assert process.returncode == 0
    assert "closed after it" in rest
