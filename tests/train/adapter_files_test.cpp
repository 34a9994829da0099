// Files of adapters: what they give beside a model, merged with it, and which of them are refused.

#include <cfloat>
#include <cstring>

#include <gmock/gmock.h>

#include "checkpoint/file_types.h"
#include "checkpoint/write_gguf.h"
#include "infer/weight_types.h"
#include "tests/train/adapter_run.h"

namespace moe {
namespace {

using test::AdapterRun;
using test::error_of;
using test::kNf4Sizes;
using test::largest_difference;
using test::root_mean_square;
using testing::ElementsAre;
using testing::HasSubstr;

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

/// Some models have other tensor names as a GGUF file than as a folder, and then so have their adapters.
TEST(AdapterRuns, FitEveryFormOfTheirModel) {
  const std::vector<std::string> model{"model.n_shared_experts=0", "model.norm_topk_prob=true",
                                       "model.num_attention_heads=4", "model.num_key_value_heads=2"};
  AdapterRun runs(model);
  const fs::path folder = runs.model(), file = runs.tiny / "base.gguf", mixtral = runs.tiny / "mixtral";
  write_gguf(file, *open_weights(folder), {}, runs.pool);
  make_folder(mixtral);
  write_model(mixtral, *open_weights(file), {}, runs.pool);
  ASSERT_EQ(read_model_config(folder).family, "deepseek");
  ASSERT_EQ(read_model_config(mixtral).family, "mixtral");
  std::vector<std::string> settings = runs.settings(model);
  runs.tiny.train("modules", settings);
  settings.push_back("model.from=" + mixtral.string());
  runs.tiny.train("parameters", settings);
  const std::vector<float> base = runs.logits(folder, {});
  for (const char* run : {"modules", "parameters"}) {
    const std::vector<float> logits = runs.logits(folder, {{runs.adapter(run)}});
    EXPECT_GT(largest_difference(logits, base), 0.01 * root_mean_square(base)) << "it changes something";
    EXPECT_EQ(runs.logits(file, {{runs.adapter(run)}}), logits) << run;
    EXPECT_EQ(runs.logits(mixtral, {{runs.adapter(run)}}), logits) << run;
  }

  // Both forms in one file say two things about the same experts.
  const fs::path both = runs.tiny / "both";
  make_folder(both);
  fs::copy_file(runs.adapter("parameters") / kAdapterConfig, both / kAdapterConfig);
  const SafetensorsFile first(runs.adapter("modules") / kAdapterWeights);
  const SafetensorsFile second(runs.adapter("parameters") / kAdapterWeights);
  std::vector<const SafetensorsTensor*> tensors;
  std::vector<SafetensorsWriter::Declaration> declared;
  for (const SafetensorsFile* from : {&first, &second}) {
    for (const SafetensorsTensor& tensor : from->tensors()) {
      if (from == &second && first.find(tensor.name) != nullptr) continue;
      tensors.push_back(&tensor);
      declared.push_back({tensor.name, tensor.dtype, tensor.shape});
    }
  }
  SafetensorsWriter writer(both / kAdapterWeights, declared);
  for (const SafetensorsTensor* tensor : tensors) writer.write(tensor->name, tensor->data, tensor->bytes);
  writer.commit();
  for (const fs::path& form : {folder, file}) {
    EXPECT_THAT(error_of<Error>([&] { runs.logits(form, {{both}}); }),
                HasSubstr("mlp.experts.base_layer.lora_A.weight change the same linear map"));
  }
}

}  // namespace
}  // namespace moe
