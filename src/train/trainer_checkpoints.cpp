// The part of Trainer that writes and reads checkpoints.

#include <cstdlib>
#include <set>

#include "base/clock.h"
#include "base/log.h"
#include "checkpoint/expert_list.h"
#include "checkpoint/hf_config.h"
#include "checkpoint/weights.h"
#include "checkpoint/write_adapter.h"
#include "formats/json.h"
#include "train/ranks.h"
#include "train/trainer.h"

namespace moe {
namespace {

std::vector<ParameterSet> optimizer_sets(const TrainingStep& step, const std::vector<View>& masters) {
  // Parameters that are not trained are only in ".master".
  std::vector<ParameterSet> sets{{".master", masters, &step.parameters()}};
  for (const Optimizer::Slot& slot : step.optimizer().slots()) sets.push_back({"." + slot.name, slot.views});
  return sets;
}

/// The views of what this rank owns; the others are absent.
std::vector<View> owned_views(std::vector<View> views, const std::vector<bool>& owned) {
  for (size_t i = 0; i < views.size(); ++i) {
    if (!owned[i]) views[i] = View{};
  }
  return views;
}

/// Where a text that the model writes ends: at EOS, and at what ends the answers that it has learned.
std::string generation_settings(const ModelConfig& model, const std::vector<int32_t>& answer_ends) {
  std::set<int64_t> ends(answer_ends.begin(), answer_ends.end());
  if (model.eos_token_id) ends.insert(*model.eos_token_id);
  Json json{{"eos_token_id", ends}};
  if (model.bos_token_id) json["bos_token_id"] = *model.bos_token_id;
  return json_text(json, 2) + "\n";
}

/// The numbers of the files that the ranks write.
FileNumbers numbers_among(Communicator& communicator, size_t count) {
  const std::vector<std::string> counts = communicator.gather(std::to_string(count));
  FileNumbers numbers;
  for (size_t rank = 0; rank < counts.size(); ++rank) {
    if (static_cast<int>(rank) == communicator.rank()) numbers.before = numbers.all;
    numbers.all += std::strtoull(counts[rank].c_str(), nullptr, 10);
  }
  return numbers;
}

constexpr const char *kYes = "yes", *kNo = "no";

}  // namespace

/// Writes what `work` writes, and then tells the other ranks. Returns the files of all ranks. If one of them has
/// failed, every rank throws.
std::vector<WrittenFile> Trainer::written_by_all(const std::function<std::vector<WrittenFile>()>& work) {
  Json own{{"error", ""}, {"files", Json::object()}};
  try {
    for (const WrittenFile& file : work()) own["files"][file.name] = file.crc32;
  } catch (const RankLost&) {
    throw;
  } catch (const std::exception& error) {
    own["error"] = error.what();
    if (communicator_.size() == 1) throw;
  }
  std::vector<WrittenFile> all;
  std::string error;
  for (const std::string& text : communicator_.gather(json_text(own))) {
    const Json part = parse_json(text, "a rank");
    if (error.empty()) error = json_string(part, "error", "a rank");
    for (const auto& [name, crc32] : part.at("files").items()) all.push_back({name, crc32.get<uint32_t>()});
  }
  if (!error.empty()) throw SharedError(error);
  return all;
}

/// The optimiser's state of the parameters that this rank owns.
std::vector<WrittenFile> Trainer::save_owned(const fs::path& folder) {
  bool counted = false;
  const auto numbered = [&](size_t count) {
    counted = true;
    return numbers_among(communicator_, count);
  };
  try {
    return save_optimizer(folder, run_.model, step_.table(),
                          optimizer_sets(step_, owned_views(kept_masters_, step_.owned())), device_,
                          kOptimizerFileBytes, numbered);
  } catch (const std::exception&) {
    if (!counted) numbers_among(communicator_, 0);  // the others wait for the number
    throw;
  }
}

// Every rank writes its part into one folder. Rank 0 makes the folder, writes the rest and renames the folder.
void Trainer::save(int64_t step) {
  step_.await_weights();
  if (!leads()) {
    const std::string folder = communicator_.gather("")[0];
    if (folder != kNo) written_by_all([&] { return save_part(folder); });
    if (folder == kNo || communicator_.gather("")[0] == kNo) throw SharedError("rank 0 could not write");
    saved_ = step;
    return;
  }
  enum { none, together, alone } state = none;  // what the other ranks know
  const auto write = [&](const fs::path& folder) {
    // The logs must be on the disk before the checkpoint that records their lengths.
    const LogLengths lengths = reports_->sync();
    communicator_.gather(folder.string());
    state = together;
    const std::vector<WrittenFile> written = written_by_all([&] { return save_part(folder); });
    state = alone;
    if (infers_together()) save_weight_index(folder);
    data_.tokenizer.save(folder);
    write_file(folder / "run.toml", run_.resolved);
    if (const auto& ends = data_.train.info().answer_ends; !ends.empty()) {
      write_file(folder / "generation_config.json", generation_settings(run_.model, ends));
    }
    if (run_.step.experts) write_file(folder / kExpertListFile, expert_list_text(*run_.step.experts));
    save_trainer_state(folder, {.step = step,
                                .seed = run_.seed,
                                .rows_per_step = run_.data.rows_per_step,
                                .sequence_length = run_.data.sequence_length,
                                .dataset_fingerprint = fingerprint_,
                                .log_bytes = lengths.log,
                                .eval_bytes = lengths.evaluations,
                                .second_stage = run_.step.second_stage,
                                .base_fingerprint = base_fingerprint_});
    save_checksums(folder, written);
  };
  try {
    folder_.save_checkpoint(step, write, run_.checkpoint);
  } catch (const RankLost&) {
    throw;
  } catch (const std::exception&) {
    if (state != together) communicator_.gather(kNo);
    throw;
  }
  communicator_.gather(kYes);
  saved_ = step;
}

/// What this rank writes of a checkpoint: the state of its parameters, and a part of the model if it is one of the
/// ranks that have one copy together.
std::vector<WrittenFile> Trainer::save_part(const fs::path& folder) {
  std::vector<WrittenFile> written = save_owned(folder);
  if (leads()) {
    written.push_back(save_model(folder));
  } else if (run_.step.layout().share() < run_.step.expert_ranks) {
    written.push_back(save_weights_held(folder));
  }
  return written;
}

/// The model's weights that this rank has, of those that have one copy together. The first rank of a stage writes what
/// all of the stage have.
WrittenFile Trainer::save_weights_held(const fs::path& folder) {
  const RankLayout layout = run_.step.layout();
  std::vector<View> views = step_.parameters();
  for (size_t i = 0; i < views.size(); ++i) {
    const Parameter& parameter = step_.table()[i];
    const bool first_has_it = layout.member() > 0 && !layout.divides(parameter);
    if (first_has_it || layout.is_tied_head(parameter)) views[i] = View{};
  }
  const int before = layout.stage() * layout.experts + layout.member();
  return save_weights(
      folder, run_.model, step_.table(), views, device_,
      {.before = static_cast<size_t>(before), .all = static_cast<size_t>(layout.experts * layout.stages)});
}

/// The whole model, or the adapters alone.
WrittenFile Trainer::save_model(const fs::path& folder) {
  if (!run_.model.adapters.empty()) {
    // The checkpoint that `latest` is now, because a run that goes on moves it.
    std::error_code error;
    const fs::path real = fs::weakly_canonical(run_.from, error);
    const std::string base = error ? run_.from : real.string();
    return save_adapter(folder, run_.model, run_.step.lora, base, step_.table(), step_.parameters(), device_);
  }
  write_file(folder / "config.json", json_text(to_hf_config(run_.model, run_.step.dtype), 2) + "\n");
  return save_weights_held(folder);
}

// Counted from the last attempt, so that a full disk is not tried at every step.
bool Trainer::due_by_time() const {
  return run_.checkpoint.minutes > 0 && steady_seconds() - tried_at_ >= 60 * run_.checkpoint.minutes;
}

// If it cannot be written, the run continues: it still holds the weights, and there may be room later.
bool Trainer::try_to_save(int64_t step) {
  try {
    save(step);
    tried_at_ = steady_seconds();
    return true;
  } catch (const RankLost&) {
    throw;
  } catch (const std::exception& error) {
    tried_at_ = steady_seconds();
    const std::string newest =
        saved_ > 0 ? "the newest one is " + folder_.checkpoint(saved_).string() : "there is no earlier one";
    log_warning("the checkpoint of step {} was NOT written: {}; {}", step, error.what(), newest);
    return false;
  }
}

void Trainer::restore(const FoundCheckpoint& found) {
  check_optimizer_state(found, run_, changes_);
  if (!run_.model.adapters.empty()) {  // whose checkpoints do not have the model
    load_base();
    check_base(found, run_, changes_, base_fingerprint_);
  }
  load_optimizer(found.folder, run_.model, step_.table(), optimizer_sets(step_, kept_masters_), device_, step_.owned());
  step_.parameters_from_masters();
  done_ = saved_ = found.state.step;
}

}  // namespace moe
