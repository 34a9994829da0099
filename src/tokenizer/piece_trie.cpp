#include "tokenizer/piece_trie.h"

#include <algorithm>

namespace moe {

// Level by level: the pieces below a node are neighbours in their order.
PieceTrie::PieceTrie(std::vector<std::pair<std::string_view, int32_t>> pieces) : nodes_(1) {
  std::sort(pieces.begin(), pieces.end());
  struct Below {
    size_t node, begin, end, depth;
  };
  std::vector<Below> level = {{0, 0, pieces.size(), 0}}, next;
  while (!level.empty()) {
    next.clear();
    for (const Below& below : level) {
      size_t at = below.begin;
      if (at < below.end && pieces[at].first.size() == below.depth) nodes_[below.node].id = pieces[at++].second;
      nodes_[below.node].children = static_cast<uint32_t>(nodes_.size());
      while (at < below.end) {
        const char byte = pieces[at].first[below.depth];
        const size_t begin = at;
        while (at < below.end && pieces[at].first[below.depth] == byte) ++at;
        next.push_back({nodes_.size(), begin, at, below.depth + 1});
        nodes_.push_back({.byte = static_cast<uint8_t>(byte)});
        ++nodes_[below.node].count;
      }
    }
    std::swap(level, next);
  }
}

int32_t PieceTrie::find(std::string_view text) const {
  int32_t found = -1;
  for_each_prefix(text, [&](size_t length, int32_t id) {
    if (length == text.size()) found = id;
  });
  return found;
}

}  // namespace moe
