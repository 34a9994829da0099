// What ends a continuation, what is shown of it and when, and that a batch changes nothing.

#include "infer/generate.h"

#include <algorithm>
#include <map>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/utf8.h"
#include "tests/infer/support.h"
#include "tests/support/temporary_folder.h"
#include "tests/tokenizer/support.h"

namespace moe::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr int32_t kEos = 256;
constexpr int32_t kBos = 257;
constexpr int32_t kOther = 258;  // a special token without a role
constexpr int64_t kVocabulary = 280;

// The bytes as tokens 0 to 255, three specials, and rows without a token from 259 on.
Tokenizer byte_tokenizer(const std::string& config = R"({"bos_token": "<bos>", "eos_token": "<eos>",
                                                         "add_bos_token": true, "add_eos_token": true})") {
  Json json = tokenizer_json();
  json["added_tokens"] = {added_token(kEos, "<eos>", true), added_token(kBos, "<bos>", true),
                          added_token(kOther, "<other>", true)};
  return make_tokenizer(json, config);
}

ModelConfig small_config() {
  ModelConfig config;
  config.vocab_size = kVocabulary;
  config.hidden_size = 64;
  config.intermediate_size = 24;
  config.num_hidden_layers = 1;
  config.num_attention_heads = 2;
  config.num_key_value_heads = 1;
  config.head_dim = 32;
  config.max_position_embeddings = 200;
  return config;
}

// A model that writes `script` in a circle: after script[i] the largest logit is that of script[i + 1]. Attention and
// FFN give nothing, embeddings are random signs, and the head's row of a token is its predecessor's embedding.
MemoryModel scripted_model(const ModelConfig& config, const Ids& script, Device& device) {
  const auto hidden = static_cast<size_t>(config.hidden_size);
  const auto sign = [hidden](int32_t id, size_t i) {
    return Random(5, hash_name("signs")).bits(static_cast<uint64_t>(id) * hidden + i) % 2 == 0 ? 1.0f : -1.0f;
  };
  return MemoryModel(config, DType::f32, device, [&](const Parameter& parameter, std::vector<float>& values) {
    std::fill(values.begin(), values.end(), parameter.kind == ParameterKind::norm ? 1.0f : 0.0f);
    if (parameter.kind == ParameterKind::embedding) {
      for (size_t at = 0; at < values.size(); ++at) values[at] = sign(static_cast<int32_t>(at / hidden), at % hidden);
    }
    if (parameter.kind != ParameterKind::head) return;
    for (size_t s = 0; s < script.size(); ++s) {
      const auto row = static_cast<size_t>(script[(s + 1) % script.size()]) * hidden;
      for (size_t i = 0; i < hidden; ++i) values[row + i] = sign(script[s], i);
    }
  });
}

Ids bytes_of(std::string_view text) {
  Ids ids;
  for (const char byte : text) ids.push_back(static_cast<unsigned char>(byte));
  return ids;
}

constexpr SamplingOptions kGreedy{.temperature = 0};

// Continues the script after its first token.
struct Scripted {
  explicit Scripted(const Ids& script_ids, const ModelConfig& config = small_config())
      : script(script_ids), model(scripted_model(config, script_ids, *cpu.device)) {}
  explicit Scripted(std::string_view text) : Scripted(bytes_of(text)) {}

  Continuation run(GenerationOptions options) {
    options.sampling = kGreedy;
    pieces.clear();
    const Continuation result = generate(model.runtime(cpu), tokenizer, {.ids = {script[0]}}, options,
                                         [&](std::string_view piece) { pieces.emplace_back(piece); });
    std::string joined;
    for (const std::string& piece : pieces) joined += piece;
    EXPECT_EQ(joined, result.text);
    return result;
  }

  Cpu cpu;
  Ids script;
  MemoryModel model;
  Tokenizer tokenizer = byte_tokenizer();
  std::vector<std::string> pieces;
};

TEST(Generate, WritesUntilTheLimitAndStreamsTokenByToken) {
  Scripted scripted("abcdefg");
  const Continuation result = scripted.run({.max_new_tokens = 9});
  EXPECT_EQ(result.text, "bcdefgabc");
  EXPECT_EQ(result.ids, bytes_of("bcdefgabc"));
  EXPECT_EQ(result.reason, StopReason::max_new_tokens);
  EXPECT_EQ(scripted.pieces.size(), 9u);
}

