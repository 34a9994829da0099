#include "cli/lora_option.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/paths.h"
#include "base/utf8.h"
#include "checkpoint/end_tokens.h"
#include "checkpoint/model_path.h"
#include "formats/gguf.h"
#include "formats/json.h"
#include "template/chat_template.h"

namespace moe {
namespace {

constexpr double kMostScale = 1e6;

/// "DIR" or "DIR:SCALE". A colon that no number follows belongs to the folder's name.
ChosenAdapter parse_choice(const std::string& text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0 || path_exists(text)) return {.folder = adapter_folder(text)};
  const std::string number = text.substr(colon + 1);
  double scale = 0;
  const char* const end = number.data() + number.size();
  const auto [rest, error] = std::from_chars(number.data(), end, scale);
  if (error != std::errc() || rest != end || !(std::abs(scale) <= kMostScale)) {
    fail_usage("--lora {}: {} behind the colon is not a scale, expected a number from -{:g} to {:g}, such as 0.5",
               valid_utf8(text), json_shown(number), kMostScale, kMostScale);
  }
  return {.folder = adapter_folder(text.substr(0, colon)), .scale = scale};
}

/// Where tokenizer and chat template are. An adapter that has learned a template is used with it.
std::string companion_folder(const std::string& base, const std::vector<ChosenAdapter>& adapters) {
  const auto first_that = [&](const auto& holds) {
    const auto found = std::find_if(adapters.begin(), adapters.end(), [&](const ChosenAdapter& adapter) {
      return adapter.scale != 0 && has_tokenizer(adapter.folder) && holds(adapter.folder);
    });
    return found == adapters.end() ? std::string() : found->folder.string();
  };
  std::string folder = first_that([](const fs::path& one) { return !jinja::own_chat_templates(one).empty(); });
  if (folder.empty() && !is_gguf(base) && !has_tokenizer(base))
    folder = first_that([](const fs::path&) { return true; });
  return folder.empty() ? base : folder;
}

}  // namespace

CLI::Option* add_lora_option(CLI::App& command, std::vector<ChosenAdapter>& adapters) {
  const auto take = [&adapters](const std::vector<std::string>& texts) {
    adapters.clear();
    for (const std::string& text : texts) adapters.push_back(parse_choice(text));
  };
  return command
      .add_option_function<std::vector<std::string>>(
          "--lora", take,
          "a LoRA adapter in PEFT's form, or a run that trains one, times SCALE (default 1); may be repeated")
      ->type_name("DIR[:SCALE]")
      ->allow_extra_args(false);
}

AdaptedModel adapted_model(const std::string& model, const std::vector<ChosenAdapter>& adapters) {
  if (!is_adapter(model) || path_exists(fs::path(model) / "config.json")) {
    return {model, companion_folder(model, adapters), adapters};
  }
  const std::string base = AdapterConfig(model).base();
  if (base.empty() || !path_exists(base)) {
    fail("{} is a LoRA adapter of {}, which is not there; give the model's folder, and --lora {}", model,
         base.empty() ? "a model that it does not name" : base, model);
  }
  AdaptedModel result{.folder = model_folder(base), .companions = {}, .adapters = {{.folder = model}}};
  result.adapters.insert(result.adapters.end(), adapters.begin(), adapters.end());
  result.companions = companion_folder(result.folder, result.adapters);
  return result;
}

std::vector<int32_t> end_tokens(const AdaptedModel& model) {
  const std::vector<int32_t> own = read_end_tokens(model.folder), learned = read_end_tokens(model.companions);
  std::vector<int32_t> all;
  std::set_union(own.begin(), own.end(), learned.begin(), learned.end(), std::back_inserter(all));
  return all;
}

}  // namespace moe
