"""own: a recipe for a model and a text of one's own, with the reason beside each value.

published    what others trained with, by size and window
text         what a folder of text holds: its kind, its tokens, its long documents
beginning    what is asked, the facts of the model, the text
recipe       the values and their reasons
written      YAML with comments
"""
