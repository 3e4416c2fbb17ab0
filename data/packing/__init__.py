"""Chosen documents to packs of one length.

items.py      what is packed: runs of spans, each with its scope
fit.py        which pieces share a pack; positions.py: positions that skip ahead
tables.py     the two tables that a plan is
"""
