"""language: what a recipe is, from YAML text to a typed, frozen `Recipe` that has been checked.

catalogue         which recipes there are
yaml_text         how YAML is read
layers            what it means to lay one mapping over another
compose           bases below, the file over them, `key=value` on top
schema, problems  the types, plug-ins included; what is wrong, a line a problem
check             what must hold between keys, model and world
files             which files must be there; whether the tokenizer fits

Neither torch nor transformers is imported, so that recipes are listed, shown and checked at once.
"""
