#include "tokenizer/bpe_json.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "tokenizer/byte_letters.h"

namespace moe {
namespace {

constexpr int64_t kMaxId = (int64_t{1} << 22) - 1;

using TokenIds = std::unordered_map<std::string_view, int32_t>;

TokenIds ids_by_token(const BpeModel& model) {
  TokenIds ids;
  ids.reserve(model.tokens.size());
  for (size_t id = 0; id < model.tokens.size(); ++id) {
    if (!model.tokens[id].empty()) ids.emplace(model.tokens[id], static_cast<int32_t>(id));
  }
  return ids;
}

std::vector<std::string> parse_vocabulary(const Json& vocab, const std::string& where) {
  std::vector<std::string> tokens;
  for (const auto& [token, value] : vocab.items()) {
    if (!value.is_number_integer() || value.get<int64_t>() < 0 || value.get<int64_t>() > kMaxId) {
      fail("{}: the token {:?} has the id {}, expected an integer from 0 to {}", where, token, json_shown(value),
           kMaxId);
    }
    if (token.empty()) fail("{}: id {} is an empty token, which no text can give", where, value.get<int64_t>());
    const auto id = value.get<size_t>();
    if (id >= tokens.size()) tokens.resize(id + 1);
    if (!tokens[id].empty()) fail("{}: the tokens {:?} and {:?} both have id {}", where, tokens[id], token, id);
    tokens[id] = token;
  }
  return tokens;
}

/// Turns pairs of tokens into merges.
class MergeList {
 public:
  MergeList(BpeModel& model, const std::string& where) : model_(model), where_(where), ids_(ids_by_token(model)) {}

  void add(std::string_view left, std::string_view right) {
    joined_.assign(left).append(right);
    model_.merges.push_back({id(left, left, right), id(right, left, right), id(joined_, left, right)});
  }

  /// "left right", exactly one blank between.
  void add(std::string_view line) {
    const size_t blank = line.find(' ');
    if (blank == std::string_view::npos || line.find(' ', blank + 1) != std::string_view::npos) {
      fail("{}: merge {} is {:?}, expected two tokens with one blank between", where_, model_.merges.size() + 1, line);
    }
    add(line.substr(0, blank), line.substr(blank + 1));
  }

 private:
  int32_t id(std::string_view token, std::string_view left, std::string_view right) const {
    const auto found = ids_.find(token);
    if (found == ids_.end()) {
      fail("{}: merge {} ({:?} with {:?}) needs the token {:?}, which the vocabulary lacks", where_,
           model_.merges.size() + 1, left, right, token);
    }
    return found->second;
  }

  BpeModel& model_;
  const std::string& where_;
  TokenIds ids_;
  std::string joined_;
};

// Bytes that no valid UTF-8 contains.
bool never_in_utf8(int byte) { return byte == 0xC0 || byte == 0xC1 || byte >= 0xF5; }

/// An unknown token, or the fallback to <0xNN>, is never needed if every byte of text has a token.
void check_bytes(const Json& json, const BpeModel& model, const std::string& where) {
  const bool has_unknown = json_find(json, "unk_token", where) != nullptr;
  const bool has_fallback = json_bool(json, "byte_fallback", where, false);
  if (!has_unknown && !has_fallback) return;
  const TokenIds ids = ids_by_token(model);
  const bool bytes = model.alphabet == Alphabet::bytes;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string name =
        bytes ? byte_letters()[static_cast<size_t>(byte)] : byte_token_name(static_cast<uint8_t>(byte));
    if ((bytes && never_in_utf8(byte)) || ids.contains(name)) continue;
    fail("{}: {} is set and byte 0x{:02X} has no token of its own; only vocabularies with all bytes are supported",
         where, has_unknown ? "unk_token" : "byte_fallback", byte);
  }
}

}  // namespace