TEST(Generate, EndsAtEosWithoutPrintingIt) {
  Scripted scripted(Ids{'a', 'b', 'c', kEos});
  const Continuation result = scripted.run({.max_new_tokens = 50});
  EXPECT_EQ(result.text, "bc");
  EXPECT_THAT(result.ids, ElementsAre('b', 'c', kEos));
  EXPECT_EQ(result.reason, StopReason::end_of_sequence);
}

TEST(Generate, TheModelsConfigurationMayNameAnotherEos) {
  ModelConfig config = small_config();
  config.eos_token_id = 'd';
  Scripted scripted(bytes_of("abcdefg"), config);
  const Continuation result = scripted.run({.max_new_tokens = 50});
  EXPECT_EQ(result.text, "bc");
  EXPECT_EQ(result.reason, StopReason::end_of_sequence);
}

TEST(Generate, EveryIdOfAListEndsTheText) {
  Scripted scripted("abcdefg");
  for (const auto& [ids, text] :
       {std::pair<Ids, const char*>{{'e', 'g'}, "bcd"}, {{'g', 'e'}, "bcd"}, {{'x', 'g'}, "bcdef"}}) {
    const Continuation result = scripted.run({.max_new_tokens = 50, .end_ids = ids});
    EXPECT_EQ(result.text, text);
    EXPECT_EQ(result.reason, StopReason::end_of_sequence);
  }
  EXPECT_EQ(scripted.run({.max_new_tokens = 3, .end_ids = {'g'}}).reason, StopReason::max_new_tokens);
}

TEST(Generate, BytesThatAreNoCharacterAreReplacedAndUnfinishedOnesLeftOut) {
  Scripted scripted(std::string_view("a\xFFz\xE6\xB1q\xC3\xA9\xF0\x9F"));
  EXPECT_EQ(scripted.run({.max_new_tokens = 9}).text, "\uFFFDz\uFFFDqé");  // without the last two bytes
  EXPECT_EQ(scripted.run({.max_new_tokens = 4}).text, "\uFFFDz");
  EXPECT_EQ(scripted.run({.max_new_tokens = 50, .stop = {"\uFFFDq"}}).text, "\uFFFDz");
}

TEST(Generate, LeavesSpecialTokensOutOfTheText) {
  Scripted scripted(Ids{'a', 'b', kOther, 'c', kBos, 'd'});
  const Continuation result = scripted.run({.max_new_tokens = 5});
  EXPECT_EQ(result.text, "bcd");
  EXPECT_THAT(result.ids, ElementsAre('b', kOther, 'c', kBos, 'd'));
}

TEST(Generate, EndsBeforeAStopStringThatCrossesTokens) {
  Scripted scripted("abcdefg");
  const Continuation result = scripted.run({.max_new_tokens = 50, .stop = {"xyz", "def"}});
  EXPECT_EQ(result.text, "bc");
  EXPECT_EQ(result.reason, StopReason::stop_string);
  EXPECT_THAT(scripted.pieces, ElementsAre("b", "c"));
}

TEST(Generate, HoldsBackOnlyWhatMayBeginAStopString) {
  Scripted scripted("abcdefg");
  EXPECT_EQ(scripted.run({.max_new_tokens = 8, .stop = {"cdx"}}).text, "bcdefgab");
  EXPECT_THAT(scripted.pieces, ElementsAre("b", "cde", "f", "g", "a", "b"));
  EXPECT_EQ(scripted.run({.max_new_tokens = 3, .stop = {"cdx"}}).text, "bcd");
  EXPECT_THAT(scripted.pieces, ElementsAre("b", "cd"));  // what was held back is shown where the text ends
}

TEST(Generate, NeverShowsPartOfACharacter) {
  Scripted scripted("aé世🙂z");
  const Continuation result = scripted.run({.max_new_tokens = 10});
  EXPECT_EQ(result.text, "é世🙂z");
  EXPECT_THAT(scripted.pieces, ElementsAre("é", "世", "🙂", "z"));
  for (int64_t tokens = 1; tokens < 10; ++tokens) {
    const Continuation cut = scripted.run({.max_new_tokens = tokens});
    EXPECT_EQ(cut.text, result.text.substr(0, utf8_valid_prefix(result.text.substr(0, static_cast<size_t>(tokens)))));
    EXPECT_EQ(cut.ids.size(), static_cast<size_t>(tokens));
    for (const std::string& piece : scripted.pieces) EXPECT_EQ(utf8_valid_prefix(piece), piece.size());
  }
}

TEST(Generate, StopStringsMayHoldCharactersOfSeveralTokens) {
  Scripted scripted("aé世🙂z");
  const Continuation result = scripted.run({.max_new_tokens = 50, .stop = {"世🙂"}});
  EXPECT_EQ(result.text, "é");
  EXPECT_EQ(result.reason, StopReason::stop_string);
}

