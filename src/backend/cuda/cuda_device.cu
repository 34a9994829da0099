#include <algorithm>
#include <cstring>

#include "backend/cuda/context.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/cuda_device.h"
#include "backend/cuda/sort.h"

namespace moe {
namespace cuda {
namespace {

constexpr size_t kStagingBytes = size_t{16} << 20;
constexpr int kOldestCapability = 80;  // bf16 tensor cores

}  // namespace

void check(cudaError_t status, const char* attempted) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // or the next launch would report this failure as its own
  fail("{} failed on the GPU: {} ({})", attempted, cudaGetErrorString(status), cudaGetErrorName(status));
}

CudaDevice::CudaDevice() {
  check(cudaSetDevice(0), "choosing GPU 0");
  check(cudaGetDeviceProperties(&properties_, 0), "reading the GPU's properties");
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
  stream_.reset(stream);
  char* staging = nullptr;
  check(cudaMallocHost(&staging, kStagingBytes), "allocating pinned memory");
  staging_.reset(staging);
}

CudaDevice::~CudaDevice() {
  cudaStreamSynchronize(stream());
  for (const auto& [data, bytes] : sizes_) cudaFree(data);
}

void* CudaDevice::allocate(size_t bytes, const std::string& purpose) {
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, std::max<size_t>(bytes, 1));
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    size_t free_bytes = 0, total_bytes = 0;
    check(cudaMemGetInfo(&free_bytes, &total_bytes), "asking for the GPU's free memory");
    fail("{}: {} bytes of GPU memory are needed, but {} of {} are free on {}", purpose, bytes, free_bytes, total_bytes,
         properties_.name);
  }
  check(status, "allocating GPU memory");
  sizes_.emplace(data, bytes);
  allocated_bytes_ += static_cast<int64_t>(bytes);
  ++allocations_;
  return data;
}

void CudaDevice::release(void* data) {
  if (data == nullptr) return;
  const auto found = sizes_.find(data);
  MOE_CHECK(found != sizes_.end());
  cudaFree(data);  // waits for what is queued
  allocated_bytes_ -= static_cast<int64_t>(found->second);
  sizes_.erase(found);
}

void CudaDevice::upload(void* device, const void* host, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    if (staged_ == kStagingBytes) wait();
    const size_t part = std::min(bytes - done, kStagingBytes - staged_);
    char* const staging = staging_.get() + staged_;
    std::memcpy(staging, static_cast<const char*>(host) + done, part);
    check(cudaMemcpyAsync(static_cast<char*>(device) + done, staging, part, cudaMemcpyHostToDevice, stream()),
          "copying to the GPU");
    done += part;
    staged_ += part;
  }
}

void CudaDevice::download(void* host, const void* device, size_t bytes) {
  if (bytes == 0) return;
  ++downloads_;
  check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream()), "copying from the GPU");
  wait();
}

void CudaDevice::synchronize() { wait(); }

void CudaDevice::wait() {
  ++waits_;
  const cudaError_t status = cudaStreamSynchronize(stream());
  staged_ = 0;
  if (status == cudaSuccess) return;
  fail(
      "the GPU failed at or before {}: {} ({}); with CUDA_LAUNCH_BLOCKING=1 in the environment the message names the "
      "operation",
      last_operation_, cudaGetErrorString(status), cudaGetErrorName(status));
}

DeviceInfo CudaDevice::info() const {
  return {.name = properties_.name,
          .memory_bytes = static_cast<int64_t>(properties_.totalGlobalMem),
          .scratch_bytes = cuda_workspace_bytes(),
          .most_slots = most_sorted(kWorkspaceBytes)};
}

}  // namespace cuda

std::string why_no_cuda() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  cudaGetLastError();
  if (status == cudaErrorInsufficientDriver) {
    return "the NVIDIA driver is missing or older than this program's CUDA 13; install a newer driver";
  }
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0)) {
    return "there is no NVIDIA GPU (or CUDA_VISIBLE_DEVICES hides it)";
  }
  if (status != cudaSuccess) return fmt::format("CUDA cannot start: {}", cudaGetErrorString(status));
  cudaDeviceProp properties;
  if (cudaGetDeviceProperties(&properties, 0) != cudaSuccess) return "the GPU's properties cannot be read";
  if (properties.major * 10 + properties.minor < cuda::kOldestCapability) {
    return fmt::format("{} has compute capability {}.{}, and 8.0 (Ampere) or newer is needed", properties.name,
                       properties.major, properties.minor);
  }
  return {};
}

std::unique_ptr<Device> make_cuda_device() {
  if (const std::string why = why_no_cuda(); !why.empty()) fail("no GPU can be used: {}", why);
  return std::make_unique<cuda::CudaDevice>();
}

}  // namespace moe
