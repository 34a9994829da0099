#pragma once
/// The parts of next_token.cu. Weights are integers: the same sums in any order, so that many threads may add them and
/// a draw has one meaning. Tokens are ordered by keys: the better the token, the larger its key.

#include "backend/cuda/kernel.cuh"
#include "backend/cuda/random.cuh"
#include "ops/sampling.h"

namespace moe::cuda {

using Key = unsigned long long;   ///< 32 bits of the score, kIdBits of the id; 0: does not take part
using Mass = unsigned long long;  ///< a weight in units of 1 / NextTokens::one, or a sum of them

constexpr int kIdBits = 23;
constexpr int64_t kMostIds = int64_t{1} << kIdBits;
constexpr Key kRefused = ~0ull;  ///< a logit that is no number
constexpr int kDrawThreads = 1024, kDrawParts = kDrawThreads / kWarp;

/// Sums of so many weights do not overflow: a weight has three pieces of this many bits, each summed in 32 bits.
constexpr int piece_bits(int64_t vocabulary) {
  int bits = 15;
  while ((vocabulary << bits) > (int64_t{1} << 32)) --bits;
  return bits;
}

struct NextTokens {
  const float* logits;
  int64_t logit_step;
  const int *allowed, *draws;
  int64_t draw_step;
  int* counts;
  int64_t count_step;
  const int* sequence;
  int *ids, *positions, *chosen;
  int64_t vocabulary;
  Key *parts, *best;
  int* arrived;  ///< of each row, 0 between operations
  Mass *weights = nullptr, *part_sums = nullptr;
  Mass one = 0;  ///< the weight of the best token
  int piece_bits = 0;
};

/// TokenDraw without initial values, so that it can be in shared memory.
struct RowDraw {
  double repetition_penalty, presence_penalty, frequency_penalty, temperature;
  int64_t top_k;
  double top_p, min_p;
  uint64_t seed, stream;
};
static_assert(sizeof(RowDraw) == sizeof(TokenDraw));

struct Row {
  const float* logits;
  const int* counts;  ///< null: nothing is penalised
  int sequence;
  bool sampled;
  RowDraw draw;

