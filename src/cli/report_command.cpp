#include <memory>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/output_path.h"
#include "base/units.h"
#include "cli/build_facts.h"
#include "cli/commands.h"
#include "report/page.h"
#include "report/runs.h"
#include "study/read_study.h"
#include "train/amounts.h"

namespace moe {
namespace {

constexpr const char* kHelp =
    R"(Writes one HTML page about runs, to open in a browser. The page needs no network and no other file. It shows:
  the losses, the learning rate and the norm of the gradients, against steps, tokens, FLOPs or seconds;
  the load of every expert over time (from the steps of log.counts_every);
  which expert read which domain, and which experts were chosen together;
  how much the loss rises without each expert, if the run's folder has a causal.json (moe eval causal --json);
  what the model wrote during training (sample.prompts), warnings, settings, and the plan beside what happened.
Curves of several runs are laid over each other.

RUN is the folder of a run, also of one that is still going on. STUDY is the folder of a study, which stands for all of
its runs, or its file (TOML).

Domains and pairs of experts come from an evaluation: the file eval.json in the run's folder, or that of --eval. To make it:
  moe eval loss runs/demo/latest text/*.jsonl --analyse --json runs/demo/eval.json

Examples:
  moe report runs/demo --out report.html
  moe report runs/demo runs/other --out compared.html
  moe report configs/study/balance.toml --out study.html)";

struct ReportFlags {
  std::vector<std::string> runs;
  std::string out, evaluation;
};

std::vector<ReportedRun> reported_runs(const ReportFlags& flags) {
  std::vector<ReportedRun> runs;
  for (const std::string& path : flags.runs) {
    const fs::path folder = path.ends_with(".toml") ? read_study(path, {}).dir : fs::path(path);
    for (ReportedRun& run : runs_of(folder)) runs.push_back(std::move(run));
  }
  tell_apart(runs);
  if (!flags.evaluation.empty()) {
    if (runs.size() > 1) {
      fail_usage(
          "--eval {}: it is of one run, and there are {}; write each evaluation to eval.json in its run's folder",
          flags.evaluation, runs.size());
    }
    runs.front().evaluation = flags.evaluation;
  }
  return runs;
}

std::string title_of(const std::vector<ReportedRun>& runs) {
  return runs.size() == 1 ? runs.front().name : counted(runs.size(), "run");
}

void write_report(const ReportFlags& flags) {
  check_page(Page::report);
  check_output_file(flags.out);
  const std::vector<ReportedRun> runs = reported_runs(flags);
  Json data = report_data(runs);
  data["made"] = {{"program", fmt::format("moe {} (commit {})", kBuildFacts.version, kBuildFacts.commit)},
                  {"time", utc_text(wall_seconds())}};
  const std::string page = html_page(Page::report, title_of(runs), data);
  write_file(flags.out, page);
  log_info("{} shows {}; {}; open it in a browser", flags.out, counted(runs.size(), "run"),
           bytes_text(static_cast<int64_t>(page.size())));
}

}  // namespace

void add_report_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("report", "Writes a page about runs: curves, experts, samples, settings");
  auto flags = std::make_shared<ReportFlags>();
  command->footer(kHelp);
  command->add_option("RUN", flags->runs, "Folders of runs or studies, or study files")
      ->required()
      ->type_name("RUN|STUDY");
  command->add_option("--out", flags->out, "the page")->required()->type_name("FILE");
  command
      ->add_option("--eval", flags->evaluation,
                   "a file of `moe eval loss --json` about the run (default: eval.json in its folder, if it is there)")
      ->type_name("FILE");
  command->callback([flags] { write_report(*flags); });
}

}  // namespace moe
