"""comparison: schemes side by side on one model, what `ropewalk compare` does.

    section.py  what may stand under `compare:` in a recipe
    schemes.py  each scheme as it takes part: its knob, its stretch, its twin
    cells.py    the cells, and the recipe of each
    recipe.py   a recipe file as a comparison, with all problems at once
    plan.py     what would be done; of any recipe, a comparison or a run
    outcome.py  what a cell leaves behind, and what its numbers depend on
    run.py      every cell once; a learning rate for each scheme
    report.py   all cells as one record, and how it is printed

The first five need no torch.
"""
