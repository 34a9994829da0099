#include "comm/ordered_sum.h"

namespace moe {
namespace {

template <class T>
void add(T* to, const std::vector<const void*>& parts, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    T sum = static_cast<const T*>(parts[0])[i];
    for (size_t part = 1; part < parts.size(); ++part) sum += static_cast<const T*>(parts[part])[i];
    to[i] = sum;
  }
}

void add(bf16* to, const std::vector<const void*>& parts, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    float sum = 0;
    for (const void* part : parts) sum += to_float(static_cast<const bf16*>(part)[i]);
    to[i] = to_bf16(sum);
  }
}

}  // namespace

Slice slice_of(int64_t elements, int rank, int size) {
  const int64_t begin = elements * rank / size;
  return {begin, elements * (rank + 1) / size - begin};
}

void check_summable(DType type) {
  if (type == DType::f32 || type == DType::f64 || type == DType::i32 || type == DType::bf16) return;
  fail("a sum over ranks of {} is not possible, expected f32, f64, bf16 or i32", name(type));
}

void ordered_sum(DType type, void* to, const std::vector<const void*>& parts, int64_t count) {
  switch (type) {
    case DType::f32:
      return add(static_cast<float*>(to), parts, count);
    case DType::f64:
      return add(static_cast<double*>(to), parts, count);
    case DType::i32:
      return add(static_cast<int32_t*>(to), parts, count);
    case DType::bf16:
      return add(static_cast<bf16*>(to), parts, count);
    default:
      check_summable(type);
  }
}

}  // namespace moe
