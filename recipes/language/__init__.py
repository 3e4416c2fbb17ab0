"""language: what a recipe is, from YAML text to a typed, frozen `Recipe` that has been checked.

catalogue, yaml_text  which recipes there are; how YAML is read
compose, merge        bases below, the file over them, `key=value` on top
schema, problems      the types; what is wrong, a line a problem
check                 what must hold between keys, model and world
"""
