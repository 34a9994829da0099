// Ranks that divide the layers of a model with routed experts, or layers and experts.

#include <algorithm>
#include <cmath>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/weight_source.h"
#include "checkpoint/write_gguf.h"
#include "infer/scorer.h"
#include "tests/infer/rank_models.h"
#include "tests/support/forwarding_communicator.h"
#include "tests/support/temporary_folder.h"

namespace moe::test {
namespace {

/// Seven layers, of which the first two are dense; layers and experts divide by several numbers.
ModelConfig deep_config() {
  ModelConfig config;
  config.vocab_size = 64;
  config.hidden_size = config.intermediate_size = config.moe_intermediate_size = 256;  // blocks of q4_K have 256
  config.num_hidden_layers = 7;
  config.num_attention_heads = config.num_key_value_heads = 4;
  config.head_dim = 64;
  config.n_routed_experts = 6;
  config.num_experts_per_tok = 2;
  config.n_shared_experts = 1;
  config.first_k_dense_replace = 2;
  config.max_position_embeddings = 256;
  config.initializer_range = 0.06;
  return config;
}

/// A file of random weights of this model.
struct DeepFile {
  TemporaryFolder folder;
  fs::path path = folder / "model.gguf";

  explicit DeepFile(const char* quantization = "f32", const ModelConfig& config = deep_config()) {
    ThreadPool pool(1);
    write_gguf(path, InitialWeights(config, 3), {.quantization = find_quantization(quantization)}, pool);
  }
};

struct Division {
  int ranks, experts;
};
constexpr Division kLayers[] = {{2, 1}, {3, 1}, {7, 1}};
constexpr Division kBoth[] = {{4, 2}, {6, 2}, {6, 3}, {12, 6}};

std::string text_of(const Division& division) {
  return fmt::format("{} ranks, {} of them divide the experts", division.ranks, division.experts);
}

RankedModel divided(RankedModel model, const Division& division) {
  model.expert_ranks = division.experts;
  return model;
}

TEST(LayersOfExperts, GiveTheBitsOfOneRank) {
  for (const char* const name :
       {"moe_gqa_norm", "hash", "loss_free_sigmoid", "mixture", "noisy_all", "stable", "switch", "device_limited",
        "families/deepseek_odd", "families/deepseek_sparse", "families/qwen2_moe_odd", "families/mixtral_fused"}) {
    const RankedModel model{golden(name)};
    const auto layers = static_cast<int>(read_model_config(model.path).num_hidden_layers);
    const std::vector<float> one = logits_on(1, model);
    for (const int ranks : {2, layers}) {
      EXPECT_EQ(logits_on(ranks, divided(model, {ranks, 1})), one) << name << ", " << ranks << " ranks";
    }
  }
}

TEST(LayersOfExperts, GiveTheBitsOfOneRankFromBlocks) {
  for (const char* const type : {"f16", "q8_0", "q4_0", "q4_k_m"}) {
    const DeepFile file(type);
    const RankedModel model{file.path, {DType::f32, true}};
    const std::vector<float> one = logits_on(1, model);
    for (const Division& division : kLayers) {
      EXPECT_EQ(logits_on(division.ranks, divided(model, division)), one) << type << ", " << text_of(division);
    }
  }
}

/// As in expert_ranks_test.cpp: only the order of the sums of experts differs.
constexpr double kBound = 1e-6;

double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double off = 0, all = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    off += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    all += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(off / all);
}

TEST(LayersAndExperts, GiveTheLogitsOfOneRank) {
  const DeepFile file;
  const RankedModel model{file.path};
  const std::vector<float> one = logits_on(1, model);
  for (const Division& division : kBoth) {
    const std::vector<float> several = logits_on(division.ranks, divided(model, division));
    EXPECT_LT(relative_error(several, one), kBound) << text_of(division);
  }
}

// Layers in stages change no sum, so the bits are those of the ranks of one stage.
TEST(LayersAndExperts, GiveTheBitsOfTheRanksOfOneStage) {
  for (const char* const type : {"f32", "q8_0", "q4_0", "q4_k_m"}) {
    const DeepFile file(type);
    const RankedModel model{file.path, {DType::f32, true}};
    for (const int experts : {2, 3}) {
      const std::vector<float> one_stage = logits_on(experts, divided(model, {experts, experts}));
      EXPECT_EQ(logits_on(2 * experts, divided(model, {2 * experts, experts})), one_stage) << type << " " << experts;
    }
  }
}

TEST(LayersAndExperts, AdaptersAreDivided) {
  const RankedModel model{golden("moe_basic"), DType::f32, {{golden("moe_basic_lora")}}};
  const std::vector<float> one = logits_on(1, model);
  EXPECT_EQ(logits_on(3, divided(model, {3, 1})), one);
  EXPECT_LT(relative_error(logits_on(6, divided(model, {6, 3})), one), kBound);
}

TEST(LayersAndExperts, AnEngineGivesTheTokensAndExpertsOfOneRank) {
  const DeepFile file;
  const RankedModel model{file.path};
  for (const bool on_device : {false, true}) {
    std::vector<Answer> expected;
    lead(1, model, [&](const Lead& one) { expected = answers_of(one, on_device); });
    EXPECT_THAT(expected[4].experts, testing::Not(testing::IsEmpty()));
    for (const Division& division : {kLayers[0], kLayers[1], kBoth[0], kBoth[2]}) {
      lead(division.ranks, divided(model, division), [&](const Lead& one) {
        const std::vector<Answer> found = answers_of(one, on_device);
        for (size_t i = 0; i < expected.size(); ++i) {
          EXPECT_EQ(found[i].ids, expected[i].ids) << text_of(division) << ", request " << i;
          EXPECT_EQ(found[i].experts, expected[i].experts) << text_of(division) << ", request " << i;
          EXPECT_EQ(found[i].error, "");
        }
      });
    }
  }
}

TEST(LayersAndExperts, AChatMayChangeTheRouting) {
  const DeepFile file;
  const RankedModel model{file.path};
  std::vector<std::vector<int32_t>> expected;
  lead(1, model, [&](const Lead& one) { expected = chat_of(one); });
  EXPECT_NE(expected[0], expected[1]);
  EXPECT_NE(expected[1], expected[2]);
  for (const Division& division : {kLayers[0], kLayers[2], kBoth[0]}) {
    lead(division.ranks, divided(model, division),
         [&](const Lead& one) { EXPECT_EQ(chat_of(one), expected) << text_of(division); });
  }
}

/// A communicator whose rank fails when it sends or receives a hidden state.
class FailingStage final : public ForwardingCommunicator {
 public:
  FailingStage(Communicator& inner, bool fails) : ForwardingCommunicator(inner), fails_(fails) {}

