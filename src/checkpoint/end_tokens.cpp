#include "checkpoint/end_tokens.h"

#include <limits>
#include <set>

#include "base/error.h"
#include "formats/gguf.h"
#include "formats/json_numbers.h"

namespace moe {
namespace {

void add_ids(const fs::path& path, std::set<int32_t>& ids) {
  constexpr const char* kKey = "eos_token_id";
  const Json json = read_json(path);
  const Json* found = json_find(json, kKey, path.string());
  if (found == nullptr) return;
  const Json list = found->is_array() ? *found : Json::array({*found});
  for (const Json& id : list) {
    const bool fits = is_int64(id) && id <= std::numeric_limits<int32_t>::max();
    if (!fits) fail("{}: \"{}\" has {}, expected token ids", path.string(), kKey, json_text(id));
    if (id >= 0) ids.insert(id.get<int32_t>());
  }
}

}  // namespace

std::vector<int32_t> read_end_tokens(const fs::path& folder) {
  std::set<int32_t> ids;
  if (is_gguf(folder)) {
    const GgufFile file(folder);
    for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"}) {
      if (file.value(key) == nullptr) continue;
      const int64_t id = file.integer(key);
      if (id >= 0 && id <= std::numeric_limits<int32_t>::max()) ids.insert(static_cast<int32_t>(id));
    }
    return {ids.begin(), ids.end()};
  }
  for (const char* name : {"config.json", "generation_config.json"}) {
    std::error_code unknown;
    if (const fs::path path = folder / name; fs::exists(path, unknown)) add_ids(path, ids);
  }
  return {ids.begin(), ids.end()};
}

}  // namespace moe
