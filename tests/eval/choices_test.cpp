// Which experts the same tokens chose and which tokens each expert took: by hand, and against a recount for every
// routing method.

#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/batch_source.h"
#include "eval/choice_statistics.h"
#include "eval/token_text.h"
#include "infer/scorer.h"
#include "tests/eval/evaluation.h"
#include "tests/support/methods.h"

namespace moe {
namespace {

using testing::ElementsAre;

constexpr int64_t kRow = 16;

MemoryDocuments one_document(const std::vector<int32_t>& ids) {
  MemoryDocuments documents;
  documents.add(ids, documents.add_domain("a"), 1);
  return documents;
}

// A row of the ids with padding behind them.
Batch one_row(const std::vector<int32_t>& ids, size_t padding) {
  Batch batch = single_document(ids);
  batch.tokens.resize(ids.size() + padding, 0);
  batch.domain.resize(ids.size() + padding, -1);
  return batch;
}

std::vector<int64_t> matrix(const ChoiceStatistics& statistics, int64_t layer) {
  const int64_t size = statistics.experts * statistics.experts;
  const auto begin = statistics.pairs.begin() + layer * size;
  return {begin, begin + size};
}

// Tokens 5 7 5 7 9, one layer, four experts, two slots; what stands on padding must not count.
ChoiceStatistics by_hand(int64_t min_count = 2) {
  const std::vector<int32_t> ids{5, 7, 5, 7, 9}, chosen{0, 1, 0, 2, 1, 0, 2, 3, 3, -1, 2, 3};
  ChoiceCounter counter(one_document(ids), 1, 4, min_count);
  counter.add(one_row(ids, 1), chosen);
  return counter.statistics();
}

TEST(ChoiceCounter, CountsPairsAndTokensByHand) {
  const ChoiceStatistics statistics = by_hand();
  EXPECT_EQ(statistics.tokens, 5);
  EXPECT_THAT(matrix(statistics, 0), ElementsAre(3, 2, 1, 0,  //
                                                 2, 2, 0, 0,  //
                                                 1, 0, 2, 1,  //
                                                 0, 0, 1, 2));
  EXPECT_THAT(statistics.ids, ElementsAre(5, 7));
  EXPECT_THAT(statistics.seen, ElementsAre(2, 2));
  EXPECT_THAT(statistics.taken, ElementsAre(2, 2, 0, 0, 1, 0, 2, 1));
  EXPECT_THAT(by_hand(1).ids, ElementsAre(5, 7, 9));
  EXPECT_THAT(by_hand(3).ids, ElementsAre());
}

TEST(ChoiceCounter, AddsBatchesAndTellsLayersApart) {
  const std::vector<int32_t> ids{1, 2};
  ChoiceCounter counter(one_document({1, 2, 1, 2}), 2, 3, 1);
  counter.add(one_row(ids, 0), std::vector<int32_t>{0, 1, 2, 2});
  counter.add(one_row(ids, 0), std::vector<int32_t>{0, 0, 2, 1});
  EXPECT_EQ(counter.statistics().tokens, 4);
  EXPECT_THAT(matrix(counter.statistics(), 0), ElementsAre(3, 0, 0, 0, 1, 0, 0, 0, 0));
  EXPECT_THAT(matrix(counter.statistics(), 1), ElementsAre(0, 0, 0, 0, 1, 0, 0, 0, 3));
  EXPECT_THAT(counter.statistics().taken, ElementsAre(2, 0, 0, 1, 1, 0, 0, 0, 2, 0, 1, 1));
}

TEST(TopPairs, AreTheMostFrequentBesideIndependence) {
  const auto pairs = top_pairs(by_hand(), 0, 10);
  ASSERT_EQ(pairs.size(), 3u);
  EXPECT_EQ(std::tuple(pairs[0].first, pairs[0].second, pairs[0].tokens), std::tuple(0, 1, 2));
  EXPECT_EQ(std::tuple(pairs[1].first, pairs[1].second, pairs[1].tokens), std::tuple(0, 2, 1));
  EXPECT_EQ(std::tuple(pairs[2].first, pairs[2].second, pairs[2].tokens), std::tuple(2, 3, 1));
  // Four pairs in all; products 6 6 6 4 4 4 of the experts' 3 2 2 2 tokens.
  EXPECT_DOUBLE_EQ(pairs[0].expected, 4 * 6.0 / 30);
  EXPECT_DOUBLE_EQ(pairs[2].expected, 4 * 4.0 / 30);
  EXPECT_EQ(top_pairs(by_hand(), 0, 1).size(), 1u);
}

TEST(TopPairs, OfEveryPairOnceAreAsExpected) {
  std::vector<int32_t> ids, chosen;
  for (int32_t first = 0; first < 5; ++first) {
    for (int32_t second = first + 1; second < 5; ++second) {
      ids.push_back(0);
      chosen.insert(chosen.end(), {second, first});
    }
  }
  ChoiceCounter counter(one_document(ids), 1, 5, 1);
  counter.add(one_row(ids, 0), chosen);
  const auto pairs = top_pairs(counter.statistics(), 0, 100);
  ASSERT_EQ(pairs.size(), 10u);
  for (const ExpertPair& pair : pairs) EXPECT_DOUBLE_EQ(pair.expected, static_cast<double>(pair.tokens));
}

TEST(TopPairs, OfOneExpertPerTokenAreNone) {
  const std::vector<int32_t> ids{1, 2};
  ChoiceCounter counter(one_document(ids), 1, 3, 1);
  counter.add(one_row(ids, 0), std::vector<int32_t>{0, 2});
  EXPECT_TRUE(top_pairs(counter.statistics(), 0, 5).empty());
}

TEST(TopTokens, HaveTheLargestShareOfOccurrences) {
  const auto first = top_tokens(by_hand(), 0, 0, 10);
  ASSERT_EQ(first.size(), 2u);
  EXPECT_EQ(std::tuple(first[0].id, first[0].seen, first[0].share), std::tuple(5, 2, 1.0));
  EXPECT_EQ(std::tuple(first[1].id, first[1].seen, first[1].share), std::tuple(7, 2, 0.5));
  EXPECT_EQ(top_tokens(by_hand(), 0, 0, 1).size(), 1u);
  EXPECT_EQ(top_tokens(by_hand(), 0, 3, 10).size(), 1u);  // token 9 is too rare
  EXPECT_EQ(top_tokens(by_hand(1), 0, 3, 10)[0].id, 9);
}

TEST(TopTokens, OfEqualShareAreTheFrequentThenTheLower) {
  const std::vector<int32_t> ids{3, 4, 4, 2};
  ChoiceCounter counter(one_document(ids), 1, 1, 1);
  counter.add(one_row(ids, 0), std::vector<int32_t>{0, 0, 0, 0});
  std::vector<int32_t> order;
  for (const TakenToken& token : top_tokens(counter.statistics(), 0, 0, 10)) order.push_back(token.id);
  EXPECT_THAT(order, ElementsAre(4, 2, 3));
}

// The same counts row by row from what the router counted for each token by itself.
struct Recount {
  std::vector<int64_t> pairs;
  std::vector<uint32_t> taken;  // [L, vocabulary, E]
  int64_t tokens = 0;
};

Recount recount(const ModelOnDevice& runtime, const Documents& documents) {
  const ModelConfig& config = runtime.model.config();
  const int64_t layers = config.moe_layers(), experts = config.n_routed_experts;
  Recount result{.pairs = std::vector<int64_t>(static_cast<size_t>(layers * experts * experts)),
                 .taken = std::vector<uint32_t>(static_cast<size_t>(layers * config.vocab_size * experts))};
  const BatchSource source(documents, {.sequence_length = kRow, .rows_per_step = 1, .order = DataOrder::once});
  Scorer scorer(runtime, kRow, kRow, ChosenIds::forgotten, kRow);
  for (int64_t step = 0; step < source.steps_per_epoch(); ++step) {
    const Batch batch = source.rows(step, 0, 1);
    std::vector<int32_t> alone;
    for (int32_t t = 0; t < kRow; ++t) alone.push_back(batch.domain[static_cast<size_t>(t)] < 0 ? -1 : t);
    ChoiceCounts counts;
    scorer.losses(batch, alone, kRow, counts);
    result.tokens += batch.num_tokens;
    for (size_t i = 0; i < counts.chosen.size(); ++i) {
      if (counts.chosen[i] == 0) continue;
      const auto first = static_cast<int64_t>(i) % experts, begin = static_cast<int64_t>(i) - first;
      const int64_t layer = begin / (kRow * experts), token = begin / experts % kRow;
      const int64_t id = batch.tokens[static_cast<size_t>(token)];
      ++result.taken[static_cast<size_t>((layer * config.vocab_size + id) * experts + first)];
      for (int64_t second = 0; second < experts; ++second) {
        if (counts.chosen[static_cast<size_t>(begin + second)] > 0) {
          ++result.pairs[static_cast<size_t>((layer * experts + first) * experts + second)];
        }
      }
    }
  }
  return result;
}

class EveryMethod : public testing::TestWithParam<MethodCase> {};

TEST_P(EveryMethod, CountsWhatARecountFinds) {
  const MethodCase& method = GetParam();
  TinyRuntime tiny(2, method.config);
  spread_zero_parameters(tiny.step.run, *tiny.device);
  tiny.step.run.parameters_from_masters();
  const MemoryDocuments documents = mixed_documents();
  const ChoiceStatistics found =
      evaluate(tiny.runtime, documents,
               {.sequence_length = kRow, .batch_rows = 3, .count_choices = true, .min_count = 1})
          .choices;
  const Recount expected = recount(tiny.runtime, documents);
  EXPECT_EQ(found.tokens, 173);
  EXPECT_EQ(found.tokens, expected.tokens);
  EXPECT_EQ(found.pairs, expected.pairs);
  const int64_t experts = method.config.n_routed_experts, vocabulary = method.config.vocab_size;
  for (int64_t layer = 0; layer < found.layers; ++layer) {
    for (size_t i = 0; i < found.ids.size(); ++i) {
      for (int64_t e = 0; e < experts; ++e) {
        const size_t at = (static_cast<size_t>(layer) * found.ids.size() + i) * static_cast<size_t>(experts);
        EXPECT_EQ(found.taken[at + static_cast<size_t>(e)],
                  expected.taken[static_cast<size_t>((layer * vocabulary + found.ids[i]) * experts + e)]);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, EveryMethod, testing::ValuesIn(method_cases()),
                         [](const auto& test) { return test.param.name; });

TEST(EvaluateChoices, DoNotDependOnRowsOrThreadsAndChangeNoLoss) {
  const MemoryDocuments documents = mixed_documents();
  for (const char* name : {"deepseekmoe", "gshard_original"}) {  // without and with a capacity
    const ModelConfig config = method_case(name).config;
    TinyRuntime one(1, config), two(2, config);
    const auto run = [&](const ModelOnDevice& runtime, int64_t rows, bool count) {
      return evaluate(runtime, documents,
                      {.sequence_length = kRow, .batch_rows = rows, .count_choices = count, .min_count = 3});
    };
    const EvaluationResult plain = run(one.runtime, 1, false), expected = run(one.runtime, 1, true);
    EXPECT_TRUE(plain.choices.pairs.empty());
    EXPECT_EQ(plain.all.nats, expected.all.nats);
    EXPECT_EQ(plain.routing.counts, expected.routing.counts);
    for (const int64_t rows : {1, 2, 3, 8, 100}) {
      const EvaluationResult found = run(two.runtime, rows, true);
      EXPECT_EQ(found.all.nats, expected.all.nats);
      EXPECT_EQ(found.choices.pairs, expected.choices.pairs);
      EXPECT_EQ(found.choices.ids, expected.choices.ids);
      EXPECT_EQ(found.choices.taken, expected.choices.taken);
    }
    // The diagonal is the load: both count choices before any is dropped.
    for (int64_t layer = 0; layer < expected.choices.layers; ++layer) {
      const std::vector<int64_t> load = expected.routing.of(layer);
      for (int64_t e = 0; e < expected.choices.experts; ++e) {
        EXPECT_EQ(expected.choices.pair(layer, e, e), load[static_cast<size_t>(e)]);
      }
    }
  }
}

TEST(EvaluateChoices, OfADenseModelAreNone) {
  ModelConfig dense = tiny_config();
  dense.n_routed_experts = 0;
  TinyRuntime tiny(1, dense);
  const auto result = evaluate(tiny.runtime, mixed_documents(), {.sequence_length = kRow, .count_choices = true});
  EXPECT_EQ(result.choices.layers, 0);
  EXPECT_GT(result.all.nats, 0);
}

TEST(Readable, IsOneLineOfValidText) {
  EXPECT_EQ(readable(" plain 汉字 é"), " plain 汉字 é");
  EXPECT_EQ(readable("a\n\tb\r\\"), "a\\n\\tb\\r\\\\");
  EXPECT_EQ(readable(std::string_view("\0\x1b\x7f", 3)), "\\x00\\x1b\\x7f");
  EXPECT_EQ(readable("\xe6\xb1!\xff"), "\\xe6\\xb1!\\xff");  // a cut character, and no character
  EXPECT_EQ(readable("\xc2\x9b"), "\\xc2\\x9b");             // a control character above 127
  EXPECT_EQ(readable(""), "");
}

}  // namespace
}  // namespace moe
