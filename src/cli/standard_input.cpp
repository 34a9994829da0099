#include "cli/standard_input.h"

#include <cstdio>
#include <sys/stat.h>
#include <vector>

#include <unistd.h>

#include "base/error.h"

namespace moe {
namespace {

constexpr size_t kMostBytes = size_t{1} << 30;

}  // namespace

std::string read_standard_input() {
  std::string text;
  std::vector<char> buffer(size_t{1} << 16);
  for (size_t got; (got = std::fread(buffer.data(), 1, buffer.size(), stdin)) > 0;) {
    text.append(buffer.data(), got);
    if (text.size() > kMostBytes) {
      fail("standard input has more than {} MiB; give less at once", kMostBytes >> 20);
    }
  }
  if (std::ferror(stdin) != 0) fail("standard input could not be read");
  return text;
}

bool standard_input_is_given() {
  struct stat info {};
  return ::fstat(STDIN_FILENO, &info) == 0 && (S_ISFIFO(info.st_mode) || S_ISREG(info.st_mode));
}

}  // namespace moe
