#include "train/model_settings.h"

#include <algorithm>

#include "base/paths.h"
#include "checkpoint/model_path.h"
#include "checkpoint/open_model.h"
#include "formats/gguf.h"
#include "formats/json.h"
#include "formats/weighted_paths.h"
#include "model/balance_defaults.h"
#include "model/keys.h"
#include "model/methods.h"
#include "model/presets.h"
#include "model/routing_text.h"
#include "train/freeze.h"
#include "train/granularity.h"
#include "train/read_keys.h"

namespace moe {
namespace {

/// The coefficient of the balance loss in the config.json of all families.
constexpr const char* kBalanceFields[] = {"aux_loss_alpha", "router_aux_loss_coef"};

/// Runs `find`. Adds the key, and the place where it is given, to a UsageError.
template <class Find>
void find_named(Settings& settings, std::string_view key, const Find& find) {
  keep_mistake_of(settings, key, [&] {
    try {
      find();
    } catch (const UsageError& error) {
      fail_usage("{}: {}: {}", settings.where(key), key, error.what());
    }
  });
}

/// Applies the row that model.method names; null: none.
const Method* apply_method(Settings& settings, RunConfig& run) {
  if (run.method_name.empty()) return nullptr;
  const Method* method = nullptr;
  find_named(settings, "model.method", [&] { method = &find_method(run.method_name); });
  if (method == nullptr) return nullptr;
  if (method->routes() && run.model.n_routed_experts == 0) {
    keep_mistake_of(settings, "model.n_routed_experts", [&] {
      settings.refuse("model.n_routed_experts",
                      fmt::format("the number of experts that model.method = {} chooses from", method->name));
    });
  }
  method->apply(run.model, run.step.balance);
  run.balanced_hash = method->balanced_hash;
  return method;
}

ModelConfig config_of_start(RunConfig& run, const RunStart& start) {
  if (start.like != nullptr && !start.like->from.empty()) return start.like->model.base();
  // A checkpoint of adapters does not have their model.
  if (!run.kept_in.empty() && path_exists(fs::path(run.kept_in) / "config.json")) return read_model_config(run.kept_in);
  run.from = model_folder(run.from);
  return read_model_config(run.from);
}

/// A dataset, or a list of them. A dry run may name one that is not there yet.
bool is_there(const std::string& data) { return !data.empty() && (is_weighted_paths(data) || path_exists(data)); }

/// The configuration of model.from. It decides the model, so no other key may.
void read_loaded_model(Settings& settings, RunConfig& run, const std::function<int64_t()>& dataset_vocabulary,
                       const RunStart& start) {
  const auto refuse = [&](const char* key, const std::string& value) {
    if (value.empty()) return;
    settings.refuse(key, "nothing beside model.from, which has the sizes and the routing of its own");
  };
  refuse("model.preset", run.preset);
  refuse("model.method", run.method_name);
  try {
    run.model = config_of_start(run, start);
    // A dataset with new tokens has more ids (train/start_checks.cpp compares the tokenizers).
    if (is_there(run.data.train)) run.model.vocab_size = std::max(run.model.vocab_size, dataset_vocabulary());
  } catch (const Error& error) {
    fail_usage("{}: model.from: {}", settings.where("model.from"), error.what());
  }
}

}  // namespace

void read_model(Settings& settings, RunConfig& run, const std::function<int64_t()>& dataset_vocabulary,
                const RunStart& start) {
  ModelConfig& model = run.model;
  const bool preset = !run.preset.empty();
  if (preset) find_named(settings, "model.preset", [&] { model = find_preset(run.preset).config; });
  const bool loaded = !run.from.empty();
  if (loaded)
    keep_mistake_of(settings, "model.from", [&] { read_loaded_model(settings, run, dataset_vocabulary, start); });
  const ModelConfig begun = model;
  const ModelConfig* const kept = loaded ? &begun : nullptr;
  const bool of_dataset = !loaded && !settings.given("model.vocab_size") && (!preset || !run.data.train.empty());
  // No dataset is opened for settings that are refused anyway.
  if (of_dataset && !settings.has_mistakes()) {
    keep_mistake_of(settings, "model.vocab_size", [&] { model.vocab_size = dataset_vocabulary(); });
  }
  constexpr std::string_view kTopK = "model.num_experts_per_tok";
  expand_granularity(settings, model.n_shared_experts);
  read_rows(settings, rows_before(model_keys(), kTopK), model, model, preset || loaded, kept);
  const Method* const method = apply_method(settings, run);
  const ModelConfig chosen = model;  // the choices of the method or the preset
  read_rows(settings, rows_from(model_keys(), kTopK), model, model, false, kept);
  const int64_t top_k = chosen.num_experts_per_tok;
  if (model.n_routed_experts == 0) model.num_experts_per_tok = 0;
  // Without experts K is 0 whatever is given, and the experts are what is missing.
  const bool with_experts = model.n_routed_experts > 0;
  if (method != nullptr && method->fixes_top_k() && with_experts && model.num_experts_per_tok != top_k) {
    keep_mistake_of(settings, kTopK, [&] {
      settings.refuse(
          kTopK, fmt::format("{}, which model.method = {} stands for; leave one of the two out", top_k, method->name));
    });
  }
  // The method's losses belong to its own choices only.
  if (method == nullptr || model.routing != chosen.routing || model.topk_method != chosen.topk_method) {
    run.step.balance = default_balance(model);
    // A model says with which coefficient it was trained.
    if (loaded && run.step.balance.alpha_expert != 0) {
      run.step.balance.alpha_expert = static_cast<float>(model.aux_loss_alpha);
    }
  }
  if (model.topk_method == TopkMethod::group_limited_greedy) run.step.balance.devices = static_cast<int>(model.n_group);
}

namespace {

/// Refuses a list that leaves nothing to train, and a list for adapters of no experts.
void check_listed(const RunConfig& run) {
  if (run.step.parameters == TrainedPart::lora) {
    const auto& targets = run.step.lora.targets;
    if (std::find(targets.begin(), targets.end(), "experts") == targets.end()) {
      fail("it lists routed experts, but lora.targets has no \"experts\"; add that target, or leave out the list");
    }
  }
  training_table(run.model, {}, &*run.step.experts);
}

}  // namespace

void read_experts(Settings& settings, RunConfig& run, const RunStart& start) {
  const bool of_adapters = run.step.parameters == TrainedPart::lora && !run.step.experts_file.empty();
  if (run.step.parameters != TrainedPart::experts && !of_adapters) return;
  constexpr std::string_view kKey = "train.experts";
  if (start.like != nullptr) {
    run.step.experts = start.like->step.experts;
    return;
  }
  keep_mistake_of(settings, kKey, [&] {
    if (run.step.experts_file.empty()) settings.fail_missing(kKey, "the file that `moe eval experts` writes");
    const fs::path kept = fs::path(run.kept_in) / kExpertListFile;
    const std::string file = run.kept_in.empty() ? run.step.experts_file : kept.string();
    try {
      run.step.experts = read_expert_list(file);
      check_expert_list(*run.step.experts, run.model, file);
      const ExpertList& list = *run.step.experts;
      if (list.count() == 0 && !list.shared_experts && !list.non_expert_modules) {
        fail("{} lists no expert, and no switch is true, so that nothing is left to train; name some experts", file);
      }
      check_listed(run);
    } catch (const Error& error) {
      run.step.experts.reset();
      fail_usage("{}: {}: {}", settings.where(kKey), kKey, error.what());
    }
  });
}

std::string method_text(const RunConfig& run) {
  std::string text = routing_text(run.model);
  if (run.step.second_stage > 0) text += fmt::format(", second stage from step {} on", run.step.second_stage);
  if (kNeedsHash.holds(run.model)) text += run.balanced_hash ? ", balanced tables" : ", random tables";
  return run.method_name.empty()
             ? text
             : fmt::format("{} ({}): {}", run.method_name, find_method(run.method_name).title, text);
}

namespace {

/// Whether the model's files have the coefficient of its balance loss. GGUF files have none.
bool says_balance_loss(const fs::path& model) {
  const fs::path file = model / "config.json";
  if (is_gguf(model) || !path_exists(file)) return false;
  const Json json = read_json(file);
  return std::any_of(std::begin(kBalanceFields), std::end(kBalanceFields),
                     [&](const char* field) { return json_find(json, field, file.string()) != nullptr; });
}

/// Where the coefficient of the balance loss is from, in a run that begins with a model.
std::string balance_source(const RunConfig& run) {
  const bool resumed = !run.kept_in.empty();
  if (!resumed && !says_balance_loss(run.from)) return fmt::format("default; {} has none", run.from);
  return "the model's, " + run.from;
}

}  // namespace

std::vector<std::string> coefficient_lines(const Settings& settings, const RunConfig& run) {
  std::vector<std::string> lines;
  tell<BalanceConfig>(balance_keys(), run.step.balance, run.model, [&](const KeyInfo& row, const std::string& value) {
    const bool of_model =
        !run.from.empty() && !settings.given(row.key) && std::string_view(row.key) == "balance.alpha_expert";
    lines.push_back(
        fmt::format("{} = {} ({})", row.key, value, of_model ? balance_source(run) : settings.where(row.key)));
  });
  return lines;
}

}  // namespace moe