TEST(Generate, StopsWhereTheModelHasNoFurtherPosition) {
  ModelConfig config = small_config();
  config.max_position_embeddings = 12;
  Scripted scripted(bytes_of("abcdefg"), config);
  const Continuation result = scripted.run({.max_new_tokens = 100});
  EXPECT_EQ(result.ids.size(), 11u);  // and one of the prompt
  EXPECT_EQ(result.reason, StopReason::max_positions);
  EXPECT_EQ(scripted.run({.max_new_tokens = 11}).reason, StopReason::max_new_tokens);
}

TEST(Generate, RowsWithoutATokenAreNeverSampled) {
  Scripted scripted(Ids{'a', 270, 279, 261});  // the model wants nothing else
  for (const double temperature : {0.0, 1.0}) {
    const GenerationOptions options{.max_new_tokens = 40, .sampling = {.temperature = temperature}};
    const Continuation result =
        generate(scripted.model.runtime(scripted.cpu), scripted.tokenizer, {.ids = {'a'}}, options);
    for (const int32_t id : result.ids) EXPECT_TRUE(scripted.tokenizer.has_token(id)) << id;
  }
}

// Random weights, for what must hold of any model.
struct RandomModel {
  static ModelConfig config() {
    ModelConfig config = small_config();
    config.num_hidden_layers = 3;
    config.moe_intermediate_size = 17;
    config.n_routed_experts = 7;
    config.n_shared_experts = 1;
    config.num_experts_per_tok = 3;
    config.first_k_dense_replace = 1;
    return config;
  }
  std::vector<Continuation> run(const std::vector<Prompt>& prompts, const GenerationOptions& options, int threads = 2) {
    Cpu cpu(threads);
    const MemoryModel model = random_model(config(), DType::f32, *cpu.device);
    return generate_batch(model.runtime(cpu), tokenizer, prompts, options,
                          [&](size_t index, std::string_view piece) { streamed[index] += piece; });
  }

  Tokenizer tokenizer = byte_tokenizer();
  std::map<size_t, std::string> streamed;
};

std::vector<Prompt> unequal_prompts() {
  std::vector<Prompt> prompts;
  for (const int64_t length : {5, 140, 1, 66, 30}) {
    prompts.push_back({.ids = random_ids(length, 256, prompts.size()), .sequence = prompts.size()});
  }
  return prompts;
}

void expect_batch_equals_each_alone(const GenerationOptions& options) {
  RandomModel model;
  const auto prompts = unequal_prompts();
  const auto together = model.run(prompts, options);
  ASSERT_EQ(together.size(), prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(model.streamed[i], together[i].text) << i;
    const Continuation alone = RandomModel().run({prompts[i]}, options).front();
    EXPECT_EQ(alone.ids, together[i].ids) << i;
    EXPECT_EQ(alone.text, together[i].text) << i;
    EXPECT_EQ(alone.reason, together[i].reason) << i;
  }
}

TEST(Generate, ABatchOfUnequalPromptsEqualsEachAlone) {
  expect_batch_equals_each_alone({.max_new_tokens = 40, .sampling = kGreedy});
  expect_batch_equals_each_alone(
      {.max_new_tokens = 40, .sampling = {.repetition_penalty = 1.1, .top_k = 50, .top_p = 0.9, .seed = 3}});
}

TEST(Generate, SequencesThatEndLeaveTheOthersAsTheyAre) {
  // At random weights each of these single bytes comes up sooner or later, for every sequence at another time.
  const GenerationOptions options{
      .max_new_tokens = 60, .stop = {"a", "e", "7", " ", "\n", "Q"}, .sampling = {.seed = 4}};
  const auto results = RandomModel().run(unequal_prompts(), options);
  std::set<size_t> lengths;
  for (const Continuation& result : results) lengths.insert(result.ids.size());
  ASSERT_GE(lengths.size(), 3u);
  expect_batch_equals_each_alone(options);
}

