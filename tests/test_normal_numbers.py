"""Normal numbers by counting: their bits against the published ones, their values against NumPy, their law."""

import math
import zlib

import numpy as np
import pytest
import torch
from scipy import stats

from bnnpriors import extension
from bnnpriors.streams import COUNTER, TORCH, Streams, fill_normal, normal_source

pytestmark = pytest.mark.skipif(
    isinstance(extension.load(), str),
    reason="the C++ part was not compiled: install a C++ compiler and the package anew",
)
CPU = torch.device("cpu")


def philox(counters: np.ndarray, key: int) -> np.ndarray:
    """Philox4x32-10 of counters [n, 4], in 64-bit integers."""
    a, b, c, d = counters.astype(np.uint64).T
    low, high, mask, shift = (np.uint64(n) for n in (key & 0xFFFFFFFF, key >> 32, 0xFFFFFFFF, 32))
    for _ in range(10):
        p, q = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        a, b, c, d = (q >> shift) ^ b ^ low, q & mask, (p >> shift) ^ d ^ high, p & mask
        low, high = (low + np.uint64(0x9E3779B9)) & mask, (high + np.uint64(0xBB67AE85)) & mask
    return np.stack([a, b, c, d], axis=1)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, 2**64 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            0x299F31D0A4093822,
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_the_reference_has_the_published_answers(counter: list[int], key: int, words: str) -> None:
    """The known answers of the authors' library Random123."""
    assert " ".join(f"{word:08x}" for word in philox(np.array([counter]), key)[0]) == words


def expected(seed: tuple[int, int], count: int, dtype: torch.dtype) -> np.ndarray:
    """Box and Muller's numbers in float64, in blocks of 64 counters."""
    counters = np.arange(64 * math.ceil(count / 128), dtype=np.uint64)
    parts = [counters & np.uint64(0xFFFFFFFF), counters >> np.uint64(32)]
    nonce = [np.full_like(counters, word) for word in (seed[1] & 0xFFFFFFFF, seed[1] >> 32)]
    words = philox(np.stack(parts + nonce, axis=1), seed[0]).reshape(-1, 64, 4)
    if dtype == torch.float32:
        radius, angle = words[..., 0::2] >> np.uint64(1), words[..., 1::2] / 2**32
        distance = (radius.astype(np.float32) + np.float32(0.5)).astype(np.float64) / 2**31
    else:
        pairs = words[..., 0::2] | words[..., 1::2] << np.uint64(32)
        distance, angle = ((pairs[..., :1] >> np.uint64(11)) + 0.5) / 2**53, pairs[..., 1:] / 2**64
    length = np.sqrt(-2 * np.log(distance))
    # two bits of the angle are a quarter of the circle, whose middle lies on an axis
    turn = 2 * np.pi * (np.floor(4 * angle) / 4 + (np.mod(4 * angle + 0.5, 1) - 0.5) / 4)
    numbers = np.stack([length * np.cos(turn), length * np.sin(turn)], axis=-1)  # [blocks, 64, halves, 2]
    return numbers.transpose(0, 2, 3, 1).reshape(-1)[:count]


@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers(dtype: torch.dtype, vector_bytes: int) -> None:
    library = extension.load()
    assert not isinstance(library, str)
    if vector_bytes > library.bnnpriors_vector_bytes():
        pytest.skip(f"this processor has no vectors of {vector_bytes} bytes")
    seeds = [(0x299F31D0A4093822, 2**63 - 1), (5, 7)]
    for count in (1, 127, 256, 100_003):
        out = torch.full((3, count), math.nan, dtype=dtype)
        fill_normal(out[:2], torch.tensor(seeds), vector_bytes)
        wanted = np.stack([expected(seed, count, dtype) for seed in seeds])
        tolerance = 2e-6 if dtype == torch.float32 else 4e-15
        np.testing.assert_allclose(out[:2].numpy(), wanted, rtol=tolerance, atol=tolerance)
        assert out[2].isnan().all()


@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
@pytest.mark.parametrize(("dtype", "checksum"), [(torch.float32, 0x79B396E5), (torch.float64, 0x9CCE6593)])
def test_the_bits_are_the_same_everywhere(dtype: torch.dtype, checksum: int, vector_bytes: int) -> None:
    """With all instruction sets and on all machines."""
    library = extension.load()
    assert not isinstance(library, str)
    if vector_bytes > library.bnnpriors_vector_bytes():
        pytest.skip(f"this processor has no vectors of {vector_bytes} bytes")
    out = torch.empty(2, 100_003, dtype=dtype)
    fill_normal(out, torch.tensor([(0x299F31D0A4093822, 2**63 - 1), (5, 7)]), vector_bytes)
    assert zlib.crc32(out.numpy().tobytes()) == checksum


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_law(dtype: torch.dtype) -> None:
    """The whole law, its tails and its independence, along a chain and between chains; false alarms below 1e-6 in all."""
    numbers = Streams(0, [(0, k) for k in range(8)], dtype=dtype, device=CPU).normal(500_000).double()
    assert stats.kstest(numbers.flatten().numpy(), "norm").pvalue > 1e-8
    inside = math.erf(4 / math.sqrt(2))
    assert stats.binomtest(int((numbers.abs() > 4).sum()), numbers.numel(), 1 - inside).pvalue > 1e-8
    squares = numbers**2 - 1
    for values in (numbers, squares):
        values = values / values.std()
        products = [values[:, :-lag] * values[:, lag:] for lag in (1, 2, 63, 64, 128, 192, 256)]
        products += [values[:-1] * values[1:]]
        for product in products:
            assert abs(product.mean()) * math.sqrt(product.numel()) < 6.2 * product.std()


def test_calls_continue_a_stream_and_never_repeat() -> None:
    one, other = (Streams(3, [(0, 0)], dtype=torch.float32, device=CPU) for _ in range(2))
    first, second = one.normal(300), one.normal(300)
    assert torch.equal(first, other.normal(300))
    assert len(torch.cat([first, second], 1).unique()) > 590
    state = one.state()
    third = one.normal(300)
    one.restore(state)
    assert torch.equal(one.normal(300), third)


def test_what_they_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    assert normal_source(torch.float32, CPU) == normal_source(torch.float64, CPU) == COUNTER
    assert normal_source(torch.bfloat16, CPU) == normal_source(torch.float32, torch.device("cuda")) == TORCH
    monkeypatch.setattr(extension, "load", lambda: "no compiler")
    assert normal_source(torch.float32, CPU) == TORCH
    found = Streams(0, [(0, 0)], dtype=torch.float32, device=CPU)
    again = Streams(0, [(0, 0)], dtype=torch.float32, device=CPU).generators[0]
    assert torch.equal(found.normal(50)[0], torch.empty(50).normal_(generator=again))
