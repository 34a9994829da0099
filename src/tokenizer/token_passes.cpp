#include "tokenizer/token_passes.h"

#include <algorithm>
#include <unordered_map>

#include "base/error.h"

namespace moe {
namespace {

void check_pass(const std::vector<AddedToken>& tokens, const std::string& where) {
  const auto taker = std::find_if(tokens.begin(), tokens.end(), [](const AddedToken& token) { return token.rstrip; });
  for (const AddedToken& token : tokens) {
    const bool between_others = token.lstrip && !token.rstrip && is_all_blank(token.content);
    if (!between_others || taker == tokens.end()) continue;
    fail(
        "{}: the added token {:?} has lstrip but not rstrip, and {:?} has rstrip: blanks behind the second would "
        "belong "
        "to both; set rstrip of both or of neither",
        where, token.content, taker->content);
  }
}

}  // namespace

std::vector<AddedToken> tokens_of_pass(const TokenizerFiles& files, bool normalized) {
  std::vector<AddedToken> selected;
  for (const AddedToken& token : files.added) {
    if (token.normalized != normalized) continue;
    selected.push_back(token);
    if (normalized && !files.normalizer.empty()) selected.back().content = files.normalizer.apply(token.content, true);
  }
  return selected;
}

void check_added_tokens(const TokenizerFiles& files, const std::string& where) {
  std::unordered_map<std::string, std::string> made_from;
  for (const AddedToken& token : files.added) {
    if (!token.normalized || files.normalizer.empty()) continue;
    const std::string text = files.normalizer.apply(token.content, true);
    if (text.empty()) {
      fail("{}: the normalizer leaves nothing of the added token {:?}; set its \"normalized\" to false", where,
           token.content);
    }
    const auto [other, added] = made_from.emplace(text, token.content);
    if (!added) {
      fail(
          "{}: the normalizer makes one text of the added tokens {:?} and {:?}, so that either could be meant; set "
          "\"normalized\" of one to false",
          where, other->second, token.content);
    }
  }
  for (const bool normalized : {false, true}) check_pass(tokens_of_pass(files, normalized), where);
}

}  // namespace moe
