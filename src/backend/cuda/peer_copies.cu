#include <algorithm>

#include <cuda.h>

#include "backend/cuda/kernel.cuh"
#include "backend/cuda/peer_copies.h"

namespace moe::cuda {
namespace {

constexpr int kThreads = 512;

/// The parts of a sum in the order of the ranks. The rank's own one is what it adds to.
struct SumParts {
  const float* of[kMostPeers];
  int count;
};

__global__ void __launch_bounds__(kThreads) add_parts(float* x, SumParts parts, int64_t count) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads, quads = count / 4;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  for (int64_t i = first; i < quads; i += step) {
    float4 sum = reinterpret_cast<const float4*>(parts.of[0])[i];
    for (int part = 1; part < parts.count; ++part) {
      const float4 more = reinterpret_cast<const float4*>(parts.of[part])[i];
      sum.x += more.x;
      sum.y += more.y;
      sum.z += more.z;
      sum.w += more.w;
    }
    reinterpret_cast<float4*>(x)[i] = sum;
  }
  for (int64_t i = quads * 4 + first; i < count; i += step) {
    float sum = parts.of[0][i];
    for (int part = 1; part < parts.count; ++part) sum += parts.of[part][i];
    x[i] = sum;
  }
}

/// The driver's operations on flags in memory, which take no multiprocessor.
struct FlagFunctions {
  decltype(&cuStreamWriteValue32) write = nullptr;
  decltype(&cuStreamWaitValue32) wait = nullptr;
};

const FlagFunctions& flag_functions() {
  static const FlagFunctions functions = [] {
    FlagFunctions found;
    const auto find = [](const char* name, auto& function) {
      void* address = nullptr;
      cudaDriverEntryPointQueryResult result{};
      check(cudaGetDriverEntryPointByVersion(name, &address, 12000, cudaEnableDefault, &result), name);
      MOE_CHECK(result == cudaDriverEntryPointSuccess);
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(address);
    };
    find("cuStreamWriteValue32", found.write);
    find("cuStreamWaitValue32", found.wait);
    return found;
  }();
  return functions;
}

void check_driver(CUresult result, const char* attempted) {
  if (result != CUDA_SUCCESS)
    fail("{} failed on the GPU (error {} of the driver)", attempted, static_cast<int>(result));
}

}  // namespace

PeerCopies::PeerCopies(Communicator& hosts, CudaDevice& device, std::vector<View> tensors, size_t room)
    : hosts_(hosts), device_(device), last_(static_cast<size_t>(hosts.size())) {
  MOE_CHECK(hosts.size() <= kMostPeers);
  size_t largest = 0;
  for (const View& tensor : tensors) {
    MOE_CHECK(tensor.contiguous() && reinterpret_cast<uintptr_t>(tensor.data) % 16 == 0);
    index_.emplace(tensor.data, index_.size());
    largest = std::max(largest, tensor.bytes());
  }
  MOE_CHECK(index_.size() == tensors.size());
  const size_t count = static_cast<size_t>(hosts.size()) - 1;
  const auto pages = [](size_t bytes) { return std::max<size_t>(bytes / 4096, 1) * 4096; };
  part_bytes_ = std::min(pages(room / count), pages(largest + 4095));
  flag_functions();  // an Error comes before the others wait
  flags_ = device.allocate(kRankFlagBytes, "flags of ranks");
  parts_ = static_cast<char*>(device.allocate(part_bytes_ * count, "sums over ranks"));
  check(cudaMemsetAsync(flags_, 0, kRankFlagBytes, device.stream()), "clearing flags");
  add_parts<<<1, kThreads, 0, device.stream()>>>(nullptr, {}, 0);  // loads the kernel, which could wait for the stream
  check(cudaGetLastError(), "loading a kernel");
  device.synchronize();  // before another rank may write there
  tensors.push_back(View(flags_, DType::i32, {static_cast<int64_t>(kRankFlagBytes / sizeof(int32_t))}));
  memory_ = std::make_unique<PeerMemory>(hosts, device, tensors);
}

PeerCopies::~PeerCopies() {
  // A rank that is lost tells nothing any more. Then this rank's own stream would wait for ever.
  const FlagFunctions& functions = flag_functions();
  cudaStream_t stream = nullptr;
  if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess) {
    for (int from = 0; from < hosts_.size(); ++from) {
      for (const Flag which : {Flag::ready, Flag::taken}) {
        functions.write(stream, reinterpret_cast<CUdeviceptr>(flag(hosts_.rank(), which, from)),
                        static_cast<cuuint32_t>(piece_), CU_STREAM_WRITE_VALUE_DEFAULT);
      }
    }
    cudaStreamSynchronize(stream);
    cudaStreamDestroy(stream);
  }
  memory_.reset();
  device_.release(parts_);
  device_.release(flags_);
}

