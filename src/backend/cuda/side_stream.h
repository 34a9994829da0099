#pragma once
/// A second stream for operations that need not run in turn. It belongs to the thread of its device.

#include <utility>

#include "backend/cuda/context.h"

namespace moe::cuda {

class SideStream {
 public:
  SideStream() {
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "creating a stream");
    for (cudaEvent_t* event : {&forked_, &done_}) {
      check(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "creating an event");
    }
  }
  ~SideStream() {
    cudaEventDestroy(forked_);
    cudaEventDestroy(done_);
    cudaStreamDestroy(stream_);
  }
  SideStream(const SideStream&) = delete;
  SideStream& operator=(const SideStream&) = delete;

  /// Queues work() behind all that has been queued. What `context` queues next does not wait for it until join(), so
  /// neither may use what the other writes, and work() may not use the workspace. Its kernels do not start early.
  template <class Work>
  void fork(Context& context, const Work& work) {
    check(cudaEventRecord(forked_, context.stream), "recording an event");
    check(cudaStreamWaitEvent(stream_, forked_), "waiting for an event");
    struct Restore {
      Context& context;
      cudaStream_t stream;
      const Written* recording;
      ~Restore() { context.stream = stream, context.recording = recording; }
    } const restore{context, std::exchange(context.stream, stream_), std::exchange(context.recording, nullptr)};
    work();
  }
  /// The kernel that is queued next may not start early.
  void join(const Context& context) {
    check(cudaEventRecord(done_, stream_), "recording an event");
    check(cudaStreamWaitEvent(context.stream, done_), "waiting for an event");
  }

 private:
  cudaStream_t stream_ = nullptr;
  cudaEvent_t forked_ = nullptr, done_ = nullptr;
};

}  // namespace moe::cuda
