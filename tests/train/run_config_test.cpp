// What a run file says of routing: every key has an effect or is refused by name, and a method is all of its row.

#include "train/run_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/methods.h"
#include "model/routing_text.h"
#include "tests/support/temporary_folder.h"
#include "train/read_run_config.h"
#include "train/run_keys.h"

namespace moe {
namespace {

using test::error_of;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

RunConfig read(const std::string& more, const std::string& model = "") {
  const std::string sizes = R"(
[data]
sequence_length = 32
rows_per_step = 4
[train]
steps = 100
[model]
vocab_size = 400
)" + (model.empty() ? R"(
hidden_size = 24
num_hidden_layers = 2
num_attention_heads = 2
n_routed_experts = 16
moe_intermediate_size = 8
intermediate_size = 32
)"
                    : model);
  Settings settings = Settings::parse(sizes, "run.toml");
  for (size_t begin = 0; begin < more.size();) {
    const size_t end = std::min(more.find(' ', begin), more.size());
    settings.set(more.substr(begin, end - begin));
    begin = end + 1;
  }
  return read_run_config(settings, [](const std::string&) { return int64_t{400}; });
}

std::string refusal(const std::string& more, const std::string& model = "") {
  return error_of<UsageError>([&] { read(more, model); });
}

const std::string kPreset = "preset = ";

TEST(RunMethod, TakesTheSizesOfAPresetAndNothingOfItsRouting) {
  const RunConfig hashed = read("model.method=switch", kPreset + "\"hash-2b\"");
  EXPECT_EQ(hashed.model.routing, RoutingMethod::topk);
  EXPECT_EQ(hashed.model.num_experts_per_tok, 1);
  EXPECT_EQ(hashed.step.balance.alpha_expert, 0.01f);
  const RunConfig mixed = read("model.method=deepseekmoe", kPreset + "\"mixtral-8x7b\"");
  EXPECT_FALSE(mixed.model.norm_topk_prob);
  EXPECT_EQ(mixed.model.num_experts_per_tok, 2);
  EXPECT_TRUE(read("", kPreset + "\"mixtral-8x7b\"").model.norm_topk_prob) << "without a method";
}

TEST(RunMethod, EveryRowIsTheSameWhateverWasThereBefore) {
  for (const Method& method : methods()) {
    ModelConfig fresh;
    fresh.n_routed_experts = 16;
    fresh.num_experts_per_tok = 3;
    for (const Method& before : methods()) {
      ModelConfig model = fresh;
      BalanceConfig balance, expected_balance;
      before.apply(model, balance);
      model.n_routed_experts = 16;
      model.num_experts_per_tok = 3;
      ModelConfig expected = fresh;
      method.apply(expected, expected_balance);
      method.apply(model, balance);
      EXPECT_EQ(routing_text(model), routing_text(expected)) << method.name << " after " << before.name;
      EXPECT_EQ(balance.alpha_expert, expected_balance.alpha_expert);
      EXPECT_EQ(balance.first_choice, expected_balance.first_choice);
      EXPECT_EQ(balance.devices, expected_balance.devices);
      EXPECT_EQ(balance.bias_rate, expected_balance.bias_rate);
    }
  }
}

TEST(RunMethod, NeedsRoutedExperts) {
  EXPECT_THAT(refusal("model.method=deepseekmoe", kPreset + "\"dense-0.2b\""),
              HasSubstr("model.n_routed_experts is 0, expected the number of experts that model.method = deepseekmoe"));
  // A method that fixes K says nothing about K, which is not there without experts.
  EXPECT_THAT(refusal("model.method=gshard", kPreset + "\"dense-0.2b\""),
              AllOf(HasSubstr("model.n_routed_experts is 0"), Not(HasSubstr("num_experts_per_tok"))));
}

TEST(RunMethod, FixesKWhereItsRowDoes) {
  EXPECT_THAT(refusal("model.method=switch model.num_experts_per_tok=4"),
              HasSubstr("model.num_experts_per_tok is 4, expected 1, which model.method = switch stands for"));
  EXPECT_EQ(read("model.method=switch model.num_experts_per_tok=1").model.num_experts_per_tok, 1);
  EXPECT_EQ(read("model.method=deepseekmoe model.num_experts_per_tok=4").model.num_experts_per_tok, 4);
}

TEST(RunMethod, IsSaidWithItsChoices) {
  EXPECT_EQ(read("model.method=switch_original").method,
            "switch_original (Switch, the original): 1 of 16 experts, routing = topk, scoring_func = softmax, "
            "topk_method = greedy, router_jitter = 0.01, capacity_factor = 1.25, eval_capacity_factor = 1.25");
  EXPECT_THAT(read("model.method=stable_moe").method, HasSubstr("second stage from step 10 on"));
  EXPECT_EQ(read("model.n_routed_experts=0").method, "no routed experts");
}

