#pragma once
/// Attention of few rows with one block of keys, as in decoding: keys and values are read once, where they are, and
/// never packed. The sums have the same bits as those of packed blocks.

#include "backend/cpu/kernels/attention_rows.h"
#include "backend/cpu/kernels/few_rows.h"

namespace moe::cpu::MOE_ISA {

/// The addresses of a block's keys, or values, of the task's first head. Those behind the last one repeat it.
struct BlockLines {
  const float* at[kKeyBlock];
};

/// Asks for the lines of a block, `bytes` of each, from the first to the last: in the order of the memory, which the
/// heads one after the other would not have. Heads are short pieces far from each other, so the processor foresees
/// neither them nor the next line. Use it on one thread at a time.
class AskAhead {
 public:
  AskAhead(const BlockLines& lines, int64_t bytes) : lines_(lines), bytes_(bytes) { begin(0); }

  /// For the next `count` pieces of 64 bytes. When all lines have been asked for, the last one again.
  __attribute__((noinline)) void operator()(int count) {
#pragma GCC unroll 1
    for (int i = 0; i < count; ++i) {
      __builtin_prefetch(at_, 0, 2);
      at_ += 64;
      if (at_ >= end_) begin(line_ + 1 < kKeyBlock ? line_ + 1 : line_);
    }
  }

 private:
  void begin(int line) {
    line_ = line;
    at_ = (const char*)lines_.at[line];
    end_ = at_ + bytes_;
  }

  const BlockLines& lines_;
  int64_t bytes_;
  int line_;
  const char *at_, *end_;
};

/// The lines of keys or values [key, key + keys) of the task; `page_step` is from one page of them to the next.
inline void find_lines(const AttentionTask& t, const HeadRows& rows, int64_t page_step, int64_t key, int64_t keys,
                       BlockLines& lines) {
  const int64_t size = size_of(rows.type), tokens = t.pages.table == nullptr ? key + keys : t.pages.tokens;
  int64_t page = key / tokens, row = key % tokens;
  for (int64_t i = 0; i < keys; ++page, row = 0) {
    const int64_t place = t.pages.table == nullptr ? 0 : t.pages.table[page] * page_step;
    const char* at = static_cast<const char*>(rows.data) + (place + row * rows.step) * size;
    for (; row < tokens && i < keys; ++row, ++i, at += rows.step * size) lines.at[i] = (const float*)at;
  }
  for (int64_t i = keys; i < kKeyBlock; ++i) lines.at[i] = lines.at[keys - 1];
}

/// Rows of the heads of a task as 32-bit elements: [Rows][heads][words * per_element()].
struct FewQueries {
  const float* data;
  int64_t words;  ///< of a head
  int heads;
};

/// scores [Rows][kKeyBlock]: products of the queries of one head with the first `keys` of the lines. Scores of up to
/// kFewColumns - 1 lines behind them are written too.
template <int Rows, FewElements kElements>
inline void score_lines(const FewQueries& queries, int head, const BlockLines& lines, int keys, AskAhead& ask,
                        float* scores) {
  const auto ahead = [&](int, int64_t) { ask(kLanes); };
  for (int j = 0; j < keys; j += kFewColumns) {
    FewSums<Rows> sums;
    sum_lines<Rows, kElements>(queries.data, queries.heads * queries.words * per_element(kElements), lines.at + j,
                               head * queries.words, (head + 1) * queries.words, ahead, sums);
    for (int group = 0; group < kFewGroups; ++group) {
      for (int i = 0; i < Rows; ++i) store(scores + i * kKeyBlock + j + group * kLanes, sums[group][i]);
    }
  }
}

/// Values of a line from `column` on, or with pairs of two lines; a null `second` gives zeros.
template <FewElements kElements>
inline vf load_values(const float* first, const float* second, int64_t column) {
  if (kElements == FewElements::floats) return load(first + column);
  if (kElements == FewElements::bf16_of_b) return load((const bf16*)first + column);
  const auto halves = [&](const float* line) { return *(const vh_memory*)((const uint16_t*)line + column); };
  if (kElements == FewElements::f16_of_b) return from_halves(halves(first));
  return join(halves(first), second == nullptr ? vh{} : halves(second));
}

/// out [Rows][out_step] += weights [Rows][kKeyBlock] times the first `keys` lines, for `Vectors` vectors of the lines
/// from `column` on.
template <int Rows, FewElements kElements, int Vectors>
inline void add_value_columns(const BlockLines& lines, int keys, const float* weights, int64_t column, AskAhead& ask,
                              float* out, int64_t out_step) {
  constexpr bool kPairs = kElements == FewElements::pairs;
  constexpr int kSize = kElements == FewElements::floats ? 4 : 2, kLinesOfKeys = kPairs ? 2 : 1;
  vf sum[Rows][Vectors] = {};
  constexpr int kTogether = 8;  // keys, or pairs of them, between two calls, which need the registers of the sums
  for (int first = 0, depth = kPairs ? (keys + 1) / 2 : keys; first < depth; first += kTogether) {
    ask(kTogether * kLinesOfKeys * Vectors * kLanes * kSize / 64);
    for (int k = first; k < depth && k < first + kTogether; ++k) {
      const int key = kPairs ? 2 * k : k;
      const float* const second = kPairs && key + 1 < keys ? lines.at[key + 1] : nullptr;
      vf weight[Rows];
#pragma GCC unroll 4
      for (int i = 0; i < Rows; ++i) weight[i] = splat(weights[i * kKeyBlock + k]);
#pragma GCC unroll 8
      for (int j = 0; j < Vectors; ++j) {
        const vf value = load_values<kElements>(lines.at[key], second, column + j * kLanes);
#pragma GCC unroll 4
        for (int i = 0; i < Rows; ++i) {
          sum[i][j] = kPairs ? fma_pairs(weight[i], value, sum[i][j]) : fma(weight[i], value, sum[i][j]);
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < Rows; ++i) {
    float* const row = out + i * out_step;
#pragma GCC unroll 8
    for (int j = 0; j < Vectors; ++j) store(row + j * kLanes, sum[i][j] + load(row + j * kLanes));
  }
}

/// The same for all columns of a head, which begin at `begin`.
template <int Rows, FewElements kElements>
inline void add_value_lines(const BlockLines& lines, int keys, const float* weights, int64_t begin, int64_t head_size,
                            AskAhead& ask, float* out, int64_t out_step) {
  constexpr int kMost = kLanes == 16 ? (Rows > 2 ? 4 : 8) : (Rows > 2 ? 2 : 8 / Rows);  // sums stay in registers
  int64_t j = 0;
  for (; j + kMost * kLanes <= head_size; j += kMost * kLanes) {
    add_value_columns<Rows, kElements, kMost>(lines, keys, weights, begin + j, ask, out + j, out_step);
  }
  for (; j + 2 * kLanes <= head_size; j += 2 * kLanes) {
    add_value_columns<Rows, kElements, 2>(lines, keys, weights, begin + j, ask, out + j, out_step);
  }
  if (j < head_size) {
    add_value_columns<Rows, kElements, 1>(lines, keys, weights, begin + j, ask, out + j, out_step);
  }
}

}  // namespace moe::cpu::MOE_ISA
