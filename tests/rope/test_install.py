"""An installed model is the stock model, and attention is handed what it should be."""

import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM
from world.slow import slow_logits

from ropewalk.rope import (
    Frequencies,
    LazyMask,
    NotExpressible,
    RopeError,
    Scheme,
    install,
    installed,
    layer_fingerprint,
    make_scheme,
    read_base,
    rotate,
    rotation_table,
)
from ropewalk.rope.generation import CACHE

KINDS = ["llama", "mistral", "qwen2", "qwen3", "phi3", "gemma3"]
SCHEMES = ["default", "linear", "ntk", "abf", "yarn", "llama3"]


def stock(model):
    """Return transformers' own model with this model's weights and config."""
    made = AutoModelForCausalLM.from_config(copy.deepcopy(model.config), attn_implementation="sdpa").eval()
    made.load_state_dict(model.state_dict())
    return made


def tokens(*shape):
    return torch.randint(1, 64, shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def logits(model, ids, **more):
    return model(ids, use_cache=False, **more).logits


def causal(query, key, value, *, scaling, layer):
    """Attend to everything before, by SDPA."""
    out = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=scaling, enable_gqa=True
    )
    return out.transpose(1, 2)


@pytest.mark.parametrize(
    ("kind", "name"), [(KINDS[(at + by) % 6], name) for at, name in enumerate(SCHEMES) for by in (0, 2)]
)
def test_logits_are_transformers(make_model, kind, name):
    model = make_model(kind)
    # Longer, and the float32 angles of transformers' own rotary would show.
    plain = logits(model, tokens(1, 512))
    install(model, make_scheme(name), target_length=2048)
    got = logits(model, tokens(1, 512))
    torch.testing.assert_close(got, logits(stock(model), tokens(1, 512)), rtol=0, atol=1e-4)
    if name != "default":
        assert (got - plain).abs().max() > 0.05, "the scheme must matter for this to test anything"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_generation_of_a_padded_batch_is_that_of_each_row(make_model, kind, cache):
    model = install(make_model(kind), make_scheme("yarn"), target_length=1024)
    plain, ids = stock(model), tokens(3, 40)
    mask = torch.ones_like(ids)
    for row, padding in enumerate((0, 7, 25)):
        mask[row, :padding] = 0
    more = {"max_new_tokens": 12, "do_sample": False, "cache_implementation": cache, "pad_token_id": 0}
    got = model.generate(ids, attention_mask=mask, **more)
    assert torch.equal(got, plain.generate(ids, attention_mask=mask, **more))
    for row, padding in enumerate((0, 7, 25)):
        alone = ids[row : row + 1, padding:]
        want = model.generate(alone, attention_mask=torch.ones_like(alone), **more)
        assert torch.equal(got[row, padding:], want[0])


def test_a_cache_filled_in_pieces_is_the_whole(make_model):
    model, ids = install(make_model(), make_scheme("linear"), target_length=1024), tokens(2, 60)
    whole, cache, pieces = logits(model, ids), None, []
    for part in ids.split((20, 1, 30, 9), dim=1):
        with torch.no_grad():
            out = model(part, **{CACHE: cache}, use_cache=True)
        cache = getattr(out, CACHE)
        pieces.append(out.logits)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=0, atol=1e-5)


def test_right_padding_changes_nothing_before_it(make_model):
    model, ids = install(make_model()), tokens(2, 30)
    mask = torch.ones_like(ids)
    mask[1, 20:] = 0
    got = logits(model, ids, attention_mask=mask)
    torch.testing.assert_close(got[1, :20], logits(model, ids[1:, :20])[0], rtol=0, atol=1e-5)


def test_packed_documents_do_not_leak(make_model):
    model, ids = install(make_model("qwen2")), tokens(1, 50)
    positions = torch.cat((torch.arange(20), torch.arange(30)))[None]
    changed = ids.clone()
    changed[0, :20] = 1
    got = logits(model, ids, position_ids=positions)
    torch.testing.assert_close(got[:, 20:], logits(model, changed, position_ids=positions)[:, 20:])
    torch.testing.assert_close(got[:, 20:], logits(model, ids[:, 20:]), rtol=0, atol=1e-5)


