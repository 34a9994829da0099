// A chat template and its variables as JSON, cut at a byte of 0xFF; without variables, those of a small conversation.
// Limits are small, so that a template that does not end is not slow here.

#include "template/template.h"
#include "tests/fuzz/support.h"

using namespace moe;

namespace {

constexpr const char* kVariables = R"({"messages": [{"role": "system", "content": "Be \u00e9."},
  {"role": "user", "content": " hi <b> "}, {"role": "assistant", "content": null, "tool_calls": [{"function":
  {"name": "f", "arguments": {"x": 1.5, "y": [1, -2, true]}}}]}], "tools": [{"type": "function", "function": {"name": "f",
  "parameters": {"type": "object", "properties": {"x": {"type": "number"}}}}}], "bos_token": "<s>", "eos_token": "</s>",
  "add_generation_prompt": true, "n": 7})";

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const jinja::Value kUsual = jinja::parse_variables(kVariables, "variables");
  const auto parts = fuzz::cut(fuzz::text_of(data, size), 2);
  fuzz::accepted([&] {
    const jinja::Template chat(parts[0], "template");
    const jinja::Value variables = parts[1].empty() ? kUsual : jinja::parse_variables(parts[1], "variables");
    const jinja::RenderOptions options{.limits = {.steps = 200'000, .live_bytes = 16u << 20, .depth = 300}, .now = 0};
    const jinja::Rendered rendered = chat.render(variables, options);
    for (const jinja::Span& span : rendered.generated) {
      MOE_CHECK(span.begin <= span.end && span.end <= rendered.text.size());
    }
    MOE_CHECK(chat.render(variables, options).text == rendered.text);
  });
  return 0;
}
