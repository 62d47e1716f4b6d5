"""Looks for tokens that must never be in clear, in every shape a leak could have."""

import base64
from collections.abc import Iterable, Iterator
from pathlib import Path


def shapes(token: str) -> dict[str, bytes]:
    """`token` as bytes in each encoding: plain, UTF-16, base64 in its three alignments.

    Of base64 only the characters that depend on the token alone are kept, so that it is found
    whatever stands before and behind it.
    """
    raw = token.encode()
    found = {
        "plain": raw,
        "utf-16-le": token.encode("utf-16-le"),
        "utf-16-be": token.encode("utf-16-be"),
    }
    for shift in range(3):
        whole = (len(raw) + shift) * 8 // 6
        for name, encode in (
            ("base64", base64.standard_b64encode),
            ("base64url", base64.urlsafe_b64encode),
        ):
            text = encode(b"\0" * shift + raw)
            found[f"{name}+{shift}"] = text[-(-shift * 8 // 6) : whole]
    return found


def search(tokens: Iterable[str], places: Iterable[tuple[str, bytes]]) -> list[str]:
    """`<place>: <shape>` of every token found; the token itself is not repeated."""
    patterns = [(name, shape) for token in tokens for name, shape in shapes(token).items()]
    return [
        f"{place}: {name}" for place, data in places for name, shape in patterns if shape in data
    ]


def files(root: Path, but: Iterable[Path] = ()) -> Iterator[tuple[str, bytes]]:
    """Every file under `root` with its bytes, except those under a folder of `but`."""
    excluded = [path.resolve() for path in but]
    for path in sorted(root.rglob("*")):
        real = path.resolve()
        if not path.is_file() or any(real.is_relative_to(e) for e in excluded):
            continue
        yield str(path.relative_to(root)), path.read_bytes()
