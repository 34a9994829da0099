#include <exception>

#include <CLI/CLI.hpp>

#include "base/error.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/exit_status.h"

namespace {

constexpr int kFailure = 1;
constexpr int kUsage = 2;

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("moe: trains DeepSeekMoE language models from raw text, evaluates them and generates with them", "moe");
  app.require_subcommand(1);
  moe::add_tokenizer_commands(app);
  moe::add_data_command(app);
  moe::add_train_command(app);
  moe::add_logits_command(app);
  moe::add_generate_command(app);
  moe::add_eval_command(app);
  moe::add_cost_command(app);
  moe::add_study_command(app);
  moe::add_bench_command(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  } catch (const moe::ExitStatus& exit) {
    return exit.status;
  } catch (const moe::UsageError& error) {
    moe::log_info("error: {}", error.what());
    return kUsage;
  } catch (const std::exception& error) {
    moe::log_info("error: {}", error.what());
    return kFailure;
  }
  return 0;
}
