#include "data/json_values.h"

#include <optional>
#include <tuple>

#include <fmt/format.h>

#include "data/json_nesting.h"

namespace moe {
namespace {

constexpr size_t kMostBytes = size_t{256} << 20;  // of one value

bool is_space(int c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
constexpr int kMostRestarts = 100;  // each may read the rest of the file again

bool is_bracket(int c) { return c == '{' || c == '}' || c == '[' || c == ']'; }

class ValueScanner {
 public:
  ValueScanner(TextWindow& window, const std::function<void(const JsonPart&)>& function)
      : window_(window), function_(function) {}

  void run() {
    list_ = next() == '[';
    if (list_) step();
    for (bool first = true;; first = resumed_) {
      resumed_ = false;
      int c = next();
      if (list_ && c == ']') {
        step();
        if (next() != kEnd) report("text after the list", line_);
        return;
      }
      if (!list_ && c == kEnd) return;
      if (list_ && !first && c == ',') {
        step();
        c = next();
      } else if (list_ && !first && c != kEnd) {
        report("no comma between two elements", line_);
      }
      if (c == kEnd) return report("the end of the file inside the list", line_);
      if (c == ',' || c == '}' || c == ']') {
        report("no value where one is expected", line_);
        if (c == '}' || !list_) step();
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
    alike_.reset();
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
    return value([&](int c) { return is_space(c) || is_bracket(c) || c == ',' || c == '"'; }, true, {});
  }

  // An object, a list or a string.
  bool bracketed() {
    JsonNesting nesting;
    std::string_view mistake;
    const Place place{.column = column_, .opening = here(), .begins_line = blank_before_};
    const bool ended = value([&](int c) { return ends_at(c, place, nesting, mistake); }, false, mistake);
    if (!ended) return restart();
    return nesting.in_string() ? resume(place) : true;
  }

  /// Where a value begins.
  struct Place {
    int64_t column;
    int opening;
    bool begins_line;  // only white space is before it on its line
  };

  /// Where the scanner is.
  struct Mark {
    size_t at;
    int64_t line, column;
    bool blank_before;
  };
  Mark mark() const { return {at_, line_, column_, blank_before_}; }
  void go_to(const Mark& mark) {
    std::tie(at_, line_, column_, blank_before_) = std::tie(mark.at, mark.line, mark.column, mark.blank_before);
  }

  bool begins_alike(int c, const Place& place) const {
    return blank_before_ && column_ == place.column && c == place.opening;
  }

  // Takes a character of a value. True if the value ends before the scanner's place.
  bool ends_at(int c, const Place& place, JsonNesting& nesting, std::string_view& mistake) {
    static constexpr std::string_view kBracket = "a bracket is missing or of the wrong kind";
    if (nesting.in_string() && c == '\n') {
      mistake = "a line ends inside a string";
      return true;
    }
    if (!nesting.in_string() && at_ > 0 && place.begins_line && begins_alike(c, place)) {
      if (nesting.is_broken()) {
        mistake = kBracket;
        return resumed_ = true;
      }
      if (!alike_) alike_ = mark();
    }
    switch (nesting.take(static_cast<char>(c))) {
      case JsonNesting::Place::inside:
        return false;
      case JsonNesting::Place::last:
        step();
        if (nesting.is_broken()) mistake = kBracket;
        return true;
      case JsonNesting::Place::next_value:
        mistake = kBracket;
        return resumed_ = true;
      case JsonNesting::Place::stray:
        if (!list_ || !is_last()) return false;
        mistake = kBracket;
        return true;
    }
    return false;
  }

  // True if only white space follows the character here.
  bool is_last() {
    const Mark before = mark();
    step();
    while (is_space(here())) step();
    const bool last = here() == kEnd;
    go_to(before);
    return last;
  }

  // At the end of the file, after a value that has no end: goes back to the first of its lines that begins as it did.
  bool restart() {
    if (!alike_ || !window_.damage().empty() || ++restarts_ > kMostRestarts) return false;
    go_to(*alike_);
    in_value_ = false;
    forget();
    return resumed_ = true;
  }

  // After a string that has no end: goes on with the line that begins as that value's did. Parts of the value
  // could look like values of their own, but they are further to the right, or begin with another character.
  bool resume(const Place& place) {
    for (int c = here(); place.begins_line && c != kEnd; c = here()) {
      if (begins_alike(c, place)) return resumed_ = true;
      step();
    }
    return false;
  }

  // Reads a value up to the character where `ends` is true; `mistake` says then what is wrong with it. Returns false if
  // the file ends before.
  template <class Ends>
  bool value(Ends ends, bool may_end_with_file, const std::string_view& mistake) {
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
    } else if (!mistake.empty()) {
      report(mistake, begins_on);
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
  bool blank_before_ = true;   // on this line
  bool resumed_ = false;       // the value before has no end
  bool list_ = false;          // the file is a list
  std::optional<Mark> alike_;  // inside a value: its first line that begins as the value did
  int restarts_ = 0;
  bool in_value_ = false;
};

}  // namespace

void for_each_json_value(TextWindow& window, const std::function<void(const JsonPart&)>& function) {
  ValueScanner(window, function).run();
}

}  // namespace moe
