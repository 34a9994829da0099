// What a job leaves behind: its result as JSON, found again by the settings that made it; checkpoints.

#include "study/job.h"

#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "formats/toml.h"
#include "tests/study/studies.h"
#include "tests/support/tiny_run.h"
#include "train/run_keys.h"

namespace moe::test {
namespace {

using testing::HasSubstr;

const std::string kWithSwitches = std::string(kStudySection) + "mask_sixteenths = [0, 2]\nswitches = true\n";

void write_result(const Study& study, const StudyJob& job, const JobResult& result) {
  make_folder(study.result(job).parent_path());
  write_file(study.result(job), to_json(result).dump(1));
}

JobResult result_for(const StudyJob& job) {
  JobResult result = result_of(job.system, job.seed, 2.5);
  result.settings = job.run.resolved;
  return result;
}

TEST(JobResult, ComesBackFromJsonAsItWas) {
  JobResult result = result_of("few", 3, 1.0 / 3);
  result.total_params = (int64_t{1} << 53) + 1;  // no double
  result.dropped = 0.125;
  result.switches = {{"mask_sixteenths", 2, 2.75}, {"drop_shared", 1, 3.5}};
  result.settings = "[a]\nb = \"\\\"\"\n";
  const JobResult read = job_result_from(parse_json(to_json(result).dump(), "test"), "test");
  EXPECT_EQ(to_json(read), to_json(result));
  EXPECT_EQ(read.system, "few");
  EXPECT_EQ(read.loss, result.loss);
  EXPECT_EQ(read.total_params, result.total_params);
  ASSERT_EQ(read.curve.size(), 3u);
  EXPECT_EQ(read.curve[1].step, 20);
  EXPECT_EQ(read.curve[1].loss, result.curve[1].loss);
  EXPECT_EQ(read.curve[1].seconds, 20);
  EXPECT_EQ(read.switched_loss("drop_shared", 1), 3.5);
  EXPECT_EQ(read.switched_loss("mask_sixteenths", 1), std::nullopt);
  EXPECT_EQ(read.settings, result.settings);
}

TEST(JobResult, LossesOfDocumentsMustBelongToIt) {
  const TemporaryFolder folder;
  const Study study = study_of(folder);
  const StudyJob& job = study.jobs[0];
  JobResult result = result_for(job);  // with the loss 2.5
  read_documents(study, job, result);
  EXPECT_TRUE(result.documents.documents.empty()) << "an older version kept none";
  DocumentLosses losses{.domains = {"a"}, .documents = {{.tokens = 4, .bytes = 9, .nats = 10}}};
  make_folder(study.documents(job).parent_path());
  write_file(study.documents(job), document_lines(losses));
  read_documents(study, job, result);
  EXPECT_EQ(result.documents.documents.size(), 1u);
  losses.documents[0].nats = 10.001;
  write_file(study.documents(job), document_lines(losses));
  EXPECT_THAT(error_of<Error>([&] { read_documents(study, job, result); }),
              testing::AllOf(HasSubstr("few-seed3.jsonl has the loss 2.50025"), HasSubstr("remove both files")));
}

TEST(JobResult, EveryFieldIsInTheJson) {
  // Each written value differs from the default, so that a field that is not read shows.
  JobResult result = result_of("few", 3, 2);
  result.dropped = 0.5;
  result.settings = "x";
  const JobResult empty;
  const Json written = to_json(result), defaults = to_json(empty);
  for (const auto& [key, value] : written.items()) {
    if (key == "switches") continue;
    EXPECT_NE(value, defaults.at(key)) << key;
    Json without = written;
    without.erase(key);
    EXPECT_THAT(error_of<Error>([&] { job_result_from(without, "file"); }), HasSubstr(key));
  }
}

TEST(JobResult, IsFoundWhereverTheStudyLies) {
  const TemporaryFolder here, there;
  const Study study = study_of(here), moved = study_of(there);
  EXPECT_FALSE(find_result(study, study.jobs[0]));
  const JobResult result = result_for(study.jobs[0]);
  EXPECT_THAT(result.settings, HasSubstr(here.path().string()));
  write_result(moved, moved.jobs[0], result);
  EXPECT_EQ(find_result(moved, moved.jobs[0])->loss, 2.5);
}

TEST(JobResult, OfOtherSettingsIsRefused) {
  const TemporaryFolder folder;
  const Study study = study_of(folder);
  write_result(study, study.jobs[0], result_for(study.jobs[0]));
  for (const char* setting : {"train.steps=5", "data.train=elsewhere", "optimizer.clip=2"}) {
    const Study other = study_of(folder, kStudySection, {setting});
    const std::string error = error_of<Error>([&] { find_result(other, other.jobs[0]); });
    EXPECT_THAT(error, HasSubstr("few-seed3.json was made from other settings than this study's")) << setting;
    EXPECT_THAT(error, HasSubstr("--set study.dir=")) << setting;
  }
}

/// `settings` without one key's line.
std::string without(const std::string& settings, std::string_view key) {
  std::string kept, section;
  std::istringstream text(settings);
  for (std::string line; std::getline(text, line);) {
    if (line.starts_with('[')) section = line.substr(1, line.size() - 2);
    if (fmt::format("{}.{}", section, line.substr(0, line.find(' '))) != key) kept += line + "\n";
  }
  return kept;
}

// What an older version wrote lacks the keys that came later.
TEST(JobResult, OfBeforeAKeyWasAddedIsGoodWhereTheKeyHasItsDefault) {
  const TemporaryFolder folder;
  const Study study = study_of(folder), other = study_of(folder, kStudySection, {"optimizer.clip=2"});
  const StudyJob& job = study.jobs[1];
  int64_t kept = 0;
  for (const ListedKey& key : all_run_keys()) {
    JobResult result = result_for(job);
    const std::string shorter = without(result.settings, key.info->key);
    if (shorter == result.settings) continue;  // stages and tables, which the system does not have
    result.settings = shorter;
    write_result(study, job, result);
    const std::string name = key.info->key;
    const bool of_the_job = name == "train.seed" || name == "optimizer.learning_rate";
    if (of_the_job || Settings::load(folder / "some.toml").given(name)) continue;
    EXPECT_TRUE(find_result(study, job)) << key.info->key;
    ++kept;
  }
  EXPECT_GT(kept, 40);
  JobResult result = result_for(job);
  result.settings = without(result.settings, "optimizer.clip");
  write_result(study, job, result);
  EXPECT_THAT(error_of<Error>([&] { find_result(other, other.jobs[1]); }),
              HasSubstr("optimizer.clip is 1.0 there and 2.0 here"));
  result.settings = without(result_for(job).settings, "optimizer.learning_rate");
  write_result(study, job, result);
  EXPECT_THAT(error_of<Error>([&] { find_result(study, job); }),
              HasSubstr("optimizer.learning_rate is 0.001 there and 0.002 here"));
}

TEST(JobResult, WithAKeyThatIsNotKnownIsRefusedByItsName) {
  const TemporaryFolder folder;
  const Study study = study_of(folder);
  JobResult result = result_for(study.jobs[0]);
  result.settings += "\n[made]\nup = 3\n";
  write_result(study, study.jobs[0], result);
  EXPECT_THAT(error_of<Error>([&] { find_result(study, study.jobs[0]); }), HasSubstr("unknown key made.up"));
}

TEST(JobResult, OfAnotherSystemIsRefusedThoughItsSettingsAreTheSame) {
  const TemporaryFolder folder;
  const Study study = study_of(folder, "[study]\nsystems = [\"one:\", \"two:\"]\n");
  write_result(study, study.jobs[1], result_for(study.jobs[0]));
  EXPECT_THAT(error_of<Error>([&] { find_result(study, study.jobs[1]); }),
              HasSubstr("holds the result of one with seed 1, expected two with seed 1"));
}

TEST(JobResult, WithoutASwitchThatTheStudyAsksForIsRefused) {
  const TemporaryFolder folder;
  const Study study = study_of(folder, kWithSwitches);
  JobResult result = result_for(study.jobs[0]);  // K = 1 of 8, no shared experts
  result.switches = {{"mask_sixteenths", 0, 2.5}, {"experts_per_token", 1, 2.5}};
  write_result(study, study.jobs[0], result);
  EXPECT_THAT(error_of<Error>([&] { find_result(study, study.jobs[0]); }),
              HasSubstr("has no evaluation with mask_sixteenths = 2"));
  result.switches.push_back({"mask_sixteenths", 2, 2.6});
  write_result(study, study.jobs[0], result);
  EXPECT_TRUE(find_result(study, study.jobs[0]));
  const Study fewer = study_of(folder);
  EXPECT_TRUE(find_result(fewer, fewer.jobs[0])) << "more than was asked for is no mistake";
}

TEST(JobResult, SwitchesThatASystemHasTooFewExpertsForAreNotAskedFor) {
  const TemporaryFolder folder;
  const char* const limited =
      "[study]\nmask_sixteenths = [4]\nswitches = true\nsystems = [\"limited: model.method=device_limited "
      "model.n_group=4 model.topk_group=1 balance.devices=4 model.n_shared_experts=1\"]\n";
  const Study study = study_of(folder, limited);  // K = 2 of the 2 experts in one group: no room for a third
  JobResult result = result_for(study.jobs[0]);
  result.switches = {{"experts_per_token", 1, 2.5}, {"experts_per_token", 2, 2.5}};
  write_result(study, study.jobs[0], result);
  EXPECT_TRUE(find_result(study, study.jobs[0]));
}

TEST(JobResult, ThatIsNoJsonIsAnError) {
  const TemporaryFolder folder;
  const Study study = study_of(folder);
  make_folder(folder / "study/results");
  write_file(study.result(study.jobs[0]), "{\"system\": \"fe");
  EXPECT_THAT(error_of<Error>([&] { find_result(study, study.jobs[0]); }), HasSubstr("few-seed3.json"));
}

class Checkpoints : public testing::Test {
 protected:
  TemporaryFolder folder;
  Study study = study_of(folder);
  const StudyJob& job = study.jobs[0];
  fs::path run = job.run.run_dir;

