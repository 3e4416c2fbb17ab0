"""How is a tiny tokenizer made that every Hugging Face reader loads?

Byte-level BPE, lossless on any text, every digit a token of its own (numbers of one length then have one
token count).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"


def train_tokenizer(texts: Iterable[str], vocabulary: int, folder: str | Path) -> PreTrainedTokenizerFast:
    """Train on `texts`, save as a Hugging Face fast-tokenizer folder; `vocabulary` counts every token, bytes
    included."""
    from transformers import PreTrainedTokenizerFast  # seconds to import, and data is used without it

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        bos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )
    fast.save_pretrained(folder)
    _name_class_for_older_readers(Path(folder) / "tokenizer_config.json")
    return fast


def _name_class_for_older_readers(path: Path) -> None:
    """Name the class as transformers 4 knows it; 5 writes a backend name that 4.57 cannot resolve, and reads
    both."""
    config = json.loads(path.read_text("utf-8"))
    config.pop("backend", None)
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2) + "\n", "utf-8")
