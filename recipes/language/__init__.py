"""language: what a recipe is, from YAML text to a typed, frozen `Recipe` that has been checked.

catalogue         which recipes there are
yaml_text         how YAML is read
compose           bases below, the file over them, `key=value` on top
schema, problems  the types, plug-ins included; what is wrong, a line a problem
check             what must hold between keys, model and world; which files must be there

Neither torch nor transformers is imported, so that recipes are listed, shown and checked at once.
"""
