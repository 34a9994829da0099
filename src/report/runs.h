#pragma once
/// What the folders of runs hold, for the page of `moe report`.

#include <string>
#include <vector>

#include "formats/json.h"

namespace moe {

/// A run to show.
struct ReportedRun {
  std::string name;
  fs::path folder;
  fs::path evaluation = {};  ///< a file of `moe eval loss --json`; empty: eval.json in the folder, if it is there
};

/// True if `path` is the folder of a run: it has a log.jsonl.
bool is_run_folder(const fs::path& path);

/// The runs that `path` stands for: the folder of a run, or the folder of a study, which has its jobs below runs/.
/// Names are those of the folders. Throws an Error if it is neither, or if the study has no run yet.
std::vector<ReportedRun> runs_of(const fs::path& path);

/// Gives every run another name: as many folders before its own as it takes.
void tell_apart(std::vector<ReportedRun>& runs);

/// {"runs": [RUN]}. A RUN has "name", "folder", "about", "curves", "loads", "steps", "tokens_per_second" and
/// "peak_bytes" (RunLog), "evaluations": [{"step", "tokens", "seconds", "flops", "loss", "loss_error", "domains":
/// {NAME: loss}}], "samples", "warnings", "changes" and "status" as in its files, "run_file" (text), and "evaluation":
/// the parts of eval.json that the page shows, and "causal": causal.json (eval/causal_report.h). What a folder does not
/// have is null or empty.
Json report_data(const std::vector<ReportedRun>& runs);

}  // namespace moe
