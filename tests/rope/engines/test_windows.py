"""How long a sequence an engine takes, where a config has other names for its window."""

from typing import Any

import pytest

from ropewalk.rope.engines import Question
from ropewalk.rope.engines.sglang import READER as SGLANG
from ropewalk.rope.engines.vllm import READER as VLLM

HEADS = {"hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2}
LLAMA: dict[str, Any] = {"model_type": "llama", "max_position_embeddings": 2048, "rope_theta": 5e5, **HEADS}


@pytest.mark.parametrize(
    ("stated", "vllm", "sglang"),
    [
        ({"max_sequence_length": 1024}, 1024, 1024),
        ({"max_sequence_length": 4096}, 2048, 4096),
        ({"seq_len": 1024}, 1024, 2048),
        ({"seq_length": 512, "model_max_length": 1024}, 1024, 512),
        ({"max_sequence_length": None}, 2048, 2048),
    ],
)
def test_other_names_of_the_window(stated: dict[str, Any], vllm: int, sglang: int) -> None:
    """As vllm/transformers_utils/model_arch_config_convertor.py and SGLang's common.py look for them."""
    found = [reader.ask(LLAMA | stated, Question()).window for reader in (VLLM, SGLANG)]
    assert found == [vllm, sglang]
