"""Prefill and decode are one full forward, for every request of a batch on its own, also across a switch."""

import copy
import pickle

import pytest
import torch
import transformers
from world.slow import EXAMPLES, slow_logits

from ropewalk.rope import RopeError, install, make_scheme, stated_lengths
from ropewalk.rope.generation import CACHE

VERSION = tuple(map(int, transformers.__version__.split(".")[:2]))
ORIGINAL = 32
SWITCH = {"kind": "longrope", **EXAMPLES["longrope"]}
DEPENDENT = [SWITCH, {"kind": "dynamic"}, {"kind": "resonance", "of": SWITCH}]
QWEN = {"kind": "dca", "chunk": ORIGINAL, "window": 5, "log_scale": 0.1}
BANDS = [{"kind": "self-extend", **EXAMPLES["self-extend"]}, {"kind": "dca"}, QWEN]
ALL = [*DEPENDENT, {"kind": "yarn"}, *BANDS]


def tokens(*shape):
    return torch.randint(1, 64, shape, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def make(make_model):
    def made(knobs, kind="llama"):
        whole = {"partial_rotary_factor": 1.0} if kind == "phi3" else {}
        model = make_model(kind, max_position_embeddings=ORIGINAL, **whole)
        return install(model, make_scheme(knobs["kind"], **_without_kind(knobs)), target_length=128).double()

    return made


def _without_kind(knobs):
    return {key: value for key, value in knobs.items() if key != "kind"}


def padded(ids, paddings):
    """Return the mask of rows whose first tokens are padding."""
    return torch.stack([(torch.arange(ids.shape[1]) >= padding).long() for padding in paddings])


@torch.no_grad()
def in_pieces(model, ids, mask, sizes, **more):
    """Feed a batch in pieces to one cache; return the logits of each piece's last token and the cache."""
    cache, last, stop = None, [], 0
    for piece in ids.split(sizes, dim=1):
        stop += piece.shape[1]
        at = (mask[:, :stop].cumsum(1) - 1).clamp(min=0)[:, -piece.shape[1] :]
        out = model(
            piece,
            attention_mask=mask[:, :stop],
            position_ids=at,
            use_cache=True,
            **{CACHE: cache},
            **more,
        )
        cache = getattr(out, CACHE)
        assert out.logits.shape[1] == piece.shape[1]
        last.append(out.logits[:, -1])
    return torch.stack(last, dim=1), cache


@pytest.mark.parametrize(
    ("knobs", "kind"), [(knobs, ("llama", "gemma3")[at % 2]) for at, knobs in enumerate([*ALL, DEPENDENT[1]])]
)
def test_a_batch_in_pieces_is_each_row_at_once(make, knobs, kind):
    """The rows cross the original window of 32 tokens at different steps: first chunks, then tokens."""
    model, ids, paddings = make(knobs, kind), tokens(3, 44), (0, 7, 25)
    sizes = [20, 10, *[1] * 14]
    got, _ = in_pieces(model, ids, padded(ids, paddings), sizes)
    stops = torch.tensor(sizes).cumsum(0).tolist()
    for row, padding in enumerate(paddings):
        for place, stop in enumerate(stops):
            if stop > padding and place in (1, 4, 11, 15):
                want = slow_logits(model, ids[row : row + 1, padding:stop])[0, -1]
                torch.testing.assert_close(got[row, place], want, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["llama", "phi3", "gemma3"])
@pytest.mark.parametrize("knobs", DEPENDENT, ids=lambda knobs: knobs["kind"])
@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_generation_is_that_without_a_cache(make, knobs, cache, kind):
    """Also where a class drops its cache at the switch (Phi-3), and where a window has closed (Gemma 3)."""
    if kind == "phi3" and VERSION < (5, 20):
        pytest.skip(
            "before transformers 5.20 its Phi-3 forgets all but one token at the switch, whoever turns it"
        )
    model, ids, paddings = make(knobs, kind), tokens(2, 28), (0, 9)
    mask = padded(ids, paddings)
    more = {"max_new_tokens": 14, "do_sample": False, "pad_token_id": 0}
    got = model.generate(ids, attention_mask=mask, cache_implementation=cache, **more)
    for row, padding in enumerate(paddings):
        alone = ids[row : row + 1, padding:]
        for _ in range(14):
            with torch.no_grad():
                logits = model(alone, use_cache=False).logits
            alone = torch.cat((alone, logits[:, -1:].argmax(-1)), dim=1)
        assert torch.equal(got[row, padding:], alone[0])


def test_the_others_of_a_batch_decide_nothing(make):
    model, ids = make(SWITCH), tokens(2, 40)
    mask = padded(ids, (0, 20))
    with torch.no_grad():
        both = model(ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0)).logits
    for row, start in enumerate((0, 20)):
        want = slow_logits(model, ids[row : row + 1, start:])
        torch.testing.assert_close(both[row, start:], want[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("knobs", DEPENDENT, ids=lambda knobs: knobs["kind"])
def test_stated_lengths_hold_from_the_first_token(make, knobs, monkeypatch):
    """With `lengths` nothing is ever run again, and each row is one forward at its own stated length."""
    model, ids = make(knobs), tokens(2, 44)
    mask, run = padded(ids, (0, 10)), []
    model.model.layers[0].register_forward_pre_hook(lambda module, args: run.append(args[0].shape[1]))
    got, _ = in_pieces(model, ids, mask, [20, *[1] * 24], lengths=torch.tensor([60, 30]))
    assert run == [20, *[1] * 24]
    for row, (padding, length) in enumerate(((0, 60), (10, 30))):
        want = slow_logits(model, ids[row : row + 1, padding:], length)[0, -1]
        torch.testing.assert_close(got[row, -1], want, rtol=0, atol=1e-9)


def test_a_switch_costs_one_pass_over_what_is_cached(make):
    model, ids, run = make(SWITCH), tokens(1, 44), []
    model.model.layers[0].register_forward_pre_hook(lambda module, args: run.append(args[0].shape[1]))
    in_pieces(model, ids, torch.ones_like(ids), [30, *[1] * 14])
    assert run == [30, 1, 1, 33, *[1] * 11]


def test_copies_and_reinstalled_models_go_on(make, make_model):
    model, ids = make(SWITCH), tokens(1, 40)
    want = slow_logits(model, ids)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with torch.no_grad():
            torch.testing.assert_close(other(ids).logits, want, rtol=0, atol=1e-9)
    again = install(model, make_scheme("yarn"), target_length=128, replace=True)
    assert not again.model._forward_pre_hooks
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, slow_logits(again, ids), rtol=0, atol=1e-9)


def filled(model, ids, **more):
    """Return a cache that holds these tokens."""
    with torch.no_grad():
        return getattr(model(ids, use_cache=True, **more), CACHE)


@pytest.mark.filterwarnings("ignore:.past_key_values. is deprecated:FutureWarning")
@pytest.mark.parametrize("name", sorted({CACHE, "past_key_values"}))
@pytest.mark.parametrize("knobs", DEPENDENT, ids=lambda knobs: knobs["kind"])
def test_a_cache_is_known_by_the_name_of_today_and_the_one_before(make, knobs, name):
    """A decoder called by itself sees the name its caller chose; unseen, the switch would not be."""
    model, ids = make(knobs), tokens(1, 40)
    cache = filled(model.model, ids[:, :30])
    with torch.no_grad():
        out = model.model(ids[:, 30:], **{name: cache}, use_cache=True)
        got = model.lm_head(out.last_hidden_state)
    assert getattr(out, CACHE) is cache
    torch.testing.assert_close(got, slow_logits(model, ids)[:, 30:], rtol=0, atol=1e-9)


@pytest.mark.filterwarnings("ignore:.*past_key_values.*:FutureWarning")
@pytest.mark.parametrize("name", sorted({CACHE, "past_key_values"}))
@pytest.mark.parametrize("knobs", DEPENDENT, ids=lambda knobs: knobs["kind"])
def test_generate_takes_a_cache_by_either_name(make, knobs, name):
    """Across the switch: what was cached under the short factors is run again."""
    model, ids = make(knobs), tokens(1, 30)
    common = {"max_new_tokens": 10, "do_sample": False, "pad_token_id": 0}
    want = model.generate(ids, **common)
    cache = filled(model, ids[:, :20])
    assert torch.equal(model.generate(ids, **{name: cache}, **common), want)
    assert cache.get_seq_length() == 39


@pytest.mark.skipif(CACHE == "past_key_values", reason="before transformers 5.24 there is one name")
@pytest.mark.filterwarnings("ignore:.*past_key_values.*:FutureWarning")
@pytest.mark.parametrize("other", [None, 5], ids=["none", "shorter"])
@pytest.mark.parametrize("part", ["model", "decoder", "generate"])
def test_of_two_caches_the_one_by_todays_name_counts(make, part, other):
    """As in transformers itself, which warns and takes no notice of the other."""
    model, ids = make(SWITCH), tokens(1, 40)
    cache, other = filled(model, ids[:, :30]), None if other is None else filled(model, ids[:, :other])
    both = {"cache": cache, "past_key_values": other, "use_cache": True}
    with torch.no_grad():
        if part == "generate":
            both |= {"max_new_tokens": 1, "do_sample": False, "pad_token_id": 0}
            got, want = model.generate(ids, **both)[:, -1], slow_logits(model, ids)[:, -1].argmax(-1)
        elif part == "model":
            got, want = model(ids[:, 30:], **both).logits, slow_logits(model, ids)[:, 30:]
        else:
            states = model.model(ids[:, 30:], **both).last_hidden_state
            got, want = model.lm_head(states), slow_logits(model, ids)[:, 30:]
    torch.testing.assert_close(got, want, rtol=0, atol=1e-9)
    assert (cache.get_seq_length(), other and other.get_seq_length()) == (40, other and 5)


def test_what_a_decoder_is_given_by_place_counts(make):
    model, ids = make(SWITCH), tokens(2, 40)
    mask = padded(ids, (0, 9))
    at = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        got = model.lm_head(model.model(ids, mask, at).last_hidden_state)
    for row, start in enumerate((0, 9)):
        want = slow_logits(model, ids[row : row + 1, start:])
        torch.testing.assert_close(got[row, start:], want[0], rtol=0, atol=1e-9)


def test_hidden_states_are_those_of_the_tokens_asked_for(make):
    model, ids = make(SWITCH), tokens(1, 36)
    with torch.no_grad():
        want = model(ids, output_hidden_states=True).hidden_states
        cache = filled(model, ids[:, :30])
        got = model(ids[:, 30:], **{CACHE: cache}, output_hidden_states=True).hidden_states
    assert len(got) == len(want) == 3
    for ours, whole in zip(got, want, strict=True):
        torch.testing.assert_close(ours, whole[:, 30:], rtol=0, atol=1e-9)


def test_a_cache_that_is_not_given_back_is_filled_again(make):
    """Mistral gives no cache back where none is to be used; the one that was given still holds."""
    model, ids = make(SWITCH, "mistral"), tokens(1, 40)
    cache = filled(model, ids[:, :30])
    with torch.no_grad():
        got = model(ids[:, 30:], **{CACHE: cache}, use_cache=False).logits
    torch.testing.assert_close(got, slow_logits(model, ids)[:, 30:], rtol=0, atol=1e-9)


REFUSED = r"rope.longrope: .* got 30 tokens in it and {} known; pass lengths.*rope.stated_lengths"


def test_what_cannot_be_run_again_is_refused(make):
    model, ids = make(SWITCH), tokens(2, 40)
    embeds = model.get_input_embeddings()(ids)
    with torch.no_grad():
        cache = getattr(model(inputs_embeds=embeds[:, :30], use_cache=True), CACHE)
        with pytest.raises(RopeError, match=REFUSED.format(0)):
            model(inputs_embeds=embeds[:, 30:], **{CACHE: cache}, use_cache=True)
    cache = filled(model, ids[:, :32])
    cache.crop(-2)
    with torch.no_grad(), pytest.raises(RopeError, match=REFUSED.format(32)):
        model(ids[:, 30:], **{CACHE: cache}, use_cache=True)


@pytest.mark.parametrize(("kind", "window"), [("llama", None), ("gemma3", 24), ("mistral", 512)])
def test_rows_that_changed_places_are_refused(make_model, kind, window):
    """Also where layers have a window, all of them or those before the first that sees everything."""
    more = {} if window is None else {"sliding_window": window}
    model = make_model(kind, max_position_embeddings=ORIGINAL, **more)
    model, ids = (
        install(model, make_scheme("longrope", **EXAMPLES["longrope"]), target_length=128),
        tokens(2, 40),
    )
    cache = filled(model, ids[:, :30])
    cache.reorder_cache(torch.tensor([1, 0]))
    refused = r"rope.longrope: .*rows were reordered.*num_beams=1.*rope.stated_lengths"
    with pytest.raises(RopeError, match=refused), torch.no_grad():
        model(ids[:, 30:], **{CACHE: cache}, use_cache=True)


def test_a_window_that_closes_is_no_change_of_places(make_model):
    model = make_model("mistral", max_position_embeddings=ORIGINAL, sliding_window=64)
    model, ids = install(model, make_scheme("dynamic"), target_length=64).double(), tokens(2, 64)
    got, _ = in_pieces(model, ids, torch.ones_like(ids), [40, 23, 1])
    torch.testing.assert_close(got[:, -1], slow_logits(model, ids)[:, -1], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "more", [{"num_beams": 3}, {"prompt_lookup_num_tokens": 4}], ids=["beams", "assisted"]
)
def test_generation_with_stated_lengths_is_that_of_their_frequencies(make, more):
    """Beams reorder a cache and assistants crop it; with one set of frequencies neither matters."""
    long = {"kind": "longrope", "factors": SWITCH["factors"]}
    model, one_set, ids = make(SWITCH), make(long), tokens(2, 12).repeat(1, 2)
    ids = ids[:1] if "num_beams" not in more else ids
    common = {"max_new_tokens": 20, "do_sample": False, "pad_token_id": 0, "eos_token_id": 0} | more
    with pytest.raises(RopeError, match=r"stated_lengths"):
        model.generate(ids, **common)
    with stated_lengths(model, 44):
        got = model.generate(ids, **common)
    assert torch.equal(got, one_set.generate(ids, **common))


def test_stated_lengths_are_of_a_model_and_a_while(make):
    model, other, ids = make(SWITCH), make({"kind": "yarn"}), tokens(2, 20)
    with torch.no_grad():
        before, static = model(ids).logits, other(ids).logits
        with stated_lengths(model, torch.tensor([20, 60])), stated_lengths(other, 60):
            within = copy.deepcopy(model)(ids).logits
            assert torch.equal(within, model(ids).logits)
            assert torch.equal(other(ids).logits, static)
            assert torch.equal(model(ids, lengths=20).logits, before)
        assert torch.equal(model(ids).logits, before)
        torch.testing.assert_close(within[0], before[0], rtol=0, atol=1e-9)
        torch.testing.assert_close(within[1:], slow_logits(model, ids[1:], 60), rtol=0, atol=1e-9)
        with pytest.raises(RopeError, match=r"rope.lengths: .*each of 2 requests, got 3; state"):
            model(ids, lengths=torch.tensor([20, 60, 60]))


def test_attend_without_lengths_is_refused(make):
    model = make(SWITCH)
    with pytest.raises(RopeError, match=r"must be told the length .*got none; pass lengths"):
        model(tokens(1, 8), position_ids=torch.arange(8)[None], attend=lambda *args, **more: args[0])
