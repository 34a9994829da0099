#pragma once

#include <string>
#include <utility>

#include "base/error.h"

namespace moe::jinja {

/// A template that cannot be parsed. It holds a sentence without the line, and the line, counted from 1.
class SyntaxMistake : public Error {
 public:
  SyntaxMistake(int at, const std::string& reason) : Error(reason), line(at) {}
  int line;
};

template <class... Args>
[[noreturn]] void fail_syntax(int line, fmt::format_string<Args...> format, Args&&... args) {
  throw SyntaxMistake(line, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace moe::jinja
