#include "tokenizer/tokenizer.h"

#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/random.h"
#include "tests/support/temporary_folder.h"
#include "tests/tokenizer/support.h"

namespace moe {
namespace {

using test::added_token;
using test::error_of;
using test::Ids;
using test::make_tokenizer;
using test::TemporaryFolder;
using test::tokenizer_json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr EncodeOptions kParse{.parse_special = true};

Json with_specials() {
  Json json = tokenizer_json({"h e", "l l", "he ll"});
  json["added_tokens"] = {added_token(259, "<s>", true), added_token(260, "</s>", true),
                          added_token(261, "<s><s>", true), added_token(262, "[tool]", false)};
  return json;
}

Json bos_template() {
  return {
      {"type", "TemplateProcessing"},
      {"single", {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}}, {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
      {"pair", Json::array()},
      {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {259}}, {"tokens", {"<s>"}}}}}}};
}

std::string random_bytes(uint64_t seed, size_t size) {
  const Random random(seed, 7);
  std::string bytes;
  for (size_t i = 0; i < size; ++i) bytes += static_cast<char>(random.below(i, 256));
  return bytes;
}

TEST(Tokenizer, MergesWithinWordsByRank) {
  EXPECT_THAT(make_tokenizer(tokenizer_json({"h e", "l l", "he ll"})).encode("hello he llo"),
              ElementsAre(258, 'o', ' ', 256, ' ', 257, 'o'));
}

TEST(Tokenizer, AnyBytesRoundTrip) {
  const Tokenizer tokenizer = make_tokenizer(with_specials());
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const std::string bytes = random_bytes(seed, seed * 3);
    ASSERT_EQ(tokenizer.decode(tokenizer.encode(bytes)), bytes);
  }
  for (const char* text : {"\xC3", "a\xF0\x9F\xA6 b", "\xE6\xB1hello\xFF", "h\xC3\xA9llo\xA9"}) {
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  }
}

TEST(Tokenizer, BytesThatAreNoCharacterAreMergedAsOneWord) {
  const Tokenizer tokenizer = make_tokenizer(tokenizer_json({"æ ±"}));
  EXPECT_THAT(tokenizer.encode("\xE6\xB1"), ElementsAre(256));
  EXPECT_THAT(tokenizer.encode("a\xE6\xB1\xE6\xB1 b"), ElementsAre('a', 256, 256, ' ', 'b'));
  EXPECT_THAT(tokenizer.encode("\xE6\xB1\x89"), ElementsAre(256, 0x89)) << "a character: one word of three bytes";
}

// Words of every length, so that each cache and the way past both is used, twice.
TEST(Tokenizer, KnownWordsHaveTheIdsOfNewOnes) {
  Json json = tokenizer_json({"a b", "ab ab", "abab abab"});
  for (const bool ignore_merges : {false, true}) {
    json["model"]["ignore_merges"] = ignore_merges;
    const Tokenizer tokenizer = make_tokenizer(json);
    std::string text;
    Ids expected;
    for (int round = 0; round < 2; ++round) {
      for (size_t size = 1; size < 70; ++size) {
        const std::string word =
            std::string("xababababababababababababababababababababab").substr(size % 3, size < 30 ? size : 30) +
            std::string(size < 30 ? 0 : size - 30, 'b');
        const Ids alone = make_tokenizer(json).encode(word + " ");
        expected.insert(expected.end(), alone.begin(), alone.end());
        text += word + " ";
        ASSERT_EQ(tokenizer.decode(alone), word + " ");
      }
    }
    // A blank goes before the word behind it, which has no merge with it.
    EXPECT_EQ(tokenizer.encode(text), expected);
  }
}

TEST(Tokenizer, SpecialTokensInTextAreTextUnlessParsed) {
  const Tokenizer tokenizer = make_tokenizer(with_specials());
  EXPECT_THAT(tokenizer.encode("he<s>", kParse), ElementsAre(256, 259));
  EXPECT_THAT(tokenizer.encode("he<s>"), ElementsAre(256, '<', 's', '>'));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("he<s>")), "he<s>");
  EXPECT_THAT(tokenizer.encode("he[tool]"), ElementsAre(256, 262)) << "added, but not special";
}

TEST(Tokenizer, TheLongestAddedTokenWins) {
  EXPECT_THAT(make_tokenizer(with_specials()).encode("<s><s><s></s>", kParse), ElementsAre(261, 259, 260));
}

