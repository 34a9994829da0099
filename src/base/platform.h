#pragma once
/// What depends on the processor or the compiler; the only header with #if for that.

namespace moe {

/// The fastest instruction set of this processor that the CPU kernels know.
enum class Isa { baseline, avx2, avx512, avx512_bf16 };

inline Isa detect_isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    // Intel's first processors with these instructions multiply f32 faster (docs/log.md).
    const bool fast_pairs = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_is("amd");
    return fast_pairs ? Isa::avx512_bf16 : Isa::avx512;
  }
  if (avx2) return Isa::avx2;
#endif
  return Isa::baseline;
}

inline const char* name(Isa isa) {
  switch (isa) {
    case Isa::avx512_bf16: return "avx512_bf16";
    case Isa::avx512: return "avx512";
    case Isa::avx2: return "avx2";
    default: return "baseline";
  }
}

/// A hint to the processor inside a spinning loop.
inline void cpu_relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace moe
