#include "train/base_fingerprint.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace moe {
namespace {

constexpr size_t kAtOnce = size_t{8} << 20;
constexpr size_t kLanes = 4;  // sums that do not wait for each other

/// Changes with every bit, and with the order of words.
struct Sum {
  uint64_t lanes[kLanes] = {1, 2, 3, 4};

  void add(const char* bytes, size_t count) {
    constexpr uint64_t kOdd = 0x9E3779B97F4A7C15;
    const size_t words = count / sizeof(uint64_t);
    const auto step = [&](size_t i, uint64_t word) {
      uint64_t& lane = lanes[i % kLanes];
      lane = std::rotl((lane ^ word) * kOdd, 29);
    };
    for (size_t i = 0; i < words; ++i) {
      uint64_t word;
      std::memcpy(&word, bytes + i * sizeof(word), sizeof(word));
      step(i, word);
    }
    uint64_t rest = count;
    std::memcpy(&rest, bytes + words * sizeof(uint64_t), count % sizeof(uint64_t));
    step(words, rest ^ count);
  }
  uint64_t value() const {
    uint64_t all = 0;
    for (const uint64_t lane : lanes) all = std::rotl(all, 17) ^ (lane ^ lane >> 32) * 0xD6E8FEB86659FD93;
    return all == 0 ? 1 : all;
  }
};

}  // namespace

uint64_t content_fingerprint(const std::vector<View>& views, Device& device) {
  Sum sum;
  std::vector<char> bytes;
  for (const View& view : views) {
    for (size_t begin = 0, all = view.bytes(); begin < all; begin += kAtOnce) {
      bytes.resize(std::min(kAtOnce, all - begin));
      device.download(bytes.data(), static_cast<const char*>(view.data) + begin, bytes.size());
      sum.add(bytes.data(), bytes.size());
    }
  }
  return sum.value();
}

}  // namespace moe
