// A compressed file, under a name that says how it is compressed, or that says nothing. The first byte chooses.

#include "formats/compression.h"
#include "tests/fuzz/support.h"

using namespace moe;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  static constexpr const char* kNames[] = {"a.zst", "a.gz", "a"};
  const fs::path path = fuzz::put(kNames[data[0] % 3], fuzz::text_of(data + 1, size - 1));
  fuzz::accepted([&] {
    const auto stream = open_stream(path);
    std::vector<char> buffer(1 + data[0] * size_t{257});
    constexpr size_t kEnough = size_t{1} << 24;  // a small file can stand for a huge one
    for (size_t total = 0; total < kEnough;) {
      const size_t read = stream->read(buffer.data(), buffer.size());
      MOE_CHECK(read <= buffer.size() && stream->consumed() < size);
      if (read == 0) break;
      total += read;
    }
  });
  return 0;
}
