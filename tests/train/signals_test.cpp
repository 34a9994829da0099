// A signal at any moment of a run: in a step, in an evaluation, among samples. The run stops, and goes on as if it had
// not stopped.

#include <csignal>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/tiny_run.h"

namespace moe {
namespace {

using test::TinyRun;

/// Passes each operation on; after arm(at) sends this process SIGTERM before operation number `at` (from 0; negative:
/// never).
class RaiseAt final : public EachOp<RaiseAt> {
 public:
  explicit RaiseAt(Backend& inner) : inner_(inner) {}
  void arm(int64_t at) {
    at_ = at;
    count_ = 0;
  }
  int64_t count() const { return count_; }

  template <class Op>
  void on(const Op& op) {
    if (count_++ == at_) std::raise(SIGTERM);
    inner_.execute(op);
  }

 private:
  Backend& inner_;
  int64_t at_ = -1, count_ = 0;
};

struct Ended {
  int status;
  int64_t operations;
  std::string said;
};

Ended train(const TinyRun& tiny, const std::string& name, int64_t raise_at, bool resume) {
  const RunConfig run =
      tiny.config(name, {"data.valid=" + (tiny / "valid").string(), "eval.every=3", "sample.every=4",
                         R"(sample.prompts=["the river", "old"])", "sample.max_new_tokens=5", "checkpoint.every=0"});
  const Dataset data(run.data.train), valid(run.data.valid);
  const Tokenizer tokenizer = Tokenizer::load(run.data.train);
  ThreadPool pool(1);
  const auto device = make_cpu_device();
  const auto cpu = make_cpu_backend(pool);
  RaiseAt backend(*cpu);
  testing::internal::CaptureStdout();  // samples
  testing::internal::CaptureStderr();
  Trainer trainer(run, plan_training(run.model, run.step), {data, &valid, tokenizer}, *device, backend, pool,
                  {.resume = resume});
  backend.arm(raise_at);
  const int status = trainer.run();
  testing::internal::GetCapturedStdout();
  return {status, backend.count(), testing::internal::GetCapturedStderr()};
}

TEST(Signals, AtAnyOperationStopARunThatGoesOnWithTheSameBits) {
  TinyRun tiny;
  const Ended straight = train(tiny, "straight", -1, false);
  ASSERT_EQ(straight.status, 0);
  const int64_t last = straight.operations - 1;
  constexpr int64_t kTried = 24;
  int in_evaluations = 0, before_steps = 0;
  for (int64_t i = 0; i < kTried; ++i) {
    const std::string name = fmt::format("stopped-{}", i);
    const int64_t at = i == 0 ? 5 : last * i / (kTried - 1);
    const Ended stopped = train(tiny, name, at, false);
    EXPECT_EQ(stopped.status, 128 + SIGTERM) << at;
    EXPECT_THAT(stopped.said, testing::HasSubstr("stopped by a signal")) << at;
    EXPECT_THAT(read_file(tiny / name / "status.json"), testing::HasSubstr("\"stopped\"")) << at;
    EXPECT_LT(stopped.operations, at + straight.operations / 12) << "it stops within a step's work";
    before_steps += stopped.said.find("nothing was trained") != std::string::npos;
    const auto evaluations = tiny.log(name, "eval.jsonl").size();
    in_evaluations += evaluations != tiny.log(name).size() / 3;
    EXPECT_EQ(train(tiny, name, -1, true).status, 0) << at;
    EXPECT_EQ(tiny.log(name), tiny.log("straight")) << at;
    EXPECT_EQ(tiny.log(name, "eval.jsonl"), tiny.log("straight", "eval.jsonl")) << at;
    for (const char* file : {"step-12/model.safetensors", "step-12/optimizer-00001-of-00001.safetensors"}) {
      EXPECT_EQ(read_file(tiny / name / file), read_file(tiny / "straight" / file)) << at;
    }
  }
  EXPECT_GT(in_evaluations, 0);
  EXPECT_GT(before_steps, 0);
}

}  // namespace
}  // namespace moe
