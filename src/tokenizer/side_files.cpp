#include "tokenizer/side_files.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "base/fs.h"
#include "formats/json.h"

namespace moe {
namespace {

constexpr int64_t kMaxId = (int64_t{1} << 21) - 1;

/// A side file as JSON, and its name in errors; an empty object if the file is absent.
struct Document {
  std::string name;
  Json json = Json::object();
};

Document read_document(const std::string& text, const std::string& folder, const std::string& file,
                       TokenizerFiles& files) {
  Document document{.name = (fs::path(folder) / file).string()};
  if (text.empty()) return document;
  document.json = parse_json(text, document.name);
  if (!document.json.is_object()) fail("{}: found {}, expected an object", document.name, json_kind(document.json));
  files.contents.emplace_back(file, text);
  return document;
}

/// The tokens of a tokenizer by text and by id. Files may list very many, so nothing is searched from the start.
class TokenList {
 public:
  explicit TokenList(TokenizerFiles& files) : files_(files) {
    const auto& tokens = files.model.tokens;
    for (size_t id = 0; id < tokens.size(); ++id) {
      if (!tokens[id].empty()) vocabulary_.emplace(tokens[id], static_cast<int32_t>(id));
    }
    for (size_t i = 0; i < files.added.size(); ++i) note(i);
  }

  std::optional<int32_t> find(const std::string& content) const {
    if (const auto found = added_.find(content); found != added_.end()) return files_.added[found->second].id;
    const auto found = vocabulary_.find(content);
    return found == vocabulary_.end() ? std::nullopt : std::optional(found->second);
  }

  bool is_added(const std::string& content) const { return added_.contains(content); }

  /// The flags of a later file replace those of an earlier one.
  void add(AddedToken token, const std::string& where) {
    if (token.content.empty()) return;
    if (token.id < 0 || token.id > kMaxId) {
      fail("{}: {:?} has the id {}, expected 0 to {}", where, token.content, token.id, kMaxId);
    }
    const auto known = find(token.content);
    if (known && *known != token.id) {
      fail("{}: {:?} has the id {}, but the vocabulary gives it {}; correct the file", where, token.content, token.id,
           *known);
    }
    if (const std::string holder = known ? std::string() : holder_of(token.id); !holder.empty()) {
      fail("{}: {:?} has the id {}, which is that of {:?}; correct the file", where, token.content, token.id, holder);
    }
    if (const auto listed = added_.find(token.content); listed != added_.end()) {
      files_.added[listed->second] = std::move(token);
    } else {
      files_.added.push_back(std::move(token));
      note(files_.added.size() - 1);
    }
  }

 private:
  void note(size_t index) {
    added_.emplace(files_.added[index].content, index);
    by_id_.emplace(files_.added[index].id, index);
  }

  /// The token that has the id already; empty: none.
  std::string holder_of(int32_t id) const {
    if (const auto found = by_id_.find(id); found != by_id_.end()) return files_.added[found->second].content;
    const auto& tokens = files_.model.tokens;
    return static_cast<size_t>(id) < tokens.size() ? tokens[static_cast<size_t>(id)] : std::string();
  }

