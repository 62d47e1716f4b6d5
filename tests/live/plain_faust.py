"""A Faust agent written the usual way, for test_faust_losses.py: run as a program of its own.

usage: plain_faust.py MODE BOOTSTRAP TOPIC JOURNAL
"""

import asyncio
import sys
from pathlib import Path

import faust

mode, bootstrap, topic_name, journal = sys.argv[1:]

app = faust.App(
    f"plain-{topic_name}",
    broker=f"kafka://{bootstrap}",
    web_enabled=False,
    topic_allow_declare=False,
    topic_disable_leader=True,
    datadir=str(Path(journal).parent / "data"),
    broker_session_timeout=6.0,
    broker_commit_interval=0.2,
)
topic = app.topic(
    topic_name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
)


def handled(value: bytes) -> None:
    with Path(journal).open("a") as file:
        file.write(value.decode() + "\n")


async def out_of_order(stream):  # type: ignore[no-untyped-def]
    async for value in stream:
        if value == b"m0" and not Path(journal).exists():
            await asyncio.sleep(3600)
        handled(value)


async def raising(stream):  # type: ignore[no-untyped-def]
    async for value in stream:
        if value == b"m0" and not Path(journal).exists():
            Path(journal).touch()
            raise RuntimeError("a bug, or a back-office that is away")
        handled(value)


app.agent(topic, concurrency=2 if mode == "out_of_order" else 1)(
    out_of_order if mode == "out_of_order" else raising
)
faust.Worker(app, loglevel="CRITICAL").execute_from_commandline()
