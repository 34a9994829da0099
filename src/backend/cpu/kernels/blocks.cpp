// Products with weights in blocks. Rows of a are rounded to 8 bits, in groups of 32 elements with one scale each. The
// products of codes are summed as integers for each part of a block, and the parts of a line one after the other in
// f32. So the sums of a row depend on neither the other rows nor the number of lanes.

#include "backend/cpu/kernels/block_lines.h"
#include "backend/cpu/kernels/matrix.h"
#include "backend/cpu/kernels/micro.h"

namespace moe::cpu::MOE_ISA {
namespace {

constexpr int kGroup = 32;  // elements of a row with one scale
/// Up to this many rows, lines are read for all of them at once and not unpacked to memory.
constexpr int kFew = 4;
/// Rows that are multiplied by an unpacked line at once.
constexpr int kMany = kLanes == 16 ? 8 : 4;
/// Bytes of rounded rows that are kept at a time: a part of the last-level cache.
constexpr int64_t kRowBytes = int64_t{2} << 20;

/// Some rows of a, rounded to 8 bits. The rows' elements are interleaved: four of the first row, four of the second.
struct RoundedRows {
  int32_t* codes;  ///< [K / 4][rows]
  float* scale;    ///< [K / 32][rows]
  /// [parts of K][rows]: a part's sum of codes times -kZero (int32_t), or times the scale if there are floors (float).
  char* sums;
};

template <class F>
constexpr int64_t bytes_of_row(int64_t k) {
  return k + k / kGroup * 4 + k / F::kPart * 4;
}

template <class F>
RoundedRows rounded_rows(char* memory, int64_t k, int64_t rows) {
  char* const scale = memory + k * rows;
  return {(int32_t*)memory, (float*)scale, scale + k / kGroup * 4 * rows};
}

inline vf magnitude(vf x) { return (vf)((vu)x & 0x7fffffffu); }

/// Rounds a row, as number `index` of `rows`. A group with a number that is not finite gets the scale NaN.
template <class F, class T>
void round_row(const T* from, int64_t k, int zero, int rows, int index, const RoundedRows& to) {
  constexpr int kVectors = kGroup / kLanes, kPartVectors = kVectors / F::kParts;
  for (int64_t group = 0; group < k / kGroup; ++group) {
    vf x[kVectors], largest = splat(0.0f), strange = splat(0.0f);
    for (int i = 0; i < kVectors; ++i) {
      x[i] = load(from + group * kGroup + i * kLanes);
      largest = max(largest, magnitude(x[i]));
      strange += x[i] - x[i];  // 0, or NaN
    }
    const float not_finite = sum(strange), most = max_lane(largest);
    const float scale = most / 127 + not_finite;
    // 0 if the group holds zeros, or numbers below the normal range.
    const float inverse = not_finite == 0 && most > 0x1p-118f ? 127 / most : 0.0f;
    to.scale[group * rows + index] = scale;
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    const vf magic = splat(12582912.0f);
    int32_t words[kGroup / 4];
    vf numbers[kVectors];
    for (int i = 0; i < kVectors; ++i) {
      const vf rounded = not_finite == 0 ? fma(x[i], splat(inverse), magic) : magic;
      numbers[i] = rounded - magic;
      typedef int8_t bytes __attribute__((vector_size(kLanes)));
      const bytes codes = __builtin_convertvector((vi)rounded, bytes);
      __builtin_memcpy((char*)words + i * kLanes, &codes, kLanes);
    }
    for (int j = 0; j < kGroup / 4; ++j) to.codes[(group * (kGroup / 4) + j) * rows + index] = words[j];
    for (int part = 0; part < F::kParts; ++part) {
      vf total = splat(0.0f);
      for (int i = 0; i < kPartVectors; ++i) total += numbers[part * kPartVectors + i];
      const float of_part = sum(total);
      char* const at = to.sums + ((group * F::kParts + part) * rows + index) * 4;
      if (F::kFloor) {
        const float weighted = scale * of_part;
        __builtin_memcpy(at, &weighted, sizeof(weighted));
      } else {
        const int32_t start = -zero * (int32_t)of_part;
        __builtin_memcpy(at, &start, sizeof(start));
      }
    }
  }
}

/// Rows [first, first + rows) of a.
template <class F>
void round_rows(const BlockProduct& p, int zero, int64_t first, int rows, const RoundedRows& to) {
  for (int i = 0; i < rows; ++i) {
    const int64_t row = p.a.rows == nullptr ? first + i : p.a.rows[first + i];
    if (p.a.elements.type == Storage::bf16) {
      round_row<F>(static_cast<const bf16*>(p.a.elements.data) + row * p.a.step, p.k, zero, rows, i, to);
    } else {
      round_row<F>(static_cast<const float*>(p.a.elements.data) + row * p.a.step, p.k, zero, rows, i, to);
    }
  }
}

/// Adds the products of a step, whose first element is k, and R rows.
template <class F, int R>
inline __attribute__((always_inline)) void add_step(const Step<F>& b, const RoundedRows& a, int64_t k, vf (&sum)[R]) {
  constexpr int kWords = 8 / F::kParts;
#pragma GCC unroll 2
  for (int run = 0; run < F::kRuns; ++run) {
    const int64_t first = k + run * F::kGap;
    const int32_t* const codes = a.codes + first / 4 * R;
    const float* const scale = a.scale + first / kGroup * R;
    const char* const sums = a.sums + first / F::kPart * 4 * R;
#pragma GCC unroll 2
    for (int part = 0; part < F::kParts; ++part) {
      // Two chains of sums for few rows: one would wait for itself. The sums are exact in any order.
      constexpr int kChains = R <= 2 ? 2 : 1;
      vi products[R], others[R];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        products[r] = F::kFloor ? vi{} : splat_integer(((const int32_t*)sums)[part * R + r]);
        others[r] = vi{};
      }
#pragma GCC unroll 8
      for (int j = 0; j < kWords; ++j) {
        const int word = part * kWords + j;
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          vi& chain = j % kChains == 0 ? products[r] : others[r];
          chain = add_byte_products<F::kWide>(chain, b.codes[8 * run + word], splat_integer(codes[word * R + r]));
        }
      }
#pragma GCC unroll 8
      for (int r = 0; r < R && kChains > 1; ++r) products[r] += others[r];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        sum[r] = fma(to_floats(products[r]), b.scale[F::kParts * run + part] * splat(scale[r]), sum[r]);
        if (F::kFloor) sum[r] = fma(b.floor[run], splat(((const float*)sums)[part * R + r]), sum[r]);
      }
    }
  }
}

