// The paper's models: costs computed from relative sizes, and from real configurations, which know nothing of each
// other.

#include "model/presets.h"

#include <cmath>
#include <map>

#include <gtest/gtest.h>

#include "base/error.h"
#include "model/cost.h"
#include "model/paper_costs.h"
#include "model/validate.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

TEST(PaperFigures, AgreeButForTheOneThatItsOwnShapesContradict) {
  int figures = 0;
  for (const PaperFigure& f : paper_figures()) {
    const bool contradicted = f.model == "DeepSeekMoE 142B half" && f.quantity == "activated";
    EXPECT_EQ(f.agrees(), !contradicted) << f.model << ", " << f.quantity << ": " << f.ours << " and " << f.paper;
    EXPECT_EQ(f.agrees(), f.note.find("not reproduced") == std::string::npos);
    ++figures;
  }
  EXPECT_GT(figures, 40);
}

TEST(PaperFigures, AgreeWithin1PercentOrWhenRounded) {
  EXPECT_TRUE((PaperFigure{"", "", 100, 1, 100.9, ""}.agrees()));
  EXPECT_FALSE((PaperFigure{"", "", 100, 1, 101.1, ""}.agrees()));
  EXPECT_TRUE((PaperFigure{"", "", 0.3, 1, 0.349, ""}.agrees()));
  EXPECT_FALSE((PaperFigure{"", "", 0.3, 1, 0.351, ""}.agrees()));
  EXPECT_FALSE((PaperFigure{"", "", 0.3, 1, 0.249, ""}.agrees()));
}

double paper_figure(const std::string& model, const std::string& quantity) {
  for (const PaperFigure& f : paper_figures()) {
    if (f.model == model && f.quantity == quantity) return f.ours;
  }
  ADD_FAILURE() << model << " has no " << quantity;
  return 0;
}

TEST(Presets, OfTheSameWidthsCostExactlyWhatTheFormulaSays) {
  const auto counts = [](const char* name) { return ParameterCounts(find_preset(name).config); };
  for (const auto& [name, model] :
       std::map<const char*, const char*>{{"deepseekmoe-16b", "DeepSeekMoE 16B"},
                                          {"deepseekmoe-145b", "DeepSeekMoE 145B"},
                                          {"deepseekmoe-142b-half", "DeepSeekMoE 142B half"},
                                          {"deepseek-7b", "DeepSeek 7B"},
                                          {"llama2-7b", "LLaMA2 7B"},
                                          {"deepseek-67b", "DeepSeek 67B"}}) {
    EXPECT_DOUBLE_EQ(1e-9 * static_cast<double>(counts(name).paper_total()), paper_figure(model, "total")) << name;
    EXPECT_DOUBLE_EQ(1e-9 * static_cast<double>(counts(name).paper_activated()), paper_figure(model, "activated"));
  }
  EXPECT_DOUBLE_EQ(1e-12 * static_cast<double>(paper_flops(find_preset("deepseekmoe-145b").config, 4096)),
                   paper_figure("DeepSeekMoE 145B", "FLOPs"));
}

TEST(Presets, OfTrainableWidthsAreWithin2PercentOfTheExactOnes) {
  for (const auto& [name, model] : std::map<const char*, const char*>{{"dense-0.2b", "Dense 0.2B"},
                                                                      {"hash-2b", "Hash Layer 2B"},
                                                                      {"switch-2b", "Switch 2B"},
                                                                      {"gshard-2b", "GShard 2B"},
                                                                      {"dense-x16", "Dense x16"},
                                                                      {"deepseekmoe-2b", "DeepSeekMoE 2B"},
                                                                      {"gshard-1.5x", "GShard x1.5"},
                                                                      {"deepseekmoe-16b", "DeepSeekMoE 16B"},
                                                                      {"gshard-137b", "GShard 137B"}}) {
    const ModelConfig& config = find_preset(name).config;
    const double ours = 1e-12 * static_cast<double>(paper_flops(config, config.max_position_embeddings));
    EXPECT_NEAR(ours / paper_figure(model, "FLOPs"), 1, 0.02) << name;
  }
  const auto experts = [](const char* name) {
    const ParameterCounts counts(find_preset(name).config);
    return 1e-9 * static_cast<double>(counts.stored(ParameterKind::routed_experts));
  };
  EXPECT_NEAR(experts("gshard-1.2x") / paper_figure("GShard x1.2", "expert"), 1, 0.02);
  EXPECT_NEAR(experts("gshard-1.5x") / paper_figure("GShard x1.5", "expert"), 1, 0.02);
}

TEST(Presets, OfEqualCostActivateEqually) {
  const auto activated = [](const char* name) { return ParameterCounts(find_preset(name).config).paper_activated(); };
  EXPECT_EQ(activated("hash-2b"), activated("switch-2b"));
  EXPECT_EQ(activated("switch-2b"), activated("dense-0.2b"));
  EXPECT_EQ(activated("gshard-2b"), activated("deepseekmoe-2b"));
  EXPECT_EQ(activated("deepseekmoe-2b-half"), activated("switch-2b"));
}

TEST(Presets, AllAreWholeModels) {
  for (const Preset& preset : presets()) EXPECT_NO_THROW(validate(preset.config)) << preset.name;
  EXPECT_NEAR(static_cast<double>(ParameterCounts(find_preset("mixtral-8x7b").config).stored()), 46.7e9, 0.05e9);
  EXPECT_NEAR(static_cast<double>(ParameterCounts(find_preset("mixtral-8x7b").config).activated()), 12.9e9, 0.05e9);
}

// What its card says: 20B parameters, 3.3B of them for a token.
TEST(Presets, GigaChatHasTheSizesOfItsCard) {
  const ParameterCounts counts(find_preset("gigachat-20b-a3b").config);
  EXPECT_NEAR(1e-9 * static_cast<double>(counts.stored()), 20.6, 0.05);
  EXPECT_NEAR(1e-9 * static_cast<double>(counts.activated()), 3.3, 0.05);
}

TEST(Presets, AnUnknownNameIsRefusedWithAllNames) {
  const std::string error = test::error_of<UsageError>([] { find_preset("deepseek-2b"); });
  EXPECT_NE(error.find("no preset deepseek-2b"), std::string::npos) << error;
  EXPECT_NE(error.find("deepseekmoe-2b-half"), std::string::npos) << error;
}

}  // namespace
}  // namespace moe
