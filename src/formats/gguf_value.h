#pragma once
/// Values of a GGUF file's metadata.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace moe {

/// The numbers are the format's.
enum class GgufKind : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, text, array, u64, i64, f64 };
constexpr uint32_t kGgufKinds = 13;

/// "u32", "text", "array"
const char* name(GgufKind kind);

struct GgufValue;

/// Values of one kind.
struct GgufArray {
  GgufKind kind = GgufKind::u8;
  std::vector<GgufValue> values;
  bool operator==(const GgufArray& other) const;
};

/// A value of a kind: unsigned integers as uint64_t, signed ones as int64_t, floats as double (which holds f32).
struct GgufValue {
  GgufKind kind = GgufKind::u8;
  std::variant<uint64_t, int64_t, double, bool, std::string, GgufArray> value;

  static GgufValue u32(uint32_t x) { return {GgufKind::u32, uint64_t{x}}; }
  static GgufValue i32(int32_t x) { return {GgufKind::i32, int64_t{x}}; }
  static GgufValue f32(float x) { return {GgufKind::f32, double{x}}; }
  static GgufValue boolean(bool x) { return {GgufKind::boolean, x}; }
  static GgufValue text(std::string x) { return {GgufKind::text, std::move(x)}; }
  static GgufValue texts(const std::vector<std::string>& x);

  bool operator==(const GgufValue& other) const;
  /// "u32 7", "text \"llama\"", "array of 3 texts": for errors.
  std::string shown() const;
};

struct GgufEntry {
  std::string key;
  GgufValue value;
  bool operator==(const GgufEntry& other) const = default;
};

}  // namespace moe
