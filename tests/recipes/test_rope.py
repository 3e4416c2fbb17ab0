"""The verb `rope`: what it lists, shows and draws, and that a new scheme is one file."""

import json
import math
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest
from matplotlib.figure import Figure
from world.command_line import Ended

from ropewalk.recipes.show import figures as rope_figures
from ropewalk.rope import SCHEMES, make_scheme, read_base, schemes
from ropewalk.rope.engines import ENGINES, serving

Run = Callable[..., Ended]
RunJson = Callable[..., Any]
LLAMA2 = ("--theta", 10000, "--original-length", 4096, "--target-length", 32768)


def fits(text: str) -> bool:
    return max(map(len, text.splitlines())) <= 100


class TestList:
    def test_every_scheme_has_its_paper_knobs_and_marks(self, run_json: RunJson):
        rows = {row["scheme"]: row for row in run_json("rope", "list")}
        assert rows.keys() == SCHEMES.keys()
        assert "2309.00071" in rows["yarn"]["source"]
        assert rows["llama3"]["knobs"] == {"factor": None, "low_freq_factor": 1, "high_freq_factor": 4}
        assert {name for name, row in rows.items() if row["training_free"]} >= {
            "self-extend",
            "dca",
            "dynamic",
        }
        assert set(rows["yarn"]["engines"]) == set(ENGINES)
        marks = [rows[name]["engines"]["transformers"] for name in ("yarn", "dynamic", "harpe")]
        assert marks == ["exact", "difference", "no"]

    def test_it_fits_a_terminal(self, run: Run):
        shown = run("rope", "list").stdout
        assert fits(shown)
        assert shown.splitlines()[0].split() == ["scheme", "training-free", *ENGINES]
        marks = next(line for line in shown.splitlines() if line.startswith("dynamic"))
        assert marks.split() == ["dynamic", "yes", *["almost"] * len(ENGINES)]
        assert "high_freq_factor=4" in shown


@pytest.mark.parametrize("name", sorted(SCHEMES))
def test_show_is_json_and_fits_a_terminal(run: Run, name: str):
    command = ("rope", "show", name, *LLAMA2)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    told = json.loads(run(*command, "--json").stdout, parse_constant=refuse)
    assert (told["scheme"], len(told["lambda"][0]), told["critical_dimension"]) == (name, 64, 92)
    shown = run(*command).stdout
    assert fits(shown)
    assert "…" not in shown
    assert told["fingerprint"][:12] in shown


def test_show_tells_what_yarn_does(run: Run, run_json: RunJson):
    """The numbers of `analysis`, and of the paper's definitions."""
    told = run_json("rope", "show", "yarn", *LLAMA2)
    speeds, theta = told["inv_freq"][0], 1e4
    unscaled = [theta ** (-2 * i / 128) for i in range(64)]
    assert told["wavelength"][0] == pytest.approx([2 * math.pi / w for w in speeds])
    assert told["lambda"][0] == pytest.approx([u / w for u, w in zip(unscaled, speeds, strict=True)])
    assert told["turns"]["original"] == pytest.approx([4096 * u / (2 * math.pi) for u in unscaled])
    assert told["turns"]["target"][0] == pytest.approx([32768 * w / (2 * math.pi) for w in speeds])
    assert told["decay"]["unscaled"][0] == pytest.approx(sum(map(math.cos, unscaled)) / 64)
    assert told["decay"]["scheme"][0][0] / told["attention_scale"] ** 2 == pytest.approx(
        sum(map(math.cos, speeds)) / 64
    )
    assert (told["unseen"], told["reach"], told["base_lower_bound"]) == ([[]], None, 6.3e5)
    counts = [told["regions"][0].count(name) for name in ("kept", "blended", "interpolated")]
    shown = " ".join(run("rope", "show", "yarn", *LLAMA2).stdout.split())
    assert "{} kept, {} blended, {} interpolated; none".format(*counts) in shown
    assert "92 of 128: pairs 46 to 63" in shown
    assert f"{', '.join(ENGINES)}: served exactly" in shown


def test_show_tells_who_serves_it(run_json: RunJson, made: Path):
    told = run_json("rope", "show", "yarn", *LLAMA2, "--kv-heads", 8)
    base = read_base(
        {
            "model_type": "llama", "hidden_size": 1024, "num_attention_heads": 8, "num_key_value_heads": 8,
            "rope_theta": 1e4, "max_position_embeddings": 4096,
        }
    )["full_attention"]  # fmt: skip
    for engine in ENGINES:
        found = serving(make_scheme("yarn"), base, target_length=32768, engine=engine)
        assert (told["engines"][engine]["verdict"], told["engines"][engine]["why"]) == (
            found.verdict,
            found.why,
        )


