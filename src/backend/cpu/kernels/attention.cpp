// Attention by blocks of keys with a running maximum and denominator for each row. A row is one (query, head); what
// happens to it depends on its own keys alone: rows that share a tile, and keys beyond its own, add exact zeros.

#include "backend/cpu/kernels/attention_rows.h"

namespace moe::cpu::MOE_ISA {
namespace {

struct Sizes {
  int64_t columns;       ///< head_size, padded
  int64_t key_floats;    ///< a packed block of keys
  int64_t value_floats;  ///< a packed block of values
  int64_t rows;          ///< rows at a time
};

struct State {
  float* keys;     ///< panels of [head_size][kTileColumns keys]
  float* values;   ///< panels of [keys][kTileColumns columns]
  float* queries;  ///< panels of [head_size][kTileRows]
  float* out;      ///< [rows][columns], not yet divided by the denominator
  float* maximum;
  float* denominator;
};

Sizes sizes_of(const AttentionTask& t) {
  Sizes sizes{};
  sizes.columns = round_up(t.head_size, kTileColumns);
  sizes.key_floats = round_up(kKeyBlock, kTileColumns) * t.head_size + kPanelSlack;
  sizes.value_floats = sizes.columns * kKeyBlock + kPanelSlack;
  const int64_t room = kScratchFloats - sizes.key_floats - sizes.value_floats - kTileRows * t.head_size - kPanelSlack;
  const int64_t fitting = room / (t.head_size + sizes.columns + 2) / kTileRows * kTileRows;
  sizes.rows = least(fitting, round_up(t.count * t.group, kTileRows));
  return sizes;
}

/// Packs rows [first, first + count) of the task's (query, head) rows.
template <class T>
void pack_queries(const AttentionTask& t, int64_t first, int64_t count, float* to) {
  const T* const q = static_cast<const T*>(t.q.data);
  for (int64_t i = 0; i < count; i += kTileRows, to += kTileRows * t.head_size) {
    const T* lines[kTileRows];
    const int width = static_cast<int>(least(kTileRows, count - i));
    for (int line = 0; line < width; ++line) {
      const int64_t row = first + i + line;
      lines[line] = q + row / t.group * t.q.step + row % t.group * t.head_size;
    }
    pack_lines<kTileRows>(lines, width, t.head_size, to);
  }
}

/// Scores [0, seen) of one row become weights relative to the new maximum, the others up to `computed` 0. Returns the
/// factor for what was summed before.
float softmax_step(float* score, int seen, int computed, float scale, float& maximum, float& denominator) {
  vf highest = splat(-__builtin_inff());
  for (int i = 0; i < seen; i += kLanes) {
    const vf x = load(score + i) * splat(scale);
    highest = max(first_lanes(seen - i) ? x : splat(-__builtin_inff()), highest);
  }
  const float block_maximum = max_lane(highest);
  const float new_maximum = block_maximum > maximum ? block_maximum : maximum;
  vf total = zero();
  for (int i = 0; i < computed; i += kLanes) {
    const vf weight = exp_weight(fma(load(score + i), splat(scale), splat(-new_maximum)));
    const vf kept = first_lanes(seen - i) ? weight : zero();
    store(score + i, kept);
    total += kept;
  }
  const float factor = exp_weight(splat(maximum - new_maximum))[0];
  denominator = denominator * factor + sum(total);
  maximum = new_maximum;
  return factor;
}

/// One tile of rows, from `row` of the state, against one packed block of keys and values that starts at `key`.
void attend_tile(const AttentionTask& t, const Sizes& sizes, const State& state, int64_t first_row, int64_t row,
                 int rows, int64_t key, int64_t keys) {
  float scores[kTileRows * kKeyBlock];
  const int64_t last_position = t.first + (first_row + row + rows - 1) / t.group;
  const int most_seen = static_cast<int>(least(keys, keys_seen(last_position, key)));
  for (int j = 0; j < most_seen; j += kTileColumns) {
    any_scratch_tile<1, kTileRows, false>(t.head_size, state.queries + row * t.head_size, state.keys + j * t.head_size,
                                          scores + j, kKeyBlock, rows);
  }
  const int computed = static_cast<int>(round_up(most_seen, kLanes));
  for (int i = 0; i < rows; ++i) {
    const int seen = keys_seen(t.first + (first_row + row + i) / t.group, key);
    float* const score = scores + i * kKeyBlock;
    if (seen == 0) {
      for (int j = 0; j < computed; j += kLanes) store(score + j, zero());
      continue;
    }
    const float factor =
        softmax_step(score, seen, computed, t.scale, state.maximum[row + i], state.denominator[row + i]);
    if (factor == 1.0f) continue;
    float* const out = state.out + (row + i) * sizes.columns;
    for (int64_t j = 0; j < sizes.columns; j += kLanes) store(out + j, load(out + j) * splat(factor));
  }
  for (int64_t j = 0; j < sizes.columns; j += kTileColumns) {
    any_scratch_tile<kKeyBlock, 1, true>(most_seen, scores, state.values + j * keys,
                                         state.out + row * sizes.columns + j, sizes.columns, rows);
  }
}

void finish_row(const AttentionTask& t, const Sizes& sizes, const State& state, int64_t first_row, int64_t row) {
  const int64_t query = (first_row + row) / t.group;
  const int64_t column = (first_row + row) % t.group * t.head_size;
  const float inverse = 1.0f / state.denominator[row];
  const float* const out = state.out + row * sizes.columns;
  for (int j = 0; j < t.head_size; j += kLanes) {
    // Keys that a row does not see may leave a -0 where their absence leaves a +0: the sum makes both +0.
    store_some(t.out, query, column + j, load(out + j) * splat(inverse) + zero(), t.head_size - j);
  }
  if (t.lse != nullptr) {
    t.lse[query * t.lse_step + (first_row + row) % t.group] =
        state.maximum[row] + __builtin_logf(state.denominator[row]);
  }
}

void attend_rows(const AttentionTask& t, const Sizes& sizes, const State& state, int64_t first_row, int64_t rows) {
  if (t.q.is_bf16) {
    pack_queries<bf16>(t, first_row, rows, state.queries);
  } else {
    pack_queries<float>(t, first_row, rows, state.queries);
  }
  // Rows that only fill the last tile are added to like the others.
  const int64_t padded = round_up(rows, kTileRows);
  __builtin_memset(state.out, 0, static_cast<size_t>(padded * sizes.columns) * sizeof(float));
  for (int64_t i = 0; i < rows; ++i) state.maximum[i] = -__builtin_inff(), state.denominator[i] = 0;

  const int64_t key_end = t.first + (first_row + rows - 1) / t.group + 1;
  for (int64_t key = 0; key < key_end; key += kKeyBlock) {
    const int64_t keys = least(kKeyBlock, key_end - key);
    pack<kTileColumns>(head(t.k, 0, false), 0, t.head_size, key, keys, state.keys);
    pack<kTileColumns>(head(t.v, 0, true), key, keys, 0, t.head_size, state.values);
    const int64_t first_seeing = (key - t.first) * t.group - first_row;
    for (int64_t row = first_seeing > 0 ? first_seeing / kTileRows * kTileRows : 0; row < rows; row += kTileRows) {
      attend_tile(t, sizes, state, first_row, row, static_cast<int>(least(kTileRows, rows - row)), key, keys);
    }
  }
  for (int64_t i = 0; i < rows; ++i) finish_row(t, sizes, state, first_row, i);
}

}  // namespace

void attention(const AttentionTask& task, float* scratch) {
  const Sizes sizes = sizes_of(task);
  State state{};
  state.keys = scratch;
  state.values = state.keys + sizes.key_floats;
  state.out = state.values + sizes.value_floats;
  state.maximum = state.out + sizes.rows * sizes.columns;
  state.denominator = state.maximum + sizes.rows;
  state.queries = state.denominator + sizes.rows;
  const int64_t rows = task.count * task.group;
  for (int64_t row = 0; row < rows; row += sizes.rows) {
    attend_rows(task, sizes, state, row, least(sizes.rows, rows - row));
  }
}

}  // namespace moe::cpu::MOE_ISA
