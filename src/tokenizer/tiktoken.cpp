#include "tokenizer/tiktoken.h"

#include <algorithm>
#include <charconv>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "formats/base64.h"
#include "tokenizer/bpe.h"
#include "tokenizer/bpe_json.h"
#include "tokenizer/byte_letters.h"

namespace moe {
namespace {

constexpr int64_t kMostTokens = int64_t{1} << 21;

struct Vocabulary {
  std::vector<std::string> tokens;                    // bytes by id; empty: an id without a token
  std::unordered_map<std::string_view, int64_t> ids;  // of the bytes
};

struct Line {
  std::string bytes;
  int64_t rank;
};

Line parse_line(std::string_view line, const std::string& where) {
  const size_t blank = line.find(' ');
  const auto bytes = from_base64(line.substr(0, blank));
  int64_t rank = -1;
  if (blank != std::string_view::npos) {
    const char* const end = line.data() + line.size();
    if (std::from_chars(line.data() + blank + 1, end, rank).ptr != end) rank = -1;
  }
  if (!bytes || bytes->empty() || rank < 0 || rank >= kMostTokens) {
    fail("{}: found {:?}, expected a token in base64, a blank and its rank (below {})", where, line.substr(0, 80),
         kMostTokens);
  }
  if (bytes->size() > kLongestTokenToCut) {
    fail("{}: the token has {} bytes, expected at most {}", where, bytes->size(), kLongestTokenToCut);
  }
  return {*bytes, rank};
}

Vocabulary parse_vocabulary(std::string_view text, const std::string& name) {
  Vocabulary result;
  std::vector<Line> lines;
  int64_t number = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    ++number;
    if (!line.empty()) lines.push_back(parse_line(line, fmt::format("{}, line {}", name, number)));
  }
  for (const Line& line : lines) {
    const auto size = static_cast<size_t>(line.rank) + 1;
    if (result.tokens.size() < size) result.tokens.resize(size);
    std::string& place = result.tokens[size - 1];
    if (!place.empty()) fail("{}: two tokens have the rank {}", name, line.rank);
    place = line.bytes;
  }
  for (size_t id = 0; id < result.tokens.size(); ++id) {
    if (result.tokens[id].empty()) continue;
    if (!result.ids.emplace(result.tokens[id], static_cast<int64_t>(id)).second) {
      fail("{}: the token {:?} is listed twice", name, to_byte_letters(result.tokens[id]));
    }
  }
  for (int byte = 0; byte < 256; ++byte) {
    if (result.ids.contains(std::string(1, static_cast<char>(byte)))) continue;
    fail("{}: byte 0x{:02X} has no token of its own; only vocabularies with all bytes are supported", name, byte);
  }
  return result;
}

/// Every two tokens that together are a third merge, by the third one's rank.
Json merges_of(const Vocabulary& vocabulary) {
  Json merges = Json::array();
  struct Cut {
    int64_t left, right;
    size_t at;
  };
  std::vector<Cut> cuts;
  for (const std::string& token : vocabulary.tokens) {
    cuts.clear();
    for (size_t at = 1; at < token.size(); ++at) {
      const auto left = vocabulary.ids.find(std::string_view(token).substr(0, at));
      const auto right = vocabulary.ids.find(std::string_view(token).substr(at));
      if (left != vocabulary.ids.end() && right != vocabulary.ids.end())
        cuts.push_back({left->second, right->second, at});
    }
    std::sort(cuts.begin(), cuts.end(),
              [](const Cut& a, const Cut& b) { return std::pair(a.left, a.right) < std::pair(b.left, b.right); });
    for (const Cut& cut : cuts) {
      merges.push_back({to_byte_letters(token.substr(0, cut.at)), to_byte_letters(token.substr(cut.at))});
    }
  }
  return merges;
}

Json added_tokens(const std::vector<TiktokenSpecial>& special, const Vocabulary& vocabulary) {
  Json added = Json::array();
  std::unordered_set<int64_t> ids;
  auto free = static_cast<int64_t>(vocabulary.tokens.size());
  for (const TiktokenSpecial& token : special) {
    const auto id = static_cast<size_t>(token.id);
    if (token.id < 0 || token.id >= kMostTokens) {
      fail("the special token {:?} has the id {}, expected one from 0 to {}", token.content, token.id, kMostTokens - 1);
    }
    if ((id < vocabulary.tokens.size() && !vocabulary.tokens[id].empty()) || !ids.insert(token.id).second) {
      fail("the special token {:?} has the id {}, which is another token's; {} is free", token.content, token.id, free);
    }
    free = std::max(free, token.id + 1);
    added.push_back(added_token_json(token.id, token.content, true));
  }
  return added;
}

}  // namespace

std::string tiktoken_tokenizer_json(std::string_view ranks, const std::string& name, const Json& pre_tokenizer,
                                    const std::vector<TiktokenSpecial>& special) {
  const Vocabulary vocabulary = parse_vocabulary(ranks, name);
  Json ids = Json::object();
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (!vocabulary.tokens[id].empty()) ids[to_byte_letters(vocabulary.tokens[id])] = id;
  }
  const Json added = added_tokens(special, vocabulary);
  // Readers give special tokens the ids of the vocabulary.
  for (const Json& token : added) {
    const auto& content = token.at("content").get_ref<const std::string&>();
    if (ids.contains(content)) fail("{}: the special token {:?} is also an ordinary token", name, content);
    ids[content] = token.at("id");
  }
  const Json model = bpe_model_json(ids, merges_of(vocabulary), true);
  const Json root = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", added},
      {"normalizer", nullptr},
      {"pre_tokenizer", pre_tokenizer},
      {"post_processor", nullptr},
      {"decoder", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}}},
      {"model", model}};
  return json_text(root, 2) + "\n";
}

}  // namespace moe
