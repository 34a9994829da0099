// A text file under each name that says how it is read: JSON lines, JSON, plain text. The first byte chooses.

#include "data/reader.h"
#include "tests/fuzz/support.h"

using namespace moe;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  static constexpr const char* kNames[] = {"a.jsonl", "a.json", "a.txt"};
  const char* const name = kNames[data[0] % 3];
  const fs::path path = fuzz::put(name, fuzz::text_of(data + 1, size - 1));
  size_t good = 0, bad = 0;
  const auto count = [&](std::string_view text, uint64_t) { good += text.size(); };
  const bool whole = fuzz::accepted([&] { for_each_document(path, count); });
  const size_t before = good;
  good = 0;
  fuzz::accepted([&] {
    for_each_document(path, count, {.on_bad_document = [&](const std::string& error) {
                        MOE_CHECK(!error.empty());
                        ++bad;
                      }});
  });
  MOE_CHECK(whole ? good == before && bad == 0 : good >= before);
  return 0;
}
