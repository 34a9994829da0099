// A whole run, evaluation, samples and checkpoints included, holds on its device what is planned for it, to the byte.
// tests/e2e/memory_test.py compares the process's memory.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/memory_use.h"
#include "tests/support/tiny_run.h"
#include "train/run_memory.h"

namespace moe {
namespace {

struct WholeCase {
  const char* name;
  std::vector<std::string> set;
};

void PrintTo(const WholeCase& tested, std::ostream* out) { *out << tested.name; }

class WholeRun : public testing::TestWithParam<WholeCase> {};

TEST_P(WholeRun, HoldsOnItsDeviceWhatIsPlanned) {
  test::TinyRun tiny;
  std::vector<std::string> set{"data.valid=" + (tiny / "valid").string(),
                               "eval.every=1",
                               "train.steps=3",
                               "checkpoint.every=2",
                               "sample.every=2",
                               "sample.max_new_tokens=9",
                               "sample.prompts=[\"the old\", \"river and stone sings under the green bridge\"]"};
  set.insert(set.end(), GetParam().set.begin(), GetParam().set.end());
  const RunConfig run = tiny.config("run", set);
  const Dataset data(run.data.train), valid(run.data.valid);
  const Tokenizer tokenizer = Tokenizer::load(run.data.train);
  ThreadPool pool(2);
  const auto device = make_cpu_device();
  const auto backend = make_cpu_backend(pool);
  const RunMemory memory = plan_run(run, facts_of(run, &data, &valid, &tokenizer), place_of(*device));
  EXPECT_GT(memory.evaluation, 0);
  EXPECT_GT(memory.samples, 0);
  testing::internal::CaptureStdout();
  {
    Trainer trainer(run, memory.step, {data, &valid, tokenizer}, *device, *backend, pool, {});
    EXPECT_EQ(trainer.run(), 0);
  }
  testing::internal::GetCapturedStdout();
  EXPECT_EQ(device->peak_allocated_bytes(), memory.step.total() + memory.evaluation + memory.samples);
  EXPECT_EQ(device->allocated_bytes(), 0);
}

INSTANTIATE_TEST_SUITE_P(Settings, WholeRun,
                         testing::Values(WholeCase{"f32", {}}, WholeCase{"recompute", {"train.recompute=true"}},
                                         WholeCase{"bf16", {"train.dtype=bf16", "data.microbatch_rows=4"}},
                                         WholeCase{"many_rows_evaluated", {"eval.batch_rows=100"}},
                                         WholeCase{"some_evaluated", {"eval.every_nth=3", "eval.batch_rows=2"}}),
                         [](const auto& tested) { return std::string(tested.param.name); });

}  // namespace
}  // namespace moe
