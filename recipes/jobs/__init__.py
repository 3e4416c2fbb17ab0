"""jobs: what a verb does, once its recipe is read.

plan, evaluation_plan, search_plan, comparison/plan  what is checked and planned; without torch
own/                                                 what `recipes new` writes; without torch
stores, preparation                                  where prepared data lies; how it comes there
extension, evaluation, factor_search, comparison/run the work itself, loaded where it begins
"""
