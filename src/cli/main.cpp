#include <algorithm>
#include <csignal>
#include <exception>
#include <sstream>

#include <CLI/CLI.hpp>

#include "base/activity.h"
#include "base/error.h"
#include "base/last_words.h"
#include "base/log.h"
#include "base/mapped_ranges.h"
#include "base/output.h"
#include "base/printable.h"
#include "base/signal_cleanup.h"
#include "base/stack.h"
#include "cli/build_facts.h"
#include "cli/commands.h"
#include "cli/empty_values.h"
#include "cli/exit_status.h"
#include "cli/repeated_words.h"
#include "cli/short_names.h"
#include "cli/unknown_words.h"

namespace moe {
namespace {

constexpr int kFailure = 1;
constexpr int kUsage = 2;

const char* const kOverview = R"(First steps:
  moe tokenizer train --vocab-size 8192 --out runs/tokenizer books.txt
  moe data --tokenizer runs/tokenizer --out runs/data books.txt
  moe train configs/demo.toml --set data.train=runs/data --set data.valid= --set run.dir=runs/mine
  moe generate runs/mine --prompt 'In the beginning'
  moe chat runs/mine
  moe eval loss runs/mine books.txt

`moe help COMMAND` explains a command, for instance `moe help eval loss`. Results go to standard output, everything else
to standard error. Exit status: 0 for success, 1 for a failure, 2 for a mistake in the command line or in a run file.)";

void add_commands(CLI::App& app) {
  app.require_subcommand(0, 1);
  app.footer(kOverview);
  app.set_version_flag("--version", version_text(),
                       "Print the version, the commit and what it was built with, and stop");
  add_tokenizer_commands(app);
  add_data_command(app);
  add_train_command(app);
  add_generate_command(app);
  add_chat_command(app);
  add_eval_command(app);
  add_compare_command(app);
  add_study_command(app);
  add_report_command(app);
  add_trace_command(app);
  add_inspect_command(app);
  add_verify_command(app);
  add_convert_command(app);
  add_merge_command(app);
  add_init_command(app);
  add_cost_command(app);
  add_logits_command(app);
  add_bench_command(app);
  add_completion_command(app);
  add_help_command(app);
}

/// One sentence about a command line that cannot be parsed.
std::string complaint(const CLI::App& app, const CLI::ParseError& error) {
  if (const std::string unknown = unknown_argument(app); !unknown.empty()) return unknown;
  if (const std::string repeated = repeated_option(app); !repeated.empty()) return repeated;
  const CLI::App& command = chosen_command(app);
  const std::string name = full_name(command);
  const auto below = command.get_subcommands([](const CLI::App*) { return true; });
  if (command.get_require_subcommand_min() > 0 && command.get_subcommands().empty()) {
    std::vector<std::string> names;
    for (const CLI::App* one : below) names.push_back(one->get_name());
    return fmt::format("`{}` needs one of its commands: {}; `moe help{}` explains them", name, fmt::join(names, ", "),
                       name.substr(3));
  }
  return fmt::format("{}; `{} --help` lists its options", error.what(), name);
}

/// Requested help goes to standard output, an error in the command line to standard error.
int show_parse_result(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() != 0) throw UsageError(complaint(app, error));
  std::ostringstream out;
  app.exit(error, out, out);
  print_text(out.str());
  return 0;
}

int run(CLI::App& app, int argc, char** argv) {
  const std::string words = argc > 2 ? fmt::format("{} {}", argv[1], argv[2]) : argc > 1 ? argv[1] : "";
  const Activity activity(fmt::format("running `moe {}`", words));
  try {
    add_commands(app);
    refuse_empty_values(app);
    std::vector<std::string> arguments = with_long_names(app, {argv + std::min(argc, 1), argv + argc});
    std::reverse(arguments.begin(), arguments.end());  // the order in which the library takes them
    app.parse(std::move(arguments));
    if (app.get_subcommands().empty()) print_text(app.help());
    return 0;
  } catch (const CLI::ParseError& error) {
    return show_parse_result(app, error);
  } catch (const ExitStatus& exit) {
    return exit.status;
  }
}

/// The exit status of `work`. Everything that it throws becomes one sentence.
template <class Work>
int guarded(Work work) {
  try {
    return work();
  } catch (const UsageError& error) {
    log_info("error: {}", shortened(error.what()));
    return kUsage;
  } catch (const std::exception& error) {
    log_info("error: {}", shortened(sentence_of(error)));
    return kFailure;
  }
}

}  // namespace
}  // namespace moe

int main(int argc, char** argv) {
  using namespace moe;
  reserve_stack();
  reserve_standard_streams();
  clean_up_on_signals();
  end_when_a_mapped_file_is_lost();
  end_with_a_sentence();
  std::signal(SIGXFSZ,
              SIG_IGN);  // a file larger than the limit (ulimit -f) is then an error of write(), with a sentence
  CLI::App app("moe: trains DeepSeekMoE language models from raw text, evaluates them and generates with them", "moe");
  int status = guarded([&] { return run(app, argc, argv); });
  const int written = guarded([] {
    flush_output();
    return output_failed() ? kFailure : 0;
  });
  return status == 0 ? written : status;
}
