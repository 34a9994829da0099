#pragma once
/// The types that kernels read and write. Weights of other types are f32 when a kernel sees them (widened.h).

#include <cstdint>

namespace moe::cpu {

/// f16 is for the rows of a cache of keys and values: RowKernels::convert writes it, attention reads it, no other
/// kernel knows it.
enum class Storage : uint8_t { f32, bf16, f16 };

/// Bytes of an element. Static: functions that kernels share may not be shared by the linker.
static constexpr int64_t size_of(Storage type) { return type == Storage::f32 ? 4 : 2; }

/// Weights in blocks (tensor/blocks/layout.h) that products read as they are.
enum class BlockType : uint8_t { q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k };

/// The first of some contiguous elements. Null data: absent.
struct In {
  const void* data;
  Storage type;
};
struct Out {
  void* data;
  Storage type;
};

}  // namespace moe::cpu
