// The memory plan: it equals what a step uses, any size is planned without memory, and what does not fit is refused.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backend/cpu/cpu_backend.h"
#include "formats/toml.h"
#include "model/cost.h"
#include "tests/support/memory_use.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model.h"
#include "train/fit.h"
#include "train/plan_text.h"

namespace moe {
namespace {

using test::error_of;
using testing::HasSubstr;

Batch rows_of_two_documents(const ModelConfig& config, int rows) {
  return packed_batch(std::vector<std::vector<int>>(static_cast<size_t>(rows), {7, 5}), 13, config.vocab_size, 3);
}

struct PlanCase {
  const char* name;
  DType dtype;
  bool recompute;
  BalanceScope scope;
  Rebuild rebuild = Rebuild::nothing;
};

void PrintTo(const PlanCase& tested, std::ostream* out) { *out << tested.name; }

class Plan : public testing::TestWithParam<PlanCase> {};

TEST_P(Plan, IsWhatTheStepsNeedAndIsAllocatedOnceForAll) {
  const ModelConfig config = tiny_config();
  const Batch batch = rows_of_two_documents(config, 4);
  StepConfig step = step_config_for(batch, 2, GetParam().dtype);
  step.recompute = GetParam().recompute;
  step.rebuild = GetParam().rebuild;
  step.balance = {.alpha_expert = 0.01f, .alpha_device = 0.02f, .devices = 2, .scope = GetParam().scope};
  const MemoryPlan plan = plan_training(config, step);
  const auto device = make_cpu_device();
  ThreadPool pool(2);
  const auto backend = make_cpu_backend(pool);
  StepUnderTest under(config, step, *device, *backend);
  EXPECT_EQ(device->allocated_bytes(), plan.total());
  const int64_t allocations = device->allocations();
  for (int64_t k = 1; k <= 3; ++k) {
    under.accumulate(batch, 2);
    under.run.update(k, 1e-3);
  }
  EXPECT_EQ(device->allocations(), allocations);
  EXPECT_EQ(device->allocated_bytes(), plan.total());
  expect_tight_plan(config, step, 13, *device, *backend);
  // Counted without any arena: weights; a gradient and two moments of them in f32, and with bf16 f32 masters.
  const int64_t count = ParameterCounts(config).stored();
  const auto tensors = static_cast<int64_t>(under.run.table().size());
  const bool bf16 = GetParam().dtype == DType::bf16;
  const auto near = [&](int64_t planned, int64_t bytes_each) {
    EXPECT_GE(planned, count * bytes_each);
    constexpr auto kBehind = static_cast<int64_t>(Arena::kAlignment);
    EXPECT_LT(planned, count * bytes_each + 3 * kBehind * tensors) << "at most that behind each of three tensors";
  };
  near(plan.parameters, bf16 ? 2 : 4);
  near(plan.gradients, 4);
  near(plan.optimizer, bf16 ? 12 : 8);
}

INSTANTIATE_TEST_SUITE_P(
    Settings, Plan,
    testing::Values(PlanCase{"f32", DType::f32, false, BalanceScope::sequence},
                    PlanCase{"f32_recompute", DType::f32, true, BalanceScope::step},
                    PlanCase{"bf16", DType::bf16, false, BalanceScope::step},
                    PlanCase{"bf16_recompute", DType::bf16, true, BalanceScope::microbatch},
                    PlanCase{"bf16_norms", DType::bf16, false, BalanceScope::sequence, Rebuild::norms},
                    PlanCase{"bf16_rebuild", DType::bf16, false, BalanceScope::sequence, Rebuild::all}),
    [](const auto& tested) { return tested.param.name; });

TEST(Plan, RebuildingKeepsNeitherResultsOfNormsNorTheFirstProducts) {
  const ModelConfig config = tiny_config();
  StepConfig step = step_config_for(rows_of_two_documents(config, 4), 2);
  const MemoryPlan kept = plan_training(config, step);
  const auto bytes_of = [&](std::initializer_list<const char*> names) {
    int64_t bytes = 0;
    for (const Arena::Buffer& buffer : kept.saved_at_peak) {
      for (const char* name : names) {
        if (buffer.name == name) bytes += static_cast<int64_t>(buffer.bytes);
      }
    }
    return bytes;
  };
  const int64_t norms = bytes_of({"attention.input", "ffn.input"});
  const int64_t products = bytes_of({"attention.qkv", "ffn.gate_up"});
  EXPECT_GT(norms, 0);
  EXPECT_GT(products, 0);
  step.rebuild = Rebuild::norms;
  const MemoryPlan without_norms = plan_training(config, step);
  EXPECT_EQ(kept.saved - without_norms.saved, norms);
  EXPECT_EQ(without_norms.microbatch_flops, kept.microbatch_flops) << "it counts products alone";
  step.rebuild = Rebuild::all;
  const MemoryPlan rebuilt = plan_training(config, step);
  EXPECT_EQ(kept.saved - rebuilt.saved, norms + products);
  EXPECT_GT(rebuilt.microbatch_flops, kept.microbatch_flops);
  EXPECT_LT(rebuilt.microbatch_flops, kept.microbatch_flops * 4 / 3);
}

// Planning is linear in the layers: 16384 of them are planned within a second or two.
TEST(Plan, GrowsByTheSameBytesWithEveryLayerOfAKind) {
  ModelConfig config = tiny_config();
  config.vocab_size = 64;
  StepConfig step = step_config_for(rows_of_two_documents(config, 4), 2);
  const auto planned = [&](int64_t layers) {
    config.num_hidden_layers = layers;
    return plan_training(config, step);
  };
  const MemoryPlan one = planned(10), two = planned(11), most = planned(16384);
  for (const auto part : {&MemoryPlan::parameters, &MemoryPlan::gradients, &MemoryPlan::optimizer, &MemoryPlan::saved,
                          &MemoryPlan::microbatch_flops}) {
    EXPECT_GT(two.*part, one.*part);
    EXPECT_EQ(most.*part, one.*part + (16384 - 10) * (two.*part - one.*part));
  }
  EXPECT_EQ(most.scratch, one.scratch);
  EXPECT_EQ(most.saved_at_peak.size(),
            one.saved_at_peak.size() + (16384 - 10) * (two.saved_at_peak.size() - one.saved_at_peak.size()));
}

struct SharingCase {
  const char* name;
  DType dtype;
  bool recompute, tied;
};

void PrintTo(const SharingCase& tested, std::ostream* out) { *out << tested.name; }

class Sharing : public testing::TestWithParam<SharingCase> {};

// Each layer's gradients are larger than what it saves.
ModelConfig many_experts() {
  ModelConfig config = tiny_config();
  config.first_k_dense_replace = 0;
  config.num_hidden_layers = 5;
  config.n_routed_experts = 96;
  return config;
}

// Gradients and losses of two steps of one microbatch, in planned memory of which `change` makes another plan.
std::vector<std::vector<float>> two_steps(const SharingCase& tested, void (*change)(MemoryPlan&)) {
  ModelConfig config = many_experts();
  config.tie_word_embeddings = tested.tied;
  const Batch batch = rows_of_two_documents(config, 4);
  StepConfig step = step_config_for(batch, 1, tested.dtype);
  step.recompute = tested.recompute;
  step.balance.alpha_expert = 0.1f;
  MemoryPlan plan = plan_training(config, step);
  change(plan);
  const auto device = make_cpu_device();
  ThreadPool pool(2);
  const auto backend = make_cpu_backend(pool);
  TrainingStep run(config, step, plan, *device, *backend);
  run.initialize(1, 0.05);
  std::vector<std::vector<float>> result;
  for (int64_t k = 1; k <= 2; ++k) {
    run.accumulate([&](int64_t) { return batch; }, k);
    for (const View& gradient : run.gradients()) result.push_back(download_floats(*device, gradient));
    result.push_back({static_cast<float>(run.update(k, 1e-2).loss)});
  }
  return result;
}

TEST_P(Sharing, ActivationsInTheGradientsMemoryChangeNoBits) {
  const auto apart = two_steps(GetParam(), [](MemoryPlan& plan) { plan.saved_in_gradients = 0; });
  const bool same_bits = two_steps(GetParam(), [](MemoryPlan&) {}) == apart;
  EXPECT_TRUE(same_bits);
  // Without the lead that the plan gives it, the stack reaches gradients that are written.
  EXPECT_THAT(error_of([] { two_steps(GetParam(), [](MemoryPlan& plan) { plan.saved_in_gradients = plan.saved; }); }),
              HasSubstr("expected memory of its own"));
}

INSTANTIATE_TEST_SUITE_P(Settings, Sharing,
                         testing::Values(SharingCase{"f32", DType::f32, false, false},
                                         SharingCase{"bf16", DType::bf16, false, false},
                                         SharingCase{"recompute", DType::f32, true, false},
                                         SharingCase{"tied", DType::f32, false, true}),
                         [](const auto& tested) { return tested.param.name; });

TEST(Sharing, SavesMostOfTheActivationsOfAMixtureWithManyExperts) {
  ModelConfig config = many_experts();
  const Batch batch = rows_of_two_documents(config, 4);
  const MemoryPlan one = plan_training(config, step_config_for(batch, 1));
  EXPECT_GT(one.saved_in_gradients, one.saved / 2);
  EXPECT_EQ(plan_training(config, step_config_for(batch, 2)).saved_in_gradients, 0) << "they outlive a microbatch";
  config.tie_word_embeddings = true;
  EXPECT_EQ(plan_training(config, step_config_for(batch, 1)).saved_in_gradients, 0) << "the head's is written first";
}

ModelConfig config_145b() {
  ModelConfig config;
  config.vocab_size = 102400;
  config.hidden_size = 4096;
  config.intermediate_size = 16 * 1408;
  config.moe_intermediate_size = 1408;
  config.num_hidden_layers = 62;
  config.num_attention_heads = config.num_key_value_heads = 32;
  config.head_dim = 128;
  config.n_shared_experts = 4;
  config.n_routed_experts = 128;
  config.num_experts_per_tok = 12;
  config.first_k_dense_replace = 1;
  return config;
}

StepConfig rows_of_4096(int64_t rows, int64_t microbatches) {
  StepConfig step;
  step.dtype = DType::bf16;
  step.sequence_length = 4096;
  step.microbatch_tokens = rows * 4096;
  step.microbatches = microbatches;
  return step;
}

TEST(Plan145B, NeedsNoneOfTheMemoryThatItCounts) {
  const StepConfig step = rows_of_4096(2, 2304);
  const ModelConfig config = config_145b();
  const MemoryPlan plan = plan_training(config, step);
  const std::string text = plan_text(config, step, plan);
  EXPECT_GT(plan.total(), int64_t{1} << 40);  // more than this machine could have given
  // 2 bytes a parameter, 4 a gradient, 12 of optimiser state; the rest is alignment.
  const double parameters = static_cast<double>(ParameterCounts(config).stored());
  EXPECT_NEAR(static_cast<double>(plan.parameters) / parameters, 2, 1e-4);
  EXPECT_NEAR(static_cast<double>(plan.gradients) / parameters, 4, 1e-4);
  EXPECT_NEAR(static_cast<double>(plan.optimizer) / parameters, 12, 1e-4);
  EXPECT_EQ(static_cast<double>(plan.microbatch_flops), 2 * exact_flops(config, 4096));
  EXPECT_THAT(text, HasSubstr("144.59B"));
  EXPECT_THAT(text, HasSubstr("22.16B"));
  EXPECT_THAT(text, HasSubstr("4608 sequences of 4096 tokens in 2304 microbatches"));
}

TEST(PlanText, NamesEveryClassAndTheTermsAtThePeak) {
  const ModelConfig config = tiny_config();
  StepConfig step = step_config_for(rows_of_two_documents(config, 4), 2);
  const std::string text = plan_text(config, step, plan_training(config, step));
  for (const char* part : {"routed experts", "routers", "exact products", "the paper's convention", "optimizer state",
                           "saved activations", "scratch", "peak", "experts.gate_up x 2"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  EXPECT_EQ(text.find("with recomputation"), std::string::npos);
  step.recompute = true;
  EXPECT_THAT(plan_text(config, step, plan_training(config, step)), HasSubstr("with recomputation"));
}

// A run of `rows` rows a step, all in one microbatch.
RunConfig run_of(const ModelConfig& config, int64_t rows, int64_t length, DType dtype = DType::f32) {
  RunConfig run;
  run.model = config;
  run.step.dtype = dtype;
  run.data.sequence_length = length;
  run.data.rows_per_step = rows;
  set_microbatch(run, rows, false);
  return run;
}

RunConfig with_rows(RunConfig run, int64_t rows, bool recompute) {
  set_microbatch(run, rows, recompute);
  return run;
}

Place place_with(int64_t available) { return {.device = {.available_bytes = available}}; }

int64_t needed(const RunConfig& run) { return plan_run(run, {}, {}).device_total(); }

// The most rows that divide the step's and that fit, found by trying them all.
int64_t most_rows(const RunConfig& run, bool recompute, int64_t available) {
  int64_t most = 0;
  for (int64_t rows = 1; rows <= run.data.rows_per_step; ++rows) {
    if (run.data.rows_per_step % rows == 0 && needed(with_rows(run, rows, recompute)) <= available) most = rows;
  }
  return most;
}

void refuse(const RunConfig& run, const Place& place, const RunFacts& facts = {}) {
  refuse_if_too_large(run, facts, plan_run(run, facts, place), place);
}

std::string refusal(const RunConfig& run, const Place& place, const RunFacts& facts = {}) {
  return error_of([&] { refuse(run, place, facts); });
}

/// The number behind `key` in a text.
int64_t number_after(const std::string& text, const std::string& key) {
  const size_t at = text.find(key);
  return at == std::string::npos ? -1 : std::stoll(text.substr(at + key.size()));
}

TEST(Refusal, SaysWhatIsNeededWhatThereIsAndWhatWouldFit) {
  const RunConfig run = run_of(tiny_config(), 40, 32);
  const int64_t all = needed(run), available = all / 2;
  EXPECT_NO_THROW(refuse(run, place_with(all)));
  EXPECT_NO_THROW(refuse(run, {})) << "nothing is known of the device";
  const std::string error = refusal(run, place_with(available));
  EXPECT_THAT(error, HasSubstr(fmt::format("({} bytes), most of it saved activations", all)));
  EXPECT_THAT(error, HasSubstr(fmt::format("({} bytes) are available", available)));
  const int64_t plain = most_rows(run, false, available), recomputed = most_rows(run, true, available);
  ASSERT_GT(plain, 0);
  ASSERT_GT(recomputed, plain);
  EXPECT_THAT(error, HasSubstr(fmt::format("what fits is data.microbatch_rows = {}, or train.recompute = true with "
                                           "data.microbatch_rows = {}",
                                           plain, recomputed)));
}

TEST(Refusal, OfAModelThatIsTooLargeItselfNamesOneThatFits) {
  const RunConfig run = run_of(config_145b(), 1, 4096, DType::bf16);
  const int64_t available = int64_t{240} << 30;
  const std::string error = refusal(run, place_with(available));
  EXPECT_THAT(error, HasSubstr("but 240.00 GiB"));
  EXPECT_THAT(error, HasSubstr("most of it optimizer state"));
  EXPECT_THAT(error, HasSubstr("no microbatch is small enough"));
  const int64_t layers = number_after(error, "model.num_hidden_layers = ");
  ASSERT_GT(layers, 1);
  RunConfig smaller = with_rows(run, 1, true);
  smaller.model.num_hidden_layers = layers;
  EXPECT_LE(needed(smaller), available);
  smaller.model.num_hidden_layers = layers + 1;
  EXPECT_GT(needed(smaller), available);
  EXPECT_THAT(refusal(run, place_with(1 << 30)), HasSubstr("use a smaller model or more memory"));
}

TEST(Refusal, OfRowsThatAreTooLongNamesALengthThatFits) {
  const RunConfig run = run_of(tiny_config(), 1, 4096);
  const int64_t available = needed(with_rows(run, 1, true)) / 3;
  const std::string error = refusal(run, place_with(available));
  RunConfig shorter = with_rows(run, 1, true);
  shorter.data.sequence_length = number_after(error, "data.sequence_length = ");
  ASSERT_GE(shorter.data.sequence_length, 32) << error;
  set_microbatch(shorter, 1, true);
  EXPECT_LE(needed(shorter), available);
}

TEST(Refusal, OfManyRowsInAStepNamesFewerThatFit) {
  const auto on_host = [](int64_t available) {
    return Place{.device = {.available_bytes = available, .is_host = true}};
  };
  const RunConfig run = with_rows(run_of(tiny_config(), 1 << 24, 32), 1, true);
  const int64_t available = plan_run(run, {}, on_host(0)).device_total() / 2;
  const std::string error = refusal(run, on_host(available));
  RunConfig fewer = run;
  fewer.data.rows_per_step = number_after(error, "data.rows_per_step = ");
  ASSERT_GE(fewer.data.rows_per_step, 1) << error;
  set_microbatch(fewer, 1, true);
  EXPECT_LE(plan_run(fewer, {}, on_host(0)).device_total(), available);
}

// Evaluation, samples and saving are in what is needed, and the advice fits with them.
TEST(Refusal, CountsWhatARunDoesBesideItsSteps) {
  RunConfig run = run_of(tiny_config(), 24, 32);
  const RunFacts facts{
      .valid_documents = 90, .valid_rows = 90, .valid_domains = 3, .prompts = {{std::vector<int32_t>(20, 1), 0}}};
  const auto in_all = [&](const RunConfig& tried) { return plan_run(tried, facts, {}).device_total(); };
  EXPECT_GT(in_all(run), needed(run));
  const int64_t available = (in_all(with_rows(run, 6, false)) + in_all(with_rows(run, 8, false))) / 2;
  EXPECT_THAT(refusal(run, place_with(available), facts), HasSubstr("what fits is data.microbatch_rows = 6, or"));
  EXPECT_NO_THROW(refuse(with_rows(run, 6, false), place_with(available), facts));
  // Many rows in an evaluation are a part of their own, and the advice is then about them.
  run = with_rows(run, 1, true);
  run.evaluation = {.batch_rows = 64, .rows_follow = false};
  const std::string error = refusal(run, place_with(in_all(run) / 2), facts);
  EXPECT_THAT(error, HasSubstr("most of it evaluation"));
  RunConfig fewer = run;
  fewer.evaluation.batch_rows = number_after(error, "what fits is eval.batch_rows = ");
  ASSERT_GT(fewer.evaluation.batch_rows, 0) << error;
  EXPECT_LE(in_all(fewer), in_all(run) / 2);
}

// A GPU's memory and the host's are two, and each can be too small.
TEST(Refusal, LooksAtTheHostsMemoryToo) {
  const RunConfig run = run_of(tiny_config(), 24, 32);
  Place place = place_with(int64_t{1} << 40);
  place.host_bytes = 1 << 20;
  place.process_bytes = 1 << 19;
  EXPECT_THAT(refusal(run, place), HasSubstr("of the host's memory, most of it the program"));
  place.host_bytes = 1 << 30;
  EXPECT_NO_THROW(refuse(run, place));
}

// 128 experts that choose among 65536 tokens: as many slots as no workspace of 96 MiB sorts.
TEST(Refusal, SaysHowManyRowsADeviceHasRoomToSortTheChoicesOf) {
  ModelConfig config = config_145b();
  const auto refuse = [&](int64_t rows, int64_t most) {
    refuse_too_many_slots(config, rows, 4096, most, "data.microbatch_rows");
  };
  EXPECT_NO_THROW(refuse(16, 5000000)) << "12 choices each";
  config.routing = RoutingMethod::expert_choice;
  EXPECT_NO_THROW(refuse(16, 0)) << "no limit";
  EXPECT_NO_THROW(refuse(9, 5000000));
  EXPECT_THAT(
      error_of<Error>([&] { refuse(16, 5000000); }),
      HasSubstr("16: rows of 4096 tokens have 8388608 choices of experts together, but the device has room to sort "
                "5000000; use data.microbatch_rows = 9 or less"));
  EXPECT_THAT(error_of<Error>([&] { refuse(16, 5000); }), HasSubstr("not even one row fits"));
}

}  // namespace
}  // namespace moe
