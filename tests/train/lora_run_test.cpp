// A run that trains adapters: what it learns, keeps, resumes and refuses.

#include <cstring>

#include <gmock/gmock.h>

#include "checkpoint/hf_names.h"
#include "tests/train/adapter_run.h"
#include "train/freeze.h"
#include "train/trained_text.h"

namespace moe {
namespace {

using test::AdapterRun;
using test::error_of;
using test::kNf4Sizes;
using test::largest_difference;
using test::root_mean_square;
using testing::ElementsAre;
using testing::HasSubstr;

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

/// Rows that are not whole blocks cannot have the type that was asked for.
TEST(AdapterRuns, TensorsThatGetAnotherTypeThanTheBasesAreCountedBeforeTheRun) {
  AdapterRun runs({"model.hidden_size=64", "model.moe_intermediate_size=24"});
  const auto warning = [&](const std::string& base, const std::string& width) {
    return base_types_warning(runs.tiny.config(
        "none", runs.settings({"model.hidden_size=64", "model.moe_intermediate_size=" + width, "lora.base=" + base})));
  };
  // Of each layer: q, k, v, output, and gate, up and down of 4 experts and 1 shared one; down has rows of 24 numbers.
  EXPECT_EQ(
      warning("nf4", "24"),
      "lora.base = nf4: 10 of 38 tensors get f16 instead, because their rows (of 24 numbers) are not whole blocks "
      "of 64");
  EXPECT_EQ(warning("q4_k", "24"),
            "lora.base = q4_k: 10 of 38 tensors get f16 and 28 get q5_0 instead, because their rows (of 24 or 64 "
            "numbers) are not whole blocks of 256");
  EXPECT_EQ(warning("nf4", "64"), "");
  EXPECT_EQ(warning("f32", "24"), "");
  EXPECT_EQ(base_types_warning(runs.tiny.config("plain")), "");
  const RunConfig run = runs.tiny.config(
      "none", runs.settings({"model.hidden_size=64", "model.moe_intermediate_size=24", "lora.base=nf4"}));
  const std::string text = trained_text(run, "the device");
  const size_t line = text.find("\nrouted experts ");
  ASSERT_NE(line, std::string::npos);
  EXPECT_THAT(text.substr(line + 1, text.find('\n', line + 1) - line), HasSubstr("nf4, f16 "));
}

}  // namespace
}  // namespace moe
