"""Reads files that zstd compressed, with the library that the build needs anyway: no program and no Python package."""

import ctypes
import ctypes.util
import sys

from python_packages import skip


def read_zst(path):
    """The content of `path`, a .zst file of one frame."""
    library = ctypes.util.find_library("zstd")
    if library is None:
        skip("libzstd was not found")
    zstd = ctypes.CDLL(library)
    zstd.ZSTD_getFrameContentSize.restype = ctypes.c_ulonglong
    zstd.ZSTD_decompress.restype = ctypes.c_size_t
    with open(path, "rb") as file:
        data = file.read()
    size = zstd.ZSTD_getFrameContentSize(data, ctypes.c_size_t(len(data)))
    if size >= 1 << 40:  # the frame does not tell it
        size = 64 * len(data)
    out = ctypes.create_string_buffer(size)
    got = zstd.ZSTD_decompress(out, ctypes.c_size_t(size), data, ctypes.c_size_t(len(data)))
    if zstd.ZSTD_isError(ctypes.c_size_t(got)):
        sys.exit(f"{path}: cannot be decompressed")
    return out.raw[:got]
