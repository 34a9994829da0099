#pragma once
/// The device of make_cuda_device: GPU memory, one stream on which everything is queued in order, and a count of the
/// times that the host waited for it.

#include <map>
#include <memory>
#include <string>
#include <type_traits>

#include <cuda_runtime_api.h>

#include "ops/device.h"

namespace moe::cuda {

/// why_no_cuda() (backend/cuda/cuda_backend.h).
std::string why_no_device();

class CudaDevice final : public Device {
 public:
  CudaDevice();
  ~CudaDevice() override;
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  void* allocate(size_t bytes, const std::string& purpose) override;
  void release(void* data) override;
  /// Copies through pinned memory, so that the host does not wait for the GPU (unless that memory is full; then it
  /// waits for the older half of what is queued there).
  void upload(void* device, const void* host, size_t bytes) override;
  /// Through pinned memory as well: while one part is copied to `host`, the next is on its way.
  void download(void* host, const void* device, size_t bytes) override;
  void synchronize() override;
  DeviceInfo info() const override;

  cudaStream_t stream() const { return stream_.get(); }
  const cudaDeviceProp& properties() const { return properties_; }
  /// How often the host waited for the stream, and how often it copied from the GPU.
  int64_t waits() const { return waits_; }
  int64_t downloads() const { return downloads_; }
  /// Remembers the operation that is queued next, for the message of a later failure.
  void will_run(const char* operation) { last_operation_ = operation; }

 private:
  /// Pinned memory in two halves; an event says when the stream has done what was queued with one.
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

  void wait();
  /// Throws Error when `status`, of a wait for the stream, says that something queued has failed.
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
};

}  // namespace moe::cuda
