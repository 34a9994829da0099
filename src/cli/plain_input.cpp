#include <cstdio>

#include "base/error.h"
#include "base/utf8.h"
#include "cli/chat_input.h"

namespace moe {
namespace {

constexpr size_t kMostBytes = size_t{64} << 20;  // far more than any model takes in

class PlainInput final : public ChatInput {
 public:
  std::optional<std::string> next() override {
    std::string line;
    int c = 0;
    while ((c = std::getc(stdin)) != EOF && c != '\n') {
      if (line.size() == kMostBytes)
        fail("a line of standard input has more than {} MiB; give less at once", kMostBytes >> 20);
      line += static_cast<char>(c);
    }
    if (std::ferror(stdin) != 0) fail("standard input could not be read");
    if (c == EOF && line.empty()) return std::nullopt;
    if (line.ends_with('\r')) line.pop_back();
    return valid_utf8(line);
  }
};

}  // namespace

std::unique_ptr<ChatInput> plain_input() { return std::make_unique<PlainInput>(); }

}  // namespace moe
