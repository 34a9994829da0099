#!/usr/bin/env python3
"""Writes tests/golden/nf4/blocks.txt: 4-bit NormalFloat with double quantisation, computed with numpy alone.

    build/peers-venv/bin/python tools/make_nf4_golden.py --out tests/golden/nf4
    python3 tools/make_nf4_golden.py --check         # with bitsandbytes: its own blocks of the same matrix

The matrix is given by a formula on integers, so that every program has the same bits (matrix(), below). A line of the file
is a block of 64: the bits of its scale, after the scales were stored in 8 bits (less their mean, in groups of 256, in the
dynamic type), and its codes, two in a byte, the first in the high half. `--check` compares both with what bitsandbytes
computes on a CPU (0.50.2: all bits are the same), and fails on a difference of more than a last bit of the mean, which
torch sums in single precision.
"""

import argparse
import pathlib
import sys

import numpy as np

ROWS, WIDTH, BLOCK, GROUP = 150, 192, 64, 256

# The 16 numbers of the type, from the paper (QLoRA, Dettmers et al. 2023, appendix E).
NF4 = np.array([-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
                -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
                0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
                0.7229568362236023, 1.0], np.float32)


def line(count):
    """torch.linspace(0.1, 1, count): steps from the nearer end, each with one rounding."""
    first, last = np.float32(0.1), np.float32(1)
    step = np.float64(np.float32((last - first) / np.float32(count - 1)))
    i = np.arange(count)
    return np.where(i < count // 2, np.float64(first) + step * i, np.float64(last) - step * (count - 1 - i)).astype(np.float32)


def dynamic_map():
    """The signed 8-bit type: in each of seven decades the middles of 1, 2, 4, ... equal parts; 0 and 1."""
    values = [np.float32(0), np.float32(1)]
    for i in range(7):
        bounds = line(2**i + 1)
        for middle in (bounds[:-1] + bounds[1:]) / np.float32(2):
            values += [np.float32(10.0 ** (i - 6)) * middle, -(np.float32(10.0 ** (i - 6)) * middle)]
    return np.sort(np.array(values, np.float32))


def matrix():
    i = np.arange(ROWS * WIDTH, dtype=np.int64)
    values = ((i * 7919 + i * i % 1009) % 4001 - 2000).astype(np.float32) / np.float32(2048)
    block = i // BLOCK
    return values * ((block * 37 % 101 + 1).astype(np.float32) / np.float32(64))


def nearest(values, numbers):
    """The index of the nearest number; of two, the lower one."""
    middles = (numbers[:-1] + numbers[1:]) / np.float32(2)
    return np.searchsorted(middles, values, side="left")


def inverse(largest):
    return np.float32(1) / np.maximum(largest, np.float32(1e-38))


def quantise(values, map8):
    blocks = values.reshape(-1, BLOCK)
    largest = np.abs(blocks).max(axis=1)
    codes = nearest(np.clip(blocks * inverse(largest)[:, None], -1, 1), NF4).astype(np.uint8)
    mean = np.float32(largest.astype(np.float64).mean())
    rest = largest - mean
    scales = np.zeros_like(largest)
    for begin in range(0, len(rest), GROUP):
        group = rest[begin:begin + GROUP]
        most = np.abs(group).max()
        eight = nearest(np.clip(group * inverse(most), -1, 1), map8)
        scales[begin:begin + GROUP] = map8[eight] * most + mean
    packed = (codes[:, 0::2] << 4 | codes[:, 1::2]).astype(np.uint8)
    return packed, scales


def check(values, packed, scales):
    import bitsandbytes.functional as theirs
    import torch
    quantised, state = theirs.quantize_4bit(torch.from_numpy(values.copy()), blocksize=BLOCK, quant_type="nf4",
                                            compress_statistics=True)
    codes = quantised.numpy().reshape(packed.shape)
    of_scales = theirs.dequantize_blockwise(state.absmax, state.state2).numpy() + state.offset.numpy()
    off = np.abs(of_scales - scales).max()
    print(f"{(codes != packed).sum()} of {codes.size} bytes differ; scales differ by at most {off:.3g}, "
          f"{(of_scales != scales).sum()} of {scales.size}")
    limit = np.spacing(np.abs(scales).max()) * 2
    if (codes != packed).any() or off > limit:
        sys.exit("the blocks of bitsandbytes are others")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    values = matrix()
    packed, scales = quantise(values, dynamic_map())
    if options.check:
        check(values, packed, scales)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        lines = [f"{scale.view(np.uint32):08x} {codes.tobytes().hex()}\n" for scale, codes in zip(scales, packed)]
        (options.out / "blocks.txt").write_text("".join(lines))


if __name__ == "__main__":
    main()
