#pragma once
/// Small tensors for tests of the CPU backend: host memory, deterministic values, comparison of bits.

#include <cmath>
#include <cstring>
#include <list>
#include <vector>

#include <gtest/gtest.h>

#include "backend/cpu/cpu_backend.h"
#include "base/random.h"
#include "tensor/view.h"

namespace moe::test {

/// Owns what its views show.
class Tensors {
 public:
  View filled(DType dtype, Shape shape, uint8_t byte) {
    auto& block = blocks_.emplace_back(static_cast<size_t>(shape.elements()) * size_of(dtype) + 64, byte);
    return View(block.data(), dtype, shape);
  }
  /// Every byte 0xff: NaN in f32 and bf16.
  View nan(DType dtype, Shape shape) { return filled(dtype, shape, 0xff); }
  View normal(DType dtype, Shape shape) {
    const View view = filled(dtype, shape, 0);
    const Random random(7, next_stream_++);
    for (int64_t i = 0; i < shape.elements(); ++i)
      set(view, i, static_cast<float>(random.normal(static_cast<uint64_t>(i))));
    return view;
  }
  View indices(const std::vector<int32_t>& values) {
    const View view = filled(DType::i32, {static_cast<int64_t>(values.size())}, 0);
    if (!values.empty()) std::memcpy(view.data, values.data(), values.size() * sizeof(int32_t));
    return view;
  }
  View copy(const View& from) {
    const View view = filled(from.dtype, from.shape, 0);
    std::memcpy(view.data, from.data, from.bytes());
    return view;
  }

  static void set(const View& view, int64_t i, float x) {
    if (view.dtype == DType::bf16) {
      view.as<bf16>()[i] = to_bf16(x);
    } else {
      view.as<float>()[i] = x;
    }
  }
  static float get(const View& view, int64_t i) {
    return view.dtype == DType::bf16 ? to_float(view.as<bf16>()[i]) : view.as<float>()[i];
  }

 private:
  std::list<std::vector<uint8_t>> blocks_;
  uint64_t next_stream_ = 0;
};

/// Rows of the same shape hold the same bits.
inline void expect_same_bits(const View& found, const View& expected, const std::string& what) {
  ASSERT_EQ(found.shape.text(), expected.shape.text()) << what;
  const int64_t rows = expected.size(0);
  const size_t row_bytes = rows == 0 ? 0 : expected.bytes() / static_cast<size_t>(rows);
  for (int64_t row = 0; row < rows; ++row) {
    const View a = found.rows(row, 1), b = expected.rows(row, 1);
    if (std::memcmp(a.data, b.data, row_bytes) == 0) continue;
    for (int64_t i = 0; i < b.elements(); ++i) {
      const float x = Tensors::get(a, i), y = Tensors::get(b, i);
      ASSERT_TRUE(std::memcmp(&x, &y, sizeof(x)) == 0)
          << what << ": row " << row << ", element " << i << " is " << x << ", expected " << y;
    }
  }
}

inline std::vector<Isa> available_isas() {
  std::vector<Isa> isas;
  for (const Isa isa : kAllIsas) {
    if (supports(isa)) isas.push_back(isa);
  }
  return isas;
}

/// A pool and a backend over it.
struct Cpu {
  explicit Cpu(int threads, Isa isa = best_isa()) : pool(threads), backend(make_cpu_backend(pool, isa)) {}
  template <class Op>
  void run(const Op& op) {
    backend->run(op);
  }
  ThreadPool pool;
  std::unique_ptr<Backend> backend;
};

}  // namespace moe::test
