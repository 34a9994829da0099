#pragma once
/// The tokens of a vocabulary that begin at one place of a text, found by walking a trie of their bytes.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace moe {

/// Several threads may search with it.
class PieceTrie {
 public:
  /// Texts and their ids; no text is empty or occurs twice.
  explicit PieceTrie(std::vector<std::pair<std::string_view, int32_t>> pieces);

  /// Calls f(length, id) for each piece at the start of `text`, the shortest first.
  template <class F>
  void for_each_prefix(std::string_view text, F&& f) const {
    size_t node = 0;
    for (size_t at = 0; at < text.size(); ++at) {
      node = child(node, static_cast<uint8_t>(text[at]));
      if (node == 0) return;
      if (nodes_[node].id >= 0) f(at + 1, nodes_[node].id);
    }
  }

  /// The id of the whole text; -1 if it is no piece.
  int32_t find(std::string_view text) const;

 private:
  struct Node {
    uint32_t children = 0;  // the first of them; they follow each other, in the order of their bytes
    int32_t id = -1;
    uint16_t count = 0;
    uint8_t byte = 0;
  };

  /// 0: there is none.
  size_t child(size_t node, uint8_t byte) const {
    size_t first = nodes_[node].children, count = nodes_[node].count;
    while (count > 0) {
      const size_t half = count / 2;
      if (nodes_[first + half].byte == byte) return first + half;
      const bool right = nodes_[first + half].byte < byte;
      if (right) first += half + 1;
      count = right ? count - half - 1 : half;
    }
    return 0;
  }

  std::vector<Node> nodes_;  // the root is the first
};

}  // namespace moe
