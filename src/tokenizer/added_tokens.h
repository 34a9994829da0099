#pragma once
/// Tokens outside the BPE vocabulary that are found in the text itself, before it is cut into words.

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tokenizer/class_run.h"

namespace moe {

struct AddedToken {
  int32_t id = -1;
  std::string content;
  bool special = false;      // decode leaves it out; it is ordinary text unless parse_special is set
  bool normalized = false;   // found in a second pass, in the text that the others left
  bool lstrip = false;       // includes the white space before it
  bool rstrip = false;       // includes the white space after it
  bool single_word = false;  // not next to a word character
};

/// True if `text` has nothing but white space.
bool is_all_blank(std::string_view text);

/// Finds one set of added tokens: leftmost first, and the longest among those that start at the same place. Of several
/// tokens with one content, it finds the first.
/// Several threads may search with it.
class AddedTokenMatcher {
 public:
  explicit AddedTokenMatcher(std::vector<AddedToken> tokens);

  struct Part {
    std::string_view text;
    int32_t id;  // -1: plain text
  };

  /// Cuts `text` into plain parts and tokens, in order, and passes each to sink(Part). With `specials_are_text`, a
  /// special token stays inside the plain part around it as a whole: no other token is looked for inside it. A token
  /// whose blanks the token before it has taken is left out if nothing remains of it.
  template <class Sink>
  void split(std::string_view text, bool specials_are_text, Sink&& sink) const {
    size_t done = 0;
    if (specials_are_text && all_special_) return text.empty() ? void() : sink(Part{text, -1});
    Found found{};
    for (size_t from = 0; !tokens_.empty() && find(text, from, found); from = found.end) {
      const AddedToken& token = tokens_[found.token];
      if ((specials_are_text && token.special) || !stands_alone(token, text, found)) continue;
      size_t begin = found.begin;
      size_t end = found.end;
      if (token.lstrip) begin = std::max(blank_start(text, begin), done);
      if (token.rstrip) end = blank_end(text, end);
      if (done < begin) sink(Part{text.substr(done, begin - done), -1});
      if (begin < end) sink(Part{text.substr(begin, end - begin), token.id});
      done = end;
    }
    if (done < text.size()) sink(Part{text.substr(done), -1});
  }

 private:
  struct Found {
    size_t begin;
    size_t end;
    size_t token;  // index in tokens_
  };

  bool find(std::string_view text, size_t from, Found& found) const;
  bool stands_alone(const AddedToken& token, std::string_view text, const Found& found) const;
  static size_t blank_start(std::string_view text, size_t end);
  static size_t blank_end(std::string_view text, size_t begin);

  std::vector<AddedToken> tokens_;
  bool all_special_ = true;
  std::array<bool, 256> starts_{};                   // bytes that some token starts with
  std::unordered_map<uint64_t, uint32_t> children_;  // trie: node * 256 + byte -> node
  std::vector<int32_t> token_at_{-1};                // by node: index in tokens_, -1 inside a token
};

}  // namespace moe
