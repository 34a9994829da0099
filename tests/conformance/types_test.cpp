/// Types that the contract allows and a backend has no code for: refused by name, never read as another type.

#include <gtest/gtest.h>

#include "tests/conformance/cases.h"
#include "tests/conformance/targets.h"

namespace moe::conformance {
namespace {

/// Fields that CPU and GPU read as f64 whatever the type of the others, and the one that takes any type.
bool may_be_f64(std::string_view operation, std::string_view field) {
  return (operation == "fill" && field == "x") || (operation == "sum_squares" && field == "sum") ||
         (operation == "clip_scale" && field == "sum_squares");
}

/// Makes `field` of a case f64 and expects each backend but the oracle to refuse it. Nothing is executed, so the memory
/// may be too small.
template <class Op>
void refuses_f64(Op op, const Field<Op>& field) {
  if (!(op.*field.view) || !is_float((op.*field.view).dtype) || may_be_f64(Op::name, field.name)) return;
  (op.*field.view).dtype = DType::f64;
  for (const Target& target : targets()) {
    if (target.name == "oracle") continue;
    std::string message;
    try {
      target.backend().execute(op);
    } catch (const Error& error) {
      message = error.what();
    }
    const std::string expected = fmt::format("{}: {} is f64", Op::name, field.name);
    EXPECT_EQ(message.rfind(expected, 0), 0u) << target.name << ": " << message;
    EXPECT_NE(message.find(target.name.starts_with("cuda") ? "which the GPU does not" : "which the CPU does not"),
              std::string::npos)
        << message;
  }
}

template <class... Ops>
void refuse_all(TypeList<Ops...>) {
  const auto each = [](const auto& tests) {
    using Op = std::decay_t<decltype(tests.front().op)>;
    for (const auto& field : Op::fields()) {
      for (const auto& test : tests) {
        if (!(test.op.*field.view)) continue;
        refuses_f64(test.op, field);
        break;
      }
    }
  };
  (each(cases<Ops>()), ...);
}

TEST(Types, ThatABackendDoesNotComputeAreRefusedWithOperationFieldAndBackend) { refuse_all(OpList{}); }

TEST(Types, OfEightBitsAreRefusedToo) {
  for (const Target& target : targets()) {
    if (target.name == "oracle") continue;
    auto test = cases<Gemm>().front();
    test.op.b.dtype = DType::u8;
    EXPECT_THROW(target.backend().execute(test.op), Error) << target.name;
  }
}

}  // namespace
}  // namespace moe::conformance