  /// Which tokens are left depends on the others' order.
  __device__ bool selects() const { return draw.top_k > 0 || draw.top_p < 1; }
};

__device__ inline Row row_of(const NextTokens& p, int t) {
  Row row;
  row.logits = p.logits + t * p.logit_step;
  row.counts = nullptr;
  row.sequence = p.sequence == nullptr ? t : p.sequence[t];
  row.sampled = false;
  if (row.sequence < 0 || p.draws == nullptr) return row;
  int words[kDrawWords];
  for (int w = 0; w < kDrawWords; ++w) words[w] = p.draws[t * p.draw_step + w];
  memcpy(&row.draw, words, sizeof words);
  const RowDraw& o = row.draw;
  row.sampled = o.temperature > 0;
  const bool penalises =
      static_cast<float>(o.repetition_penalty) != 1.0f || o.presence_penalty != 0 || o.frequency_penalty != 0;
  if (p.counts != nullptr && penalises) row.counts = p.counts + row.sequence * p.count_step;
  return row;
}

/// penalised() of ops/sampling.h, with its rounding.
__device__ inline float after_penalties(float logit, int count, const RowDraw& options) {
  if (count == 0) return logit;
  const auto penalty = static_cast<float>(options.repetition_penalty);
  if (penalty != 1.0f) logit = logit > 0 ? __fdiv_rn(logit, penalty) : __fmul_rn(logit, penalty);
  const double added = __dadd_rn(options.presence_penalty, __dmul_rn(options.frequency_penalty, count));
  return added == 0 ? logit : __fsub_rn(logit, static_cast<float>(added));
}

__device__ inline Key key_of(const NextTokens& p, const Row& row, int64_t id) {
  if (p.allowed != nullptr && p.allowed[id] == 0) return 0;
  float logit = row.logits[id];
  if (row.counts != nullptr) logit = after_penalties(logit, row.counts[id], row.draw);
  if (!(logit < INFINITY)) return kRefused;
  const unsigned bits = __float_as_uint(logit + 0.0f);  // one zero
  const unsigned order = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<Key>(order) << kIdBits | static_cast<Key>(kMostIds - 1 - id);
}
__device__ inline int id_of(Key key) { return static_cast<int>(kMostIds - 1 - static_cast<int64_t>(key % kMostIds)); }
/// The logit after the penalties; no number for 0.
__device__ inline double score_of(Key key) {
  const auto order = static_cast<unsigned>(key >> kIdBits);
  return __uint_as_float((order >> 31) != 0 ? order & 0x7fffffffu : ~order);
}

__device__ inline void end_row(const NextTokens& p, int t, const Row& row, int64_t id) {
  p.ids[t] = id < 0 ? 0 : static_cast<int>(id);
  p.chosen[t] = static_cast<int>(id);
  if (row.sequence < 0) return;
  ++p.positions[t];
  if (p.counts != nullptr && id >= 0) ++p.counts[row.sequence * p.count_step + id];
}

/// The least weight that min-p leaves.
__device__ inline Mass least_mass(const NextTokens& p, const Row& row) {
  return static_cast<Mass>(ceil(row.draw.min_p * static_cast<double>(p.one)));
}

/// Ids of a part of the vocabulary: whole warps.
__device__ inline int64_t part_width(const NextTokens& p) {
  return (p.vocabulary + kDrawThreads - 1) / kDrawThreads * kWarp;
}

__device__ inline Mass warp_sum(Mass sum) {
  for (int other = kWarp / 2; other > 0; other /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, other);
  return sum;
}

template <int kThreads>
__device__ Mass block_sum(Mass sum, Mass* sums) {
  sum = warp_sum(sum);
  if (threadIdx.x % kWarp == 0) sums[threadIdx.x / kWarp] = sum;
  __syncthreads();
  sum = 0;
  for (int warp = 0; warp < kThreads / kWarp; ++warp) sum += sums[warp];
  return sum;
}

/// Tokens that are left.
struct Kept {
  Key least_key;
  Mass least_mass;
};

/// Without a least key, nobody needs to know the keys: 1 leaves all whose weight is not 0.
__device__ inline Mass mass_of(const NextTokens& p, const Row& row, const Mass* weights, const Kept& kept, int64_t id) {
  const Mass mass = weights[id];
  if (mass == 0 || mass < kept.least_mass) return 0;
  return kept.least_key > 1 && key_of(p, row, id) < kept.least_key ? 0 : mass;
}

/// The sums of kDrawParts parts of the ids [begin, end), whole warps each; returns that of all. All threads take part.
__device__ inline Mass kept_mass(const NextTokens& p, const Row& row, const Mass* weights, const Kept& kept,
                                 int64_t begin, int64_t end, Mass* sums) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t width = (end - begin + kDrawThreads - 1) / kDrawThreads * kWarp;
  const int64_t last = min(begin + (warp + 1) * width, end);
  Mass sum = 0;
#pragma unroll 4
  for (int64_t v = begin + warp * width + lane; v < last; v += kWarp) sum += mass_of(p, row, weights, kept, v);
  sum = warp_sum(sum);
  __syncthreads();
  if (lane == 0) sums[warp] = sum;
  __syncthreads();
  sum = 0;
  for (int part = 0; part < kDrawParts; ++part) sum += sums[part];
  return sum;
}

/// The id at the draw: `sums` are those of the parts of all ids. All threads take part and get the same.
__device__ inline int64_t drawn(const NextTokens& p, const Row& row, const Mass* weights, const Kept& kept, Mass* sums,
                                int position) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  Mass total = 0;
  for (int part = 0; part < kDrawParts; ++part) total += sums[part];
  const uint4 words = random_words(row.draw.seed, row.draw.stream, static_cast<uint64_t>(position));
  const Mass uniform = (static_cast<Mass>(words.y) << 32 | words.x) >> 11 << 11;
  Mass left = __umul64hi(uniform, total);  // below the total
  int64_t begin = 0, end = p.vocabulary;
  while (true) {
    const int64_t width = (end - begin + kDrawThreads - 1) / kDrawThreads * kWarp;
    int part = 0;
    while (left >= sums[part]) left -= sums[part++];
    begin += part * width;
    end = min(begin + width, end);
    if (width == kWarp) break;
    kept_mass(p, row, weights, kept, begin, end, sums);
  }
  Mass mass = begin + lane < end ? mass_of(p, row, weights, kept, begin + lane) : 0, below = mass;
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const Mass before = __shfl_up_sync(0xffffffffu, below, distance);
    if (lane >= distance) below += before;
  }
  const unsigned reached = __ballot_sync(0xffffffffu, left < below);
  return begin + __ffs(static_cast<int>(reached)) - 1;
}

