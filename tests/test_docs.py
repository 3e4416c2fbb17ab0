"""What the pages say is so: commands run, numbers are the recorded ones, links lead somewhere."""

import json
import os
import re
import shlex
import subprocess
import sysconfig
from contextlib import chdir
from pathlib import Path

import pytest
from house.commands import Block, blocks, tried
from house.numbers import ROOT, evaluate, pages, rendered
from world.command_line import run_verb
from world.trainer_example import EXAMPLE

PAGES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in pages()}
RECIPES = {path.stem for path in (ROOT / "recipes").rglob("*.yaml")}
CARDS = [str(path.relative_to(ROOT)) for path in (ROOT / "recipes").rglob("README.md")]
MOST_LINES = 150
SIMPLE = re.compile(
    r"ropewalk (?P<words>(?P<verb>\w+)[^|&;<>$`\\]*?)( \|\| test \$\? = (?P<code>\d))?( *#.*)?"
)
"""A command that is a verb and no more, but for the exit code that a page expects."""
LINK = re.compile(r"\]\((?!https?://|mailto:|#)([^)#\s]+)")


def workplace(folder: Path) -> Path:
    """Make a folder that looks like the repository's root; what a command writes stays in it."""
    for entry in ROOT.iterdir():
        if entry.name not in ("runs", ".git") and not entry.name.startswith(".make"):
            (folder / entry.name).symlink_to(entry)
    return folder


def run_blocks(chosen: list[Block], folder: Path, *, here: bool = False) -> None:
    """Run blocks in order in one folder; a failure names the line of the page and what was printed.

    `here`: a verb is started as a process once, and called in this one when the page names it again.
    """
    started: set[str] = set()
    for block in chosen:
        script: list[str] = []
        for command in (tried(command, RECIPES) for command in block.commands):
            simple = SIMPLE.fullmatch(command)
            if simple and here and simple["verb"] in started:
                run_script(script, block, folder)
                script.clear()
                with chdir(folder):
                    ended = run_verb(*shlex.split(simple["words"], comments=True))
                assert ended.exit_code == int(simple["code"] or 0), f"line {block.line}:\n{ended.output}"
            else:
                script.append(command)
                started |= {simple["verb"]} if simple else set()
        run_script(script, block, folder)


def run_script(commands: list[str], block: Block, folder: Path) -> None:
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", "\n".join(["set -euxo pipefail", *commands])],
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"line {block.line}:\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_run(page: str, tmp_path: Path) -> None:
    run_blocks([b for b in blocks(PAGES[page]) if b.is_run and not b.is_slow], workplace(tmp_path), here=True)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    "page", [name for name, text in PAGES.items() if any(b.is_slow for b in blocks(text))]
)
def test_all_commands_run_in_the_order_of_the_page(page: str, tmp_path: Path) -> None:
    run_blocks([block for block in blocks(PAGES[page]) if block.is_run], workplace(tmp_path))


@pytest.mark.parametrize("page", PAGES)
def test_numbers_are_the_recorded_ones(page: str) -> None:
    assert rendered(PAGES[page]) == PAGES[page], "python tests/house/numbers.py writes them"


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "SECURITY.md", *CARDS])
def test_links_lead_somewhere(page: str) -> None:
    targets = LINK.findall((ROOT / page).read_text(encoding="utf-8"))
    assert not [target for target in targets if not ((ROOT / page).parent / target).exists()]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.startswith("docs/") and page != "docs/recipe-keys.md"]
)
def test_a_page_is_one_job(page: str) -> None:
    assert PAGES[page].count("\n") <= MOST_LINES


def test_the_readme_shows_a_picture_and_recorded_numbers() -> None:
    assert re.search(r"!\[[^\]]+\]\([^)]+\.png\)", PAGES["README.md"])
    assert "<!-- numbers: docs/results/" in PAGES["README.md"]
    commands = [c.partition(" #")[0].strip() for block in blocks(PAGES["README.md"]) for c in block.commands]
    assert {"make demo", "make test"} <= set(commands)


def test_the_example_scheme_of_contributing_works() -> None:
    from ropewalk.rope import SCHEMES, make_scheme, read_base

    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    home = "ropewalk.rope.schemes"
    try:
        exec(compile(code, "half.py", "exec"), {"__name__": f"{home}.half", "__package__": home})
        config = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 2, "rope_theta": 1e4}
        base = read_base(config | {"max_position_embeddings": 512, "num_hidden_layers": 1})["full_attention"]
        assert make_scheme("half").frequencies(base, target_length=2048).stretch(base) == pytest.approx(2)
    finally:
        SCHEMES.pop("half", None)


def test_the_table_of_schemes_is_what_the_engines_rules_give() -> None:
    listed = run_verb("rope", "list", "--json")
    mark = {"exact": "yes", "difference": "almost", "no": "-"}
    wanted = {
        row["scheme"]: " / ".join(mark[verdict] for verdict in row["engines"].values())
        for row in json.loads(listed.stdout)
    }
    first_table = PAGES["docs/rope.md"].partition("\n## ")[0]
    assert dict(re.findall(r"^\| `([\w-]+)` \|.*\| ([^|]+) \|$", first_table, re.M)) == wanted


