#include "train/fit.h"

#include <algorithm>
#include <functional>
#include <optional>

#include "base/units.h"
#include "train/amounts.h"
#include "train/plan_text.h"

namespace moe {
namespace {

std::string with_value(const std::string& key, int64_t value) { return fmt::format(fmt::runtime(key), value); }

/// Searches for runs like one that does not fit, with other settings that fit.
class Search {
 public:
  Search(const RunConfig& run, const RunFacts& facts, const Place& place) : run_(run), facts_(facts), place_(place) {}

  /// The largest number of rows in a microbatch that fits, at most the run's own.
  std::optional<int64_t> rows(bool recompute) const {
    std::vector<int64_t> divisors;
    for (int64_t rows = 1; rows <= run_.data.microbatch_rows; ++rows) {
      if (run_.data.rows_per_step % (rows * run_.step.row_ranks()) == 0) divisors.push_back(rows);
    }
    const auto with = [&](int64_t rows) { return changed(rows, recompute); };
    // A single microbatch shares memory that several cannot share. So it may fit where fewer rows do not.
    if (fits_with(with(divisors.back()))) return divisors.back();
    divisors.pop_back();
    return largest(divisors, with);
  }

  /// The largest number of rows in an evaluation that fits.
  std::optional<int64_t> evaluated() const {
    std::vector<int64_t> rows;
    for (int64_t count = 1; count < evaluated_rows(run_, facts_); count *= 2) rows.push_back(count);
    return largest(rows, [&](int64_t count) {
      RunConfig run = run_;
      run.evaluation.batch_rows = count;
      run.evaluation.rows_follow = false;
      return run;
    });
  }

  /// Fewer rows in a step, one in a microbatch, with recompute.
  std::optional<int64_t> step_rows() const {
    std::vector<int64_t> rows;
    for (int64_t count = run_.step.row_ranks(); count < run_.data.rows_per_step; count *= 2) rows.push_back(count);
    return largest(rows, [&](int64_t count) {
      RunConfig run = run_;
      run.data.rows_per_step = count;
      set_microbatch(run, 1, true);
      return run;
    });
  }

  /// Halves the length of a row, with one row in a microbatch and recompute.
  std::optional<int64_t> length() const {
    std::vector<int64_t> lengths;
    for (int64_t length = run_.data.sequence_length / 2; length >= 32; length /= 2) lengths.push_back(length);
    std::reverse(lengths.begin(), lengths.end());
    return largest(lengths, [&](int64_t length) {
      RunConfig run = run_;
      run.data.sequence_length = length;
      set_microbatch(run, 1, true);
      return run;
    });
  }

  /// Removes layers, with one row in a microbatch and recompute.
  std::optional<int64_t> layers() const {
    std::vector<int64_t> counts;
    for (int64_t count = run_.model.first_k_dense_replace + 1; count < run_.model.num_hidden_layers; ++count) {
      counts.push_back(count);
    }
    return largest(counts, [&](int64_t count) {
      RunConfig run = changed(1, true);
      run.model.num_hidden_layers = count;
      return run;
    });
  }

 private:
  RunConfig changed(int64_t rows, bool recompute) const {
    RunConfig run = run_;
    set_microbatch(run, rows, recompute);
    return run;
  }

  bool fits_with(const RunConfig& run) const { return fits(run, facts_, plan_run(run, facts_, place_), place_); }

  /// The last of ascending values that fits, if smaller values need less.
  std::optional<int64_t> largest(const std::vector<int64_t>& values,
                                 const std::function<RunConfig(int64_t)>& with) const {
    const auto fits_here = [&](int64_t value) { return fits_with(with(value)); };
    // From small values on, because a large model takes long to plan.
    auto begin = values.begin(), end = begin;
    for (std::ptrdiff_t step = 1; end != values.end(); step *= 2) {
      end += std::min(step, values.end() - end);
      if (!fits_here(*(end - 1))) break;
      begin = end;
    }
    const auto too_large = std::partition_point(begin, end, fits_here);
    return too_large == values.begin() ? std::nullopt : std::optional(*(too_large - 1));
  }

