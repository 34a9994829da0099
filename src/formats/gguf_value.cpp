#include "formats/gguf_value.h"

#include <array>

#include "base/error.h"

namespace moe {

const char* name(GgufKind kind) {
  static constexpr std::array<const char*, kGgufKinds> kNames = {"u8",      "i8",   "u16",   "i16", "u32", "i32", "f32",
                                                                 "boolean", "text", "array", "u64", "i64", "f64"};
  const auto index = static_cast<size_t>(kind);
  return index < kNames.size() ? kNames[index] : "?";
}

bool GgufArray::operator==(const GgufArray& other) const { return kind == other.kind && values == other.values; }

bool GgufValue::operator==(const GgufValue& other) const { return kind == other.kind && value == other.value; }

GgufValue GgufValue::texts(const std::vector<std::string>& x) {
  GgufArray array{.kind = GgufKind::text, .values = {}};
  for (const std::string& one : x) array.values.push_back(text(one));
  return {GgufKind::array, std::move(array)};
}

std::string GgufValue::shown() const {
  constexpr size_t kLongest = 60;
  if (const auto* array = std::get_if<GgufArray>(&value)) {
    return fmt::format("an array of {} {}s", array->values.size(), name(array->kind));
  }
  if (const auto* text = std::get_if<std::string>(&value)) {
    return text->size() <= kLongest ? fmt::format("the text {:?}", *text)
                                    : fmt::format("a text of {} bytes", text->size());
  }
  if (const auto* x = std::get_if<uint64_t>(&value)) return fmt::format("{} {}", name(kind), *x);
  if (const auto* x = std::get_if<int64_t>(&value)) return fmt::format("{} {}", name(kind), *x);
  if (const auto* x = std::get_if<double>(&value)) return fmt::format("{} {}", name(kind), *x);
  return std::get<bool>(value) ? "true" : "false";
}

}  // namespace moe
