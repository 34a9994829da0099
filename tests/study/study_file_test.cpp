// Study files: systems and seeds become jobs, and every mistake of a user gets its sentence.

#include "study/study_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "study/read_study.h"
#include "study/study_keys.h"
#include "tests/study/studies.h"

namespace moe::test {
namespace {

using testing::HasSubstr;

TEST(StudyFile, EverySystemIsAJobForEverySeed) {
  const TemporaryFolder folder;
  const Study study = study_of(folder);
  EXPECT_EQ(study.title, "Two systems");
  EXPECT_EQ(study.dir, folder / "study");
  EXPECT_EQ(study.systems, (std::vector<std::string>{"few", "many"}));
  std::vector<std::string> names;
  for (const StudyJob& job : study.jobs) names.push_back(job.name);
  EXPECT_EQ(names, (std::vector<std::string>{"few-seed3", "many-seed3", "few-seed4", "many-seed4"}));
  const StudyJob &few = study.jobs[0], &many = study.jobs[3];
  EXPECT_EQ(few.run.model.num_experts_per_tok, 1);
  EXPECT_EQ(few.run.model.n_routed_experts, 8);
  EXPECT_EQ(many.run.model.num_experts_per_tok, 2);
  EXPECT_EQ(many.run.model.n_routed_experts, 16);
  EXPECT_EQ(many.run.schedule.peak, 2e-3);
  EXPECT_EQ(few.run.seed, 3u);
  EXPECT_EQ(many.run.seed, 4u);
  EXPECT_EQ(few.run.run_dir, (folder / "study" / "runs/few-seed3").string());
  EXPECT_EQ(study.result(many), folder / "study" / "results/many-seed4.json");
}

TEST(StudyFile, WhatIsNotGivenHasADefault) {
  const TemporaryFolder folder;
  const Study study = study_of(folder, "[study]\nsystems = [\"only:\"]\n");
  EXPECT_EQ(study.title, "some");
  ASSERT_EQ(study.jobs.size(), 1u);
  EXPECT_EQ(study.jobs[0].name, "only-seed1");
  EXPECT_FALSE(study.switches);
  EXPECT_FALSE(study.keep_checkpoints);
  EXPECT_TRUE(study.mask_sixteenths.empty());
}

TEST(StudyFile, TheBaselineIsTheFirstSystemOrTheOneThatIsNamed) {
  const TemporaryFolder folder;
  EXPECT_EQ(study_of(folder).baseline, "few");
  EXPECT_EQ(study_of(folder, kStudySection, {"study.baseline=many"}).baseline, "many");
  EXPECT_THAT(error_of<UsageError>([&] { study_of(folder, kStudySection, {"study.baseline=most"}); }),
              HasSubstr("study.baseline is \"most\", expected a name of study.systems"));
}

TEST(StudyFile, BarsNameSystems) {
  const TemporaryFolder folder;
  const Study study = study_of(folder, std::string(kStudySection) + "bars = [\"both: many few\"]\n");
  ASSERT_EQ(study.bars.size(), 1u);
  EXPECT_EQ(study.bars[0].name, "both");
  EXPECT_EQ(study.bars[0].systems, (std::vector<std::string>{"many", "few"}));
}

TEST(StudyFile, TheCommandLineCountsOverTheFileAndASystemOverBoth) {
  const TemporaryFolder folder;
  const Study study =
      study_of(folder, kStudySection, {"train.steps=9", "model.num_experts_per_tok=4", "study.seeds=[7]"});
  ASSERT_EQ(study.jobs.size(), 2u);
  EXPECT_EQ(study.jobs[0].run.schedule.steps, 9);
  EXPECT_EQ(study.jobs[0].run.seed, 7u);
  EXPECT_EQ(study.jobs[0].run.model.num_experts_per_tok, 1) << "few has a key of its own";
  EXPECT_EQ(study.jobs[1].run.model.num_experts_per_tok, 4);
}

std::string refusal(const std::string& section, const std::vector<std::string>& set = {}) {
  const TemporaryFolder folder;
  return error_of<UsageError>([&] { study_of(folder, section, set); });
}

std::string refusal_of(const std::string& key) { return refusal(std::string(kStudySection) + key + "\n"); }

TEST(StudyFile, MistakesInTheSystemsAreNamed) {
  EXPECT_THAT(refusal("[study]\n"), HasSubstr("study.systems is missing"));
  EXPECT_THAT(refusal("[study]\nsystems = []\n"), HasSubstr("expected at least one system"));
  const char* const form = "expected a list of \"NAME: WORD WORD\", names of letters, digits, _, - and .";
  EXPECT_THAT(refusal("[study]\nsystems = [\"few model.num_experts_per_tok=1\"]\n"), HasSubstr(form));
  EXPECT_THAT(refusal("[study]\nsystems = [\": train.steps=1\"]\n"), HasSubstr(form));
  EXPECT_THAT(refusal("[study]\nsystems = [\"../few: train.steps=1\"]\n"), HasSubstr(form));
  EXPECT_THAT(refusal("[study]\nsystems = [\"a:\", \"b:\", \"a:\"]\n"),
              HasSubstr("expected different names, but a is there twice"));
}

TEST(StudyFile, AMistakeInASystemsKeyNamesTheSystem) {
  for (const auto& [words, sentence] :
       {std::pair{"model.n_routed_expert=4", "unknown key model.n_routed_expert; did you mean model.n_routed_experts?"},
        std::pair{"model.num_experts_per_tok=9", "only 8 routed experts"},
        std::pair{"model.method=gshrad", "there is no method gshrad"}, std::pair{"train.steps", "expected KEY=VALUE"},
        std::pair{"study.seeds=[2]", "unknown key study.seeds"},
        std::pair{"train.seed=5", "a study sets train.seed itself, by study.seeds"},
        std::pair{"run.dir=x", "a study sets run.dir itself, by study.dir"}}) {
    const std::string error = refusal(std::string("[study]\nsystems = [\"good:\", \"bad: ") + words + "\"]\n");
    EXPECT_THAT(error, HasSubstr("system bad of "));
    EXPECT_THAT(error, HasSubstr(sentence));
  }
}

// few chooses 1 of 8 experts, many 2 of 16.
TEST(StudyFile, ABudgetScalesTheStepsByWhatAStepCosts) {
  const TemporaryFolder folder;
  const auto steps = [&](std::vector<std::string> set) {
    set.emplace_back("train.steps=1000");
    const Study study = study_of(folder, kStudySection, std::move(set));
    return std::pair(study.jobs[0].run.schedule.steps, study.jobs[1].run.schedule.steps);
  };
  EXPECT_EQ(steps({}), std::pair(int64_t{1000}, int64_t{1000}));
  const auto [few, many] = steps({"study.budget=flops"});
  EXPECT_EQ(few, 1000) << "the first system is the reference";
  EXPECT_LT(many, 1000);
  const auto [fewer, most] = steps({"study.budget=flops", "study.reference=many"});
  EXPECT_EQ(most, 1000);
  EXPECT_NEAR(static_cast<double>(fewer) / 1000, 1000.0 / static_cast<double>(many), 0.01);
  EXPECT_EQ(steps({"study.budget=seconds"}), std::pair(int64_t{1000}, int64_t{1000})) << "no rate yet";
  make_folder(folder / "study");
  write_file(folder / "study/rates.json", "{\"few\": 0.2, \"many\": 0.5}");
  EXPECT_EQ(steps({"study.budget=seconds"}), std::pair(int64_t{1000}, int64_t{400}));
  EXPECT_EQ(steps({"study.budget=seconds", "study.reference=many"}), std::pair(int64_t{2500}, int64_t{1000}));
}

TEST(StudyFile, WhatABudgetDoesNotGoWithIsRefused) {
  EXPECT_THAT(refusal(kStudySection, {"study.budget=money"}),
              HasSubstr("expected \"tokens\", \"flops\" or \"seconds\""));
  EXPECT_THAT(refusal(kStudySection, {"study.reference=none"}), HasSubstr("a name of study.systems"));
  EXPECT_THAT(refusal(kStudySection, {"train.hours=1"}),
              HasSubstr("train.hours is 1, expected to be left out of a study"));
  EXPECT_THAT(refusal("[study]\nbudget = \"flops\"\nsystems = [\"a:\", \"b: train.steps=3\"]\n"),
              HasSubstr("system b of"));
}

TEST(StudyFile, ThePageHoldsTheTableOfItsKeys) {
  const std::string page = read_file(fs::path(MOE_SOURCE_DIR) / "docs/study.md");
  std::vector<ListedKey> keys;
  list_keys(study_keys(), keys);
  EXPECT_THAT(page, HasSubstr("<!-- moe study --keys -->\n" + keys_as_markdown(keys) + "<!-- end of keys -->"))
      << "put the output of `moe study --keys` between the markers of docs/study.md";
}

TEST(StudyFile, ASeedOrFolderFromTheCommandLineIsRefused) {
  EXPECT_THAT(refusal(kStudySection, {"train.seed=5"}), HasSubstr("a study sets train.seed itself, by study.seeds"));
  EXPECT_THAT(refusal(kStudySection, {"run.dir=x"}), HasSubstr("a study sets run.dir itself, by study.dir"));
}

TEST(StudyFile, AnUnknownKeyOfTheSectionIsRefusedWithTheClosest) {
  EXPECT_THAT(refusal_of("seedz = [1]"), HasSubstr("unknown key study.seedz; did you mean study.seeds?"));
  EXPECT_THAT(refusal(kStudySection, {"study.switch=true"}), HasSubstr("did you mean study.switches?"));
  EXPECT_THAT(refusal(kStudySection, {"train.stesp=5"}), HasSubstr("did you mean train.steps?"));
}

TEST(StudyFile, MistakesInSeedsMasksAndBarsAreNamed) {
  const auto with = [](const std::string& seeds) { return "[study]\nsystems = [\"a:\"]\nseeds = " + seeds + "\n"; };
  EXPECT_THAT(refusal(with("[]")), HasSubstr("expected at least one seed"));
  EXPECT_THAT(refusal(with("[1, 2, 1]")), HasSubstr("expected each seed once"));
  EXPECT_THAT(refusal(with("[-1]")), HasSubstr("study.seeds is [-1], expected a list of integers from 0 to"));
  EXPECT_THAT(refusal(with("\"one\"")), HasSubstr("a list of integers"));
  EXPECT_THAT(refusal_of("mask_sixteenths = [0, 9]"), HasSubstr("expected a list of integers from 0 to 8"));
  EXPECT_THAT(refusal_of("mask_sixteenths = [-1]"), HasSubstr("expected a list of integers from 0 to 8"));
  EXPECT_THAT(refusal_of("bars = [\"all: few none\"]"), HasSubstr("names of study.systems, but none is not one"));
  EXPECT_THAT(refusal_of("bars = [\"few many\"]"), HasSubstr("study.bars"));
  EXPECT_THAT(refusal_of("bars = [\"curves: few\"]"), HasSubstr("there is another plot curves"));
  EXPECT_THAT(refusal_of("bars = [\"a: few\", \"a: many\"]"), HasSubstr("there is another plot a"));
}

}  // namespace
}  // namespace moe::test