  const RunConfig& run_;
  const RunFacts& facts_;
  const Place& place_;
};

std::string advice(const RunConfig& run, const RunFacts& facts, const Place& place, const FitKeys& keys) {
  const Search search(run, facts, place);
  std::vector<std::string> choices;
  if (const auto rows = search.rows(run.step.recompute)) choices.push_back(with_value(keys.rows, *rows));
  if (!run.step.recompute) {
    if (const auto rows = search.rows(true)) {
      choices.push_back(fmt::format("{} with {}", keys.recompute, with_value(keys.rows, *rows)));
    }
  }
  if (choices.empty()) {
    if (const auto rows = search.evaluated()) choices.push_back(with_value(keys.evaluated, *rows));
  }
  if (!choices.empty()) return fmt::format("what fits is {}", fmt::join(choices, ", or "));
  const std::string smallest = fmt::format("{} and {}", with_value(keys.rows, 1), keys.recompute);
  if (const auto rows = search.step_rows()) choices.push_back(with_value(keys.step_rows, *rows));
  if (const auto length = search.length()) choices.push_back(with_value(keys.length, *length));
  if (const auto layers = search.layers()) choices.push_back(with_value(keys.layers, *layers));
  if (choices.empty()) return "not even one layer fits; use a smaller model or more memory";
  return fmt::format("no microbatch is small enough; what fits, with {}, is {}, or use more memory", smallest,
                     fmt::join(choices, ", or "));
}

/// "most of it optimizer state (1.50 GiB)".
std::string largest_part(const std::vector<std::pair<std::string, int64_t>>& parts) {
  const auto largest =
      std::max_element(parts.begin(), parts.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return fmt::format("most of it {} ({})", largest->first, gib_text(largest->second));
}

}  // namespace

void refuse_if_too_large(const RunConfig& run, const RunFacts& facts, const RunMemory& memory, const Place& place,
                         const FitKeys& keys) {
  if (fits(run, facts, memory, place)) return;
  const auto refuse = [&](int64_t needed, int64_t available, const char* where, bool device) {
    if (available == 0 || needed <= available) return;
    fail("training needs {} ({} bytes){}, {}, but {} ({} bytes) are available; {}", gib_text(needed), needed, where,
         largest_part(memory_parts(memory, device, !device || memory.device_is_host)), gib_text(available), available,
         advice(run, facts, place, keys));
  };
  refuse(memory.device_total(), place.device.available_bytes, "", true);
  refuse(memory.host_total(), place.host_bytes, " of the host's memory", false);
  const std::string rows_key = keys.rows.substr(0, keys.rows.find(' '));
  // Ranks that divide the experts sort the choices of all of them.
  refuse_too_many_slots(run.model, run.data.microbatch_rows, run.data.sequence_length,
                        place.device.most_slots / run.step.expert_ranks, rows_key);
  refuse_too_many_slots(run.model, evaluated_rows(run, facts), run.data.sequence_length, place.device.most_slots,
                        "eval.batch_rows");
}

void refuse_too_many_slots(const ModelConfig& config, int64_t rows, int64_t sequence_length, int64_t most,
                           const std::string& rows_key) {
  if (most == 0 || config.moe_layers() == 0) return;
  const int64_t per_row = sequence_length * config.router().slots();
  if (rows * per_row <= most) return;
  const std::string fits = per_row <= most ? fmt::format("use {} = {} or less", rows_key, most / per_row)
                                           : "not even one row fits; use shorter sequences or fewer experts";
  fail("{} = {}: rows of {} have {} choices of experts together, but the device has room to sort {}; {}", rows_key,
       rows, counted(sequence_length, "token"), rows * per_row, most, fits);
}

}  // namespace moe
