"""What install and the attention function refuse, with the key, the value and the cure."""

import pytest
import torch

from ropewalk.rope import RopeError, install, make_scheme

TOKENS = torch.arange(8)[None]
BAD_CALLS = [
    ({"target_length": 0}, "rope.install", "0", "in tokens"),
    ({"target_length": -8}, "rope.install", "-8", "in tokens"),
    ({"target_length": 1024.0}, "rope.install", "1024.0", "in tokens"),
    ({"scheme": "yarn"}, "rope.install", "'yarn'", "make_scheme"),
    ({"scheme": make_scheme("yarn"), "target_length": 128}, "rope.yarn", "128", "default scheme"),
    ({"original_length": 0}, "base.original_length", "0", "in tokens"),
    ({"original_length": "4k"}, "base.original_length", "'4k'", "in tokens"),
    ({"trained_length": 2**63}, "base.trained_length", "9223372036854775808", "in tokens"),
    ({"target_length": 2**63}, "rope.default", "9223372036854775808", "in tokens"),
]


@pytest.mark.parametrize(("arguments", "key", "value", "cure"), BAD_CALLS)
def test_bad_input(make_model, arguments, key, value, cure):
    model = make_model()
    with pytest.raises(RopeError) as caught:
        install(model, **arguments)
    where, _, rest = str(caught.value).partition(": ")
    assert where == key
    assert value in rest
    assert cure in rest
    assert model.config._attn_implementation == "sdpa"


def test_bad_models_are_refused(make_model, make_config):
    with pytest.raises(RopeError, match=r"exactly one decoder .*got 0"):
        install(torch.nn.Linear(2, 2))
    model = make_model()
    model.config.num_hidden_layers = 3
    with pytest.raises(RopeError, match=r"each of its 3 layers, got 2; install before"):
        install(model)
    with pytest.raises(RopeError, match=r"partial_rotary_factor: .*8 of 16 channels; remove"):
        install(make_model(config=make_config(partial_rotary_factor=0.5)))


def test_another_attention_would_leave_q_and_k_unturned(make_model):
    model = install(make_model())
    model.set_attn_implementation("sdpa")
    with pytest.raises(
        RopeError, match=r"attn_implementation must stay ropewalk.*got sdpa; call rope.install again"
    ):
        model(TOKENS)


def test_attention_without_a_scheme_is_refused(make_model):
    model = make_model()
    model.set_attn_implementation("ropewalk")
    with pytest.raises(RopeError, match=r"got none on LlamaAttention; call"):
        model(TOKENS)


def test_positions_that_are_no_whole_numbers_are_refused(make_model):
    with pytest.raises(RopeError, match=r"got torch.bfloat16; pass int64"):
        install(make_model())(TOKENS, position_ids=torch.arange(8)[None].bfloat16())


class TestBands:
    """A scheme that forms relative positions itself refuses requests whose places it cannot know."""

    @pytest.fixture
    def model(self, make_model):
        return install(make_model(), make_scheme("self-extend"), target_length=512)

    @pytest.mark.parametrize(
        ("changes", "value", "cure"),
        [
            ({"position_ids": torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3]])}, "[-3, 1]", "with attend"),
            ({"position_ids": torch.tensor([[0, 1, 2, 9, 10, 11, 12, 13]])}, "[1, 7]", "leave position_ids"),
            ({"attention_mask": torch.tensor([[0, 1, 1, 0, 0, 1, 1, 0]])}, "2 masked tokens", "remove"),
            ({"attention_mask": torch.zeros(1, 1, 8, 8)}, "[1, 1, 8, 8]", "leave attention_mask"),
        ],
    )
    def test_bad_input(self, model, changes, value, cure):
        with pytest.raises(RopeError) as caught:
            model(TOKENS, **changes)
        where, _, rest = str(caught.value).partition(": ")
        assert where == "attention"
        assert value in rest
        assert cure in rest
