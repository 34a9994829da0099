#pragma once
/// A model of tests/golden, a tokenizer of its size, and conversations with them.

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "infer/conversation.h"
#include "tests/infer/support.h"
#include "tests/tokenizer/support.h"

namespace moe::test {

constexpr int32_t kChatEos = 0, kChatBos = 1;

/// One token for each character that the tests use, and BOS and EOS: 42 ids, fewer than any model of tests/golden has.
inline Tokenizer letters_tokenizer(bool adds_bos = false) {
  const std::string letters = "abcdefghijklmnopqrstuvwxyzUASB: \n.?!<>/";
  Json json = tokenizer_json();
  Json vocab = Json::object();
  vocab["<e>"] = kChatEos;
  vocab["<b>"] = kChatBos;
  int32_t id = 2;
  for (const char c : letters) vocab[byte_letters()[static_cast<unsigned char>(c)]] = id++;
  json["model"]["vocab"] = vocab;
  json["added_tokens"] = {added_token(kChatEos, "<e>", true), added_token(kChatBos, "<b>", true)};
  return make_tokenizer(json, std::string(R"({"bos_token": "<b>", "eos_token": "<e>", "add_bos_token": )") +
                                  (adds_bos ? "true}" : "false}"));
}

/// As DeepSeekMoE's, with short names.
constexpr const char* kChatTemplate =
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'user' %}U: {{ m.content }}\n{% endif %}"
    "{% if m.role == 'assistant' %}A: {{ m.content }}{{ eos_token }}{% endif %}"
    "{% if m.role == 'system' %}S: {{ m.content }}\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}A:{% endif %}";

inline fs::path golden_model(const std::string& name) { return fs::path(MOE_SOURCE_DIR) / "tests" / "golden" / name; }

/// A model with the engine of a chat.
struct Cached {
  explicit Cached(const RoutingSwitches& switches = {}, int64_t most_tokens = 400,
                  const std::string& name = "moe_basic")
      : loaded(golden_model(name), DType::f32, *cpu.device, switches),
        engine(loaded, &tokenizer, *cpu.device, *cpu.backend, {.most_tokens = most_tokens}, switches) {}

  /// The log-probabilities of all ids after these. Afterwards the cache holds them. Empty if `go_on`, which is called
  /// before each pass, stops it.
  std::vector<double> after(const std::vector<int32_t>& ids, const std::function<bool()>& go_on = {}) {
    Request request{.prompt = {ids}, .options = {.max_new_tokens = 1}};
    request.logprobs = loaded.config().vocab_size;
    engine.begin(request);
    for (;;) {
      if (go_on && !go_on()) break;
      for (const Event& event : engine.step()) {
        if (!event.ended) continue;
        std::vector<double> logprobs(event.most_likely.size());
        for (const TokenProbability& one : event.most_likely) logprobs[static_cast<size_t>(one.id)] = one.logprob;
        return logprobs;
      }
    }
    engine.end();
    return {};
  }

  Cpu cpu{1};
  Tokenizer tokenizer = letters_tokenizer();
  LoadedModel loaded;
  ChatEngine engine;
};

/// A whole chat.
struct Chat : Cached {
  explicit Chat(const RoutingSwitches& switches = {}, int64_t most_tokens = 400,
                const std::string& source = kChatTemplate)
      : Cached(switches, most_tokens), format(source, "a test's template", tokenizer) {}

  GenerationOptions& options() { return conversation.options(); }
  Answer ask(const std::string& question) { return conversation.ask(question, events()); }
  Answer again(bool other_draws = false) { return conversation.answer_again(other_draws, events()); }
  AnswerEvents events() {
    AnswerEvents all = more;
    all.prompt = [this](const std::string& text, const std::vector<int32_t>& ids) {
      prompt = text;
      prompt_ids = ids;
    };
    return all;
  }

  ChatFormat format;
  Conversation conversation{format, engine, {.max_new_tokens = 12, .sampling = {.seed = 3}}};
  AnswerEvents more;
  std::string prompt;  ///< of the last answer
  std::vector<int32_t> prompt_ids;
};

}  // namespace moe::test
