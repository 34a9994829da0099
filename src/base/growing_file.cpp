#include "base/growing_file.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

#include "base/error.h"
#include "base/temporary.h"

namespace moe {
namespace {

int open_to_change(const fs::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor < 0) fail("cannot open {}: {}", path.string(), std::strerror(errno));
  return descriptor;
}

// The length without the last line if that line is incomplete.
int64_t whole_lines(int descriptor, int64_t length) {
  std::array<char, 4096> buffer;
  while (length > 0) {
    const auto step = std::min<int64_t>(length, buffer.size());
    if (::pread(descriptor, buffer.data(), static_cast<size_t>(step), length - step) != step) return 0;
    const size_t found = std::string_view(buffer.data(), static_cast<size_t>(step)).rfind('\n');
    if (found != std::string_view::npos) return length - step + static_cast<int64_t>(found) + 1;
    length -= step;
  }
  return 0;
}

}  // namespace

GrowingFile::GrowingFile(const fs::path& path) : path_(path), appender_(path), descriptor_(open_to_change(path)) {}

GrowingFile::~GrowingFile() { ::close(descriptor_); }

void GrowingFile::write(std::string_view text) {
  const off_t before = ::lseek(descriptor_, 0, SEEK_END);
  try {
    appender_.write(text);
  } catch (const Error&) {
    // Half a line would make the whole file unreadable. If even this fails, cut_lines() repairs the file later.
    if (before >= 0 && ::ftruncate(descriptor_, before) != 0) errno = 0;
    throw;
  }
}

int64_t GrowingFile::sync() {
  sync_file(descriptor_, path_);
  return ::lseek(descriptor_, 0, SEEK_END);
}

int64_t cut_lines(const fs::path& path, int64_t most_bytes) {
  const int descriptor = open_to_change(path);
  const int64_t length = ::lseek(descriptor, 0, SEEK_END);
  const int64_t kept = whole_lines(descriptor, std::clamp<int64_t>(most_bytes, 0, std::max<int64_t>(length, 0)));
  const bool cut = kept == length || ::ftruncate(descriptor, kept) == 0;
  const std::string why = cut ? "" : std::strerror(errno);
  ::close(descriptor);
  if (!cut) fail("cannot cut {}: {}", path.string(), why);
  return kept;
}

}  // namespace moe
