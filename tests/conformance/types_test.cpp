/// Types that the contract allows and a backend has no code for: refused by name, never read as another type.

#include <algorithm>

#include <gtest/gtest.h>

#include "tests/conformance/cases.h"
#include "tests/conformance/targets.h"

namespace moe::conformance {
namespace {

/// Fields that CPU and GPU read as f64 whatever the type of the others, and the one that takes any type.
bool may_be_f64(std::string_view operation, std::string_view field) {
  return (operation == "fill" && field == "x") || (operation == "sum_squares" && field == "sum") ||
         (operation == "clip_scale" && field == "sum_squares") ||
         (operation == "grouped_gemm_reduce" && field == "squares");
}

/// Makes `field` of a case f64 and expects the backend to refuse it. Nothing is executed, so the memory may be too
/// small.
template <class Op>
void refuses_f64(const Target& target, Op op, const Field<Op>& field) {
  if (!is_float((op.*field.view).dtype) || may_be_f64(Op::name, field.name)) return;
  (op.*field.view).dtype = DType::f64;
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

/// Every field of the operation, in the first case with it whose other types the target computes.
template <class Op>
void refuses_every_f64(const Target& target) {
  for (const auto& field : Op::fields()) {
    for (const auto& test : cases<Op>()) {
      if (!(test.op.*field.view) || !accepts(target.backend().accepts(), test.op)) continue;
      refuses_f64(target, test.op, field);
      break;
    }
  }
}

template <class... Ops>
void refuse_all(TypeList<Ops...>) {
  for (const Target& target : targets()) {
    if (target.name != "oracle") (refuses_every_f64<Ops>(target), ...);
  }
}

TEST(Types, ThatABackendDoesNotComputeAreRefusedWithOperationFieldAndBackend) { refuse_all(OpList{}); }

/// A field of another weight type is computed, and a case has it, or refused by name. Nothing is executed where it is
/// refused.
template <class Op>
void lists_or_refuses(const Case<Op>& test, const Field<Op>& field, DType type) {
  Op op = test.op;
  if (!(op.*field.view) || (op.*field.view).dtype != DType::f32) return;
  (op.*field.view).dtype = type;
  for (const Target& target : targets()) {
    const AcceptedTypes* const accepted = target.backend().accepts();
    if (accepted == nullptr) continue;
    if (accepted->of(Op::name, field.name).has(type)) {
      const auto& all = cases<Op>();
      EXPECT_TRUE(
          std::any_of(all.begin(), all.end(),
                      [&](const Case<Op>& one) { return one.op.*field.view && (one.op.*field.view).dtype == type; }))
          << Op::name << " has no case whose " << field.name << " is " << name(type);
      continue;
    }
    std::string message;
    try {
      target.backend().execute(op);
    } catch (const Error& error) {
      message = error.what();
    }
    EXPECT_EQ(message.rfind(fmt::format("{}: {} is {}", Op::name, field.name, name(type)), 0), 0u)
        << target.name << ": " << message;
  }
}

template <class... Ops>
void list_or_refuse_all(TypeList<Ops...>) {
  const auto each = [](const auto& tests) {
    using Op = std::decay_t<decltype(tests.front().op)>;
    for (const auto& field : Op::fields()) {
      for (const DType type : other_weight_types()) lists_or_refuses(tests.front(), field, type);
    }
  };
  (each(cases<Ops>()), ...);
}

TEST(Types, OfWeightsAreComputedWhereABackendSaysSoAndRefusedByNameElsewhere) { list_or_refuse_all(OpList{}); }

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
