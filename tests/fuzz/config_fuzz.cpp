// config.json of every family: what is accepted is written again and means the same.

#include "checkpoint/end_tokens.h"
#include "checkpoint/hf_config.h"
#include "model/parameters.h"
#include "tests/fuzz/support.h"

using namespace moe;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input = fuzz::text_of(data, size);
  fuzz::put("config.json", input);
  fuzz::accepted([&] { read_end_tokens(fuzz::folder()); });
  fuzz::accepted([&] {
    const ModelConfig config = parse_hf_config(parse_json(input, "config.json"), "config.json");
    const Json written = to_hf_config(config, DType::f32);
    const ModelConfig again = parse_hf_config(parse_json(json_text(written), "written"), "written");
    MOE_CHECK(to_hf_config(again, DType::f32) == written);
  });
  return 0;
}
