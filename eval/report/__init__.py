"""report: what evaluations say side by side, as one record, and how a person sees it.

compare, ranking   several evaluations as one plain report; which is better, and which cannot be told apart
wording            the numbers in words
page, figures      one static page, its pictures; report.py writes them
schemes            the same for a comparison of schemes
"""
