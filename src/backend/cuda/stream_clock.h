#pragma once
/// How long parts of a stream's work took.

#include <utility>
#include <vector>

#include <cuda_runtime_api.h>

namespace moe::cuda {

/// Adds up the times of parts that begin() and end() surround, of any number of them. Parts that are recorded into a
/// graph do not count. It belongs to one stream, and to the thread of its device.
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
  /// Adds up the first parts that are not added yet. Waits until they are done.
  void add_up(size_t count);

  cudaStream_t stream_;
  std::vector<std::pair<cudaEvent_t, cudaEvent_t>> parts_;  // kept for later parts
  size_t used_ = 0;                                         // that are not added yet
  double milliseconds_ = 0;                                 // of those that are
  bool counts_ = false;                                     // the part that has begun
};

}  // namespace moe::cuda