def test_the_page_on_data_shows_the_script_that_is_tested() -> None:
    assert f"```python\n{EXAMPLE}```" in PAGES["docs/data.md"]


RECORD = {
    "date": "2026-01-02",
    "models": [
        {"name": "base", "scores": [{"task": "loss", "length": 512, "value": 4.125}]},
        {"name": "extended", "scores": [{"task": "loss", "length": 512, "value": 2.0}]},
    ],
    "step seconds": {"total": 90},
}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("date", "2026-01-02"),
        ("models/1/name", "extended"),
        ("models/name=base/scores/task=loss,length=512/value", 4.125),
        ("models/name=base/scores/0/value - models/name=extended/scores/0/value", 2.125),
        ("models/0/scores/0/value * 100", 412.5),
    ],
)
def test_a_path_walks_the_record(expression: str, value: object) -> None:
    assert evaluate(expression, RECORD) == value


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("models/name=other", "got 0 of 2"),
        ("models/0/scores/0/value/deep", "float"),
        ("day", "date"),
        ("models/7", "list"),
    ],
)
def test_a_path_that_leads_nowhere_says_where_it_ended(path: str, word: str) -> None:
    with pytest.raises(KeyError, match=word):
        evaluate(path, RECORD)


def test_a_table_is_its_template_filled_in(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(json.dumps(RECORD))
    template = "| base | {models/0/scores/0/value:.1f} | {date} |\n| long | {models/1/scores/0/value:.2f} | |"
    page = f"Before\n<!-- numbers: record.json\n{template}\n-->\n| base | 9.9 | |\n\nAfter {{date}}\n"
    filled = page.replace("| base | 9.9 | |", "| base | 4.1 | 2026-01-02 |\n| long | 2.00 | |")
    assert rendered(page, tmp_path) == filled
    assert rendered(filled, tmp_path) == filled


PAGE = """# Title
```sh
make demo
ropewalk evaluate runs/x \\
    --json   # a comment
```
<!-- slow -->
```sh
# only a comment
torchrun --nproc-per-node 2 recipes/extend.py tiny-512-4k-yarn
```
<!-- not run: needs eight GPUs -->
```sh
nvidia-smi
```
```python
print("not a command")
```
"""


def test_a_page_is_run_in_its_order(tmp_path: Path) -> None:
    text = "mkdir a\nropewalk recipes list\nropewalk recipes show tiny-base > a/b\ntest -s a/b\n{}\n"
    page = "```sh\n" + text.format("ropewalk recipes show gone || test $? = 2  # refused") + "```\n"
    run_blocks(blocks(page), tmp_path, here=True)
    wrong = "```sh\n" + text.format("ropewalk recipes show gone") + "```\n"
    (tmp_path / "again").mkdir()
    with pytest.raises(AssertionError, match=r"line 1:\n.*gone: must be a recipe"):
        run_blocks(blocks(wrong), tmp_path / "again", here=True)


def test_blocks_of_a_page() -> None:
    first, slow, never = blocks(PAGE)
    assert [block.line for block in (first, slow, never)] == [2, 8, 13]
    assert first.commands == ("make demo", "ropewalk evaluate runs/x      --json   # a comment")
    assert slow.commands == ("torchrun --nproc-per-node 2 recipes/extend.py tiny-512-4k-yarn",)
    assert [block.is_slow for block in (first, slow, never)] == [False, True, False]
    assert [block.is_run for block in (first, slow, never)] == [True, True, False]
    with pytest.raises(AssertionError, match="line 2"):
        blocks("<!-- not run: no -->\n```sh\nls\n```\n")


@pytest.mark.parametrize(
    ("command", "run"),
    [
        ("make demo", "make --dry-run demo"),
        ("pip install 'ropewalk[flash]'", ":"),
        ("ropewalk prepare tiny-8k", "ropewalk prepare tiny-8k"),
        ("ropewalk prepare big-8k data.store=/mnt", "ropewalk prepare big-8k data.store=/mnt --dry-run"),
        ("ropewalk recipes show big-8k", "ropewalk recipes show big-8k"),
        (
            "torchrun --nproc-per-node 8 --nnodes=4 --rdzv-endpoint h:1 recipes/extend.py big-8k a.b=2",
            "python recipes/extend.py big-8k a.b=2 --dry-run --world 32",
        ),
        ("torchrun --nproc-per-node 2 recipes/extend.py tiny-8k", None),
    ],
)
def test_cluster_commands_become_dry_runs(command: str, run: str | None) -> None:
    assert tried(command, {"big-8k", "tiny-8k"}) == (run or command)


def test_tests_run_offline() -> None:
    import socket

    with socket.socket() as connecting, pytest.raises(RuntimeError, match="no test may reach the network"):
        connecting.connect(("192.0.2.1", 80))
    assert os.environ["HF_HUB_OFFLINE"] == "1"
