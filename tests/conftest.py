"""What every test gets: no network, a pool of ranks, one Hypothesis profile; and shards of the suite."""

import os
import socket
import sys
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from world.ranks import Ranks

OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
LOOPBACK = ("127.", "::1", "localhost")


def refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    """Let a test reach this machine only; an audit hook sees every connect, whoever makes it."""
    if event != "socket.connect":
        return
    connecting, address = arguments
    if connecting.family != socket.AF_UNIX and not str(address[0]).startswith(LOOPBACK):
        raise RuntimeError(f"tests: no test may reach the network, got a connection to {address}")


def pytest_configure(config: pytest.Config) -> None:
    os.environ.update(dict.fromkeys(OFFLINE, "1"))
    sys.addaudithook(refuse_network)
    # No test is a race with a clock; fixtures here hold files and tokenizers that no example changes.
    settings.register_profile(
        "ropewalk",
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    settings.load_profile("ropewalk")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shard", metavar="I/N", help="run the I-th of N parts of the selected tests")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if any(item.get_closest_marker("gpu") for item in items):
        skip_without_a_gpu(items)
    if shard := config.getoption("--shard"):
        keep_shard(config, items, shard)


def skip_without_a_gpu(items: list[pytest.Item]) -> None:
    import torch

    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device here"))


def keep_shard(config: pytest.Config, items: list[pytest.Item], shard: str) -> None:
    """Deselect what a checksum of the test's id puts into other shards."""
    part, _, parts = shard.partition("/")
    if not (part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
        raise pytest.UsageError(f"--shard: must be I/N with 1 <= I <= N, got {shard}; try 1/3")
    chosen = [zlib.crc32(item.nodeid.encode()) % int(parts) == int(part) - 1 for item in items]
    config.hook.pytest_deselected(items=[item for item, keep in zip(items, chosen, strict=True) if not keep])
    items[:] = [item for item, keep in zip(items, chosen, strict=True) if keep]


@pytest.fixture(scope="session")
def ranks() -> Iterator[Ranks]:
    """Run bodies on gloo ranks: `ranks(2)(body, *args)` returns the list of the ranks' results."""
    pools = Ranks()
    yield pools
    pools.close()