TEST(RunDense, LeavesSizesBeAndRefusesWhatRoutes) {
  const RunConfig run = read("model.method=dense model.num_experts_per_tok=4");
  EXPECT_EQ(run.model.n_routed_experts, 0);
  EXPECT_EQ(run.model.num_experts_per_tok, 0);
  EXPECT_THAT(refusal("model.method=dense balance.z_loss=3"),
              HasSubstr("balance.z_loss is 3, expected to be left out"));
  EXPECT_THAT(refusal("model.method=dense model.norm_topk_prob=true"), HasSubstr("model.norm_topk_prob is true"));
  EXPECT_THAT(refusal("model.n_routed_experts=0 balance.alpha_expert=0.01"), HasSubstr("balance.alpha_expert"));
  EXPECT_THAT(refusal("model.method=dense train.second_stage=5"), HasSubstr("train.second_stage"));
}

TEST(RunFile, ReadAgainAsResolvedIsTheSame) {
  for (const Method& method : methods()) {
    const std::string more = method.fixes_top_k() ? "" : " model.num_experts_per_tok=2";
    const RunConfig run = read(fmt::format("model.method={}{}", method.name, more));
    Settings settings = Settings::parse(run.resolved, "resolved.toml");
    const RunConfig again = read_run_config(settings, [](const std::string&) { return int64_t{0}; });
    EXPECT_EQ(again.resolved, run.resolved) << method.name;
    EXPECT_EQ(again.method, run.method);
  }
}

TEST(RunKeys, WithoutEffectAreRefused) {
  EXPECT_THAT(refusal("model.method=gshard train.hash_table=balanced"), HasSubstr("train.hash_table is \"balanced\""));
  EXPECT_THAT(refusal("model.method=gshard train.second_stage=5"),
              HasSubstr("left out: it needs model.routing = stable"));
  EXPECT_THAT(refusal("model.method=gshard model.topk_group=2"),
              HasSubstr("topk_group is 2, expected to be left out: it needs model.topk_method = group"));
  EXPECT_THAT(refusal("model.method=expert_choice sample.prompts=[\"a\"]"), HasSubstr("sample.prompts is"));
  EXPECT_TRUE(read("model.method=hash train.hash_table=balanced").balanced_hash);
}

TEST(RunKeys, ABiasMovesUnlessTheFileSaysOtherwise) {
  const RunConfig run = read("model.num_experts_per_tok=3 model.topk_method=noaux_tc");
  EXPECT_EQ(run.step.balance.bias_rate, 0.001f);
  EXPECT_EQ(run.step.balance.alpha_expert, 1e-4f);
  EXPECT_EQ(
      read("model.method=deepseekmoe model.num_experts_per_tok=3 model.topk_method=noaux_tc").step.balance.bias_rate,
      0.001f);
  const RunConfig still = read("model.method=loss_free model.num_experts_per_tok=3 balance.bias_rate=0");
  EXPECT_THAT(still.coefficients, testing::Contains("balance.bias_rate = 0 (--set balance.bias_rate=0)"));
}

TEST(RunKeys, DevicesFollowTheGroups) {
  const std::string limited = "model.method=device_limited model.num_experts_per_tok=3 ";
  EXPECT_EQ(read(limited).step.balance.devices, 8);
  EXPECT_EQ(read(limited + "model.n_group=4").step.balance.devices, 4);
  EXPECT_EQ(read(limited + "model.n_group=4 balance.devices=2").step.balance.devices, 2);
}

TEST(RunKeys, ExpertChoiceGivesOutKExpertsPerToken) {
  const RunConfig run = read("model.method=expert_choice model.num_experts_per_tok=4");
  EXPECT_EQ(run.model.capacity_factor, 4);
  EXPECT_THAT(refusal("model.method=expert_choice model.capacity_factor=4"),
              HasSubstr("capacity_factor is 4, expected 2, its num_experts_per_tok"));
}

TEST(RunKeys, CombinationsThatNoMethodDefinesAreRefused) {
  const std::string k = "model.num_experts_per_tok=3 ";
  EXPECT_THAT(refusal(k + "model.method=device_limited model.scoring_func=sigmoid"),
              HasSubstr("scoring_func is sigmoid with topk_method group_limited_greedy"));
  EXPECT_THAT(
      refusal(k + "model.method=loss_free_softmax balance.first_choice=true"),
      HasSubstr("balance.first_choice is true, but model.scoring_func is softmax and model.topk_method noaux_tc"));
}

