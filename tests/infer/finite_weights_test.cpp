// A model with weights that are not finite, or that a type cannot hold, is refused with the tensor's name.

#include <cmath>
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/checksums.h"
#include "checkpoint/hf_config.h"
#include "checkpoint/open_model.h"
#include "checkpoint/weights.h"
#include "checkpoint/write_gguf.h"
#include "checkpoint/write_model.h"
#include "formats/gguf.h"
#include "formats/json.h"
#include "formats/safetensors.h"
#include "infer/loaded_model.h"
#include "tests/infer/support.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model.h"

namespace moe::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// A model folder; `change` gets each parameter's values.
std::vector<WrittenFile> write(const fs::path& folder,
                               const std::function<void(const Parameter&, std::vector<float>&)>& change) {
  const ModelConfig config = tiny_config();
  const auto table = parameter_table(config);
  Cpu cpu(1);
  std::vector<std::vector<float>> memory;
  std::vector<View> views;
  for (const Parameter& parameter : table) {
    const int64_t elements = parameter.shape.elements();
    auto& values = memory.emplace_back(static_cast<size_t>(elements));
    initial_values(parameter, 5, 0.1, 0, elements, values.data());
    change(parameter, values);
    views.emplace_back(values.data(), DType::f32, parameter.shape);
  }
  write_file(folder / "config.json", json_text(to_hf_config(config, DType::f32)));
  return {save_weights(folder, config, table, views, *cpu.device)};
}

std::string refusal(const fs::path& folder, DType weights = DType::f32) {
  Cpu cpu(1);
  return error_of<Error>([&] { LoadedModel(folder, weights, *cpu.device); });
}

TEST(FiniteWeights, OneElementOfAnyTensorIsNamed) {
  for (const Parameter& poisoned : parameter_table(tiny_config())) {
    for (const float bad : {NAN, -INFINITY}) {
      const TemporaryFolder folder;
      write(folder.path(), [&](const Parameter& parameter, std::vector<float>& values) {
        if (parameter.name == poisoned.name) values.back() = bad;
      });
      for (const DType weights : {DType::f32, DType::bf16}) {
        EXPECT_THAT(refusal(folder.path(), weights),
                    AllOf(HasSubstr("model.safetensors: element "), HasSubstr("expected a finite number"),
                          HasSubstr(std::isnan(bad) ? "is nan" : "is -inf")))
            << poisoned.name;
      }
    }
  }
}

TEST(FiniteWeights, WhatATypeCannotHoldIsNamedWithTheType) {
  const TemporaryFolder folder;
  write(folder.path(), [](const Parameter& parameter, std::vector<float>& values) {
    if (parameter.kind == ParameterKind::head) values[7] = 70000;
  });
  EXPECT_THAT(refusal(folder.path(), DType::f16),
              AllOf(HasSubstr("element 7 of the tensor lm_head.weight is 70000"), HasSubstr("more than f16 can hold")));
  Cpu cpu(1);
  EXPECT_NO_THROW(LoadedModel(folder.path(), DType::f32, *cpu.device));
  EXPECT_NO_THROW(LoadedModel(folder.path(), DType::bf16, *cpu.device));
}

TEST(FiniteWeights, AreWrittenByNoConversion) {
  const TemporaryFolder nan, large, out;
  write(nan.path(), [](const Parameter& parameter, std::vector<float>& values) {
    if (parameter.kind == ParameterKind::head) values[3] = NAN;
  });
  write(large.path(), [](const Parameter& parameter, std::vector<float>& values) {
    if (parameter.kind == ParameterKind::head) values[7] = 70000;
  });
  ThreadPool pool(2);
  const auto convert = [&](const fs::path& from, DType dtype) {
    write_model(out.path(), *open_weights(from), {.dtype = dtype}, pool);
  };
  const auto export_it = [&](const fs::path& from, DType dtype) {
    write_gguf(out / "model.gguf", *open_weights(from), {.dtype = dtype}, pool);
  };
  const auto in_file = [](const fs::path& folder, const std::string& what) {
    return HasSubstr((folder / "model.safetensors").string() + ": element " + what);
  };
  for (const auto& write : {std::function(convert), std::function(export_it)}) {
    EXPECT_THAT(error_of<Error>([&] { write(nan.path(), DType::f32); }),
                in_file(nan.path(), "3 of the tensor lm_head.weight is nan"));
    EXPECT_THAT(error_of<Error>([&] { write(large.path(), DType::f16); }),
                in_file(large.path(), "7 of the tensor lm_head.weight is 70000, which is more than f16 can hold"));
    EXPECT_NO_THROW(write(large.path(), DType::bf16));
    fs::remove(out / "model.gguf");
  }
}

// A GGUF file has the rows of q and k in another order, and an expert is a part of a parameter.
TEST(FiniteWeights, AreNamedAsTheirFileHasThem) {
  const ModelConfig config = tiny_config();
  const auto table = parameter_table(config);
  const TemporaryFolder folder, out;
  write(folder.path(), [](const Parameter&, std::vector<float>&) {});
  ThreadPool pool(1);
  const fs::path file = out / "model.gguf";
  write_gguf(file, *open_weights(folder.path()), {}, pool);
  const auto in_folder = open_weights(folder.path()), in_gguf = open_weights(file);
  const SafetensorsFile tensors(folder / "model.safetensors");
  const GgufFile gguf(file);
  for (size_t p = 0; p < table.size(); ++p) {
    for (int64_t element = 0; element < table[p].shape.elements(); ++element) {
      float expected;
      in_folder->read(p, element, 1, &expected);
      const StoredElement there = in_folder->place(p, element), here = in_gguf->place(p, element);
      ASSERT_EQ(there.file, (folder / "model.safetensors").string());
      ASSERT_EQ(here.file, file.string());
      const auto value_at = [](const std::byte* data, int64_t at) {
        float value;
        std::memcpy(&value, data + at * 4, 4);
        return value;
      };
      ASSERT_EQ(value_at(tensors.find(there.tensor)->data, there.element), expected) << there.tensor;
      ASSERT_EQ(value_at(gguf.find(here.tensor)->data, here.element), expected) << here.tensor;
    }
  }
}

TEST(Checksums, AreComparedBeforeWeightsAreRead) {
  const TemporaryFolder folder;
  const auto written = write(folder.path(), [](const Parameter&, std::vector<float>&) {});
  save_checksums(folder.path(), written);
  Cpu cpu(1);
  EXPECT_NO_THROW(LoadedModel(folder.path(), DType::f32, *cpu.device));
  std::string bytes = read_file(folder / "model.safetensors");
  bytes[bytes.size() - 2] = static_cast<char>(bytes[bytes.size() - 2] ^ 1);
  write_file(folder / "model.safetensors", bytes);
  EXPECT_THAT(refusal(folder.path()), AllOf(HasSubstr("model.safetensors is damaged"), HasSubstr("checksums.json")));
  fs::remove(folder / kChecksumFile);
  EXPECT_NO_THROW(LoadedModel(folder.path(), DType::f32, *cpu.device)) << "a model of another program";
}

}  // namespace
}  // namespace moe::test
