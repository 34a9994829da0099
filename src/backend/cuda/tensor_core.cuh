#pragma once
/// The instructions of the tensor cores of all supported GPUs, and the asynchronous copies for their operands.

#include <cuda_bf16.h>

namespace moe::cuda {

/// Starts the copy of 16 bytes to shared memory; writes zeros if not `valid`.
__device__ inline void copy_chunk(unsigned to, const void* global, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(global), "r"(valid ? 16 : 0)
               : "memory");
}
__device__ inline void copy_chunk(void* shared, const void* global, bool valid) {
  copy_chunk(static_cast<unsigned>(__cvta_generic_to_shared(shared)), global, valid);
}
__device__ inline void copy_whole_chunk(unsigned to, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(to), "l"(global) : "memory");
}

/// Closes a group of copies.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }

/// Waits until at most `pending` of this thread's groups are unfinished.
template <int pending>
__device__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(pending) : "memory");
}

/// Four 8 x 8 matrices. Lane l gives the address of row l % 8 of matrix l / 8. It gets row l / 4, columns l % 4 * 2 and
/// the next, of each matrix.
__device__ inline void load_matrices(const void* shared, unsigned (&out)[4]) {
  const auto from = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(from)
               : "memory");
}

/// The same for the transposed matrices.
__device__ inline void load_matrices_transposed(const void* shared, unsigned (&out)[4]) {
  const auto from = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(from)
               : "memory");
}

/// sum (16 x 8, f32) += a (16 x 16, bf16) b (16 x 8, bf16). Lane l holds of the sum rows l / 4 and l / 4 + 8, columns
/// l % 4 * 2 and the next.
__device__ inline void multiply_add(float (&sum)[4], const unsigned (&a)[4], unsigned b_low, unsigned b_high) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};\n"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_low), "r"(b_high));
}

/// product = a b + more, of the same shapes.
__device__ inline void multiply(float (&product)[4], const unsigned (&a)[4], unsigned b_low, unsigned b_high,
                                const float (&more)[4]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%10, %11, %12, %13};\n"
      : "=f"(product[0]), "=f"(product[1]), "=f"(product[2]), "=f"(product[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_low), "r"(b_high), "f"(more[0]), "f"(more[1]), "f"(more[2]),
        "f"(more[3]));
}

}  // namespace moe::cuda
