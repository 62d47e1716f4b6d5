"""Keys of websites: shown once, kept as a hash, two at a time, dead when revoked or expired."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hub.admission import ApiKeys, Principal
from hub.errors import Refused, StoreAway

HERE = "GM0363"


def codes(api_keys: ApiKeys, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(Refused) as caught:
        api_keys.create_key(*args, **kwargs)
    return caught.value.code


async def test_a_key_opens_for_its_owner_only(desk: Any) -> None:
    secret = desk.api_keys.create_key(HERE, "website")
    assert secret.startswith("hub_live_GM0363_")
    assert len(secret.removeprefix("hub_live_GM0363_")) == 43
    assert await desk.api_keys.authenticate(secret) == Principal(HERE, "website")


async def test_any_other_text_opens_nothing(desk: Any) -> None:
    secret = desk.api_keys.create_key(HERE, "website")
    for other in (
        "",
        secret[:-1],
        secret[:-1] + ("A" if secret[-1] != "A" else "B"),
        secret + "A",
        secret.upper(),
        secret.replace("GM0363", "GM0599"),
        secret.replace("live", "test"),
        secret + "\n",
        "hub_live_GM0363_" + "A" * 43,
        "hub_live_GM0363_' OR 1=1 --",
        "\x00" * 60,
    ):
        assert await desk.api_keys.authenticate(other) is None


def test_the_secret_is_in_no_file(desk: Any) -> None:
    secret = desk.api_keys.create_key(HERE, "website")
    random = secret.split("_", 3)[3].encode()
    files = [path for path in Path(desk.folder).rglob("*") if path.is_file()]
    assert any(b"website" in path.read_bytes() for path in files), "the search finds nothing"
    assert not [path for path in files if random in path.read_bytes()]


async def test_two_keys_at_a_time_so_one_can_be_replaced(desk: Any) -> None:
    keys = [desk.api_keys.create_key(HERE, "website")]
    desk.later(days=1)
    keys.append(desk.api_keys.create_key(HERE, "website"))
    assert codes(desk.api_keys, HERE, "website") == "too_many_keys"
    desk.api_keys.create_key(HERE, "app")
    first = desk.api_keys.keys_of(HERE)[0]
    assert desk.api_keys.revoke(HERE, first.key_id)
    assert await desk.api_keys.authenticate(keys[0]) is None
    assert await desk.api_keys.authenticate(keys[1]) == first.principal
    desk.api_keys.create_key(HERE, "website")


async def test_revoking_takes_the_owner_and_the_whole_id(desk: Any) -> None:
    secret = desk.api_keys.create_key(HERE, "website")
    (key,) = desk.api_keys.keys_of(HERE)
    for tenant, key_id in (("GM0599", key.key_id), (HERE, key.key_id[:3]), (HERE, ""), (HERE, "%")):
        assert not desk.api_keys.revoke(tenant, key_id)
    assert await desk.api_keys.authenticate(secret) is not None
    assert desk.api_keys.revoke(HERE, key.key_id)
    assert not desk.api_keys.revoke(HERE, key.key_id)
    assert desk.api_keys.keys_of(HERE)[0].revoked_at == desk.now


async def test_a_key_expires(desk: Any) -> None:
    secret = desk.api_keys.create_key(HERE, "website", valid_for=timedelta(days=1))
    desk.later(days=1, seconds=-1)
    assert await desk.api_keys.authenticate(secret) is not None
    desk.later(seconds=1)
    assert await desk.api_keys.authenticate(secret) is None


async def test_a_key_revoked_by_another_process_dies_within_five_seconds(
    desk: Any, make_desk: Any
) -> None:
    seconds = 0.0
    here = ApiKeys(desk.store, now=lambda: desk.now, clock=lambda: seconds)
    secret = here.create_key(HERE, "website")
    assert await here.authenticate(secret) is not None
    there = make_desk().api_keys
    assert there.revoke(HERE, there.keys_of(HERE)[0].key_id)
    seconds = 5.0
    assert await here.authenticate(secret) is None


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ((HERE, "website", "test"), "test_keys_not_yet"),
        (("0363", "website"), "invalid_client"),
        ((HERE, "Website van Zon"), "invalid_client"),
        ((HERE, "website", "live", timedelta(days=366)), "invalid_validity"),
        ((HERE, "website", "live", timedelta()), "invalid_validity"),
    ],
)
def test_what_no_key_is_made_for(desk: Any, args: Any, code: str) -> None:
    assert codes(desk.api_keys, *args) == code


async def test_nobody_is_let_in_while_the_store_is_away(desk: Any) -> None:
    secret = desk.api_keys.create_key(HERE, "website")
    desk.store.close()
    with pytest.raises((StoreAway, RuntimeError)):
        await desk.api_keys.authenticate(secret)
