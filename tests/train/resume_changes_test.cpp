// What a resumed run notices: bytes of a checkpoint that changed, and another optimiser or other frozen parameters.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/checksums.h"
#include "formats/safetensors.h"
#include "tests/support/tiny_run.h"
#include "train/run_keys.h"

namespace moe {
namespace {

using test::error_of;
using test::said;
using test::TinyRun;
using testing::HasSubstr;
using testing::Not;

/// Changes one bit of a file.
void flip(const fs::path& path, size_t byte) {
  std::string bytes = read_file(path);
  bytes[byte] = static_cast<char>(bytes[byte] ^ 16);
  write_file(path, bytes);
}

/// A byte of the last tensor.
size_t within_last_tensor(const fs::path& path) { return fs::file_size(path) - 7; }

TEST(ChangedBytes, OfAnyFileOfTheNewestCheckpointAreNoticed) {
  TinyRun tiny;
  tiny.train("straight");
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(tiny / "straight/step-12")) {
    names.push_back(entry.path().filename().string());
  }
  EXPECT_THAT(names, testing::IsSupersetOf({"model.safetensors", "optimizer-00001-of-00001.safetensors", "run.toml",
                                            "config.json", "trainer_state.json", kChecksumFile}));
  for (const std::string& name : names) {
    const std::string run = "changed-" + name;
    fs::copy(tiny / "straight", tiny / run, fs::copy_options::recursive | fs::copy_options::copy_symlinks);
    const fs::path path = tiny / run / "step-12" / name;
    flip(path, within_last_tensor(path));
    const std::string what = said([&] { EXPECT_EQ(tiny.resume(run), 0) << name; });
    EXPECT_THAT(what, HasSubstr("step-12/")) << name;
    EXPECT_THAT(what, HasSubstr("set aside as")) << name;
    EXPECT_THAT(what, HasSubstr("/step-8 at step 8")) << name;
    for (const char* file : {"model.safetensors", "optimizer-00001-of-00001.safetensors"}) {
      EXPECT_EQ(read_file(tiny / run / "step-12" / file), read_file(tiny / "straight/step-12" / file)) << name;
    }
  }
}

TEST(ChangedBytes, AreNoticedInEveryTensorOfTheOptimizer) {
  TinyRun tiny;
  tiny.train("run");
  const fs::path folder = tiny / "run/step-12", optimizer = folder / "optimizer-00001-of-00001.safetensors";
  const Json kept = read_json(folder / kChecksumFile);
  const Json& sums = kept.at("crc32");
  EXPECT_EQ(sums.size() + 1, static_cast<size_t>(std::distance(fs::directory_iterator(folder), {})));
  check_checksums(folder);
  std::vector<size_t> places;  // a byte of each tensor
  {
    const SafetensorsFile file(optimizer);
    const std::byte* const end = file.tensors().back().data + file.tensors().back().bytes;
    for (const SafetensorsTensor& tensor : file.tensors()) {
      places.push_back(fs::file_size(optimizer) - static_cast<size_t>(end - tensor.data));
    }
  }
  for (const size_t place : places) {
    flip(optimizer, place);
    EXPECT_THAT(error_of<Error>([&] { check_checksums(folder); }),
                testing::AllOf(HasSubstr(optimizer.string()), HasSubstr("is damaged"), HasSubstr("CRC-32"),
                               HasSubstr(sums.at(optimizer.filename().string()).get<std::string>())));
    flip(optimizer, place);
    check_checksums(folder);
  }
}

TEST(ChangedBytes, CheckpointsWithoutChecksumsAreResumed) {
  TinyRun tiny;
  tiny.train("straight");
  fs::copy(tiny / "straight", tiny / "old", fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  fs::remove_all(tiny / "old/step-12");
  fs::remove(tiny / "old/step-8" / kChecksumFile);
  EXPECT_THAT(said([&] { tiny.resume("old"); }), HasSubstr("/step-8 at step 8"));
  EXPECT_EQ(read_file(tiny / "old/step-12/model.safetensors"), read_file(tiny / "straight/step-12/model.safetensors"));
}

/// "KEY=VALUE" with a value that is not the default, for every key that only some settings use and that `run` uses.
std::vector<std::string> used_by(const RunConfig& run) {
  std::vector<std::string> set;
  const auto add = [&](auto rows, auto object) {
    for (const auto& row : rows) {
      if (row.used == nullptr || !row.used(object)) continue;
      set.push_back(fmt::format("{}={}", row.key, std::get<double>(row.get(object)) / 2));
    }
  };
  add(optimizer_keys(), run.step.optimizer);
  add(schedule_keys(), run.schedule);
  return set;
}

TEST(OtherOptimizers, AreRefusedByTheKindThatTheCheckpointHas) {
  for (const OptimizerMethod* kept : kOptimizers) {
    TinyRun tiny;
    std::vector<std::string> there{fmt::format("optimizer.kind={}", kept->name)};
    for (const std::string& value : used_by(tiny.config("run", there))) there.push_back(value);
    tiny.train("run", there);
    fs::remove_all(tiny / "run/step-12");
    for (const OptimizerMethod* wanted : kOptimizers) {
      if (wanted == kept) continue;
      const std::vector<std::string> set{fmt::format("optimizer.kind={}", wanted->name)};
      for (const std::vector<std::string>& allowed : {std::vector<std::string>{}, {"optimizer.kind"}}) {
        for (const std::string& error : {error_of<Error>([&] { tiny.resume("run", set, allowed); }),
                                         error_of<Error>([&] { tiny.resume_as_the_command("run", set, allowed); })}) {
          EXPECT_THAT(error,
                      HasSubstr(fmt::format("step-8 has the optimiser state of optimizer.kind = \"{}\"", kept->name)));
          EXPECT_THAT(error, HasSubstr(fmt::format("keep optimizer.kind = \"{}\"", kept->name)));
          EXPECT_THAT(error, Not(HasSubstr("config.json")));
          EXPECT_THAT(error, Not(HasSubstr("--allow-change"))) << "nothing allows it";
        }
      }
    }
  }
}

TEST(KeptValues, ThatAnAllowedChangeLeavesWithoutEffectAreDropped) {
  for (const char* kept : {"step_decay", "cosine", "wsd"}) {
    TinyRun tiny;
    std::vector<std::string> there{fmt::format("schedule.kind={}", kept)};
    for (const std::string& value : used_by(tiny.config("run", there))) there.push_back(value);
    tiny.train("kept", there);
    fs::remove_all(tiny / "kept/step-12");
    for (const char* wanted : {"constant", "step_decay", "cosine", "wsd"}) {
      if (std::string(wanted) == kept) continue;
      fs::remove_all(tiny / "run");
      fs::copy(tiny / "kept", tiny / "run", fs::copy_options::recursive | fs::copy_options::copy_symlinks);
      const std::vector<std::string> set{fmt::format("schedule.kind={}", wanted)};
      EXPECT_EQ(tiny.resume_as_the_command("run", set, {"schedule.kind"}), 0) << kept << " " << wanted;
      const std::vector<Json> changes = tiny.log("run", "changes.jsonl");
      ASSERT_EQ(changes.size(), 1u) << "the others follow from it";
      EXPECT_EQ(changes[0].at("key"), "schedule.kind");
      EXPECT_EQ(tiny.resume_as_the_command("run", {}, {}), 0) << "its checkpoint can be read again";
      EXPECT_EQ(tiny.log("run", "changes.jsonl").size(), 1u);
    }
  }
}

TEST(KeptValues, OfKeysThatAKeptKeyUsesStay) {
  TinyRun tiny;
  const std::vector<std::string> there{"schedule.kind=wsd", "schedule.decay_fraction=0.5", "schedule.final_ratio=0.3"};
  tiny.train("straight", there);
  tiny.train("killed", there);
  fs::remove_all(tiny / "killed/step-12");
  EXPECT_EQ(tiny.resume_as_the_command("killed", {}, {}), 0) << "and nothing is given this time";
  EXPECT_EQ(tiny.log("straight"), tiny.log("killed"));
}

TEST(OtherFrozenParameters, AreRefusedIfTheirStateIsLackingAndDroppedIfTheyFreeze) {
  for (const char* dtype : {"f32", "bf16"}) {
    TinyRun tiny;
    const std::string type = fmt::format("train.dtype={}", dtype);
    tiny.train("run", {R"(train.freeze=["embed", "layers.1"])", type});
    fs::remove_all(tiny / "run/step-12");
    const auto resume = [&](const std::string& freeze) {
      return tiny.train("run", {"train.freeze=" + freeze, type}, {.resume = true, .allowed = {"train.freeze"}});
    };
    EXPECT_THAT(error_of<Error>([&] { resume(R"(["layers.1"])"); }),
                testing::AllOf(HasSubstr("lacks the optimiser state of 1 tensor, first embedding"),
                               HasSubstr("keep it in train.freeze")));
    EXPECT_THAT(error_of<Error>([&] { resume("[]"); }),
                testing::AllOf(HasSubstr("tensors, first embedding"), HasSubstr("keep them in train.freeze")));
    EXPECT_EQ(resume(R"(["embed", "layers.0-1"])"), 0) << "more of them freeze, and their state is not needed";
    const SafetensorsFile before(tiny / "run/step-8/model.safetensors"), after(tiny / "run/step-12/model.safetensors");
    for (const SafetensorsTensor& tensor : before.tensors()) {
      const std::string_view then(reinterpret_cast<const char*>(tensor.data), tensor.bytes);
      const std::string_view now(reinterpret_cast<const char*>(after.find(tensor.name)->data), tensor.bytes);
      const bool trained = tensor.name == "lm_head.weight" || tensor.name == "model.norm.weight";
      EXPECT_EQ(then == now, !trained) << tensor.name;
    }
  }
}

}  // namespace
}  // namespace moe
