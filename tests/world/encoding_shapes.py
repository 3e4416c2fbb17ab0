"""Small byte-level tokenizers of the shapes that models have, trained on Python's library."""

import json
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, trainers
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Sequence, Split

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def split(pattern: str, behaviour: str = "isolated", *, invert: bool = False) -> PreTokenizer:
    bytes_ = ByteLevel(add_prefix_space=False, use_regex=False)
    return Sequence([Split(Regex(pattern), behaviour, invert=invert), bytes_])


BYTES = ByteLevel(add_prefix_space=False)
SHAPES: dict[str, Callable[[], PreTokenizer]] = {
    "gpt2": lambda: BYTES,
    "llama3": lambda: split(LLAMA3),
    "o200k": lambda: split(O200K),
    "single digits": lambda: Sequence([Digits(individual_digits=True), BYTES]),
    "runs of digits": lambda: Sequence([Digits(individual_digits=False), BYTES]),
    "removed": lambda: split(LLAMA3, "removed", invert=True),
    "nfc": lambda: split(LLAMA3),
}
NASTY = (
    *"aZsdtlrev'0127_-+./<&~",
    *" \n\r\t\x0b\x1c\x85\u00a0\u2003\u2028\u3000",
    *"\u00e9\u0130\u017f\u212a\u00df\u01c5\u02b0\u4e2d\u3042\u0915\u1100\u1161\uac00",
    *"\u0660\u00b2\u00bd\u2167\U00011de0\u0301\u0323\u093f\u200b\u200d\ufe0f\ufeff",
    *"\u20ac\u3002\U0001f600\U0001f3fd\ue000\u0000\u0378\U000e0041",
    *(
        "'ll",
        "'RE",
        "\n\n",
        "\r\n",
        " \n",
        "    ",
        "def ",
        "self.",
        "return",
        "<|end|>",
        "<tool>",
        "a\n",
        "\nb",
    ),
)
"""What texts of property tests are made of."""


def build(
    folder: Path, shape: PreTokenizer, *, normalizer: Any = None, added: tuple[AddedToken, ...] = ()
) -> Path:
    """Write the folder of a tokenizer with 700 tokens, `<|end|>` and what is added."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = shape
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    library = Path(sysconfig.get_path("stdlib"))
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=sorted(ByteLevel.alphabet()), show_progress=False
    )
    texts = [(library / name).read_text("utf-8") for name in ("argparse.py", "csv.py")]
    tokenizer.train_from_iterator([*texts, "l'\u00e9t\u00e9 \u4e2d\u6587 " * 99, "\r\n\r\n" * 99], trainer)
    tokenizer.add_tokens(list(added))
    tokenizer.add_special_tokens(["<|end|>"])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    write(folder / "tokenizer_config.json", {"eos_token": {"content": "<|end|>"}})
    return folder


def blocked(folder: Path, *, ignore_merges: bool) -> tuple[Path, str]:
    """Write one of Llama 3's shape with a token that its merges never reach: "qjxz" is made
    of qj and xz, but j and x are joined first. Give the folder and the token's text."""
    build(folder, split(LLAMA3))
    fields = read(folder / "tokenizer.json")
    model = fields["model"]
    vocab, merges = model["vocab"], model["merges"]
    for id, pair in enumerate((["j", "x"], ["q", "j"], ["x", "z"], ["qj", "xz"]), max(vocab.values()) + 100):
        assert "".join(pair) not in vocab
        vocab["".join(pair)] = id
        merges.append(pair)
    model["ignore_merges"] = ignore_merges
    write(folder / "tokenizer.json", fields)
    return folder, "qjxz"


def write(path: Path, fields: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(fields), "utf-8")


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))
