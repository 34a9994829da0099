// The index of several .safetensors files, and what two of them say together. The input is the index, then the two
// files, cut at bytes of 0xFF; the second file begins in the middle of the rest.

#include "checkpoint/tensor_files.h"
#include "checkpoint/weight_files.h"
#include "tests/fuzz/support.h"

using namespace moe;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto parts = fuzz::cut(fuzz::text_of(data, size), 2);
  const size_t half = parts[1].size() / 2;
  fuzz::put("model.safetensors.index.json", parts[0]);
  fuzz::put("a.safetensors", parts[1].substr(0, half));
  fuzz::put("b.safetensors", parts[1].substr(half));
  fuzz::accepted([&] {
    const TensorFiles files(weight_files(fuzz::folder()));
    for (const SafetensorsFile& file : files.files()) {
      for (const SafetensorsTensor& tensor : file.tensors()) MOE_CHECK(files.find(tensor.name).tensor == &tensor);
    }
  });
  return 0;
}