  void SetUp() override {
    for (const char* step : {"step-2", "step-4"}) {
      make_folder(run / step);
      for (const char* name : {"trainer_state.json", "model.safetensors"}) write_file(run / step / name, "{}");
    }
    fs::create_directory_symlink("step-4", run / "latest");
    for (const char* name : {"log.jsonl", "eval.jsonl", "run.toml"}) write_file(run / name, "x");
  }
};

TEST_F(Checkpoints, OfAFinishedJobAreRemovedAndItsLogsStay) {
  remove_checkpoints(study, job);
  EXPECT_FALSE(fs::exists(run / "step-2"));
  EXPECT_FALSE(fs::exists(run / "step-4"));
  EXPECT_FALSE(fs::is_symlink(run / "latest"));
  for (const char* name : {"log.jsonl", "eval.jsonl", "run.toml"}) EXPECT_EQ(read_file(run / name), "x");
  remove_checkpoints(study, job);  // again, for nothing
}

TEST_F(Checkpoints, StayWhereTheStudyKeepsThem) {
  study.keep_checkpoints = true;
  remove_checkpoints(study, job);
  EXPECT_TRUE(fs::exists(run / "latest" / "model.safetensors"));
  EXPECT_TRUE(fs::exists(run / "step-2"));
}

TEST_F(Checkpoints, OfAJobWithoutARunFolderAreNoMistake) {
  fs::remove_all(run);
  remove_checkpoints(study, job);
  EXPECT_FALSE(fs::exists(run));
}

TEST(Job, WhoseValidationLossAloneIsNotFiniteCountsAsDiverged) {
  TinyRun tiny;
  tiny.make_dataset("strange", {"the river Z", "Z the stone"});
  Study study;
  study.dir = tiny / "study";
  const StudyJob job{.system = "few",
                     .name = "few-seed1",
                     .run = tiny.config("run", {"data.valid=" + (tiny / "strange").string(), "eval.every=4",
                                                "checkpoint.keep_last=9"})};
  tiny.train(job.run);
  fs::remove_all(tiny / "run/step-12");
  const int32_t z = Tokenizer::load(tiny / "data").encode("Z", {.add_special = false}).at(0);
  poison(tiny / "run/step-4", "model.embed_tokens.weight.master", z);
  fs::remove_all(tiny / "run/step-8");
  ThreadPool pool(2);
  const auto device = make_cpu_device();
  const auto backend = make_cpu_backend(pool);
  for (int time = 0; time < 2; ++time) {  // the second one finds the result
    const auto result = run_job(study, job, *device, *backend, pool);
    ASSERT_TRUE(result);
    EXPECT_EQ(result->diverged, 4);
  }
  EXPECT_FALSE(fs::exists(tiny / "run/step-4")) << "its checkpoints are removed, as those of any finished job";
}

}  // namespace
}  // namespace moe::test
