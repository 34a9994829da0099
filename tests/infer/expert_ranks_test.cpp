// Ranks that divide the routed experts of a model give what one rank gives, but for the order of sums.

#include <algorithm>
#include <cmath>
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/open_model.h"
#include "checkpoint/weight_source.h"
#include "checkpoint/write_gguf.h"
#include "infer/chat_engine.h"
#include "infer/rank_calls.h"
#include "tests/infer/engine_support.h"
#include "tests/infer/rank_models.h"
#include "tests/support/forwarding_communicator.h"
#include "tests/support/temporary_folder.h"

namespace moe::test {
namespace {

/// The root of the mean square of a - b, by that of b.
double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double off = 0, all = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    off += difference * difference;
    all += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return std::sqrt(off / all);
}

/// f32 has 24 bits. Each MoE layer adds at most the shared experts, the residual and the outputs of K experts in
/// another order; each of these few sums differs by a unit in the last place, and later layers carry the differences
/// on.
constexpr double kBound = 1e-6;

/// The models of tests/golden that generate and have experts.
std::vector<std::string> models_with_experts() {
  std::vector<std::string> names;
  for (const char* const folder : {"", "families/"}) {
    for (const auto& entry : fs::directory_iterator(golden(folder))) {
      if (!fs::exists(entry.path() / "config.json")) continue;
      const ModelConfig config = read_model_config(entry.path());
      if (config.moe_layers() == 0 || config.n_routed_experts == 1 || !config.causal()) continue;
      names.push_back(folder + entry.path().filename().string());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// The numbers of ranks that divide the experts.
std::vector<int> numbers_of_ranks(const fs::path& model) {
  std::vector<int> numbers;
  for (int ranks = 2; ranks <= 5; ++ranks) {
    if (divides_experts(read_model_config(model), ranks)) numbers.push_back(ranks);
  }
  return numbers;
}

class ExpertRanksOf : public testing::TestWithParam<std::string> {};

TEST_P(ExpertRanksOf, GiveTheLogitsOfOneRank) {
  const RankedModel model{golden(GetParam())};
  const std::vector<float> one = logits_on(1, model);
  const std::vector<int> numbers = numbers_of_ranks(model.path);
  EXPECT_FALSE(numbers.empty());
  for (const int ranks : numbers) {
    EXPECT_LT(relative_error(logits_on(ranks, model), one), kBound) << ranks << " ranks";
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, ExpertRanksOf, testing::ValuesIn(models_with_experts()), [](const auto& test) {
  std::string name = test.param;
  std::replace(name.begin(), name.end(), '/', '_');
  return name;
});

TEST(ExpertRanksInInference, TheSameRanksGiveTheSameBits) {
  const RankedModel model{golden("families/olmoe_odd")};
  for (const int ranks : {2, 3}) {
    const std::vector<float> once = logits_on(ranks, model), again = logits_on(ranks, model);
    EXPECT_EQ(std::memcmp(once.data(), again.data(), once.size() * sizeof(float)), 0);
  }
}

// Otherwise every rank would have the whole model, and the results would be the same.
TEST(ExpertRanksInInference, ARankHasItsOwnExpertsAlone) {
  for (const char* const name : {"families/olmoe_odd", "families/mixtral_fused", "device_limited"}) {
    const RankedModel model{golden(name)};
    WeightSizes sizes(model.path, model.weights);
    const int64_t whole = sizes.of().bytes;
    sizes = sizes.of_rank({.expert = 2}, 0);
    int64_t experts = 0;
    for (const Parameter& parameter : parameter_table(sizes.config())) {
      if (parameter.kind == ParameterKind::routed_experts) experts += parameter.shape.elements() * 4;
    }
    // Tensors begin at addresses that are multiples.
    EXPECT_NEAR(static_cast<double>(sizes.of().bytes), static_cast<double>(whole - experts / 2), 4096) << name;
    lead(2, model, [&](const Lead& one) { EXPECT_EQ(one.cpu.device->allocated_bytes(), sizes.of().bytes) << name; });
  }
}

TEST(ExpertRanksInInference, ADenseModelAndNumbersThatDoNotDivideAreKnown) {
  EXPECT_FALSE(divides_experts(read_model_config(golden("families/llama")), 2));
  EXPECT_FALSE(divides_experts(read_model_config(golden("families/deepseek")), 2));
  EXPECT_FALSE(divides_experts(read_model_config(golden("families/qwen3_moe_odd")), 8));
  EXPECT_TRUE(divides_experts(read_model_config(golden("families/qwen3_moe_odd")), 4));
}

class QuantisedExpertRanks : public testing::TestWithParam<const char*> {};

/// Blocks of experts are read as they are in the file. Activations are rounded to 8 bits before products with blocks: a
/// difference in the last place of one number may move it to the neighbouring step, which is 1/254 of the largest of
/// its block. Few do.
constexpr double kBlockBound = 2e-3;

TEST_P(QuantisedExpertRanks, GiveTheLogitsOfOneRank) {
  ModelConfig config;
  config.vocab_size = 64;
  config.hidden_size = config.intermediate_size = config.moe_intermediate_size = 256;  // blocks of q4_K have 256
  config.num_hidden_layers = 3;
  config.num_attention_heads = config.num_key_value_heads = 4;
  config.head_dim = 64;
  config.n_routed_experts = 4;
  config.num_experts_per_tok = 2;
  config.n_shared_experts = 1;
  config.first_k_dense_replace = 1;
  config.max_position_embeddings = 256;
  config.initializer_range = 0.06;
  const TemporaryFolder folder;
  const RankedModel model{folder / "model.gguf", {DType::f32, true}};
  ThreadPool pool(1);
  write_gguf(model.path, InitialWeights(config, 3), {.quantization = find_quantization(GetParam())}, pool);
  const std::vector<float> one = logits_on(1, model);
  for (const int ranks : {2, 4}) EXPECT_LT(relative_error(logits_on(ranks, model), one), kBlockBound) << ranks;
}

INSTANTIATE_TEST_SUITE_P(Types, QuantisedExpertRanks,
                         testing::Values("f32", "f16", "q8_0", "q4_0", "q5_1", "q4_k_m", "q6_k"),
                         [](const auto& test) { return std::string(test.param); });

TEST(ExpertRanksInInference, AdaptersAreDividedWithTheExperts) {
  const RankedModel model{golden("moe_basic"), DType::f32, {{golden("moe_basic_lora")}}};
  const std::vector<float> one = logits_on(1, model), plain = logits_on(1, {golden("moe_basic")});
  EXPECT_GT(relative_error(one, plain), 1e-3) << "the adapter changes the model";
  EXPECT_LT(relative_error(logits_on(3, model), one), kBound);
}

TEST(ExpertRanksInInference, AnEngineGivesTheTokensOfOneRank) {
  const RankedModel model{golden("families/deepseek_odd")};
  for (const bool on_device : {false, true}) {
    std::vector<Answer> expected;
    lead(1, model, [&](const Lead& one) { expected = answers_of(one, on_device); });
    for (const int ranks : {2, 3}) {
      lead(ranks, model, [&](const Lead& one) {
        const std::vector<Answer> found = answers_of(one, on_device);
        for (size_t i = 0; i < expected.size(); ++i) {
          EXPECT_EQ(found[i].ids, expected[i].ids) << ranks << " ranks, request " << i;
          EXPECT_EQ(found[i].experts, expected[i].experts);
          EXPECT_EQ(found[i].error, "");
        }
      });
    }
  }
}

TEST(ExpertRanksInInference, DraftsAreRightAsOften) {
  const RankedModel model{golden("families/mixtral_fused")};
  const auto answer = [](const Lead& one) {
    std::vector<int32_t> ids = random_ids(12, 40, 3), again = ids;
    ids.insert(ids.end(), again.begin(), again.end());
    Request request{.prompt = {ids}, .options = {.max_new_tokens = 60, .prompt_lookup = 4}};
    request.options.sampling.temperature = 0;
    Engine engine(one.runtime(), nullptr, {.tokens_per_pass = 40, .pages = 2, .longest = 100, .drafts = 4});
    engine.admit(request);
    Answer found;
    while (!engine.idle()) {
      for (const Event& event : engine.step()) found.add(event);
    }
    EXPECT_GT(engine.counts().drafted, 0);
    return found.ids;
  };
  std::vector<int32_t> expected;
  lead(1, model, [&](const Lead& one) { expected = answer(one); });
  EXPECT_EQ(expected.size(), 60u);
  lead(4, model, [&](const Lead& one) { EXPECT_EQ(answer(one), expected); });
}

TEST(ExpertRanksInInference, AChatMayChangeTheRouting) {
  const RankedModel model{golden("families/deepseek_odd")};
  std::vector<std::vector<int32_t>> expected;
  lead(1, model, [&](const Lead& one) { expected = chat_of(one); });
  EXPECT_NE(expected[0], expected[1]);
  EXPECT_NE(expected[1], expected[2]);
  for (const int ranks : {2, 3}) lead(ranks, model, [&](const Lead& one) { EXPECT_EQ(chat_of(one), expected); });
}

/// A communicator whose rank fails in a sum.
class Failing final : public test::ForwardingCommunicator {
 public:
  Failing(Communicator& inner, int rank, int sums)
      : ForwardingCommunicator(inner), fails_(inner.rank() == rank), left_(sums) {}

  void all_reduce(const View& x, const RankGroup& group) override {
    if (fails_ && left_-- == 0) fail("there is no memory");
    inner_.all_reduce(x, group);
  }

 private:
  bool fails_;
  int left_;
};

std::string text_of(const std::exception_ptr& thrown) {
  try {
    if (thrown) std::rethrow_exception(thrown);
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

TEST(ExpertRanksInInference, ARankThatFailsEndsAll) {
  const RankedModel model{golden("families/olmoe_odd")};
  for (const int failing : {0, 1, 2}) {
    bool usable = true;
    const auto thrown = try_to_lead(
        3, model,
        [&](const Lead& one) {
          ChatEngine engine(one.loaded, nullptr, *one.cpu.device, *one.cpu.backend, {.most_tokens = 50}, {}, {},
                            one.leader);
          engine.begin({.prompt = {random_ids(9, 40, 1)}, .options = {.max_new_tokens = 8}});
          EXPECT_TRUE(engine.usable());
          try {
            for (;;) engine.step();
          } catch (...) {
            usable = engine.usable();
            throw;
          }
        },
        [&](Communicator& inner) { return std::make_unique<Failing>(inner, failing, 3); });
    EXPECT_FALSE(usable);
    for (int rank = 0; rank < 3; ++rank) {
      EXPECT_THAT(text_of(thrown[static_cast<size_t>(rank)]), testing::HasSubstr("there is no memory"))
          << rank << " of which " << failing << " fails";
    }
  }
}

TEST(RankCalls, AMessageThatEndsEarlyIsAnError) {
  std::string bytes;
  WordWriter words(bytes);
  words.add(std::vector<int32_t>{1, 2, 3});
  EXPECT_EQ(WordReader(bytes).take_all<int32_t>(), (std::vector<int32_t>{1, 2, 3}));
  bytes.pop_back();
  EXPECT_THAT(error_of<Error>([&] { WordReader(bytes).take_all<int32_t>(); }), testing::HasSubstr("too short"));
}

}  // namespace
}  // namespace moe::test
