// The table of experts: changes, loads and lists, against numbers worked out by hand.

#include "eval/causal_report.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/hf_config.h"
#include "eval/domain_starts.h"
#include "tests/eval/evaluation.h"

namespace moe {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

/// Layer 1 of 2, six experts, K 1. Loads 40 30 15 9 6 0 of 100 tokens.
ModelConfig six_experts() {
  ModelConfig config = tiny_config();
  config.num_hidden_layers = 2;
  config.num_experts_per_tok = 1;
  return config;
}

/// Three documents: 41 and 21 tokens of "a", 38 of "b"; 40, 20 and 37 targets.
MemoryDocuments three_documents() { return make_documents({{"a", 41}, {"a", 21}, {"b", 38}}); }

CausalEffects effects_by_hand() {
  CausalEffects effects{.unmasked = {80, 50, 100},
                        .layers = {},
                        .routing = {.layers = 1, .groups = 2, .experts = 6, .counts = {}},
                        .scores = ExpertScores(1, 6)};
  effects.routing.counts = {32, 20, 10, 0, 0, 0, /* b */ 8, 10, 5, 9, 6, 0};
  effects.scores.tokens = 100;
  effects.scores.chosen = {40, 30, 15, 9, 6, 0};
  effects.scores.gates = {20, 27, 3, 4.5, 5.4, 0};
  effects.scores.choices = {100};
  CausalLayer layer{.layer = 1};
  layer.masked = {{80, 50, 100},   // 0: busy, and nothing changes
                  {90, 53, 100},   // 1: +13
                  {79, 50, 98},    // 2: -3
                  {80, 50, 101},   // 3: +1
                  {80, 50, 137},   // 4: quiet, +37
                  {80, 50, 100}};  // 5: nobody chose it
  layer.unshared = DocumentNats{160, 100, 200};
  effects.layers = {layer};
  return effects;
}

const CausalExpert& expert(const CausalTable& table, int64_t number) {
  for (const CausalExpert& one : table.layers[0].experts) {
    if (one.expert == number) return one;
  }
  throw std::out_of_range("no such expert");
}

struct ByHand {
  MemoryDocuments documents = three_documents();
  CausalTable table = causal_table(effects_by_hand(), documents, six_experts());
};

TEST(CausalTable, HasTheChangeOfTheLossPerTargetMaskedLessUnmasked) {
  const ByHand hand;
  EXPECT_EQ(hand.table.all.documents, 3);
  EXPECT_EQ(hand.table.all.tokens, 100);
  EXPECT_EQ(hand.table.all.targets, 97);
  EXPECT_DOUBLE_EQ(hand.table.all.loss, 230.0 / 97);
  const Comparison& one = expert(hand.table, 1).change;
  EXPECT_NEAR(one.all.difference, 13.0 / 97, 1e-12);
  ASSERT_EQ(one.domains.size(), 2u);
  EXPECT_NEAR(one.domains[0].second.difference, 13.0 / 60, 1e-12);
  EXPECT_EQ(one.domains[1].second.difference, 0);
  EXPECT_NEAR(expert(hand.table, 2).change.all.difference, -3.0 / 97, 1e-12);
  EXPECT_EQ(expert(hand.table, 5).change.all.difference, 0);
  EXPECT_NEAR(hand.table.layers[0].unshared->all.difference, 230.0 / 97, 1e-12);
  EXPECT_TRUE(std::isnan(one.domains[1].second.error)) << "one document has no interval";
  EXPECT_GT(one.domains[0].second.error, 0);
}

TEST(CausalTable, HasLoadsAsSharesOfTokensAndMeanGates) {
  const ByHand hand;
  EXPECT_DOUBLE_EQ(expert(hand.table, 0).load, 0.4);
  EXPECT_DOUBLE_EQ(expert(hand.table, 0).gate, 0.5);
  EXPECT_DOUBLE_EQ(expert(hand.table, 1).gate, 0.9);
  EXPECT_THAT(expert(hand.table, 3).domain_tokens, ElementsAre(0, 9));
  EXPECT_TRUE(std::isnan(expert(hand.table, 5).gate));
  double loads = 0;
  for (const CausalExpert& one : hand.table.layers[0].experts) loads += one.load;
  EXPECT_DOUBLE_EQ(loads, 1) << "one expert a token";
}

TEST(CausalTable, SortsExpertsAndTellsBusyOnesFromThoseThatMatter) {
  const ByHand hand;
  std::vector<int64_t> order;
  for (const CausalExpert& one : hand.table.layers[0].experts) order.push_back(one.expert);
  EXPECT_THAT(order, ElementsAre(4, 1, 3, 0, 5, 2));
  // Thirds of two: the largest loads 0 and 1, the smallest changes 2 and 0; the smallest loads 4 and 5, the largest
  // changes 4 and 1.
  EXPECT_THAT(hand.table.layers[0].busy, ElementsAre(0));
  EXPECT_THAT(hand.table.layers[0].quiet, ElementsAre(4));
  // Ranks of loads 6 5 4 3 2 1, of changes 2.5 5 1 4 6 2.5.
  EXPECT_NEAR(hand.table.layers[0].rank_correlation, -3 / std::sqrt(17.5 * 17), 1e-12);
}

TEST(CausalTable, OfEqualEffectsHasNoCorrelation) {
  CausalEffects effects = effects_by_hand();
  for (DocumentNats& nats : effects.layers[0].masked) nats = effects.unmasked;
  const MemoryDocuments documents = three_documents();
  const CausalTable table = causal_table(effects, documents, six_experts());
  EXPECT_TRUE(std::isnan(table.layers[0].rank_correlation));
  EXPECT_THAT(causal_text(table), HasSubstr("rank correlation of load and change: none"));
  EXPECT_TRUE(causal_json(table).at("layers")[0].at("rank_correlation").is_null());
}

TEST(CausalReport, PrintsALineForEachExpertWithTheDomains) {
  const std::string text = causal_text(ByHand().table);
  EXPECT_THAT(text, HasSubstr("100 tokens of 3 documents, 97 predicted: 2.3711 nats per token"));
  EXPECT_THAT(text, HasSubstr("layer 1: change of the loss without an expert, nats per token"));
  EXPECT_THAT(text, testing::ContainsRegex("expert +load +gate +all text +a +b\n"));
  EXPECT_THAT(text, testing::ContainsRegex("shared +\\+2.3711 "));
  EXPECT_THAT(text,
              testing::ContainsRegex("     4   6.00%  0.900 +\\+0.3814 ± [0-9.]+ +\\+0.0000 ± 0.0000 +\\+1.0000\n"));
  EXPECT_THAT(text, testing::ContainsRegex("     5   0.00%      - +\\+0.0000 ± 0.0000"));
  EXPECT_THAT(text, testing::ContainsRegex("busy, but matter little [^:]*: 0\n"));
  EXPECT_THAT(text, testing::ContainsRegex("quiet, but matter [^:]*: 4\n"));
}

TEST(CausalReport, GivesProgramsTheSameNumbers) {
  const ByHand hand;
  const Json json = causal_json(hand.table);
  EXPECT_EQ(json.at("domains").at("b").at("targets"), 37);
  const Json& layer = json.at("layers")[0];
  EXPECT_EQ(layer.at("quiet"), Json::array({4}));
  EXPECT_EQ(layer.at("experts")[0].at("expert"), 4);
  EXPECT_EQ(layer.at("experts")[0].at("domain_tokens").at("b"), 6);
  EXPECT_EQ(layer.at("experts")[0].at("change").at("all").at("difference"),
            expert(hand.table, 4).change.all.difference);
  EXPECT_EQ(layer.at("shared").at("domains").at("a").at("documents"), 2);
  const std::vector<Row> rows = causal_rows(hand.table);
  ASSERT_EQ(rows.size(), 7u * 3);
  EXPECT_EQ(rows[0].at("expert"), "shared");
  EXPECT_TRUE(rows[0].at("load").is_null());
  const Row& row = rows[5];  // expert 4 in "b"
  EXPECT_EQ(row.at("expert"), 4);
  EXPECT_EQ(row.at("domain"), "b");
  EXPECT_EQ(row.at("tokens"), 6);
  EXPECT_DOUBLE_EQ(row.at("load").get<double>(), 6.0 / 38);
  EXPECT_NEAR(row.at("change").get<double>(), 1, 1e-12);
  EXPECT_TRUE(row.at("change_error").is_null());
}

TEST(CausalReport, OfManyDomainsHasAColumnForAllText) {
  MemoryDocuments documents;
  const MemoryDocuments three = three_documents();
  for (int i = 0; i < 7; ++i) documents.add({1, 2, 3}, documents.add_domain(fmt::format("domain-{}", i)), 3);
  CausalEffects effects = effects_by_hand();
  effects.unmasked.assign(7, 5.0);
  effects.layers[0].masked.assign(6, DocumentNats(7, 6.0));
  effects.layers[0].unshared.reset();
  effects.routing.groups = 7;
  effects.routing.counts.assign(6 * 7, 1);
  const CausalTable table = causal_table(effects, documents, six_experts());
  const std::string text = causal_text(table);
  EXPECT_THAT(text, AllOf(Not(HasSubstr("domain-3")), Not(HasSubstr("shared")),
                          HasSubstr("7 domains are too many for columns")));
  EXPECT_EQ(causal_rows(table).size(), 6u * 8);
}

TEST(CausalReport, LeavesOutDomainsWithoutDocumentsAndBearsThoseWithoutTargets) {
  MemoryDocuments documents;
  documents.add_domain("empty");
  documents.add({1, 2, 3}, documents.add_domain("text"), 3);
  documents.add({1}, documents.add_domain("short"), 1);
  CausalEffects effects = effects_by_hand();
  effects.unmasked = {5, 0};
  effects.layers[0].masked.assign(6, DocumentNats{6, 0});
  effects.layers[0].unshared.reset();
  effects.routing.groups = 3;
  effects.routing.counts = {0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0};
  const CausalTable table = causal_table(effects, documents, six_experts());
  ASSERT_EQ(table.domains.size(), 2u);
  EXPECT_THAT(expert(table, 0).domain_tokens, ElementsAre(3, 1));
  EXPECT_THAT(causal_text(table), testing::ContainsRegex(" \\+0.5000 +\\+0.5000 +-\n"));
  EXPECT_TRUE(causal_json(table).at("domains").at("short").at("loss").is_null());
  EXPECT_THAT(rows_as_csv(causal_rows(table)), HasSubstr("\n1,0,short,0,1,1.0,,,,,\n"));
}

std::vector<std::pair<int32_t, int64_t>> parts_of(const DomainStarts& some) {
  std::vector<std::pair<int32_t, int64_t>> parts;
  for (int64_t d = 0; d < some.count(); ++d) parts.emplace_back(some.domain(d), some.length(d));
  return parts;
}

TEST(DomainStarts, TakeEquallyManyTokensOfEachDomain) {
  const MemoryDocuments documents =
      make_documents({{"a", 10}, {"b", 4}, {"a", 10}, {"c", 30}, {"a", 10}, {"b", 2}, {"c", 5}});
  // b has 6, which leaves 17 each: two documents of a fill that in rows of 10, and c needs both of its own.
  const DomainStarts some(documents, 40, 10);
  EXPECT_EQ(some.tokens(), 40);
  EXPECT_THAT(parts_of(some), ElementsAre(std::pair(0, 8), std::pair(1, 4), std::pair(0, 9), std::pair(2, 12),
                                          std::pair(1, 2), std::pair(2, 5)));
  std::vector<int32_t> here(9), there(9);
  some.copy_tokens(2, 0, 9, here.data());
  documents.copy_tokens(2, 0, 9, there.data());
  EXPECT_EQ(here, there);
  EXPECT_EQ(count_targets(some, 3), 11);
  const DomainStarts all(documents, 1000, 10);
  EXPECT_EQ(all.count(), documents.count());
  EXPECT_EQ(all.tokens(), 71);
}

TEST(DomainStarts, TakeManyDocumentsBeforeTheyTakeMoreThanARowOfOne) {
  const MemoryDocuments documents = make_documents({{"a", 100}, {"a", 3}, {"a", 100}, {"a", 100}, {"a", 100}});
  EXPECT_THAT(parts_of(DomainStarts(documents, 23, 10)),
              ElementsAre(std::pair(0, 10), std::pair(0, 3), std::pair(0, 10)));
  EXPECT_THAT(parts_of(DomainStarts(documents, 83, 10)),
              ElementsAre(std::pair(0, 20), std::pair(0, 3), std::pair(0, 20), std::pair(0, 20), std::pair(0, 20)));
}

TEST(DomainStarts, KeepsTheMarksOfAnswers) {
  MemoryDocuments documents;
  documents.add({1, 2, 3, 4, 5}, {0, 0, 0, 1, 1}, documents.add_domain("chat"), 4);
  EXPECT_TRUE(DomainStarts(documents, 4, 8).has_marks());
  EXPECT_EQ(count_targets(DomainStarts(documents, 4, 8), 0), 1);
}

}  // namespace
}  // namespace moe
