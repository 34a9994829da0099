// Every expert masked in turn: the short way of computing it has the bits of the long one, whatever the method.

#include "eval/causal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/hf_config.h"
#include "tests/eval/evaluation.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

using testing::HasSubstr;

fs::path golden(const std::string& name) { return fs::path(MOE_SOURCE_DIR) / "tests" / "golden" / name; }

/// Short documents of two domains in rows of 8, so that in most rows some experts have no token.
MemoryDocuments short_documents() {
  return make_documents({{"a", 5}, {"b", 7}, {"a", 3}, {"b", 19}, {"a", 2}, {"b", 1}, {"a", 6}, {"b", 4}, {"a", 11}});
}

struct Loaded {
  explicit Loaded(const std::string& name) : model(golden(name), DType::f32, *device) {}

  CausalEffects causal(const Documents& documents, const CausalOptions& options) const {
    return measure_causal(model, *device, *backend, documents, options);
  }

  ThreadPool pool{2};
  std::unique_ptr<Device> device = make_cpu_device();
  std::unique_ptr<Backend> backend = make_cpu_backend(pool);
  LoadedModel model;
};

/// A full pass over the same rows with these switches.
EvaluationResult long_way(Loaded& loaded, const Documents& documents, const CausalOptions& options,
                          const RoutingSwitches& switches) {
  loaded.model.set_switches(switches);
  EvaluationResult result =
      evaluate({loaded.model.model(), DType::f32, *loaded.device, *loaded.backend}, documents,
               {.sequence_length = options.sequence_length, .batch_rows = options.batch_rows, .keep_documents = true});
  loaded.model.set_switches({});
  return result;
}

RoutingSwitches with_mask(RoutingSwitches switches, int64_t layer, int64_t expert) {
  switches.masked.push_back({.layer = layer, .experts = {expert}});
  return switches;
}

/// Compares everything with full passes. Returns the number of masks that changed a loss.
int compare(Loaded& loaded, const Documents& documents, const CausalOptions& options) {
  const CausalEffects effects = loaded.causal(documents, options);
  const EvaluationResult plain = long_way(loaded, documents, options, options.switches);
  EXPECT_EQ(effects.unmasked, plain.document_nats);
  EXPECT_EQ(effects.routing.counts, plain.routing.counts);
  EXPECT_EQ(effects.routing.dropped, plain.routing.dropped);
  int changed = 0;
  for (const CausalLayer& layer : effects.layers) {
    for (size_t expert = 0; expert < layer.masked.size(); ++expert) {
      const RoutingSwitches switches = with_mask(options.switches, layer.layer, static_cast<int64_t>(expert));
      const DocumentNats expected = long_way(loaded, documents, options, switches).document_nats;
      EXPECT_EQ(layer.masked[expert], expected) << "layer " << layer.layer << ", expert " << expert;
      changed += expected == effects.unmasked ? 0 : 1;
    }
    if (!layer.unshared) continue;
    RoutingSwitches switches = options.switches;
    switches.without_shared = {layer.layer};
    const DocumentNats expected = long_way(loaded, documents, options, switches).document_nats;
    EXPECT_EQ(*layer.unshared, expected) << "layer " << layer.layer << ", shared experts";
    EXPECT_NE(expected, effects.unmasked);
  }
  return changed;
}

class CausalMethods : public testing::TestWithParam<const char*> {};

