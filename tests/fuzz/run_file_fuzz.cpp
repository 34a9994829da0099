// A run file: what is accepted is written with all keys, and read again it means the same. And the same text as a
// study.

#include "study/read_study.h"
#include "tests/fuzz/support.h"
#include "train/read_run_config.h"

using namespace moe;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(fuzz::text_of(data, size));
  // Paths of this machine are none of an input's business.
  const auto vocabulary = [](const std::string&) { return int64_t{1000}; };
  const auto rows = [](const DataConfig&, uint64_t) { return int64_t{100}; };
  const auto resolved = [&](const std::string& from) {
    Settings settings = Settings::parse(from, "run.toml");
    return read_run_config(settings, vocabulary, rows).resolved;
  };
  fuzz::accepted([&] {
    const std::string written = resolved(text);
    MOE_CHECK(resolved(written) == written);
  });
  const fs::path study = fuzz::put("study.toml", text);
  fuzz::accepted([&] { read_study(study, {}); });
  return 0;
}
