// The gradients of attention, one block of queries after the other. The weights are computed again from the scores and
// lse.
//   P = exp(scale S - lse),  dP = d_out V^T,  dS = scale P (dP - rowsum(out d_out)),
//   dV = P^T d_out,  dK = dS^T Q,  dQ = dS K.
// dQ of a query is a sum over blocks of keys, in order. dK and dV of a block of keys are sums over heads, then over
// blocks of queries, in order.

#include "backend/cpu/kernels/attention_rows.h"

namespace moe::cpu::MOE_ISA {
namespace {

/// The number of queries of one head that are taken at a time: whole tiles, about as many as keys.
constexpr int64_t kQueryBlock = kKeyBlock / kTileRows * kTileRows;
/// Rows of dK and dV that whole tiles cover.
constexpr int64_t kPaddedKeys = (kKeyBlock + kTileRows - 1) / kTileRows * kTileRows;

/// A block of keys and values, packed: panels of [depth][kTileColumns keys] and of [keys][kTileColumns columns]. With
/// pairs, the keys or queries along which a product is reduced are pairs too.
struct KeyBlock {
  int64_t first, count;
  float *keys_by_column, *values_by_column, *keys_by_row;
  float *dk, *dv;  ///< [kPaddedKeys][columns]
};

/// A block of one head's queries, packed: panels of [depth][kTileRows] and of [queries][kTileColumns columns].
struct QueryBlock {
  int64_t first, count;
  int head;
  float *q_by_column, *d_out_by_column, *q_by_row, *d_out_by_row;
  float* delta;      ///< [kQueryBlock]: rowsum(out d_out)
  float *p, *ds;     ///< [kQueryBlock][kKeyBlock]; with pairs at the end [pairs of queries][kKeyBlock]
  float* ds_by_row;  ///< dS for dQ: ds, or with pairs [kQueryBlock][kKeyBlock / 2]
  float* dq;         ///< [kQueryBlock][columns]
};

struct Workspace {
  const AttentionBackwardTask& task;
  bool pairs;            ///< products use bf16 pairs, and P and dS are rounded to bf16 for them
  int64_t depth;         ///< elements of panels along head_size: numbers, or pairs of them
  int64_t columns;       ///< head_size, padded
  int64_t block_floats;  ///< of one KeyBlock
  int64_t blocks;        ///< KeyBlocks that fit
  float* key_blocks;
  QueryBlock queries;

  /// Elements of a panel along `count` keys or queries.
  int64_t along(int64_t count) const { return pairs ? (count + 1) / 2 : count; }

