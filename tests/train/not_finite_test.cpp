// Gradients and weights that are not finite: named, and no bit changes.

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/checkpoint_folder.h"
#include "tests/support/tiny_run.h"

namespace moe {
namespace {

using test::error_of;
using test::poison;
using test::TinyRun;
using testing::HasSubstr;

TEST(Trainer, AGradientThatIsNotFiniteIsNamedAndTheLastCheckpointStaysGood) {
  TinyRun tiny;
  tiny.train("run");
  fs::remove_all(tiny / "run/step-12");
  poison(tiny / "run/step-8", "model.layers.1.mlp.experts.2.down_proj.weight.master");
  const std::string what = error_of<Error>([&] { tiny.resume("run", {"checkpoint.every=1"}); });
  EXPECT_THAT(what, HasSubstr("at step 9"));
  EXPECT_THAT(what, HasSubstr("training has diverged"));
  EXPECT_THAT(what, HasSubstr("weights of 1 tensor are not finite, first layers.1.experts.down (layer 1)"));
  EXPECT_THAT(what, HasSubstr("gradients of "));
  EXPECT_THAT(what, HasSubstr("the newest checkpoint is " + (tiny / "run/step-8").string()));
  EXPECT_EQ(fs::read_symlink(tiny / "run/latest"), "step-8");
  EXPECT_EQ(check_checkpoint(tiny / "run/step-8").step, 8);
  EXPECT_EQ(tiny.log("run").size(), 9u);
  EXPECT_EQ(tiny.log("run").back().at("diverged"), true);
}

TEST(Trainer, AValidationLossThatAloneIsNotFiniteIsADivergence) {
  TinyRun tiny;
  tiny.make_dataset("strange", {"the river Z", "Z the stone"});
  tiny.train("run", {"data.valid=" + (tiny / "strange").string()});
  fs::remove_all(tiny / "run/step-12");
  // Training has no Z, so that only the evaluation reads this row.
  const int32_t z = Tokenizer::load(tiny / "data").encode("Z", {.add_special = false}).at(0);
  poison(tiny / "run/step-8", "model.embed_tokens.weight.master", z);
  try {
    tiny.resume("run", {"data.valid=" + (tiny / "strange").string()});
    FAIL();
  } catch (const Diverged& error) {
    EXPECT_EQ(error.step, 12);
    EXPECT_THAT(error.what(),
                HasSubstr("the validation loss at step 12 is not finite, first the rows of the embedding"));
    EXPECT_THAT(error.what(), HasSubstr("training has diverged"));
  }
  EXPECT_EQ(tiny.log("run").size(), 12u);
}

TEST(Trainer, AStepWithAGradientThatIsNotFiniteChangesNoBit) {
  for (const OptimizerMethod* optimizer : kOptimizers) {
    for (const char* dtype : {"f32", "bf16"}) {
      SCOPED_TRACE(fmt::format("{} {}", optimizer->name, dtype));
      TinyRun tiny;
      const RunConfig run = tiny.config("unused", {fmt::format("train.dtype={}", dtype), "model.method=loss_free",
                                                   fmt::format("optimizer.kind={}", optimizer->name)});
      const Dataset data(tiny / "data");
      const BatchSource source(data, {.sequence_length = run.data.sequence_length, .rows_per_step = 4, .seed = 1});
      const auto device = make_cpu_device();
      ThreadPool pool(1);
      const auto backend = make_cpu_backend(pool);
      TrainingStep step(run.model, run.step, plan_training(run.model, run.step), *device, *backend);
      step.initialize(1, 0.1);
      const auto make_step = [&](int64_t number) {
        step.accumulate([&](int64_t i) { return source.rows(number - 1, i * 2, 2); }, number);
        return step.update(number, 1e-2);
      };
      const auto bits = [&] {
        std::string all;
        std::vector<const std::vector<View>*> sets{&step.parameters(), &step.masters()};
        for (const Optimizer::Slot& slot : step.optimizer().slots()) sets.push_back(&slot.views);
        for (const auto* views : sets) {
          for (const View& view : *views) {
            if (view) all.append(static_cast<const char*>(view.data), view.bytes());
          }
        }
        return all;
      };
      const std::string before = bits();
      EXPECT_TRUE(std::isfinite(make_step(1).gradient_norm));
      EXPECT_FALSE(bits() == before);
      for (size_t i = 0; i < step.table().size(); ++i) {
        if (step.table()[i].name != "layers.1.experts.down") continue;
        backend->run(Fill{.x = step.masters()[i], .value = INFINITY});
        if (step.masters()[i].data != step.parameters()[i].data) {
          backend->run(Cast{.x = step.masters()[i], .y = step.parameters()[i]});
        }
      }
      const std::string poisoned = bits();
      EXPECT_FALSE(std::isfinite(make_step(2).gradient_norm));
      EXPECT_TRUE(bits() == poisoned);
      const auto found = step.find_not_finite();
      EXPECT_FALSE(found.gradients.empty());
      ASSERT_EQ(found.weights.size(), 1u);
      EXPECT_EQ(step.table()[found.weights[0]].name, "layers.1.experts.down");
    }
  }
}

}  // namespace
}  // namespace moe
