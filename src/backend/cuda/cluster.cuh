#pragma once
/// Pairs of blocks that run at the same time and reach each other's shared memory (Hopper's thread block clusters). A
/// kernel started without clusters sees clusters of one block.

#include "backend/cuda/wgmma.cuh"

namespace moe::cuda::hopper {

__device__ inline int cluster_size() {
  unsigned size;
  asm volatile("mov.u32 %0, %%cluster_nctaid.x;\n" : "=r"(size));
  return static_cast<int>(size);
}
/// This block's number in its cluster.
__device__ inline int cluster_rank() {
  unsigned rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;\n" : "=r"(rank));
  return static_cast<int>(rank);
}

/// All threads of all blocks of the cluster wait for each other; what they wrote to shared memory before is visible
/// after.
__device__ inline void synchronize_cluster() {
  asm volatile("barrier.cluster.arrive.release;\n" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire;\n" ::: "memory");
}

/// Arrives at the barrier that lies at the same place in the block `rank` of the cluster. What this thread's warp has
/// read by then may be overwritten; writes are not ordered beyond this block (that would wait for all of them, in each
/// pass).
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

/// copy_box into the same place of both blocks of a pair; each one's barrier at that place counts the bytes.
__device__ inline void copy_box_to_pair(const CUtensorMap& map, void* shared, uint64_t* barrier, int x, int y, int z) {
  constexpr uint16_t kBoth = 3;
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, "
      "{%3, %4, %5}], [%2], %6;\n" ::"r"(shared_address(shared)),
      "l"(&map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z), "h"(kBoth)
      : "memory");
}

/// A barrier of some of a block's warps: those that wait, and those that only say that they have come this far.
/// `threads`: of both.
__device__ inline void wait_at(int name, int threads) {
  asm volatile("bar.sync %0, %1;\n" ::"r"(name), "r"(threads) : "memory");
}
__device__ inline void pass_by(int name, int threads) {
  asm volatile("bar.arrive %0, %1;\n" ::"r"(name), "r"(threads) : "memory");
}

}  // namespace moe::cuda::hopper
