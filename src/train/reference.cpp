#include "train/reference.h"

#include "base/activity.h"
#include "base/error.h"
#include "base/log.h"
#include "base/random.h"
#include "data/shard_layout.h"
#include "eval/loss.h"
#include "formats/json.h"

namespace moe {
namespace {

constexpr const char* kFile = "reference.json";

std::vector<double> log_probabilities(const ModelOnDevice& runtime, const RunConfig& run, const Documents& documents,
                                      const std::function<void()>& between) {
  const EvaluationOptions options{.sequence_length = run.data.sequence_length,
                                  .batch_rows = run.evaluation.batch_rows,
                                  .keep_documents = true,
                                  .progress = [&](int64_t done, int64_t all) {
                                    show_status(fmt::format("the reference: {} of {} rows", done, all));
                                    between();
                                  }};
  std::vector<double> values = evaluate(runtime, documents, options).document_nats;
  for (double& value : values) value = -value;
  clear_status();
  return values;
}

void check_set(const Json& json, const char* set, uint64_t fingerprint, const std::string& where) {
  const uint64_t there = json_hexadecimal(json, "fingerprint", where + ": " + set);
  if (there == fingerprint) return;
  fail(
      "{} has the reference of another data.{} (fingerprint {:016x}, expected {:016x}); keep the dataset that the run "
      "began with",
      where, set, there, fingerprint);
}

uint64_t checksum_of(const std::vector<double>& values) {
  return hash_name({reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double)});
}

std::vector<double> values_of(const Json& json, const char* set, int64_t count, const std::string& where) {
  std::vector<double> values;
  for (const Json& value : json_array(json, "log_probabilities", where + ": " + set)) {
    if (!value.is_number()) fail("{} is damaged: {} holds {}, expected numbers", where, set, json_kind(value));
    values.push_back(value.get<double>());
  }
  if (static_cast<int64_t>(values.size()) != count) {
    fail("{} is damaged: {} has {} numbers, expected {}", where, set, values.size(), count);
  }
  if (json_hexadecimal(json, "checksum", where + ": " + set) != checksum_of(values)) {
    fail("{} is damaged: the numbers of {} do not have its checksum", where, set);
  }
  return values;
}

Reference read_reference(const Json& json, const TrainingData& data, const std::string& where) {
  const auto load = [&](const char* set, const Dataset& dataset) {
    const Json& part = json_member(json, set, where);
    check_set(part, set, dataset.fingerprint(), where);
    return values_of(part, set, dataset.count(), where);
  };
  Reference reference{.train = load("train", data.train), .valid = {}};
  if (data.valid != nullptr) reference.valid = load("valid", *data.valid);
  return reference;
}

}  // namespace

Reference compute_reference(const ModelOnDevice& runtime, const RunConfig& run, const TrainingData& data,
                            const std::function<void()>& between) {
  const Activity activity("computing the reference's log-probabilities");
  log_info("computing the log-probabilities of all answers under the model that the run begins with");
  Reference reference{.train = log_probabilities(runtime, run, data.train, between), .valid = {}};
  if (data.valid != nullptr) reference.valid = log_probabilities(runtime, run, *data.valid, between);
  return reference;
}

void save_reference(const fs::path& run_dir, const Reference& reference, const TrainingData& data) {
  const auto set = [](const Dataset& dataset, const std::vector<double>& values) {
    return Json{{"fingerprint", shard_layout::fingerprint_text(dataset.fingerprint())},
                {"checksum", shard_layout::fingerprint_text(checksum_of(values))},
                {"log_probabilities", values}};
  };
  Json json{{"train", set(data.train, reference.train)}};
  if (data.valid != nullptr) json["valid"] = set(*data.valid, reference.valid);
  write_file(run_dir / kFile, json_text(json) + "\n");
}

Reference load_reference(const fs::path& run_dir, const TrainingData& data) {
  const fs::path path = run_dir / kFile;
  const std::string where = path.string();
  try {
    return read_reference(read_json(path), data, where);
  } catch (const Error& error) {
    fail(
        "{}; a run of preferences goes on with the reference that it began with: copy {} from a good copy of the run, "
        "or begin a new run with another run.dir",
        error.what(), kFile);
  }
}

}  // namespace moe
