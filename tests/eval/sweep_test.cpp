// Sweeps of the switches of routing: what they are, what is refused, and that each point is the model with that switch.

#include "eval/sweep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/hf_config.h"
#include "infer/loaded_model.h"
#include "tests/eval/evaluation.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// 3 layers, the first dense; 2 shared and 9 routed experts, K = 3.
fs::path folder(const char* name = "moe_basic") { return fs::path(MOE_SOURCE_DIR) / "tests" / "golden" / name; }

std::vector<std::string> texts(const std::vector<SweepPoint>& points) {
  std::vector<std::string> result;
  for (const SweepPoint& point : points) result.push_back(point.text());
  return result;
}

TEST(ParseSweep, GivesAPointPerValueOverTheOtherSwitches) {
  const RoutingSwitches base{.skip = 2, .masked = {{.layer = 1, .experts = {4}}}};
  const auto experts = parse_sweep("experts-per-token=3,4,5", base);
  EXPECT_THAT(texts(experts), ElementsAre("experts-per-token=3", "experts-per-token=4", "experts-per-token=5"));
  EXPECT_EQ(experts[1].switches.experts_per_token, 4);
  EXPECT_EQ(experts[1].switches.skip, 2);
  EXPECT_EQ(experts[1].switches.masked.size(), 1u);
  const auto best = parse_sweep("mask-best=0,16", base);
  EXPECT_EQ(best[0].switches.skip, 0);
  EXPECT_EQ(best[1].switches.skip, 16);
  const auto shared = parse_sweep("drop-shared", base);
  EXPECT_THAT(texts(shared), ElementsAre("drop-shared"));
  EXPECT_TRUE(shared[0].switches.drop_shared);
  EXPECT_FALSE(shared[0].value.has_value());
}

TEST(ParseSweep, RefusesWhatIsNoSweep) {
  const auto refusal = [](const char* text) { return test::error_of<UsageError>([&] { parse_sweep(text, {}); }); };
  for (const char* text : {"", "experts", "experts=3", "mask-best", "mask-best=", "mask-best=1,", "mask-best=1,,2",
                           "mask-best=x", "mask-best=1.5", "drop-shared=1", "=3", "mask-best=99999999999999999999"}) {
    EXPECT_THAT(refusal(text), HasSubstr("expected experts-per-token=N,N,..., mask-best=N,N,... or drop-shared"))
        << text;
  }
  EXPECT_THAT(refusal("experts-per-token=2,0"), HasSubstr("found 0, expected numbers from 1 on"));
  EXPECT_THAT(refusal("mask-best=-1"), HasSubstr("found -1, expected numbers from 0 on"));
}

TEST(CheckSweep, NamesThePointThatLeavesTooFewExperts) {
  const ModelConfig config = read_hf_config(folder());
  const auto refusal = [&](const char* text) {
    return test::error_of([&] { check_sweep(config, parse_sweep(text, {})); });
  };
  check_sweep(config, parse_sweep("mask-best=0,6", {}));
  EXPECT_EQ(
      refusal("mask-best=4,7,8"),
      "--sweep mask-best=7: 7 best experts to skip and 3 to choose are more than the 9 routed experts; --mask-best "
      "takes 0 to 6");
  EXPECT_THAT(refusal("experts-per-token=3,10"), HasSubstr("--sweep experts-per-token=10: "));
}

struct Cpu {
  ThreadPool pool{2};
  std::unique_ptr<Device> device = make_cpu_device();
  std::unique_ptr<Backend> backend = make_cpu_backend(pool);

  EvaluationResult measure(const LoadedModel& model, const Documents& documents) const {
    return evaluate({model.model(), DType::f32, *device, *backend}, documents,
                    {.sequence_length = 16, .batch_rows = 2});
  }
};

TEST(SetSwitches, MasksExpertsBesideABiasAndTakesTheMasksOffAgain) {
  const Cpu cpu;
  const MemoryDocuments documents = mixed_documents();
  const RoutingSwitches masked{.masked = {{.layer = 1, .experts = {0, 2}}}};
  LoadedModel model(folder("loss_free_sigmoid"), DType::f32, *cpu.device);
  const double plain = cpu.measure(model, documents).all.nats;
  const int64_t bytes = cpu.device->allocated_bytes();
  for (int time = 0; time < 2; ++time) {
    model.set_switches(masked);
    const LoadedModel fresh(folder("loss_free_sigmoid"), DType::f32, *cpu.device, masked);
    EXPECT_NE(cpu.measure(model, documents).all.nats, plain);
    EXPECT_EQ(cpu.measure(model, documents).all.nats, cpu.measure(fresh, documents).all.nats);
  }
  model.set_switches({});
  EXPECT_EQ(cpu.measure(model, documents).all.nats, plain);
  EXPECT_EQ(cpu.device->allocated_bytes(), bytes);
}

TEST(Sweep, OfOneLoadedModelIsThatOfAModelLoadedForEachPoint) {
  const Cpu cpu;
  const MemoryDocuments documents = mixed_documents();
  const auto measure = [&](const LoadedModel& model) { return cpu.measure(model, documents); };
  LoadedModel model(folder(), DType::f32, *cpu.device);
  const EvaluationResult unswitched = measure(model);
  std::vector<SweepResult> sweep;
  for (const char* text : {"experts-per-token=3,1", "mask-best=2", "drop-shared"}) {
    for (const SweepPoint& point : parse_sweep(text, {.masked = {{.layer = 2, .experts = {1}}}})) {
      model.set_switches(point.switches);
      sweep.push_back({point, measure(model)});
      const LoadedModel fresh(folder(), DType::f32, *cpu.device, point.switches);
      EXPECT_EQ(sweep.back().result.all.nats, measure(fresh).all.nats) << point.text();
      EXPECT_NE(sweep.back().result.all.nats, unswitched.all.nats);
    }
  }
  EXPECT_THAT(test::error_of([&] { model.set_switches({.skip = 7}); }), HasSubstr("7 best experts"));
  EXPECT_EQ(measure(model).all.nats, sweep.back().result.all.nats);
  model.set_switches({});
  EXPECT_EQ(measure(model).all.nats, unswitched.all.nats);

  const Json json = sweep_json(sweep, unswitched);
  ASSERT_EQ(json.size(), 4u);
  EXPECT_EQ(json[1].at("switch"), "experts-per-token");
  EXPECT_EQ(json[1].at("value"), 1);
  EXPECT_EQ(json[1].at("all").at("loss").get<double>(), sweep[1].result.all.loss());
  EXPECT_EQ(json[1].at("loss_change").get<double>(), sweep[1].result.all.loss() - unswitched.all.loss());
  EXPECT_TRUE(json[3].at("value").is_null());
  const std::string table = sweep_table(sweep, unswitched);
  for (const SweepResult& point : sweep) {
    EXPECT_THAT(table, HasSubstr(fmt::format("{:.4f} ± {:.4f}", point.result.all.loss(), point.result.all.loss_error)));
  }
  EXPECT_THAT(table, HasSubstr(fmt::format("{:.4f}", unswitched.all.bits_per_byte())));
}

}  // namespace
}  // namespace moe
