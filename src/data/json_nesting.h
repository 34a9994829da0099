#pragma once
/// Finds the end of one JSON value, also of a value that lacks brackets.

#include <cstdint>
#include <string>

namespace moe {

/// Follows the quotes and brackets of an object, a list or a string, character by character. A bracket that cannot be
/// there shows that another one is missing: a closing one of the other kind, or an opening one where an object has no
/// value. The missing brackets are then taken as read. For one thread at a time.
class JsonNesting {
 public:
  enum class Place {
    inside,      ///< the character belongs to the value, which goes on
    last,        ///< ... and ends with it
    next_value,  ///< the value has ended, and another one begins with this character
    stray,       ///< a "]" that closes nothing of the value: the end of the list around it, or a mistake
  };

  /// The place of the next character of the value. The first one is a quote, "{" or "[".
  Place take(char c);

  /// True inside a string. A string has no line ends.
  bool in_string() const { return in_string_; }
  /// True if a bracket is missing or of the other kind.
  bool is_broken() const { return broken_; }

 private:
  Place open(char c);
  Place close(char c);

  // What is before the next character, apart from white space, as far as it matters.
  enum class Before { opening, comma, colon, key, value };

  std::string open_;     // brackets, at most kMostDepth
  uint64_t deeper_ = 0;  // further open brackets, of any kind
  Before before_ = Before::opening;
  bool in_string_ = false, escaped_ = false, is_key_ = false, broken_ = false;
};

}  // namespace moe
