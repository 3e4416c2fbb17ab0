"""Warm calls are cheap; a rank that raises, dies or hangs is named, and the pool recovers."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from world.ranks import RankError, Ranks


@dataclass(frozen=True)
class Answer:
    rank: int
    total: float


def add_up(values: torch.Tensor) -> Answer:
    total = values[dist.get_rank()].clone()
    dist.all_reduce(total)
    return Answer(rank=dist.get_rank(), total=float(total))


def describe() -> dict[str, object]:
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "DS_ACCELERATOR", "HF_HUB_OFFLINE")
    return {
        **{name: os.environ[name] for name in names},
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "draw": float(torch.rand(())),
    }


def spoil_defaults() -> None:
    torch.set_default_dtype(torch.float64)
    torch.rand(7)


def raise_on(rank: int) -> None:
    if dist.get_rank() == rank:
        raise KeyError("the culprit")
    dist.barrier()


def hang_on(rank: int) -> None:
    if dist.get_rank() != rank:
        dist.barrier()
    while dist.get_rank() == rank:
        time.sleep(1)


def die_on(rank: int) -> None:
    if dist.get_rank() == rank:
        print("last words", flush=True)
        os._exit(7)
    dist.barrier()


def share_an_engine() -> tuple[str, int]:
    from ropewalk.train.engine import load_deepspeed

    comm = load_deepspeed().comm
    comm.init_distributed(verbose=False)
    return os.environ["DS_ACCELERATOR"], comm.get_world_size()


@pytest.mark.parametrize("world", [2, 4])
def test_each_rank_answers_in_order(ranks: Ranks, world: int) -> None:
    values = torch.arange(world, dtype=torch.float64)
    expected = [Answer(rank=rank, total=world * (world - 1) / 2) for rank in range(world)]
    assert ranks(world)(add_up, values) == expected


def test_a_warm_call_costs_milliseconds(ranks: Ranks) -> None:
    values = torch.ones(2)
    ranks(2)(add_up, values)
    times = []
    for _ in range(20):
        started = time.perf_counter()
        ranks(2)(add_up, values)
        times.append(time.perf_counter() - started)
    assert sorted(times)[10] < 0.1


def test_every_call_starts_from_the_same_state(ranks: Ranks) -> None:
    before = ranks(2)(describe)
    ranks(2)(spoil_defaults)
    assert ranks(2)(describe) == before
    assert [seen["RANK"] for seen in before] == ["0", "1"]
    assert before[0]["threads"] == 1
    assert before[0]["DS_ACCELERATOR"] == "cpu"
    assert before[0]["HF_HUB_OFFLINE"] == "1"


def test_deepspeed_takes_over_the_ranks_group(ranks: Ranks) -> None:
    assert ranks(2)(share_an_engine) == [("cpu", 2), ("cpu", 2)]


def test_failures_are_named_and_the_pool_recovers() -> None:
    pools = Ranks()
    try:
        started = time.monotonic()
        pools(2)(add_up, torch.ones(2))
        with pytest.raises(RankError) as raised:
            pools(2)(raise_on, 1)
        text = str(raised.value)
        assert "raise_on raised on rank [1] of 2" in text
        assert "KeyError: 'the culprit'" in text
        assert "rank 0 was still in" in text
        assert "barrier" in text
        pools(2)(add_up, torch.ones(2))
        with pytest.raises(RankError) as hung:
            pools(2, timeout=1.5)(hang_on, 1)
        assert "hang_on hung beyond 1.5 s on rank [0, 1] of 2" in str(hung.value)
        assert str(hung.value).count("in hang_on") == 2
        with pytest.raises(RankError, match=r"(?s)ended with code 7.*last words"):
            pools(2)(die_on, 1)
        assert [answer.total for answer in pools(2)(add_up, torch.ones(2))] == [2, 2]
        assert time.monotonic() - started < 200
    finally:
        pools.close()


def test_a_body_must_be_findable(ranks: Ranks) -> None:
    with pytest.raises(AssertionError, match="module-level"):
        ranks(2)(lambda: None)


def test_ranks_end_with_the_session(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import os; from world import ranks\n"
        "pools = ranks.Ranks(); pool = pools.pools.setdefault(2, ranks.Pool(2)); pool.start()\n"
        "print(*[process.pid for process in pool.processes], flush=True); os._exit(1)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    pids = [int(pid) for pid in killed.stdout.split()]
    assert len(pids) == 2
    end = time.monotonic() + 20
    while any(is_running(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.1)
    assert not [pid for pid in pids if is_running(pid)]


def is_running(pid: int) -> bool:
    """Tell a live process from one that ended, be it still unreaped by a container's first process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
