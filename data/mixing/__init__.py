"""Which documents of a corpus a plan has, how often, and what is made of them.

choose.py     what each source gives; candidates.py: which documents may be drawn; mixture.py: the draw
synthetic.py  documents that are written: facts and repeats
transform.py  transforms/: documents made of documents, one file each (transforming.py runs them)
scorer.py     scorers/: documents as numbers, one file each
"""