TEST(Tokenizer, DecodeLeavesSpecialTokensOutUnlessAsked) {
  const Tokenizer tokenizer = make_tokenizer(with_specials());
  const Ids ids = {259, 256, 262, 260};
  EXPECT_EQ(tokenizer.decode(ids), "he[tool]");
  EXPECT_EQ(tokenizer.decode(ids, {.keep_special = true}), "<s>he[tool]</s>");
}

TEST(Tokenizer, AddedTokensTakeBlanksAndRespectWords) {
  Json json = tokenizer_json();
  json["added_tokens"] =
      Json::array({added_token(256, "LL", false), added_token(257, "RR", false), added_token(258, "WW", false)});
  json["added_tokens"][0]["lstrip"] = true;
  json["added_tokens"][1]["rstrip"] = true;
  json["added_tokens"][2]["single_word"] = true;
  const Tokenizer tokenizer = make_tokenizer(json);
  EXPECT_THAT(tokenizer.encode("a \u3000LLa"), ElementsAre('a', 256, 'a'));
  EXPECT_THAT(tokenizer.encode("aRR \n a"), ElementsAre('a', 257, 'a'));
  EXPECT_THAT(tokenizer.encode("WW,WW"), ElementsAre(258, ',', 258));
  EXPECT_THAT(tokenizer.encode("aWW"), ElementsAre('a', 'W', 'W'));
  EXPECT_THAT(tokenizer.encode("WW_"), ElementsAre('W', 'W', '_'));
}

TEST(Tokenizer, NormalizedTokensAreFoundAfterTheOthers) {
  Json json = tokenizer_json();
  json["added_tokens"] = Json::array({added_token(256, "abc", false), added_token(257, "bcd", false)});
  json["added_tokens"][0]["normalized"] = true;
  EXPECT_THAT(make_tokenizer(json).encode("abcd"), ElementsAre('a', 257));
}

TEST(Tokenizer, AnAddedTokenWhoseBlanksAnotherHasTakenGivesNoId) {
  Json json = tokenizer_json();
  json["added_tokens"] = {added_token(256, "<b>", false), added_token(257, " ", false)};
  json["added_tokens"][0]["rstrip"] = true;
  json["added_tokens"][1]["lstrip"] = true;
  json["added_tokens"][1]["rstrip"] = true;
  const Tokenizer tokenizer = make_tokenizer(json);
  EXPECT_THAT(tokenizer.encode("<b>   x"), ElementsAre(256, 'x'));
  EXPECT_THAT(tokenizer.encode("   <b>"), ElementsAre(257, 256));
  EXPECT_THAT(tokenizer.encode("x \t  x"), ElementsAre('x', 257, 'x'));

  json["added_tokens"][1]["lstrip"] = false;  // takes its own blank again, as in the library
  EXPECT_THAT(make_tokenizer(json).encode("<b>   x"), ElementsAre(256, 257, 257, 257, 'x'));
}

TEST(Tokenizer, AnAddedTokenStandsForItsContentNotForTheByteOfItsLetter) {
  Json json = tokenizer_json();
  Json& vocab = json["model"]["vocab"];
  vocab.erase("ü");  // the letter of byte 0xFC, the last but three
  vocab["þ"] = 252;
  vocab["ý"] = 253;
  vocab["ÿ"] = 254;
  json["added_tokens"] = Json::array({added_token(255, "ü", false)});
  const Tokenizer tokenizer = make_tokenizer(json);
  EXPECT_THAT(tokenizer.encode("aü"), ElementsAre('a', 255));
  EXPECT_EQ(tokenizer.decode(Ids{255}), "ü");
  EXPECT_THAT(error_of<Error>([&] { tokenizer.encode("a\xFC"); }), HasSubstr("byte 0xFC"));
}

TEST(Tokenizer, BosComesFromTheTemplateOnce) {
  Json json = with_specials();
  json["post_processor"] = bos_template();
  const std::string config = R"({"add_bos_token": true, "bos_token": "<s>"})";
  EXPECT_THAT(make_tokenizer(json).encode("he"), ElementsAre(259, 256));
  EXPECT_THAT(make_tokenizer(json, config).encode("he"), ElementsAre(259, 256));
  EXPECT_THAT(make_tokenizer(json, config).encode(""), ElementsAre(259));
  EXPECT_THAT(make_tokenizer(json, config).encode("he", {.add_special = false}), ElementsAre(256));
}

