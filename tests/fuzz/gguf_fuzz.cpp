// A GGUF file: its header, metadata and tensors.

#include "formats/gguf.h"
#include "tests/fuzz/support.h"

using namespace moe;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const fs::path path = fuzz::put("model.gguf", fuzz::text_of(data, size));
  fuzz::accepted([&] {
    const std::vector<GgufFile> files = open_gguf(path);
    for (const GgufEntry& entry : files.front().metadata()) {
      MOE_CHECK(files.front().value(entry.key)->shown() == entry.value.shown());
    }
    size_t sum = 0;
    for (const GgufTensor& tensor : files.front().tensors()) {
      MOE_CHECK(files.front().find(tensor.name) == &tensor && !tensor.text().empty() && tensor.elements() >= 0);
      for (size_t i = 0; i < tensor.bytes; ++i) sum += static_cast<size_t>(tensor.data[i]);
    }
    MOE_CHECK(sum <= 255 * size);
  });
  return 0;
}
