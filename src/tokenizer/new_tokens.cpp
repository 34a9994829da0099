#include "tokenizer/new_tokens.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"
#include "formats/gguf.h"
#include "formats/json.h"
#include "tokenizer/tokenizer_files.h"

namespace moe {
namespace {

constexpr const char* kTokenizerJson = "tokenizer.json";

std::string content_of(const TokenizerFiles& files, std::string_view name) {
  for (const auto& [file, content] : files.contents) {
    if (file == name) return content;
  }
  return "";
}

Json special_token(const std::string& token) {
  return {{"content", token}, {"lstrip", false},      {"normalized", false},
          {"rstrip", false},  {"single_word", false}, {"special", true}};
}

void check_new(const Tokenizer& tokenizer, const std::vector<std::string>& tokens, const std::string& where) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string& token = tokens[i];
    if (token.empty() || utf8_valid_prefix(token) != token.size()) {
      fail("{}: the new token number {} is {}, expected a text in UTF-8", where, i + 1,
           token.empty() ? "empty" : "not UTF-8");
    }
    if (const auto id = tokenizer.added_token(token)) {
      fail("{}: it has the token {} already (id {}); leave it out", where, token, *id);
    }
    if (std::count(tokens.begin(), tokens.end(), token) > 1) {
      fail("{}: the new token {} is given twice, expected once", where, token);
    }
  }
}

/// A text has one id.
void refuse_ordinary_tokens(const Tokenizer& tokenizer, const std::vector<std::string>& tokens,
                            const std::string& where) {
  for (int32_t id = 0; id < tokenizer.id_count(); ++id) {
    if (!tokenizer.has_token(id)) continue;
    if (std::find(tokens.begin(), tokens.end(), tokenizer.token_bytes(id)) == tokens.end()) continue;
    fail("{}: {} is an ordinary token already (id {}), expected a text that is no token yet", where,
         json_shown(std::string(tokenizer.token_bytes(id))), id);
  }
}

}  // namespace

GrownTokenizer with_new_tokens(const fs::path& path, const std::vector<std::string>& tokens) {
  const std::string where = path.string();
  TokenizerFiles files = load_tokenizer_files(path);
  const std::string original = content_of(files, kTokenizerJson);
  if (original.empty() || is_gguf(path)) {
    fail(
        "{}: new tokens need a tokenizer with a tokenizer.json, which this one does not have; write the model as a "
        "folder first (moe convert)",
        where);
  }
  SideFiles side{.config = content_of(files, "tokenizer_config.json"),
                 .added_tokens = content_of(files, "added_tokens.json"),
                 .special_tokens_map = content_of(files, "special_tokens_map.json"),
                 .chat_template = content_of(files, "chat_template.jinja")};
  const Tokenizer tokenizer(std::move(files));
  check_new(tokenizer, tokens, where);
  Json json = parse_json(original, where);
  refuse_ordinary_tokens(tokenizer, tokens, where);
  Json config = side.config.empty() ? Json() : parse_json(side.config, where + ": tokenizer_config.json");
  const bool listed = config.is_object() && config.contains("added_tokens_decoder");
  if (!json.contains("added_tokens") || !json["added_tokens"].is_array()) json["added_tokens"] = Json::array();
  int32_t id = tokenizer.id_count();
  for (const std::string& token : tokens) {
    Json entry = special_token(token);
    if (listed) config["added_tokens_decoder"][std::to_string(id)] = entry;
    entry["id"] = id++;
    json["added_tokens"].push_back(std::move(entry));
  }
  if (listed) side.config = json_text(config, 2) + "\n";
  std::string text = json_text(json, 2) + "\n";
  return {.tokenizer = Tokenizer(parse_tokenizer_files(text, side, where)), .json = text};
}

}  // namespace moe
