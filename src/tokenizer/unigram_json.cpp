#include "tokenizer/unigram_json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <unordered_set>

#include "base/error.h"

namespace moe {
namespace {

constexpr size_t kMostTokens = size_t{1} << 21;

/// 10^exponent, rounded once.
double power_of_ten(int exponent) {
  double power = 0;
  const std::string text = fmt::format("1e{}", exponent);
  std::from_chars(text.data(), text.data() + text.size(), power);
  return power;
}

}  // namespace

bool is_unigram_json(const Json& model, const std::string& where) {
  const Json* const type = json_find(model, "type", where);
  if (type != nullptr) return *type == "Unigram";
  const Json* const vocabulary = json_find(model, "vocab", where);
  return vocabulary != nullptr && vocabulary->is_array();
}

double score_in_library(double score) {
  const std::string text = fmt::format("{}", std::abs(score));  // the shortest digits: 3.48, 1e-05, 1.5e+20
  const size_t mark = std::min(text.find('e'), text.size());
  int exponent = 0;
  if (mark < text.size()) {
    const size_t begin = mark + (text[mark + 1] == '+' ? 2 : 1);
    std::from_chars(text.data() + begin, text.data() + text.size(), exponent);
  }
  uint64_t digits = 0;
  bool fraction = false;
  for (const char c : std::string_view(text).substr(0, mark)) {
    if (c == '.') {
      fraction = true;
      continue;
    }
    digits = digits * 10 + static_cast<uint64_t>(c - '0');
    exponent -= fraction ? 1 : 0;
  }
  const auto value = static_cast<double>(digits);
  const double size = exponent < 0 ? value / power_of_ten(-exponent) : value * power_of_ten(exponent);
  return std::copysign(size, score);
}

UnigramModel parse_unigram_model(const Json& model, std::vector<std::string>& tokens, const std::string& where) {
  UnigramModel result;
  const Json& vocabulary = json_array(model, "vocab", where);
  if (vocabulary.empty()) fail("{}: \"vocab\" is empty, expected at least one token", where);
  if (vocabulary.size() > kMostTokens) {
    fail("{}: \"vocab\" has {} tokens, expected at most {}", where, vocabulary.size(), kMostTokens);
  }
  double least = std::numeric_limits<double>::infinity();
  for (const Json& entry : vocabulary) {
    const bool pair = entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_number();
    if (!pair) {
      fail("{}: token {} is {}, expected [\"text\", score]", where, tokens.size(), json_shown(entry));
    }
    tokens.push_back(entry[0].get<std::string>());
    if (tokens.back().empty()) fail("{}: token {} is empty", where, tokens.size() - 1);
    const bool whole = entry[1].is_number_integer();
    result.scores.push_back(whole ? entry[1].get<double>() : score_in_library(entry[1].get<double>()));
    if (!std::isfinite(result.scores.back())) {
      fail("{}: the score of {:?} is {}, expected an ordinary number", where, tokens.back(), json_shown(entry[1]));
    }
    least = std::min(least, result.scores.back());
  }
  std::unordered_set<std::string_view> seen;
  for (const std::string& token : tokens) {
    if (!seen.insert(token).second) fail("{}: the token {:?} is listed twice", where, token);
  }
  const auto unknown = json_int(model, "unk_id", where, -1);
  if (unknown < -1 || unknown >= static_cast<int64_t>(tokens.size())) {
    fail("{}: unk_id is {}, expected an id from 0 to {}", where, unknown, tokens.size() - 1);
  }
  result.unknown = static_cast<int32_t>(unknown);
  result.byte_fallback = json_bool(model, "byte_fallback", where, false);
  result.found_in_text.assign(tokens.size(), true);
  result.unknown_score = least - kUnknownPenalty;
  return result;
}

}  // namespace moe