bool PeerCopies::have(const std::vector<Rooted>& tensors) const {
  return std::all_of(tensors.begin(), tensors.end(),
                     [&](const Rooted& one) { return one.group.count == 1 || index_.count(one.x.data) > 0; });
}

int32_t* PeerCopies::flag(int rank, Flag which, int from) const {
  auto* const flags = static_cast<int32_t*>(memory_->at(rank, index_.size()));
  return flags + (static_cast<int>(which) * kMostPeers + from);
}

std::vector<int> PeerCopies::others(const std::vector<Rooted>& tensors) const {
  std::vector<int> ranks;
  for (int next = 1; next < hosts_.size(); ++next) {
    const int rank = (hosts_.rank() + next) % hosts_.size();
    const bool has =
        std::any_of(tensors.begin(), tensors.end(), [&](const Rooted& one) { return one.group.has(rank); });
    if (has) ranks.push_back(rank);
  }
  return ranks;
}

void PeerCopies::tell(const std::vector<int>& ranks, Flag which, cudaStream_t stream) const {
  for (const int rank : ranks) {
    check_driver(flag_functions().write(stream, reinterpret_cast<CUdeviceptr>(flag(rank, which, hosts_.rank())),
                                        static_cast<cuuint32_t>(piece_), CU_STREAM_WRITE_VALUE_DEFAULT),
                 "telling another rank");
  }
}

void PeerCopies::wait_for(int rank, Flag which, int32_t piece, cudaStream_t stream) const {
  check_driver(flag_functions().wait(stream, reinterpret_cast<CUdeviceptr>(flag(hosts_.rank(), which, rank)),
                                     static_cast<cuuint32_t>(piece), CU_STREAM_WAIT_VALUE_GEQ),
               "waiting for another rank");
}

std::vector<int> PeerCopies::begin(const std::vector<Rooted>& tensors, cudaStream_t stream) {
  ++piece_;
  std::vector<int> ranks = others(tensors);
  tell(ranks, Flag::ready, stream);
  for (const int rank : ranks) {
    wait_for(rank, Flag::ready, piece_, stream);
    last_[static_cast<size_t>(rank)] = piece_;
  }
  return ranks;
}

void PeerCopies::reduce(const std::vector<Rooted>& tensors, cudaStream_t stream) {
  const std::vector<int> ranks = begin(tensors, stream);
  for (const Rooted& one : tensors) {
    if (one.root == hosts_.rank() && one.group.count > 1) add(one, index_.at(one.x.data), stream);
  }
  tell(ranks, Flag::taken, stream);
}

void PeerCopies::add(const Rooted& tensor, size_t index, cudaStream_t stream) const {
  MOE_CHECK(tensor.x.dtype == DType::f32);
  const int64_t all = tensor.x.elements(), most = static_cast<int64_t>(part_bytes_ / sizeof(float));
  const int members = tensor.group.count, own = tensor.group.member(hosts_.rank());
  for (int64_t first = 0; first < all; first += most) {
    const int64_t count = std::min(most, all - first);
    float* const x = static_cast<float*>(tensor.x.data) + first;
    SumParts parts{};
    parts.count = members;
    parts.of[own] = x;
    for (int next = 1; next < members; ++next) {
      const int member = (own + next) % members;
      auto* const room = reinterpret_cast<float*>(parts_ + part_bytes_ * static_cast<size_t>(next - 1));
      const float* const theirs = static_cast<const float*>(memory_->at(tensor.group.rank(member), index)) + first;
      check(cudaMemcpyAsync(room, theirs, static_cast<size_t>(count) * sizeof(float), cudaMemcpyDefault, stream),
            "reading another GPU's memory");
      parts.of[member] = room;
    }
    const int64_t blocks = std::min<int64_t>(std::max<int64_t>((count / 4 + kThreads - 1) / kThreads, 1),
                                             4 * device_.properties().multiProcessorCount);
    add_parts<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(x, parts, count);
    check(cudaGetLastError(), "adding over the ranks");
  }
}

void PeerCopies::broadcast(const std::vector<Rooted>& tensors, cudaStream_t stream) {
  const std::vector<int> ranks = begin(tensors, stream);
  for (const Rooted& one : tensors) {
    if (one.root == hosts_.rank()) continue;
    check(cudaMemcpyAsync(one.x.data, memory_->at(one.root, index_.at(one.x.data)), one.x.bytes(), cudaMemcpyDefault,
                          stream),
          "reading another GPU's memory");
  }
  tell(ranks, Flag::taken, stream);
}

void PeerCopies::finish(cudaStream_t stream) {
  for (int rank = 0; rank < hosts_.size(); ++rank) {
    const int32_t piece = last_[static_cast<size_t>(rank)];
    if (piece != 0) wait_for(rank, Flag::taken, piece, stream);
  }
}

}  // namespace moe::cuda
