// The gradients of attention, one block of keys after another: the weights are computed again from the scores and lse.
//   P = exp(scale S - lse),  dP = d_out V^T,  dS = scale P (dP - rowsum(out d_out)),
//   dV = P^T d_out,  dK = dS^T Q,  dQ = dS K.
// dK and dV of a block of keys are sums over blocks of queries in order, dQ of a query over blocks of keys in order.

#include "backend/cpu/kernels/attention_rows.h"

namespace moe::cpu::MOE_ISA {
namespace {

/// Queries of one head at a time: whole tiles, about as many as keys.
constexpr int64_t kQueryBlock = kKeyBlock / kTileRows * kTileRows;

struct Buffers {
  int64_t columns;  ///< head_size, padded
  // The block of keys: panels of [head_size][kTileColumns keys], and of [keys][kTileColumns columns].
  float *keys_by_column, *values_by_column, *keys_by_row;
  float *dk, *dv;  ///< [kKeyBlock][columns]
  // The block of queries: panels of [head_size][kTileRows], and of [queries][kTileColumns columns].
  float *q_by_column, *d_out_by_column, *q_by_row, *d_out_by_row;
  float *p, *ds;  ///< [kQueryBlock][kKeyBlock]
  float* dq;      ///< [group][queries][columns]: what is left of the scratch
  int64_t dq_floats;
};

Buffers divide(const AttentionBackwardTask& t, float* scratch) {
  Buffers b{};
  b.columns = round_up(t.head_size, kTileColumns);
  float* free = scratch;
  const auto take = [&](int64_t floats) {
    float* const taken = free;
    free += round_up(floats + kPanelSlack, 16);
    return taken;
  };
  const int64_t padded_keys = round_up(kKeyBlock, kTileColumns);
  b.keys_by_column = take(padded_keys * t.head_size);
  b.values_by_column = take(padded_keys * t.head_size);
  b.keys_by_row = take(kKeyBlock * b.columns);
  b.dk = take(kKeyBlock * b.columns);
  b.dv = take(kKeyBlock * b.columns);
  b.q_by_column = take(kQueryBlock * t.head_size);
  b.d_out_by_column = take(kQueryBlock * t.head_size);
  b.q_by_row = take(kQueryBlock * b.columns);
  b.d_out_by_row = take(kQueryBlock * b.columns);
  b.p = take(kQueryBlock * kKeyBlock);
  b.ds = take(kQueryBlock * kKeyBlock);
  // A tile may read a few floats after the last weight, whose products are dropped.
  for (int i = 0; i < kPanelSlack; ++i) b.p[kQueryBlock * kKeyBlock + i] = b.ds[kQueryBlock * kKeyBlock + i] = 0;
  b.dq = free;
  b.dq_floats = kScratchFloats - (free - scratch);
  return b;
}

struct KeyRange {
  int64_t first;
  int64_t count;
};
struct QueryRange {
  int64_t first;
  int64_t count;
  int head;
};

float row_product(const HeadRows& x, const HeadRows& y, int64_t row, int64_t column, int count) {
  vf total = zero();
  for (int j = 0; j < count; j += kLanes) {
    total = fma(load_some(x, row, column + j, count - j), load_some(y, row, column + j, count - j), total);
  }
  return sum(total);
}

/// Scores and d_out V^T of one row become P and dS.
void weigh_row(float* p, float* ds, int seen, int computed, float scale, float lse, float delta) {
  for (int j = 0; j < computed; j += kLanes) {
    const vi mask = first_lanes(seen - j);
    const vf weight = mask ? exp(fma(load(p + j), splat(scale), splat(-lse))) : zero();
    const vf change = (load(ds + j) - splat(delta)) * splat(scale);
    store(p + j, weight);
    store(ds + j, mask ? weight * change : zero());
  }
  for (int j = computed; j < kKeyBlock; j += kLanes) store(p + j, zero()), store(ds + j, zero());
}

/// P and dS of one tile of queries, from row i of the block; returns how many keys its last query sees.
int weigh_tile(const AttentionBackwardTask& t, const Buffers& b, const KeyRange& keys, const QueryRange& queries,
               int64_t i, int rows) {
  float* const p = b.p + i * kKeyBlock;
  float* const ds = b.ds + i * kKeyBlock;
  const int most_seen = static_cast<int>(least(keys.count, keys_seen(queries.first + i + rows - 1, keys.first)));
  for (int j = 0; j < most_seen; j += kTileColumns) {
    tile<kTileRows, 1, kTileRows>(t.head_size, b.q_by_column + i * t.head_size, b.keys_by_column + j * t.head_size,
                                  replace(p + j, kKeyBlock), kTileRows, kTileColumns);
    tile<kTileRows, 1, kTileRows>(t.head_size, b.d_out_by_column + i * t.head_size,
                                  b.values_by_column + j * t.head_size, replace(ds + j, kKeyBlock), kTileRows,
                                  kTileColumns);
  }
  for (int row = 0; row < rows; ++row) {
    const int64_t query = queries.first + i + row;
    const float delta = row_product(t.out, t.d_out, query, queries.head * t.head_size, t.head_size);
    weigh_row(p + row * kKeyBlock, ds + row * kKeyBlock, keys_seen(query, keys.first),
              static_cast<int>(round_up(most_seen, kLanes)), t.scale, t.lse[query * t.lse_step + queries.head], delta);
  }
  return most_seen;
}

/// dV += P^T d_out and dK += dS^T Q of one block of queries.
void add_key_gradients(const Buffers& b, const KeyRange& keys, const QueryRange& queries) {
  for (int64_t i = 0; i < keys.count; i += kTileRows) {
    const int rows = static_cast<int>(least(kTileRows, keys.count - i));
    const int64_t unseeing = keys.first + i - queries.first;  // queries before key i
    const int64_t skip = unseeing > 0 ? least(unseeing, queries.count) : 0;
    for (int64_t j = 0; j < b.columns; j += kTileColumns) {
      const int64_t panel = j * queries.count + skip * kTileColumns;
      any_tile<1, kKeyBlock>(queries.count - skip, b.p + skip * kKeyBlock + i, b.d_out_by_row + panel,
                             add_to(b.dv + i * b.columns + j, b.columns), rows, kTileColumns);
      any_tile<1, kKeyBlock>(queries.count - skip, b.ds + skip * kKeyBlock + i, b.q_by_row + panel,
                             add_to(b.dk + i * b.columns + j, b.columns), rows, kTileColumns);
    }
  }
}

/// Which gradients a sweep over the blocks of keys is for.
struct Wanted {
  bool queries;
  bool keys;
};

/// dq: [count][columns], of the head's queries in the block.
void backward_block(const AttentionBackwardTask& t, const Buffers& b, const KeyRange& keys, const QueryRange& queries,
                    const Wanted& wanted, float* dq) {
  const int64_t column = queries.head * t.head_size;
  pack<kTileRows>(head(t.q, column, false), 0, t.head_size, queries.first, queries.count, b.q_by_column);
  pack<kTileRows>(head(t.d_out, column, false), 0, t.head_size, queries.first, queries.count, b.d_out_by_column);
  for (int64_t i = 0; i < queries.count; i += kTileRows) {
    const int rows = static_cast<int>(least(kTileRows, queries.count - i));
    const int seen = weigh_tile(t, b, keys, queries, i, rows);
    for (int64_t j = 0; wanted.queries && j < b.columns; j += kTileColumns) {
      any_tile<kKeyBlock, 1>(seen, b.ds + i * kKeyBlock, b.keys_by_row + j * keys.count,
                             add_to(dq + i * b.columns + j, b.columns), rows, kTileColumns);
    }
  }
  if (!wanted.keys) return;
  pack<kTileColumns>(head(t.q, column, true), queries.first, queries.count, 0, t.head_size, b.q_by_row);
  pack<kTileColumns>(head(t.d_out, column, true), queries.first, queries.count, 0, t.head_size, b.d_out_by_row);
  add_key_gradients(b, keys, queries);
}

void clear(float* data, int64_t count) { __builtin_memset(data, 0, static_cast<size_t>(count) * sizeof(float)); }

void write_rows(const HeadRows& to, int64_t first, int64_t column, int64_t count, int head_size, const float* from,
                int64_t step) {
  for (int64_t i = 0; i < count; ++i) {
    for (int j = 0; j < head_size; j += kLanes) {
      store_some(to, first + i, column + j, load(from + i * step + j), head_size - j);
    }
  }
}

/// All blocks of keys against the queries [begin, end), which begin at a block of queries.
void sweep(const AttentionBackwardTask& t, const Buffers& b, int64_t begin, int64_t end, const Wanted& wanted) {
  const int64_t queries = end - begin;
  if (wanted.queries) clear(b.dq, t.group * queries * b.columns);
  for (int64_t key = 0; key < end; key += kKeyBlock) {
    const KeyRange keys{key, least(kKeyBlock, t.length - key)};
    pack<kTileColumns>(head(t.k, 0, false), 0, t.head_size, keys.first, keys.count, b.keys_by_column);
    pack<kTileColumns>(head(t.v, 0, false), 0, t.head_size, keys.first, keys.count, b.values_by_column);
    pack<kTileColumns>(head(t.k, 0, true), keys.first, keys.count, 0, t.head_size, b.keys_by_row);
    clear(b.dk, kKeyBlock * b.columns);
    clear(b.dv, kKeyBlock * b.columns);
    const int64_t first_seeing = key / kQueryBlock * kQueryBlock;
    for (int h = 0; h < t.group; ++h) {
      for (int64_t q = first_seeing > begin ? first_seeing : begin; q < end; q += kQueryBlock) {
        backward_block(t, b, keys, {q, least(kQueryBlock, end - q), h}, wanted,
                       b.dq + (h * queries + q - begin) * b.columns);
      }
    }
    if (!wanted.keys) continue;
    write_rows(t.dk, keys.first, 0, keys.count, t.head_size, b.dk, b.columns);
    write_rows(t.dv, keys.first, 0, keys.count, t.head_size, b.dv, b.columns);
  }
  for (int h = 0; wanted.queries && h < t.group; ++h) {
    write_rows(t.dq, begin, h * t.head_size, queries, t.head_size, b.dq + h * queries * b.columns, b.columns);
  }
}

}  // namespace

void attention_backward(const AttentionBackwardTask& task, float* scratch) {
  const Buffers buffers = divide(task, scratch);
  const int64_t fitting = buffers.dq_floats / (task.group * buffers.columns) / kQueryBlock * kQueryBlock;
  if (task.length <= fitting) return sweep(task, buffers, 0, task.length, {.queries = true, .keys = true});
  // The weights are computed twice where the f32 sums of dQ do not fit in the scratch.
  sweep(task, buffers, 0, task.length, {.queries = false, .keys = true});
  for (int64_t begin = 0; begin < task.length; begin += fitting) {
    sweep(task, buffers, begin, least(task.length, begin + fitting), {.queries = true, .keys = false});
  }
}

}  // namespace moe::cpu::MOE_ISA
