"""Raw documents to one tokenised corpus, in units that any number of machines share.

work.py       which units there are, and whose; workers.py: who tokenises them
reading.py    one unit to files of tokens, going on where it was stopped; content.py: what a text decides
parts.py      one file of tokens; store.py: the documents of a split among all files
merge.py      all units to a corpus; build.py: a corpus made, or reused; check.py: is it still what it was
manifest.py   whole or absent, named by content, compared by field
"""
