#include "data/json_nesting.h"

namespace moe {
namespace {

constexpr size_t kMostDepth = size_t{1} << 16;  // more than any parser accepts

}  // namespace

JsonNesting::Place JsonNesting::take(char c) {
  if (in_string_) {
    if (c == '\\') {
      escaped_ = !escaped_;
    } else {
      in_string_ = c != '"' || escaped_;
      escaped_ = false;
    }
    if (in_string_) return Place::inside;
    before_ = is_key_ ? Before::key : Before::value;
    return open_.empty() ? Place::last : Place::inside;
  }
  switch (c) {
    case '"':
      in_string_ = true;
      is_key_ = !open_.empty() && open_.back() == '{' && before_ != Before::colon;
      return Place::inside;
    case '{':
    case '[':
      return open(c);
    case '}':
    case ']':
      return close(c);
    case ',':
      before_ = Before::comma;
      return Place::inside;
    case ':':
      before_ = Before::colon;
      return Place::inside;
    case ' ':
    case '\t':
    case '\r':
    case '\n':
      return Place::inside;
    default:
      before_ = Before::value;
      return Place::inside;
  }
}

JsonNesting::Place JsonNesting::open(char c) {
  if (open_.size() == kMostDepth) {
    ++deeper_;
    return Place::inside;
  }
  const bool in_object = !open_.empty() && open_.back() == '{';
  const bool fits = in_object ? before_ == Before::colon : before_ == Before::opening || before_ == Before::comma;
  if (!fits) broken_ = true;
  // After a key, the colon is missing. Otherwise this belongs to the innermost list, or is the next value of the file.
  if (in_object && !fits && before_ != Before::key) {
    const size_t list = open_.rfind('[');
    if (list == std::string::npos && c == '{') return Place::next_value;
    if (list != std::string::npos) open_.resize(list + 1);
  }
  open_ += c;
  before_ = Before::opening;
  return Place::inside;
}

JsonNesting::Place JsonNesting::close(char c) {
  before_ = Before::value;
  if (deeper_ > 0) {
    --deeper_;
    return Place::inside;
  }
  const size_t partner = open_.rfind(c == '}' ? '{' : '[');
  if (partner + 1 != open_.size()) broken_ = true;
  if (partner == std::string::npos) return c == ']' ? Place::stray : Place::inside;
  open_.resize(partner);
  return open_.empty() ? Place::last : Place::inside;
}

}  // namespace moe
