#include "backend/cuda/peer_memory.h"

#include <cstring>
#include <fstream>

#include <unistd.h>

#include "backend/cuda/context.h"
#include "base/error.h"

namespace moe::cuda {
namespace {

/// Equal for processes that the same kernel runs.
std::string machine() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

/// What a rank says of its memory: this, then its allocations, then where its tensors are in them.
struct Owner {
  char machine[40] = {};
  int64_t process = 0;
  int gpu = 0, allocations = 0, tensors = 0;
};

struct Allocation {
  void* data = nullptr;  ///< in the process of its owner
  cudaIpcMemHandle_t handle{};
};

struct Place {
  int64_t allocation = 0, offset = 0;
};

template <class T>
void append(std::string& bytes, const T& value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

template <class T>
T take(const char*& bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(value));
  bytes += sizeof(value);
  return value;
}

Owner this_owner() {
  Owner owner{.process = ::getpid()};
  const std::string id = machine();
  std::memcpy(owner.machine, id.data(), std::min(id.size(), sizeof(owner.machine)));
  check(cudaGetDevice(&owner.gpu), "asking for the GPU");
  return owner;
}

std::string description_of(const CudaDevice& device, const std::vector<View>& tensors) {
  std::vector<Allocation> allocations;
  std::vector<Place> places;
  for (const View& tensor : tensors) {
    void* const data = device.allocation_of(tensor.data);
    size_t index = 0;
    while (index < allocations.size() && allocations[index].data != data) ++index;
    if (index == allocations.size()) {
      allocations.push_back({.data = data});
      check(cudaIpcGetMemHandle(&allocations.back().handle, data), "showing memory to other processes");
    }
    places.push_back({static_cast<int64_t>(index), static_cast<char*>(tensor.data) - static_cast<char*>(data)});
  }
  Owner owner = this_owner();
  owner.allocations = static_cast<int>(allocations.size());
  owner.tensors = static_cast<int>(places.size());
  std::string bytes;
  append(bytes, owner);
  for (const Allocation& allocation : allocations) append(bytes, allocation);
  for (const Place& place : places) append(bytes, place);
  return bytes;
}

/// This rank's GPU may read the memory of `gpu` from now on. For ranks that are threads of one process.
void enable_peer(int gpu) {
  const cudaError_t status = cudaDeviceEnablePeerAccess(gpu, 0);
  if (status == cudaErrorPeerAccessAlreadyEnabled) {
    cudaGetLastError();
  } else {
    check(status, "reading another GPU's memory");
  }
}

}  // namespace

PeerMemory::PeerMemory(Communicator& hosts, const CudaDevice& device, const std::vector<View>& tensors)
    : addresses_(static_cast<size_t>(hosts.size())) {
  const auto own = static_cast<size_t>(hosts.rank());
  // A rank that fails takes part in both meetings, so that no other one waits for it.
  std::string description, failure;
  try {
    description = description_of(device, tensors);
  } catch (const Error& error) {
    failure = error.what();
  }
  const std::vector<std::string> descriptions = hosts.gather(description);
  for (const View& tensor : tensors) addresses_[own].push_back(tensor.data);
  try {
    for (size_t rank = 0; rank < descriptions.size() && failure.empty(); ++rank) {
      if (descriptions[rank].empty()) {
        failure = "rank " + std::to_string(rank) + " cannot show its memory";
      } else if (rank != own) {
        open(static_cast<int>(rank), descriptions[rank]);
      }
    }
  } catch (const Error& error) {
    failure = error.what();
  }
  for (const std::string& other : hosts.gather(failure)) {
    if (why_not_.empty()) why_not_ = other;
  }
}

PeerMemory::~PeerMemory() {
  for (void* data : opened_) cudaIpcCloseMemHandle(data);
}

void PeerMemory::open(int rank, const std::string& description) {
  const char* bytes = description.data();
  const Owner here = this_owner(), owner = take<Owner>(bytes);
  std::vector<void*>& addresses = addresses_[static_cast<size_t>(rank)];
  if (std::memcmp(owner.machine, here.machine, sizeof(here.machine)) != 0) {
    fail("rank {} is on another machine", rank);
  }
  const bool same_process = owner.process == here.process;
  if (same_process) enable_peer(owner.gpu);
  std::vector<void*> allocations;
  for (int i = 0; i < owner.allocations; ++i) {
    const auto allocation = take<Allocation>(bytes);
    void* data = allocation.data;
    if (!same_process) {
      check(cudaIpcOpenMemHandle(&data, allocation.handle, cudaIpcMemLazyEnablePeerAccess),
            "reading another GPU's memory");
      opened_.push_back(data);
    }
    allocations.push_back(data);
  }
  for (int i = 0; i < owner.tensors; ++i) {
    const auto place = take<Place>(bytes);
    addresses.push_back(static_cast<char*>(allocations.at(static_cast<size_t>(place.allocation))) + place.offset);
  }
}

}  // namespace moe::cuda
