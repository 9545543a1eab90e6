"""One random stream a chain, fixed by the seed and the chain's place."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from bnnpriors.streams import Minibatch, Streams


def streams(seed, keys, dtype=torch.float64):
    return Streams(seed, keys, dtype=dtype, device=torch.device("cpu"))


def everything(given):
    return given.normal(3), given.uniform(), given.integers(10, 4), given.normal(2)


def test_a_chain_does_not_see_the_others():
    few, many = everything(streams(7, [(0, 0), (0, 1)])), everything(streams(7, [(0, k) for k in range(5)]))
    for a, b in zip(few, many, strict=True):
        assert torch.equal(a, b[:2])
    other_order = everything(streams(7, [(1, 3), (0, 1)]))
    for a, b in zip(few, other_order, strict=True):
        assert torch.equal(a[1], b[1])


def test_streams_differ_by_seed_rung_and_chain():
    keys = [(0, 0), (0, 1), (1, 0), (1, 1)]
    numbers = torch.cat([streams(seed, keys).normal(4) for seed in (0, 1)])
    assert len(numbers[:, 0].unique()) == 8
    assert torch.equal(numbers, torch.cat([streams(seed, keys).normal(4) for seed in (0, 1)]))


def test_streams_of_seeds_whose_words_share_their_lower_half_differ():
    """A generator of torch on the CPU takes 32 bits from `manual_seed`; the words of these two agree in them."""
    words = [
        np.random.SeedSequence(s, spawn_key=(0, 0)).generate_state(1, np.uint64)[0] for s in (14375, 53572)
    ]
    assert len({int(word) % 2**32 for word in words}) == 1
    one, other = (everything(streams(seed, [(0, 0)])) for seed in (14375, 53572))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_generator_on_the_cpu_is_the_twister_that_numpy_seeds():
    """All its words, so that nothing of the seed is lost. NumPy's first raw number is the last of the words, which torch skips,
    and torch takes two for an integer of 64 bits."""
    (generator,) = streams(7, [(2, 5)]).generators
    raw = np.random.MT19937(np.random.SeedSequence(7, spawn_key=(2, 5))).random_raw(701)[1:]
    low = torch.empty(350, dtype=torch.int64).random_(0, 2**31, generator=generator)
    np.testing.assert_array_equal(low.numpy(), raw[1::2].astype(np.int64) % 2**31)


def test_state_and_restore():
    first = streams(3, [(0, 0), (0, 1)])
    first.normal(3)
    saved = first.state()
    expected = everything(first)
    second = streams(99, [(0, 0), (0, 1)])
    second.restore(saved)
    for a, b in zip(everything(second), expected, strict=True):
        assert torch.equal(a, b)


def test_shapes_and_dtypes():
    normal, uniform, integers, _ = everything(streams(0, [(0, 0), (0, 1)], torch.float32))
    assert (normal.shape, normal.dtype) == ((2, 3), torch.float32)
    assert (uniform.shape, uniform.dtype) == ((2,), torch.float64)
    assert (integers.shape, integers.dtype) == ((2, 4), torch.int64)
    many = streams(0, [(0, 0)]).integers(5, 1000)
    assert set(many.unique().tolist()) == {0, 1, 2, 3, 4}


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    everything(streams(0, [(0, 0)]))
    assert torch.equal(torch.get_rng_state(), before)


def test_negative_seed():
    with pytest.raises(ValueError, match="seed -1"):
        streams(-1, [(0, 0)])


@pytest.mark.parametrize("then", ["normal", "other size", "uniform", "integers", "state", "restore"])
def test_numbers_drawn_ahead_keep_the_order(then):
    keys = [(0, 0), (0, 1)]
    plain, given = streams(7, keys), streams(7, keys)
    with ThreadPoolExecutor(1) as given.spare:
        assert torch.equal(plain.normal(5), given.normal(5))
        state = plain.state()
        given.draw_ahead()
        if then == "state":
            assert torch.equal(given.state(), state)
        if then == "restore":
            given.restore(state)
        draw = {
            "other size": lambda s: s.normal(3),
            "uniform": lambda s: s.uniform(),
            "integers": lambda s: s.integers(9, 4),
        }.get(then, lambda s: s.normal(5))
        assert torch.equal(draw(plain), draw(given))
        for a, b in zip(everything(plain), everything(given), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("then", ["minibatch", "another", "normal", "uniform", "state", "twice"])
def test_a_minibatch_drawn_ahead_keeps_the_order(then):
    keys, wanted = [(0, 0), (0, 1)], Minibatch(100, 4, torch.Tensor.double)
    plain, given = streams(7, keys), streams(7, keys)
    with ThreadPoolExecutor(1) as given.spare:
        for each in (plain, given):
            each.normal(5)
            each.minibatch(wanted)
        given.draw_ahead()
        if then == "twice":
            assert torch.equal(plain.minibatch(wanted), given.minibatch(wanted))
        assert torch.equal(plain.normal(5), given.normal(5))
        if then == "state":
            assert torch.equal(plain.state(), given.state())
        draw = {
            "another": lambda s: s.minibatch(Minibatch(50, 3, torch.Tensor.float)),
            "normal": lambda s: s.normal(5),
            "uniform": lambda s: s.uniform(),
        }.get(then, lambda s: s.minibatch(wanted))
        assert torch.equal(draw(plain), draw(given))
        for a, b in zip(everything(plain), everything(given), strict=True):
            assert torch.equal(a, b)
