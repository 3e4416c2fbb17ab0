"""Text to ids: the tokenizer a folder holds, a faster one where that is proven the same, and safe cuts.

encoder.py    what the rest of the room sees; folder.py: what a tokenizer's folder holds
backends.py   tokenizers and sentencepiece; ranks.py: tiktoken, and when it may stand in
patterns.py   the one regex that a pre-tokenizer comes to; cuts.py: where its pieces cannot cross
training.py   a tiny tokenizer
"""
