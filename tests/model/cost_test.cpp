// Parameters and FLOPs: docs/paper.md section 3's figures from real configs, and the count of what a training step
// really runs.

#include "model/cost.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/validate.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model.h"

namespace moe {
namespace {

// Heads of size 128, as all of the paper's models.
ModelConfig paper_config(int64_t layers, int64_t hidden, int64_t vocabulary) {
  ModelConfig config;
  config.vocab_size = vocabulary;
  config.hidden_size = hidden;
  config.num_hidden_layers = layers;
  config.num_attention_heads = config.num_key_value_heads = hidden / 128;
  config.head_dim = 128;
  return config;
}

ModelConfig dense_model(int64_t layers, int64_t hidden, int64_t vocabulary, int64_t width) {
  ModelConfig config = paper_config(layers, hidden, vocabulary);
  config.intermediate_size = width;
  return config;
}

struct Experts {
  int64_t shared, routed, chosen, width;
};

ModelConfig moe_model(int64_t layers, int64_t hidden, int64_t vocabulary, Experts experts, int64_t dense_width = 0) {
  ModelConfig config = dense_model(layers, hidden, vocabulary, dense_width);
  config.n_shared_experts = experts.shared;
  config.n_routed_experts = experts.routed;
  config.num_experts_per_tok = experts.chosen;
  config.moe_intermediate_size = experts.width;
  config.first_k_dense_replace = dense_width > 0 ? 1 : 0;
  return config;
}

ModelConfig moe_16b(int64_t width = 1408, int64_t dense_width = 10944) {
  return moe_model(28, 2048, 102400, {2, 64, 6, width}, dense_width);
}
ModelConfig moe_145b() { return moe_model(62, 4096, 102400, {4, 128, 12, 1408}, 16 * 1408); }
ModelConfig moe_142b_half() { return moe_model(62, 4096, 102400, {2, 128, 6, 1408}, 8 * 1408); }

double billions(int64_t count) { return static_cast<double>(count) * 1e-9; }
double tera(double flops) { return flops * 1e-12; }

// The cost is linear in the width of the FFNs, so the cost at the paper's exact width 8/3 d (a third, never a whole
// number) is a mean of the costs of two real configs.
template <class Make>
double tera_at_thirds(int64_t numerator, Make make, int64_t sequence_length) {
  const int64_t below = numerator / 3;
  const double part = static_cast<double>(numerator % 3) / 3;
  return (1 - part) * tera(paper_flops(make(below), sequence_length)) +
         part * tera(paper_flops(make(below + 1), sequence_length));
}

TEST(Parameters, OfThe16BModelAreThePapers) {
  const ParameterCounts counts(moe_16b());
  EXPECT_NEAR(billions(counts.paper_total()), 16.4, 0.05);
  EXPECT_NEAR(billions(counts.paper_activated()), 2.8, 0.05);
  // Independently, matrix by matrix.
  const int64_t d = 2048;
  const int64_t experts = 27 * 66 * 3 * d * 1408;
  const int64_t rest = 2 * 102400 * d + 28 * 4 * d * d + 3 * d * 10944 + (2 * 28 + 1) * d;
  EXPECT_EQ(counts.paper_total(), experts + rest);
  EXPECT_EQ(counts.stored(), experts + rest + 27 * 64 * d);
  EXPECT_EQ(counts.paper_activated(), 27 * 8 * 3 * d * 1408 + rest);
}

TEST(Parameters, OfTheLargeModelsAreThePapers) {
  EXPECT_NEAR(billions(ParameterCounts(moe_145b()).paper_total()), 144.6, 0.05);
  EXPECT_NEAR(billions(ParameterCounts(moe_145b()).paper_activated()), 22.2, 0.05);
  EXPECT_NEAR(billions(ParameterCounts(moe_142b_half()).paper_total()), 142.3, 0.05);
  // The paper prints 12.2B; its shapes give 13.6B.
  EXPECT_NEAR(billions(ParameterCounts(moe_142b_half()).paper_activated()), 13.6, 0.05);
  EXPECT_NEAR(billions(ParameterCounts(dense_model(30, 4096, 102400, 11008)).paper_total()), 6.9, 0.05);
  EXPECT_NEAR(billions(ParameterCounts(dense_model(32, 4096, 32000, 11008)).paper_total()), 6.7, 0.05);
  ModelConfig dense_67b = dense_model(95, 8192, 102400, 22016);
  dense_67b.num_key_value_heads = 8;
  EXPECT_NEAR(billions(ParameterCounts(dense_67b).paper_total()), 67.4, 0.05);
}

TEST(Parameters, OfThe2BModelsAreThePapers) {
  const ParameterCounts fine(moe_model(9, 1280, 8192, {1, 63, 7, 853}));
  EXPECT_NEAR(billions(fine.paper_total()), 2.0, 0.05);
  EXPECT_NEAR(billions(fine.paper_activated()), 0.3, 0.05);
  const int64_t experts = fine.activated(ParameterKind::routed_experts) + fine.activated(ParameterKind::shared_experts);
  EXPECT_NEAR(billions(experts), 0.24, 0.005);
  const ParameterCounts wide(moe_model(9, 1280, 8192, {0, 16, 2, 5120}));  // GShard x1.5
  EXPECT_NEAR(billions(wide.stored(ParameterKind::routed_experts)), 2.83, 0.005);
  EXPECT_NEAR(billions(wide.activated(ParameterKind::routed_experts)), 0.35, 0.005);
  EXPECT_NEAR(billions(ParameterCounts(dense_model(9, 1280, 8192, 3413)).paper_total()), 0.2, 0.05);
}

TEST(PaperFlops, OfThe16BModelNeedTheWidth) {
  EXPECT_NEAR(tera(paper_flops(moe_16b(), 4096)), 75.82, 0.005);
  const auto narrow = [](int64_t width) { return moe_16b(width, 8 * width); };
  EXPECT_NEAR(tera_at_thirds(4096, narrow, 4096), 74.42, 0.005);  // 1365 1/3
}

TEST(PaperFlops, OfTheLargeModelsAreThePapers) {
  EXPECT_NEAR(tera(paper_flops(moe_145b(), 4096)), 585.5, 0.05);
  EXPECT_NEAR(tera(paper_flops(moe_142b_half(), 4096)), 374.6, 0.05);
  const auto gshard_137b = [](int64_t width) { return moe_model(62, 4096, 102400, {0, 16, 2, width}, 2 * width); };
  EXPECT_NEAR(tera_at_thirds(8 * 4096, gshard_137b, 4096), 572.7, 0.05);
  const auto dense_7b = [](int64_t width) { return dense_model(30, 4096, 102400, width); };
  EXPECT_NEAR(tera_at_thirds(8 * 4096, dense_7b, 4096), 183.48, 0.005);
  const auto llama_7b = [](int64_t width) { return dense_model(32, 4096, 32000, width); };
  EXPECT_NEAR(tera_at_thirds(8 * 4096, llama_7b, 4096), 187.94, 0.005);
  const auto dense_67b = [](int64_t width) { return dense_model(95, 8192, 102400, width); };  // full multi-head
  EXPECT_NEAR(tera_at_thirds(8 * 8192, dense_67b, 4096), 2057.46, 0.05);
}

TEST(PaperFlops, OfThe2BModelsAreThePapers) {
  const auto dense = [](int64_t width) { return dense_model(9, 1280, 8192, width); };
  const auto switch_2b = [](int64_t width) { return moe_model(9, 1280, 8192, {0, 16, 1, width}); };
  const auto gshard = [](int64_t width) { return moe_model(9, 1280, 8192, {0, 16, 2, width}); };
  const auto fine = [](int64_t width) { return moe_model(9, 1280, 8192, {1, 63, 7, width}); };
  const auto dense_x16 = [](int64_t width) { return dense_model(9, 1280, 8192, 16 * width); };
  EXPECT_NEAR(tera_at_thirds(8 * 1280, dense, 2048), 2.883, 0.0005);
  EXPECT_NEAR(tera_at_thirds(8 * 1280, switch_2b, 2048), 2.883, 0.0005);
  EXPECT_NEAR(tera_at_thirds(8 * 1280, gshard, 2048), 4.333, 0.0005);
  EXPECT_NEAR(tera_at_thirds(2 * 1280, fine, 2048), 4.333, 0.0005);  // a quarter of the standard width
  EXPECT_NEAR(tera(paper_flops(gshard(5120), 2048)), 5.782, 0.0005);
  EXPECT_NEAR(tera_at_thirds(8 * 1280, dense_x16, 2048), 24.626, 0.0005);
}

TEST(PaperFlops, GroupedHeadsCostLessThanThePaperPrints) {
  ModelConfig dense_67b = dense_model(95, 8192, 102400, 22016);
  dense_67b.num_key_value_heads = 8;
  EXPECT_NEAR(tera(paper_flops(dense_67b, 4096)), 1793, 0.5);
}

struct TinyModel {
  const char* name;
  ModelConfig config;
};

void PrintTo(const TinyModel& tested, std::ostream* out) { *out << tested.name; }

std::vector<TinyModel> tiny_models() {
  std::vector<TinyModel> models;
  models.push_back({"mixed", tiny_config()});
  models.push_back({"wide_heads", tiny_config()});
  models.back().config.head_dim = 10;  // heads * head_dim is not the hidden size
  models.push_back({"tied", tiny_config()});
  models.back().config.tie_word_embeddings = true;
  models.push_back({"no_shared_experts", tiny_config()});
  models.back().config.n_shared_experts = 0;
  models.push_back({"dense", tiny_config()});
  models.back().config.n_routed_experts = 0;
  models.push_back({"every_second_layer", tiny_config()});
  models.back().config.first_k_dense_replace = 0;
  models.back().config.moe_layer_freq = 2;
  return models;
}

class ExactFlops : public testing::TestWithParam<TinyModel> {};

TEST_P(ExactFlops, EqualTheProductsOfATrainingMicrobatch) {
  const ModelConfig& config = GetParam().config;
  for (const int64_t rows : {1, 3}) {
    StepConfig step;
    step.microbatch_tokens = rows * 16;
    step.sequence_length = 16;
    EXPECT_EQ(static_cast<double>(plan_training(config, step).microbatch_flops),
              static_cast<double>(rows) * exact_flops(config, 16))
        << rows;
  }
}

TEST_P(ExactFlops, CountActivatedParametersOnly) {
  ModelConfig more = GetParam().config;
  const int64_t s = 16;
  const double before = exact_flops(more, s);
  const double paper_before = paper_flops(more, s);
  more.n_routed_experts *= 2;  // twice the parameters, the same number of them per token
  EXPECT_EQ(paper_flops(more, s), paper_before);
  const int64_t router = GetParam().config.n_routed_experts * more.hidden_size;
  EXPECT_EQ(exact_flops(more, s), before + static_cast<double>(6 * router * s * more.moe_layers()));
}

INSTANTIATE_TEST_SUITE_P(Tiny, ExactFlops, testing::ValuesIn(tiny_models()),
                         [](const auto& tested) { return tested.param.name; });

TEST(ExactFlops, AreThePapersWithHalvedAttentionAndTheRouter) {
  const ModelConfig config = moe_16b();
  const int64_t s = 4096;
  const int64_t attention = 12 * config.num_hidden_layers * s * s * config.hidden_size;
  const int64_t halved = 6 * config.num_hidden_layers * s * (s + 1) * config.hidden_size;
  const int64_t router = 6 * ParameterCounts(config).stored(ParameterKind::router) * s;
  EXPECT_EQ(exact_flops(config, s), paper_flops(config, s) - static_cast<double>(attention - halved - router));
}

// Beyond 2^63 from 1.72 million tokens on.
TEST(LongContexts, CostWhatTheFormulasSay) {
  const ModelConfig config = moe_145b();
  EXPECT_NEAR(tera(paper_flops(config, 1'000'000)) / 3.178e6, 1, 5e-4);
  EXPECT_NEAR(tera(paper_flops(config, 2'000'000)) / 1.245e7, 1, 5e-4);
  EXPECT_NEAR(tera(exact_flops(config, 2'000'000)) / 6.356e6, 1, 5e-4);
  EXPECT_NEAR(tera(exact_flops(config, 4'000'000)) / 2.490e7, 1, 5e-4);
  for (const int64_t s : {int64_t{50'000'000}, int64_t{1} << 31, int64_t{1} << 62}) {
    const auto tokens = static_cast<long double>(s);
    const auto multiplied = static_cast<long double>(ParameterCounts(config).multiplied());
    const long double attention = 12.0L * 62 * tokens * tokens * 4096;
    EXPECT_NEAR(paper_flops(config, s) / static_cast<double>(6 * multiplied * tokens + attention), 1, 1e-14) << s;
    EXPECT_GT(paper_flops(config, s), 1.99 * exact_flops(config, s) - 6e12 * static_cast<double>(s)) << s;
    EXPECT_LT(prompt_flops(config, s), exact_flops(config, s) / 3);
    const double cache = position_bytes(config, DType::bf16) * static_cast<double>(s);
    EXPECT_NEAR(token_bytes(config, DType::bf16, s) / (cache + token_bytes(config, DType::bf16, 0)), 1, 1e-14);
  }
}

TEST(LongContexts, ArePlannedOrRefusedByName) {
  const ModelConfig config = moe_145b();
  for (const int64_t length : {50'000'000, 170'000'000}) {
    StepConfig step;
    step.sequence_length = step.microbatch_tokens = length;
    const MemoryPlan plan = plan_training(config, step);
    const int64_t hidden = length * config.hidden_size * 4;  // one activation of each layer is less than all
    EXPECT_GT(plan.saved, config.num_hidden_layers * hidden);
    EXPECT_LT(plan.saved, 100 * config.num_hidden_layers * hidden);
  }
  StepConfig step;
  step.sequence_length = 1'000'000'000;
  step.microbatch_tokens = 3'000'000'000;
  EXPECT_THAT(test::error_of<Error>([&] { plan_training(config, step); }),
              testing::HasSubstr("3 rows of 1000000000 tokens has 3000000000 tokens, expected at most 2147483647"));
  step.microbatch_tokens = 1'000'000'000;
  EXPECT_THAT(test::error_of<Error>([&] { plan_training(config, step); }),
              testing::HasSubstr("has 12000000000 choices of experts, expected at most 2147483647"));
}

TEST(SizesOfModels, ThatNothingCountsAreRefusedByName) {
  const auto refusal = [](int64_t ModelConfig::*field, int64_t value) {
    ModelConfig config = moe_16b();
    config.*field = value;
    return test::error_of<Error>([&] { validate(config); });
  };
  constexpr int64_t k32 = int64_t{1} << 32, k63 = std::numeric_limits<int64_t>::max();
  const std::pair<int64_t ModelConfig::*, const char*> fields[] = {
      {&ModelConfig::vocab_size, "vocab_size"},
      {&ModelConfig::hidden_size, "hidden_size"},
      {&ModelConfig::intermediate_size, "intermediate_size"},
      {&ModelConfig::moe_intermediate_size, "moe_intermediate_size"},
      {&ModelConfig::num_hidden_layers, "num_hidden_layers"},
      {&ModelConfig::num_attention_heads, "num_attention_heads"},
      {&ModelConfig::num_key_value_heads, "num_key_value_heads"},
      {&ModelConfig::head_dim, "head_dim"},
      {&ModelConfig::max_position_embeddings, "max_position_embeddings"},
      {&ModelConfig::n_routed_experts, "n_routed_experts"},
      {&ModelConfig::n_shared_experts, "n_shared_experts"}};
  for (const auto& [field, name] : fields) {
    for (const int64_t value : {k32, k63}) {
      EXPECT_THAT(refusal(field, value), testing::HasSubstr(fmt::format("the model's {} is {}", name, value)));
    }
  }
  ModelConfig config = moe_16b();
  config.hidden_size = config.moe_intermediate_size = int64_t{1} << 20;
  config.n_routed_experts = int64_t{1} << 16;
  EXPECT_THAT(test::error_of<Error>([&] { validate(config); }),
              testing::HasSubstr("parameters, expected at most 9.007e+15"));
  EXPECT_NO_THROW(validate(moe_145b()));
}

}  // namespace
}  // namespace moe
