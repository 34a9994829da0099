#include "tokenizer/trainer.h"

#include <algorithm>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/random.h"
#include "tests/support/temporary_folder.h"
#include "tests/tokenizer/support.h"
#include "tokenizer/merge_learner.h"

namespace moe {
namespace {

using test::error_of;
using test::Ids;
using test::TemporaryFolder;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr int32_t kBytesAt = kSpecialTokens;

std::string trained_json(const std::vector<std::string>& texts, int threads, int32_t vocab_size) {
  ThreadPool pool(threads);
  TokenizerTrainer trainer({.vocab_size = vocab_size}, pool);
  for (const std::string& text : texts) trainer.add_document(text);
  const TemporaryFolder folder;
  trainer.finish().save(folder.path());
  return read_file(folder / "tokenizer.json");
}

Tokenizer trained(const std::vector<std::string>& texts, int32_t vocab_size) {
  ThreadPool pool(1);
  TokenizerTrainer trainer({.vocab_size = vocab_size}, pool);
  for (const std::string& text : texts) trainer.add_document(text);
  return trainer.finish();
}

/// Words of a small alphabet, so that merges overlap ("aaa", "abab") often.
std::map<std::string, int64_t> random_words(uint64_t seed) {
  const Random random(seed, 3);
  std::map<std::string, int64_t> words;
  for (uint64_t i = 0; i < 60; ++i) {
    std::string word;
    const uint64_t size = 1 + random.below(1000 * i, 14);
    for (uint64_t k = 0; k < size; ++k) word += static_cast<char>('a' + random.below(1000 * i + 1 + k, 2 + seed % 3));
    words[word] = 1 + static_cast<int64_t>(random.below(1000 * i + 999, 9));
  }
  return words;
}

/// The definition: all pairs are counted anew for each merge.
std::vector<std::string> learn_by_definition(const std::map<std::string, int64_t>& words, int merges) {
  std::vector<std::pair<std::vector<int32_t>, int64_t>> symbols;
  std::vector<std::string> tokens(256);
  for (size_t byte = 0; byte < 256; ++byte) tokens[byte] = static_cast<char>(byte);
  for (const auto& [word, count] : words) {
    symbols.push_back({{}, count});
    for (const char c : word) symbols.back().first.push_back(static_cast<uint8_t>(c));
  }
  std::vector<std::string> learned;
  while (static_cast<int>(learned.size()) < merges) {
    std::map<std::pair<int32_t, int32_t>, int64_t> counts;
    for (const auto& [word, count] : symbols) {
      for (size_t i = 0; i + 1 < word.size(); ++i) counts[{word[i], word[i + 1]}] += count;
    }
    std::pair<int32_t, int32_t> best;
    int64_t most = 1;
    for (const auto& [pair, count] : counts) {
      const std::string joined = tokens[static_cast<size_t>(pair.first)] + tokens[static_cast<size_t>(pair.second)];
      if (count > most && std::find(tokens.begin(), tokens.end(), joined) == tokens.end()) {
        best = pair;
        most = count;
      }
    }
    if (most == 1) break;
    tokens.push_back(tokens[static_cast<size_t>(best.first)] + tokens[static_cast<size_t>(best.second)]);
    learned.push_back(tokens.back());
    for (auto& [word, count] : symbols) {
      for (size_t i = 0; i + 1 < word.size(); ++i) {
        if (word[i] != best.first || word[i + 1] != best.second) continue;
        word[i] = static_cast<int32_t>(tokens.size()) - 1;
        word.erase(word.begin() + static_cast<int64_t>(i) + 1);
      }
    }
  }
  return learned;
}

TEST(MergeLearner, FollowsTheDefinition) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const auto words = random_words(seed);
    WordCounts counts;
    for (const auto& [word, count] : words) counts.add(word, count);
    ASSERT_EQ(learn_merges(counts, 0, 40).tokens, learn_by_definition(words, 40)) << "seed " << seed;
  }
}

TEST(MergeLearner, TiesGoToTheLowerIds) {
  WordCounts counts;
  for (const char* word : {"ba", "ab", "ac", "ca"}) counts.add(word, 3);
  EXPECT_THAT(learn_merges(counts, 0, 4).tokens, ElementsAre("ab", "ac", "ba", "ca"));
}

TEST(MergeLearner, StopsWhereNoPairOccursTwice) {
  WordCounts counts;
  counts.add("abc", 1);
  counts.add("xy", 2);
  EXPECT_THAT(learn_merges(counts, 0, 100).tokens, ElementsAre("xy"));
}

