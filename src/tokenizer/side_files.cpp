#include "tokenizer/side_files.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <optional>

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

std::optional<int32_t> find_token(const TokenizerFiles& files, std::string_view content) {
  for (const AddedToken& token : files.added) {
    if (token.content == content) return token.id;
  }
  const auto& tokens = files.model.tokens;
  const auto found = std::find(tokens.begin(), tokens.end(), content);
  if (content.empty() || found == tokens.end()) return std::nullopt;
  return static_cast<int32_t>(found - tokens.begin());
}

/// The token that has the id already; empty: none.
std::string holder_of(const TokenizerFiles& files, int32_t id) {
  for (const AddedToken& token : files.added) {
    if (token.id == id) return token.content;
  }
  const auto& tokens = files.model.tokens;
  return static_cast<size_t>(id) < tokens.size() ? tokens[static_cast<size_t>(id)] : std::string();
}

/// The flags of a later file replace those of an earlier one.
void add_token(AddedToken token, const std::string& where, TokenizerFiles& files) {
  if (token.content.empty()) return;
  if (token.id < 0 || token.id > kMaxId) {
    fail("{}: {:?} has the id {}, expected 0 to {}", where, token.content, token.id, kMaxId);
  }
  const auto known = find_token(files, token.content);
  if (known && *known != token.id) {
    fail("{}: {:?} has the id {}, but the vocabulary gives it {}; correct the file", where, token.content, token.id,
         *known);
  }
  if (const std::string holder = known ? std::string() : holder_of(files, token.id); !holder.empty()) {
    fail("{}: {:?} has the id {}, which is that of {:?}; correct the file", where, token.content, token.id, holder);
  }
  const auto listed = std::find_if(files.added.begin(), files.added.end(),
                                   [&](const AddedToken& each) { return each.content == token.content; });
  if (listed != files.added.end()) {
    *listed = std::move(token);
  } else {
    files.added.push_back(std::move(token));
  }
}

void add_listed_in_config(const Json& decoder, const std::string& where, TokenizerFiles& files) {
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
  for (auto& [id, token] : by_id) add_token(std::move(token), where, files);
}

/// "bos_token" and the like: a string, or an object with "content".
std::optional<std::string> role_content(const Document& document, const char* key) {
  const Json* value = json_find(document.json, key, document.name);
  if (value == nullptr) return std::nullopt;
  return value->is_object() ? json_string(*value, "content", document.name + ": " + key)
                            : json_string(document.json, key, document.name);
}

void add_listed_by_themselves(const Document& list, const std::vector<std::string>& special, TokenizerFiles& files) {
  std::map<int64_t, std::string> by_id;
  for (const auto& [content, id] : list.json.items()) {
    if (!id.is_number_integer() || id < 0 || id > kMaxId) {
      fail("{}: {:?} has the id {}, expected 0 to {}", list.name, content, json_shown(id), kMaxId);
    }
    by_id[id.get<int64_t>()] = content;
  }
  for (const auto& entry : by_id) {
    const int64_t id = entry.first;
    const std::string& content = entry.second;
    const bool is_special = std::find(special.begin(), special.end(), content) != special.end();
    const bool listed = std::any_of(files.added.begin(), files.added.end(),
                                    [&](const AddedToken& each) { return each.content == content; });
    if (listed && find_token(files, content) == id) continue;  // its flags come from tokenizer.json
    add_token({.id = static_cast<int32_t>(id), .content = content, .special = is_special, .normalized = !is_special},
              list.name, files);
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

std::optional<int32_t> role(const char* key, const Document& first, const Document& second, TokenizerFiles& files) {
  const Document& document = json_find(first.json, key, first.name) != nullptr ? first : second;
  const auto content = role_content(document, key);
  if (!content) return std::nullopt;
  const auto id = find_token(files, *content);
  if (!id) fail("{}: {} is {:?}, which the vocabulary does not have", document.name, key, *content);
  const bool listed = std::any_of(files.added.begin(), files.added.end(),
                                  [&](const AddedToken& each) { return each.content == *content; });
  if (!listed) files.added.push_back({.id = *id, .content = *content, .special = true});
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
  if (decoder != nullptr) {
    if (!decoder->is_object()) {
      fail("{}: added_tokens_decoder is {}, expected an object", config.name, json_kind(*decoder));
    }
    add_listed_in_config(*decoder, config.name + ": added_tokens_decoder", files);
  } else {
    add_listed_by_themselves(added, special_contents(config, map), files);
  }
  const Document& first = decoder != nullptr ? config : map;
  const Document& second = decoder != nullptr ? map : config;
  files.bos = role("bos_token", first, second, files);
  files.eos = role("eos_token", first, second, files);
  files.pad = role("pad_token", first, second, files);
  put_round_texts(config, files);
}

}  // namespace moe