  TokenizerFiles& files_;
  std::unordered_map<std::string_view, int32_t> vocabulary_;
  std::unordered_map<std::string, size_t> added_;  // in files_.added
  std::unordered_map<int32_t, size_t> by_id_;
};

void add_listed_in_config(const Json& decoder, const std::string& where, TokenList& tokens) {
  std::map<int64_t, AddedToken> by_id;
  for (const auto& [key, entry] : decoder.items()) {
    int64_t id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0 || id > kMaxId) {
      fail("{}: the key {:?} is not a token id, expected 0 to {}", where, key, kMaxId);
    }
    const std::string name = where + ": " + key;
    by_id[id] = {.id = static_cast<int32_t>(id),
                 .content = json_string(entry, "content", name),
                 .special = json_bool(entry, "special", name, false),
                 .normalized = json_bool(entry, "normalized", name, true),
                 .lstrip = json_bool(entry, "lstrip", name, false),
                 .rstrip = json_bool(entry, "rstrip", name, false),
                 .single_word = json_bool(entry, "single_word", name, false)};
  }
  for (auto& [id, token] : by_id) tokens.add(std::move(token), where);
}

/// "bos_token" and the like: a string, or an object with "content".
std::optional<std::string> role_content(const Document& document, const char* key) {
  const Json* value = json_find(document.json, key, document.name);
  if (value == nullptr) return std::nullopt;
  return value->is_object() ? json_string(*value, "content", document.name + ": " + key)
                            : json_string(document.json, key, document.name);
}

void add_listed_by_themselves(const Document& list, const std::vector<std::string>& special, TokenList& tokens) {
  std::map<int64_t, std::string> by_id;
  for (const auto& [content, id] : list.json.items()) {
    if (!id.is_number_integer() || id < 0 || id > kMaxId) {
      fail("{}: {:?} has the id {}, expected 0 to {}", list.name, content, json_shown(id), kMaxId);
    }
    by_id[id.get<int64_t>()] = content;
  }
  const std::unordered_set<std::string_view> specials(special.begin(), special.end());
  for (const auto& [id, content] : by_id) {
    if (tokens.is_added(content) && tokens.find(content) == id) continue;  // its flags come from tokenizer.json
    const bool is_special = specials.contains(content);
    tokens.add({.id = static_cast<int32_t>(id), .content = content, .special = is_special, .normalized = !is_special},
               list.name);
  }
}

constexpr std::array<const char*, 7> kRoles = {"bos_token", "eos_token", "unk_token", "sep_token",
                                               "pad_token", "cls_token", "mask_token"};

/// The special tokens that the two files name.
std::vector<std::string> special_contents(const Document& config, const Document& map) {
  std::vector<std::string> contents;
  for (const Document* document : {&config, &map}) {
    for (const char* role : kRoles) {
      if (auto content = role_content(*document, role)) contents.push_back(std::move(*content));
    }
    const Json* more = json_find(document->json, "additional_special_tokens", document->name);
    if (more == nullptr || !more->is_array()) continue;
    for (const Json& each : *more) {
      if (each.is_string()) contents.push_back(each.get<std::string>());
      if (each.is_object()) contents.push_back(json_string(each, "content", document->name));
    }
  }
  return contents;
}

std::optional<int32_t> role(const char* key, const Document& first, const Document& second, TokenList& tokens) {
  const Document& document = json_find(first.json, key, first.name) != nullptr ? first : second;
  const auto content = role_content(document, key);
  if (!content) return std::nullopt;
  const auto id = tokens.find(*content);
  if (!id) fail("{}: {} is {:?}, which the vocabulary does not have", document.name, key, *content);
  if (!tokens.is_added(*content)) tokens.add({.id = *id, .content = *content, .special = true}, document.name);
  return id;
}

void put_round_texts(const Document& config, TokenizerFiles& files) {
  const auto need = [&](const std::optional<int32_t>& id, const char* flag, const char* key) {
    if (!id) fail("{}: {} is true but {} is not given", config.name, flag, key);
    return *id;
  };
  if (json_bool(config.json, "add_bos_token", config.name, false)) {
    const int32_t bos = need(files.bos, "add_bos_token", "bos_token");
    const bool there = std::find(files.prefix.begin(), files.prefix.end(), bos) != files.prefix.end();
    if (!there) files.prefix.insert(files.prefix.begin(), bos);
  }
  if (json_bool(config.json, "add_eos_token", config.name, false)) {
    const int32_t eos = need(files.eos, "add_eos_token", "eos_token");
    const bool there = std::find(files.suffix.begin(), files.suffix.end(), eos) != files.suffix.end();
    if (!there) files.suffix.push_back(eos);
  }
}

}  // namespace

void apply_side_files(const SideFiles& side, const std::string& folder, TokenizerFiles& files) {
  const Document config = read_document(side.config, folder, "tokenizer_config.json", files);
  const Document added = read_document(side.added_tokens, folder, "added_tokens.json", files);
  const Document map = read_document(side.special_tokens_map, folder, "special_tokens_map.json", files);
  const Json* decoder = json_find(config.json, "added_tokens_decoder", config.name);
  TokenList tokens(files);
  if (decoder != nullptr) {
    if (!decoder->is_object()) {
      fail("{}: added_tokens_decoder is {}, expected an object", config.name, json_kind(*decoder));
    }
    add_listed_in_config(*decoder, config.name + ": added_tokens_decoder", tokens);
  } else {
    add_listed_by_themselves(added, special_contents(config, map), tokens);
  }
  const Document& first = decoder != nullptr ? config : map;
  const Document& second = decoder != nullptr ? map : config;
  files.bos = role("bos_token", first, second, tokens);
  files.eos = role("eos_token", first, second, tokens);
  files.pad = role("pad_token", first, second, tokens);
  put_round_texts(config, files);
  if (!side.chat_template.empty()) files.contents.emplace_back("chat_template.jinja", side.chat_template);
}

}  // namespace moe
