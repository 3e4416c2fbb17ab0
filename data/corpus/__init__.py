"""Raw documents to one tokenised corpus, in units that any number of machines share.

work.py       which units there are, whose, and who tokenises them
tokenise.py   one unit to files of tokens, going on where it was stopped; content.py: what a text decides
build.py      all units to a corpus, made or reused; check.py: is it still what it was
store.py      what lies on disk, written and read; manifest.py: named by content, compared by field
"""
