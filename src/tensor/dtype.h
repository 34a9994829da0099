#pragma once
/// Storage types of tensors: one table. docs/add-a-dtype.md says how to add a row.

#include <cstddef>
#include <cstdint>

#include "tensor/blocks/blocks.h"
#include "tensor/conversions.h"

namespace moe {

/// f64 is for the oracle, which runs the same blocks in double precision. Each operation says which types its operands
/// may have, and each backend which of these it computes with (ops/types.h).
enum class DType : uint8_t {
  f64,
  f32,
  bf16,
  f16,
  i32,
  u8,
  q8_0,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q4_k,
  q5_k,
  q6_k,
  nf4,
  q8_0x4,
  q4_0x4
};

struct StorageType {
  DType dtype;
  const char* name;         ///< for people and options
  const char* safetensors;  ///< its name there; null: that format does not have it
  const char* torch;        ///< what config.json calls it; null: nothing
  int gguf;                 ///< its number in GGUF files; negative: that format does not have it
  int64_t block;            ///< elements that are stored together; a row holds whole blocks
  int64_t bytes;            ///< of a block
  int64_t alignment;        ///< of the first block's address
  DType activations;        ///< of a model with weights of this type
  DType other_rows;         ///< for rows that are not whole blocks; the type itself if a block is one element
  /// From and to f32, `elements` of them in whole blocks. The conversion to f32 is exact, except for f64. The
  /// conversion from f32 rounds to nearest if elements stand alone. Null: not a float.
  void (*to_floats)(const void* from, float* to, int64_t elements);
  void (*from_floats)(const float* from, void* to, int64_t elements);
  bool by_matrix = false;  ///< scales depend on all elements of a matrix: from_floats gets them in one call
  /// Another type with the same numbers in the order that the kernels of a GPU read them in; it is in no file, and
  /// nobody asks for it by name. The type itself: this is none.
  DType rearranges = dtype;
  void (*from_rearranged)(const void* from, void* to, int64_t elements) = nullptr;  ///< moves bits, exactly
};

// clang-format off
inline constexpr StorageType kStorageTypes[] = {
    {DType::f64, "f64", "F64", "float64", 28, 1, 8, 8, DType::f64, DType::f64, f64_to_floats, floats_to_f64},
    {DType::f32, "f32", "F32", "float32", 0, 1, 4, 4, DType::f32, DType::f32, f32_to_floats, floats_to_f32},
    {DType::bf16, "bf16", "BF16", "bfloat16", 30, 1, 2, 2, DType::bf16, DType::bf16, bf16_to_floats, floats_to_bf16},
    {DType::f16, "f16", "F16", "float16", 1, 1, 2, 2, DType::f32, DType::f16, f16_to_floats, floats_to_f16},
    {DType::i32, "i32", "I32", "int32", 26, 1, 4, 4, DType::i32, DType::i32, nullptr, nullptr},
    {DType::u8, "u8", "U8", "uint8", -1, 1, 1, 1, DType::u8, DType::u8, nullptr, nullptr},
    {DType::q8_0, "q8_0", nullptr, nullptr, 8, 32, 34, 2, DType::f32, DType::f16, q8_0_to_floats, floats_to_q8_0},
    {DType::q4_0, "q4_0", nullptr, nullptr, 2, 32, 18, 2, DType::f32, DType::f16, q4_0_to_floats, floats_to_q4_0},
    {DType::q4_1, "q4_1", nullptr, nullptr, 3, 32, 20, 2, DType::f32, DType::f16, q4_1_to_floats, floats_to_q4_1},
    {DType::q5_0, "q5_0", nullptr, nullptr, 6, 32, 22, 2, DType::f32, DType::f16, q5_0_to_floats, floats_to_q5_0},
    {DType::q5_1, "q5_1", nullptr, nullptr, 7, 32, 24, 2, DType::f32, DType::f16, q5_1_to_floats, floats_to_q5_1},
    {DType::q4_k, "q4_k", nullptr, nullptr, 12, 256, 144, 2, DType::f32, DType::q5_0, q4_k_to_floats, floats_to_q4_k},
    {DType::q5_k, "q5_k", nullptr, nullptr, 13, 256, 176, 2, DType::f32, DType::q5_1, q5_k_to_floats, floats_to_q5_k},
    {DType::q6_k, "q6_k", nullptr, nullptr, 14, 256, 210, 2, DType::f32, DType::q8_0, q6_k_to_floats, floats_to_q6_k},
    {DType::nf4, "nf4", nullptr, nullptr, -1, 64, 36, 4, DType::f32, DType::f16, nf4_to_floats, floats_to_nf4, true},
    {DType::q8_0x4, "q8_0x4", nullptr, nullptr, -1, 128, 136, 8, DType::f32, DType::q8_0, q8_0x4_to_floats,
     floats_to_q8_0x4, false, DType::q8_0, q8_0_to_q8_0x4},
    {DType::q4_0x4, "q4_0x4", nullptr, nullptr, -1, 128, 72, 8, DType::f32, DType::q4_0, q4_0x4_to_floats,
     floats_to_q4_0x4, false, DType::q4_0, q4_0_to_q4_0x4},
};
// clang-format on

constexpr const StorageType& storage(DType dtype) { return kStorageTypes[static_cast<size_t>(dtype)]; }

namespace detail {
constexpr bool rows_are_in_order() {
  int64_t row = 0;
  for (const StorageType& type : kStorageTypes) {
    if (static_cast<int64_t>(type.dtype) != row++) return false;
  }
  return true;
}
}  // namespace detail
static_assert(detail::rows_are_in_order(), "storage() takes a type's number as its row");

constexpr const char* name(DType dtype) { return storage(dtype).name; }

/// Whether elements are floating-point numbers, whatever they are stored as.
constexpr bool is_float(DType dtype) { return storage(dtype).to_floats != nullptr; }

/// Whether elements stand alone, so that a tensor may begin at any of them.
constexpr bool is_plain(DType dtype) { return storage(dtype).block == 1; }

/// Bytes of `elements` elements, which are whole blocks.
constexpr int64_t bytes_of(DType dtype, int64_t elements) {
  return elements / storage(dtype).block * storage(dtype).bytes;
}

/// Bytes of an element of a plain type.
constexpr size_t size_of(DType dtype) { return static_cast<size_t>(storage(dtype).bytes); }

/// The type itself if rows of `width` elements are whole blocks; otherwise the nearest type for which they are.
constexpr DType type_for_rows(DType dtype, int64_t width) {
  while (width % storage(dtype).block != 0) dtype = storage(dtype).other_rows;
  return dtype;
}

/// Whether it is another type's numbers in the order of a GPU's kernels.
constexpr bool is_rearranged(DType dtype) { return storage(dtype).rearranges != dtype; }

/// The type that rearranges `dtype` for rows of `width` elements; the type itself if there is none.
constexpr DType rearranged(DType dtype, int64_t width) {
  for (const StorageType& type : kStorageTypes) {
    if (type.dtype != dtype && type.rearranges == dtype && width % type.block == 0) return type.dtype;
  }
  return dtype;
}

/// For any type; the bytes of a block are divided among its elements.
constexpr double bytes_per_element(DType dtype) {
  return static_cast<double>(storage(dtype).bytes) / static_cast<double>(storage(dtype).block);
}

/// The type of statistics, losses, router scores and parameter gradients for activations of type `dtype`.
constexpr DType stat_dtype(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

/// True if an optimiser updates a copy in f32, because the type itself is too coarse for its small steps.
constexpr bool needs_master(DType dtype) { return dtype != stat_dtype(dtype); }

}  // namespace moe
