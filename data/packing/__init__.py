"""Chosen documents to packs of one length.

fit.py        which pieces share a pack
tables.py     the two tables that a plan is, positions included
"""
