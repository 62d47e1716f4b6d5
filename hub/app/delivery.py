"""`hub run delivery`: the delivery process of a worker."""

import asyncio
from contextlib import ExitStack

from hub.app.base import key_store, load, open_store
from hub.broker import Producer
from hub.connector import discover
from hub.delivery.service import DeliveryService
from hub.delivery.store import METADATA as DELIVERY_TABLES
from hub.delivery.store import DeliveryStore
from hub.settings import Settings
from hub.topics import DELIVERY_GROUP
from hub.worker import end_with_parent, instance_id


def run_delivery(settings: Settings, slot: int) -> int:
    """The delivery process. Returns its exit code."""
    end_with_parent()
    base = load(settings)

    async def deliver() -> int:
        with ExitStack() as stack:
            _, keys = key_store(base, stack)
            producer = Producer(base.bootstrap, "hub-delivery", settings.produce_timeout_seconds)
            service = DeliveryService(
                settings=settings,
                configuration=base.configuration,
                connectors=discover(),
                bootstrap=base.bootstrap,
                store=DeliveryStore(open_store(settings, "delivery", DELIVERY_TABLES, stack)),
                keys=keys,
                contract=base.contract,
                producer=producer,
                faults=base.faults,
                instance_id=instance_id(DELIVERY_GROUP, slot),
            )
            try:
                return await service.run()
            finally:
                await producer.close()

    return asyncio.run(deliver())
