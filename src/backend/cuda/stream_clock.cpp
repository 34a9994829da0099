#include "backend/cuda/stream_clock.h"

#include "backend/cuda/context.h"

namespace moe::cuda {

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

double StreamClock::take() {
  double milliseconds = 0;
  for (size_t part = 0; part < used_; ++part) {
    const auto [from, to] = parts_[part];
    check(cudaEventSynchronize(to), "waiting for an event");
    float took = 0;
    check(cudaEventElapsedTime(&took, from, to), "reading the time between events");
    milliseconds += static_cast<double>(took);
  }
  used_ = 0;
  return milliseconds / 1000;
}

}  // namespace moe::cuda
