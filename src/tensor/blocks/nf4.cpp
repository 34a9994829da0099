#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "tensor/blocks/blocks.h"
#include "tensor/blocks/layout.h"
#include "tensor/blocks/nf4_numbers.h"

namespace moe {
namespace {

constexpr int64_t kBlock = 64, kGroup = 256;  // elements of a block, scales of a group
constexpr int kCodes = 16;
constexpr const auto& kNumbers = kNf4Numbers.at;

/// Ascending numbers, and the middles between neighbours.
struct Numbers {
  std::vector<float> numbers, middles;

  explicit Numbers(std::vector<float> ascending) : numbers(std::move(ascending)) {
    for (size_t i = 0; i + 1 < numbers.size(); ++i) middles.push_back((numbers[i] + numbers[i + 1]) / 2);
  }
  /// The nearest number; of two, the lower one.
  float nearest(float x) const {
    return numbers[static_cast<size_t>(std::lower_bound(middles.begin(), middles.end(), x) - middles.begin())];
  }
};

const Numbers& codes_of_four() {
  static const Numbers numbers({std::begin(kNumbers), std::end(kNumbers)});
  return numbers;
}

/// The positive numbers of the 8-bit dynamic type (Dettmers et al. 2022), ascending: in the decade from 10^(i - 7) to
/// 10^(i - 6), for i from 0 to 6, the middles of 2^i equal parts; then 1. The bounds of the parts are counted from the
/// nearer end and rounded once, so that all numbers have the bits of those that bitsandbytes computes.
std::vector<float> positive_numbers_of_eight() {
  constexpr float kFirst = 0.1f, kLast = 1.0f, kDecades[] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1.0f};
  std::vector<float> numbers;
  int parts = 1;
  for (const float decade : kDecades) {
    const float step = (kLast - kFirst) / static_cast<float>(parts);
    const auto bound = [&](int i) {
      const bool lower = i < (parts + 1) / 2;
      return lower ? std::fma(step, static_cast<float>(i), kFirst)
                   : std::fma(-step, static_cast<float>(parts - i), kLast);
    };
    for (int i = 0; i < parts; ++i) numbers.push_back(decade * ((bound(i) + bound(i + 1)) / 2));
    parts *= 2;
  }
  numbers.push_back(1);
  return numbers;
}

/// The negative numbers of that type are the positive ones, without 1.
const Numbers& codes_of_eight() {
  static const Numbers numbers([] {
    const std::vector<float> positive = positive_numbers_of_eight();
    std::vector<float> all;
    for (size_t i = positive.size() - 1; i-- > 0;) all.push_back(-positive[i]);
    all.push_back(0);
    all.insert(all.end(), positive.begin(), positive.end());
    return all;
  }());
  return numbers;
}

/// x / largest, in [-1, 1]; 0 if all numbers beside it are.
float part_of(float x, float inverse) { return std::clamp(x * inverse, -1.0f, 1.0f); }
float inverse_of(float largest) { return 1.0f / std::max(largest, 1e-38f); }

float largest(const float* x, int64_t count) {
  float result = 0;
  for (int64_t i = 0; i < count; ++i) result = std::max(result, std::abs(x[i]));
  return result;
}

/// Scales as they are after they have been stored in 8 bits, a group at a time.
void round_scales(std::vector<float>& scales) {
  double sum = 0;
  for (const float scale : scales) sum += static_cast<double>(scale);
  const auto mean = static_cast<float>(sum / static_cast<double>(scales.size()));
  const auto all = static_cast<int64_t>(scales.size());
  for (float& scale : scales) scale -= mean;
  for (int64_t begin = 0; begin < all; begin += kGroup) {
    float* const group = scales.data() + begin;
    const int64_t count = std::min(kGroup, all - begin);
    const float most = largest(group, count), inverse = inverse_of(most);
    for (int64_t i = 0; i < count; ++i) {
      const float rounded = codes_of_eight().nearest(part_of(group[i], inverse)) * most;
      group[i] = rounded + mean;
    }
  }
}

/// How many middles are below x. Without a branch, so that compilers use vectors.
void codes_of_block(const float* from, float inverse, uint8_t* codes) {
  const float* const middles = codes_of_four().middles.data();
  float scaled[kBlock];
  for (int64_t i = 0; i < kBlock; ++i) scaled[i] = part_of(from[i], inverse);
  int32_t counts[kBlock] = {};
  for (int code = 0; code + 1 < kCodes; ++code) {
    for (int64_t i = 0; i < kBlock; ++i) counts[i] += scaled[i] > middles[code] ? 1 : 0;
  }
  for (int64_t i = 0; i < kBlock; ++i) codes[i] = static_cast<uint8_t>(counts[i]);
}

}  // namespace

const float* nf4_numbers() { return kNumbers; }

void nf4_to_floats(const void* from, float* to, int64_t elements) {
  blocks::read_blocks<blocks::Nf4, kBlock>(from, to, elements, [](const blocks::Nf4& block, float* x) {
    for (size_t i = 0; i < block.q.size(); ++i) {
      x[2 * i] = kNumbers[block.q[i] >> 4] * block.scale;
      x[2 * i + 1] = kNumbers[block.q[i] & 15] * block.scale;
    }
  });
}

void floats_to_nf4(const float* from, void* to, int64_t elements) {
  std::vector<float> scales(static_cast<size_t>(elements / kBlock));
  for (size_t i = 0; i < scales.size(); ++i) scales[i] = largest(from + static_cast<int64_t>(i) * kBlock, kBlock);
  const std::vector<float> exact = scales;
  if (!scales.empty()) round_scales(scales);
  int64_t index = 0;
  blocks::write_blocks<blocks::Nf4, kBlock>(from, to, elements, [&](const float* x) {
    uint8_t codes[kBlock];
    codes_of_block(x, inverse_of(exact[static_cast<size_t>(index)]), codes);
    blocks::Nf4 block{.scale = scales[static_cast<size_t>(index++)], .q = {}};
    for (size_t i = 0; i < block.q.size(); ++i) {
      block.q[i] = static_cast<uint8_t>(codes[2 * i] << 4 | codes[2 * i + 1]);
    }
    return block;
  });
}

}  // namespace moe