  /// The memory of the index-th KeyBlock.
  KeyBlock key_block(int64_t index) const {
    const int64_t by_column = (kKeyBlock + kTileColumns - 1) / kTileColumns * kTileColumns * task.head_size;
    KeyBlock b{};
    b.keys_by_column = key_blocks + index * block_floats;
    b.values_by_column = b.keys_by_column + by_column;
    b.keys_by_row = b.values_by_column + by_column;
    b.dk = b.keys_by_row + kKeyBlock * columns;
    b.dv = b.dk + kPaddedKeys * columns;
    return b;
  }
};

/// The floats that the largest head needs: the blocks of queries and one block of keys.
constexpr int64_t kMostFloats =
    (5 * kQueryBlock + 3 * (kKeyBlock + kTileColumns) + 2 * kPaddedKeys) * (kLargestHead + kTileColumns) +
    4 * kQueryBlock * kKeyBlock + 16 * (kPanelSlack + 16);
static_assert(kMostFloats <= kScratchFloats);

Workspace divide(const AttentionBackwardTask& t, float* scratch) {
  const bool pairs = multiplies_pairs(t.head_size, t.q, t.k, t.v, t.d_out);
  Workspace w{.task = t,
              .pairs = pairs,
              .depth = pairs ? t.head_size / 2 : t.head_size,
              .columns = round_up(t.head_size, kTileColumns),
              .block_floats = 0,
              .blocks = 0,
              .key_blocks = nullptr,
              .queries = {}};
  float* free = scratch;
  const auto take = [&](int64_t floats) {
    float* const taken = free;
    free += round_up(floats + kPanelSlack, 16);
    return taken;
  };
  QueryBlock& q = w.queries;
  q.q_by_column = take(kQueryBlock * t.head_size);
  q.d_out_by_column = take(kQueryBlock * t.head_size);
  q.q_by_row = take(kQueryBlock * w.columns);
  q.d_out_by_row = take(kQueryBlock * w.columns);
  q.delta = take(kQueryBlock);
  q.p = take(kQueryBlock * kKeyBlock);
  q.ds = take(kQueryBlock * kKeyBlock);
  q.ds_by_row = pairs ? take(kQueryBlock * kKeyBlock / 2) : q.ds;
  q.dq = take(kQueryBlock * w.columns);
  // A tile may read a few floats after the last weight; the results from them are dropped.
  for (int i = 0; i < kPanelSlack; ++i) q.p[kQueryBlock * kKeyBlock + i] = q.ds[kQueryBlock * kKeyBlock + i] = 0;
  w.key_blocks = free;
  w.block_floats = 2 * round_up(kKeyBlock, kTileColumns) * t.head_size + (kKeyBlock + 2 * kPaddedKeys) * w.columns;
  w.blocks = (kScratchFloats - (free - scratch) - kPanelSlack) / w.block_floats;
  return w;
}

void clear(float* data, int64_t count) { __builtin_memset(data, 0, static_cast<size_t>(count) * sizeof(float)); }

/// Packs the keys and values from `first` on into the index-th block. Its gradients begin at zero.
KeyBlock pack_keys(const Workspace& w, int64_t index, int64_t first) {
  const AttentionBackwardTask& t = w.task;
  KeyBlock b = w.key_block(index);
  b.first = first;
  b.count = least(kKeyBlock, t.length - first);
  pack_head<kTileColumns>(t.k, 0, t.head_size, b.first, b.count, w.pairs, b.keys_by_column);
  pack_head<kTileColumns>(t.v, 0, t.head_size, b.first, b.count, w.pairs, b.values_by_column);
  pack_rows_of_head<kTileColumns>(t.k, 0, t.head_size, b.first, b.count, w.pairs, b.keys_by_row);
  clear(b.dk, 2 * kPaddedKeys * w.columns);
  return b;
}

float row_product(const HeadRows& x, const HeadRows& y, int64_t row, int64_t column, int count) {
  vf total = zero();
  for (int j = 0; j < count; j += kLanes) {
    total = fma(load_some(x, row, column + j, count - j), load_some(y, row, column + j, count - j), total);
  }
  return sum(total);
}

QueryBlock pack_queries(const Workspace& w, int64_t first, int query_head) {
  const AttentionBackwardTask& t = w.task;
  const int64_t column = int64_t{query_head} * t.head_size;
  QueryBlock b = w.queries;
  b.first = first;
  b.count = least(kQueryBlock, t.length - first);
  b.head = query_head;
  pack_head<kTileRows>(t.q, column, t.head_size, first, b.count, w.pairs, b.q_by_column);
  pack_head<kTileRows>(t.d_out, column, t.head_size, first, b.count, w.pairs, b.d_out_by_column);
  pack_rows_of_head<kTileColumns>(t.q, column, t.head_size, first, b.count, w.pairs, b.q_by_row);
  pack_rows_of_head<kTileColumns>(t.d_out, column, t.head_size, first, b.count, w.pairs, b.d_out_by_row);
  for (int64_t i = 0; i < b.count; ++i) b.delta[i] = row_product(t.out, t.d_out, first + i, column, t.head_size);
  clear(b.dq, kQueryBlock * w.columns);
  return b;
}

/// Turns scores and d_out V^T of one row into P and dS, for the keys [0, seen); the other keys of the block get 0.
void weigh_row(float* p, float* ds, int seen, float scale, float lse, float delta) {
  // Uses the whole range of exp: a key with only small weights has a gradient that consists of them. (With pairs,
  // numbers below the normal range count as 0 in products.)
  const auto weight = [&](int j) { return exp(fma(load(p + j), splat(scale), splat(-lse))); };
  const auto change = [&](int j, vf w) { return w * ((load(ds + j) - splat(delta)) * splat(scale)); };
  int j = 0;
  for (; j + kLanes <= seen; j += kLanes) {
    const vf w = weight(j);
    store(p + j, w);
    store(ds + j, change(j, w));
  }
  if (j < seen) {
    const vi mask = first_lanes(seen - j);
    const vf w = weight(j);
    store(p + j, mask ? w : zero());
    store(ds + j, mask ? change(j, w) : zero());
    j += kLanes;
  }
  for (; j < kKeyBlock; j += kLanes) store(p + j, zero()), store(ds + j, zero());
}

/// Turns two rows of weights at a time into pairs along the queries, in place.
void pair_rows(float* weights, int64_t rows) {
  for (int64_t i = 0; i < rows; i += 2) {
    const float* const row = weights + i * kKeyBlock;
    float* const to = weights + i / 2 * kKeyBlock;
    for (int j = 0; j < kKeyBlock; j += kLanes) {
      const vf second = i + 1 < rows ? load(row + kKeyBlock + j) : zero();
      store(to + j, join(narrow(load(row + j)), narrow(second)));
    }
  }
}

/// How many of the block's keys at least one query of the tile from row i sees.
int most_seen(const KeyBlock& keys, const QueryBlock& queries, int64_t i) {
  const int64_t last = least(i + kTileRows, queries.count) - 1;
  return static_cast<int>(least(keys.count, keys_seen(queries.first + last, keys.first)));
}

/// out = rows times the keys' panels, for tiles of rows that see the panel. A panel stays in the first-level cache
/// while all rows pass; the same holds for the products below.
void multiply_by_keys(const Workspace& w, const KeyBlock& keys, const QueryBlock& queries, const float* rows,
                      const float* panels, float* out) {
  const auto multiply = w.pairs ? scratch_tile<kTileRows, 1, kTileRows, false, kMultipliesPairs>
                                : scratch_tile<kTileRows, 1, kTileRows, false>;
  for (int j = 0; j < keys.count; j += kTileColumns) {
    for (int64_t i = 0; i < queries.count; i += kTileRows) {
      if (j >= most_seen(keys, queries, i)) continue;
      multiply(w.depth, rows + i * w.depth, panels + j * w.depth, out + i * kKeyBlock + j, kKeyBlock);
    }
  }
}

/// P and dS of a block of queries and a block of keys, and its part of dQ.
void weigh(const Workspace& w, const KeyBlock& keys, const QueryBlock& queries) {
  const AttentionBackwardTask& t = w.task;
  multiply_by_keys(w, keys, queries, queries.q_by_column, keys.keys_by_column, queries.p);
  multiply_by_keys(w, keys, queries, queries.d_out_by_column, keys.values_by_column, queries.ds);
  for (int64_t i = 0; i < queries.count; ++i) {
    const int64_t position = queries.first + i;
    weigh_row(queries.p + i * kKeyBlock, queries.ds + i * kKeyBlock, keys_seen(position, keys.first), t.scale,
              t.lse[position * t.lse_step + queries.head], queries.delta[i]);
  }
  if (w.pairs) {
    for (int64_t i = 0; i < queries.count; ++i) {
      round_weights(queries.ds + i * kKeyBlock, kKeyBlock, queries.ds_by_row + i * kKeyBlock / 2);
    }
    pair_rows(queries.p, queries.count);
    pair_rows(queries.ds, queries.count);
  }
  const auto multiply = w.pairs ? scratch_tile<kTileRows, kKeyBlock / 2, 1, true, kMultipliesPairs>
                                : scratch_tile<kTileRows, kKeyBlock, 1, true>;
  for (int64_t j = 0; j < w.columns; j += kTileColumns) {
    for (int64_t i = 0; i < queries.count; i += kTileRows) {
      multiply(w.along(most_seen(keys, queries, i)), queries.ds_by_row + w.along(i * kKeyBlock),
               keys.keys_by_row + j * w.along(keys.count), queries.dq + i * w.columns + j, w.columns);
    }
  }
}

/// out += weights^T rows: a block of queries' part of dV (from P and d_out) or of dK (from dS and Q).
void add_key_gradient(const Workspace& w, const KeyBlock& keys, const QueryBlock& queries, const float* weights,
                      const float* rows, float* out) {
  const auto multiply = w.pairs ? scratch_tile<kTileRows, 1, kKeyBlock, true, kMultipliesPairs>
                                : scratch_tile<kTileRows, 1, kKeyBlock, true>;
  const int64_t depth = w.along(queries.count);
  for (int64_t j = 0; j < w.columns; j += kTileColumns) {
    for (int64_t i = 0; i < keys.count; i += kTileRows) {
      const int64_t unseeing = keys.first + i - queries.first;  // queries before key i, whose weights are 0
      const int64_t skip = unseeing > 0 ? least(unseeing, queries.count) / (w.pairs ? 2 : 1) : 0;
      multiply(depth - skip, weights + skip * kKeyBlock + i, rows + j * depth + skip * kTileColumns,
               out + i * w.columns + j, w.columns);
    }
  }
}

void write_rows(const HeadRows& to, int64_t first, int64_t column, int64_t count, int head_size, const float* from,
                int64_t step) {
  for (int64_t i = 0; i < count; ++i) {
    for (int j = 0; j < head_size; j += kLanes) {
      store_some(to, first + i, column + j, load(from + i * step + j), head_size - j);
    }
  }
}

void write_queries(const Workspace& w, const QueryBlock& b) {
  write_rows(w.task.dq, b.first, int64_t{b.head} * w.task.head_size, b.count, w.task.head_size, b.dq, w.columns);
}

/// dK and dV of the blocks of keys from `first_key` on, as many as fit. Also dQ, if these are all blocks.
void sweep_keys(const Workspace& w, int64_t first_key, bool with_queries) {
  const AttentionBackwardTask& t = w.task;
  const int64_t end = least(t.length, first_key + w.blocks * kKeyBlock);
  for (int64_t key = first_key; key < end; key += kKeyBlock) pack_keys(w, (key - first_key) / kKeyBlock, key);
  for (int h = 0; h < t.group; ++h) {
    for (int64_t q = first_key / kQueryBlock * kQueryBlock; q < t.length; q += kQueryBlock) {
      const QueryBlock queries = pack_queries(w, q, h);
      for (int64_t key = first_key; key < end && key < q + queries.count; key += kKeyBlock) {
        KeyBlock keys = w.key_block((key - first_key) / kKeyBlock);
        keys.first = key;
        keys.count = least(kKeyBlock, t.length - key);
        weigh(w, keys, queries);
        add_key_gradient(w, keys, queries, queries.p, queries.d_out_by_row, keys.dv);
        add_key_gradient(w, keys, queries, queries.ds, queries.q_by_row, keys.dk);
      }
      if (with_queries) write_queries(w, queries);
    }
  }
  for (int64_t key = first_key; key < end; key += kKeyBlock) {
    const KeyBlock keys = w.key_block((key - first_key) / kKeyBlock);
    const int64_t count = least(kKeyBlock, t.length - key);
    write_rows(t.dk, key, 0, count, t.head_size, keys.dk, w.columns);
    write_rows(t.dv, key, 0, count, t.head_size, keys.dv, w.columns);
  }
}

/// Only dQ. The blocks of keys are packed when they are needed.
void sweep_queries(const Workspace& w) {
  for (int h = 0; h < w.task.group; ++h) {
    for (int64_t q = 0; q < w.task.length; q += kQueryBlock) {
      const QueryBlock queries = pack_queries(w, q, h);
      for (int64_t key = 0; key < q + queries.count; key += kKeyBlock) weigh(w, pack_keys(w, 0, key), queries);
      write_queries(w, queries);
    }
  }
}

}  // namespace

void attention_backward(const AttentionBackwardTask& task, float* scratch) {
  const Workspace workspace = divide(task, scratch);
  const int64_t keys_at_once = workspace.blocks * kKeyBlock;
  const bool all_at_once = task.length <= keys_at_once;
  for (int64_t key = 0; key < task.length; key += keys_at_once) sweep_keys(workspace, key, all_at_once);
  // The weights are computed twice if the keys and their gradients do not fit in the scratch.
  if (!all_at_once) sweep_queries(workspace);
}

}  // namespace moe::cpu::MOE_ISA
