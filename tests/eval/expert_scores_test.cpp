// The scores of experts and the experts that a text needs: against an independent program, and by hand.

#include "eval/expert_scores.h"

#include <cmath>
#include <numeric>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "infer/loaded_model.h"
#include "infer/scorer.h"
#include "tests/eval/evaluation.h"
#include "tests/support/golden.h"
#include "tests/support/machines.h"

namespace moe {
namespace {

Json expected_choices() { return read_json(golden_folder() / "experts/choices.json"); }

TEST(ChooseExperts, AgreesWithAnIndependentProgramOnTablesOfSums) {
  const Json golden = expected_choices();
  const Json& tables = golden.at("tables");
  ASSERT_GT(tables.size(), 30u);
  for (const Json& table : tables) {
    const auto sums = table.at("sums").get<std::vector<double>>();
    EXPECT_EQ(choose_experts(sums, table.at("total"), table.at("p")), table.at("experts").get<std::vector<int64_t>>())
        << table.at("name");
  }
}

TEST(ExpertScores, AgreeWithAnIndependentProgramOnTheRoutesOfPyTorch) {
  Machine machine("cpu");
  const Json golden = expected_choices();
  for (const Json& wanted : golden.at("cases")) {
    const std::string label = wanted.at("case");
    SCOPED_TRACE(label);
    const fs::path folder = golden_folder() / label;
    const SafetensorsFile file(folder / "golden.safetensors");
    const auto& shape = file.find("input.tokens")->shape;
    Batch batch = golden_batch(file, shape[0], shape[1]);
    for (size_t t = 0; t < batch.domain.size(); ++t) batch.domain[t] = batch.segment_id[t] < 0 ? -1 : 0;
    const LoadedModel model(folder, DType::f32, *machine.device);
    const ModelConfig& config = model.config();
    Scorer scorer({model.model(), DType::f32, *machine.device, *machine.backend},
                  static_cast<int64_t>(batch.tokens.size()), shape[1], ChosenIds::with_gates);
    scorer.losses(batch);
    ExpertScores scores(config.moe_layers(), config.n_routed_experts);
    scores.add(batch, scorer.chosen_ids(), scorer.chosen_gates());
    EXPECT_EQ(scores.tokens, batch.num_tokens);
    ASSERT_EQ(wanted.at("layers").size(), static_cast<size_t>(scores.layers));
    for (int64_t layer = 0; layer < scores.layers; ++layer) {
      const Json& of_layer = wanted.at("layers")[static_cast<size_t>(layer)];
      for (const ExpertRule rule : {ExpertRule::token, ExpertRule::gate}) {
        const auto sums = scores.sums(rule, layer);
        for (size_t e = 0; e < sums.size(); ++e) {
          EXPECT_NEAR(sums[e] / scores.total(rule, layer), of_layer.at(name(rule))[e].get<double>(), 1e-6);
        }
      }
      for (const Json& choice : of_layer.at("choices")) {
        const ExpertRule rule = choice.at("rule") == "token" ? ExpertRule::token : ExpertRule::gate;
        EXPECT_EQ(choose_experts(scores.sums(rule, layer), scores.total(rule, layer), choice.at("p")),
                  choice.at("experts").get<std::vector<int64_t>>())
            << choice;
      }
    }
  }
}

TEST(ExpertScores, DoNotDependOnRowsAndCountEveryTokenOnce) {
  TinyRuntime tiny;
  const MemoryDocuments documents = mixed_documents();
  const ExpertScores one = score_experts(tiny.runtime, documents, {.sequence_length = 16, .batch_rows = 1});
  const ExpertScores many = score_experts(tiny.runtime, documents, {.sequence_length = 16, .batch_rows = 100});
  EXPECT_EQ(one.chosen, many.chosen);
  int64_t tokens = 0;
  for (int64_t d = 0; d < documents.count(); ++d) tokens += documents.length(d);
  EXPECT_EQ(one.tokens, tokens);
  const auto top_k = static_cast<double>(tiny.runtime.model.config().num_experts_per_tok);
  for (int64_t layer = 0; layer < one.layers; ++layer) {
    const auto sums = one.sums(ExpertRule::token, layer);
    EXPECT_EQ(std::accumulate(sums.begin(), sums.end(), 0.0), top_k * static_cast<double>(tokens));
    EXPECT_EQ(one.total(ExpertRule::token, layer), top_k * static_cast<double>(tokens));
    for (size_t e = 0; e < sums.size(); ++e) {
      EXPECT_NEAR(one.sums(ExpertRule::gate, layer)[e], many.sums(ExpertRule::gate, layer)[e], 1e-4);
    }
  }
}

TEST(ShuffledStart, TakesDocumentsInTheSeedsOrderUpToTheTokensAndCutsTheLast) {
  const MemoryDocuments documents = mixed_documents();
  const ShuffledStart all(documents, 7, 1 << 20);
  EXPECT_EQ(all.count(), documents.count());
  std::multiset<int64_t> lengths, expected;
  for (int64_t d = 0; d < all.count(); ++d) lengths.insert(all.length(d)), expected.insert(documents.length(d));
  EXPECT_EQ(lengths, expected);
  const ShuffledStart some(documents, 7, 60), other(documents, 8, 1 << 20);
  EXPECT_EQ(some.tokens(), 60);
  int64_t sum = 0;
  for (int64_t d = 0; d < some.count(); ++d) {
    sum += some.length(d);
    std::vector<int32_t> here(static_cast<size_t>(some.length(d))), there(here.size());
    some.copy_tokens(d, 0, some.length(d), here.data());
    all.copy_tokens(d, 0, some.length(d), there.data());
    EXPECT_EQ(here, there);
  }
  EXPECT_EQ(sum, 60);
  bool differs = false;
  for (int64_t d = 0; d < all.count(); ++d) differs = differs || all.length(d) != other.length(d);
  EXPECT_TRUE(differs);
}

TEST(ShuffledStart, ReadsPromptsAndAnswersAlike) {
  MemoryDocuments documents;
  documents.add({1, 2, 3, 4}, {0, 0, 1, 1}, documents.add_domain("chat"), 4);
  EXPECT_EQ(count_targets(ShuffledStart(documents, 1, 100), 0), 3);
}

}  // namespace
}  // namespace moe
