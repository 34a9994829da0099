#pragma once
/// A backend that runs each operation twice, from the same inputs: on the backend under test, and on a reference that
/// computes in host memory. It names the first operation and element whose results differ. Use it to find where two
/// backends differ in a whole training step. It is slow.

#include <cmath>
#include <cstring>
#include <vector>

#include "base/bfloat16.h"
#include "ops/backend.h"
#include "ops/device.h"

namespace moe {

/// For one thread at a time.
class ComparingBackend final : public EachOp<ComparingBackend> {
 public:
  /// The largest ||found - expected|| / ||expected|| of an output that counts as equal, by the stored type of the
  /// output. Integers must be equal.
  struct Tolerance {
    double f32 = 1e-5;
    double bf16 = 1e-2;
  };

  /// All three must outlive this object. `reference` reads and writes host memory.
  ComparingBackend(Backend& tested, Device& device, Backend& reference, Tolerance tolerance)
      : tested_(tested), device_(device), reference_(reference), tolerance_(tolerance) {}

  template <class Op>
  void on(const Op& op) {
    Op expected = op;
    std::vector<Copy> copies;
    copies.reserve(Op::fields().size());
    for (const auto& field : Op::fields()) {
      if (op.*field.view) expected.*field.view = host_copy(op.*field.view, copies);
    }
    reference_.execute(expected);
    tested_.execute(op);
    ++operations_;
    for (const auto& field : Op::fields()) {
      if (!(op.*field.view) || field.role == Role::in || !first_.empty()) continue;
      std::vector<Copy> found;
      const std::string difference = compare(host_copy(op.*field.view, found), expected.*field.view);
      if (!difference.empty()) {
        first_ = fmt::format("operation {}, {}: {} {}", operations_, describe(op), field.name, difference);
      }
    }
  }

  /// The first difference in one sentence; empty if there is none.
  const std::string& first_difference() const { return first_; }
  int64_t operations() const { return operations_; }

 private:
  struct Copy {
    View device;
    std::vector<char> bytes;
  };

  /// A copy of the view on the host. Equal views share one copy, so that operations in place stay in place.
  View host_copy(const View& view, std::vector<Copy>& copies) {
    for (Copy& copy : copies) {
      if (copy.device.data == view.data && copy.device.end() == view.end()) return moved(view, copy);
    }
    const auto bytes = static_cast<size_t>(static_cast<const char*>(view.end()) - static_cast<const char*>(view.data));
    copies.push_back({view, std::vector<char>(bytes)});
    device_.download(copies.back().bytes.data(), view.data, bytes);
    return moved(view, copies.back());
  }

  static View moved(View view, Copy& copy) {
    static char nothing[1];
    view.data = copy.bytes.empty() ? nothing : copy.bytes.data();
    return view;
  }

  static double element(const View& row, int64_t i) {
    switch (row.dtype) {
      case DType::f64:
        return row.as<const double>()[i];
      case DType::f32:
        return static_cast<double>(row.as<const float>()[i]);
      case DType::bf16:
        return static_cast<double>(to_float(row.as<const bf16>()[i]));
      case DType::i32:
        return row.as<const int32_t>()[i];
      case DType::u8:
        return row.as<const uint8_t>()[i];
      default:
        fail("a result of type {} is compared, expected f64, f32, bf16, i32 or u8", name(row.dtype));
    }
  }

  template <class Visit>
  static void for_each_row(const View& found, const View& expected, const Visit& visit) {
    if (found.rank() <= 1) return visit(found, expected);
    for (int64_t i = 0; i < found.size(0); ++i) for_each_row(found.at(i), expected.at(i), visit);
  }

  double allowed_of(DType dtype) const {
    if (!is_float(dtype)) return 0;
    return dtype == DType::bf16 ? tolerance_.bf16 : tolerance_.f32;
  }

  std::string compare(const View& found, const View& expected) const {
    double error = 0, norm = 0, worst = -1;
    int64_t index = 0, worst_index = 0;
    double worst_found = 0, worst_expected = 0;
    for_each_row(found, expected, [&](const View& a, const View& b) {
      for (int64_t i = 0; i < a.elements(); ++i, ++index) {
        const double x = element(a, i), y = element(b, i);
        const bool same = x == y || (std::isnan(x) && std::isnan(y));
        const double difference = same ? 0 : std::abs(x - y);
        error += difference * difference;
        norm += std::isfinite(y) ? y * y : 0;
        if (!(difference <= worst)) worst = difference, worst_index = index, worst_found = x, worst_expected = y;
      }
    });
    const double allowed = allowed_of(found.dtype);
    if (std::sqrt(error) <= allowed * std::sqrt(norm)) return {};
    return fmt::format("departs by {:.2e} of its norm (allowed {:.0e}); worst at element {}: {} instead of {}",
                       std::sqrt(error / norm), allowed, worst_index, worst_found, worst_expected);
  }

  Backend& tested_;
  Device& device_;
  Backend& reference_;
  Tolerance tolerance_;
  std::string first_;
  int64_t operations_ = 0;
};

}  // namespace moe
