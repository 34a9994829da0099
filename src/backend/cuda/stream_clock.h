#pragma once
/// How long parts of a stream's work took.

#include <utility>
#include <vector>

#include <cuda_runtime_api.h>

namespace moe::cuda {

/// Adds up the times of parts that begin() and end() surround. Parts that are recorded into a graph do not count. It
/// belongs to one stream, and to the thread of its device.
class StreamClock {
 public:
  explicit StreamClock(cudaStream_t stream) : stream_(stream) {}
  ~StreamClock();
  StreamClock(const StreamClock&) = delete;
  StreamClock& operator=(const StreamClock&) = delete;

  void begin();
  void end();
  /// Seconds of the parts since the last call. Waits until the last of them is done.
  double take();

 private:
  cudaStream_t stream_;
  std::vector<std::pair<cudaEvent_t, cudaEvent_t>> parts_;  // kept for later parts
  size_t used_ = 0;
  bool counts_ = false;  // the part that has begun
};

}  // namespace moe::cuda
