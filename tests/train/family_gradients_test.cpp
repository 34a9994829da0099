// The backward pass of every family against autograd over the classes of `transformers` (tests/golden/families,
// tools/make_family_golden.py): the gradient of the mean cross-entropy with respect to every tensor, at 520 positions.

#include <cmath>
#include <map>

#include <gtest/gtest.h>

#include "checkpoint/hf_config.h"
#include "checkpoint/hf_names.h"
#include "checkpoint/weights.h"
#include "tests/support/families.h"
#include "tests/support/machines.h"

namespace moe {
namespace {

class FamilyGradients : public testing::TestWithParam<std::tuple<std::string, bool, std::string>> {
 protected:
  void SetUp() override {
    MOE_SKIP_WITHOUT(std::get<2>(GetParam()));
    machine_.emplace(std::get<2>(GetParam()));
  }

  fs::path folder() const { return family_folder(std::get<0>(GetParam())); }
  SafetensorsFile references() const { return SafetensorsFile(folder() / "references.safetensors"); }

  /// The gradients of every tensor, by its name in a file with experts apart.
  std::map<std::string, std::vector<float>> gradients(DType dtype) {
    const SafetensorsFile file = references();
    const Batch batch = golden_batch(file, 1, file.find("input.tokens")->elements());
    const ModelConfig config = read_hf_config(folder());
    StepConfig step = step_config_for(batch, 1, dtype);
    step.recompute = std::get<1>(GetParam());
    TrainingStep run(config, step, plan_training(config, step), *machine_->device, *machine_->backend);
    load_weights(folder(), config, run.table(), run.parameters(), *machine_->device);
    run.accumulate([&](int64_t) { return batch; });
    std::map<std::string, std::vector<float>> gradients;
    for (const HfTensor& tensor : hf_tensors(config, run.table())) {
      const std::vector<float> whole = download_floats(*machine_->device, run.gradients()[tensor.parameter]);
      const auto begin = whole.begin() + tensor.offset;
      gradients[tensor.name] = {begin, begin + tensor.elements()};
    }
    return gradients;
  }

  std::optional<Machine> machine_;
};

constexpr std::string_view kGradient = "grad.";

TEST_P(FamilyGradients, InF32TheyAreThoseOfAutograd) {
  const SafetensorsFile expected = references();
  const auto found = gradients(DType::f32);
  size_t compared = 0;
  for (const SafetensorsTensor& tensor : expected.tensors()) {
    if (!tensor.name.starts_with(kGradient)) continue;
    const auto at = found.find(tensor.name.substr(kGradient.size()));
    ASSERT_NE(at, found.end()) << tensor.name;
    ASSERT_EQ(static_cast<int64_t>(at->second.size()), tensor.elements()) << tensor.name;
    EXPECT_LT(relative_error(at->second.data(), tensor), 3e-5) << tensor.name;
    ++compared;
  }
  EXPECT_EQ(compared, found.size()) << "a tensor of the model has no reference";
}

// As for the forward pass (tests/infer/families_test.cpp): how far autograd in bf16 is from the exact gradients says
// how far ours may be. Over all tensors half as much again is allowed. The samples of one tensor are fewer and depend
// on each other, as all tokens of an expert do, so a tensor is allowed three times as much.
TEST_P(FamilyGradients, InBf16TheyAreNoFartherFromTheExactOnesThanAutograds) {
  const SafetensorsFile expected = references();
  double theirs = 0, ours = 0;
  for (const auto& [name, values] : gradients(DType::bf16)) {
    const double limit = floats(expected, "bf16.grad_error." + name).front();
    const double error = distance(values.data(), floats(expected, std::string(kGradient) + name));
    EXPECT_LE(error, 3 * limit) << name;
    theirs += limit * limit;
    ours += error * error;
  }
  EXPECT_GT(theirs, 0);
  EXPECT_LE(std::sqrt(ours), 1.5 * std::sqrt(theirs));
}

INSTANTIATE_TEST_SUITE_P(All, FamilyGradients,
                         testing::Combine(testing::ValuesIn(family_names()), testing::Bool(),
                                          testing::ValuesIn(machine_kinds())),
                         [](const auto& given) {
                           return std::get<0>(given.param) + (std::get<1>(given.param) ? "_recompute_" : "_") +
                                  std::get<2>(given.param);
                         });

}  // namespace
}  // namespace moe
