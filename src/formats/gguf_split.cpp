// Models in several GGUF files.

#include "base/error.h"
#include "formats/gguf.h"

namespace moe {
namespace {

constexpr const char* kNumber = "split.no";
constexpr const char* kCount = "split.count";
constexpr const char* kTensors = "split.tensors.count";
constexpr int64_t kMostFiles = 10000;

/// "-00001-of-00003.gguf"
std::string ending(int64_t number, int64_t count) { return fmt::format("-{:05}-of-{:05}.gguf", number + 1, count); }

}  // namespace

std::vector<GgufFile> open_gguf(const fs::path& path) {
  std::vector<GgufFile> files;
  files.emplace_back(path);
  if (files.front().value(kCount) == nullptr) return files;
  const int64_t count = files.front().integer(kCount), number = files.front().integer(kNumber);
  if (count < 1 || count > kMostFiles || number < 0 || number >= count) {
    fail("{}: it is file {} of {} ({}, {}); the file is damaged", path.string(), number, count, kNumber, kCount);
  }
  const std::string name = path.filename().string();
  if (count > 1 && !name.ends_with(ending(number, count))) {
    fail("{} is file {} of {}, expected a name that ends in {}; give it the name that it was made with", path.string(),
         number + 1, count, ending(number, count));
  }
  const std::string start = count > 1 ? name.substr(0, name.size() - ending(number, count).size()) : name;
  if (number != 0) {
    fail("{} is file {} of {}; give the first, {}", path.string(), number + 1, count, start + ending(0, count));
  }
  for (int64_t next = 1; next < count; ++next) {
    const GgufFile& file = files.emplace_back(path.parent_path() / (start + ending(next, count)));
    if (file.integer(kNumber) != next || file.integer(kCount) != count) {
      fail("{}: it is file {} of {}, expected {} of {}; the files are not of one model", file.path().string(),
           file.integer(kNumber) + 1, file.integer(kCount), next + 1, count);
    }
    for (const GgufTensor& tensor : file.tensors()) {
      for (int64_t other = 0; other < next; ++other) {
        if (files[static_cast<size_t>(other)].find(tensor.name) == nullptr) continue;
        fail("{}: the tensor {} is in {} too", file.path().string(), tensor.name,
             files[static_cast<size_t>(other)].path().string());
      }
    }
  }
  if (files.front().value(kTensors) == nullptr) return files;
  int64_t tensors = 0;
  for (const GgufFile& file : files) tensors += static_cast<int64_t>(file.tensors().size());
  if (tensors != files.front().integer(kTensors)) {
    fail("{}: its files have {} tensors together, expected {} ({})", path.string(), tensors,
         files.front().integer(kTensors), kTensors);
  }
  return files;
}

}  // namespace moe