template <int R>
void store_rows(const TileTarget& c, int count, const vf (&sum)[R]) {
  for (int r = 0; r < R; ++r) {
    vf x = sum[r];
    if (c.add != nullptr) x += load_add(c, r, 0, count);
    store_out(c, r, 0, count, x);
  }
}

/// kLanes lines of b.
struct Strip {
  const char* data;
  int64_t step;
};

/// Calls use(step, first element) for the steps of a strip, in order. `next` is what is read after it.
template <class L, class Use>
inline __attribute__((always_inline)) void for_steps(const Strip& strip, int64_t k, const char* next, Use use) {
  constexpr int64_t kElements = 32 * L::F::kRuns * L::kSteps, kLine = 64;
  const int64_t blocks = k / kElements;
  // Few at a time: the processor keeps a small number of requests, and waits if there are more. Inlined, because GCC
  // takes calls of a function that only prefetches for useless.
  const auto ask = [&](int64_t step) __attribute__((always_inline)) {
    constexpr int64_t kBytes = L::kBytes * kLanes / L::kSteps;
    const char* const end = next + (step + 1) * kBytes / kLine * kLine;
    for (const char* at = next + step * kBytes / kLine * kLine; at < end; at += kLine) __builtin_prefetch(at, 0, 2);
  };
  for (int64_t block = 0; block < blocks; ++block) {
    const char* const at = strip.data + block * L::kBytes;
    const typename L::Header header = L::header(at, strip.step);
#pragma GCC unroll 4
    for (int s = 0; s < L::kSteps; ++s) {
      ask(block * L::kSteps + s);
      Step<typename L::F> step;
      L::load(header, at, strip.step, s, step);
      use(step, block * L::kSteps + s);
    }
  }
}

/// Asks for the lines of a strip that nothing has asked for yet.
void prefetch_strip(const BlockProduct& p, int64_t line) {
  for (int64_t i = 0; i < least(p.n, kLanes); ++i) {
    const char* const at = static_cast<const char*>(p.b) + i * p.b_step;
    for (int64_t byte = 0; byte < line; byte += 64) __builtin_prefetch(at + byte, 0, 2);
  }
}

/// R rows and one strip, whose lines are read once. Not inlined: the loop needs all registers.
template <class L, int R>
__attribute__((noinline)) void multiply_few(const Strip& strip, int64_t k, const char* next, const RoundedRows& a,
                                            const TileTarget& c, int count) {
  vf sum[R] = {};
  for_steps<L>(
      strip, k, next, [&](const Step<typename L::F>& step, int64_t t) __attribute__((always_inline)) {
        add_step<typename L::F, R>(step, a, L::F::begin(t), sum);
      });
  store_rows<R>(c, count, sum);
}

