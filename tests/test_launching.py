"""The lines of docs/launching.md start a run: on two "nodes" of this machine, by both kinds of rendezvous."""

import os
import re
import shlex
import socket
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from world.small import write_world

PAGE = (Path(__file__).parents[1] / "docs" / "launching.md").read_text(encoding="utf-8")
SCRIPTS = Path(sysconfig.get_path("scripts"))


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def job() -> dict[str, Any]:
    [manifests] = fenced("yaml")
    service, job = yaml.safe_load_all(manifests)
    pod = job["spec"]["template"]["spec"]
    assert (service["kind"], job["kind"]) == ("Service", "Job")
    assert service["metadata"]["name"] == pod["subdomain"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    return job


def kubernetes() -> str:
    [container] = job()["spec"]["template"]["spec"]["containers"]
    return container["command"][-1]


def several_machines() -> str:
    [line] = [block for block in fenced("sh") if "--rdzv-endpoint" in block]
    return line.replace("\\\n", " ")


def slurm() -> str:
    [script] = [block for block in fenced("bash") if "torchrun" in block]
    return script.partition("srun --kill-on-bad-exit=1 ")[2].replace("\\\n", " ")


LINES = {"several machines": several_machines, "slurm": slurm, "kubernetes": kubernetes}


def test_the_job_names_its_first_pod() -> None:
    name, nodes = job()["metadata"]["name"], job()["spec"]["completions"]
    words = shlex.split(kubernetes())
    assert words[words.index("--master-addr") + 1] == f"{name}-0.{name}"
    assert (int(words[words.index("--nnodes") + 1]), job()["spec"]["parallelism"]) == (nodes, nodes)


@pytest.mark.parametrize("script", [*fenced("bash"), kubernetes()])
def test_scripts_are_bash(script: str) -> None:
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def on_node(line: str, node: int, recipe: Path, port: int) -> list[str]:
    """Give a launch line as one of two nodes of this machine would run it, each with one rank."""
    names = {
        "SLURM_NNODES": "2", "SLURM_JOB_ID": "7", "head": "localhost", "JOB_COMPLETION_INDEX": str(node)
    }  # fmt: skip
    for name, value in names.items():
        line = re.sub(rf"\${name}\b", value, line)
    words = shlex.split(line)
    here = {"--nnodes": "2", "--nproc-per-node": "1", "--rdzv-endpoint": f"localhost:{port}"}
    here |= {"--master-addr": "localhost", "--master-port": str(port)}
    words = [here.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    assert words[0] == "torchrun"
    return [str(SCRIPTS / "torchrun"), *words[1:-1], str(recipe)]


def run_together(commands: Sequence[Sequence[str]]) -> list[tuple[int, str]]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    nodes = [subprocess.Popen(command, env=environment, **pipes) for command in commands]
    try:
        said = [node.communicate(timeout=300)[0] for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    return [(node.returncode, out) for node, out in zip(nodes, said, strict=True)]


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("localhost", 0))
        return listening.getsockname()[1]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = write_world(tmp_path_factory.mktemp("world"))
    subprocess.run([str(SCRIPTS / "ropewalk"), "prepare", str(recipe)], check=True, capture_output=True)
    return recipe


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", LINES)
def test_two_nodes_train_together(name: str, recipe: Path) -> None:
    """The first line trains; the others find the run finished, and report."""
    port = free_port()
    ended = run_together([on_node(LINES[name](), node, recipe, port) for node in (0, 1)])
    assert [code for code, _ in ended] == [0, 0], "\n".join(out[-3000:] for _, out in ended)
    told = [out for _, out in ended if "report:" in out]
    assert len(told) == 1, "rank 0 alone speaks"
    assert (recipe.parent / "run" / "model" / "config.json").is_file()
