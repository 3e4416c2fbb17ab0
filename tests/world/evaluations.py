"""What evaluations are tested with: a tiny random Llama, text that never changes, made-up evaluations."""

from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ropewalk.data import Document
from ropewalk.eval import Evaluation, Result

WINDOW = 64
MERGES = "Ċ Ġ|. Ċ|ĊĠ Ġ|Ċ #|Ġ t|Ġt h|Ġth e|i s|Ġ is"
"""Tokens that begin with a newline, and one that ends with it, as in real vocabularies."""


def tiny_llama(vocabulary: int, seed: int = 0, **changes: Any) -> LlamaForCausalLM:
    """Make a random Llama, trained (as its config says) to 64 tokens."""
    torch.manual_seed(seed)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": WINDOW}
    ends = {"bos_token_id": None, "eos_token_id": None, "vocab_size": vocabulary}
    given: dict[str, Any] = shape | heads | ends | {"initializer_range": 0.3} | changes
    return LlamaForCausalLM(LlamaConfig(**given)).eval()


def fixed_tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer of bytes and a few merges, the same whatever is installed."""
    merges = [(left, right) for left, right in (pair.split() for pair in MERGES.split("|"))]
    words = ["<s>", *sorted(ByteLevel.alphabet()), *(left + right for left, right in merges)]
    engine = Tokenizer(BPE(vocab={word: i for i, word in enumerate(words)}, merges=merges))
    engine.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)  # pyright: ignore
    engine.decoder = ByteLevelDecoder()  # pyright: ignore
    return PreTrainedTokenizerFast(tokenizer_object=engine, bos_token="<s>")


def fixed_documents(tokenizer: PreTrainedTokenizerFast) -> list[Document]:
    made = []
    for n in range(9):
        lines = (
            f"{'  ' * (i % 3)}the {i * i * (n + 3) % 997} is {i}{'.' if i % 4 else ''}\n" for i in range(90)
        )
        tokens = [0, *tokenizer.encode("".join(lines), add_special_tokens=False)][: 900 + 50 * n]
        made.append(Document(tokens=np.array(tokens, "uint32"), source="made", id=f"d{n}"))
    return made


def evaluation_of(name: str, results: dict[str, Result], **changes: Any) -> Evaluation:
    """Make the evaluation of a model that was trained to 64 tokens and is measured to 256."""
    given: dict[str, Any] = {
        "fingerprint": "f" * 64,
        "parameters": 1234,
        "scheme": "yarn",
        "knobs": {},
        "scheme_fingerprint": "e" * 64,
        "original_length": WINDOW,
        "trained_length": WINDOW,
        "target_length": 256,
        "corpus": "c0ffee" * 8,
        "reference": "base",
        "seed": 0,
        "seconds": 1.5,
    }
    return Evaluation(model=name, results=results, **given | changes)
