// Folders that are not what this program computes are refused by name.

#include "infer/loaded_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/infer/support.h"
#include "tests/support/temporary_folder.h"

namespace moe::test {
namespace {

TEST(LoadedModel, AnotherArchitectureIsRefusedByName) {
  TemporaryFolder folder;
  write_file(folder / "config.json", R"({"model_type": "deepseek_v2"})");
  Cpu cpu(1);
  const std::string error = error_of<Error>([&] { LoadedModel(folder.path(), DType::f32, *cpu.device); });
  EXPECT_THAT(error, testing::HasSubstr("model_type is \"deepseek_v2\", expected one of deepseek, llama, mixtral"));
}

TEST(LoadedModel, AFailedLoadGivesItsMemoryBack) {
  Cpu cpu(1);
  TemporaryFolder folder;
  fs::copy(fs::path(MOE_SOURCE_DIR) / "tests" / "golden" / "moe_basic" / "config.json", folder / "config.json");
  EXPECT_THAT(error_of<Error>([&] { LoadedModel(folder.path(), DType::f32, *cpu.device); }),
              testing::HasSubstr("model.safetensors"));
  EXPECT_EQ(cpu.device->allocated_bytes(), 0);
}

}  // namespace
}  // namespace moe::test
