#include "chat/format.h"

#include "base/error.h"
#include "template/chat_template.h"

namespace moe {
namespace {

/// For models without a template: neither BOS nor EOS, so that nothing but text is added.
constexpr std::string_view kPlain = R"({%- for message in messages %}
  {%- if message['role'] == 'user' %}
    {{- 'User: ' + message['content'] + '\n\n' }}
  {%- elif message['role'] == 'assistant' %}
    {{- 'Assistant: ' + message['content'] + '\n\n' }}
  {%- else %}
    {{- message['content'] + '\n\n' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- 'Assistant:' }}{% endif %}
)";

constexpr const char* kNextQuestion = "\n\nUser:";

/// Some tokenizers have no file that names these tokens as text.
jinja::Value tokens_of(const Tokenizer& tokenizer) {
  auto tokens = std::make_shared<jinja::Dict>();
  if (tokenizer.bos()) tokens->set("bos_token", jinja::Value(tokenizer.token_bytes(*tokenizer.bos())));
  if (tokenizer.eos()) tokens->set("eos_token", jinja::Value(tokenizer.token_bytes(*tokenizer.eos())));
  return jinja::Value::dict(std::move(tokens));
}

}  // namespace

ChatFormat::Source ChatFormat::source_of(const fs::path& model) {
  if (!jinja::own_chat_templates(model).empty()) {
    const auto own = jinja::load_chat_template(model, "", jinja::Value::dict(std::make_shared<jinja::Dict>()));
    return {.text = own.source, .name = own.origin, .note = ""};
  }
  constexpr const char* kAdvice = "a model that was not trained on conversations only continues the text";
  if (jinja::has_built_in_template(model)) {
    return {.text = std::string(jinja::deepseek_moe_template()),
            .name = "the chat format of DeepSeekMoE",
            .note = fmt::format("{} has no chat template, so this is the chat format of DeepSeekMoE; {}",
                                model.string(), kAdvice)};
  }
  return {.text = std::string(kPlain),
          .name = "the plain chat format",
          .note = fmt::format("{} has no chat template, so the model continues \"User: ...\", \"Assistant:\"; {}",
                              model.string(), kAdvice),
          .plain = true};
}

ChatFormat::ChatFormat(const Source& source, const jinja::Value& special, const Tokenizer& tokenizer)
    : tokenizer_(tokenizer),
      source_(source.text),
      name_(source.name),
      template_(source.text, source.name),
      special_(jinja::with_variables(special, tokens_of(tokenizer))),
      parse_special_(!source.plain),
      note_(source.note) {
  if (!note_.empty()) stop_ = {kNextQuestion};
}

ChatFormat::ChatFormat(const fs::path& model, const Tokenizer& tokenizer)
    : ChatFormat(source_of(model), jinja::load_special_tokens(model), tokenizer) {}

ChatFormat::ChatFormat(std::string_view source, const std::string& name, const Tokenizer& tokenizer)
    : ChatFormat(Source{.text = std::string(source), .name = name, .note = ""},
                 jinja::Value::dict(std::make_shared<jinja::Dict>()), tokenizer) {}

jinja::Rendered ChatFormat::render(const std::vector<ChatMessage>& messages, bool open_answer) const {
  jinja::Values list;
  for (const ChatMessage& message : messages) {
    auto entry = std::make_shared<jinja::Dict>();
    entry->set("role", jinja::Value(message.role));
    entry->set("content", jinja::Value(message.content));
    list.push_back(jinja::Value::dict(std::move(entry)));
  }
  auto variables = std::make_shared<jinja::Dict>();
  variables->set("messages", jinja::Value::list(std::move(list)));
  variables->set("add_generation_prompt", jinja::Value(open_answer));
  return template_.render(jinja::with_variables(jinja::Value::dict(std::move(variables)), special_));
}

std::vector<int32_t> ChatFormat::encode(std::string_view text) const {
  return encode_after_bos(tokenizer_, text, parse_special_);
}

std::vector<int32_t> ChatFormat::encode_more(std::string_view text) const {
  return tokenizer_.encode(text, {.add_special = false, .parse_special = parse_special_});
}

}  // namespace moe
