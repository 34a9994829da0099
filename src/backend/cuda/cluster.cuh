#pragma once
/// Blocks that run at the same time and can access each other's shared memory (Hopper's thread block
/// clusters). In a kernel started without clusters, every cluster has one block.

#include "backend/cuda/wgmma.cuh"

namespace moe::cuda::hopper {

__device__ inline int cluster_size() {
  unsigned size;
  asm volatile("mov.u32 %0, %%cluster_nctaid.x;\n" : "=r"(size));
  return static_cast<int>(size);
}
/// The number of this block in its cluster.
__device__ inline int cluster_rank() {
  unsigned rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;\n" : "=r"(rank));
  return static_cast<int>(rank);
}

/// synchronize_cluster() in two halves, for threads that need to see no writes: await_cluster() returns when all
/// threads of the cluster have called arrive_at_cluster().
__device__ inline void arrive_at_cluster() { asm volatile("barrier.cluster.arrive.relaxed;\n" ::: "memory"); }
__device__ inline void await_cluster() { asm volatile("barrier.cluster.wait;\n" ::: "memory"); }

/// Writes `value` to the same place in the block `rank` of the cluster.
__device__ inline void store_at(float* shared, int rank, float value) {
  asm volatile(
      "{\n"
      ".reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "st.shared::cluster.f32 [there], %2;\n"
      "}\n" ::"r"(shared_address(shared)),
      "r"(rank), "f"(value)
      : "memory");
}

/// All threads of all blocks of the cluster wait for each other. Their earlier writes to shared memory are visible
/// afterwards.
__device__ inline void synchronize_cluster() {
  asm volatile("barrier.cluster.arrive.release;\n" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire;\n" ::: "memory");
}

/// Arrives at the barrier at the same place in the block `rank` of the cluster. Memory that this thread's warp has read
/// may be overwritten afterwards. It does not order writes for the other block (that would wait for all of them, in
/// each pass).
__device__ inline void arrive_at(uint64_t* barrier, int rank) {
  asm volatile(
      "{\n"
      ".reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n"
      "}\n" ::"r"(shared_address(barrier)),
      "r"(rank)
      : "memory");
}

/// copy_box into the same place of both blocks of a pair. The barrier at that place in each block counts the bytes.
__device__ inline void copy_box_to_pair(const CUtensorMap& map, void* shared, uint64_t* barrier, int x, int y, int z) {
  constexpr uint16_t kBoth = 3;
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, "
      "{%3, %4, %5}], [%2], %6;\n" ::"r"(shared_address(shared)),
      "l"(&map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z), "h"(kBoth)
      : "memory");
}

/// A barrier for some warps of a block: some of them wait, others only signal that they have reached it. `threads`
/// counts both.
__device__ inline void wait_at(int name, int threads) {
  asm volatile("bar.sync %0, %1;\n" ::"r"(name), "r"(threads) : "memory");
}
__device__ inline void pass_by(int name, int threads) {
  asm volatile("bar.arrive %0, %1;\n" ::"r"(name), "r"(threads) : "memory");
}

}  // namespace moe::cuda::hopper
