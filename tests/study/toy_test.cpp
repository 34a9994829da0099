// The committed studies: they are read without a mistake, and compare what costs the same.

#include <gtest/gtest.h>

#include "model/cost.h"
#include "study/read_study.h"
#include "tests/study/studies.h"

namespace moe::test {
namespace {

Study committed(const std::string& name) {
  return read_study(fs::path(MOE_SOURCE_DIR) / "configs" / "study" / name, {},
                    [](const std::string&) { return int64_t{8192}; });
}

TEST(CommittedStudies, AreRead) {
  for (const char* name : {"toy.toml", "h200.toml"}) EXPECT_FALSE(committed(name).jobs.empty()) << name;
}

TEST(CommittedStudies, TheToysSystemsActivateTheSameAndHoldTheSame) {
  const Study toy = committed("toy.toml");
  const ModelConfig& dense = toy.jobs.at(0).run.model;
  ASSERT_EQ(toy.jobs[0].system, "dense");
  const int64_t flops = paper_flops(dense, 128), activated = ParameterCounts(dense).paper_activated();
  const int64_t experts = 16 * 3 * 512 * dense.hidden_size * dense.num_hidden_layers;  // of a standard FFN's width
  EXPECT_GT(toy.jobs.size(), 15u);
  for (const StudyJob& job : toy.jobs) {
    if (job.system == "dense-x8") continue;  // as large as the others, and activates all of it
    const ModelConfig& model = job.run.model;
    EXPECT_EQ(paper_flops(model, 128), flops) << job.system;
    EXPECT_EQ(ParameterCounts(model).paper_activated(), activated) << job.system;
    if (model.n_routed_experts == 0 || job.system == "soft-mixture") continue;
    const ParameterCounts counts(model);
    EXPECT_EQ(counts.stored(ParameterKind::routed_experts) + counts.stored(ParameterKind::shared_experts), experts)
        << job.system;
  }
}

}  // namespace
}  // namespace moe::test
