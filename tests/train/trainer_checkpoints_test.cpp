// Checkpoints and logs that a disk, a copy or a kill has damaged, and errors in the middle of a run.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/temporary.h"
#include "checkpoint/checkpoint_folder.h"
#include "tests/support/tiny_run.h"

namespace moe {
namespace {

using test::error_of;
using test::expect_same_end;
using test::FullDisk;
using test::said;
using test::TinyRun;
using testing::HasSubstr;
using testing::Not;

TEST(Trainer, TakesTheNewestGoodCheckpointAndSaysSo) {
  using Damage = std::function<void(const fs::path&)>;
  const auto cut = [](const char* file) {  // more than a line feed at the end
    return [=](const fs::path& folder) { fs::resize_file(folder / file, fs::file_size(folder / file) - 3); };
  };
  const auto gone = [](const char* file) { return [=](const fs::path& folder) { fs::remove(folder / file); }; };
  const auto text = [](const char* file, const char* content) {
    return [=](const fs::path& folder) { write_file(folder / file, content); };
  };
  const std::vector<std::pair<std::string, Damage>> damages{
      {"model.safetensors", cut("model.safetensors")},
      {"model.safetensors", gone("model.safetensors")},
      {"model.safetensors", [](const fs::path& folder) { GrowingFile(folder / "model.safetensors").write("x"); }},
      {"optimizer-00001-of-00001.safetensors", cut("optimizer-00001-of-00001.safetensors")},
      {"optimizer-", gone("optimizer-00001-of-00001.safetensors")},
      {"optimizer-00002-of-00002.safetensors is missing",
       [](const fs::path& folder) {
         fs::rename(folder / "optimizer-00001-of-00001.safetensors", folder / "optimizer-00001-of-00002.safetensors");
       }},
      {"config.json", cut("config.json")},
      {"config.json", gone("config.json")},
      {"tokenizer.json", gone("tokenizer.json")},
      {"tokenizer.json", cut("tokenizer.json")},
      {"run.toml", text("run.toml", "[train\n")},
      {"trainer_state.json", gone("trainer_state.json")},
      {"trainer_state.json", cut("trainer_state.json")},
      {"trainer_state.json", text("trainer_state.json", "{}")},
      {"trainer_state.json", text("trainer_state.json", "[1, 2]")},
      {"trainer_state.json", text("trainer_state.json", "")},
  };
  TinyRun tiny;
  tiny.train("straight");
  for (size_t i = 0; i < damages.size(); ++i) {
    const auto& [names, damage] = damages[i];
    const std::string name = fmt::format("damaged-{}", i);
    fs::copy(tiny / "straight", tiny / name, fs::copy_options::recursive | fs::copy_options::copy_symlinks);
    damage(tiny / name / "step-12");
    const std::string what = said([&] { tiny.resume(name); });
    EXPECT_THAT(what, HasSubstr(names)) << i;
    EXPECT_THAT(what, HasSubstr("set aside as")) << i;
    EXPECT_THAT(what, HasSubstr("/step-8 at step 8")) << i;
    EXPECT_TRUE(fs::exists(tiny / name / "step-12.damaged"));
    EXPECT_EQ(fs::read_symlink(tiny / name / "latest"), "step-12");
    expect_same_end(tiny, "straight", name);
  }
}

TEST(Trainer, WithoutAGoodCheckpointEveryDamageIsSaid) {
  TinyRun tiny;
  tiny.train("run");
  for (const char* step : {"step-8", "step-12"}) fs::resize_file(tiny / "run" / step / "model.safetensors", 100);
  const std::string error = error_of<Error>([&] { tiny.resume("run"); });
  EXPECT_THAT(error, HasSubstr("has no checkpoint that training can continue from"));
  EXPECT_THAT(error, HasSubstr("step-8/model.safetensors"));
  EXPECT_THAT(error, HasSubstr("step-12/model.safetensors"));
}

TEST(Trainer, GoesOnFromACopyHoweverLatestWasCopied) {
  TinyRun tiny;
  tiny.train("straight");
  const auto copied = [&](const std::string& name) {
    fs::copy(tiny / "straight", tiny / name, fs::copy_options::recursive | fs::copy_options::copy_symlinks);
    fs::remove(tiny / name / "latest");
    fs::remove_all(tiny / name / "step-12");
    return tiny / name;
  };
  const auto folder = copied("a-folder");
  fs::copy(folder / "step-8", folder / "latest", fs::copy_options::recursive);
  const auto text = copied("a-text");
  write_file(text / "latest", "step-8");
  const auto none = copied("none");
  const auto alone = copied("alone");  // nothing but the copy
  fs::rename(alone / "step-8", alone / "latest");
  fs::remove_all(alone / "step-4");
  for (const char* name : {"a-folder", "a-text", "none", "alone"}) {
    EXPECT_THAT(said([&] { tiny.resume(name); }), HasSubstr("step-8 at step 8")) << name;
    expect_same_end(tiny, "straight", name);
    EXPECT_EQ(fs::read_symlink(tiny / name / "latest"), "step-12") << name;
  }
}

TEST(Trainer, LogsThatAreShorterThanTheCheckpointKnowsAreNotLengthened) {
  TinyRun tiny;
  tiny.train("straight", {"data.valid=" + (tiny / "valid").string(), "eval.every=4"});
  const std::vector<std::string> set{"data.valid=" + (tiny / "valid").string(), "eval.every=4"};
  const std::string whole = read_file(tiny / "straight/log.jsonl");
  const size_t three_lines = whole.find("{\"step\":4,");
  for (const std::string& left : {std::string(), whole.substr(0, three_lines), whole.substr(0, three_lines - 10)}) {
    fs::remove_all(tiny / "short");
    fs::copy(tiny / "straight", tiny / "short", fs::copy_options::recursive | fs::copy_options::copy_symlinks);
    fs::remove_all(tiny / "short/step-12");
    fs::remove(tiny / "short/eval.jsonl");
    write_file(tiny / "short/log.jsonl", left);
    const std::string what = said([&] { tiny.resume("short", set); });
    EXPECT_THAT(what, HasSubstr("log.jsonl has"));
    EXPECT_THAT(what, HasSubstr("eval.jsonl has 0 bytes"));
    EXPECT_THAT(what, HasSubstr("some lines are missing"));
    EXPECT_THAT(read_file(tiny / "short/log.jsonl"), Not(HasSubstr(std::string(1, '\0'))));
    std::vector<int64_t> steps;
    for (const Json& line : tiny.log("short")) steps.push_back(line.at("step"));
    const int64_t old = left.empty() ? 0 : left.size() == three_lines ? 3 : 2;
    for (int64_t i = 0; i < static_cast<int64_t>(steps.size()); ++i) {
      EXPECT_EQ(steps[static_cast<size_t>(i)], i < old ? i + 1 : i - old + 9);
    }
    EXPECT_EQ(steps.size(), static_cast<size_t>(old + 4));
    EXPECT_EQ(tiny.log("short", "eval.jsonl").size(), 2u) << "step 8's is made again";
  }
}

TEST(Trainer, LogsAreOnTheDiskBeforeTheCheckpointThatCountsThem) {
  TinyRun tiny;
  std::vector<std::string> calls;
  note_disk_calls(&calls);
  tiny.train("run", {"train.steps=1"});
  note_disk_calls(nullptr);
  const auto at = [&](const std::string& call) {
    const auto found = std::find(calls.begin(), calls.end(), call);
    EXPECT_NE(found, calls.end()) << call << " of " << testing::PrintToString(calls);
    return found - calls.begin();
  };
  EXPECT_LT(at("sync log.jsonl"), at("sync trainer_state.json"));
  EXPECT_LT(at("sync eval.jsonl"), at("sync trainer_state.json"));
  EXPECT_LT(at("sync model.safetensors"), at("sync trainer_state.json"));
  EXPECT_EQ(load_trainer_state(tiny / "run/step-1").log_bytes,
            static_cast<int64_t>(fs::file_size(tiny / "run/log.jsonl")));
}

TEST(Trainer, ACheckpointThatCannotBeWrittenIsTriedAgain) {
  TinyRun tiny;
  tiny.train("straight");
  make_folder(tiny / "run");
  write_file(tiny / "run/step-4", "in the way");
  const std::string what = said([&] { tiny.train("run"); });
  EXPECT_THAT(what, HasSubstr("warning: the checkpoint of step 4 was NOT written: cannot rename"));
  EXPECT_THAT(what, HasSubstr("there is no earlier one"));
  EXPECT_FALSE(fs::exists(tiny / "run/step-4.tmp"));
  EXPECT_TRUE(fs::exists(tiny / "run/step-8/model.safetensors"));
  expect_same_end(tiny, "straight", "run");
}

TEST(Trainer, CheckpointsByTheClockChangeNothingInTheRun) {
  TinyRun tiny;
  tiny.train("straight");
  tiny.train("timed", {"checkpoint.every=0", "checkpoint.minutes=1e-9", "checkpoint.keep_last=20"});
  for (int step = 1; step <= 12; ++step) EXPECT_TRUE(fs::exists(tiny / fmt::format("timed/step-{}", step))) << step;
  expect_same_end(tiny, "straight", "timed");
  tiny.train("never", {"checkpoint.every=0", "checkpoint.minutes=0", "checkpoint.keep_last=20"});
  tiny.train("later", {"checkpoint.every=0", "checkpoint.minutes=15", "checkpoint.keep_last=20"});
  for (const char* name : {"never", "later"}) {
    EXPECT_FALSE(fs::exists(tiny / name / "step-11")) << name;
    EXPECT_TRUE(fs::exists(tiny / name / "step-12")) << name;
  }
  EXPECT_EQ(CheckpointConfig{}.minutes, 15);
}

TEST(Trainer, TheLastCheckpointThatCannotBeWrittenIsAnError) {
  TinyRun tiny;
  make_folder(tiny / "run");
  write_file(tiny / "run/step-12", "in the way");
  said([&] { EXPECT_THAT(error_of<Error>([&] { tiny.train("run"); }), HasSubstr("cannot rename")); });
  EXPECT_EQ(fs::read_symlink(tiny / "run/latest"), "step-8");
}

TEST(Trainer, ALogThatCannotBeWrittenForAWhileLosesNoLine) {
  TinyRun tiny;
  PatientLog log(tiny / "patient.jsonl");
  log.write("1\n");
  const std::string what = said([&] {
    const FullDisk disk(0);
    log.write("2\n");
    log.write("3\n");
    EXPECT_THAT(error_of<Error>([&] { log.sync(); }), HasSubstr("cannot write"));
  });
  EXPECT_EQ(what.find("warning:"), what.rfind("warning:")) << "said once";
  EXPECT_EQ(read_file(tiny / "patient.jsonl"), "1\n");
  log.write("4\n");
  EXPECT_EQ(log.sync(), 8);
  EXPECT_EQ(read_file(tiny / "patient.jsonl"), "1\n2\n3\n4\n");
}

TEST(Trainer, AnErrorBehindAStepLeavesItsCheckpoint) {
  TinyRun tiny;
  tiny.train("straight");
  // Damage of the validation set that only reading it shows: an id outside the vocabulary.
  tiny.make_dataset("bad", test::tiny_texts(4, 3));
  const fs::path shard = tiny / "bad/tokens-00000.bin";
  std::string bytes = read_file(shard);
  bytes[16 + 20] = '\xff';
  bytes[16 + 21] = '\xff';
  write_file(shard, bytes);
  const std::vector<std::string> set{"data.valid=" + (tiny / "bad").string(), "eval.every=6"};
  const std::string what =
      said([&] { EXPECT_THAT(error_of<Error>([&] { tiny.train("run", set); }), HasSubstr("bad")); });
  EXPECT_THAT(what, HasSubstr("the checkpoint of step 6 is"));
  EXPECT_EQ(fs::read_symlink(tiny / "run/latest"), "step-6");
  EXPECT_EQ(tiny.resume("run"), 0);
  expect_same_end(tiny, "straight", "run");
}

}  // namespace
}  // namespace moe
