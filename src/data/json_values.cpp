#include "data/json_values.h"

#include "base/error.h"

namespace moe {
namespace {

constexpr size_t kMostBytes = size_t{256} << 20;  // of one value

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

class ValueScanner {
 public:
  ValueScanner(TextWindow& window, const std::string& name) : window_(window), name_(name) {}

  void run(const std::function<void(std::string_view, int64_t)>& function) {
    const bool list = next() == '[';
    if (list) step();
    for (bool first = true;; first = false) {
      int c = next();
      if (list && c == ']') {
        step();
        if (next() != kEnd) fail_here("text after the list");
        return;
      }
      if (!list && c == kEnd) return;
      if (list && !first) {
        if (c != ',') fail_here(c == kEnd ? "the end of the file inside the list" : "no comma between two elements");
        step();
        c = next();
      }
      if (c == kEnd) fail_here("the end of the file inside the list");
      if (c != '{' && c != '"') fail_here("neither an object nor a string");
      value(function);
    }
  }

 private:
  static constexpr int kEnd = -1;

  // The next character that is not white space, without taking it.
  int next() {
    for (;;) {
      while (at_ < window_.text().size()) {
        const char c = window_.text()[at_];
        if (!is_space(c)) return static_cast<unsigned char>(c);
        step();
      }
      window_.take(at_);
      at_ = 0;
      if (!window_.extend()) return kEnd;
    }
  }

  void step() {
    if (window_.text()[at_] == '\n') ++line_;
    ++at_;
  }

  void value(const std::function<void(std::string_view, int64_t)>& function) {
    window_.take(at_);
    at_ = 0;
    const int64_t begins_on = line_;
    int64_t depth = 0;
    bool in_string = false;
    for (;;) {
      if (at_ >= window_.text().size()) {
        if (at_ > kMostBytes) fail_here("a value of more than 256 MiB");
        if (!window_.extend()) fail_here("the end of the file inside a value");
        continue;
      }
      const char c = window_.text()[at_];
      step();
      if (in_string && c == '\\') {
        escaped_ = !escaped_;
        continue;
      }
      const bool quote = c == '"' && !escaped_;
      escaped_ = false;
      if (quote) in_string = !in_string;
      if (!in_string && (c == '{' || c == '[')) ++depth;
      if (!in_string && (c == '}' || c == ']')) --depth;
      if (depth <= 0 && !in_string) break;
    }
    function(window_.text().substr(0, at_), begins_on);
    window_.take(at_);
    at_ = 0;
  }

  [[noreturn]] void fail_here(const char* found) const {
    fail("{}:{}: not valid JSON: {}; expected a list of objects or strings, or objects one after the other", name_,
         line_, found);
  }

  TextWindow& window_;
  const std::string& name_;
  size_t at_ = 0;  // in the window
  int64_t line_ = 1;
  bool escaped_ = false;  // after a backslash in a string
};

}  // namespace

void for_each_json_value(TextWindow& window, const std::string& name,
                         const std::function<void(std::string_view value, int64_t line)>& function) {
  ValueScanner(window, name).run(function);
}

}  // namespace moe
