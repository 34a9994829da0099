#include "tensor/conversions.h"

#include <cstring>

#include "base/bfloat16.h"
#include "base/float16.h"

namespace moe {
namespace {

template <class T, class Convert>
void read(const void* from, float* to, int64_t elements, Convert convert) {
  const auto* bytes = static_cast<const char*>(from);
  for (int64_t i = 0; i < elements; ++i) {
    T value;
    std::memcpy(&value, bytes + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
    to[i] = convert(value);
  }
}

template <class T, class Convert>
void write(const float* from, void* to, int64_t elements, Convert convert) {
  auto* bytes = static_cast<char*>(to);
  for (int64_t i = 0; i < elements; ++i) {
    const T value = convert(from[i]);
    std::memcpy(bytes + i * static_cast<int64_t>(sizeof(T)), &value, sizeof(T));
  }
}

}  // namespace

void f64_to_floats(const void* from, float* to, int64_t elements) {
  read<double>(from, to, elements, [](double x) { return static_cast<float>(x); });
}
void floats_to_f64(const float* from, void* to, int64_t elements) {
  write<double>(from, to, elements, [](float x) { return double{x}; });
}
void f32_to_floats(const void* from, float* to, int64_t elements) {
  std::memcpy(to, from, static_cast<size_t>(elements) * sizeof(float));
}
void floats_to_f32(const float* from, void* to, int64_t elements) {
  std::memcpy(to, from, static_cast<size_t>(elements) * sizeof(float));
}
void bf16_to_floats(const void* from, float* to, int64_t elements) {
  read<bf16>(from, to, elements, [](bf16 x) { return to_float(x); });
}
void floats_to_bf16(const float* from, void* to, int64_t elements) {
  write<bf16>(from, to, elements, [](float x) { return to_bf16(x); });
}
void f16_to_floats(const void* from, float* to, int64_t elements) {
  read<f16>(from, to, elements, [](f16 x) { return to_float(x); });
}
void floats_to_f16(const float* from, void* to, int64_t elements) {
  write<f16>(from, to, elements, [](float x) { return to_f16(x); });
}

}  // namespace moe
