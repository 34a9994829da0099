// The adapter of listed experts: base and adapter together are the trained model.

#include "checkpoint/expert_adapter.h"

#include <functional>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/open_model.h"
#include "checkpoint/write_gguf.h"
#include "tests/support/tiny_run.h"

namespace moe {
namespace {

using test::error_of;
using test::TinyRun;
using testing::HasSubstr;

/// A model, and a run that trained some of its experts.
struct TrainedExperts {
  TinyRun tiny;
  ThreadPool pool{2};
  fs::path adapter;

  explicit TrainedExperts(const ExpertList& list, const char* dtype = "f32", std::vector<std::string> model = {})
      : adapter(tiny / "adapter") {
    tiny.train("base", model);
    write_file(tiny / "experts.json", expert_list_text(list));
    model.insert(model.end(),
                 {"model.from=" + (tiny / "base").string(), "train.parameters=experts",
                  "train.experts=" + (tiny / "experts.json").string(), fmt::format("train.dtype={}", dtype)});
    tiny.train("part", model);
    fs::create_directory(adapter);
    write_expert_adapter(adapter, *open_weights(part()), read_expert_list(part() / kExpertListFile), {}, pool);
  }
  fs::path part() const { return tiny / "part/step-12"; }
  fs::path base() const { return tiny / "base/step-12"; }
};

std::vector<float> floats_of(const WeightSource& source, size_t parameter) {
  std::vector<float> values(static_cast<size_t>(source.table()[parameter].shape.elements()));
  source.read(parameter, 0, static_cast<int64_t>(values.size()), values.data());
  return values;
}

TEST(ExpertAdapter, OnItsModelIsTheTrainedModelBitForBit) {
  for (const ExpertList& list :
       {ExpertList{.experts = {{0, {0, 2, 3}}, {1, {1}}}},
        ExpertList{.experts = {{1, {3}}}, .shared_experts = true, .non_expert_modules = true}}) {
    const TrainedExperts trained(list);
    const auto whole = open_weights(trained.part());
    const AdaptedWeights adapted(open_weights(trained.base()), trained.adapter);
    for (size_t parameter = 0; parameter < whole->table().size(); ++parameter) {
      EXPECT_EQ(floats_of(adapted, parameter), floats_of(*whole, parameter)) << whole->table()[parameter].name;
    }
    const fs::path written = trained.tiny / "written";
    fs::create_directory(written);
    ThreadPool pool(2);
    write_model(written, adapted, {}, pool);
    EXPECT_EQ(read_file(written / "model.safetensors"), [&] {
      const fs::path again = trained.tiny / "again";
      fs::create_directory(again);
      write_model(again, *whole, {}, pool);
      return read_file(again / "model.safetensors");
    }());
  }
}

TEST(ExpertAdapter, HasTheListedTensorsAloneUnderTheirPublishedNames) {
  const TrainedExperts trained({.experts = {{0, {1}}, {1, {0, 2}}}}, "bf16");
  std::set<std::string> names;
  const SafetensorsFile file(trained.adapter / "adapter.safetensors");
  for (const SafetensorsTensor& tensor : file.tensors()) {
    names.insert(tensor.name);
    EXPECT_EQ(tensor.dtype, "BF16");
  }
  std::set<std::string> expected;
  for (const char* expert : {"0.mlp.experts.1", "1.mlp.experts.0", "1.mlp.experts.2"}) {
    for (const char* part : {"gate", "up", "down"}) {
      expected.insert(fmt::format("model.layers.{}.{}_proj.weight", expert, part));
    }
  }
  EXPECT_EQ(names, expected);
  EXPECT_EQ(read_expert_list(trained.adapter / kExpertListFile), (ExpertList{.experts = {{0, {1}}, {1, {0, 2}}}}));
}

/// Writes the adapter's file again with other names of its tensors.
void rename_tensors(const fs::path& adapter, const std::function<std::string(const std::string&)>& renamed) {
  const fs::path path = adapter / "adapter.safetensors";
  const std::string copy = read_file(path);
  write_file(adapter / "old", copy);
  fs::remove(path);
  {
    const SafetensorsFile old(adapter / "old");
    std::vector<SafetensorsWriter::Declaration> tensors;
    for (const SafetensorsTensor& tensor : old.tensors()) {
      tensors.push_back({renamed(tensor.name), tensor.dtype, tensor.shape});
    }
    SafetensorsWriter writer(path, tensors);
    for (const SafetensorsTensor& tensor : old.tensors()) writer.write(renamed(tensor.name), tensor.data, tensor.bytes);
    writer.commit();
  }
  fs::remove(adapter / "old");
}

TEST(ExpertAdapter, NamesOfTheInnerModuleAreReadToo) {
  // The published programs load an adapter into the whole model, or into its inner module `model`.
  const auto inner = [](const std::string& name) {
    return name.starts_with("model.") ? name.substr(std::string_view("model.").size()) : name;
  };
  for (const bool others : {false, true}) {
    const TrainedExperts trained({.experts = {{0, {1}}, {1, {0, 2}}}, .non_expert_modules = others});
    rename_tensors(trained.adapter, inner);
    EXPECT_NE(SafetensorsFile(trained.adapter / "adapter.safetensors").find("layers.0.mlp.experts.1.gate_proj.weight"),
              nullptr);
    const auto whole = open_weights(trained.part());
    const AdaptedWeights adapted(open_weights(trained.base()), trained.adapter);
    for (size_t parameter = 0; parameter < whole->table().size(); ++parameter) {
      EXPECT_EQ(floats_of(adapted, parameter), floats_of(*whole, parameter)) << whole->table()[parameter].name;
    }
    // One tensor under another name is none of the model.
    rename_tensors(trained.adapter, [](const std::string& name) {
      return name == "layers.0.mlp.experts.1.up_proj.weight" ? "transformer." + name : name;
    });
    EXPECT_THAT(error_of<Error>([&] { AdaptedWeights(open_weights(trained.base()), trained.adapter); }),
                HasSubstr("the tensor model.layers.0.mlp.experts.1.up_proj.weight is missing"));
  }
}

TEST(ExpertAdapter, FitsAGgufFileWithOtherNamesOfTheSameExperts) {
  for (const bool others : {false, true}) {
    const TrainedExperts trained({.experts = {{0, {1}}, {1, {0, 2}}}, .non_expert_modules = others}, "f32",
                                 {"model.n_shared_experts=0", "model.norm_topk_prob=true"});
    const fs::path file = trained.tiny / "base.gguf";
    ThreadPool pool(2);
    write_gguf(file, *open_weights(trained.base()), {}, pool);
    ASSERT_EQ(open_weights(file)->config().family, "mixtral");
    const auto whole = open_weights(trained.part());
    const AdaptedWeights adapted(open_weights(file), trained.adapter);
    for (size_t parameter = 0; parameter < whole->table().size(); ++parameter) {
      EXPECT_EQ(floats_of(adapted, parameter), floats_of(*whole, parameter)) << whole->table()[parameter].name;
    }
  }
}

TEST(ExpertAdapter, ThatDoesNotFitIsRefused) {
  const TrainedExperts trained({.experts = {{0, {1}}}});
  const auto refusal = [&] {
    return error_of<Error>([&] { AdaptedWeights(open_weights(trained.base()), trained.adapter); });
  };
  write_file(trained.adapter / kExpertListFile, R"({"experts": {"0": [1, 2]}})");
  EXPECT_THAT(refusal(), HasSubstr("model.layers.0.mlp.experts.2.gate_proj.weight is missing"));
  write_file(trained.adapter / kExpertListFile, R"({"experts": {"0": []}})");
  EXPECT_THAT(refusal(), HasSubstr("has 3 tensors, expected the 0"));
  write_file(trained.adapter / kExpertListFile, R"({"experts": {"0": [7]}})");
  EXPECT_THAT(refusal(), HasSubstr("names expert 7"));
  fs::remove(trained.adapter / "adapter.safetensors");
  EXPECT_THAT(refusal(), HasSubstr("no .safetensors file"));
}

}  // namespace
}  // namespace moe