constexpr int kDigitBits = 11, kDigits = 1 << kDigitBits;
static_assert(5 * kDigitBits == 32 + kIdBits);

struct Selection {
  unsigned counts[kDigits];
  unsigned masses[3][kDigits];
  Key prefix;
  Mass before;  ///< the measure of the tokens above the prefix
  bool found;
};

/// The measure of a digit: its tokens, or the sum of their weights.
template <bool by_mass>
__device__ Mass measure_of(const Selection& s, int digit, int bits) {
  if (!by_mass) return s.counts[digit];
  return s.masses[0][digit] + (static_cast<Mass>(s.masses[1][digit]) << bits) +
         (static_cast<Mass>(s.masses[2][digit]) << (2 * bits));
}

/// The key of the last of the best kept tokens whose measure together reaches `target`: their number, or the sum of
/// their weights (which must have that much). Digit after digit of the key, the tokens that agree so far are counted.
/// All threads take part and get the same.
template <bool by_mass>
__device__ Key select(const NextTokens& p, const Row& row, const Mass* weights, Selection& s, const Kept& kept,
                      Mass target) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp;
  __syncthreads();
  if (thread == 0) s.prefix = 0, s.before = 0, s.found = false;
  for (int shift = 4 * kDigitBits; shift >= 0; shift -= kDigitBits) {
    for (int digit = thread; digit < kDigits; digit += kDrawThreads) {
      s.counts[digit] = 0;
      for (auto& piece : s.masses) piece[digit] = 0;
    }
    __syncthreads();
    const Key prefix = s.prefix;
#pragma unroll 2
    for (int64_t v = thread; v < p.vocabulary; v += kDrawThreads) {
      const Key key = key_of(p, row, v);
      if (key < kept.least_key || key >> (shift + kDigitBits) != prefix) continue;
      const auto digit = static_cast<int>(key >> shift) & (kDigits - 1);
      atomicAdd(s.counts + digit, 1u);
      if (!by_mass) continue;
      const Mass mass = weights[v], piece = (Mass{1} << p.piece_bits) - 1;
      for (int i = 0; i < 3; ++i) {
        const auto bits = static_cast<unsigned>(mass >> (i * p.piece_bits) & piece);
        if (bits != 0) atomicAdd(s.masses[i] + digit, bits);
      }
    }
    __syncthreads();
    if (thread < kWarp) {
      // From the best digit on: the first one that reaches the target. Each lane sums a range of them.
      constexpr int kEach = kDigits / kWarp;
      const int top = kDigits - 1 - lane * kEach;
      Mass own = 0;
      for (int i = 0; i < kEach; ++i) own += measure_of<by_mass>(s, top - i, p.piece_bits);
      Mass until = own;
      for (int distance = 1; distance < kWarp; distance *= 2) {
        const Mass before = __shfl_up_sync(0xffffffffu, until, distance);
        if (lane >= distance) until += before;
      }
      const unsigned reached = __ballot_sync(0xffffffffu, s.before + until >= target);
      if (reached == 0 ? lane == kWarp - 1 : lane == __ffs(static_cast<int>(reached)) - 1) {
        Mass before = s.before + until - own;
        int digit = top;
        while (digit > top - kEach + 1) {
          const Mass measure = measure_of<by_mass>(s, digit, p.piece_bits);
          if (before + measure >= target && s.counts[digit] > 0) break;
          before += measure;
          --digit;
        }
        s.prefix = prefix << kDigitBits | static_cast<Key>(digit);
        s.before = before;
        s.found = before + measure_of<by_mass>(s, digit, p.piece_bits) == target || s.counts[digit] <= 1;
      }
    }
    __syncthreads();
    if (s.found) return max(s.prefix << shift, kept.least_key);  // all of the digit
  }
  return s.prefix;
}

}  // namespace moe::cuda
