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

class CudaDevice final : public Device {
 public:
  CudaDevice();
  ~CudaDevice() override;
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  void* allocate(size_t bytes, const std::string& purpose) override;
  void release(void* data) override;
  /// Copies through pinned memory, so that the host does not wait for the GPU (unless that memory is full).
  void upload(void* device, const void* host, size_t bytes) override;
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
  void wait();

  cudaDeviceProp properties_{};
  struct DestroyStream {
    void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
  };
  struct FreePinned {
    void operator()(char* data) const { cudaFreeHost(data); }
  };
  std::unique_ptr<std::remove_pointer_t<cudaStream_t>, DestroyStream> stream_;
  std::unique_ptr<char, FreePinned> staging_;  ///< [0, staged_) may still be read by queued copies
  size_t staged_ = 0;
  std::map<void*, size_t> sizes_;
  int64_t waits_ = 0;
  int64_t downloads_ = 0;
  const char* last_operation_ = "no operation";
};

}  // namespace moe::cuda