TEST(Generate, SeedSequenceAndThreadsDoWhatTheyShould) {
  const Ids prompt = random_ids(9, 256, 1);
  const auto text = [&](uint64_t seed, uint64_t sequence, double temperature, int threads) {
    const GenerationOptions options{.max_new_tokens = 30, .sampling = {.temperature = temperature, .seed = seed}};
    return RandomModel().run({{.ids = prompt, .sequence = sequence}}, options, threads).front().ids;
  };
  EXPECT_EQ(text(1, 0, 1.0, 1), text(1, 0, 1.0, 2));
  EXPECT_NE(text(1, 0, 1.0, 1), text(2, 0, 1.0, 1));
  EXPECT_NE(text(1, 0, 1.0, 1), text(1, 1, 1.0, 1));
  EXPECT_EQ(text(1, 0, 0.0, 1), text(2, 1, 0.0, 2));  // greedy: neither matters
}

TEST(Generate, SpeedCountsPromptAndDecodedTokens) {
  Scripted scripted("abcdefg");
  GenerationSpeed speed;
  generate(scripted.model.runtime(scripted.cpu), scripted.tokenizer, {.ids = bytes_of("abc")},
           {.max_new_tokens = 5, .sampling = kGreedy}, {}, &speed);
  EXPECT_EQ(speed.prompt_tokens, 3);
  EXPECT_EQ(speed.decode_tokens, 4);
  EXPECT_GT(speed.prompt_seconds, 0);
  EXPECT_GT(speed.decode_seconds, 0);
}

TEST(Generate, MistakesAreNamed) {
  Scripted scripted("abcdefg");
  const auto error_for = [&](const Ids& ids, const GenerationOptions& options) {
    return error_of<Error>(
        [&] { generate(scripted.model.runtime(scripted.cpu), scripted.tokenizer, {.ids = ids}, options); });
  };
  EXPECT_THAT(error_for({}, {}), HasSubstr("the prompt has no token"));
  EXPECT_THAT(error_for({1, 280}, {}),
              HasSubstr("the prompt has the token 280, expected ids below the model's vocab_size 280"));
  EXPECT_THAT(error_for({-1}, {}), HasSubstr("the prompt has the token -1"));
  EXPECT_THAT(error_for(Ids(200, 1), {}),
              HasSubstr("the prompt has 200 tokens, but the model takes 200 in all (max_position_embeddings)"));
  EXPECT_THAT(error_for({1}, {.max_new_tokens = 0}), HasSubstr("--max-new-tokens 0: expected 1 or more"));
  EXPECT_THAT(error_for({1}, {.stop = {"a", ""}}), HasSubstr("--stop: an empty string"));
  EXPECT_THAT(error_for({1}, {.sampling = {.top_p = 2}}), HasSubstr("--top-p 2"));

  ModelConfig config = small_config();
  config.vocab_size = 200;
  Scripted smaller(bytes_of("abc"), config);
  EXPECT_THAT(error_of<Error>([&] { smaller.run({}); }),
              HasSubstr("the tokenizer has ids up to 258, but the model's vocab_size is 200"));
}

TEST(EncodePrompt, PutsBosBeforeTheTextOnceAndNoEosBehindIt) {
  const ModelConfig config = small_config();
  EXPECT_THAT(encode_prompt(byte_tokenizer(), config, "hi"), ElementsAre(kBos, 'h', 'i'));
  EXPECT_THAT(encode_prompt(byte_tokenizer(), config, "<bos>hi<bos>", true), ElementsAre(kBos, 'h', 'i', kBos));
  EXPECT_THAT(encode_prompt(byte_tokenizer(), config, "hi<bos>", true), ElementsAre(kBos, 'h', 'i', kBos));
  const Ids spelled = encode_prompt(byte_tokenizer(), config, "<bos>");  // text, not a second BOS
  EXPECT_EQ(spelled.size(), 6u);
  EXPECT_EQ(std::count(spelled.begin(), spelled.end(), kBos), 1);
  const Tokenizer plain = byte_tokenizer(R"({"bos_token": "<bos>", "eos_token": "<eos>"})");
  EXPECT_THAT(encode_prompt(plain, config, "hi"), ElementsAre('h', 'i'));
}

TEST(EncodePrompt, AnEmptyTextIsBosAlone) {
  ModelConfig config = small_config();
  EXPECT_THAT(encode_prompt(byte_tokenizer(), config, ""), ElementsAre(kBos));
  EXPECT_THAT(encode_prompt(byte_tokenizer(R"({"bos_token": "<bos>"})"), config, ""), ElementsAre(kBos));
  const Tokenizer nameless = byte_tokenizer("");
  EXPECT_THAT(error_of<Error>([&] { encode_prompt(nameless, config, ""); }),
              HasSubstr("the prompt is empty and neither"));
  config.bos_token_id = 3;
  EXPECT_THAT(encode_prompt(nameless, config, ""), ElementsAre(3));
}

}  // namespace
}  // namespace moe::test