def test_show_reads_a_model(run_json: RunJson, made: Path):
    """The folder's own theta, head_dim, window and heads, as if they had been typed."""
    read = run_json("rope", "show", "ntk", "--target-length", 512, "--model", made / "model")
    typed = ("--theta", 10000, "--head-dim", 8, "--original-length", 64, "--kv-heads", 2)
    assert read == run_json("rope", "show", "ntk", "--target-length", 512, *typed)
    shorter = run_json(
        "rope", "show", "ntk", "--target-length", 512, "--model", made / "model", "--original-length", 32
    )
    assert (shorter["original_length"], shorter["stretch"]) == (32, pytest.approx(16))


def test_show_a_length(run_json: RunJson):
    """A scheme that depends on the length is looked at in a sequence of that length."""
    short, long = (run_json("rope", "show", "dynamic", *LLAMA2, "--length", n) for n in (4000, 16384))
    assert set(short["regions"][0]) == {"kept"}
    assert (short["target_length"], long["window_factor"]) == (4000, 4)
    assert long["stretch"] == pytest.approx(8 * 4 - 7)


def test_show_attention_schemes_have_a_reach(run: Run, run_json: RunJson):
    told = run_json("rope", "show", "self-extend", "group=16", "window=1024", *LLAMA2)
    assert told["reach"] == pytest.approx(32767 / (32767 // 16 + 1024 - 64))
    assert (set(told["regions"][0]), told["unseen"]) == ({"kept"}, [[]])
    assert max(told["decay"]["relative_position"]) < 4096
    assert (
        f"reach {told['reach']:.4g}"
        in run("rope", "show", "self-extend", "group=16", "window=1024", *LLAMA2).stdout
    )


BAD_INPUT = [
    (["--draw", "here.jpg"], "here.jpg", "here.png"),
    (["--draw", "gone/here.png"], "gone/here.png", "exists"),
    (["--model", "gone"], "gone", "config.json"),
    (["--model", "gone", "--theta", "5"], "--theta", "config says"),
    (["--head-dim", "1000000000000"], "1000000000000", "head_dim"),
    (["--kv-heads", "1000000000"], "1000000000", "heads"),
    (["--theta", "nan"], "nan", "often 10000"),
    (["--theta", "1e300"], "1e+300", "often 10000"),
    (["--original-length", "1"], "1", "in tokens"),
    (["--length", "9223372036854775808"], "9223372036854775808", "in tokens"),
    (["factor=1e300"], "1e+300", "leave it out"),
]


@pytest.mark.parametrize(("options", "value", "cure"), BAD_INPUT, ids=lambda part: str(part)[:30])
def test_bad_input(run: Run, options: list[str], value: str, cure: str):
    result = run("rope", "show", "yarn", "--target-length", 9000, *options)
    assert result.exit_code == 2, result.output
    assert value in result.stderr
    assert cure in result.stderr


@pytest.mark.parametrize("text", ["{", "[]", b"\xff"])
def test_a_model_whose_config_is_none(run: Run, tmp_path: Path, text: str | bytes):
    (tmp_path / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    result = run("rope", "show", "yarn", "--target-length", 9000, "--model", tmp_path)
    assert (result.exit_code, "restore" in result.stderr) == (2, True), result.output


class TestPicture:
    @pytest.mark.parametrize("name", ["harpe", "dca", "default"])
    def test_every_kind_draws(self, run: Run, tmp_path: Path, name: str):
        """Several rows, an attention scheme, and unseen angles; one row is drawn below."""
        file = tmp_path / f"{name}.png"
        assert run("rope", "show", name, *LLAMA2, "--draw", file).exit_code == 0
        assert file.read_bytes().startswith(b"\x89PNG")

    def axes(self, draw: Callable[..., None], told: dict[str, Any]) -> Any:
        axes = Figure().add_subplot()
        draw(axes, told)
        return axes

    def test_wavelengths_are_the_numbers(self, run_json: RunJson):
        told = run_json("rope", "show", "ntk", *LLAMA2)
        lines = {line.get_label(): line for line in self.axes(rope_figures.wavelengths, told).lines}
        assert list(lines["ntk"].get_ydata()) == told["wavelength"][0]
        assert lines["unscaled"].get_ydata()[-1] == pytest.approx(2 * math.pi * 1e4 ** (126 / 128))
        unseen = lines["meets angles that pretraining never showed"]
        assert list(unseen.get_xdata()) == told["unseen"][0]
        assert list(unseen.get_ydata()) == [told["wavelength"][0][pair] for pair in told["unseen"][0]]
        levels = [line.get_ydata()[0] for line in lines.values() if len(set(line.get_ydata())) == 1]
        assert {4096, 32768} <= set(levels)

    def test_every_head_has_a_line(self, run_json: RunJson):
        told = run_json("rope", "show", "harpe", *LLAMA2, "--kv-heads", 4)
        drawn = [list(line.get_ydata()) for line in self.axes(rope_figures.divisors, told).lines]
        assert all(row in drawn for row in told["lambda"])
        drawn = [list(line.get_ydata()) for line in self.axes(rope_figures.decay, told).lines]
        assert all(row in drawn for row in [told["decay"]["unscaled"], *told["decay"]["scheme"]])

    def test_regions_are_shaded_where_they_are(self, run_json: RunJson):
        told = run_json("rope", "show", "yarn", *LLAMA2)
        spans = list(rope_figures.spans(rope_figures.usual_regions(told)))
        assert [name for name, start, stop in spans for _ in range(start, stop)] == told["regions"][0]
        assert [name for name, *_ in spans] == ["kept", "blended", "interpolated"]

    def test_running_mean(self):
        assert rope_figures.running_mean([1, 2, 6, 3, 8], width=3) == pytest.approx([1, 3, 11 / 3, 17 / 3, 8])


NEW = '''
"""Halving: divide every frequency by a share of the factor (Nobody, 2099)."""

from dataclasses import dataclass

from ..scheme import Factored, Frequencies, scheme


@scheme("halving")
@dataclass(frozen=True, kw_only=True)
class Halving(Factored):
    """Rotate by theta_i / (share s)."""

    training_free = True
    share: float = 0.5
    "of the factor"

    def frequencies(self, base, *, target_length, length=None):
        divisor = self.share * self.factor_for(base, target_length)
        return Frequencies(inv_freq=base.unscaled()[None] / divisor)

    def to_hf(self, base, *, target_length):
        return self.written(base)
'''


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put one file beside the schemes, and take it away again."""
    (tmp_path / "halving.py").write_text(NEW.lstrip())
    monkeypatch.setattr(schemes, "__path__", [*schemes.__path__, str(tmp_path)])
    # what `rope.schemes` does when it is imported
    for module in iter_modules(schemes.__path__):
        import_module(f"{schemes.__name__}.{module.name}")
    yield
    del SCHEMES["halving"], sys.modules[f"{schemes.__name__}.halving"]
    delattr(schemes, "halving")


@pytest.mark.usefixtures("added")
def test_a_scheme_is_one_file(run: Run, run_json: RunJson, recipe_file: Path, tmp_path: Path):
    assert make_scheme("halving", share=1.0).knobs == {"factor": None, "share": 1.0}
    row = {row["scheme"]: row for row in run_json("rope", "list")}["halving"]
    assert row["source"] == "Halving: divide every frequency by a share of the factor (Nobody, 2099)."
    assert (row["knobs"], row["training_free"]) == ({"factor": None, "share": 0.5}, True)
    # Its `to_hf` forgets to divide, and marks are computed; llama.cpp can be given frequencies themselves.
    assert row["engines"] == dict.fromkeys(ENGINES, "difference") | {"llama.cpp": "exact"}
    assert "halving" in run("rope", "list").stdout
    picture = tmp_path / "halving.png"
    told = run_json("rope", "show", "halving", "share=1.0", *LLAMA2, "--draw", picture)
    assert (told["stretch"], picture.exists()) == (pytest.approx(8), True)
    recipe = run_json("recipes", "show", recipe_file, "rope.kind=halving", "rope.share=1.0")
    assert recipe["rope"] == {"kind": "halving", "share": 1.0}
    checked = run("recipes", "check", recipe_file, "rope.kind=halving", "rope.share=1.0")
    assert (checked.exit_code, "halving" in checked.stdout) == (0, True), checked.exception
    refused = run("recipes", "check", recipe_file, "rope.kind=halving", "rope.beta_fast=1")
    assert (refused.exit_code, "halving has factor, share" in refused.stderr) == (2, True), refused.output


def test_and_gone_with_its_file(run_json: RunJson):
    """After the test above: nothing of it is left."""
    assert "halving" not in SCHEMES
    assert "halving" not in {row["scheme"] for row in run_json("rope", "list")}
