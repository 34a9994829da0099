// Attention by blocks of keys, with a running maximum and denominator for each row. A row is one (query, head). Its
// result depends only on its own keys: other rows of the tile, and keys that it does not see, add exact zeros.

#include "backend/cpu/kernels/attention_few.h"

namespace moe::cpu::MOE_ISA {
namespace {

/// The number of tiles of rows that use a block of keys together.
constexpr int kTilesAtOnce = 4;

struct Sizes {
  bool pairs;            ///< products use bf16 pairs: scores, and weights (rounded to bf16) times values
  int64_t depth;         ///< elements of queries' and keys' panels along head_size: numbers, or pairs of them
  int64_t columns;       ///< head_size, padded
  int64_t key_floats;    ///< a packed block of keys
  int64_t value_floats;  ///< a packed block of values
  int64_t page_floats;   ///< a block of keys or values that is gathered from several pages, or widened from f16
  int64_t rows;          ///< rows at a time
};

struct State {
  float* keys;     ///< panels of [depth][kTileColumns keys]
  float* values;   ///< panels of [keys, or pairs of them][kTileColumns columns]
  float* queries;  ///< panels of [depth][kTileRows]
  float* out;      ///< [rows][columns], not yet divided by the denominator
  float* maximum;
  float* denominator;
  float* gathered;  ///< [keys][head_size], of the type of the cache; f32 for f16
};

// The blocks of the largest head fit: a block of keys and values, and one tile of queries.
static_assert((2 * (kKeyBlock + kTileColumns) + kKeyBlock + 3 * kTileRows) * (kLargestHead + kTileColumns) +
                  8 * kPanelSlack <=
              kScratchFloats);
// So do the few rows of several heads.
static_assert(kMostHeadsAtOnce * kFewRows * (2 * kLargestHead + kTileColumns + 2) <= kScratchFloats);

Sizes sizes_of(const AttentionTask& t) {
  Sizes sizes{};
  sizes.pairs = multiplies_pairs(t.head_size, t.q, t.k, t.v);
  sizes.depth = sizes.pairs ? t.head_size / 2 : t.head_size;
  sizes.columns = round_up(t.head_size, kTileColumns);
  sizes.key_floats = round_up(kKeyBlock, kTileColumns) * t.head_size + kPanelSlack;
  sizes.value_floats = sizes.columns * kKeyBlock + kPanelSlack;
  // A block of keys begins at a multiple of kKeyBlock, so pages of whole blocks need no gathering.
  const bool gathers = t.pages.table != nullptr && t.pages.tokens % kKeyBlock != 0;
  const bool widens = t.k.type == Storage::f16 || t.v.type == Storage::f16;
  sizes.page_floats = gathers || widens ? kKeyBlock * t.head_size + kLanes : 0;
  const int64_t room = kScratchFloats - sizes.key_floats - sizes.value_floats - sizes.page_floats -
                       kTileRows * t.head_size - kPanelSlack;
  const int64_t fitting = room / (t.head_size + sizes.columns + 2) / kTileRows * kTileRows;
  sizes.rows = least(fitting, round_up(t.count * t.group, kTileRows));
  return sizes;
}

/// Packs rows [first, first + count) of the task's (query, head) rows, whose elements (or pairs of them) are of type T.
template <class T>
void pack_queries(const AttentionTask& t, const Sizes& sizes, int64_t first, int64_t count, float* to) {
  for (int64_t i = 0; i < count; i += kTileRows, to += kTileRows * sizes.depth) {
    const T* lines[kTileRows];
    const int width = static_cast<int>(least(kTileRows, count - i));
    for (int line = 0; line < width; ++line) {
      const int64_t row = first + i + line;
      lines[line] = static_cast<const T*>(element(t.q, row / t.group, row % t.group * t.head_size));
    }
    pack_lines<kTileRows>(lines, width, sizes.depth, to);
  }
}

/// Keys or values [key, key + keys) of the task, from row 0 on; `page_step` is from one page of them to the next. Rows
/// of several pages are gathered. Rows of f16 are gathered as f32: the panels have the same numbers either way.
HeadRows block_of(const AttentionTask& t, const HeadRows& rows, int64_t page_step, int64_t key, int64_t keys,
                  float* gathered) {
  const auto rows_from = [&](int64_t offset) {
    return HeadRows{const_cast<void*>(element(rows, 0, offset)), rows.type, rows.step};
  };
  if (t.pages.table == nullptr) return rows_from(key * rows.step);
  const int64_t tokens = t.pages.tokens;
  const auto address = [&](int64_t position) {
    return t.pages.table[position / tokens] * page_step + position % tokens * rows.step;
  };
  if (rows.type == Storage::f16) {
    for (int64_t i = 0; i < keys; ++i) {
      widen_halves(static_cast<const uint16_t*>(rows.data) + address(key + i), t.head_size, gathered + i * t.head_size);
    }
    return {gathered, Storage::f32, t.head_size};
  }
  if (key % tokens + keys <= tokens) return rows_from(address(key));
  const size_t bytes = static_cast<size_t>(t.head_size) * (rows.type == Storage::bf16 ? sizeof(bf16) : sizeof(float));
  for (int64_t i = 0; i < keys; ++i) {
    __builtin_memcpy(reinterpret_cast<char*>(gathered) + static_cast<size_t>(i) * bytes,
                     element(rows, 0, address(key + i)), bytes);
  }
  return {gathered, rows.type, t.head_size};
}

/// Scores of up to kTileRows rows and a panel of keys.
void score_tile(const Sizes& sizes, const float* queries, const float* keys, float* scores, int rows) {
  if (sizes.pairs) {
    return any_scratch_tile<1, kTileRows, false, kMultipliesPairs>(sizes.depth, queries, keys, scores, kKeyBlock, rows);
  }
  any_scratch_tile<1, kTileRows, false>(sizes.depth, queries, keys, scores, kKeyBlock, rows);
}

/// The larger of `maximum` and the largest of scores [0, seen), times scale > 0.
float highest_score(const float* score, int seen, float scale, float maximum) {
  vf highest = splat(-__builtin_inff());
  int i = 0;
  for (; i + kLanes <= seen; i += kLanes) highest = max(load(score + i), highest);
  if (i < seen) highest = max(first_lanes(seen - i) ? load(score + i) : highest, highest);
  const float here = max_lane(highest) * scale;
  return here > maximum ? here : maximum;
}

/// Turns scores [0, seen) into weights relative to the maximum, and sets the others up to `computed` to 0. Returns the
/// sum of all.
float weigh_scores(float* score, int seen, int computed, float scale, float maximum) {
  const auto weight = [&](int i) { return exp_weight(fma(load(score + i), splat(scale), splat(-maximum))); };
  vf total = zero();
  int i = 0;
  for (; i + kLanes <= seen; i += kLanes) {
    const vf x = weight(i);
    store(score + i, x);
    total += x;
  }
  if (i < seen) {
    const vf x = first_lanes(seen - i) ? weight(i) : zero();
    store(score + i, x);
    total += x;
    i += kLanes;
  }
  for (; i < computed; i += kLanes) store(score + i, zero());
  return sum(total);
}

/// out += weights of up to kTileRows rows, for the first `keys` keys of the block, times a panel of values.
void add_values(const Sizes& sizes, int keys, const float* weights, const float* values, float* out, int rows) {
  if (sizes.pairs) {
    return any_scratch_tile<kKeyBlock, 1, true, kMultipliesPairs>((keys + 1) / 2, weights, values, out, sizes.columns,
                                                                  rows);
  }
  any_scratch_tile<kKeyBlock, 1, true>(keys, weights, values, out, sizes.columns, rows);
}

/// Rows [row, row + rows) of the state, which are some tiles, and one block of keys and values from `key` on.
struct TilesOfBlock {
  const AttentionTask& t;
  int64_t first_row;  ///< the task's row that is row 0 of the state
  int64_t row;
  int rows;
  int64_t key, keys;