TEST_P(CausalMethods, HaveTheBitsOfFullPassesWithEachMask) {
  Loaded loaded(GetParam());
  const MemoryDocuments documents = short_documents();
  const int64_t batch_rows[] = {1, 3};
  for (const int64_t rows : batch_rows) {
    EXPECT_GT(compare(loaded, documents, {.sequence_length = 8, .batch_rows = rows}), 1) << rows << " rows at once";
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, CausalMethods,
                         testing::Values("moe_basic", "switch", "gshard_original", "st_moe", "noisy_topk", "stable",
                                         "mixtral", "device_limited", "loss_free_sigmoid", "loss_free_softmax"),
                         [](const auto& test) { return std::string(test.param); });

// A skipped expert is not among the chosen ones, but its mask lets another one be skipped.
TEST(Causal, HoldsUnderOtherSwitchesToo) {
  Loaded loaded("moe_basic");
  const MemoryDocuments documents = short_documents();
  EXPECT_GT(compare(loaded, documents, {.sequence_length = 8, .batch_rows = 4, .switches = {.skip = 1}}), 1);
  EXPECT_GT(compare(loaded, documents,
                    {.sequence_length = 8,
                     .batch_rows = 4,
                     .switches = {.experts_per_token = 2, .masked = {{.layer = 2, .experts = {1}}}}}),
            1);
}

TEST(Causal, LeavesSharedExpertsOutOnlyWhereThereAreSome) {
  Loaded loaded("moe_basic"), mixtral("mixtral");
  const MemoryDocuments documents = short_documents();
  CausalOptions options{.sequence_length = 8, .batch_rows = 4};
  for (const CausalLayer& layer : loaded.causal(documents, options).layers) EXPECT_TRUE(layer.unshared.has_value());
  for (const CausalLayer& layer : mixtral.causal(documents, options).layers) EXPECT_FALSE(layer.unshared.has_value());
  options.switches.drop_shared = true;
  for (const CausalLayer& layer : loaded.causal(documents, options).layers) EXPECT_FALSE(layer.unshared.has_value());
}

TEST(Causal, OfSomeLayersIsThatPartOfAllLayers) {
  Loaded loaded("moe_basic");
  const MemoryDocuments documents = short_documents();
  const CausalEffects all = loaded.causal(documents, {.sequence_length = 8, .batch_rows = 2});
  const CausalEffects one = loaded.causal(documents, {.sequence_length = 8, .batch_rows = 5, .layers = {2, 2}});
  ASSERT_EQ(all.layers.size(), 2u);
  ASSERT_EQ(one.layers.size(), 1u);
  EXPECT_EQ(one.layers[0].layer, 2);
  EXPECT_EQ(one.layers[0].masked, all.layers[1].masked);
  EXPECT_EQ(one.layers[0].unshared, all.layers[1].unshared);
  EXPECT_NE(all.layers[0].masked, all.layers[1].masked);
  EXPECT_EQ(one.routing.counts, all.routing.counts);
}

TEST(Causal, CountsLoadsAndGatesOnce) {
  Loaded loaded("moe_basic");
  const MemoryDocuments documents = short_documents();
  const CausalEffects effects = loaded.causal(documents, {.sequence_length = 8, .batch_rows = 2});
  const ExpertScores scores = score_experts({loaded.model.model(), DType::f32, *loaded.device, *loaded.backend},
                                            documents, {.sequence_length = 8, .batch_rows = 2});
  EXPECT_EQ(effects.scores.tokens, 58);
  EXPECT_EQ(effects.scores.chosen, scores.chosen);
  EXPECT_EQ(effects.scores.gates, scores.gates);
  for (int64_t layer = 0; layer < scores.layers; ++layer) {
    const std::vector<int64_t> counts = effects.routing.of(layer);
    const auto sums = scores.sums(ExpertRule::token, layer);
    EXPECT_EQ(std::vector<double>(counts.begin(), counts.end()), std::vector<double>(sums.begin(), sums.end()));
  }
}

TEST(Causal, TellsHowFarItIs) {
  Loaded loaded("moe_basic");
  const MemoryDocuments documents = short_documents();
  int64_t calls = 0, last = 0, all = 0;
  loaded.causal(documents, {.sequence_length = 8, .batch_rows = 3, .progress = [&](int64_t done, int64_t in_all) {
                              EXPECT_GT(done, last);
                              ++calls, last = done, all = in_all;
                            }});
  EXPECT_GT(calls, 2 * 10);  // 9 experts and the shared ones, in 2 layers
  EXPECT_EQ(last, all);
}

TEST(CheckCausal, RefusesWhatCannotBeMasked) {
  const auto refusal = [](const char* name, const CausalOptions& options) {
    return test::error_of([&] { check_causal("runs/x", read_hf_config(golden(name)), options); });
  };
  const CausalOptions plain{.sequence_length = 8};
  EXPECT_EQ(refusal("dense", plain), "runs/x has no routed experts, so there is none to mask");
  EXPECT_THAT(refusal("hash", plain), HasSubstr("do not choose their experts by score (routing = hash)"));
  EXPECT_THAT(refusal("expert_choice", plain), HasSubstr("(routing = expert_choice)"));
  EXPECT_THAT(refusal("moe_basic", {.sequence_length = 8, .switches = {.experts_per_token = 9}}),
              HasSubstr("expert 0 of layer 1 cannot be masked: the mask of layer 1 leaves 8 experts"));
  EXPECT_EQ(test::error_of<UsageError>([&] {
              check_causal("runs/x", read_hf_config(golden("moe_basic")), {.sequence_length = 8, .layers = {0}});
            }),
            "--layer 0: runs/x has routed experts in the layers 1, 2");
}

TEST(Causal, NeedsATarget) {
  Loaded loaded("moe_basic");
  const MemoryDocuments documents = make_documents({{"a", 1}, {"b", 1}});
  EXPECT_THAT(test::error_of([&] { loaded.causal(documents, {.sequence_length = 8}); }),
              HasSubstr("no document has two tokens or more"));
}

}  // namespace
}  // namespace moe