TEST(MergeLearner, AWordOfAMegabyteIsNoTrouble) {
  WordCounts counts;
  counts.add(std::string(size_t{1} << 20, 'a'), 1);
  const auto learned = learn_merges(counts, 0, 30);
  ASSERT_FALSE(learned.tokens.empty());
  EXPECT_EQ(learned.tokens[0], "aa");
  EXPECT_EQ(learned.tokens.back().size(), size_t{1} << 19);
}

TEST(Trainer, VocabularyIsSpecialsThenBytesThenMerges) {
  const Tokenizer tokenizer = trained({"ab ab ab"}, kSpecialTokens + 256 + 1);
  EXPECT_EQ(tokenizer.id_count(), kSpecialTokens + 257);
  EXPECT_EQ(tokenizer.bos(), 0);
  EXPECT_EQ(tokenizer.eos(), 1);
  EXPECT_EQ(tokenizer.pad(), 2);
  EXPECT_EQ(tokenizer.token_bytes(0), kTrainedBos);
  EXPECT_EQ(tokenizer.token_bytes(18), "<｜reserved_15｜>");
  for (int32_t id = 0; id < kSpecialTokens; ++id) EXPECT_TRUE(tokenizer.is_special(id));
  for (int32_t byte = 0; byte < 256; ++byte) {
    EXPECT_EQ(tokenizer.token_bytes(kBytesAt + byte), std::string(1, static_cast<char>(byte)));
  }
  EXPECT_EQ(tokenizer.token_bytes(kBytesAt + 256), "ab");
  EXPECT_THAT(tokenizer.encode("ab"), ElementsAre(0, kBytesAt + 256));
}

TEST(Trainer, NeitherThreadsNorOrderChangeTheFile) {
  std::vector<std::string> texts;
  const Random random(5, 5);
  for (uint64_t i = 0; i < 300; ++i) {
    std::string text;
    for (uint64_t k = 0; k < 200; ++k) text += "etaoin \n12汉"[random.below(i * 1000 + k, 13)];
    texts.push_back(text);
  }
  const std::string one = trained_json(texts, 1, 500);
  EXPECT_EQ(trained_json(texts, 3, 500), one);
  std::reverse(texts.begin(), texts.end());
  EXPECT_EQ(trained_json(texts, 2, 500), one);
}

TEST(Trainer, AnyBytesRoundTripAndSpecialsInTextStayText) {
  const Tokenizer tokenizer = trained({"some text, some more text 123 汉字汉字\n\n  indented"}, 400);
  const Random random(9, 9);
  for (uint64_t i = 0; i < 100; ++i) {
    std::string bytes;
    for (uint64_t k = 0; k < 5 * i; ++k) bytes += static_cast<char>(random.below(i * 1000 + k, 256));
    ASSERT_EQ(tokenizer.decode(tokenizer.encode(bytes)), bytes);
  }
  const std::string spelled = fmt::format("a{}b", kTrainedEos);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(spelled)), spelled);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(spelled, {.parse_special = true})), "ab");
}