  int seen_by(int i) const { return keys_seen(t.first + (first_row + row + i) / t.group, key); }
  int rows_of(int i) const { return static_cast<int>(least(kTileRows, rows - i)); }
  /// By a row of the tile from row i on.
  int most_seen(int i) const { return static_cast<int>(least(keys, seen_by(i + rows_of(i) - 1))); }
};

/// Turns the scores [rows][kKeyBlock] into weights, and scales what the rows have summed so far.
void weigh_rows(const TilesOfBlock& b, const Sizes& sizes, const State& state, float* scores) {
  float factor[kTilesAtOnce * kTileRows];
  for (int i = 0; i < b.rows; ++i) {
    float& maximum = state.maximum[b.row + i];
    const int seen = b.seen_by(i);
    const float highest = seen == 0 ? maximum : highest_score(scores + i * kKeyBlock, seen, b.t.scale, maximum);
    factor[i] = highest == maximum ? 1.0f : exp_weight(splat(maximum - highest))[0];
    maximum = highest;
  }
  for (int i = 0; i < b.rows; ++i) {
    const int computed = static_cast<int>(round_up(b.most_seen(i / kTileRows * kTileRows), kLanes));
    const float total =
        weigh_scores(scores + i * kKeyBlock, b.seen_by(i), computed, b.t.scale, state.maximum[b.row + i]);
    state.denominator[b.row + i] = state.denominator[b.row + i] * factor[i] + total;
    if (sizes.pairs) round_weights(scores + i * kKeyBlock, computed, scores + i * kKeyBlock);
    if (factor[i] == 1.0f) continue;
    float* const out = state.out + (b.row + i) * sizes.columns;
    for (int64_t j = 0; j < sizes.columns; j += kLanes) store(out + j, load(out + j) * splat(factor[i]));
  }
}

/// Some tiles with one packed block. A panel of keys or values stays in the first-level cache while the tiles pass.
void attend_tiles(const TilesOfBlock& b, const Sizes& sizes, const State& state) {
  float scores[kTilesAtOnce * kTileRows * kKeyBlock];
  for (int j = 0; j < b.keys; j += kTileColumns) {
    for (int i = 0; i < b.rows; i += kTileRows) {
      if (j >= b.most_seen(i)) continue;
      score_tile(sizes, state.queries + (b.row + i) * sizes.depth, state.keys + j * sizes.depth,
                 scores + i * kKeyBlock + j, b.rows_of(i));
    }
  }
  weigh_rows(b, sizes, state, scores);
  const int64_t value_depth = sizes.pairs ? (b.keys + 1) / 2 : b.keys;
  for (int64_t j = 0; j < sizes.columns; j += kTileColumns) {
    for (int i = 0; i < b.rows; i += kTileRows) {
      add_values(sizes, b.most_seen(i), scores + i * kKeyBlock, state.values + j * value_depth,
                 state.out + (b.row + i) * sizes.columns + j, b.rows_of(i));
    }
  }
}

void finish_row(const AttentionTask& t, const Sizes& sizes, const State& state, int64_t first_row, int64_t row) {
  const int64_t query = (first_row + row) / t.group;
  const int64_t column = (first_row + row) % t.group * t.head_size;
  const float inverse = 1.0f / state.denominator[row];
  const float* const out = state.out + row * sizes.columns;
  for (int j = 0; j < t.head_size; j += kLanes) {
    // Keys that a row does not see may give -0 where the row alone gives +0. This sum makes both +0.
    store_some(t.out, query, column + j, load(out + j) * splat(inverse) + zero(), t.head_size - j);
  }
  if (t.lse != nullptr) {
    t.lse[query * t.lse_step + (first_row + row) % t.group] =
        state.maximum[row] + __builtin_logf(state.denominator[row]);
  }
}

/// The task's last block of keys ends here.
int64_t key_end(const AttentionTask& t, int64_t first_row, int64_t rows) {
  return t.first + (first_row + rows - 1) / t.group + 1;
}

void attend_rows(const AttentionTask& t, const Sizes& sizes, const State& state, int64_t first_row, int64_t rows) {
  if (t.q.type == Storage::bf16 && !sizes.pairs) {
    pack_queries<bf16>(t, sizes, first_row, rows, state.queries);
  } else {
    pack_queries<float>(t, sizes, first_row, rows, state.queries);
  }
  const int64_t end = key_end(t, first_row, rows);
  for (int64_t key = 0; key < end; key += kKeyBlock) {
    const int64_t keys = least(kKeyBlock, end - key);
    const HeadRows k = block_of(t, t.k, t.pages.k_step, key, keys, state.gathered);
    pack_head<kTileColumns>(k, 0, t.head_size, 0, keys, sizes.pairs, state.keys);
    const HeadRows v = block_of(t, t.v, t.pages.v_step, key, keys, state.gathered);
    pack_rows_of_head<kTileColumns>(v, 0, t.head_size, 0, keys, sizes.pairs, state.values);
    const int64_t first_seeing = (key - t.first) * t.group - first_row;
    constexpr int64_t kRows = kTilesAtOnce * kTileRows;
    for (int64_t row = first_seeing > 0 ? first_seeing / kTileRows * kTileRows : 0; row < rows; row += kRows) {
      attend_tiles({t, first_row, row, static_cast<int>(least(kRows, rows - row)), key, keys}, sizes, state);
    }
  }
}

/// The part of the task of one of its key/value heads.
AttentionTask task_of_head(AttentionTask t, int head) {
  const auto move = [&](HeadRows& rows, int64_t columns) {
    rows.data = static_cast<char*>(rows.data) + head * columns * size_of(rows.type);
  };
  move(t.k, t.head_size), move(t.v, t.head_size);
  move(t.q, int64_t{t.group} * t.head_size), move(t.out, int64_t{t.group} * t.head_size);
  if (t.lse != nullptr) t.lse += head * t.group;
  t.kv_heads = 1;
  return t;
}

void clear_rows(const Sizes& sizes, const State& state, int64_t rows) {
  __builtin_memset(state.out, 0, static_cast<size_t>(rows * sizes.columns) * sizeof(float));
  for (int64_t i = 0; i < rows; ++i) state.maximum[i] = -__builtin_inff(), state.denominator[i] = 0;
}

/// The queries of all heads of a task, for attend_few().
template <int Rows, FewElements kElements>
FewQueries copy_queries(const AttentionTask& t, float* to) {
  constexpr int kSize = kElements == FewElements::floats ? 4 : 2;
  const FewQueries queries{to, t.head_size * kSize / 4, t.kv_heads};
  for (int64_t i = 0; i < Rows; ++i) {
    for (int head = 0; head < t.kv_heads; ++head) {
      const void* const from = element(t.q, i / t.group, (head * t.group + i % t.group) * t.head_size);
      float* const here = to + (i * t.kv_heads + head) * queries.words * per_element(kElements);
      if (kElements == FewElements::pairs) {
        __builtin_memcpy(here, from, static_cast<size_t>(t.head_size) * sizeof(bf16));
        continue;
      }
      for (int64_t j = 0; j < t.head_size; j += kLanes) {
        store(here + j, t.q.type == Storage::bf16 ? load(static_cast<const bf16*>(from) + j)
                                                  : load(static_cast<const float*>(from) + j));
      }
    }
  }
  return queries;
}

/// A task with few rows in each head: nothing is packed, and all heads share a block of keys before the next one.
template <int Rows, FewElements kElements>
void attend_few(const AttentionTask& t, const Sizes& sizes, const State& state) {
  const FewQueries queries = copy_queries<Rows, kElements>(t, state.queries);
  clear_rows(sizes, state, int64_t{Rows} * t.kv_heads);
  const int64_t end = key_end(t, 0, Rows);
  BlockLines lines[2][2];  // of this block and of the next one, each of keys and of values
  const auto find = [&](int64_t key, BlockLines* to) {
    const int64_t keys = least(kKeyBlock, end - key);
    find_lines(t, t.k, t.pages.k_step, key, keys, to[0]);
    find_lines(t, t.v, t.pages.v_step, key, keys, to[1]);
  };
  find(0, lines[0]);
  for (int64_t key = 0; key < end; key += kKeyBlock) {
    const BlockLines* const here = lines[key / kKeyBlock % 2];
    BlockLines* const next = lines[(key / kKeyBlock + 1) % 2];
    find(key + kKeyBlock < end ? key + kKeyBlock : key, next);
    const int64_t bytes = t.kv_heads * t.head_size * size_of(t.k.type);
    AskAhead ask_keys(next[0], bytes), ask_values(next[1], bytes);
    for (int head = 0; head < t.kv_heads; ++head) {
      const int row = head * Rows;
      const TilesOfBlock block{t, -row, row, Rows, key, least(kKeyBlock, end - key)};
      const int seen = block.most_seen(0);
      float scores[Rows * kKeyBlock];
      score_lines<Rows, kElements>(queries, head, here[0], seen, ask_keys, scores);
      weigh_rows(block, sizes, state, scores);
      add_value_lines<Rows, kElements>(here[1], seen, scores, int64_t{head} * t.head_size, t.head_size, ask_values,
                                       state.out + row * sizes.columns, sizes.columns);
    }
  }
  for (int head = 0; head < t.kv_heads; ++head) {
    for (int i = 0; i < Rows; ++i) finish_row(task_of_head(t, head), sizes, state, -head * Rows, head * Rows + i);
  }
}

template <int Rows>
void attend_few(const AttentionTask& t, const Sizes& sizes, const State& state) {
  if (sizes.pairs) return attend_few<Rows, FewElements::pairs>(t, sizes, state);
  switch (t.k.type) {
    case Storage::f32:
      return attend_few<Rows, FewElements::floats>(t, sizes, state);
    case Storage::bf16:
      return attend_few<Rows, FewElements::bf16_of_b>(t, sizes, state);
    case Storage::f16:
      return attend_few<Rows, FewElements::f16_of_b>(t, sizes, state);
  }
}

/// True if attend_few() can compute it: a multiple of a vector in each head, and keys and values of one type.
bool has_few_rows(const AttentionTask& t) {
  return t.count * t.group <= kFewRows && t.head_size % kLanes == 0 && t.k.type == t.v.type;
}

/// A task of one head.
void attend_many(const AttentionTask& t, const Sizes& sizes, const State& state) {
  const int64_t rows = t.count * t.group;
  for (int64_t first = 0; first < rows; first += sizes.rows) {
    const int64_t here = least(sizes.rows, rows - first);
    clear_rows(sizes, state, round_up(here, kTileRows));  // those that only fill the last tile are added to as well
    attend_rows(t, sizes, state, first, here);
    for (int64_t i = 0; i < here; ++i) finish_row(t, sizes, state, first, i);
  }
}

}  // namespace

void attention(const AttentionTask& task, float* scratch) {
  const Sizes sizes = sizes_of(task);
  State state{};
  if (has_few_rows(task)) {
    const int rows = static_cast<int>(task.count * task.group);
    state.out = scratch;
    state.maximum = state.out + task.kv_heads * rows * sizes.columns;
    state.denominator = state.maximum + task.kv_heads * rows;
    state.queries = state.denominator + task.kv_heads * rows;
    switch (rows) {
      case 1:
        return attend_few<1>(task, sizes, state);
      case 2:
        return attend_few<2>(task, sizes, state);
      case 3:
        return attend_few<3>(task, sizes, state);
      default:
        return attend_few<kFewRows>(task, sizes, state);
    }
  }
  state.keys = scratch;
  state.values = state.keys + sizes.key_floats;
  state.gathered = state.values + sizes.value_floats;
  state.out = state.gathered + sizes.page_floats;
  state.maximum = state.out + sizes.rows * sizes.columns;
  state.denominator = state.maximum + sizes.rows;
  state.queries = state.denominator + sizes.rows;
  for (int head = 0; head < task.kv_heads; ++head) attend_many(task_of_head(task, head), sizes, state);
}

}  // namespace moe::cpu::MOE_ISA
