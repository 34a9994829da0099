#include "data/json_values.h"

#include <fmt/format.h>

namespace moe {
namespace {

constexpr size_t kMostBytes = size_t{256} << 20;  // of one value

bool is_space(int c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
bool is_bracket(int c) { return c == '{' || c == '}' || c == '[' || c == ']'; }

class ValueScanner {
 public:
  ValueScanner(TextWindow& window, const std::function<void(const JsonPart&)>& function)
      : window_(window), function_(function) {}

  void run() {
    const bool list = next() == '[';
    if (list) step();
    for (bool first = true;; first = resumed_) {
      resumed_ = false;
      int c = next();
      if (list && c == ']') {
        step();
        if (next() != kEnd) report("text after the list", line_);
        return;
      }
      if (!list && c == kEnd) return;
      if (list && !first && c == ',') {
        step();
        c = next();
      } else if (list && !first && c != kEnd) {
        report("no comma between two elements", line_);
      }
      if (c == kEnd) return report("the end of the file inside the list", line_);
      if (c == ',' || c == '}' || c == ']') {
        report("no value where one is expected", line_);
        if (c == '}' || !list) step();
        continue;
      }
      if (!(c == '{' || c == '"' || c == '[' ? bracketed() : bare())) return;
    }
  }

 private:
  static constexpr int kEnd = -1;

  void report(std::string_view found, int64_t line) {
    if (!window_.damage().empty()) return;  // the file has more text, which cannot be read
    function_({.mistake = fmt::format("{}:{}: not valid JSON: {}; expected a list of objects or strings, or objects "
                                      "one after the other",
                                      window_.name(), line, found)});
  }

  void forget() {
    window_.take(at_);
    at_ = 0;
  }

  // The next character that is not white space, without taking it.
  int next() {
    for (;;) {
      const int c = here();
      if (!is_space(c)) return c;
      step();
    }
  }

  // The character at at_.
  int here() {
    while (at_ >= window_.text().size()) {
      if (!in_value_) forget();
      if (!window_.extend()) return kEnd;
    }
    return static_cast<unsigned char>(window_.text()[at_]);
  }

  void step() {
    const char c = window_.text()[at_];
    ++at_;
    ++column_;
    blank_before_ = blank_before_ && is_space(c);
    if (c != '\n') return;
    ++line_;
    column_ = 0;
    blank_before_ = true;
  }

  // A number, a name, or text that is no JSON. The caller refuses all of them.
  bool bare() {
    return value([&](int c) { return is_space(c) || is_bracket(c) || c == ',' || c == '"'; }, true, true);
  }

  // An object, a list or a string.
  bool bracketed() {
    int64_t depth = 0;
    bool in_string = false, escaped = false, done = false;
    const Place place{.column = column_, .opening = here(), .begins_line = blank_before_};
    const bool ended = value(
        [&](int c) {
          if (done) return true;
          if (in_string && c == '\n') return true;  // JSON has no line ends inside strings: its quote is missing
          if (in_string && c == '\\') {
            escaped = !escaped;
            return false;
          }
          if (c == '"' && !escaped) in_string = !in_string;
          escaped = false;
          if (!in_string && (c == '{' || c == '[')) ++depth;
          if (!in_string && (c == '}' || c == ']')) --depth;
          done = depth <= 0 && !in_string;
          if (done) step();
          return done;
        },
        false, done);
    if (done || !ended) return ended;
    return resume(place);
  }

  /// Where a value begins.
  struct Place {
    int64_t column;
    int opening;
    bool begins_line;  // only white space is before it on its line
  };

  // After a value whose end cannot be found: goes on with the line that begins as that value's did. Parts of the value
  // could look like values of their own, but they are further to the right, or begin with another character.
  bool resume(const Place& place) {
    for (int c = here(); place.begins_line && c != kEnd; c = here()) {
      if (blank_before_ && column_ == place.column && c == place.opening) return resumed_ = true;
      step();
    }
    return false;
  }

  // Reads a value up to the character where `ends` is true. Returns false if the file ends before.
  // `complete` says then whether it is a value.
  template <class Ends>
  bool value(Ends ends, bool may_end_with_file, const bool& complete) {
    forget();
    in_value_ = true;
    const int64_t begins_on = line_;
    bool too_long = false;
    for (;;) {
      const int c = here();
      if (c == kEnd && may_end_with_file && window_.damage().empty()) break;
      if (c == kEnd) {
        report("a value that begins here and has no end", begins_on);
        return false;
      }
      if (ends(c)) break;
      step();
      if (at_ < kMostBytes) continue;
      too_long = true;  // the rest is read to find the next value, and not kept
      forget();
    }
    in_value_ = false;
    if (too_long) {
      report("a value of more than 256 MiB", begins_on);
    } else if (!complete) {
      report("a line ends inside a string", begins_on);
    } else {
      function_({.value = window_.text().substr(0, at_), .line = begins_on});
    }
    forget();
    return true;
  }

  TextWindow& window_;
  const std::function<void(const JsonPart&)>& function_;
  size_t at_ = 0;  // in the window
  int64_t line_ = 1, column_ = 0;
  bool blank_before_ = true;  // on this line
  bool resumed_ = false;      // the value before has no end
  bool in_value_ = false;
};

}  // namespace

void for_each_json_value(TextWindow& window, const std::function<void(const JsonPart&)>& function) {
  ValueScanner(window, function).run();
}

}  // namespace moe
