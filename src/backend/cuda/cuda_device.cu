#include <algorithm>
#include <cstring>

#include "backend/cuda/context.h"
#include "backend/cuda/cuda_device.h"
#include "backend/cuda/sort.h"

namespace moe::cuda {
namespace {

constexpr int kOldestCapability = 80;  // bf16 tensor cores
/// Kernels, also those of cuBLASLt, are loaded to the GPU when they first run, and an allocation ends at the boundary
/// of a page.
constexpr int64_t kReservedBytes = int64_t{256} << 20;

}  // namespace

void check(cudaError_t status, const char* attempted) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // otherwise the next launch would report this failure as its own
  fail("{} failed on the GPU: {} ({})", attempted, cudaGetErrorString(status), cudaGetErrorName(status));
}

CudaDevice::CudaDevice(int gpu) {
  check(cudaSetDevice(gpu), "choosing the GPU");
  check(cudaGetDeviceProperties(&properties_, gpu), "reading the GPU's properties");
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
  stream_.reset(stream);
  up_.open();
  down_.open();
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
  count_allocation(bytes);
  return data;
}

void CudaDevice::release(void* data) {
  if (data == nullptr) return;
  const auto found = sizes_.find(data);
  MOE_CHECK(found != sizes_.end());
  cudaFree(data);  // waits for what is queued
  count_release(found->second);
  sizes_.erase(found);
}

void* CudaDevice::allocation_of(const void* data) const {
  auto after = sizes_.upper_bound(const_cast<void*>(data));
  MOE_CHECK(after != sizes_.begin());
  --after;
  MOE_CHECK(static_cast<const char*>(data) < static_cast<const char*>(after->first) + after->second);
  return after->first;
}

void CudaDevice::upload(void* device, const void* host, size_t bytes) {
  queue_postponed();
  for (size_t done = 0; done < bytes;) {
    if (staged_ == Pinned::kHalf) {
      check(cudaEventRecord(up_.done[filling_], stream()), "copying to the GPU");
      filling_ = 1 - filling_;
      staged_ = 0;
      if (cudaEventQuery(up_.done[filling_]) == cudaErrorNotReady) {
        cudaGetLastError();
        ++waits_;
        check_stream(cudaEventSynchronize(up_.done[filling_]));
      }
    }
    const size_t part = std::min(bytes - done, Pinned::kHalf - staged_);
    char* const stage = up_.half(filling_) + staged_;
    std::memcpy(stage, static_cast<const char*>(host) + done, part);
    check(cudaMemcpyAsync(static_cast<char*>(device) + done, stage, part, cudaMemcpyHostToDevice, stream()),
          "copying to the GPU");
    done += part;
    staged_ += part;
  }
}

void CudaDevice::download(void* host, const void* device, size_t bytes) {
  if (bytes == 0) return;
  queue_postponed();
  ++downloads_;
  ++waits_;
  const size_t parts = (bytes + Pinned::kHalf - 1) / Pinned::kHalf;
  const auto size_of_part = [&](size_t part) { return std::min(Pinned::kHalf, bytes - part * Pinned::kHalf); };
  const auto start = [&](size_t part) {
    const int half = static_cast<int>(part % 2);
    check(cudaMemcpyAsync(down_.half(half), static_cast<const char*>(device) + part * Pinned::kHalf, size_of_part(part),
                          cudaMemcpyDeviceToHost, stream()),
          "copying from the GPU");
    check(cudaEventRecord(down_.done[half], stream()), "copying from the GPU");
  };
  start(0);
  for (size_t part = 0; part < parts; ++part) {
    if (part + 1 < parts) start(part + 1);
    const int half = static_cast<int>(part % 2);
    check_stream(cudaEventSynchronize(down_.done[half]));
    std::memcpy(static_cast<char*>(host) + part * Pinned::kHalf, down_.half(half), size_of_part(part));
  }
  staged_ = 0;  // all earlier work is done
}

void CudaDevice::synchronize() { wait(); }

void CudaDevice::queue_postponed() {
  if (recording_ != nullptr) recording_->queue_postponed();
}

void CudaDevice::wait() {
  ++waits_;
  const cudaError_t status = cudaStreamSynchronize(stream());
  staged_ = 0;
  check_stream(status);
}

void CudaDevice::Pinned::open() {
  check(cudaMallocHost(&data, 2 * kHalf), "allocating pinned memory");
  for (cudaEvent_t& event : done) check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating an event");
}

CudaDevice::Pinned::~Pinned() {
  for (cudaEvent_t event : done) {
    if (event != nullptr) cudaEventDestroy(event);
  }
  if (data != nullptr) cudaFreeHost(data);
}

class CudaDevice::PinnedCopy final : public LateCopy {
 public:
  PinnedCopy(CudaDevice& device, size_t bytes) : device_(device), bytes_(bytes) {
    check(cudaMallocHost(&data_, std::max<size_t>(bytes, 1)), "allocating pinned memory");
    check(cudaEventCreateWithFlags(&done_, cudaEventDisableTiming), "creating an event");
  }
  ~PinnedCopy() override {
    if (done_ != nullptr) {
      cudaEventSynchronize(done_);  // a copy may still run
      cudaEventDestroy(done_);
    }
    cudaFreeHost(data_);
  }
  PinnedCopy(const PinnedCopy&) = delete;
  PinnedCopy& operator=(const PinnedCopy&) = delete;

