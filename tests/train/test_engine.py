"""DeepSpeed starts on CPU without a compiler: it is told that it can build nothing there."""

import os
import subprocess
import sys
from pathlib import Path

STARTS_AN_ENGINE = """
import os, torch.distributed as dist
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
from ropewalk.train.engine import load_deepspeed
comm = load_deepspeed().comm
comm.init_distributed(verbose=False)
print(load_deepspeed().get_accelerator().device_name(), comm.comm.cdb.shm_comm_op)
"""


def test_deepspeed_starts_without_touching_a_compiler(tmp_path: Path) -> None:
    """Give it compilers that leave a trace, as make would see them first on PATH."""
    for name in ("c++", "g++", "cc", "gcc", "ninja"):
        (tmp_path / name).write_text(f"#!/bin/sh\n/bin/touch {tmp_path}/called-$$\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    paths = {
        "PATH": str(tmp_path),
        "CXX": str(tmp_path / "c++"),
        "TORCH_EXTENSIONS_DIR": str(tmp_path / "built"),
    }
    world = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "DS_ACCELERATOR": "cpu"}
    run = subprocess.run(
        [sys.executable, "-c", STARTS_AN_ENGINE],
        env={**os.environ, **paths, **world},
        capture_output=True,
        text=True,
    )
    assert run.stdout.split()[-2:] == ["cpu", "None"], run.stderr
    assert not list(tmp_path.glob("called-*"))
    assert not (tmp_path / "built").exists()
