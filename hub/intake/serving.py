"""Serves the application with uvicorn."""

import ipaddress
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from hub.errors import ConfigError
from hub.settings import Settings
from hub.telemetry import logger

_BACKLOG = 1024


def serve(settings: Settings, app: FastAPI) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are finished first.

    Raises ConfigError if the address is taken, or off loopback without a TLS proxy in front.
    """
    listener = listen(settings)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # paths hold references; admission logs what happened
        server_header=False,
        proxy_headers=False,  # nothing here trusts an address that a header claims
        lifespan="on",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(settings.produce_timeout_seconds) + 5,
    )
    server = uvicorn.Server(config)
    with _ended_by_signals(server):
        logger().info("intake_listening", host=settings.intake_host, port=listener.getsockname()[1])
        server.run(sockets=[listener])


@contextmanager
def _ended_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """uvicorn handles signals while it runs, and then sends them again to whoever handled them
    before: by default that is death, before the caller could close anything."""

    def end(_number: int, _frame: object) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def listen(settings: Settings) -> socket.socket:
    """The listening socket; port 0 takes a free one."""
    host, port = settings.intake_host, settings.intake_port
    if not (_is_loopback(host) or settings.intake_behind_tls_proxy):
        raise ConfigError(
            f"HUB_INTAKE_HOST={host}: plain HTTP off this machine would show BSNs to the network; "
            "listen on 127.0.0.1 behind a proxy that does TLS, or, where that proxy is on another "
            "machine, set HUB_INTAKE_BEHIND_TLS_PROXY=true"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"{host}:{port} cannot be listened on ({error.strerror}); stop what uses it, or choose "
            "another with HUB_INTAKE_PORT"
        ) from error
    # Connections inherit it. asyncio sets it only on sockets whose protocol is spelt out, which
    # this one's is not; without it each answer waits 40 ms for the other side's delayed ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
