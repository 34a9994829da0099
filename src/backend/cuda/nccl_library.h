#pragma once
/// NCCL 2, loaded when the first group of GPUs is made. Programs for one GPU need no NCCL, neither to run nor to be
/// built, so the few functions that are used are declared here, with the types and numbers of NCCL's interface.

#include <cstddef>

#include <cuda_runtime_api.h>

namespace moe::cuda {

/// What all ranks of a group must know to find each other.
struct NcclId {
  char bytes[128];
};
using NcclGroup = void*;

/// 0 is success, here and in every function.
using NcclStatus = int;
enum class NcclType : int { bytes = 1, i32 = 2, f32 = 7, f64 = 8, bf16 = 9 };
enum class NcclSum : int { sum = 0 };

/// The functions of the library, by their names without its prefix.
struct NcclLibrary {
  const char* (*GetErrorString)(NcclStatus);
  const char* (*GetLastError)(NcclGroup);
  NcclStatus (*GetVersion)(int*);
  NcclStatus (*GetUniqueId)(NcclId*);
  NcclStatus (*CommInitRank)(NcclGroup*, int ranks, NcclId, int rank);
  NcclStatus (*CommDestroy)(NcclGroup);
  NcclStatus (*CommAbort)(NcclGroup);
  NcclStatus (*AllReduce)(const void*, void*, size_t, NcclType, NcclSum, NcclGroup, cudaStream_t);
  NcclStatus (*Reduce)(const void*, void*, size_t, NcclType, NcclSum, int root, NcclGroup, cudaStream_t);
  NcclStatus (*Broadcast)(const void*, void*, size_t, NcclType, int root, NcclGroup, cudaStream_t);
  NcclStatus (*AllGather)(const void*, void*, size_t sent, NcclType, NcclGroup, cudaStream_t);
  NcclStatus (*ReduceScatter)(const void*, void*, size_t received, NcclType, NcclSum, NcclGroup, cudaStream_t);
  NcclStatus (*Send)(const void*, size_t, NcclType, int peer, NcclGroup, cudaStream_t);
  NcclStatus (*Recv)(void*, size_t, NcclType, int peer, NcclGroup, cudaStream_t);
  /// What is called between the two is queued as one piece of work.
  NcclStatus (*GroupStart)();
  NcclStatus (*GroupEnd)();
};

/// Loads it at the first call. An Error says what to install. Any thread may call it.
const NcclLibrary& nccl();

}  // namespace moe::cuda