  void start(const void* device) override {
    device_.queue_postponed();
    check(cudaMemcpyAsync(data_, device, bytes_, cudaMemcpyDeviceToHost, device_.stream()), "copying from the GPU");
    check(cudaEventRecord(done_, device_.stream()), "copying from the GPU");
  }
  const void* wait() override {
    ++device_.downloads_;
    ++device_.waits_;
    device_.check_stream(cudaEventSynchronize(done_));
    return data_;
  }

 private:
  CudaDevice& device_;
  size_t bytes_;
  void* data_ = nullptr;
  cudaEvent_t done_ = nullptr;
};

std::unique_ptr<LateCopy> CudaDevice::late_copy(size_t bytes) { return std::make_unique<PinnedCopy>(*this, bytes); }

void CudaDevice::check_stream(cudaError_t status) const {
  if (status == cudaSuccess) return;
  fail(
      "the GPU failed at or before {}: {} ({}); with CUDA_LAUNCH_BLOCKING=1 in the environment the message names the "
      "operation",
      last_operation_, cudaGetErrorString(status), cudaGetErrorName(status));
}

namespace {

/// A graph on a device's stream.
class Graph final : public Recording {
 public:
  Graph(cudaGraph_t graph, cudaStream_t stream) : stream_(stream) {
    size_t nodes = 0;
    check(cudaGraphGetNodes(graph, nullptr, &nodes), "counting a recorded step");
    kernels_ = static_cast<int64_t>(nodes);
    check(cudaGraphInstantiate(&executable_, graph, 0), "preparing a recorded step");
  }
  ~Graph() override {
    cudaStreamSynchronize(stream_);  // it may still run
    cudaGraphExecDestroy(executable_);
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void replay() override { check(cudaGraphLaunch(executable_, stream_), "starting a recorded step"); }
  int64_t kernels() const override { return kernels_; }

 private:
  cudaStream_t stream_;
  cudaGraphExec_t executable_ = nullptr;
  int64_t kernels_ = 0;
};

}  // namespace

std::unique_ptr<Recording> CudaDevice::record(const std::function<void()>& work) {
  MOE_CHECK(recording_ == nullptr);
  Written written;
  check(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal), "recording a step");
  recording_ = &written;
  cudaGraph_t graph = nullptr;
  try {
    work();
    written.queue_postponed();
  } catch (...) {
    recording_ = nullptr;
    cudaStreamEndCapture(stream(), &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();
    throw;
  }
  recording_ = nullptr;
  check(cudaStreamEndCapture(stream(), &graph), "recording a step");
  struct Destroy {
    cudaGraph_t graph;
    ~Destroy() { cudaGraphDestroy(graph); }
  } const destroy{graph};
  return std::make_unique<Graph>(graph, stream());
}

DeviceInfo CudaDevice::info() const {
  size_t free_bytes = 0, total_bytes = 0;
  check(cudaMemGetInfo(&free_bytes, &total_bytes), "asking for the GPU's free memory");
  return {.name = properties_.name,
          .memory_bytes = static_cast<int64_t>(properties_.totalGlobalMem),
          .available_bytes = std::max<int64_t>(1, static_cast<int64_t>(kWorkspaceBytes) + allocated_bytes() +
                                                      static_cast<int64_t>(free_bytes) - kReservedBytes),
          .scratch_bytes = static_cast<int64_t>(kWorkspaceBytes),
          .most_slots = most_sorted(kWorkspaceBytes)};
}

namespace {

__global__ void probe_kernel() {}

/// Why the program has no code that GPU 0 can run, neither machine code for it nor PTX that the driver can compile;
/// cudaSuccess if it has.
cudaError_t missing_code() {
  cudaFuncAttributes attributes;
  const cudaError_t status = cudaFuncGetAttributes(&attributes, probe_kernel);
  cudaGetLastError();
  const bool missing = status == cudaErrorNoKernelImageForDevice || status == cudaErrorInvalidDeviceFunction ||
                       status == cudaErrorInvalidKernelImage || status == cudaErrorUnsupportedPtxVersion;
  return missing ? status : cudaSuccess;
}

}  // namespace

std::string why_no_device() {
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
  if (properties.major * 10 + properties.minor < kOldestCapability) {
    return fmt::format("{} has compute capability {}.{}, and 8.0 (Ampere) or newer is needed", properties.name,
                       properties.major, properties.minor);
  }
  const cudaError_t missing = missing_code();
  if (missing == cudaErrorUnsupportedPtxVersion) {
    return fmt::format(
        "the driver is older than the PTX in this program, from which it would compile code for {}; install a newer "
        "driver, or build the program again with -DMOE_CUDA_ARCHITECTURES={}{}",
        properties.name, properties.major, properties.minor);
  }
  if (missing != cudaSuccess) {
    return fmt::format(
        "this program was built for {} alone, and {} has compute capability {}.{}; build it again with "
        "-DMOE_CUDA_ARCHITECTURES={}{}",
        MOE_CUDA_CODE, properties.name, properties.major, properties.minor, properties.major, properties.minor);
  }
  return {};
}

}  // namespace moe::cuda
