"""The C data plane's parts against published vectors and reference models."""

import ctypes
import random

import pytest

from phalanx.ipsec.engine.core import choose_aead, library
from phalanx.ipsec.engine.errors import EngineError

GCM = {
    # NIST, "The Galois/Counter Mode of Operation", appendix B, test cases 13, 14 and 16.
    "case 13": ("00" * 32, "00" * 12, "", "", "530f8afbc74536b9a963b4f1c4cb738b"),
    "case 14": ("00" * 32, "00" * 12, "", "00" * 16, "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"),
    "case 16": (
        "feffe9928665731c6d6a8f9467308308" * 2,
        "cafebabefacedbaddecaf888",
        "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b",
    ),
    # "Test Cases for the use of GCM in IPsec ESP" (draft-mcgrew-gcm-test-01): RFC 4106 nonces and AAD, first with ESN.
    "RFC 4106, ESN, AES-128": (
        "4c80cdefbb5d10da906ac73c3613a634",
        "2e443b684956ed7e3b244cfe",
        "000043218765432100000000",
        "45000048699a000080114db7c0a80102c0a801010a9bf15638d3010000010000"
        "00000000045f736970045f756470037369700963796265726369747902646b000021000101020201",
        "fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34"
        "cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce61bc17d768fd9732459018148f6cbe722fd04796562dfdb4",
    ),
    "RFC 4106, AES-256": (
        "abbccddef00112233445566778899aababbccddef00112233445566778899aab",
        "112233440102030405060708",
        "4a2cbfe300000002",
        "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000020405b40101040201020201",
        "ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763"
        "748a637985771d347f0545659f14e99def842d8eb335f4eecfdbf831824b4c4915956c96",
    ),
}


def gcm(seal: bool, key: bytes, nonce: bytes, aad: bytes, data: bytes, tag: bytes = bytes(16)) -> tuple[int, bytes, bytes]:
    buffer = (ctypes.c_uint8 * max(1, len(data))).from_buffer_copy(data.ljust(1, b"\0"))
    mark = (ctypes.c_uint8 * 16).from_buffer_copy(tag)
    result = library().phx_gcm(seal, key, len(key), nonce, aad, len(aad), buffer, len(data), mark)
    return result, bytes(buffer)[: len(data)], bytes(mark)


@pytest.fixture(params=["ipsec-mb", "libcrypto"])
def aead(request):
    """Each library in turn; then the one that is chosen by itself."""
    assert choose_aead(request.param) == request.param
    yield request.param
    choose_aead()


@pytest.mark.parametrize("name", GCM)
def test_gcm_vector(aead, name):
    key, nonce, aad, plain, sealed = map(bytes.fromhex, GCM[name])
    assert gcm(True, key, nonce, aad, plain) == (0, sealed[:-16], sealed[-16:])
    assert gcm(False, key, nonce, aad, sealed[:-16], sealed[-16:])[:2] == (0, plain)


def test_gcm_refuses_a_wrong_tag_aad_and_key_length(aead):
    key, nonce, aad, _, sealed = map(bytes.fromhex, GCM["case 16"])
    body, tag = sealed[:-16], sealed[-16:]
    assert gcm(False, key, nonce, aad, body, bytes([tag[0] ^ 1]) + tag[1:])[0] == -1
    assert gcm(False, key, nonce, aad[:-1], body, tag)[0] == -1
    assert gcm(False, key[:24], nonce, aad, body, tag)[0] == -1


def test_the_fastest_library_is_chosen_and_another_one_is_an_error():
    assert choose_aead() == "ipsec-mb"
    with pytest.raises(EngineError, match="AES-GCM by rot13 is not installed here or fails its self-test"):
        choose_aead("rot13")


class Window:
    """The window under test."""

    def __init__(self, window: int, top: int = 0):
        self.core = library()
        self.pointer = self.core.phx_replay_new(window, top)
        assert self.pointer

    def accept(self, sequence: int) -> bool:
        return bool(self.core.phx_replay_accept(self.pointer, sequence))

    def __del__(self):
        self.core.phx_replay_free(self.pointer)


@pytest.mark.parametrize("window", [1, 32, 64, 1000, 4096])
@pytest.mark.parametrize("start", [0, 2**32 - 5000, 2**32 - 1, 7 * 2**32 - 3, 2**33 + 77])
def test_replay_window_equals_a_set_under_reordering_and_wraps(window, start):
    """Against the plain definition: accepted once, if not older than the window; beyond 2^32 without a gap."""
    chosen = random.Random(window * 31 + start)
    tested, seen, top = Window(window, start), set(), start
    for _ in range(30000):
        ahead = chosen.choice([1, 1, 1, 2, 5, 70, 300]) if chosen.random() < 0.6 else -chosen.randrange(2 * window + 200)
        number = top + ahead
        if number <= start:
            continue
        fresh = number not in seen and number > top - window
        assert tested.accept(number) == fresh, (number, top)
        if fresh:
            seen.add(number)
            top = max(top, number)


def test_replay_window_moves_by_more_than_itself():
    tested = Window(4096)
    assert tested.accept(5)
    assert tested.accept(1_000_000)
    assert tested.accept(1_000_000 - 4095)
    assert not tested.accept(1_000_000 - 4096)
    assert not tested.accept(1_000_000)
    assert not tested.accept(5)


def test_replay_window_never_takes_zero_nor_leaves_its_64_bits():
    assert not Window(4096).accept(0)
    assert not Window(4096).accept(2**32 - 1)  # the wire's low half would be from before the beginning
    last = Window(4096, 2**64 - 2)
    assert last.accept(2**64 - 1)
    assert not last.accept(2**64 - 1)
    assert not last.accept(0)


def test_replay_window_counts_everything_up_to_its_start_as_seen():
    tested = Window(4096, 10_000)
    assert [tested.accept(number) for number in (5_905, 9_984, 10_000, 10_001)] == [False, False, False, True]


def test_a_window_larger_than_the_ring_is_refused():
    assert not library().phx_replay_new(4097, 0)
    assert not library().phx_replay_new(0, 0)