  void exchange(const std::vector<Parcel>& sent, const std::vector<Parcel>& received) override {
    if (fails_ && ++calls_ == 2) fail("there is no memory");
    inner_.exchange(sent, received);
  }

 private:
  bool fails_;
  int calls_ = 0;
};

TEST(LayersAndExperts, ARankThatFailsEndsAll) {
  const DeepFile file;
  for (const Division& division : {kLayers[1], kBoth[0]}) {
    for (int failing = 0; failing < division.ranks; ++failing) {
      const auto thrown = try_to_lead(
          division.ranks, divided({file.path}, division), [](const Lead& one) { answers_of(one, false); },
          [&](Communicator& inner) { return std::make_unique<FailingStage>(inner, inner.rank() == failing); });
      for (const std::exception_ptr& one : thrown) {
        EXPECT_THAT(error_of<Error>([&] {
                      if (one) std::rethrow_exception(one);
                    }),
                    testing::HasSubstr("there is no memory"))
            << text_of(division) << ", rank " << failing;
      }
    }
  }
}

struct Scores {
  std::vector<float> losses, gates;
  ChoiceCounts counts;
  std::vector<int32_t> ids;
};

/// What an evaluation asks of every rank.
std::vector<Scores> scores_on(const Division& division, const RankedModel& model) {
  std::vector<Scores> all(static_cast<size_t>(division.ranks));
  const RankedModel own = divided(model, division);
  rethrow_first(try_on_ranks(division.ranks, [&](Communicator& communicator) {
    Cpu cpu(1);
    LoadedModel loaded(own.path, own.weights, *cpu.device, {}, {}, {}, part_of(own, communicator));
    constexpr int64_t kTokens = 40;
    Scorer scorer({loaded.model(), DType::f32, *cpu.device, *cpu.backend}, kTokens, 0, ChosenIds::with_gates, 2);
    const Batch batch = single_document(random_ids(kTokens, loaded.config().vocab_size, 2));
    std::vector<int32_t> group;
    for (int64_t t = 0; t < kTokens; ++t) group.push_back(t % 3 == 0 ? 1 : 0);
    Scores& scores = all[static_cast<size_t>(communicator.rank())];
    scores.losses = scorer.losses(batch, group, 2, scores.counts);
    scores.ids = scorer.chosen_ids();
    scores.gates = scorer.chosen_gates();
  }));
  return all;
}

TEST(LayersAndExperts, EveryRankHasTheScoresAndChoicesOfAllLayers) {
  for (const char* const name : {"moe_gqa_norm", "gshard_original", "expert_choice"}) {
    SCOPED_TRACE(name);
    const RankedModel model{golden(name)};
    const ModelConfig config = read_model_config(model.path);
    const Scores one = scores_on({1, 1}, model)[0];
    const auto of_layer = static_cast<int64_t>(one.counts.chosen.size()) / config.moe_layers();
    for (auto layer = one.counts.chosen.begin(); layer != one.counts.chosen.end(); layer += of_layer) {
      EXPECT_GT(std::accumulate(layer, layer + of_layer, int64_t{0}), 0);
    }
    const std::vector<int64_t>& dropped = one.counts.dropped;
    const bool drops = std::all_of(dropped.begin(), dropped.end(), [](int64_t count) { return count > 0; });
    EXPECT_EQ(drops, std::string(name) == "gshard_original");
    for (const Division& division : {kLayers[1], kBoth[0]}) {
      for (const Scores& scores : scores_on(division, model)) {
        EXPECT_EQ(scores.counts.chosen, one.counts.chosen) << text_of(division);
        EXPECT_EQ(scores.counts.dropped, one.counts.dropped);
        EXPECT_EQ(scores.ids, one.ids);
        if (division.experts > 1) continue;
        EXPECT_EQ(scores.losses, one.losses);
        EXPECT_EQ(scores.gates, one.gates);
      }
    }
  }
}

/// A pass of a prompt that tells its experts, and one of a token.
std::vector<PagedPass> some_passes(int64_t vocabulary, int64_t tokens) {
  PagedPass prompt{.ids = random_ids(tokens, vocabulary, 1), .sequence = {}, .positions = {}};
  for (int64_t t = 0; t < tokens; ++t) {
    prompt.sequence.push_back(0);
    prompt.positions.push_back(static_cast<int32_t>(t));
  }
  prompt.wanted = {static_cast<int32_t>(tokens - 1)};
  const PagedPass token{.ids = {5}, .sequence = {0}, .positions = {static_cast<int32_t>(tokens)}, .wanted = {0}};
  return {prompt, token};
}

// What a rank holds and sends is what is said before. The first of seven stages has a dense layer alone; memory that is
// too small for a pass would be an error.
TEST(LayersAndExperts, HoldAndSendWhatIsPlanned) {
  const DeepFile file;
  constexpr int64_t kTokens = 50;
  const PagedSizes sizes{.pages = 2, .pages_each = 2, .tokens = kTokens, .chosen_experts = true};
  const WeightSizes whole(file.path, DType::f32);
  for (const Division& division : {Division{2, 2}, kLayers[1], kLayers[2], kBoth[0], kBoth[2], kBoth[3]}) {
    SCOPED_TRACE(text_of(division));
    const RankedModel model = divided({file.path}, division);
    const Layout layout = layout_of(model, division.ranks);
    rethrow_first(try_on_sockets(division.ranks, [&](Communicator& communicator) {
      const auto& sockets = dynamic_cast<SocketCommunicator&>(communicator);
      const int rank = communicator.rank();
      SCOPED_TRACE(rank);
      const HeldModel held(deep_config(), layout, rank);
      Cpu cpu(1);
      LoadedModel loaded(model.path, model.weights, *cpu.device, {}, {}, {}, part_of(model, communicator));
      const int64_t weights = whole.of_rank(layout, rank).of().bytes;
      EXPECT_EQ(cpu.device->allocated_bytes(), weights);
      // Each rank makes the passes by itself, so that no message tells them.
      PagedModel paged({loaded.model(), DType::f32, *cpu.device, *cpu.backend}, sizes);
      EXPECT_EQ(cpu.device->allocated_bytes(), weights + PagedModel::bytes(held, DType::f32, sizes));
      paged.set_pages(0, {0, 1});
      for (const PagedPass& pass : some_passes(held.config.vocab_size, kTokens)) {
        const Traffic before = sockets.traffic();
        paged.run(pass);
        const CollectiveTraffic planned = PagedModel::traffic(held, DType::f32, static_cast<int64_t>(pass.ids.size()));
        EXPECT_EQ(sockets.traffic().sent - before.sent, planned.all().sent);
        EXPECT_EQ(sockets.traffic().received - before.received, planned.all().received);
        EXPECT_EQ(planned.sums.sent > 0, division.experts > 1 && held.layers().end > 2);
        EXPECT_EQ(planned.parcels.sent > 0, rank + division.experts < division.ranks);
      }
      PagedPass tells = some_passes(held.config.vocab_size, kTokens)[0];
      tells.chosen_experts = true;
      EXPECT_EQ(paged.run(tells).experts.size(), static_cast<size_t>(5 * kTokens * 2));
    }));
  }
}

TEST(LayersAndExperts, AllRanksTogetherHaveEveryWeightOnce) {
  const DeepFile file;
  const WeightSizes whole(file.path, DType::f32);
  const auto elements_of = [](const HeldModel& held) {
    std::vector<Parameter> table = parameter_table(held.config);
    held.keep(table);
    return count_elements(table);
  };
  for (const Division& division : kLayers) {
    const Layout layout{.pipeline = division.ranks};
    int64_t all = 0;
    for (int rank = 0; rank < division.ranks; ++rank) all += elements_of({deep_config(), layout, rank});
    EXPECT_EQ(all, elements_of(deep_config())) << text_of(division);
  }
  EXPECT_EQ(whole.of_rank({.pipeline = 7}, 3).held().layers().begin, 3);
  EXPECT_EQ(whole.of_rank({.expert = 3, .pipeline = 2}, 4).held().experts().begin, 2);
}

}  // namespace
}  // namespace moe::test