BpeModel parse_bpe_model(const Json& model, Alphabet alphabet, const std::string& where) {
  const std::string type = json_string(model, "type", where, "BPE");
  if (type != "BPE") fail("{}: the model type {} is not supported, expected BPE", where, type);
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!json_string(model, key, where, "").empty()) fail("{}: {} is set, which is not supported", where, key);
  }
  if (json_number(model, "dropout", where, 0) != 0) fail("{}: dropout is set, which would make ids random", where);
  BpeModel result;
  result.alphabet = alphabet;
  result.ignore_merges = json_bool(model, "ignore_merges", where, false);
  const Json& vocab = json_member(model, "vocab", where);
  if (!vocab.is_object()) fail("{}: \"vocab\" is {}, expected an object", where, json_kind(vocab));
  result.tokens = parse_vocabulary(vocab, where);
  MergeList list(result, where);
  for (const Json& merge : json_array(model, "merges", where)) {
    if (merge.is_string()) {
      list.add(merge.get_ref<const std::string&>());
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      list.add(merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>());
    } else {
      fail("{}: merge {} is {}, expected \"left right\" or [\"left\", \"right\"]", where, result.merges.size() + 1,
           json_shown(merge));
    }
  }
  check_bytes(model, result, where);
  return result;
}

Json bpe_model_json(Json vocabulary, Json merges, bool ignore_merges, bool byte_fallback, const Json& unknown) {
  Json model = {{"type", "BPE"},
                {"dropout", nullptr},
                {"unk_token", unknown},
                {"continuing_subword_prefix", nullptr},
                {"end_of_word_suffix", nullptr},
                {"fuse_unk", byte_fallback},
                {"byte_fallback", byte_fallback},
                {"ignore_merges", ignore_merges}};
  model["vocab"] = std::move(vocabulary);  // large: a list of values would copy them
  model["merges"] = std::move(merges);
  return model;
}

Json added_token_json(int64_t id, const std::string& content, bool special) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", special}};
}

BpeModel parse_gpt2_model(const Json& vocab, const std::string& vocab_name, std::string_view merges,
                          const std::string& merges_name) {
  if (!vocab.is_object()) fail("{}: found {}, expected an object from token to id", vocab_name, json_kind(vocab));
  BpeModel result;
  result.tokens = parse_vocabulary(vocab, vocab_name);
  MergeList list(result, merges_name);
  while (!merges.empty()) {
    const size_t newline = std::min(merges.find('\n'), merges.size());
    std::string_view line = merges.substr(0, newline);
    merges.remove_prefix(std::min(newline + 1, merges.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.starts_with("#version")) list.add(line);
  }
  return result;
}

std::vector<AddedToken> parse_added_tokens(const Json& root, const BpeModel& model, const std::string& where) {
  std::vector<AddedToken> added;
  const Json* list = json_find(root, "added_tokens", where);
  if (list == nullptr) return added;
  const std::string name = where + ": added_tokens";
  const TokenIds ids = ids_by_token(model);
  std::unordered_set<std::string> contents;
  auto next = static_cast<int64_t>(ids.size());
  for (const Json& entry : json_array(root, "added_tokens", where)) {
    AddedToken token{.content = json_string(entry, "content", name),
                     .special = json_bool(entry, "special", name, false),
                     .normalized = json_bool(entry, "normalized", name, true),
                     .lstrip = json_bool(entry, "lstrip", name, false),
                     .rstrip = json_bool(entry, "rstrip", name, false),
                     .single_word = json_bool(entry, "single_word", name, false)};
    if (token.content.empty()) continue;
    const auto known = ids.find(token.content);
    const int64_t id = known != ids.end() ? known->second : next++;
    const int64_t said = json_int(entry, "id", name, id);
    if (said != id) {
      fail("{}: {:?} has the id {}, but the vocabulary gives it {}; correct the file", name, token.content, said, id);
    }
    token.id = static_cast<int32_t>(id);
    if (!contents.insert(token.content).second) fail("{}: {:?} is listed twice", name, token.content);
    added.push_back(std::move(token));
  }
  return added;
}

}  // namespace moe
