"""Packed batches: documents of unequal length, one cut at a row's end, padding, ignored targets, all seeded."""

import numpy as np
import torch

from .step import Batch


def document(random, vocab, length):
    """A learnable token sequence: mostly the successor 5 t + 3 (mod V), else any token."""
    tokens = [int(random.integers(vocab))]
    while len(tokens) < length:
        successor = (5 * tokens[-1] + 3) % vocab
        tokens.append(successor if random.random() < 0.75 else int(random.integers(vocab)))
    return tokens


def packed_batch(random, vocab, rows, row_length):
    """`rows`: for each row the documents in order, as (length, first tokens whose target is ignored, continues?).

    `continues`: the row's last document goes on as the next row's first one (which is a segment of its own). What a row
    does not fill is padding. A document's last target is a token beyond it, so that every position can have one.
    """
    shape = (len(rows), row_length)
    tokens, targets, start = np.zeros(shape, np.int32), np.full(shape, -1, np.int32), np.full(shape, -1, np.int32)
    carried = None
    for r, segments in enumerate(rows):
        column = 0
        for length, ignored, continues in segments:
            text = document(random, vocab, length + 1)
            if carried is not None:
                text[0], carried = carried, None
            tokens[r, column : column + length] = text[:-1]
            targets[r, column : column + length] = text[1:]
            targets[r, column : column + ignored] = -1
            start[r, column : column + length] = r * row_length + column
            column += length
            if continues:
                assert column == row_length
                carried = text[-1]
    return Batch(*(torch.from_numpy(a) for a in (tokens, targets, start)))


# 4 rows of 19: 38 tokens in the first two, 24 in the last two, so that microbatches of two rows weigh differently.
PACKED = [
    [(7, 0, False), (9, 3, False), (3, 0, True)],
    [(8, 0, False), (11, 0, False)],
    [(1, 0, False), (12, 5, False)],
    [(11, 2, False)],
]

# 4 rows of 17, unequally full, one of them nearly empty: 17, 12, 2 and 15 tokens.
PACKED_SHORT = [
    [(6, 0, False), (8, 3, False), (3, 0, True)],
    [(7, 0, False), (5, 1, False)],
    [(2, 0, False)],
    [(1, 0, False), (10, 4, False), (4, 0, False)],
]


def shuffled_layout(random, rows, row_length):
    """A random layout for `packed_batch`: two or three documents a row, some padding, some ignored targets."""
    layout = []
    for _ in range(rows):
        lengths = [int(n) for n in random.integers(1, row_length // 2 + 1, size=int(random.integers(1, 4)))]
        while sum(lengths) > row_length:
            lengths.pop()
        layout.append([(n, int(random.integers(0, n // 3 + 1)), False) for n in lengths])
    return layout
