#include "backend/cuda/stream_clock.h"

#include <algorithm>
#include <cstddef>

#include "backend/cuda/context.h"

namespace moe::cuda {
namespace {

/// Parts that are not added yet. Those that began so long ago are mostly done.
constexpr size_t kMostParts = 4096;

}  // namespace

StreamClock::~StreamClock() {
  for (const auto& [from, to] : parts_) {
    cudaEventDestroy(from);
    cudaEventDestroy(to);
  }
}

void StreamClock::begin() {
  cudaStreamCaptureStatus capture{};
  check(cudaStreamIsCapturing(stream_, &capture), "asking whether a stream is recorded");
  counts_ = capture == cudaStreamCaptureStatusNone;
  if (!counts_) return;
  if (used_ == kMostParts) add_up(kMostParts / 2);
  if (used_ == parts_.size()) {
    cudaEvent_t from = nullptr, to = nullptr;
    check(cudaEventCreate(&from), "creating an event");
    check(cudaEventCreate(&to), "creating an event");
    parts_.emplace_back(from, to);
  }
  check(cudaEventRecord(parts_[used_].first, stream_), "recording an event");
}

void StreamClock::end() {
  if (!counts_) return;
  check(cudaEventRecord(parts_[used_].second, stream_), "recording an event");
  ++used_;
}

void StreamClock::add_up(size_t count) {
  for (size_t part = 0; part < count; ++part) {
    const auto [from, to] = parts_[part];
    check(cudaEventSynchronize(to), "waiting for an event");
    float took = 0;
    check(cudaEventElapsedTime(&took, from, to), "reading the time between events");
    milliseconds_ += static_cast<double>(took);
  }
  std::rotate(parts_.begin(), parts_.begin() + static_cast<std::ptrdiff_t>(count), parts_.end());
  used_ -= count;
}

double StreamClock::take() {
  add_up(used_);
  return std::exchange(milliseconds_, 0) / 1000;
}

}  // namespace moe::cuda
