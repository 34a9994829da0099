#pragma once
/// Hopper's matrix instruction for the tile widths that products use, with one function per width. Their text is
/// regular: all registers of the sums in order, then the two descriptors, then the orientation of each operand.

#include "backend/cuda/wgmma.cuh"

#define MOE_SUMS_4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define MOE_SUMS_16(i) MOE_SUMS_4(i), MOE_SUMS_4(i + 4), MOE_SUMS_4(i + 8), MOE_SUMS_4(i + 12)
#define MOE_SUMS_64(i) MOE_SUMS_16(i), MOE_SUMS_16(i + 16), MOE_SUMS_16(i + 32), MOE_SUMS_16(i + 48)

namespace moe::cuda::hopper {

/// d (64 x columns, f32) += a (64 x 16) b (16 x columns), with bf16 in shared memory, like multiply_add in wgmma.cuh,
/// for every width that is specialised here.
template <int columns, int a_across, int b_across>
struct MultiplyAdd;

template <int a_across, int b_across>
struct MultiplyAdd<256, a_across, b_across> {
  static __device__ void run(float (&d)[128], uint64_t a, uint64_t b) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
        "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
        "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
        "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
        "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, "
        "%128, %129, 1, 1, 1, %130, %131;\n"
        : MOE_SUMS_64(0), MOE_SUMS_64(64)
        : "l"(a), "l"(b), "n"(a_across), "n"(b_across));
  }
};

template <int a_across, int b_across>
struct MultiplyAdd<216, a_across, b_across> {
  static __device__ void run(float (&d)[108], uint64_t a, uint64_t b) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n216k16.f32.bf16.bf16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
        "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
        "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
        "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107}, "
        "%108, %109, 1, 1, 1, %110, %111;\n"
        : MOE_SUMS_64(0), MOE_SUMS_16(64), MOE_SUMS_16(80), MOE_SUMS_4(96), MOE_SUMS_4(100), MOE_SUMS_4(104)
        : "l"(a), "l"(b), "n"(a_across), "n"(b_across));
  }
};

template <int a_across, int b_across>
struct MultiplyAdd<176, a_across, b_across> {
  static __device__ void run(float (&d)[88], uint64_t a, uint64_t b) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n176k16.f32.bf16.bf16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
        "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
        "%80, %81, %82, %83, %84, %85, %86, %87}, "
        "%88, %89, 1, 1, 1, %90, %91;\n"
        : MOE_SUMS_64(0), MOE_SUMS_16(64), MOE_SUMS_4(80), MOE_SUMS_4(84)
        : "l"(a), "l"(b), "n"(a_across), "n"(b_across));
  }
};

template <int a_across, int b_across>
struct MultiplyAdd<128, a_across, b_across> {
  static __device__ void run(float (&d)[64], uint64_t a, uint64_t b) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
        "%64, %65, 1, 1, 1, %66, %67;\n"
        : MOE_SUMS_64(0)
        : "l"(a), "l"(b), "n"(a_across), "n"(b_across));
  }
};

}  // namespace moe::cuda::hopper

#undef MOE_SUMS_4
#undef MOE_SUMS_16
#undef MOE_SUMS_64