TEST(Tokenizer, BosComesFromTheConfigWhereNoTemplateAddsIt) {
  const std::string config = R"({"add_bos_token": true, "add_eos_token": true,
    "bos_token": {"content": "<s>"}, "eos_token": "</s>", "pad_token": "</s>"})";
  const Tokenizer tokenizer = make_tokenizer(with_specials(), config);
  EXPECT_THAT(tokenizer.encode("he"), ElementsAre(259, 256, 260));
  EXPECT_TRUE(tokenizer.adds_bos());
  EXPECT_EQ(tokenizer.bos(), 259);
  EXPECT_EQ(tokenizer.eos(), 260);
  EXPECT_EQ(tokenizer.pad(), 260);
}

TEST(Tokenizer, NothingIsAddedWhereNothingSaysSo) {
  const Tokenizer tokenizer = make_tokenizer(with_specials(), R"({"bos_token": "<s>", "add_bos_token": false})");
  EXPECT_THAT(tokenizer.encode("he"), ElementsAre(256));
  EXPECT_FALSE(tokenizer.adds_bos());
  EXPECT_THAT(tokenizer.encode(""), IsEmpty());
}

TEST(Tokenizer, IdsOutsideTheVocabularyAreErrors) {
  Json json = tokenizer_json();
  json["model"]["vocab"]["zz"] = 300;
  const Tokenizer tokenizer = make_tokenizer(json);
  EXPECT_EQ(tokenizer.id_count(), 301);
  EXPECT_THAT(error_of<Error>([&] { tokenizer.decode(Ids{301}); }),
              HasSubstr("id 301 is outside this tokenizer's vocabulary, whose ids are 0 to 300"));
  EXPECT_THAT(error_of<Error>([&] { tokenizer.decode(Ids{-1}); }), HasSubstr("id -1"));
  EXPECT_THAT(error_of<Error>([&] { tokenizer.decode(Ids{299}); }), HasSubstr("id 299 has no token"));
}

TEST(Tokenizer, ThreadsShareIt) {
  const Tokenizer tokenizer = make_tokenizer(with_specials());
  std::vector<std::string> texts;
  std::vector<Ids> expected;
  for (uint64_t seed = 0; seed < 64; ++seed) {
    texts.push_back("hello he llo " + random_bytes(seed, 500));
    expected.push_back(tokenizer.encode(texts.back()));
  }
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (size_t worker = 0; worker < wrong.size(); ++worker) {
    threads.emplace_back([&, worker] {
      for (int round = 0; round < 20; ++round) {
        for (size_t i = 0; i < texts.size(); ++i) wrong[worker] += tokenizer.encode(texts[i]) != expected[i];
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(wrong, ElementsAre(0, 0, 0, 0));
}

TEST(Tokenizer, SavesTheFilesItCameFrom) {
  const TemporaryFolder from, to;
  const std::string json = with_specials().dump(1);
  const std::string config = R"({"bos_token": "<s>"})";
  write_file(from / "tokenizer.json", json);
  write_file(from / "tokenizer_config.json", config);
  Tokenizer::load(from.path()).save(to.path());
  EXPECT_THAT(to.files(), ElementsAre("tokenizer.json", "tokenizer_config.json"));
  EXPECT_EQ(read_file(to / "tokenizer.json"), json);
  EXPECT_EQ(read_file(to / "tokenizer_config.json"), config);
  EXPECT_THAT(Tokenizer::load(to / "tokenizer.json").encode("hello"), ElementsAre(258, 'o'));
}

TEST(Tokenizer, ReadsGpt2sPairOfFiles) {
  const TemporaryFolder folder;
  Json vocab = tokenizer_json({"h e", "l l"})["model"]["vocab"];
  vocab["<|endoftext|>"] = 258;
  write_file(folder / "vocab.json", vocab.dump());
  write_file(folder / "merges.txt", "#version: 0.2\nh e\r\nl l\n");
  const Tokenizer tokenizer = Tokenizer::load(folder.path());
  EXPECT_THAT(tokenizer.encode("hello"), ElementsAre(256, 257, 'o'));
  EXPECT_THAT(tokenizer.encode("<|endoftext|>", kParse), ElementsAre(258));
  EXPECT_EQ(tokenizer.bos(), 258);
  EXPECT_FALSE(tokenizer.adds_bos());
}

}  // namespace
}  // namespace moe
