// The batch that backends are compared with: no choice of experts or tokens in it hangs on rounding.

#include <algorithm>
#include <limits>

#include <gtest/gtest.h>

#include "tests/oracle/oracle.h"
#include "tests/support/host_device.h"
#include "tests/support/methods.h"

namespace moe {
namespace {

/// A backend that passes each operation on and keeps the least distance between what a choice took and what it left.
class MarginWatch final : public EachOp<MarginWatch> {
 public:
  explicit MarginWatch(Backend& inner) : inner_(inner) {}

  template <class Op>
  void on(const Op& op) {
    inner_.execute(op);
    if constexpr (std::is_same_v<Op, RouterTopk>) watch_experts(op);
    if constexpr (std::is_same_v<Op, ExpertChoice>) watch_tokens(op);
  }
  double margin() const { return margin_; }

 private:
  // Between the K-th best and the next, and between neighbours among the K: their order is that of a capacity's queue.
  void watch_experts(const RouterTopk& op) {
    const int64_t experts = op.scores.size(1), chosen = op.ids.size(1);
    for (int64_t t = 0; t < op.scores.size(0); ++t) {
      if (op.group.as<int32_t>()[t] < 0) continue;
      std::vector<double> scores;
      for (int64_t e = 0; e < experts; ++e) {
        const double bias = op.bias ? op.bias.as<double>()[e] : 0.0;
        scores.push_back(op.scores.as<double>()[t * op.scores.stride[0] + e] + bias);
      }
      std::sort(scores.rbegin(), scores.rend());
      for (int64_t k = 0; k < std::min(chosen, experts - 1); ++k) compare(scores, k);
    }
  }

  void watch_tokens(const ExpertChoice& op) {
    for (int64_t row = 0; row < op.scores.size(0); row += op.row_length) {
      for (int64_t e = 0; e < op.scores.size(1); ++e) {
        std::vector<double> scores;
        for (int64_t t = row; t < row + op.row_length; ++t) {
          if (op.group.as<int32_t>()[t] >= 0) scores.push_back(op.scores.as<double>()[t * op.scores.stride[0] + e]);
        }
        std::sort(scores.rbegin(), scores.rend());
        const auto tokens = static_cast<int64_t>(scores.size());
        const int64_t taken = tokens_per_expert(tokens, op.scores.size(1), op.factor);
        if (taken < tokens) compare(scores, taken - 1);
      }
    }
  }

  void compare(const std::vector<double>& falling, int64_t k) {
    const auto i = static_cast<size_t>(k);
    margin_ = std::min(margin_, falling[i] - falling[i + 1]);
  }

  Backend& inner_;
  double margin_ = std::numeric_limits<double>::infinity();
};

class ClearChoices : public testing::TestWithParam<MethodCase> {};

TEST_P(ClearChoices, NoneHangsOnRounding) {
  const MethodCase& test = GetParam();
  const Batch batch = clear_choices_batch(test.config.vocab_size);
  HostDevice device;
  const auto oracle = make_oracle();
  MarginWatch watch(*oracle);
  StepUnderTest under(test.config, test.step(batch, 2, DType::f64), device, watch);
  spread_zero_parameters(under.run, device);
  under.accumulate(batch, 2);
  EXPECT_GT(watch.margin(), kClearMargin);
}

INSTANTIATE_TEST_SUITE_P(All, ClearChoices, testing::ValuesIn(method_cases()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace moe
