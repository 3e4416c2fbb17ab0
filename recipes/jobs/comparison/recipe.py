"""How does a comparison recipe become a Comparison? An ordinary recipe with a `compare:` section, resolved.

The rest of the recipe holds for every cell; at each factor it is composed anew, so that `${target_length}`
follows. It has no `rope:`; the section's schemes take its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from ....rope import FULL, Base, RopeError
from ...language.check import model_facts
from ...language.compose import compose, refuse
from ...language.errors import raise_all
from ...language.problems import problems
from ...language.schema import draft, parse
from .cells import Comparison
from .schemes import Contender, contender, knob_of, with_twins
from .section import CompareSection

UNSCALED = {"rope": {"kind": "default"}}


def read_comparison(recipe: str, overrides: Sequence[str] = ()) -> Comparison:
    """Compose and resolve a comparison recipe; one error lists what is wrong with its keys and schemes."""
    values = compose(recipe, overrides)
    section, lines = read_section(values.pop("compare", None))
    if values.get("stages"):
        lines.append(f"stages: must not be set beside compare, got {len(values['stages'])}; remove them")
    shared = draft(UNSCALED | values)
    refuse(recipe, overrides, [*lines, *shared.problems])
    assert section is not None
    base = model_facts(shared.stages[0]).bases[FULL]
    base.require_stated()
    refuse(recipe, overrides, [*length_problems(section, base), *knob_problems(section)])
    recipes = {}
    for factor in section.factors:
        length = round(factor * base.original_length)
        composed = compose(recipe, [*overrides, f"target_length={length}"])
        del composed["compare"]
        recipes[factor] = parse(UNSCALED | composed, where=recipe)
    contenders = {factor: contenders_at(section, base, factor, where=recipe) for factor in section.factors}
    return Comparison(name=recipe, section=section, base=base, recipes=recipes, contenders=contenders)


def read_section(values: Any) -> tuple[CompareSection | None, list[str]]:
    """Type the `compare:` section, or list every problem with its key."""
    if values is None:
        must = "compare: must name the schemes and factors to compare, got none"
        return None, [f"{must}; see ropewalk recipes show compare-tiny"]
    try:
        return CompareSection.model_validate(values), []
    except ValidationError as error:
        return None, [f"compare.{problem}" for problem in problems(error, CompareSection)]


def length_problems(section: CompareSection, base: Base) -> Iterator[str]:
    for index, factor in enumerate(section.factors):
        if not (factor * base.original_length).is_integer():
            yield (
                f"compare.factors[{index}]: must give a whole number of tokens from the original "
                f"{base.original_length}, got {factor:g}; round it"
            )


def knob_problems(section: CompareSection) -> Iterator[str]:
    """Find the knobs that a comparison at equal stretch would overwrite."""
    for index, entry in enumerate(section.schemes):
        knob, value = knob_of(entry.scheme)
        if section.stretch == "equal" and value is not None:
            yield (
                f"compare.schemes[{index}].{knob}: must be left to the comparison at equal stretch, "
                f"got {value}; remove it or set compare.stretch: published"
            )


def contenders_at(section: CompareSection, base: Base, factor: float, *, where: str) -> list[Contender]:
    """Set every scheme for a factor; those that cannot be are one error."""
    wrong, made = [], []
    for index, entry in enumerate(section.schemes):
        try:
            made.append(
                contender(
                    entry.label,
                    entry.scheme,
                    base,
                    factor=factor,
                    equal=section.stretch == "equal",
                    trains=entry.trains,
                )
            )
        except RopeError as error:
            wrong.append(f"compare.schemes[{index}] at {factor:g}x: {error}")
    raise_all(where, wrong)
    return with_twins(made, base)
