"""Text to ids: the tokenizer a folder holds, a faster one where that is found the same, and safe cuts.

encoder.py    what the rest of the room sees, and what a tokenizer's folder holds
backends.py   tokenizers and sentencepiece; tiktoken.py: when tiktoken may stand in, and how that is checked
cuts.py       where a text may be cut; training.py: a tiny tokenizer
"""
