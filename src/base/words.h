#pragma once
/// Lists of words as text for people.

#include <string>
#include <vector>

namespace moe {

/// "a", "a or b", "a, b or c".
inline std::string alternatives(const std::vector<std::string>& words) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += i + 1 == words.size() ? " or " : ", ";
    text += words[i];
  }
  return text;
}

}  // namespace moe
