// The comparing backend finds the operation that departs, and nothing where none does.

#include "ops/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/host_device.h"

namespace moe {
namespace {

/// y += x on host memory, except one element of one call.
class Adder final : public EachOp<Adder> {
 public:
  explicit Adder(int wrong_call) : wrong_call_(wrong_call) {}
  template <class Op>
  void on(const Op&) {
    FAIL() << Op::name << " is not part of this test";
  }
  void on(const Add& op) {
    for (int64_t r = 0; r < op.x.size(0); ++r) {
      for (int64_t i = 0; i < op.x.size(1); ++i) op.y.at(r).as<float>()[i] += op.x.at(r).as<float>()[i];
    }
    if (++calls_ == wrong_call_) op.y.at(1).as<float>()[2] += 5;
  }

 private:
  int wrong_call_, calls_ = 0;
};

std::string first_difference(int wrong_call) {
  HostDevice device;
  Adder tested(wrong_call), reference(0);
  ComparingBackend both(tested, device, reference, {});
  std::vector<float> x(12, 2), y(12, 3);
  const Add op{.x = View(x.data(), DType::f32, {3, 4}).columns(0, 3),
               .y = View(y.data(), DType::f32, {3, 4}).columns(1, 3)};
  for (int i = 0; i < 4; ++i) both.run(op);
  EXPECT_EQ(both.operations(), 4);
  return both.first_difference();
}

TEST(Compare, NamesTheFirstOperationAndElementThatDepart) {
  EXPECT_EQ(first_difference(0), "");
  EXPECT_THAT(first_difference(3), testing::HasSubstr("operation 3, add(x f32 [3, 3], y f32 [3, 3]): y departs by"));
  EXPECT_THAT(first_difference(3), testing::HasSubstr("worst at element 5: 14 instead of 9"));
}

}  // namespace
}  // namespace moe
