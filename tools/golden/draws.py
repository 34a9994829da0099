"""Counter-based random numbers: Philox4x32-10 on (seed, stream, index), the generator of the C++ program's `Random`."""

import numpy as np

LOW = np.uint64(0xFFFFFFFF)
SHIFT = np.uint64(32)


def hash_name(name):
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = ((value ^ byte) * 0x100000001B3) % 2**64
    return value


def philox(seed, stream, index):
    """The four 32-bit words of each index (uint64 arrays)."""
    index = np.asarray(index, np.uint64)
    c0, c1 = index & LOW, index >> SHIFT
    c2 = np.full_like(index, stream & 0xFFFFFFFF)
    c3 = np.full_like(index, stream >> 32)
    key0, key1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        product0, product1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c2 = (product1 >> SHIFT) ^ c1 ^ np.uint64(key0), (product0 >> SHIFT) ^ c3 ^ np.uint64(key1)
        c1, c3 = product1 & LOW, product0 & LOW
        key0, key1 = (key0 + 0x9E3779B9) % 2**32, (key1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


def uniform(seed, stream, index):
    """In [0, 1), 53 bits."""
    w = philox(seed, stream, index)
    return (((w[1] << SHIFT) | w[0]) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(seed, stream, index):
    """Box-Muller of two 32-bit words."""
    w = philox(seed, stream, index)
    radius = np.sqrt(-2.0 * np.log((w[0].astype(np.float64) + 1.0) * 2.0**-32))
    return radius * np.cos(2.0 * np.pi * (w[1].astype(np.float64) * 2.0**-32))


def check_known_answers():
    """Random123's published vectors of philox4x32-10."""
    ones = 2**64 - 1
    known = [
        ((0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ones, ones, ones), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ]
    for (seed, stream, index), words in known:
        assert tuple(int(w[0]) for w in philox(seed, stream, [index])) == words