class TestAttend:
    """With `attend`, the caller's function gets turned q and k, and no mask is built."""

    def test_it_decides_and_no_mask_is_built(self, make_model, monkeypatch):
        model, ids = install(make_model("qwen3"), make_scheme("yarn"), target_length=1024), tokens(2, 50)
        want, calls = logits(model, ids), []

        def refuse(mask):
            raise AssertionError("a mask was built")

        def attend(query, key, value, *, scaling, layer):
            calls.append((query.shape, key.shape, value.shape, scaling, layer))
            return causal(query, key, value, scaling=scaling, layer=layer)

        monkeypatch.setattr(LazyMask, "__call__", refuse)
        got = logits(model, ids, attend=attend, position_ids=torch.arange(50)[None])
        torch.testing.assert_close(got, want, rtol=0, atol=1e-5)
        q, kv = (2, 4, 50, 16), (2, 2, 50, 16)
        assert calls == [(q, kv, kv, 0.25, 0), (q, kv, kv, 0.25, 1)]

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_q_and_k_are_turned_at_position_ids(self, make_model, dtype):
        """In bfloat16 the error is that of one rounding, at positions in the millions."""
        model = install(make_model(), make_scheme("yarn"), target_length=8 << 20).to(dtype)
        frequencies = installed(model).frequencies["full_attention"]
        positions, seen, plain = torch.randint(0, 8 << 20, (1, 40)), {}, {}
        layer = model.model.layers[0].self_attn
        for name in ("q_proj", "k_proj"):
            getattr(layer, name).register_forward_hook(lambda m, i, out, name=name: plain.update({name: out}))

        def attend(query, key, value, *, scaling, layer):
            seen.setdefault(layer, {"q_proj": query, "k_proj": key})
            return causal(query, key, value, scaling=scaling, layer=layer)

        logits(model, tokens(1, 40), attend=attend, position_ids=positions)
        table = rotation_table(positions, frequencies, torch.float64)
        for name, got in seen[0].items():
            x = plain[name].view(1, 40, -1, 16).transpose(1, 2).double()
            exact = rotate(x, table, torch.float64)
            pair = (x[..., :8] ** 2 + x[..., 8:] ** 2).sqrt().repeat(1, 1, 1, 2) * frequencies.attention_scale
            rounding = 2**-8 if dtype == torch.bfloat16 else 0
            assert got.dtype == dtype
            assert ((got.double() - exact).abs() <= rounding * exact.abs() + 4e-7 * pair).all()

    @pytest.mark.parametrize("reentrant", [False, True])
    def test_checkpointed_layers_recompute_the_same(self, make_model, reentrant):
        grads = []
        for checkpointing in (False, True):
            model = install(make_model(), make_scheme("yarn"), target_length=1024).train()
            if checkpointing:
                # Its name before transformers 5.23, still there with a warning.
                old = model.gradient_checkpointing_enable
                getattr(model, "activation_checkpointing_enable", old)({"use_reentrant": reentrant})
            positions, count = torch.arange(30)[None], []

            def attend(*args, count=count, **more):
                count.append(more["layer"])
                return causal(*args, **more)

            out = model(tokens(1, 30), position_ids=positions, attend=attend, use_cache=False)
            # the next micro-batch is set before this one's backward
            model(tokens(1, 30), position_ids=positions + 9, attend=attend, use_cache=False)
            out.logits.square().mean().backward()
            grads.append([weight.grad for weight in model.parameters()])
            assert len(count) == (6 if checkpointing else 4)
        torch.testing.assert_close(grads[1], grads[0], rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", SCHEMES)
def test_saved_it_loads_as_a_plain_model(make_model, tmp_path, name):
    model = install(make_model(max_sequence_length=256), make_scheme(name), target_length=1024)
    model.save_pretrained(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert plain.config._attn_implementation == "sdpa"
    assert plain.config.max_position_embeddings == plain.config.max_sequence_length == 1024
    torch.testing.assert_close(
        logits(plain, tokens(1, 300)), logits(model, tokens(1, 300)), rtol=0, atol=1e-4
    )
    again = install(plain)
    assert installed(again).fingerprint == installed(model).fingerprint


CHUNKS = {"chunk_size": 32, "local_size": 5, "original_max_position_embeddings": 32}


class TestDualChunks:
    """A model that comes with Qwen's dual chunk attention runs by it, and tells what became of it."""

    @pytest.fixture
    def model(self, make_model):
        return make_model("qwen2", max_position_embeddings=128, dual_chunk_attention_config=CHUNKS)

    def test_it_runs_as_it_is(self, model):
        plain, ids = stock(model).double(), tokens(1, 80)
        model = install(model).double()
        assert installed(model).scheme == make_scheme("dca", chunk=32, window=5, log_scale=0.1)
        got = logits(model, ids)
        torch.testing.assert_close(got, slow_logits(model, ids), rtol=0, atol=1e-9)
        torch.testing.assert_close(got[:, :27], logits(plain, ids)[:, :27], rtol=0, atol=1e-4)
        assert (got - logits(plain, ids)).abs().max() > 0.1

    def test_another_scheme_takes_its_place_only_when_asked(self, model, tmp_path):
        with pytest.raises(RopeError, match=r"got dca .*rope\.replace"):
            install(model, make_scheme("yarn"), target_length=256)
        install(model, make_scheme("yarn"), target_length=256, replace=True).save_pretrained(tmp_path)
        again = install(AutoModelForCausalLM.from_pretrained(tmp_path))
        assert installed(again).fingerprint == installed(model).fingerprint

    def test_what_it_came_with_is_saved_with_it(self, model, tmp_path):
        install(model).save_pretrained(tmp_path)
        again = install(AutoModelForCausalLM.from_pretrained(tmp_path))
        assert installed(again).fingerprint == installed(model).fingerprint


def test_a_model_made_on_the_meta_device(make_model, make_config):
    whole = install(make_model(), make_scheme("yarn"), target_length=1024)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(make_config(), attn_implementation="sdpa")
        install(model, make_scheme("yarn"), target_length=1024)
    model = model.to_empty(device="cpu").eval()
    model.load_state_dict(whole.state_dict())
    assert torch.equal(logits(model, tokens(1, 40)), logits(whole, tokens(1, 40)))


def test_casting_leaves_the_frequencies_alone(make_model):
    model = install(make_model(), make_scheme("yarn"), target_length=1024)
    mark = installed(model).fingerprint
    model.to(torch.bfloat16)
    assert installed(model).fingerprint == mark
    assert model.model.layers[0].self_attn.rotary.frequencies.inv_freq.dtype == np.float64
    assert logits(model, tokens(1, 20)).dtype == torch.bfloat16
    assert not any("rotary" in name for name, _ in [*model.named_buffers(), *model.named_parameters()])


def test_copies_are_installed_too(make_model):
    model = install(make_model(), make_scheme("ntk"), target_length=1024)
    twin = copy.deepcopy(model)
    assert torch.equal(logits(twin, tokens(1, 20)), logits(model, tokens(1, 20)))
    first, second = (layer.self_attn.rotary for layer in twin.model.layers)
    assert first is second
    assert first is not model.model.layers[0].self_attn.rotary


@dataclass(frozen=True, kw_only=True)
class PerHead(Scheme):
    """Give each kv head its own speed; no config can say so."""

    name = "per_head"

    def frequencies(self, base, *, target_length, length=None):
        """Halve the speed from head to head."""
        speeds = 0.5 ** np.arange(base.kv_heads)
        return Frequencies(inv_freq=base.unscaled() * speeds[:, None])


def test_a_scheme_no_config_can_express(make_model):
    model = make_model()
    before, shape = copy.deepcopy(model.config.rope_parameters), logits(model, tokens(1, 20)).shape
    install(model, PerHead(), target_length=1024)
    record = installed(model)
    assert "per_head" in str(record.not_expressible)
    assert model.config.rope_parameters == before
    assert logits(model, tokens(1, 20)).shape == shape
    with pytest.raises(NotExpressible):
        record.scheme.to_hf(record.bases["full_attention"], target_length=1024)


def test_a_top_level_original_length_does_not_outlive_its_scheme(make_model):
    scaling = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 64}
    model = make_model(rope_parameters=scaling, original_max_position_embeddings=64)
    install(model, make_scheme("abf"), target_length=1024, replace=True)
    assert read_base(model.config)["full_attention"].original_length == 1024


def test_the_checksum_is_of_what_each_layer_holds(make_model):
    one, other = (install(make_model("llama"), make_scheme("yarn"), target_length=1024) for _ in range(2))
    assert layer_fingerprint(one) == layer_fingerprint(other)
    other.model.layers[-1].self_attn.rotary = install(make_model("llama")).model.layers[0].self_attn.rotary
    assert installed(one).fingerprint == installed(other).fingerprint
    assert layer_fingerprint(one) != layer_fingerprint(other)