TEST(RunKeys, WhatTheScheduleDoesNotUseIsRefused) {
  const std::string k = "model.num_experts_per_tok=2 ";
  EXPECT_THAT(refusal(k + "schedule.kind=cosine schedule.decay_fraction=0.5"),
              HasSubstr("schedule.decay_fraction is 0.5, expected to be left out: it needs schedule.kind = wsd"));
  EXPECT_THAT(refusal(k + "schedule.final_ratio=0.5"), HasSubstr("it needs schedule.kind = cosine or wsd"));
  EXPECT_THAT(refusal(k + "schedule.kind=wsd schedule.decay_factor=0.5"),
              HasSubstr("it needs schedule.kind = step_decay"));
  EXPECT_EQ(read(k + "schedule.kind=cosine schedule.decay_fraction=0.2").schedule.decay_fraction, 0.2)
      << "run.toml holds every default";
}

TEST(RunKeys, WhatTheOptimiserDoesNotUseIsRefused) {
  for (const OptimizerMethod* method : kOptimizers) {
    OptimizerConfig config;
    config.kind = method->name;
    for (const KeyRow<OptimizerConfig>& row : optimizer_keys()) {
      if (row.used == nullptr) continue;
      const std::string set =
          fmt::format("model.num_experts_per_tok=2 optimizer.kind={} {}=0.5", method->name, row.key);
      if (row.used(config)) {
        EXPECT_NO_THROW(read(set)) << set;
      } else {
        EXPECT_THAT(refusal(set), HasSubstr("is 0.5, expected to be left out: it needs optimizer.kind = ")) << set;
      }
    }
  }
  EXPECT_THAT(refusal("model.num_experts_per_tok=2 optimizer.momentum=0.5"),
              HasSubstr("it needs optimizer.kind = muon"));
}

// Every number of the file arrives where the run uses it: each is one that no default is.
TEST(RunFile, ArrivesInTheRun) {
  const RunConfig run = read(
      "data.rows_per_step=12 data.microbatch_rows=3 data.valid=v optimizer.learning_rate=0.007 optimizer.beta1=0.81 "
      "optimizer.beta2=0.82 optimizer.eps=1e-5 optimizer.weight_decay=0.3 optimizer.clip=0.7 schedule.kind=wsd "
      "schedule.warmup_steps=17 schedule.final_ratio=0.2 schedule.decay_fraction=0.6 "
      "train.seed=9 train.dtype=bf16 train.recompute=true train.init_std=0.03 eval.every=11 eval.batch_rows=5 "
      "eval.every_nth=7 checkpoint.every=13 checkpoint.keep_last=4 checkpoint.keep_every=26 sample.prompts=[\"a\"] "
      "sample.every=19 sample.max_new_tokens=21 sample.temperature=0.6 run.dir=somewhere "
      "model.num_experts_per_tok=2 balance.alpha_expert=0.02 balance.alpha_device=0.03 balance.devices=4 "
      "balance.scope=step balance.z_loss=0.004 balance.first_choice=true model.norm_topk_prob=true "
      "model.rope_theta=500 model.rms_norm_eps=1e-5");
  EXPECT_EQ(run.data.rows_per_step, 12);
  EXPECT_EQ(run.data.valid, "v");
  EXPECT_EQ(run.step.microbatches, 4);
  EXPECT_EQ(run.step.microbatch_tokens, 3 * 32);
  EXPECT_EQ(run.step.sequence_length, 32);
  const OptimizerConfig& optimizer = run.step.optimizer;
  EXPECT_EQ(optimizer.beta1, 0.81);
  EXPECT_EQ(optimizer.beta2, 0.82);
  EXPECT_EQ(optimizer.eps, 1e-5);
  EXPECT_EQ(optimizer.weight_decay, 0.3);
  EXPECT_EQ(optimizer.clip, 0.7);
  const Schedule& schedule = run.schedule;
  EXPECT_EQ(schedule.kind, ScheduleKind::wsd);
  EXPECT_EQ(schedule.peak, 0.007);
  EXPECT_EQ(schedule.steps, 100);
  EXPECT_EQ(schedule.warmup_steps, 17);
  EXPECT_EQ(read("model.num_experts_per_tok=2 schedule.decay_factor=0.4").schedule.decay_factor, 0.4);
  EXPECT_EQ(schedule.final_ratio, 0.2);
  EXPECT_EQ(schedule.decay_fraction, 0.6);
  EXPECT_EQ(run.seed, 9u);
  EXPECT_EQ(run.step.seed, 9u);
  EXPECT_EQ(run.step.dtype, DType::bf16);
  EXPECT_TRUE(run.step.recompute);
  EXPECT_EQ(run.model.initializer_range, 0.03);
  EXPECT_EQ(run.model.rope_theta, 500);
  EXPECT_EQ(run.model.rms_norm_eps, 1e-5);
  EXPECT_TRUE(run.model.norm_topk_prob);
  const BalanceConfig& balance = run.step.balance;
  EXPECT_EQ(balance.alpha_expert, 0.02f);
  EXPECT_EQ(balance.alpha_device, 0.03f);
  EXPECT_EQ(balance.devices, 4);
  EXPECT_EQ(balance.scope, BalanceScope::step);
  EXPECT_EQ(balance.z_loss, 0.004f);
  EXPECT_TRUE(balance.first_choice);
  EXPECT_EQ(run.model.aux_loss_alpha, static_cast<double>(0.02f));
  EXPECT_FALSE(run.model.seq_aux);
  EXPECT_EQ(run.evaluation.every, 11);
  EXPECT_EQ(run.evaluation.batch_rows, 5);
  EXPECT_EQ(run.evaluation.every_nth, 7);
  EXPECT_EQ(run.checkpoint.every, 13);
  EXPECT_EQ(run.checkpoint.keep_last, 4);
  EXPECT_EQ(run.checkpoint.keep_every, 26);
  EXPECT_EQ(run.sample.prompts, std::vector<std::string>{"a"});
  EXPECT_EQ(run.sample.every, 19);
  EXPECT_EQ(run.sample.max_new_tokens, 21);
  EXPECT_EQ(run.sample.temperature, 0.6);
  EXPECT_EQ(run.run_dir, "somewhere");
}

