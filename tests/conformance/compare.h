#pragma once
/// Compares the results of a backend with those of the oracle.

#include <functional>
#include <optional>

#include "tests/conformance/bounds.h"
#include "tests/conformance/cases.h"
#include "tests/conformance/placed.h"
#include "tests/oracle/oracle.h"

namespace moe::conformance {

/// The first element of `found` that differs from the expected one, in words: index, found, expected, tolerance. An
/// element that the reference did not change must have kept its bits. `bound` null: exact after rounding to found's
/// type.
std::optional<std::string> first_difference(const View& found, const View& found_before, const View& expected,
                                            const View& expected_before, const Reals* bound);

/// The oracle's double-precision run of a case, and the largest difference that a backend may have.
template <class Op>
class Expected {
 public:
  explicit Expected(const Case<Op>& test) : given_(test.op), placed_(test.op, *host(), Precision::twice) {
    make_oracle()->run(placed_.op());
    placed_.buffers().download();
  }

  /// What is wrong with a backend's run, one sentence per field; empty if nothing is wrong.
  std::vector<std::string> differences(const Placed<Op>& run, Arithmetic arithmetic = Arithmetic::plain) {
    std::vector<std::string> result = run.buffers().damage();
    const Bounds& bounds = bounds_for(arithmetic);
    for (const auto& field : Op::fields()) {
      if (!(given_.*field.view) || field.role == Role::in) continue;
      const Reals* bound = bounds.contains(field.name) ? &bounds.at(field.name) : nullptr;
      const auto difference =
          first_difference(run.buffers().after(field.name), run.buffers().before(field.name),
                           placed_.buffers().after(field.name), placed_.buffers().before(field.name), bound);
      if (difference) result.push_back(fmt::format("{}{}", field.name, *difference));
    }
    return result;
  }

 private:
  static Device* host() {
    static const std::unique_ptr<Device> device = make_host_device();
    return device.get();
  }

  const Bounds& bounds_for(Arithmetic arithmetic) {
    const auto [entry, is_new] = bounds_.try_emplace(arithmetic);
    if (is_new) entry->second = bounds(Reference<Op>{given_, placed_.before(), placed_.after(), arithmetic});
    return entry->second;
  }

  Op given_;
  Placed<Op> placed_;
  std::map<Arithmetic, Bounds> bounds_;
};

/// The operation of a case, run once by a backend, with its results downloaded.
template <class Op>
std::unique_ptr<Placed<Op>> run_case(const Case<Op>& test, Device& device, Backend& backend) {
  auto placed = std::make_unique<Placed<Op>>(test.op, device, Precision::as_given, test.misalign);
  backend.run(placed->op());
  placed->buffers().download();
  return placed;
}

/// Runs an operation with host views on a device, and copies its results back to the same views.
template <class Op>
void run_on(Device& device, Backend& backend, const Op& host_op) {
  Placed<Op> placed(host_op, device);
  backend.run(placed.op());
  placed.buffers().download();
  for_each_view(host_op, [&](const Field<Op>& field, const View& view) {
    if (field.role != Role::in) oracle::write(view, oracle::read(placed.buffers().after(field.name)));
  });
}

}  // namespace moe::conformance
