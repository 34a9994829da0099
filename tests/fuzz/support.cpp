#include "tests/fuzz/support.h"

#include <cstdio>
#include <cstdlib>
#include <stdexcept>

namespace moe::fuzz {
namespace {

struct Folder {
  Folder() {
    std::error_code missing;
    const fs::path memory = "/dev/shm";
    std::string pattern =
        ((fs::is_directory(memory, missing) ? memory : fs::temp_directory_path()) / "moe-fuzz-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("cannot make a temporary folder");
    path = pattern;
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  fs::path path;
};

}  // namespace

void show(const Error& error) {
  static const bool wanted = std::getenv("FUZZ_SHOW_ERRORS") != nullptr;
  if (wanted) std::fprintf(stderr, "refused: %s\n", error.what());
}

std::vector<std::string_view> cut(std::string_view input, size_t count) {
  std::vector<std::string_view> parts;
  while (parts.size() + 1 < count) {
    const size_t end = input.find('\xFF');
    parts.push_back(input.substr(0, end));
    input = end == std::string_view::npos ? std::string_view() : input.substr(end + 1);
  }
  parts.push_back(input);
  return parts;
}

const fs::path& folder() {
  static const Folder made;
  return made.path;
}

// FileWriter would sync each file to the disk.
fs::path put(const std::string& name, std::string_view content) {
  const fs::path path = folder() / name;
  std::FILE* const file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) throw std::runtime_error("cannot write " + path.string());
  const bool written = std::fwrite(content.data(), 1, content.size(), file) == content.size();
  if (std::fclose(file) != 0 || !written) throw std::runtime_error("cannot write " + path.string());
  return path;
}

void take_away(const std::string& name) {
  std::error_code ignored;
  fs::remove(folder() / name, ignored);
}

}  // namespace moe::fuzz
