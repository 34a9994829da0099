#include "template/chat_template.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "base/paths.h"
#include "formats/gguf.h"
#include "formats/json.h"
#include "tokenizer/gguf_tokenizer.h"

namespace moe::jinja {
namespace {

std::string read_text(const fs::path& path) {
  const MappedFile file(path);
  return std::string(file.text());
}

// A special token is its text, or an object with it.
std::string token_text(const Json& token) {
  if (token.is_string()) return token.get<std::string>();
  const bool object = token.is_object() && token.contains("content") && token["content"].is_string();
  return object ? token["content"].get<std::string>() : "";
}

void add_special_tokens(const Json& config, Dict& tokens) {
  if (!config.is_object()) return;
  for (const auto& [key, token] : config.items()) {
    const std::string text = key.ends_with("_token") ? token_text(token) : "";
    if (!text.empty() && tokens.find(key) == nullptr) tokens.set(key, Value(text));
  }
}

// `chat_template` of tokenizer_config.json: text, or a list of objects with a name and a template.
void add_configured(const Json& config, const std::string& file, std::vector<ChatTemplateSource>& sources) {
  const Json* found = json_find(config, "chat_template", file);
  if (found == nullptr) return;
  if (found->is_string()) {
    sources.push_back({"default", found->get<std::string>(), file + ": chat_template"});
    return;
  }
  if (!found->is_array()) {
    fail("{}: \"chat_template\" is {}, expected a string or a list of templates with names", file, json_kind(*found));
  }
  for (const Json& each : *found) {
    const std::string where = file + ": chat_template";
    const std::string name = json_string(each, "name", where);
    sources.push_back({name, json_string(each, "template", where), where + " \"" + name + "\""});
  }
}

void add_file(const fs::path& path, const std::string& name, std::vector<ChatTemplateSource>& sources) {
  const auto same = [&](const ChatTemplateSource& each) { return each.name == name; };
  sources.erase(std::remove_if(sources.begin(), sources.end(), same), sources.end());
  sources.push_back({name, read_text(path), path.string()});
}

}  // namespace

std::string_view deepseek_moe_template() {
  return R"({%- if bos_token is defined %}{{ bos_token }}{% endif %}
{%- for message in messages %}
  {%- if message['role'] == 'user' %}
    {{- 'User: ' + message['content'] + '\n\n' }}
  {%- elif message['role'] == 'assistant' %}
    {{- 'Assistant:' }}
    {%- generation %}{{- ' ' + message['content'] + (eos_token if eos_token is defined else '') }}{%- endgeneration %}
  {%- elif message['role'] == 'system' %}
    {{- message['content'] + '\n\n' }}
  {%- else %}
    {{- raise_exception('the role of a message is "' ~ message['role'] ~ '"; DeepSeekMoE knows system, user and assistant') }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt is defined and add_generation_prompt %}{{- 'Assistant:' }}{% endif %}
)";
}

namespace {

fs::path folder_of(const fs::path& tokenizer) { return is_folder(tokenizer) ? tokenizer : tokenizer.parent_path(); }

}  // namespace

std::vector<ChatTemplateSource> own_chat_templates(const fs::path& tokenizer) {
  std::vector<ChatTemplateSource> sources;
  if (is_gguf(tokenizer)) {
    add_configured(gguf_tokenizer_config(GgufFile(tokenizer)), tokenizer.string(), sources);
    return sources;
  }
  const fs::path folder = folder_of(tokenizer);
  const fs::path config = folder / "tokenizer_config.json";
  if (path_exists(config)) add_configured(read_json(config), config.string(), sources);
  if (path_exists(folder / "chat_template.jinja")) add_file(folder / "chat_template.jinja", "default", sources);
  const fs::path more = folder / kMoreTemplates;
  if (!is_folder(more)) return sources;
  std::vector<fs::path> files;
  for (const fs::path& path : folder_entries(more)) {
    if (path.extension() == ".jinja") files.push_back(path);
  }
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) add_file(file, file.stem().string(), sources);
  return sources;
}

namespace {

/// The family of the model beside a tokenizer; "deepseek" if there is none.
std::string family_beside(const fs::path& tokenizer) {
  if (is_gguf(tokenizer)) return GgufFile(tokenizer).text("general.architecture");
  const fs::path config = folder_of(tokenizer) / "config.json";
  if (!path_exists(config)) return "deepseek";
  return json_string(read_json(config), "model_type", config.string(), "deepseek");
}

bool is_ours(const std::string& family) { return family == "deepseek" || family == "moe"; }

ChatTemplateSource built_in_template(const fs::path& tokenizer) {
  if (const std::string family = family_beside(tokenizer); !is_ours(family)) {
    fail(
        "{} has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json), and none is known "
        "for models of the type \"{}\"; give one with --template",
        tokenizer.string(), family);
  }
  return {"default", std::string(deepseek_moe_template()), "the chat format of DeepSeekMoE", true};
}

}  // namespace

bool has_built_in_template(const fs::path& tokenizer) { return is_ours(family_beside(tokenizer)); }

ChatTemplateSource load_chat_template(const fs::path& tokenizer, std::string_view name, const Value& variables) {
  const std::vector<ChatTemplateSource> sources = own_chat_templates(tokenizer);
  const auto find = [&](std::string_view wanted) {
    return std::find_if(sources.begin(), sources.end(), [&](const auto& each) { return each.name == wanted; });
  };
  if (sources.empty() && name.empty()) return built_in_template(tokenizer);
  if (name.empty()) {
    const Value* tools = variables.dict().find("tools");
    const bool has_tools = tools != nullptr && !tools->is(Type::none);
    if (has_tools && find("tool_use") != sources.end()) return *find("tool_use");
    if (sources.size() == 1) return sources.front();
    name = "default";
  }
  if (const auto found = find(name); found != sources.end()) return *found;
  std::string known;
  for (const auto& each : sources) known += (known.empty() ? "" : ", ") + each.name;
  fail("{} has no chat template of the name \"{}\"; it has {}", tokenizer.string(), name,
       known.empty() ? "none" : known);
}

Value load_special_tokens(const fs::path& tokenizer) {
  auto tokens = std::make_shared<Dict>();
  if (is_gguf(tokenizer)) {
    add_special_tokens(gguf_tokenizer_config(GgufFile(tokenizer)), *tokens);
    return Value::dict(std::move(tokens));
  }
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    const fs::path file = folder_of(tokenizer) / name;
    if (path_exists(file)) add_special_tokens(read_json(file), *tokens);
  }
  return Value::dict(std::move(tokens));
}

Value with_variables(const Value& variables, const Value& more) {
  auto all = std::make_shared<Dict>();
  for (const auto& [key, value] : variables.dict().entries) all->set(key, value);
  for (const auto& [key, value] : more.dict().entries) {
    if (all->find(key) == nullptr) all->set(key, value);
  }
  return Value::dict(std::move(all));
}

}  // namespace moe::jinja