TEST(Trainer, WordsOfTheTrainedPattern) {
  const PreTokenizer words(
      Json{{"type", "Sequence"},
           {"pretokenizers",
            {{{"type", "Split"}, {"pattern", {{"Regex", kTrainedPattern}}}, {"behavior", "Isolated"}},
             {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}},
      "trained");
  RegexScratch scratch;
  std::vector<std::string> found;
  words.for_each_word("It's  40 汉字かなa, (x):\n\n\tne\u0301e  \n  end  ", scratch,
                      [&](std::string_view word) { found.emplace_back(word); });
  EXPECT_THAT(found, ElementsAre("It", "'s", " ", " ", "4", "0", " ", "汉字かな", "a", ",", " (", "x", "):\n\n",
                                 "\tne\u0301e", "  \n", " ", " end", "  "));
}

TEST(Trainer, AnImpossibleVocabularySizeIsAUsageError) {
  ThreadPool pool(1);
  EXPECT_THAT(error_of<UsageError>([&] { TokenizerTrainer trainer({.vocab_size = 274}, pool); }),
              HasSubstr("--vocab-size 274: expected a whole number from 275 (19 special tokens and 256 bytes)"));
  EXPECT_EQ(trained({"abc"}, 275).id_count(), 275);
}

TEST(Trainer, AFullDiskLeavesNoHalfWrittenFile) {
  const Tokenizer tokenizer = trained({"ab ab"}, 300);
  const TemporaryFolder folder;
  {
    const test::FullDisk full(1000);
    EXPECT_THAT(error_of<Error>([&] { tokenizer.save(folder.path()); }), HasSubstr("tokenizer.json"));
  }
  EXPECT_THAT(folder.files(), testing::IsEmpty());
}

TEST(TokenizerTrainer, ThePatternOfQwen2IsWrittenAndCutsAsItsTokenizersDo) {
  ThreadPool pool(1);
  TokenizerTrainer trainer({.vocab_size = kSpecialTokens + 256 + 20, .pattern = "qwen2"}, pool);
  for (int i = 0; i < 3; ++i) trainer.add_document("don't 中文中文 DON'T");
  const Tokenizer tokenizer = trainer.finish();
  const TemporaryFolder folder;
  tokenizer.save(folder.path());
  const Json json = Json::parse(read_file(folder / "tokenizer.json"));
  EXPECT_EQ(json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"], word_pattern("qwen2"));
  // "'t" is a word of its own there, in capitals too, so that no token holds more than it.
  for (const auto& [token, id] : json["model"]["vocab"].items()) {
    EXPECT_TRUE(token.find('\'') == std::string::npos || token.size() <= 2) << token;
  }
}

TEST(TokenizerTrainer, AnUnknownPatternIsRefused) {
  ThreadPool pool(1);
  EXPECT_THAT(error_of([&] { TokenizerTrainer({.vocab_size = 400, .pattern = "qwen"}, pool); }),
              HasSubstr("the tokenizer pattern 'qwen' is unknown"));
}

std::vector<std::string> numbered_texts(int count) {
  std::vector<std::string> texts;
  for (int i = 0; i < count; ++i) texts.push_back(fmt::format("text {} of many, and {} more", i * 7919, i * i));
  return texts;
}

TEST(TextSample, HoldsTheSameDocumentsInAnyOrder) {
  const std::vector<std::string> texts = numbered_texts(1000);
  const auto sampled = [&](const std::vector<std::string>& given, uint64_t max_bytes) {
    TextSample sample(max_bytes);
    for (const std::string& text : given) sample.add(text);
    EXPECT_LE(sample.bytes(), max_bytes);
    EXPECT_EQ(sample.dropped(), max_bytes < 20000);
    std::vector<std::string> taken = sample.take();
    std::sort(taken.begin(), taken.end());
    return taken;
  };
  const auto some = sampled(texts, 3000);
  EXPECT_GT(some.size(), 80u);
  EXPECT_EQ(sampled({texts.rbegin(), texts.rend()}, 3000), some);
  const auto more = sampled(texts, 6000);
  EXPECT_TRUE(std::includes(more.begin(), more.end(), some.begin(), some.end()));
  EXPECT_EQ(sampled(texts, 1 << 20).size(), texts.size());
}

TEST(TextSample, TakesItsShareOfEachPartOfTheTexts) {
  TextSample sample(4000);
  for (const std::string& text : numbered_texts(1000)) sample.add(text);
  int late = 0, all = 0;
  for (const std::string& text : sample.take()) {
    ++all;
    late += std::stoi(text.substr(5)) >= 500 * 7919;
  }
  EXPECT_GT(late, all / 3);
  EXPECT_LT(late, all * 2 / 3);
}

TEST(TextSample, OneDocumentStaysWhateverItsSize) {
  TextSample sample(10);
  sample.add(std::string(100, 'a'));
  EXPECT_EQ(sample.take().size(), 1u);
}

TEST(Trainer, ASampleIsCountedAndSaid) {
  ThreadPool pool(2);
  TokenizerTrainer trainer({.vocab_size = 300, .max_bytes = 3000}, pool);
  uint64_t bytes = 0;
  for (const std::string& text : numbered_texts(1000)) {
    bytes += text.size();
    trainer.add_document(text);
  }
  trainer.finish();
  EXPECT_EQ(trainer.text_bytes(), bytes);
  EXPECT_LE(trainer.counted_bytes(), 3000u);
  EXPECT_GT(trainer.counted_bytes(), 2900u);
}

TEST(Trainer, ALimitThatIsNotReachedChangesNothing) {
  const std::vector<std::string> texts = numbered_texts(50);
  ThreadPool pool(1);
  TokenizerTrainer trainer({.vocab_size = 300, .max_bytes = 1 << 20}, pool);
  for (const std::string& text : texts) trainer.add_document(text);
  const TemporaryFolder folder;
  trainer.finish().save(folder.path());
  EXPECT_EQ(read_file(folder / "tokenizer.json"), trained_json(texts, 1, 300));
  EXPECT_EQ(trainer.counted_bytes(), trainer.text_bytes());
}

}  // namespace
}  // namespace moe
