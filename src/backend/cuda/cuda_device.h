#pragma once
/// The device of make_cuda_device: GPU memory, one stream that queues everything in order, and a count of how often the
/// host waited for it.

#include <map>
#include <memory>
#include <string>
#include <type_traits>

#include <cuda_runtime_api.h>

#include "ops/device.h"

namespace moe::cuda {

struct Written;

/// why_no_cuda() (backend/cuda/cuda_backend.h).
std::string why_no_device();

/// For one thread at a time.
class CudaDevice final : public Device {
 public:
  /// `gpu`: its number among the visible ones. It becomes the GPU of the calling thread.
  explicit CudaDevice(int gpu);
  ~CudaDevice() override;
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  void* allocate(size_t bytes, const std::string& purpose) override;
  void release(void* data) override;
  /// Copies through pinned memory, so that the host does not wait for the GPU. If that memory is full, the host waits
  /// for the older half of the queued copies.
  void upload(void* device, const void* host, size_t bytes) override;
  /// Also through pinned memory: while one part is copied to `host`, the next is being transferred.
  void download(void* host, const void* device, size_t bytes) override;
  void synchronize() override;
  DeviceInfo info() const override;
  /// As a CUDA graph. `work` is called once, now.
  std::unique_ptr<Recording> record(const std::function<void()>& work) override;

  bool records() const override { return true; }
  bool rearranges_blocks() const override { return true; }
  /// To pinned memory, with an event of its own.
  std::unique_ptr<LateCopy> late_copy(size_t bytes) override;

  cudaStream_t stream() const { return stream_.get(); }
  /// The beginning of the allocation that has `data`.
  void* allocation_of(const void* data) const;
  const cudaDeviceProp& properties() const { return properties_; }
  /// How often the host waited for the stream, and how often it copied from the GPU.
  int64_t waits() const { return waits_; }
  int64_t downloads() const { return downloads_; }
  /// Remembers the operation that is queued next, for the message of a later failure.
  void will_run(const char* operation) { last_operation_ = operation; }
  /// What the recorded operations wrote so far; null: nothing is being recorded.
  Written* recording() { return recording_; }

 private:
  /// Pinned memory in two halves. An event tells when the stream has finished the work queued with one half.
  struct Pinned {
    static constexpr size_t kHalf = size_t{8} << 20;
    char* data = nullptr;
    cudaEvent_t done[2] = {};

    Pinned() = default;
    Pinned(const Pinned&) = delete;
    Pinned& operator=(const Pinned&) = delete;
    ~Pinned();
    void open();
    char* half(int index) const { return data + static_cast<size_t>(index) * kHalf; }
  };

  class PinnedCopy;

  void wait();
  /// Queues what the recording has postponed, before anything else is queued.
  void queue_postponed();
  /// Throws an Error if `status`, from a wait for the stream, says that queued work has failed.
  void check_stream(cudaError_t status) const;

  cudaDeviceProp properties_{};
  struct DestroyStream {
    void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
  };
  std::unique_ptr<std::remove_pointer_t<cudaStream_t>, DestroyStream> stream_;
  Pinned up_, down_;
  int filling_ = 0;    ///< the half of up_ that is being filled
  size_t staged_ = 0;  ///< its bytes that queued copies may still read
  std::map<void*, size_t> sizes_;
  int64_t waits_ = 0;
  int64_t downloads_ = 0;
  const char* last_operation_ = "no operation";
  Written* recording_ = nullptr;
};

}  // namespace moe::cuda
