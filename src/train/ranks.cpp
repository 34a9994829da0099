#include "train/ranks.h"

#include <sstream>

#include "base/units.h"
#include "formats/json.h"
#include "train/run_folder.h"

namespace moe {
namespace {

/// The first lines of two texts that differ; of a text that has ended, "nothing".
std::pair<std::string, std::string> first_difference(const std::string& a, const std::string& b) {
  std::istringstream lines_a(a), lines_b(b);
  for (;;) {
    std::string line_a, line_b;
    const bool more_a = static_cast<bool>(std::getline(lines_a, line_a));
    const bool more_b = static_cast<bool>(std::getline(lines_b, line_b));
    if (line_a != line_b || !more_a || !more_b) return {more_a ? line_a : "nothing", more_b ? line_b : "nothing"};
  }
}

std::string ranks_there(int ranks) { return ranks == 1 ? "is 1 rank" : fmt::format("are {} ranks", ranks); }

void refuse_experts_that_do_not_divide(const ModelConfig& model, const RankLayout& layout) {
  if (layout.ranks % layout.experts != 0) {
    fail_usage("--expert-parallel {}: there {}, expected a multiple of {}; change --ranks or --expert-parallel",
               layout.experts, ranks_there(layout.ranks), layout.experts);
  }
  if (model.moe_layers() == 0) {
    fail_usage("--expert-parallel {}: the model has no routed experts to divide; leave it out", layout.experts);
  }
  if (model.n_routed_experts % layout.experts != 0) {
    fail_usage(
        "--expert-parallel {}: the model has {} routed experts, expected a multiple of {}; give a number that "
        "divides them",
        layout.experts, model.n_routed_experts, layout.experts);
  }
}

void refuse_stages_that_do_not_divide(const ModelConfig& model, const RankLayout& layout) {
  if (layout.ranks % layout.stages != 0) {
    fail_usage("--pipeline {}: there {}, expected a multiple of {}; change --ranks or --pipeline", layout.stages,
               ranks_there(layout.ranks), layout.stages);
  }
  if (layout.stage_ranks() % layout.experts != 0) {
    fail_usage(
        "--pipeline {} --expert-parallel {}: there {}, expected a multiple of {}; change --ranks, --pipeline or "
        "--expert-parallel",
        layout.stages, layout.experts, ranks_there(layout.ranks), layout.stages * layout.experts);
  }
  if (layout.stages > model.num_hidden_layers) {
    fail_usage("--pipeline {}: the model has {}, and each stage needs one; give at most {}", layout.stages,
               counted(model.num_hidden_layers, "layer"), model.num_hidden_layers);
  }
}

}  // namespace

void divide_among(RunConfig& run, const RankLayout& layout) {
  const int ranks = layout.ranks;
  if (layout.experts > 1) refuse_experts_that_do_not_divide(run.model, layout);
  if (layout.stages > 1) refuse_stages_that_do_not_divide(run.model, layout);
  if (ranks == 1) return;
  const auto refuse = [&](const std::string& what, const std::string& instead) {
    fail_usage("{}: {} ranks cannot do this yet; {}", what, ranks, instead);
  };
  if (run.step.parameters != TrainedPart::all) {
    refuse(fmt::format("train.parameters = {}", name(run.step.parameters)), "train with one rank");
  }
  if (run.step.objective != Objective::next_token) refuse("train.objective = dpo", "train with one rank");
  if (run.schedule.hours > 0) refuse("train.hours", "give train.steps");
  const int64_t rows = std::max<int64_t>(run.data.microbatch_rows, 1);
  const int row_ranks = layout.stage_ranks();
  if (run.data.rows_per_step % (rows * row_ranks) != 0) {
    fail_usage(
        "data.rows_per_step is {}, expected a multiple of {}: {}{}, each with whole microbatches of {} rows; "
        "change data.rows_per_step, data.microbatch_rows or the number of ranks",
        run.data.rows_per_step, rows * row_ranks, counted(row_ranks, "rank"), layout.stages > 1 ? " in each stage" : "",
        rows);
  }
  run.step.rank = layout.rank;
  run.step.ranks = ranks;
  run.step.expert_ranks = layout.experts;
  run.step.stages = layout.stages;
  run.step.microbatches = run.data.rows_per_step / rows / row_ranks;
}

std::vector<StartFact> start_facts(const RunConfig& run, const TrainingData& data, bool resume,
                                   const std::string& program, const std::string& device) {
  const auto found = resume ? find_checkpoint(run.run_dir).found : std::nullopt;
  return {{"the program", program},
          {"the device", device},
          {"the run file", run.resolved},
          {"the layout", fmt::format("--expert-parallel {}{}", run.step.expert_ranks,
                                     run.step.stages > 1 ? fmt::format(" --pipeline {}", run.step.stages) : "")},
          {"the training data", fmt::format("{:016x}", data.train.fingerprint())},
          {"the validation data", data.valid ? fmt::format("{:016x}", data.valid->fingerprint()) : "none"},
          {"the checkpoint", found ? fmt::format("step {}", found->state.step) : "none"}};
}

void check_same_start(Communicator& communicator, const std::string& host, const std::vector<StartFact>& facts) {
  Json own = Json::object();
  own["host"] = host;
  for (const StartFact& fact : facts) own[fact.name] = fact.value;
  const std::vector<std::string> all = communicator.gather(json_text(own));
  const Json first = parse_json(all[0], "rank 0");
  for (size_t rank = 1; rank < all.size(); ++rank) {
    const Json other = parse_json(all[rank], fmt::format("rank {}", rank));
    for (const StartFact& fact : facts) {
      const std::string theirs = json_string(other, fact.name, "a rank"),
                        ours = json_string(first, fact.name, "rank 0");
      if (theirs == ours) continue;
      const auto [line, expected] = first_difference(theirs, ours);
      throw SharedError(fmt::format(
          "{} of rank {} on {} is not that of rank 0 on {}: {:?}, expected {:?}; start all "
          "ranks with the same program, files and options",
          fact.name, rank, json_string(other, "host", "a rank"), json_string(first, "host", "rank 0"), line, expected));
    }
  }
}

Microbatch chosen_by_rank_0(Communicator& communicator, const Microbatch& own) {
  const std::string first = communicator.gather(fmt::format("{} {:d}", own.rows, own.recompute))[0];
  std::istringstream text(first);
  Microbatch chosen;
  text >> chosen.rows >> chosen.recompute;
  return chosen;
}

}  // namespace moe
