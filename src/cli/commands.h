#pragma once
/// The subcommands of `moe`. Each function declares one subcommand: its options, its help, and the code that runs when
/// it is chosen. Failures are thrown as Error (exit status 1) or UsageError (exit status 2); main() prints them.

#include <CLI/CLI.hpp>

namespace moe {

/// `moe tokenizer train`, `moe tokenizer encode`, `moe tokenizer decode`, `moe tokenizer apply-template`
void add_tokenizer_commands(CLI::App& app);

/// `moe data`
void add_data_command(CLI::App& app);

/// `moe logits`
void add_logits_command(CLI::App& app);

/// `moe generate`
void add_generate_command(CLI::App& app);

/// `moe chat`
void add_chat_command(CLI::App& app);

/// `moe train`
void add_train_command(CLI::App& app);

/// `moe eval loss`
void add_eval_command(CLI::App& app);

/// `moe compare`
void add_compare_command(CLI::App& app);

/// `moe cost`
void add_cost_command(CLI::App& app);

/// `moe convert`
void add_convert_command(CLI::App& app);

/// `moe merge`
void add_merge_command(CLI::App& app);

/// `moe init`
void add_init_command(CLI::App& app);

/// `moe verify`
void add_verify_command(CLI::App& app);
/// `moe inspect`
void add_inspect_command(CLI::App& app);

/// `moe study` run, show
void add_study_command(CLI::App& app);

/// `moe report`
void add_report_command(CLI::App& app);

/// `moe trace`
void add_trace_command(CLI::App& app);

/// `moe help`
void add_help_command(CLI::App& app);

/// `moe completion bash`
void add_completion_command(CLI::App& app);

/// `moe bench` step, layer, generate, tokenizer, machine
void add_bench_command(CLI::App& app);

}  // namespace moe