/// R rows and an unpacked strip.
template <class F, int R>
void multiply_many(const Step<F>* strip, int64_t k, const RoundedRows& a, const TileTarget& c, int count) {
  vf sum[R] = {};
  for (int64_t t = 0; t < k / (32 * F::kRuns); ++t) add_step<F, R>(strip[t], a, F::begin(t), sum);
  store_rows<R>(c, count, sum);
}

/// Calls work.run<R>() for R = rows, at most R.
template <int R, class Work>
void with_rows(int rows, const Work& work) {
  if constexpr (R > 1) {
    if (rows < R) return with_rows<R - 1>(rows, work);
  }
  work.template run<R>();
}

template <class L>
struct FewRows {
  const Strip& strip;
  int64_t k;
  const char* next;
  const RoundedRows& a;
  const TileTarget& c;
  int count;
  template <int R>
  void run() const {
    multiply_few<L, R>(strip, k, next, a, c, count);
  }
};

template <class F>
struct ManyRows {
  const Step<F>* strip;
  int64_t k;
  const RoundedRows& a;
  const TileTarget& c;
  int count;
  template <int R>
  void run() const {
    multiply_many<F, R>(strip, k, a, c, count);
  }
};

template <class L>
void multiply(const BlockProduct& p, char* scratch) {
  using F = typename L::F;
  const int64_t line = p.k / (32 * F::kRuns * L::kSteps) * L::kBytes;
  auto* const unpacked = (Step<F>*)scratch;
  char* const last_lines = (char*)(unpacked + p.k / (32 * F::kRuns));
  char* const rounded = last_lines + round_up(line * kLanes, 64);
  const int64_t row_bytes = bytes_of_row<F>(p.k);
  const int64_t at_once = p.m <= kFew ? p.m : round_up(kRowBytes / (row_bytes + 1) + 1, kMany);
  prefetch_strip(p, line);
  for (int64_t first = 0; first < p.m; first += at_once) {
    const int64_t rows = least(at_once, p.m - first);
    const int tile = p.m <= kFew ? kFew : kMany;
    const auto of_tile = [&](int64_t i) {
      return rounded_rows<F>(rounded + i * row_bytes, p.k, least(tile, rows - i));
    };
    for (int64_t i = 0; i < rows; i += tile) {
      round_rows<F>(p, L::kZero, first + i, static_cast<int>(least(tile, rows - i)), of_tile(i));
    }
    for (int64_t n = 0; n < p.n; n += kLanes) {
      const int count = static_cast<int>(least(kLanes, p.n - n));
      Strip strip{static_cast<const char*>(p.b) + n * p.b_step, p.b_step};
      const char* const next = strip.data + kLanes * p.b_step;
      if (count < kLanes) {  // no line beyond the last one is read
        __builtin_memset(last_lines, 0, static_cast<size_t>(line * kLanes));
        for (int i = 0; i < count; ++i) __builtin_memcpy(last_lines + i * line, strip.data + i * p.b_step, line);
        strip = {last_lines, line};
      }
      TileTarget c{p.accumulate ? p.c : nullptr, p.c_type, p.c_step, p.c, p.c_type, p.c_step};
      c = moved(c, first, n);
      if (p.m <= kFew) {
        with_rows<kFew>(static_cast<int>(rows), FewRows<L>{strip, p.k, next, of_tile(0), c, count});
        continue;
      }
      for_steps<L>(
          strip, p.k, next, [&](const Step<F>& step, int64_t t) __attribute__((always_inline)) { unpacked[t] = step; });
      for (int64_t i = 0; i < rows; i += kMany) {
        with_rows<kMany>(static_cast<int>(least(kMany, rows - i)),
                         ManyRows<F>{unpacked, p.k, of_tile(i), moved(c, i, 0), count});
      }
    }
  }
}

}  // namespace

void block_product(const BlockProduct& p, float* scratch) {
  auto* const memory = (char*)scratch;
  switch (p.type) {
    case BlockType::q8_0:
      return multiply<LinesQ8_0>(p, memory);
    case BlockType::q4_0:
      return multiply<LinesQ4_0>(p, memory);
    case BlockType::q4_1:
      return multiply<LinesQ4_1>(p, memory);
    case BlockType::q5_0:
      return multiply<LinesQ5_0>(p, memory);
    case BlockType::q5_1:
      return multiply<LinesQ5_1>(p, memory);
    case BlockType::q4_k:
      return multiply<LinesQ4K>(p, memory);
    case BlockType::q5_k:
      return multiply<LinesQ5K>(p, memory);
    case BlockType::q6_k:
      return multiply<LinesQ6K>(p, memory);
  }
}

}  // namespace moe::cpu::MOE_ISA