// docs/training.md's defaults, as values and not by the table that both come from.
TEST(RunFile, HasTheDefaultsThatThePageNames) {
  const RunConfig run = read("model.num_experts_per_tok=2");
  EXPECT_EQ(run.data.microbatch_rows, 0) << "auto: settled when the run begins";
  EXPECT_EQ(run.step.optimizer.beta1, 0.9);
  EXPECT_EQ(run.step.optimizer.beta2, 0.95);
  EXPECT_EQ(run.step.optimizer.eps, 1e-8);
  EXPECT_EQ(run.step.optimizer.weight_decay, 0.1);
  EXPECT_EQ(run.step.optimizer.clip, 1);
  EXPECT_EQ(run.schedule.kind, ScheduleKind::step_decay);
  EXPECT_EQ(run.schedule.peak, 1e-3);
  EXPECT_EQ(run.schedule.warmup_steps, 5);
  EXPECT_EQ(run.schedule.decay_factor, 0.316);
  EXPECT_EQ(run.schedule.final_ratio, 0.1);
  EXPECT_EQ(run.schedule.decay_fraction, 0.2);
  EXPECT_EQ(run.step.dtype, DType::f32);
  EXPECT_TRUE(run.step.choose_recompute);
  EXPECT_EQ(run.seed, 1u);
  EXPECT_EQ(run.step.balance.alpha_expert, 0.01f);
  EXPECT_EQ(run.step.balance.scope, BalanceScope::sequence);
  EXPECT_EQ(run.evaluation.every, 0);
  EXPECT_TRUE(run.evaluation.rows_follow);
  EXPECT_EQ(run.evaluation.every_nth, 1);
  EXPECT_EQ(run.checkpoint.keep_last, 2);
  EXPECT_EQ(run.checkpoint.keep_every, 0);
  EXPECT_EQ(run.sample.max_new_tokens, 48);
  EXPECT_EQ(run.sample.temperature, 0.8);
  EXPECT_EQ(run.run_dir, "runs/run");
}

TEST(RunFile, InitialWeightsFollowTheWidth) {
  const auto deviation = [](int64_t width) {
    return read(fmt::format("model.hidden_size={} model.num_attention_heads=1 model.num_experts_per_tok=2", width))
        .model.initializer_range;
  };
  EXPECT_EQ(deviation(256), 0.04);
  EXPECT_EQ(deviation(1024), 0.0313);
  EXPECT_EQ(deviation(2048), 0.0221);
  EXPECT_EQ(deviation(4096), 0.0156);
  EXPECT_EQ(read("train.init_std=0.006 model.hidden_size=256 model.num_experts_per_tok=2").model.initializer_range,
            0.006);
}

}  // namespace
}  // namespace moe
