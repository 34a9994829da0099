#include "tokenizer/bpe.h"

#include <algorithm>
#include <limits>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "tests/tokenizer/support.h"

namespace moe {
namespace {

using testing::ElementsAre;

BpeModel byte_model() {
  BpeModel model;
  for (const std::string& letter : byte_letters()) model.tokens.push_back(letter);
  return model;
}

/// Random merges over a small alphabet, each of two tokens that exist already.
BpeModel random_model(const Random& random, int merges) {
  BpeModel model = byte_model();
  std::vector<int32_t> usable = {'a', 'b', 'c', 'd'};
  std::map<std::string, int32_t> known;
  for (uint64_t draw = 0; static_cast<int>(model.merges.size()) < merges; ++draw) {
    const int32_t left = usable[random.below(2 * draw, usable.size())];
    const int32_t right = usable[random.below(2 * draw + 1, usable.size())];
    const std::string joined = model.tokens[static_cast<size_t>(left)] + model.tokens[static_cast<size_t>(right)];
    if (joined.size() > 12) continue;
    const auto [entry, added] = known.try_emplace(joined, static_cast<int32_t>(model.tokens.size()));
    if (added) {
      model.tokens.push_back(joined);
      usable.push_back(entry->second);
    }
    model.merges.push_back({left, right, entry->second});
  }
  return model;
}

/// The definition: the pair of lowest rank, leftmost first, until there is none.
test::Ids merge_by_definition(const BpeModel& model, const std::string& word) {
  std::map<std::pair<int32_t, int32_t>, size_t> ranks;
  for (size_t rank = 0; rank < model.merges.size(); ++rank) {
    ranks[{model.merges[rank].left, model.merges[rank].right}] = rank;
  }
  test::Ids ids;
  for (const char c : word) ids.push_back(static_cast<uint8_t>(c));
  for (;;) {
    size_t best = std::numeric_limits<size_t>::max(), where = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto found = ranks.find({ids[i], ids[i + 1]});
      if (found != ranks.end() && found->second < best) {
        best = found->second;
        where = i;
      }
    }
    if (best == std::numeric_limits<size_t>::max()) return ids;
    ids[where] = model.merges[best].result;
    ids.erase(ids.begin() + static_cast<int64_t>(where) + 1);
  }
}

TEST(Bpe, ShortAndLongWordsFollowTheDefinition) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const Random random(seed, 1);
    const BpeModel model = random_model(random, 60);
    const Bpe bpe(model);
    BpeScratch scratch;
    for (const size_t size : {1, 2, 3, 5, 20, 95, 96, 97, 98, 150, 400}) {
      std::string word;
      for (size_t i = 0; i < size; ++i) word += static_cast<char>('a' + random.below(1000000 + size * 1000 + i, 4));
      test::Ids ids;
      bpe.encode(word, scratch, ids);
      ASSERT_EQ(ids, merge_by_definition(model, word)) << "seed " << seed << " word " << word;
    }
  }
}

TEST(Bpe, OfAPairListedTwiceTheLaterRankCounts) {
  BpeModel model = byte_model();
  for (const char* token : {"ab", "bc"}) model.tokens.push_back(token);
  model.merges = {{'a', 'b', 256}, {'b', 'c', 257}, {'a', 'b', 256}};
  BpeScratch scratch;
  test::Ids ids;
  Bpe(model).encode("abc", scratch, ids);
  EXPECT_THAT(ids, ElementsAre('a', 257));
}

TEST(Bpe, AWholeWordNeedsNoMergesWhereTheModelSaysSo) {
  BpeModel model = byte_model();
  model.tokens.push_back("Ġab");
  BpeScratch scratch;
  test::Ids ids;
  Bpe(model).encode(" ab", scratch, ids);
  model.ignore_merges = true;
  Bpe(model).encode(" ab", scratch, ids);
  EXPECT_THAT(ids, ElementsAre(' ', 'a', 'b', 256));
}

// Only a hang shows that a method is quadratic: it would take minutes.
TEST(Bpe, AWordOfAMegabyteIsMergedLikeAnyOther) {
  BpeModel model = byte_model();
  for (int i = 0; i < 8; ++i) {
    const auto last = static_cast<int32_t>(model.tokens.size()) - 1;
    const int32_t half = i == 0 ? 'a' : last;
    model.tokens.push_back(model.tokens[static_cast<size_t>(half)] + model.tokens[static_cast<size_t>(half)]);
    model.merges.push_back({half, half, static_cast<int32_t>(model.tokens.size()) - 1});
  }
  BpeScratch scratch;
  test::Ids ids;
  Bpe(model).encode(std::string(size_t{1} << 20, 'a'), scratch, ids);
  EXPECT_EQ(ids, test::Ids(4096, 263));
}

TEST(Bpe, AWordIsCutWhereNoMergeJoins) {
  BpeModel model = byte_model();
  for (const char* token : {"ab", "cd", "abcd", "Ġa"}) model.tokens.push_back(token);
  model.merges = {{'a', 'b', 256}, {'c', 'd', 257}, {256, 257, 258}, {' ', 'a', 259}};
  const Bpe bpe(model);
  const auto parts = [&](std::string_view word) {
    std::vector<std::string> found;
    bpe.for_each_part(word, [&](std::string_view part) { found.emplace_back(part); });
    return found;
  };
  EXPECT_THAT(parts("abcdab"), ElementsAre("abcd", "ab"));
  EXPECT_THAT(parts(" ab xb"), ElementsAre(" ab", " ", "x", "b"));
  EXPECT_THAT(parts("a"), ElementsAre("a"));
}

}  // namespace
}  // namespace moe
