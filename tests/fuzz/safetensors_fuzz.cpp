// A .safetensors file: the length of its header, the header's JSON, the tensors.

#include "formats/safetensors.h"
#include "tests/fuzz/support.h"

using namespace moe;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const fs::path path = fuzz::put("model.safetensors", fuzz::text_of(data, size));
  fuzz::accepted([&] {
    const SafetensorsFile file(path);
    size_t bytes = 0, sum = 0;
    for (const SafetensorsTensor& tensor : file.tensors()) {
      MOE_CHECK(file.find(tensor.name) == &tensor && !tensor.text().empty());
      bytes += tensor.bytes;
      for (size_t i = 0; i < tensor.bytes; ++i) sum += static_cast<size_t>(tensor.data[i]);
      fuzz::accepted([&] { MOE_CHECK(view_of(tensor).elements() == tensor.elements()); });
    }
    MOE_CHECK(bytes <= size && sum <= 255 * size);
  });
  return 0;
}
