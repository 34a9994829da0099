#include "checkpoint/trainer_state.h"

#include "base/error.h"
#include "formats/json.h"

namespace moe {

void save_trainer_state(const fs::path& folder, const TrainerState& state) {
  Json json = {{"format_version", kTrainerStateVersion},
               {"step", state.step},
               {"seed", state.seed},
               {"data_cursor",
                {{"next_step", state.step},
                 {"rows_per_step", state.rows_per_step},
                 {"sequence_length", state.sequence_length},
                 {"dataset_fingerprint", fmt::format("{:016x}", state.dataset_fingerprint)}}},
               {"log_bytes", state.log_bytes},
               {"eval_bytes", state.eval_bytes},
               {"second_stage", state.second_stage}};
  if (state.base_fingerprint != 0) json["base_fingerprint"] = fmt::format("{:016x}", state.base_fingerprint);
  write_file(folder / "trainer_state.json", json_text(json, 2) + "\n");
}

TrainerState load_trainer_state(const fs::path& folder) {
  const fs::path path = folder / "trainer_state.json";
  const std::string where = path.string();
  const Json json = read_json(path);
  const int64_t version = json_int(json, "format_version", where);
  if (version != kTrainerStateVersion) {
    fail("{}: format_version is {}, expected {}; resume with the version of moe that wrote it", where, version,
         kTrainerStateVersion);
  }
  const auto count = [&](const Json& from, const char* key) {
    const int64_t value = json_int(from, key, where);
    if (value < 0) fail("{}: {} is {}, expected 0 or more; the file is damaged", where, key, value);
    return value;
  };
  const Json& cursor = json_member(json, "data_cursor", where);
  return {
      .step = count(json, "step"),
      .seed = static_cast<uint64_t>(count(json, "seed")),
      .rows_per_step = count(cursor, "rows_per_step"),
      .sequence_length = count(cursor, "sequence_length"),
      .dataset_fingerprint = json_hexadecimal(cursor, "dataset_fingerprint", where),
      .log_bytes = count(json, "log_bytes"),
      .eval_bytes = count(json, "eval_bytes"),
      .second_stage = json.contains("second_stage") ? count(json, "second_stage") : 0,
      .base_fingerprint = json.contains("base_fingerprint") ? json_hexadecimal(json, "base_fingerprint", where) : 0};
}

}  // namespace moe
