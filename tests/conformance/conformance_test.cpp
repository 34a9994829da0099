/// Every operation of the contract on every backend, against the oracle in double precision.

#include <gtest/gtest.h>

#include "tests/conformance/compare.h"
#include "tests/conformance/targets.h"

namespace moe::conformance {
namespace {

template <class List>
struct TestTypes;
template <class... Ops>
struct TestTypes<TypeList<Ops...>> {
  using type = testing::Types<Ops...>;
};

struct OpName {
  template <class Op>
  static std::string GetName(int) {
    return Op::name;
  }
};

template <class Op>
class Conformance : public testing::Test {};
TYPED_TEST_SUITE(Conformance, TestTypes<OpList>::type, OpName);

constexpr int kMostReports = 5;

TYPED_TEST(Conformance, HasCasesWithAndWithoutElements) {
  ASSERT_FALSE(cases<TypeParam>().empty());
  int with_elements = 0;
  for (const auto& test : cases<TypeParam>()) {
    for_each_view(test.op, [&](const Field<TypeParam>& field, const View& view) {
      with_elements += field.role != Role::in && view.elements() > 0;
    });
  }
  EXPECT_GT(with_elements, 0);
}

TYPED_TEST(Conformance, AgreesWithTheOracleAndTouchesNothingElse) {
  int reports = 0;
  for (const auto& test : cases<TypeParam>()) {
    Expected<TypeParam> expected(test);
    for (const Target& target : targets()) {
      if (!accepts(target.backend().accepts(), test.op)) continue;  // Types.* sees that it is refused
      const auto run = run_case(test, *target.device, target.backend());
      for (const std::string& difference : expected.differences(*run, target.arithmetic)) {
        ADD_FAILURE() << target.name << ": " << test.name << "\n  " << difference;
        if (++reports == kMostReports) GTEST_FAIL() << "and maybe more";
      }
    }
  }
}

TYPED_TEST(Conformance, GivesTheSameBitsAgainAndWithAnyNumberOfThreads) {
  int reports = 0;
  for (const auto& test : cases<TypeParam>()) {
    for (const Target& target : targets()) {
      if (!accepts(target.backend().accepts(), test.op)) continue;
      const std::vector<uint8_t> first = run_case(test, *target.device, target.backend())->buffers().image();
      for (const Target::Variant& variant : target.variants) {
        if (run_case(test, *target.device, *variant.backend)->buffers().image() == first) continue;
        ADD_FAILURE() << variant.name << ": " << test.name << " gives other bits than " << target.variants[0].name;
        if (++reports == kMostReports) GTEST_FAIL() << "and maybe more";
      }
    }
  }
}

}  // namespace
}  // namespace moe::conformance
