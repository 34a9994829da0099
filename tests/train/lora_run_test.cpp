// A run that trains adapters, from its beginning to what its files are used for.

#include <cfloat>
#include <cmath>
#include <cstring>

#include <gmock/gmock.h>

#include "checkpoint/adapter_set.h"
#include "checkpoint/file_types.h"
#include "checkpoint/hf_names.h"
#include "checkpoint/open_model.h"
#include "checkpoint/write_gguf.h"
#include "checkpoint/write_model.h"
#include "eval/loss.h"
#include "infer/loaded_model.h"
#include "infer/scorer.h"
#include "infer/weight_types.h"
#include "tests/support/tiny_run.h"
#include "train/freeze.h"
#include "train/trained_text.h"

namespace moe {
namespace {

using test::error_of;
using test::TinyRun;
using testing::ElementsAre;
using testing::HasSubstr;

/// A base model of twelve steps, and the settings of a run that trains adapters on it.
struct AdapterRun {
  explicit AdapterRun(const std::vector<std::string>& base = {}) { tiny.train("base", base); }

  std::vector<std::string> settings(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> all{"model.from=" + (tiny / "base").string(), "train.parameters=lora", "lora.rank=3",
                                 "optimizer.weight_decay=0"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  fs::path model() const { return tiny / "base/step-12"; }
  fs::path adapter(const std::string& run = "lora") const { return tiny / run / "step-12"; }

  /// Logits of some tokens, f32.
  std::vector<float> logits(const fs::path& folder, const std::vector<ChosenAdapter>& adapters,
                            DType dtype = DType::f32) {
    const auto device = make_cpu_device();
    const auto backend = make_cpu_backend(pool);
    const LoadedModel loaded(folder, dtype, *device, {}, adapters);
    const std::vector<int32_t> ids{5, 99, 3, 120, 7, 7, 31, 260, 14};
    Scorer scorer({loaded.model(), loaded.dtype(), *device, *backend}, static_cast<int64_t>(ids.size()));
    std::vector<float> all;
    scorer.logits(single_document(ids), [&](int64_t, int64_t rows, const float* values) {
      all.insert(all.end(), values, values + rows * loaded.config().vocab_size);
    });
    return all;
  }
  double loss(const std::string& folder, const std::vector<ChosenAdapter>& adapters) {
    const auto device = make_cpu_device();
    const auto backend = make_cpu_backend(pool);
    const LoadedModel loaded(folder, DType::f32, *device, {}, adapters);
    const Dataset valid(tiny / "valid");
    return evaluate({loaded.model(), loaded.dtype(), *device, *backend}, valid,
                    {.sequence_length = 24, .batch_rows = 2})
        .all.loss();
  }
  /// Writes base and adapters as one model.
  fs::path merge(const std::string& name, const std::vector<ChosenAdapter>& adapters) {
    auto base = open_weights(model());
    const AdapterSet set(adapters, base->config());
    make_folder(tiny / name);
    write_model(tiny / name, MergedWeights(std::move(base), set), {}, pool);
    return tiny / name;
  }

  TinyRun tiny;
  ThreadPool pool{2};
};

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(double{a[i]} - double{b[i]}));
  return a.size() == b.size() ? largest : INFINITY;
}

double root_mean_square(const std::vector<float>& values) {
  double sum = 0;
  for (const float value : values) sum += double{value} * value;
  return std::sqrt(sum / static_cast<double>(values.size()));
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

TEST(AdapterRuns, LearnAndKeepOnlyTheAdapters) {
  AdapterRun runs;
  const std::string before = read_file(runs.model() / "model.safetensors");
  runs.tiny.train("lora", runs.settings());
  const auto log = runs.tiny.log("lora");
  EXPECT_LT(log.front().at("loss"), 0.9 * runs.tiny.log("base").front().at("loss").get<double>()) << "of the model";
  EXPECT_EQ(read_file(runs.model() / "model.safetensors"), before);
  EXPECT_THAT(names_in(runs.adapter()),
              testing::IsSupersetOf({"adapter_config.json", "adapter_model.safetensors", "checksums.json",
                                     "optimizer-00001-of-00001.safetensors", "run.toml", "trainer_state.json"}));
  EXPECT_FALSE(fs::exists(runs.adapter() / "model.safetensors"));
  EXPECT_FALSE(fs::exists(runs.adapter() / "config.json")) << "it is no model of its own";
  const SafetensorsFile state(runs.adapter() / "optimizer-00001-of-00001.safetensors");
  for (const SafetensorsTensor& tensor : state.tensors()) EXPECT_THAT(tensor.name, HasSubstr(".lora_"));
  const SafetensorsFile file(runs.adapter() / "adapter_model.safetensors");
  EXPECT_EQ(file.tensors().size() * 3, state.tensors().size());
  const SafetensorsTensor* const q = file.find("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
  ASSERT_NE(q, nullptr);
  EXPECT_THAT(q->shape, ElementsAre(3, 16));
  const auto* const down = file.find("base_model.model.model.layers.1.mlp.experts.3.down_proj.lora_B.weight");
  ASSERT_NE(down, nullptr);
  EXPECT_THAT(down->shape, ElementsAre(16, 3));
}

TEST(AdapterRuns, ResumeBitForBit) {
  for (const std::vector<std::string>& more :
       {std::vector<std::string>{}, {"train.dtype=bf16", "lora.dropout=0.2"}, {"train.freeze=[\"layers.0\"]"}}) {
    AdapterRun runs;
    runs.tiny.train("once", runs.settings(more));
    runs.tiny.train("again", runs.settings(more));
    fs::remove_all(runs.tiny / "again/step-12");
    fs::remove(runs.tiny / "again/latest");
    runs.tiny.resume("again", runs.settings(more));
    EXPECT_EQ(runs.tiny.log("once"), runs.tiny.log("again"));
    for (const char* file : {"step-12/adapter_model.safetensors", "step-12/optimizer-00001-of-00001.safetensors",
                             "step-12/adapter_config.json"}) {
      EXPECT_EQ(read_file(runs.tiny / "once" / file), read_file(runs.tiny / "again" / file)) << file;
    }
  }
}

TEST(AdapterRuns, FilesGiveTheLossOfTheRunsOwnEvaluation) {
  AdapterRun runs;
  const std::string valid = "data.valid=" + (runs.tiny / "valid").string();
  runs.tiny.train("lora", runs.settings({valid, "lora.rank_experts=2", "lora.alpha=7",
                                         "lora.targets=[\"attention\", \"experts\", \"shared\", \"head\"]"}));
  const double of_run = runs.tiny.log("lora", "eval.jsonl").back().at("loss");
  EXPECT_EQ(of_run, runs.loss(runs.model().string(), {{runs.adapter()}})) << "one adapter: the same sums";
  EXPECT_NE(of_run, runs.loss(runs.model().string(), {}));
}

TEST(AdapterRuns, MergedEqualsUnmerged) {
  AdapterRun runs;
  runs.tiny.train("lora", runs.settings());
  runs.tiny.train("other", runs.settings({"train.seed=9", "lora.rank=2", "lora.targets=[\"attention\", \"experts\"]"}));
  const std::vector<std::vector<ChosenAdapter>> choices{
      {{runs.adapter()}}, {{runs.adapter(), 0.5}}, {{runs.adapter()}, {runs.adapter("other"), -0.7}}};
  const std::vector<float> base = runs.logits(runs.model(), {});
  int index = 0;
  for (const auto& adapters : choices) {
    const std::vector<float> apart = runs.logits(runs.model(), adapters);
    const std::vector<float> merged = runs.logits(runs.merge(fmt::format("merged{}", index++), adapters), {});
    EXPECT_GT(largest_difference(apart, base), 0.01 * root_mean_square(base)) << "it changes something";
    EXPECT_LT(largest_difference(apart, merged), 2e-5 * root_mean_square(base)) << "two orders of f32 sums";
  }
}

TEST(AdapterRuns, AScaleOf0IsTheModelItselfBitForBit) {
  AdapterRun runs;
  runs.tiny.train("lora", runs.settings());
  EXPECT_EQ(runs.logits(runs.model(), {{runs.adapter(), 0}}), runs.logits(runs.model(), {}));
  EXPECT_EQ(runs.logits(runs.model(), {{runs.adapter()}, {runs.adapter(), 0}}),
            runs.logits(runs.model(), {{runs.adapter()}}));
  const fs::path merged = runs.merge("merged", {{runs.adapter(), 0}});
  EXPECT_EQ(read_file(merged / "model.safetensors").size(), read_file(runs.model() / "model.safetensors").size());
  EXPECT_EQ(runs.logits(merged, {}), runs.logits(runs.model(), {}));
}

TEST(AdapterRuns, AFreshAdapterIsTheModelItselfBitForBit) {
  AdapterRun runs;
  runs.tiny.train("fresh", runs.settings({"optimizer.learning_rate=1e-30"}));
  EXPECT_EQ(runs.logits(runs.model(), {{runs.adapter("fresh")}}), runs.logits(runs.model(), {}));
  EXPECT_EQ(runs.logits(runs.merge("merged", {{runs.adapter("fresh")}}), {}), runs.logits(runs.model(), {}));
}

TEST(AdapterRuns, TheSumOfTwoAdaptersIsThatOfTheirChanges) {
  AdapterRun runs;
  runs.tiny.train("lora", runs.settings());
  const std::vector<float> twice = runs.logits(runs.model(), {{runs.adapter()}, {runs.adapter()}});
  const std::vector<float> doubled = runs.logits(runs.model(), {{runs.adapter(), 2}});
  EXPECT_LT(largest_difference(twice, doubled), 1e-5 * root_mean_square(twice));
}

/// Replaces a tensor's name in the header, or its bytes.
void damage(const fs::path& file, const std::string& from, const std::string& to) {
  std::string bytes = read_file(file);
  const size_t at = bytes.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  ASSERT_EQ(from.size(), to.size());
  bytes.replace(at, from.size(), to);
  write_file(file, bytes);
}

TEST(AdapterRuns, DamagedAdaptersAreRefusedByName) {
  AdapterRun runs;
  runs.tiny.train("lora", runs.settings());
  const auto copy = [&](const std::string& name) {
    fs::copy(runs.adapter(), runs.tiny / name, fs::copy_options::recursive);
    fs::remove(runs.tiny / name / "checksums.json");
    return runs.tiny / name;
  };
  const auto refusal = [&](const fs::path& folder) {
    return error_of<Error>([&] { runs.logits(runs.model(), {{folder}}); });
  };
  const fs::path byte = copy("byte");
  fs::copy_file(runs.adapter() / "checksums.json", byte / "checksums.json");
  std::string bytes = read_file(byte / "adapter_model.safetensors");
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  write_file(byte / "adapter_model.safetensors", bytes);
  EXPECT_THAT(refusal(byte), HasSubstr("adapter_model.safetensors"));

  const fs::path renamed = copy("renamed");
  damage(renamed / "adapter_model.safetensors", "layers.0.self_attn.q_proj.lora_A", "layers.7.self_attn.q_proj.lora_A");
  EXPECT_THAT(refusal(renamed), HasSubstr("layers.0.self_attn.q_proj.lora_A.weight is missing"));
  const fs::path extra = copy("extra");
  damage(extra / "adapter_model.safetensors", "layers.0.self_attn.q_proj.lora_A", "layers.7.self_attn.q_proj.lora_A");
  damage(extra / "adapter_model.safetensors", "layers.0.self_attn.q_proj.lora_B", "layers.7.self_attn.q_proj.lora_B");
  EXPECT_THAT(refusal(extra), HasSubstr("layers.7.self_attn.q_proj.lora_A.weight"));
  EXPECT_THAT(refusal(extra), HasSubstr("changes no linear map of this model"));

  const fs::path cut = copy("cut");
  write_file(cut / "adapter_model.safetensors", bytes.substr(0, bytes.size() - 8));
  EXPECT_THAT(refusal(cut), HasSubstr("cut/adapter_model.safetensors"));
  for (const auto& [from, to, what] : {std::array{"\"use_dora\": false", "\"use_dora\": true ", "\"use_dora\" is true"},
                                       std::array{"\"LORA\"", "\"IA3\" ", "other adapters are not known"},
                                       std::array{"\"none\"", "\"all\" ", "\"bias\" is \"all\""}}) {
    const fs::path other = copy("settings");
    damage(other / "adapter_config.json", from, to);
    EXPECT_THAT(refusal(other), HasSubstr(what));
    fs::remove_all(other);
  }
  EXPECT_THAT(error_of<Error>([&] { adapter_folder(runs.model().string()); }), HasSubstr("has no adapter_config.json"));
}

/// PEFT's ways to begin: some change the model's weights, and their adapters are not for the model as it is.
TEST(AdapterRuns, OfChangedWeightsAreRefusedByName) {
  AdapterRun runs;
  runs.tiny.train("lora", runs.settings({"train.steps=1"}));
  const fs::path folder = runs.tiny / "lora/step-1";
  Json config = read_json(folder / "adapter_config.json");
  for (const Json& plain :
       {Json(true), Json(false), Json("gaussian"), Json("orthogonal"), Json("eva"), Json(nullptr)}) {
    config["init_lora_weights"] = plain;
    write_file(folder / "adapter_config.json", json_text(config));
    const AdapterConfig read(folder);
  }
  for (const char* other : {"pissa", "pissa_niter_4", "olora", "corda", "loftq", "lora_ga", "unheard_of"}) {
    config["init_lora_weights"] = other;
    write_file(folder / "adapter_config.json", json_text(config));
    EXPECT_THAT(error_of<Error>([&] { const AdapterConfig read(folder); }),
                HasSubstr(fmt::format("\"init_lora_weights\" is \"{}\"", other)));
  }
}

TEST(AdapterRuns, PatternsAndFactorsWithoutMeaningAreRefused) {
  AdapterRun runs;
  runs.tiny.train("lora", runs.settings());
  const fs::path folder = runs.tiny / "changed";
  fs::copy(runs.adapter(), folder, fs::copy_options::recursive);
  fs::remove(folder / "checksums.json");
  const Json original = read_json(folder / "adapter_config.json");
  const ModelConfig base = read_model_config(runs.model());
  const auto refusal = [&](const ChosenAdapter& chosen) -> std::string {
    try {
      const AdapterSet set({chosen}, base);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  const auto with = [&](const char* key, const Json& value) {
    Json json = original;
    json[key] = value;
    write_file(folder / "adapter_config.json", json_text(json));
    return refusal({folder});
  };
  const auto pattern = [&](const std::string& text) { return with("alpha_pattern", {{text, 2.0}}); };
  EXPECT_EQ(pattern("layers\\.0\\.self_attn\\.(q|k)_proj"), "");
  EXPECT_THAT(pattern(std::string(100000, '(')), HasSubstr("is not a regular expression that this program knows"));
  EXPECT_THAT(pattern(std::string(100000, '(') + std::string(100000, ')')), HasSubstr("is not a regular expression"));
  EXPECT_THAT(pattern("[a"), HasSubstr("is not a regular expression"));
  const std::string slow = pattern("(?:(?:.*)*(?:.*)*)*(?:.*)*(?:.*)*(?:.*)*x");
  EXPECT_THAT(slow, testing::AnyOf(testing::IsEmpty(), HasSubstr("takes too long to compare")));
  EXPECT_THAT(with("alpha_pattern", {{"q_proj", 1e308}}), HasSubstr("q_proj is multiplied by"));
  EXPECT_THAT(with("lora_alpha", 1e300), HasSubstr("expected a number that 32 bits can hold"));
  EXPECT_THAT(with("lora_alpha", "16"), HasSubstr("\"lora_alpha\" is a string"));

  EXPECT_EQ(with("lora_alpha", 1e30), "");
  EXPECT_EQ(refusal({folder, 1e6}), "");
  EXPECT_EQ(refusal({folder, 0}), "");
  EXPECT_THAT(refusal({folder, 1e10}), HasSubstr("changed: its change times 10000000000 is not a number that"));
  EXPECT_THAT(refusal({folder, 1e-80}), HasSubstr("choose another scale"));

  std::string bytes = read_file(folder / "adapter_model.safetensors");
  const float largest = FLT_MAX;  // finite, but its product with 1e30 is not
  std::memcpy(bytes.data() + bytes.size() - sizeof largest, &largest, sizeof largest);
  write_file(folder / "adapter_model.safetensors", bytes);
  EXPECT_THAT(error_of<Error>([&] { runs.merge("merged", {{folder}}); }), HasSubstr("with the adapters, element"));
}

TEST(AdapterRuns, AnAdapterOfAnotherModelIsRefusedWithTheTensor) {
  AdapterRun runs;
  runs.tiny.train("lora", runs.settings());
  runs.tiny.train("wider", {"model.moe_intermediate_size=12"});
  const std::string error = error_of<Error>([&] { runs.logits(runs.tiny / "wider/step-12", {{runs.adapter()}}); });
  EXPECT_THAT(error, HasSubstr("lora_B.weight is F32 [8, 3], expected [12, 3]"));
}

TEST(AdapterRuns, ADamagedCheckpointIsNotResumed) {
  AdapterRun runs;
  runs.tiny.train("lora", runs.settings());
  const fs::path newest = runs.adapter() / "adapter_model.safetensors";
  std::string bytes = read_file(newest);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 4);
  write_file(newest, bytes);
  const CheckpointSearch search = find_checkpoint(runs.tiny / "lora");
  ASSERT_TRUE(search.found);
  EXPECT_EQ(search.found->state.step, 8);
  EXPECT_EQ(search.damaged.size(), 1u);
}

TEST(AdapterRuns, WhatDoesNotFitIsRefusedBeforeTheFirstStep) {
  AdapterRun runs;
  const auto refusal = [&](const std::vector<std::string>& set) {
    const std::string error = error_of<Error>([&] { runs.tiny.train("never", set); });
    EXPECT_FALSE(fs::exists(runs.tiny / "never/log.jsonl"));
    return error;
  };
  EXPECT_THAT(refusal({"train.parameters=lora"}), HasSubstr("\"all\" without model.from"));
  EXPECT_THAT(refusal({"train.parameters=some"}), HasSubstr("\"all\", \"lora\" or \"experts\""));
  EXPECT_THAT(refusal({"lora.rank=4"}), HasSubstr("it needs train.parameters = lora"));
  EXPECT_THAT(refusal(runs.settings({"lora.rank=0"})), HasSubstr("lora.rank"));
  EXPECT_THAT(refusal(runs.settings({"lora.dropout=1"})), HasSubstr("lora.dropout"));
  EXPECT_THAT(refusal(runs.settings({"lora.targets=[\"router\"]"})), HasSubstr("is not a target of adapters"));
  EXPECT_THAT(refusal(runs.settings({"lora.targets=[\"dense\"]"})), HasSubstr("stands for nothing in this model"));
  EXPECT_THAT(refusal(runs.settings({"lora.targets=[]"})), HasSubstr("no target is given"));
  runs.tiny.train("lora", runs.settings());
  EXPECT_THAT(refusal({"model.from=" + (runs.tiny / "lora").string()}),
              HasSubstr("is a LoRA adapter, expected a whole model"));
  const auto resumed = [&](const std::vector<std::string>& more) {
    return error_of<Error>([&] { runs.tiny.resume("lora", runs.settings(more), {"lora.rank"}); });
  };
  EXPECT_THAT(resumed({"lora.rank=4"}), HasSubstr("has the optimiser state of lora.rank = 3"));
}

TEST(AdapterRuns, ABaseInBlocksTrainsInLessMemoryAndResumesBitForBit) {
  const std::vector<std::string> sizes{"model.hidden_size=64", "model.moe_intermediate_size=32"};
  AdapterRun runs(sizes);
  const auto settings = [&](const std::string& base, const std::string& dtype) {
    std::vector<std::string> all = runs.settings({"train.dtype=" + dtype, "lora.base=" + base});
    all.insert(all.end(), sizes.begin(), sizes.end());
    return all;
  };
  for (const std::string dtype : {"f32", "bf16"}) {
    const auto parameters = [&](const std::string& base) {
      const RunConfig run = runs.tiny.config("none", settings(base, dtype));
      return plan_training(run.model, run.step).parameters;
    };
    EXPECT_LT(parameters("q8_0"), parameters(dtype));
    EXPECT_LT(parameters("q4_0"), parameters("q8_0"));
    runs.tiny.train("plain-" + dtype, settings(dtype, dtype));
    const std::string run = "blocks-" + dtype, again = "again-" + dtype;
    runs.tiny.train(run, settings("q8_0", dtype));
    const auto blocks = runs.tiny.log(run), plain = runs.tiny.log("plain-" + dtype);
    EXPECT_LT(blocks.back().at("loss"), blocks.front().at("loss").get<double>());
    EXPECT_NE(blocks.front().at("loss"), plain.front().at("loss"));
    EXPECT_NEAR(blocks.front().at("loss").get<double>(), plain.front().at("loss").get<double>(), 0.02);
    runs.tiny.train(again, settings("q8_0", dtype));
    fs::remove_all(runs.tiny / again / "step-12");
    fs::remove(runs.tiny / again / "latest");
    runs.tiny.resume(again, settings("q8_0", dtype));
    EXPECT_EQ(runs.tiny.log(run), runs.tiny.log(again));
  }
  EXPECT_THAT(error_of<Error>([&] { runs.tiny.config("never", settings("f32", "bf16")); }),
              HasSubstr("expected train.dtype, which is bf16, or a type of blocks"));
  EXPECT_THAT(error_of<Error>([&] { runs.tiny.config("never", settings("fp4", "bf16")); }), HasSubstr("nf4"));
}

/// A base in nf4 whose rows are whole blocks.
const std::vector<std::string> kNf4Sizes{"model.hidden_size=64", "model.moe_intermediate_size=64"};

std::vector<std::string> with_nf4_sizes(std::vector<std::string> settings) {
  settings.insert(settings.end(), kNf4Sizes.begin(), kNf4Sizes.end());
  return settings;
}

TEST(AdapterRuns, ABaseInNf4LearnsInLessMemoryThanInQ8_0AndResumesBitForBit) {
  AdapterRun runs(kNf4Sizes);
  const auto settings = [&](const std::string& base) {
    return with_nf4_sizes(runs.settings({"train.dtype=bf16", "lora.base=" + base}));
  };
  const auto parameters = [&](const std::string& base) {
    const RunConfig run = runs.tiny.config("none", settings(base));
    return plan_training(run.model, run.step).parameters;
  };
  EXPECT_LT(parameters("nf4"), parameters("q8_0"));
  for (const char* run : {"once", "again"}) runs.tiny.train(run, settings("nf4"));
  const auto log = runs.tiny.log("once");
  EXPECT_LT(log.back().at("loss"), log.front().at("loss").get<double>());
  fs::remove_all(runs.tiny / "again/step-12");
  fs::remove(runs.tiny / "again/latest");
  runs.tiny.resume("again", settings("nf4"));
  EXPECT_EQ(runs.tiny.log("once"), runs.tiny.log("again"));
  // The adapter belongs to the rounded weights.
  const std::vector<ChosenAdapter> adapter{{.folder = runs.adapter("once")}};
  EXPECT_GT(largest_difference(runs.logits(runs.model(), adapter, DType::nf4), runs.logits(runs.model(), adapter)), 0);
}

/// Each matrix is quantised by itself: q, k and v, gate and up, and those of every expert.
TEST(AdapterRuns, ABaseInNf4IsItsMatricesOneByOne) {
  AdapterRun runs(kNf4Sizes);
  const auto device = make_cpu_device();
  const ModelConfig config = read_model_config(runs.model());
  const auto table = parameter_table(config);
  std::vector<std::vector<char>> memory;
  std::vector<View> views;
  for (const Parameter& parameter : table) {
    const DType type = parameter.storage(DType::nf4);
    memory.emplace_back(static_cast<size_t>(bytes_of(type, parameter.shape.elements())));
    views.emplace_back(memory.back().data(), type, parameter.shape);
  }
  load_model(runs.model().string(), config, views, *device);
  const SafetensorsFile file(runs.model() / "model.safetensors");
  int compared = 0;
  for (const HfTensor& tensor : hf_tensors(config, table)) {
    const View& view = views[tensor.parameter];
    if (view.dtype != DType::nf4) continue;
    const SafetensorsTensor* const stored = file.find(tensor.name);
    ASSERT_NE(stored, nullptr) << tensor.name;
    std::vector<float> numbers(static_cast<size_t>(tensor.elements()));
    storage(safetensors_type(stored->dtype)->dtype).to_floats(stored->data, numbers.data(), tensor.elements());
    std::vector<char> expected(static_cast<size_t>(bytes_of(DType::nf4, tensor.elements())));
    floats_to_nf4(numbers.data(), expected.data(), tensor.elements());
    const char* const found = static_cast<const char*>(view.data) + bytes_of(DType::nf4, tensor.offset);
    EXPECT_EQ(std::memcmp(found, expected.data(), expected.size()), 0) << tensor.name;
    ++compared;
  }
  EXPECT_GT(compared, 2 * (4 + 3 * 5));
}

/// A GGUF file as the base: beside blocks that --dtype asks for, embedding and head keep their numbers as in training.
TEST(AdapterRuns, AGgufBaseInBlocksIsTheModelThatWasTrained) {
  std::vector<std::string> sizes = kNf4Sizes;
  sizes.insert(sizes.end(), {"train.steps=1", "model.first_k_dense_replace=1", "model.intermediate_size=64"});
  AdapterRun runs(sizes);
  const fs::path folder = runs.tiny / "base/step-1", file = runs.tiny / "base.gguf";
  write_gguf(file, *open_weights(folder), {}, runs.pool);
  std::vector<std::string> settings = runs.settings(sizes);
  settings.insert(settings.end(), {"train.steps=2", "lora.base=q8_0"});
  runs.tiny.train("lora", settings);
  const std::vector<ChosenAdapter> adapter{{.folder = runs.tiny / "lora/step-2"}};
  for (const DType type : {DType::q8_0, DType::nf4}) {
    EXPECT_EQ(runs.logits(file, adapter, type), runs.logits(folder, adapter, type)) << name(type);
    const ModelConfig config = read_adapted_config(folder, adapter);
    const auto table = parameter_table(config);
    const auto types = types_on_device(file, table, type);
    EXPECT_EQ(types, types_on_device(folder, table, type));
    for (size_t i = 0; i < table.size(); ++i) EXPECT_TRUE(!table[i].is_by_token() || is_plain(types[i]));
  }
}

TEST(AdapterRuns, AnotherModelIsRefusedOnAResumeByName) {
  AdapterRun runs;
  runs.tiny.train("lora", runs.settings());
  runs.tiny.train("other", {"train.seed=5"});
  fs::remove_all(runs.tiny / "lora/step-12");
  fs::remove(runs.tiny / "lora/latest");
  std::vector<std::string> settings = runs.settings();
  settings.push_back("model.from=" + (runs.tiny / "other").string());
  const std::string refused = error_of<Error>([&] { runs.tiny.resume("lora", settings, {"model.from"}); });
  EXPECT_THAT(refused, HasSubstr((runs.tiny / "other").string()));
  EXPECT_THAT(refused, HasSubstr("were trained beside other weights"));
  // A copy of the model under another name is the same model.
  fs::copy(runs.model(), runs.tiny / "copy", fs::copy_options::recursive);
  settings.back() = "model.from=" + (runs.tiny / "copy").string();
  runs.tiny.resume("lora", settings, {"model.from"});
  EXPECT_TRUE(fs::exists(runs.adapter()));
}

/// Of a list of experts: their adapters train, those of the others stay as they began.
TEST(AdapterRuns, AListOfExpertsRestrictsTheirAdapters) {
  for (const std::string dtype : {"f32", "bf16"}) {
    AdapterRun runs;
    const std::string list = (runs.tiny / "experts.json").string();
    write_file(list, R"({"experts": {"0": [1, 2], "1": [0]}})");
    const auto settings = runs.settings({"train.dtype=" + dtype, "train.experts=" + list});
    for (const char* run : {"lora", "again"}) runs.tiny.train(run, settings);
    const SafetensorsFile file(runs.adapter() / "adapter_model.safetensors");
    int moved = 0;
    for (const SafetensorsTensor& tensor : file.tensors()) {
      if (tensor.name.find(".lora_B.") == std::string::npos) continue;
      std::vector<float> values(static_cast<size_t>(tensor.elements()));
      safetensors_type(tensor.dtype)->to_floats(tensor.data, values.data(), tensor.elements());
      const bool moves = root_mean_square(values) > 0;
      const bool routed = tensor.name.find(".mlp.experts.") != std::string::npos;
      const bool listed = tensor.name.find("layers.0.mlp.experts.1.") != std::string::npos ||
                          tensor.name.find("layers.0.mlp.experts.2.") != std::string::npos ||
                          tensor.name.find("layers.1.mlp.experts.0.") != std::string::npos;
      EXPECT_EQ(moves, listed || !routed) << tensor.name;
      moved += moves ? 1 : 0;
    }
    EXPECT_EQ(moved, 3 * 3 + 2 * (4 + 3)) << "three experts; attention and shared experts of two layers";
    const RunConfig run = runs.tiny.config("none", settings), all = runs.tiny.config("none", runs.settings());
    EXPECT_LT(trained_elements(training_table(run.model, run.step)),
              trained_elements(training_table(all.model, all.step)));
    fs::remove_all(runs.tiny / "again/step-12");
    fs::remove(runs.tiny / "again/latest");
    fs::remove(list);
    runs.tiny.resume("again", settings);
    EXPECT_EQ(runs.tiny.log("lora"), runs.tiny.log("again"));
  }
}

TEST(AdapterRuns, AListOfAllExpertsIsNoRestriction) {
  AdapterRun runs;
  const std::string list = (runs.tiny / "experts.json").string();
  write_file(list, R"({"experts": {"0": [0, 1, 2, 3], "1": [0, 1, 2, 3]}})");
  runs.tiny.train("listed", runs.settings({"train.experts=" + list}));
  runs.tiny.train("all", runs.settings());
  EXPECT_EQ(runs.tiny.log("listed"), runs.tiny.log("all"));
  EXPECT_THAT(error_of<Error>([&] {
                runs.tiny.config("none", runs.settings({"train.experts=" + list, "lora.targets=[\"attention\"]"}));
              }),
              HasSubstr("train.experts: it lists routed experts, but lora.targets has no \"experts\""));
}

TEST(AdapterRuns, TheTableAtTheStartAddsUp) {
  AdapterRun runs;
  const RunConfig run = runs.tiny.config("lora", runs.settings({"train.dtype=bf16"}));
  ASSERT_TRUE(has_trained_text(run));
  EXPECT_FALSE(has_trained_text(runs.tiny.config("plain")));
  const std::string text = trained_text(run, "the device");
  const std::vector<Parameter> table = training_table(run.model, std::vector<std::string>{});
  EXPECT_THAT(text, HasSubstr("adapters of routed experts"));
  EXPECT_THAT(text, HasSubstr("bf16, updated in f32   the device"));
  std::istringstream lines(text);
  int64_t all = 0, trained = 0, sum = 0, sum_trained = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("parameters")) continue;
    std::istringstream numbers(line.substr(28));
    int64_t first = 0, second = 0;
    numbers >> first >> second;
    (line.starts_with("sum") ? sum : all) += first;
    (line.starts_with("sum") ? sum_trained : trained) += second;
  }
  EXPECT_EQ(all, sum);
  EXPECT_EQ(trained, sum_trained);
  EXPECT_EQ(sum, count_elements(table));
  EXPECT_EQ(sum_trained, trained_elements(table));
}

/// A family whose experts PEFT adapts as one parameter.
TEST(AdapterRuns, FusedExpertsAreWrittenAndReadAsOneParameter) {
  AdapterRun runs({"model.n_shared_experts=0", "model.norm_topk_prob=true"});
  Json config = read_json(runs.model() / "config.json");
  const fs::path mixtral = runs.tiny / "mixtral";
  make_folder(mixtral);
  {
    // The same weights as a model of another family.
    auto base = open_weights(runs.model());
    ModelConfig other = base->config();
    other.family = "mixtral";
    struct Renamed final : WeightSource {
      Renamed(ModelConfig config, const WeightSource& of) : WeightSource(std::move(config)), from(of) {}
      DType stored(size_t p, int64_t e) const override { return from.stored(p, e); }
      StoredElement place(size_t p, int64_t e) const override { return from.place(p, e); }
      void read(size_t p, int64_t b, int64_t c, float* v) const override { from.read(p, b, c, v); }
      void read(size_t p, int64_t b, int64_t c, int32_t* v) const override { from.read(p, b, c, v); }
      const WeightSource& from;
    };
    write_model(mixtral, Renamed(other, *base), {}, runs.pool);
  }
  runs.tiny.train("fused", {"model.n_shared_experts=0", "model.norm_topk_prob=true", "model.from=" + mixtral.string(),
                            "train.parameters=lora", "lora.rank=3", "lora.rank_experts=2",
                            "data.valid=" + (runs.tiny / "valid").string()});
  const Json settings = read_json(runs.adapter("fused") / "adapter_config.json");
  EXPECT_EQ(settings.at("target_parameters"), Json::array({"mlp.experts.down_proj", "mlp.experts.gate_up_proj"}));
  EXPECT_EQ(settings.at("rank_pattern").at("mlp.experts.gate_up_proj"), 4);
  EXPECT_EQ(settings.at("rank_pattern").at("mlp.experts.down_proj"), 2);
  EXPECT_EQ(settings.at("alpha_pattern").at("mlp.experts.gate_up_proj"), 32.0);
  const SafetensorsFile file(runs.adapter("fused") / "adapter_model.safetensors");
  const std::string experts = "base_model.model.model.layers.1.mlp.experts.";
  EXPECT_THAT(file.find(experts + "base_layer.lora_A.weight")->shape, ElementsAre(4 * 4, 16));
  EXPECT_THAT(file.find(experts + "base_layer.lora_B.weight")->shape, ElementsAre(2 * 8, 4 * 4));
  EXPECT_THAT(file.find(experts + "lora_A.weight")->shape, ElementsAre(4 * 2, 8));
  EXPECT_THAT(file.find(experts + "lora_B.weight")->shape, ElementsAre(16, 4 * 2));
  const ModelConfig base = read_model_config(mixtral);
  AdapterShapes shapes = AdapterSet({{runs.adapter("fused")}}, base).shapes();
  EXPECT_EQ((shapes[{1, ParameterRole::experts_gate_up}].rank), 2) << "read back apart";
  EXPECT_EQ(runs.tiny.log("fused", "eval.jsonl").back().at("loss").get<double>(),
            runs.loss(mixtral.string(), {{runs.adapter("fused")}}));
}

}  // namespace
}  // namespace moe
