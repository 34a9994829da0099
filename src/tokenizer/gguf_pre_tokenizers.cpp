#include "tokenizer/gguf_pre_tokenizers.h"

#include <algorithm>
#include <array>
#include <vector>

#include "tokenizer/expression_texts.h"

namespace moe {
namespace {

constexpr std::array kOfGpt2 = {kGpt2};
constexpr std::array kOfLlama3 = {kLlama3};
constexpr std::array kOfQwen2 = {kQwen2};
constexpr std::array kOfO200k = {kO200k};
constexpr std::array kOfSmollm = {kSingleDigits, kGpt2};
constexpr std::array<std::string_view, 3> kOfDeepseekV3 = {R"(\p{N}{1,3})", kDeepseekV3Chinese, kDeepseekV3};
constexpr std::array<std::string_view, 6> kOfDeepseekLlm = {R"([\r\n])", kDeepseekLlmLetters, kDeepseekLlmMarks,
                                                            R"(\s+$)",   kDeepseekLlmChinese, kSingleDigits};
constexpr std::array<std::string_view, 5> kOfDeepseekCoder = {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)",
                                                              kDeepseekLlmChinese, kSingleDigits};
constexpr std::array<std::string_view, 4> kOfDefault = {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2, R"(\p{N}+)",
                                                        "[0-9][0-9][0-9]"};

/// Of several names for one way, the first is written.
constexpr GgufPreTokenizer kKnown[] = {
    {"gpt-2", kOfGpt2},
    {"qwen2", kOfQwen2},
    {"llama-bpe", kOfLlama3, true, true},
    {"deepseek-llm", kOfDeepseekLlm},
    {"deepseek-v3", kOfDeepseekV3},
    {"deepseek-coder", kOfDeepseekCoder},
    {"gpt-4o", kOfO200k},
    {"smollm", kOfSmollm},
    {"dbrx", kOfLlama3},
    {"glm4", kOfLlama3, true},
    {"default", kOfDefault},
    {"olmo", kOfGpt2},
    {"phi-2", kOfGpt2},
    {"mpt", kOfGpt2},
    {"exaone4", kOfGpt2},
    {"gigachat", kOfGpt2},
    {"deepseek-r1-qwen", kOfQwen2},
    {"stablelm2", kOfQwen2},
    {"megrez", kOfQwen2},
    {"hunyuan", kOfQwen2},
    {"llama3", kOfLlama3, true, true},
    {"llama-v3", kOfLlama3, true, true},
    {"falcon3", kOfLlama3, true, true},
    {"pixtral", kOfLlama3, true, true},
    {"smaug-bpe", kOfLlama3},
    {"chatglm-bpe", kOfLlama3},
    {"starcoder", kOfSmollm},
    {"refact", kOfSmollm},
    {"command-r", kOfSmollm},
    {"llama4", kOfO200k},
};

using Expressions = std::vector<std::string>;

/// Appends the expressions of a step; false if it is of another form.
bool add_expressions(const Json& node, const std::string& where, Expressions& expressions) {
  const std::string type = json_string(node, "type", where);
  if (type == "Sequence") {
    const auto& steps = json_array(node, "pretokenizers", where);
    return std::all_of(steps.begin(), steps.end(),
                       [&](const Json& step) { return add_expressions(step, where, expressions); });
  }
  if (type == "ByteLevel") {
    if (json_bool(node, "use_regex", where, true)) expressions.emplace_back(kGpt2);
    return !json_bool(node, "add_prefix_space", where, true);
  }
  if (type == "Digits") {
    expressions.emplace_back(kSingleDigits);
    return json_bool(node, "individual_digits", where, false);
  }
  if (type != "Split") return false;
  const Json& pattern = json_member(node, "pattern", where);
  if (json_find(pattern, "Regex", where) == nullptr) return false;
  expressions.push_back(spelled_out(json_string(pattern, "Regex", where)));
  return json_string(node, "behavior", where) == "Isolated" && !json_bool(node, "invert", where, false);
}

}  // namespace

const GgufPreTokenizer* find_gguf_pre_tokenizer(std::string_view name) {
  const auto* const found =
      std::find_if(std::begin(kKnown), std::end(kKnown), [&](const auto& one) { return one.name == name; });
  return found == std::end(kKnown) ? nullptr : found;
}

std::string gguf_pre_tokenizer_names() {
  std::string names;
  for (const GgufPreTokenizer& known : kKnown) names += (names.empty() ? "" : ", ") + std::string(known.name);
  return names;
}

const GgufPreTokenizer* gguf_pre_tokenizer_of(const Json& pre_tokenizer, bool ignore_merges, const std::string& where) {
  Expressions expressions;
  if (!add_expressions(pre_tokenizer, where, expressions)) return nullptr;
  const auto* const found = std::find_if(std::begin(kKnown), std::end(kKnown), [&](const auto& one) {
    return one.ignore_merges == ignore_merges &&
           std::equal(one.expressions.begin(), one.expressions.end(), expressions.begin(), expressions.end());
  });
  return found == std::end(kKnown) ? nullptr : found;
}

Json to_json(const GgufPreTokenizer& pre_tokenizer) {
  Json steps = Json::array();
  for (const std::string_view expression : pre_tokenizer.expressions) {
    if (expression == kSingleDigits) {
      steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
    } else {
      steps.push_back(
          {{"type", "Split"}, {"pattern", {{"Regex", expression}}}, {"behavior", "Isolated"}, {"invert", false}});
    }
  }
  steps.push_back({{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}});
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

}  // namespace moe
