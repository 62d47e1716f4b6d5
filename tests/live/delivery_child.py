"""A delivery process of a test: `python -m tests.live.delivery_child <json>`, until SIGTERM."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from hub.broker import Producer
from hub.faults import Faults
from hub.topics import QueueName
from tests.live.back_office import BackOffice, World


async def main(plan: dict[str, Any]) -> int:
    home = Path(plan["home"])
    world = World(home, plan["bootstrap"], BackOffice(url=plan["url"]), plan["group"])
    world.deliver_to(QueueName.from_topic(plan["topic"]))
    producer = Producer(plan["bootstrap"], "child", 8.0)
    faults = Faults(plan["crash_at"], None, home)
    try:
        return await world.service(producer, plan["slot"], faults).run()
    finally:
        await producer.close()
        await world.close()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(json.loads(sys.argv[1]))))
