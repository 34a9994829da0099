#pragma once
/// Everything that depends on the processor, the system or the compiler. Only this header has #if for that.

#include <cstdint>

#if defined(__linux__)
#include <fcntl.h>
#endif

namespace moe {

/// The instruction sets that the CPU kernels know.
enum class Isa { baseline, avx2, avx512, avx512_vnni, avx512_bf16 };

constexpr Isa kAllIsas[] = {Isa::baseline, Isa::avx2, Isa::avx512, Isa::avx512_vnni, Isa::avx512_bf16};

/// True if this processor has this instruction set.
inline bool supports(Isa isa) {
  if (isa == Isa::baseline) return true;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (isa == Isa::avx2) return avx2;
  if (isa == Isa::avx512) return avx512;
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  if (isa == Isa::avx512_vnni) return vnni;
  return vnni && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

/// The instruction set to use on this processor. On Intel's processors avx512_bf16 is not used: f32 was twice as fast
/// there (docs/log.md).
inline Isa best_isa() {
#if defined(__x86_64__)
  if (supports(Isa::avx512_bf16) && __builtin_cpu_is("amd")) return Isa::avx512_bf16;
#endif
  if (supports(Isa::avx512_vnni)) return Isa::avx512_vnni;
  if (supports(Isa::avx512)) return Isa::avx512;
  return supports(Isa::avx2) ? Isa::avx2 : Isa::baseline;
}

inline const char* name(Isa isa) {
  switch (isa) {
    case Isa::avx512_bf16:
      return "avx512_bf16";
    case Isa::avx512_vnni:
      return "avx512_vnni";
    case Isa::avx512:
      return "avx512";
    case Isa::avx2:
      return "avx2";
    default:
      return "baseline";
  }
}

// Before a function: it is compiled for processors that have this instruction set.
#if defined(__x86_64__)
#define MOE_FOR_AVX2 [[gnu::target("avx2,fma")]]
#define MOE_FOR_AVX512 [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]]
#else
#define MOE_FOR_AVX2
#define MOE_FOR_AVX512
#endif

/// A hint to the processor inside a loop that spins.
inline void cpu_relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/// Asks the system to begin writing a range of a file to its disk. Waits only if the queue of the disk is full. This is
/// only a hint: errors appear in fsync.
inline void begin_writeback([[maybe_unused]] int descriptor, [[maybe_unused]] int64_t offset,
                            [[maybe_unused]] int64_t bytes) {
#if defined(__linux__)
  sync_file_range(descriptor, offset, bytes, SYNC_FILE_RANGE_WRITE);
#endif
}

}  // namespace moe
