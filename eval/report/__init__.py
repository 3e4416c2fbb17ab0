"""report: what evaluations say side by side, as one record, and how a person sees it.

record       several evaluations as one plain report
ranking      which of several models is better, and which cannot be told apart
wording      the numbers in words
html, page   one static page of a report; figures: its pictures
schemes      tables and page of a comparison of schemes; scheme_figures: its pictures
write        a report on disk, and read again
"""
